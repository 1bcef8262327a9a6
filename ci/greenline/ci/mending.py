"""Which merge a user means who asks for its fixes, and the files that mend it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from greenline.ci.environment import default_branch, no_commit
from greenline.depgraph.config import Config
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.workspace import Workspace
from greenline.rules.conflicts.tree import WORK
from greenline.rules.fixes.mend import Mended, mend


class Joined(NamedTuple):
    """Two sides that came together. ``merged``: the work tree, or None while they have not; ``how``: for people."""

    base: str
    ours: str
    theirs: str
    merged: str | None
    how: str


def what_joined(
    workspace: Workspace,
    config: Config,
    other: str | None = None,
    base: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Joined:
    """The merge to mend: with ``other``, a merge in progress, the last merge of HEAD, or what a rebase left behind.

    ``base``: the last state that worked, for a history without merges. Raises :class:`GreenlineError` when it cannot
    be told.
    """
    head = _commit(workspace, "HEAD")
    start = _commit(workspace, base) if base is not None else None
    merging = workspace.resolve("MERGE_HEAD")
    named = _commit(workspace, other) if other is not None else None
    if merging and named in (None, merging):
        return _sides(workspace, start, head, merging, WORK, "the merge in progress")
    target = named or merging
    if target is None and (tip := default_branch(workspace, config.base, environment)):
        target, other = tip[1], tip[0]
    if target is None or target == head or _is_ancestor(workspace, target, head):
        return _merged_already(workspace, head, target, start)
    if start is not None and named is None:
        return Joined(start, WORK, WORK, WORK, f"everything since {base}")
    return _sides(workspace, start, head, target, None, f"HEAD and {other}, which are not merged yet")


def _merged_already(workspace: Workspace, head: str, target: str | None, start: str | None) -> Joined:
    if start is not None:
        return Joined(start, WORK, WORK, WORK, f"everything since {start[:7]}")
    limit = [f"^{target}"] if target and target != head else []
    merges = workspace.git("rev-list", "--first-parent", "--merges", "-1", "HEAD", *limit).split()
    if merges:
        ours, theirs = workspace.git("rev-parse", f"{merges[0]}^1", f"{merges[0]}^2").split()
        return _sides(workspace, None, ours, theirs, WORK, f"the merge {merges[0][:7]}")
    before = workspace.resolve("ORIG_HEAD")
    if before and target and not _is_ancestor(workspace, before, head):
        return _sides(workspace, None, before, target, WORK, f"the rebase of {before[:7]}")
    raise GreenlineError(
        "nothing was merged here, as far as git can tell", "name the last state that worked: --base REF, or --against"
    )


def _sides(workspace: Workspace, start: str | None, ours: str, theirs: str, merged: str | None, how: str) -> Joined:
    base = start or workspace.merge_base(ours, theirs)
    if base is None:
        hint = "git fetch --unshallow origin" if workspace.is_shallow() else "name a base: --base REF"
        raise GreenlineError("the two sides have no common base here", hint)
    return Joined(base, ours, theirs, merged, how)


def _commit(workspace: Workspace, name: str) -> str:
    found = workspace.resolve(name)
    if found is None:
        raise no_commit(workspace, "", name)
    return found


def _is_ancestor(workspace: Workspace, one: str, other: str) -> bool:
    return workspace.merge_base(one, other) == one


def mended(workspace: Workspace, config: Config, joined: Joined) -> Mended:
    """The fixes for it."""
    return mend(workspace, config, joined.base, joined.ours, joined.theirs, joined.merged)
