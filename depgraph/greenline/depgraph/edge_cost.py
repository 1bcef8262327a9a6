"""What each import costs: the tests that its removal would spare the changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from greenline.depgraph.reachability import Edges, condense, counts, selected


class Costs(NamedTuple):
    """What each cut spares, the most first, without those that spare nothing.

    ``total``: tests that the changes affect now; ``ranked``: (tests spared, index of the cut); ``tried``: how many
    cuts were tried; ``limit``: one that was not may spare so many; 0: it is proven that none spares more.
    """

    total: int
    ranked: list[tuple[int, int]]
    tried: int
    limit: int


def cost(
    edges: Edges,
    cuts: Sequence[tuple[int, Collection[int]]],
    tests: Sequence[int],
    changes: Sequence[Collection[int]],
    top: int,
    most: int = 100,
) -> Costs:
    """The ``top`` cuts that spare most tests, each cut alone: (node, those of its edges that go).

    Each is tried, in the order of what it can spare at most, until the rest cannot win, or ``most`` are tried.
    """
    total = selected(edges, tests, changes)
    bounds = _bounds(edges, cuts, tests, changes)
    lists = list(edges)
    ranked: list[tuple[int, int]] = []
    tried = limit = 0
    for cut in sorted(range(len(cuts)), key=lambda each: (-bounds[each], each)):
        if not bounds[cut] or (len(ranked) >= top and bounds[cut] <= -ranked[top - 1][0]):
            break
        if tried == most:
            limit = bounds[cut]
            break
        node, gone = cuts[cut]
        lists[node] = set(edges[node]).difference(gone)
        ranked = sorted([*ranked, (selected(lists, tests, changes) - total, cut)])
        lists[node] = edges[node]
        tried += 1
    return Costs(total, [(-less, cut) for less, cut in ranked[:top] if less], tried, limit)


def _bounds(
    edges: Edges,
    cuts: Sequence[tuple[int, Collection[int]]],
    tests: Sequence[int],
    changes: Sequence[Collection[int]],
) -> list[int]:
    """What each cut spares at most, for all of them at once.

    Take a hub that most pairs (test, change) run through. After the cut a test still reaches the change through the
    hub, unless all its ways to the hub, or all ways from there to the change, lead through the cut, which dominates
    them. Tests and changes past the hub are lost as soon as the cut lies between them.
    """
    shape = condense(edges)
    alone = [(test,) for test in tests]
    testing, changing = counts(shape, alone), counts(shape, changes, up=True)
    hub = max(range(len(edges)), key=lambda node: testing[node] * changing[node], default=-1)
    if hub < 0:
        return []
    ways: list[list[int]] = [list(targets) for targets in edges]  # with a node for each cut
    for node, gone in cuts:
        ways[node] = [target for target in ways[node] if target not in gone] + [len(ways)]
        ways.append(list(gone))
    back: list[list[int]] = [[] for _ in ways]
    for node, targets in enumerate(ways):
        for target in targets:
            back[target].append(node)
    ahead, behind = Dominators(ways, hub), Dominators(back, hub)
    reached = [[node for node in change if node in ahead.number] for change in changes]
    lost_changes = ahead.weigh(ahead.common(nodes) for nodes in reached if nodes)
    lost_tests = behind.weigh(test for test in tests if test in behind.number)
    past_tests = counts(shape, [(test,) for test in tests if test not in behind.number])
    past_changes = counts(shape, [change for change, nodes in zip(changes, reached, strict=True) if not nodes], up=True)
    bounds = []
    for at, (node, gone) in enumerate(cuts, len(edges)):
        through = min(len(changes), sum(changing[each] for each in gone))
        past = sum(past_changes[each] for each in gone)
        near_tests = testing[node] - past_tests[node]
        bound = (lost_tests[at] + past_tests[node]) * through + near_tests * (lost_changes[at] + past)
        bounds.append(min(testing[node] * through, bound))
    return bounds


class Dominators:
    """The dominator tree of what a root reaches: a node's parent is the last that all ways to it share."""

    def __init__(self, edges: Edges, root: int) -> None:
        import networkx

        graph = networkx.DiGraph((node, target) for node, targets in enumerate(edges) for target in targets)
        graph.add_node(root)
        self._parent = networkx.immediate_dominators(graph, root)
        children: dict[int, list[int]] = {}
        for node, parent in self._parent.items():
            if node != root:
                children.setdefault(parent, []).append(node)
        self.number: dict[int, int] = {}  # parents before children
        todo = [root]
        while todo:
            node = todo.pop()
            self.number[node] = len(self.number)
            todo += children.get(node, ())

    def common(self, nodes: Iterable[int]) -> int:
        """The last node that dominates all of these."""
        first, *others = nodes
        for other in others:
            while first != other:
                if self.number[first] > self.number[other]:
                    first = self._parent[first]
                else:
                    other = self._parent[other]
        return first

    def weigh(self, nodes: Iterable[int]) -> Counter[int]:
        """How many of these nodes each node dominates."""
        found = Counter(nodes)
        for node in list(self.number)[:0:-1]:
            found[self._parent[node]] += found[node]
        return found
