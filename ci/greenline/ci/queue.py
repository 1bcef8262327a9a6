"""Open branches against the branch they shall go to, and against each other: what can merge without a joint test.

Each branch is laid over the target as a merge queue would do it. Then each pair is one of

- ``independent``: nothing breaks, and no test is affected by both: each one's own green tests are enough;
- ``joint test``: nothing is known to break, but tests are affected by both: run these on both together;
- ``breaks``: a conflict, textual or semantic, with its lines.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from greenline.ci.affected import Request, affected
from greenline.ci.environment import default_branch, no_commit
from greenline.depgraph import config as configuration
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.parallel import map_shares
from greenline.depgraph.workspace import GitError, NotARepository, Workspace
from greenline.rules.conflicts.find import Conflict, find_conflicts
from greenline.rules.conflicts.merge import merge_trees

INDEPENDENT, JOINT_TEST, BREAKS = "independent", "joint test", "breaks"


class Branch(NamedTuple):
    """A branch: the name it was given by, its commit, where it left the target, and the tests that it affects."""

    name: str
    commit: str
    base: str
    tests: frozenset[str]


class Pair(NamedTuple):
    """What becomes of two branches, or of a branch and the target, when they come together."""

    ours: str
    theirs: str
    verdict: str
    shared: tuple[str, ...]  # test files that both affect
    conflicts: list[Conflict]


class Queue(NamedTuple):
    """``target``: name and commit; ``pairs``: each branch with what the target gained, then each two branches;
    ``complete``: every answer is exact; ``warnings`` say what is not."""

    target: tuple[str, str]
    branches: list[Branch]
    pairs: list[Pair]
    complete: bool
    warnings: list[str]


class _Merge(NamedTuple):
    """Two branches, and the trees in which they are compared."""

    one: Branch
    other: Branch
    base: str
    ours: str
    theirs: str


def judge(
    workspace: Workspace,
    config: configuration.Config,
    names: Sequence[str],
    base: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Queue:
    """Judge these branches. ``base``: where they left the target; by default the merge base with it.

    Raises :class:`GreenlineError` for names that git does not know, and where no common base is.
    """
    target = default_branch(workspace, config.base, environment) or ("HEAD", _commit(workspace, "HEAD"))
    start = None if base is None else _commit(workspace, base)
    warnings: list[str] = []
    branches = [_branch(workspace, name, start or target[1], warnings) for name in dict.fromkeys(names)]
    merges: list[_Merge] = []
    on_target: dict[str, str] = {}
    for branch in branches:
        if branch.base != target[1]:
            gained = _with_tests(workspace, Branch(*target, branch.base, frozenset()), warnings)
            merges.append(_Merge(branch, gained, branch.base, branch.commit, target[1]))
        on_target[branch.name] = _laid_over(workspace, branch, target[1], warnings)
    for one, other in combinations(branches, 2):
        if on_target[one.name] and on_target[other.name]:  # else it does not even merge with the target: that is told
            merges.append(_Merge(one, other, target[1], on_target[one.name], on_target[other.name]))

    def find(share: list[_Merge]) -> list[bytes]:
        found = (find_conflicts(workspace, config, one.base, one.ours, one.theirs) for one in share)
        return [pickle.dumps(conflicts) for conflicts in found]

    conflicts = map(pickle.loads, map_shares(find, merges, fork_from=2))
    pairs = [_pair(merge.one, merge.other, found) for merge, found in zip(merges, conflicts, strict=True)]
    return Queue(target, branches, pairs, not warnings, list(dict.fromkeys(warnings)))


def _commit(workspace: Workspace, name: str) -> str:
    found = workspace.resolve(name)
    if found is None:
        raise no_commit(workspace, "", name)
    return found


def _branch(workspace: Workspace, name: str, target: str, warnings: list[str]) -> Branch:
    commit = _commit(workspace, name)
    base = workspace.merge_base(target, commit)
    if base is None:
        hint = "git fetch --unshallow origin" if workspace.is_shallow() else "name its base: --base REF"
        raise GreenlineError(f"{name} has no common base with the branch it shall go to", hint)
    return _with_tests(workspace, Branch(name, commit, base, frozenset()), warnings)


def _with_tests(workspace: Workspace, branch: Branch, warnings: list[str]) -> Branch:
    request = Request(base=branch.base, base_exact=True, head=branch.commit, reasons=False)
    answer = affected(workspace.root, request)
    if answer.total:  # without any test there is none to share
        warnings += [f"{branch.name}: {warning}" for warning in answer.warnings]
    return branch._replace(tests=frozenset(test.path for test in answer.tests))


def _laid_over(workspace: Workspace, branch: Branch, target: str, warnings: list[str]) -> str:
    """The tree of a branch merged into the target; "" where that has textual conflicts."""
    if branch.base == target:
        return branch.commit
    try:
        tree, conflicts = merge_trees(workspace, branch.base, target, branch.commit)
    except (GitError, NotARepository) as error:
        warnings.append(f"{branch.name} is compared without what the target gained: {error.message}")
        return branch.commit
    return "" if conflicts else tree


def _pair(one: Branch, other: Branch, found: list[Conflict]) -> Pair:
    shared = tuple(sorted(one.tests & other.tests))
    broken = any(not conflict.finding.warning for conflict in found)
    verdict = BREAKS if broken else JOINT_TEST if shared else INDEPENDENT
    return Pair(one.name, other.name, verdict, shared, found)
