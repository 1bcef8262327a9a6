"""What reaches what in a graph of numbered nodes, for many tests or changes at once.

``edges`` holds for each node, from 0, the nodes that it depends on. A change of a node affects the tests that reach it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

BLOCK = 4096
"""Tests, or changes, that go through the graph together, a bit each."""

Edges = Sequence[Collection[int]]


class Condensed(NamedTuple):
    """A graph with each strongly connected component as one node. Edges lead to lower numbers."""

    component: list[int]  # node → component
    below: list[set[int]]  # component → components that it has edges to


def condense(edges: Edges) -> Condensed:
    """Tarjan's algorithm, without recursion: it starts from a node of its own that has an edge to every node."""
    start = len(edges)
    order, low, component = [0] * start, [0] * start + [-1], [-1] * start
    below: list[set[int]] = []
    waiting: list[int] = []
    path, pending = [start], [iter(range(start))]
    clock = 0
    while True:
        node = path[-1]
        for target in pending[-1]:
            if not order[target]:
                clock += 1
                order[target] = low[target] = clock
                waiting.append(target)
                path.append(target)
                pending.append(iter(edges[target]))
                break
            if component[target] < 0 and order[target] < low[node]:
                low[node] = order[target]
        else:
            path.pop()
            pending.pop()
            if not path:
                return Condensed(component, below)
            if low[node] < low[path[-1]]:
                low[path[-1]] = low[node]
            if low[node] == order[node]:
                below.append(set())
                member = -1
                while member != node:
                    member = waiting.pop()
                    component[member] = len(below) - 1
                    below[-1].update([component[each] for each in edges[member]])
                below[-1] -= {len(below) - 1, -1}


def spread(shape: Condensed, groups: Sequence[Collection[int]], up: bool = False) -> Iterator[list[int]]:
    """In blocks of groups of nodes: component → the groups that reach it (``up``: that it reaches), as bits."""
    component, below = shape
    for start in range(0, len(groups), BLOCK):
        bits = [0] * len(below)
        for bit, nodes in enumerate(groups[start : start + BLOCK]):
            for node in nodes:
                bits[component[node]] |= 1 << bit
        for number in range(len(below)) if up else range(len(below) - 1, -1, -1):
            own = bits[number]
            for other in below[number]:
                if up:
                    own |= bits[other]
                else:
                    bits[other] |= own
            bits[number] = own
        yield bits


def counts(shape: Condensed, groups: Sequence[Collection[int]], up: bool = False) -> list[int]:
    """Node → how many of the groups reach it (``up``: does it reach)."""
    found = [0] * len(shape.below)
    for bits in spread(shape, groups, up):
        found = [count + own.bit_count() for count, own in zip(found, bits, strict=True)]
    return [found[number] for number in shape.component]


def selected(edges: Edges, tests: Sequence[int], changes: Sequence[Collection[int]]) -> int:
    """How many tests the changes affect, summed over the changes; a change is the nodes that it edits."""
    shape = condense(edges)
    groups = Counter(frozenset(shape.component[node] for node in change) for change in changes)
    total = 0
    for bits in spread(shape, [(test,) for test in tests]):
        for group, times in groups.items():
            union = 0
            for number in group:
                union |= bits[number]
            total += times * union.bit_count()
    return total
