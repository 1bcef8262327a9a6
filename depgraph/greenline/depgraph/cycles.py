"""The cycles of an import graph, and few edges without which none is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from greenline.depgraph.code_graph import IMPORT, LAZY, NAMED, CodeGraph
from greenline.depgraph.reachability import Edges, condense


class Cycle(NamedTuple):
    """Modules each of which depends on each other, by import statements between them.

    ``at_import``: already by statements that run at import. ``chain``: a shortest way around, its first node last
    again; it uses an import in a function where ``at_import`` is False. ``breaks``: edges without which no cycle is
    left; few, but a heuristic's answer: not always the fewest.
    """

    modules: list[int]
    at_import: bool
    chain: list[int]
    breaks: list[tuple[int, int]]
    imports: int


def imports_of(graph: CodeGraph) -> list[dict[int, str]]:
    """Node → the modules that its statements import, each with IMPORT or LAZY; nothing for test files."""
    found: list[dict[int, str]] = [{} for _ in graph.paths]
    for node in set(range(len(graph.paths))).difference(graph.tests):
        for own, kind, _ in graph.references[node]:
            if kind != NAMED:
                for each in own:
                    if found[node].get(each) != IMPORT:
                        found[node][each] = kind
    return found


def find_cycles(imports: Sequence[Mapping[int, str]]) -> list[Cycle]:
    """The cycles among the imports of :func:`imports_of`: those at import first, then the largest first."""
    eager = [{each: kind for each, kind in own.items() if kind == IMPORT} for own in imports]
    found: dict[tuple[int, ...], Cycle] = {}
    for edges, at_import in ((eager, True), (imports, False)):
        for members in _components(edges):
            if tuple(members) not in found:
                inside = set(members)
                inner = {node: sorted(inside.intersection(edges[node])) for node in members}
                lazy = [(one, two) for one in inner for two in inner[one] if imports[one][two] == LAZY]
                starts = [(node, node) for node in members] if at_import else lazy
                chain = _shortest_cycle(inner, starts)
                size = sum(map(len, inner.values()))
                found[tuple(members)] = Cycle(members, at_import, chain, feedback(inner), size)
    return sorted(found.values(), key=lambda each: (not each.at_import, -len(each.modules), each.modules))


def _components(edges: Edges) -> list[list[int]]:
    members: dict[int, list[int]] = {}
    for node, number in enumerate(condense(edges).component):
        members.setdefault(number, []).append(node)
    return [nodes for nodes in members.values() if len(nodes) > 1]


def _shortest_cycle(inner: Mapping[int, Sequence[int]], starts: Iterable[tuple[int, int]]) -> list[int]:
    """The shortest cycle through one of these edges; (node, node) stands for all edges of a node."""
    best: list[int] = []
    for one, two in starts:
        way = _way(inner, two, one, len(best) - 2 if best else len(inner))
        if way:
            best = way if one == two else [one, *way]
        if len(best) == 3:
            break
    return best


def _way(edges: Mapping[int, Iterable[int]], start: int, goal: int, most: int) -> list[int]:
    """A shortest way of one to ``most`` edges from ``start`` to ``goal``, both included; [] if there is none."""
    through: dict[int, int] = {}
    front = [start]
    for _ in range(most):
        reached = []
        for node in front:
            for target in edges[node]:
                if target not in through:
                    through[target] = node
                    reached.append(target)
        if goal in through:
            way = [goal, through[goal]]
            while way[-1] != start:
                way.append(through[way[-1]])
            return way[::-1]
        front = reached
    return []


def feedback(inner: Mapping[int, Collection[int]]) -> list[tuple[int, int]]:
    """Edges without which the graph has no cycle: those that run backwards in a good order of the nodes.

    Three orders are improved by moving single nodes (sifting); the best is taken. Each edge of the answer is needed to
    break a cycle, but there may be an answer with fewer.
    """
    import networkx

    depth_first = list(networkx.dfs_postorder_nodes(networkx.DiGraph(inner)))[::-1]
    imported = Counter(target for targets in inner.values() for target in targets)
    by_degree = sorted(inner, key=lambda node: (imported[node] - len(inner[node]), node))
    return min((_backward(inner, order) for order in (depth_first, by_degree, sorted(inner))), key=len)


def _backward(inner: Mapping[int, Collection[int]], order: list[int]) -> list[tuple[int, int]]:
    """The edges that run backwards in this order, sifted, without those that the rest leaves no way back for."""
    position = _sift(inner, order)
    kept = {node: {each for each in inner[node] if position[each] > position[node]} for node in inner}
    found = []
    for node in sorted(inner):
        for target in sorted(set(inner[node]) - kept[node]):
            if _way(kept, target, node, len(inner)):
                found.append((node, target))
            else:
                kept[node].add(target)
    return found


def _sift(inner: Mapping[int, Collection[int]], order: list[int], sweeps: int = 5) -> dict[int, int]:
    """Move each node to where the fewest of its edges run backwards, again and again; gives the positions."""
    importers: dict[int, list[int]] = {node: [] for node in order}
    for node in order:
        for target in inner[node]:
            importers[target].append(node)
    position = {node: at for at, node in enumerate(order)}
    for _ in range(sweeps):
        for node in list(order):
            here, best = position[node], 0
            # Placed first, the edges of all importers run backwards; each importer that it is placed after saves one.
            backward = fewest = len(importers[node])
            steps = [(position[each], -1) for each in importers[node]] + [(position[each], 1) for each in inner[node]]
            for at, step in sorted([(here, 0), *steps]):
                backward += step
                if backward < fewest or (backward == fewest and at == here):
                    fewest, best = backward, at if at >= here else at + 1
            if best != here:
                order.insert(best, order.pop(here))
                for at in range(min(here, best), max(here, best) + 1):
                    position[order[at]] = at
    return position
