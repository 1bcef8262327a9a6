"""What the imports that a change adds cost everybody: how many tests they add to how many future changes.

What future changes edit is not known; the last commits stand for them, or, where there are too few, each module once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from greenline.depgraph import code_graph, import_advice, reachability, scan
from greenline.depgraph.imports import START, Imports, facts_of
from greenline.depgraph.index import Opened
from greenline.depgraph.linking import TEST
from greenline.depgraph.workspace import ABSENT
from greenline.rules.findings import Finding, Place
from greenline.rules.settings import Budget

RECENT = 500
"""Commits that stand for future changes."""
ENOUGH = 50
"""Of these that must have edited modules; with fewer, chance decides."""
RULE = "budget"


class Cost(NamedTuple):
    """What one import edge adds by itself: to ``changes`` of all that were looked at, ``tests`` test files and
    ``seconds`` on the average of all. ``to``: what it adds, the imported module last."""

    importer: str
    to: tuple[str, ...]
    changes: int
    tests: float
    seconds: float


class Bill(NamedTuple):
    """``added``: the dearest first; ``removed``: edges that are gone; ``tests``: what all of it together adds to the
    average change, negative if it saves; ``total``: how many changes were looked at, ``recent``: they are commits."""

    added: list[Cost]
    removed: list[tuple[str, str]]
    tests: float
    total: int
    recent: bool


class _Edges(NamedTuple):
    """``kept``: node → what it depends on at the head, less what the change adds; ``added``, ``removed``: by node."""

    kept: list[set[int]]
    added: dict[int, set[int]]
    removed: dict[int, set[int]]


def bill(opened: Opened, durations: Mapping[str, float]) -> Bill:
    """The cost of the edges that a change adds to and removes from modules that are there at base and head.

    ``durations``: test file → seconds; {} if nobody knows.
    """
    graph = opened.graph
    edges = _edges(opened)
    if not edges.added and not edges.removed:
        return Bill([], [], 0.0, 0, False)
    paths = [graph.path(node) for node in range(len(graph))]
    tests = sorted(graph.with_flag(TEST))
    changes = code_graph.recent_changes(opened.workspace, paths, None, RECENT)
    recent = len(changes) >= ENOUGH
    if not recent:
        changes = [{node} for node in graph.nodes()]
    weights = [durations.get(paths[test], 0.0) for test in tests]
    added = []
    units = [(node, unit) for node, targets in sorted(edges.added.items()) for unit in _units(paths, targets)]
    for (node, unit), (hit, pairs, seconds) in zip(
        units, costs(edges.kept, units, tests, weights, changes), strict=True
    ):
        names = tuple(paths[each] for each in unit)
        added.append(Cost(paths[node], names, hit, pairs / len(changes), seconds / len(changes)))
    removed = [(paths[node], paths[to]) for node, targets in sorted(edges.removed.items()) for to in sorted(targets)]
    now, before = list(edges.kept), list(edges.kept)
    for node, targets in edges.added.items():
        now[node] = now[node] | targets
    for node, targets in edges.removed.items():
        before[node] = before[node] | targets
    more = reachability.selected(now, tests, changes) - reachability.selected(before, tests, changes)
    added.sort(key=lambda each: (-each.tests, each.importer, each.to))
    return Bill(added, removed, more / len(changes), len(changes), recent)


def _edges(opened: Opened) -> _Edges:
    graph = opened.graph
    here = {state.path for state in opened.changes if state.head != ABSENT and graph.node(state.path) >= 0}
    both = sorted(state.path for state in opened.changes if state.path in here and state.base != ABSENT)
    gone = {graph.node(state.path) for state in opened.changes if state.head == ABSENT}
    kept = [set(own) for own in graph.dependency_lists()]
    added, removed = {}, {}
    for path, facts in zip(sorted(here), facts_of(opened, sorted(here)), strict=True):
        kept[graph.node(path)] = graph.dependencies(path, facts) - gone
    for path, facts in zip(both, facts_of(opened, both, at_base=True), strict=True):
        node = graph.node(path)
        before, now = graph.dependencies(path, facts) - gone, kept[node]
        kept[node] = now & before
        if now - before:
            added[node] = now - before
        if before - now:
            removed[node] = before - now
    for node in gone:
        if node >= 0:
            kept[node] = set()
    return _Edges(kept, added, removed)


def _units(paths: Sequence[str], targets: Collection[int]) -> list[tuple[int, ...]]:
    """Targets that one import adds together: a module, after the packages on the way to it."""
    folders = {
        node: paths[node].removesuffix("__init__.py") for node in targets if paths[node].endswith("/__init__.py")
    }
    ways = {
        node: [each for each, folder in sorted(folders.items()) if each != node and paths[node].startswith(folder)]
        for node in sorted(targets)
    }
    inner = {each for way in ways.values() for each in way}
    return [(*way, node) for node, way in ways.items() if node not in inner]


def costs(
    kept: Sequence[Collection[int]],
    units: Sequence[tuple[int, tuple[int, ...]]],
    tests: Sequence[int],
    weights: Sequence[float],
    changes: Sequence[Collection[int]],
) -> Iterator[tuple[int, int, float]]:
    """For each unit, added alone: (changes that get tests by it, pairs of change and test, seconds of these pairs)."""
    shape = reachability.condense(kept)
    reached = [_below(kept, unit) for _, unit in units]
    hits: list[set[int]] = [set() for _ in units]
    pairs, seconds = [0] * len(units), [0.0] * len(units)
    start = 0
    for bits in reachability.spread(shape, [(test,) for test in tests]):
        unions: dict[frozenset[int], int] = {}
        for change, nodes in enumerate(changes):
            for at, (importer, _) in enumerate(units):
                if reached[at].isdisjoint(nodes):
                    continue
                key = frozenset(shape.component[node] for node in nodes)
                if key not in unions:
                    unions[key] = 0
                    for number in key:
                        unions[key] |= bits[number]
                new = bits[shape.component[importer]] & ~unions[key]
                if new:
                    hits[at].add(change)
                    pairs[at] += new.bit_count()
                    seconds[at] += _weight(new, weights, start) if any(weights) else 0.0
        start += reachability.BLOCK
    for at, changed in enumerate(hits):
        yield len(changed), pairs[at], seconds[at]


def _below(edges: Sequence[Collection[int]], start: Iterable[int]) -> set[int]:
    seen = set(start)
    front = list(seen)
    while front:
        front = [to for to in {to for node in front for to in edges[node]} if to not in seen]
        seen.update(front)
    return seen


def _weight(bits: int, weights: Sequence[float], start: int) -> float:
    total = 0.0
    while bits:
        low = bits & -bits
        total += weights[start + low.bit_length() - 1]
        bits ^= low
    return total


# -- findings ------------------------------------------------------------------------------------------------


def over(found: Bill, budget: Budget) -> list[Cost]:
    """The added edges that cost more than the budget allows."""
    return [
        cost
        for cost in found.added
        if (budget.tests is not None and cost.tests > budget.tests)
        or (budget.minutes is not None and cost.seconds / 60 > budget.minutes)
    ]


def finding_of(cost: Cost, found: Bill, opened: Opened, imports: Imports) -> Finding:
    """An edge that is too dear, with the way to be rid of it."""
    target = cost.to[-1]
    nodes = {path: node for node, path in enumerate(imports.paths)}
    lines = imports.lines(nodes[cost.importer], nodes[target]) if {cost.importer, target} <= nodes.keys() else []
    message = f"{cost.importer} now depends on {target}: {price(cost, found)}"
    hint = _advice(cost, opened, imports, nodes)
    return Finding(RULE, Place(cost.importer, lines[0] if lines else 0), message, f"{cost.importer} -> {target}", hint)


def price(cost: Cost, found: Bill) -> str:
    """One edge's cost in words."""
    of = "recent changes" if found.recent else "modules, each changed once"
    minutes = f" and {cost.seconds / 60:.1f} minutes of tests" if cost.seconds else ""
    return (
        f"it adds tests to {cost.changes:,} of {found.total:,} {of}; "
        f"{cost.tests:.1f} test files{minutes} to the average one"
    )


def _advice(cost: Cost, opened: Opened, imports: Imports, nodes: Mapping[str, int]) -> str:
    graph = opened.graph
    node, target = nodes.get(cost.importer), nodes.get(cost.to[-1])
    if node is None or target is None or target not in imports.edges[node]:
        return "no import statement names it, a string does; if that is none, say so under 'cut' in greenline.yaml"
    source = imports.meaning.read(cost.importer)
    spots = {
        (line, name)
        for line, kind, name in scan.import_lines(source)
        if kind in (scan.RUNTIME, scan.GUARDED, scan.FUNCTION) and target in imports.meaning.of(cost.importer, name)
    }
    is_test = bool(graph.flags_of(cost.importer) & TEST)
    return import_advice.advice(
        import_advice.uses(source, spots), cost.importer, imports.edges[node][target] == START, is_test
    )
