"""What a merge would bring together: this change and what the target branch gained since.

In a checkout that is already merged (GitHub's test merge, a queue's merge commit, merged results) the two sides are
its parents. Else they are HEAD, with what is not committed, and the tip of the branch that the base was found with.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from typing import NamedTuple

from greenline.ci.environment import Base
from greenline.depgraph.workspace import GitError, NotARepository, Workspace
from greenline.rules.conflicts.merge import merge_trees

_IDENTITY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "greenline"), ("EMAIL", "greenline@localhost"), ("DATE", "2000-01-01T00:00:00Z"))
}


class Sides(NamedTuple):
    """Commits. ``merged``: None where git cannot merge, because of ``textual``, the files that conflict as text."""

    base: str
    ours: str
    theirs: str
    merged: str | None
    textual: tuple[str, ...] = ()


class Untold(NamedTuple):
    """Why there are no sides. ``fine``: there is nothing that this change could meet."""

    why: str
    fine: bool
    hint: str | None = None


def sides_of(workspace: Workspace, base: Base, environment: Mapping[str, str] = os.environ) -> Sides | Untold:
    """The two sides of the merge that a change is for, from its base."""
    if base.commit is None:  # a single commit may be enough for the base; two sides need their history
        deeper = base.hint and base.hint.replace("--depth=1", "--unshallow")
        return Untold(base.how, False, deeper)
    parents = _parents(workspace)
    if base.tip is None and len(parents) == 2 and (parents[0] == base.commit or workspace.is_shallow()):
        return _sides(workspace, parents[1], parents[0], workspace.resolve("HEAD"))
    if base.tip is None:
        return _of_merge_request(workspace, environment) or Untold(f"{base.how}: the target is part of HEAD", True)
    if base.tip == base.commit:
        return Untold(f"{base.how}: it gained nothing since", True)
    return _sides(workspace, state_of(workspace), base.tip, None)


def _parents(workspace: Workspace) -> list[str]:
    """HEAD's parents, whether a shallow clone has them or not."""
    header = workspace.git("cat-file", "commit", "HEAD").partition("\n\n")[0]
    return [line.removeprefix("parent ") for line in header.split("\n") if line.startswith("parent ")]


def _of_merge_request(workspace: Workspace, environment: Mapping[str, str]) -> Sides | Untold | None:
    """GitLab names the merge base; what the target branch has now must have been fetched."""
    branch = environment.get("CI_MERGE_REQUEST_TARGET_BRANCH_NAME")
    if not branch or environment.get("CI_MERGE_REQUEST_TARGET_BRANCH_SHA"):
        return None
    tip = workspace.resolve(f"origin/{branch}")
    if tip is None:
        fetch = f"git fetch --no-tags origin +refs/heads/{branch}:refs/remotes/origin/{branch}"
        return Untold(f"GitLab merge request: origin/{branch} is not in this clone", False, fetch)
    return _sides(workspace, state_of(workspace), tip, None)


def _sides(workspace: Workspace, ours: str, theirs: str, merged: str | None) -> Sides | Untold:
    base = workspace.merge_base(ours, theirs)
    if base is None:
        why = "the commit that both sides started from is not in this clone"
        return Untold(why, False, "git fetch --no-tags --unshallow origin" if workspace.is_shallow() else None)
    if base == theirs:
        return Untold("the target branch gained nothing since", True)
    if merged is not None:
        return Sides(base, ours, theirs, merged)
    try:
        tree, textual = merge_trees(workspace, base, ours, theirs)
    except NotARepository:  # an option that git does not know
        return Untold("this git cannot merge aside from the work tree", False, "install git 2.38 or later")
    return Sides(base, ours, theirs, None if textual else _commit(workspace, tree, ours, theirs), tuple(textual))


def state_of(workspace: Workspace) -> str:
    """HEAD, or, where the work tree differs from it, a commit of the work tree with its untracked files.

    The user's index is copied, not touched; the commit is on no branch, and git collects it in time.
    """
    head = workspace.resolve("HEAD")
    if head is None:
        raise GitError("the repository has no commit yet", "commit something first")
    if not workspace.git("status", "--porcelain", "-z", "--untracked-files=normal", "--ignore-submodules"):
        return head
    with tempfile.TemporaryDirectory() as folder:
        index = os.path.join(folder, "index")
        own = os.path.join(workspace.git_dir, "index")
        if os.path.exists(own):
            shutil.copy2(own, index)
        extra = {"GIT_INDEX_FILE": index}
        workspace.git("add", "--all", "--ignore-errors", extra=extra, ok=(0, 1))
        tree = workspace.git("write-tree", extra=extra).strip()
    return _commit(workspace, tree, head)


def _commit(workspace: Workspace, tree: str, *parents: str) -> str:
    options = [option for parent in parents for option in ("-p", parent)]
    return workspace.git("commit-tree", tree, *options, "-m", "greenline: not on any branch", extra=_IDENTITY).strip()
