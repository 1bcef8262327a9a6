"""Semantic conflicts: what works on both sides of a merge and fails in the merged state.

A file that one side changed is read in the merged tree and in both sides. A problem of the merged tree that neither
side has can only come from the meeting of the two: what one side removed or changed, the other uses. The definition is
then looked up in the base, and what became of it names the breakage class and the fix.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from greenline.depgraph.config import Config
from greenline.depgraph.workspace import Workspace
from greenline.rules.conflicts.merge import Merge, open_merge
from greenline.rules.conflicts.name import explain
from greenline.rules.conflicts.report import Conflict, Found, as_conflict, textual
from greenline.rules.conflicts.uses import Fact, Problem, fits, read_uses

__all__ = ["Conflict", "find_conflicts"]


def find_conflicts(workspace: Workspace, config: Config, base: str, ours: str, theirs: str) -> list[Conflict]:
    """The conflicts between two changes of one base, sorted by place; ``base``, ``ours``, ``theirs``: commits.

    Textual conflicts are among them. Raises :class:`.workspace.GitError` when a commit is not in this clone.
    """
    with open_merge(workspace, config, base, ours, theirs) as merge:
        found = [as_conflict(workspace, merge, one) for one in find_in(merge)]
        return sorted([*textual(merge), *found], key=lambda one: (one.finding.place, one.finding.message))


def find_breaks(workspace: Workspace, config: Config, good: str, bad: str) -> list[Conflict]:
    """The same for a branch that is red: what worked in commit ``good`` and cannot work in ``bad``, which holds the
    changes of several people; ``ours`` and ``theirs`` then name the commits that last touched the use and the
    definition."""
    with open_merge(workspace, config, good, bad, bad, bad) as merge:
        found = [as_conflict(workspace, merge, one) for one in find_in(merge)]
        return sorted(found, key=lambda one: (one.finding.place, one.finding.message))


def find_in(merge: Merge) -> list[Found]:
    """The conflicts of an open merge."""
    paths = sorted(path for path in suspects(merge) if path.endswith(".py") and path in merge.merged.tree.files)
    return [explain(merge, problem) for path in paths for problem in new_problems(merge, path)]


def suspects(merge: Merge) -> set[str]:
    """The files that one side changed: only these can hold a use that the other side does not know of."""
    return merge.changed(merge.ours) | merge.changed(merge.theirs)


def new_problems(merge: Merge, path: str) -> list[Problem]:
    """What fails in a file of the merged tree and on neither side."""
    problems, facts = read_uses(merge.merged, path)
    if not problems and not facts:
        return []
    sides = [_Side(*read_uses(world, path)) for world in merge.before(path)]
    known = {problem.key for side in sides for problem in side.problems}
    found = [problem for problem in problems if problem.key not in known]
    return [*found, *_drifted(facts, sides)]


class _Side(NamedTuple):
    problems: list[Problem]
    facts: list[Fact]


def _drifted(facts: Iterable[Fact], sides: Iterable[_Side]) -> list[Problem]:
    """Uses that still run, but mean something else than on a side that wrote them."""
    before: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for side in sides:
        for fact in side.facts:
            before.setdefault(fact.key, set()).add(fact.value)
    found = []
    for fact in facts:
        values = before.get(fact.key, set())
        if fact.value in values or not values:
            continue
        kind = fact.key[0]
        if kind == "order" and not any(_reordered(old, fact.value) for old in values):
            continue
        if kind == "shape":
            used = fact.key[-1]
            if fits(used, fact.value[0]) or not any(fits(used, old[0]) for old in values):
                continue
        was = " or ".join(sorted({", ".join(value) for value in values}))
        now = ", ".join(fact.value)
        found.append(fact.problem._replace(detail=(*fact.problem.detail, was, now)))
    return found


def _reordered(old: tuple[str, ...], new: tuple[str, ...]) -> bool:
    """Whether the same parameters come in another order."""
    return len(old) == len(new) and old != new and sorted(old) == sorted(new)
