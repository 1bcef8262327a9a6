"""Semantic conflicts: what works on both sides of a merge and fails in the merged state.

A file that one side changed is read in the merged tree and in both sides. A problem of the merged tree that neither
side has can only come from the meeting of the two: what one side removed or changed, the other uses. The definition is
then looked up in the base, and what became of it names the breakage class and the fix.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from greenline.depgraph.blocks import definitions
from greenline.depgraph.config import Config
from greenline.depgraph.workspace import Workspace
from greenline.rules.conflicts.classes import class_problems
from greenline.rules.conflicts.collisions import collisions, same_basename
from greenline.rules.conflicts.dotted import CONFIGURATION, in_configuration, resolve_dotted
from greenline.rules.conflicts.import_cycles import import_cycles
from greenline.rules.conflicts.infer import World
from greenline.rules.conflicts.interface import IMPLICIT, changed_names
from greenline.rules.conflicts.keys import dead_keys
from greenline.rules.conflicts.manifests import environment_problems
from greenline.rules.conflicts.merge import Merge, open_merge
from greenline.rules.conflicts.migrations import migration_heads
from greenline.rules.conflicts.name import explain
from greenline.rules.conflicts.pollution import pollution
from greenline.rules.conflicts.problem import Fact, Problem
from greenline.rules.conflicts.registry import registry_problems
from greenline.rules.conflicts.report import Conflict, Found, as_conflict, textual
from greenline.rules.conflicts.requests import fixture_problems
from greenline.rules.conflicts.results import fits
from greenline.rules.conflicts.touched import news, within, words_of
from greenline.rules.conflicts.uses import ALWAYS, read_uses

CHECKS: tuple[Callable[[Merge], list[Found]], ...] = (
    collisions,
    same_basename,
    migration_heads,
    dead_keys,
    import_cycles,
    environment_problems,
    pollution,
)
"""What looks at a merge as a whole."""
FILE_CHECKS: tuple[Callable[[World, str, frozenset[str]], list[Problem]], ...] = (
    class_problems,
    fixture_problems,
    registry_problems,
)
"""What looks at a file in one state, besides :mod:`.uses`."""
MOST_MOVED = 50
"""Files that went, in which a file that came is looked for."""
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
    explained = [
        explain(merge, problem)
        for path, words in sorted(suspects(merge).items())
        for problem in new_problems(merge, path, words)
    ]
    found = [one for one in explained if one is not None]
    return [*found, *(one for check in CHECKS for one in check(merge))]


def suspects(merge: Merge) -> dict[str, frozenset[str]]:
    """The files of the merged state that one side changed and that spell a name that the other changed, with these
    names: only they can hold a use that the other side does not know of. Without sides, all files that spell one."""
    found: dict[str, frozenset[str]] = {}
    sides = (merge.ours, merge.theirs)
    names = [changed_names(merge, side.tree) for side in (sides[:1] if merge.linear else sides)]
    for user, words in zip(sides, reversed(names), strict=False):
        paths = merge.merged.tree.files if merge.linear else merge.changed(user)
        for path in paths:
            if path in merge.merged.tree.files and _may_hold(path):
                spelled = _news(merge, path)
                wanted = found.get(path, frozenset()) | words.in_file(path, spelled)
                if not (wanted - IMPLICIT).isdisjoint(spelled):
                    found[path] = wanted
    return found


def _news(merge: Merge, path: str) -> Collection[str]:
    """The words of what is news in a file of the merged state; all its words where there are no sides."""
    new = merge.merged.tree
    return words_of(new.read(path) or b"") if merge.linear else news(merge.base.tree, new, path).words


def _may_hold(path: str) -> bool:
    return path.endswith((".py", *CONFIGURATION))


def new_problems(merge: Merge, path: str, words: frozenset[str]) -> list[Problem]:
    """What fails in a file of the merged tree and on neither side."""
    if not path.endswith(".py"):
        return _new_in_configuration(merge, path)
    module = merge.merged.tree.module(path)
    if module is None:
        return []
    before = merge.before(path)
    lines = module.lines_with(words | ALWAYS)
    if not merge.linear:  # a use that was there before works or fails on the other side as it does here
        lines = news(merge.base.tree, merge.merged.tree, path).among(lines)
    problems, facts = read_uses(merge.merged, path, words, lines)
    problems = [one for one in problems if one.kind != "module" or any(_finds(world, one) for world in before)]
    scopes = {one.scope for one in (*problems, *(fact.problem for fact in facts))}
    sides = [_read_side(world, path, words, scopes) for world in before] if scopes else []
    known = {problem.key for side in sides for problem in side.problems}
    found = [problem for problem in problems if problem.key not in known]
    for check in FILE_CHECKS:
        problems = check(merge.merged, path, words)
        known = {problem.key for world in before for problem in check(world, path, words)} if problems else set()
        found += [problem for problem in problems if problem.key not in known]
    return [*_without_moved(merge, path, words, found), *_drifted(facts, sides)]


def _without_moved(merge: Merge, path: str, words: frozenset[str], found: list[Problem]) -> list[Problem]:
    """Without what a side has as well, in a function or a file that the other side gave another name: that side is
    broken by itself."""
    left, merged = found, merge.merged.tree
    for world in (merge.ours, merge.theirs) if found and not merge.linear else ():
        if path in world.tree.files:
            module = merged.module(path)
            paths, kept = [path], {"", *(name for name, _ in definitions(module.tree.body if module else []))}
        else:
            gone = (old for old in merge.base.tree.files if old not in merged.files and old in world.tree.files)
            paths, kept = [old for old in gone if old.endswith(".py")][:MOST_MOVED], set()
        moved: Counter[tuple[str, ...]] = Counter()
        for old in paths:
            problems = _read_side(world, old, words, {""}).problems
            moved.update(_place_apart(one) for one in problems if one.scope not in kept)
        left, before = [], left
        for problem in before:
            if moved[_place_apart(problem)]:
                moved[_place_apart(problem)] -= 1
            else:
                left.append(problem)
    return left


def _place_apart(problem: Problem) -> tuple[str, ...]:
    return problem.kind, problem.subject, *problem.detail, ast.unparse(problem.node) if problem.node else ""


def _read_side(world: World, path: str, words: frozenset[str], scopes: set[str]) -> _Side:
    """What is to be compared with problems and facts in these functions and classes ("" for any)."""
    module = world.tree.module(path)
    lines = within(module, scopes, module.lines_with(words | ALWAYS)) if module else []
    return _Side(*read_uses(world, path, words, lines))


def _finds(world: World, problem: Problem) -> bool:
    """Whether a module that is missed is in this tree: no other library, that is."""
    return bool(world.tree.find(problem.subject, problem.path)) or world.tree.is_package(problem.subject, problem.path)


def _new_in_configuration(merge: Merge, path: str) -> list[Problem]:
    """Dotted names in a configuration file that led somewhere on a side that has them."""
    found = in_configuration(merge.merged, path)
    if not found:
        return []
    known = [{text for _, _, text in in_configuration(world, path)} for world in merge.before(path)]
    return [
        Problem("string", path, line, column, "", dotted, ("", dotted), ("named",), ast.Constant(text))
        for line, column, text in found
        for dotted in [text.replace(":", ".")]
        if not any(text in each for each in known)
        and any(_leads_somewhere(world, path, dotted) for world in merge.before(path))
    ]


def _leads_somewhere(world: World, path: str, text: str) -> bool:
    return resolve_dotted(world, text, path).kind not in ("missing", "weak", "unknown")


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
