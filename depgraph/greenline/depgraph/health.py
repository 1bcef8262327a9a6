"""How healthy the import graph is: its cycles, its hubs, and what each import costs in tests.

:func:`read` gives the graph of the work tree, with the names in each file that lead somewhere as :class:`Link`. The
rest works on numbers: ``edges`` holds for each node, from 0, the nodes that it depends on. A test is affected by a
change of a node when the node can be reached from it.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from greenline.depgraph import scan
from greenline.depgraph.config import Config
from greenline.depgraph.embedded import python_of
from greenline.depgraph.factstore import FactStore, Job, scan_version
from greenline.depgraph.index import SYMLINK, Opened, cut_of
from greenline.depgraph.layout import Layout
from greenline.depgraph.resolve import Resolver, absolute, parents
from greenline.depgraph.scan import Facts
from greenline.depgraph.snapshot import CONFTEST, TEST, nearest_conftest
from greenline.depgraph.workspace import ABSENT

if TYPE_CHECKING:
    import networkx

IMPORT, LAZY, NAMED, PACKAGE, APPLIED, OTHER = "import", "lazy", "named", "package", "conftest", "other"
"""Why a file depends on another: a statement that runs at import, one in a function, a string that may name it, a
package on the way to a module, a conftest.py that pytest applies, or a rule (an entry point, a command, a path)."""

_KINDS = {
    scan.RUNTIME: IMPORT,
    scan.GUARDED: IMPORT,
    scan.FUNCTION: LAZY,
    scan.STRING: NAMED,
    scan.RELATIVE_STRING: NAMED,
    scan.PREFIX: NAMED,
}
BLOCK = 4096
"""Tests (or changes) that one pass carries through the graph, a bit for each."""

Edges = Sequence[Collection[int]]


class Link(NamedTuple):
    """Everything in a file that names one module (or, for a computed name, one package), as one thing to remove.

    ``modules``: what it names; ``only``: the edges that go with it, because nothing else in the file needs them.
    """

    modules: tuple[int, ...]
    kind: str
    only: tuple[int, ...]


class CodeGraph(NamedTuple):
    """The import graph of a work tree; nodes are numbered in the order of their paths."""

    paths: list[str]
    edges: list[list[int]]
    links: list[list[Link]]
    fixed: list[set[int]]  # node → its packages and its conftest.py
    tests: list[int]
    names: Names

    def spots(self, node: int, link: Link) -> list[tuple[int, str]]:
        """Where a file names what a link leads to: (line, name), the statements before the strings."""
        source = python_of(self.paths[node], self.names.opened.read_head(self.paths[node]) or b"")
        found = []
        for line, kind, name in scan.import_lines(source):
            if kind in _KINDS and any(own == link.modules for own, _ in self.names.lead(node, kind, name)):
                found.append((_KINDS[kind] == NAMED, line, name))
        return [(line, name) for _, line, name in sorted(found)]


# -- reading -------------------------------------------------------------------------------------------------


def read(opened: Opened, config: Config, imports_only: bool = False) -> CodeGraph:
    """The graph of the head of ``opened`` alone, without what only its base holds.

    ``imports_only`` leaves out what strings name: import statements, packages and conftest.py files remain.
    """
    graph = opened.graph
    changed = {state.path: state for state in opened.changes}
    gone = {path for path, state in changed.items() if state.head == ABSENT}
    kept = sorted((node for node in range(len(graph)) if graph.path(node) not in gone), key=graph.path)
    number = {old: new for new, old in enumerate(kept)}
    paths = [graph.path(old) for old in kept]
    facts = _facts(opened, paths)
    lists, cut = graph.dependency_lists(), cut_of(config)
    for old, path, own in zip(kept, paths, facts, strict=True):
        if path in changed:
            targets = graph.dependencies(path, own)
            lists[old] = [each for each in targets if cut is None or not cut(path, graph.path(each))]
    edges = [sorted(number[each] for each in lists[old] if each in number) for old in kept]
    names = Names(opened, paths, number)
    links, fixed = [], []
    for node, own in enumerate(facts):
        fixed.append(names.fixed(node))
        links.append(_links(names, node, own, edges, fixed[node], imports_only))
    tests = [new for old, new in number.items() if graph.flags(old) & TEST]
    return CodeGraph(paths, edges, links, fixed, tests, names)


class Names:
    """What names lead to, in the numbers of a :class:`CodeGraph`."""

    def __init__(self, opened: Opened, paths: Sequence[str], number: Mapping[int, int]) -> None:
        self.opened = opened
        self._paths = paths
        self._number = number
        self._resolver = Resolver(opened.graph.modules())

    @property
    def layout(self) -> Layout:
        return self.opened.graph.layout

    def lead(self, node: int, kind: int, name: str) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
        """(What the name means, all that it leads to) for a name of :mod:`.scan` in a file.

        ``a.b.f`` means the module ``a.b`` where ``f`` is none, and leads to the package ``a`` as well.
        """
        path = self._paths[node]
        folder = path.rpartition("/")[0]
        if kind == scan.RELATIVE_STRING:
            name = "." + name
        if name.endswith("*"):  # as the snapshot reads it: names of that module, not modules below it
            name = name[:-2] if name.strip(".*") else name[:-1]
        for each in absolute(name, self.layout.package_of(path)):
            if kind == scan.PREFIX:
                found = self._numbers(self._resolver.below(each, folder))
                yield found, found
                continue
            all_found = found = self._resolver.targets(each, folder)
            while each:
                each = each.rpartition(".")[0]
                above = self._resolver.targets(each, folder) if each else ()
                if len(found) > len(above):
                    yield self._numbers(found[len(above) :]), self._numbers(all_found)
                    break
                found = above

    def fixed(self, node: int) -> set[int]:
        """What a file depends on for its place: the packages around it, and the conftest.py that applies to it."""
        graph, path = self.opened.graph, self._paths[node]
        found = {graph.node(parent) for parent in parents(path, self.layout)}
        if graph.flags(graph.node(path)) & (TEST | CONFTEST):
            found.add(nearest_conftest(path, graph.node))
        return set(self._numbers(found))

    def _numbers(self, nodes: Iterable[int]) -> tuple[int, ...]:
        number = self._number
        return tuple([number[each] for each in nodes if each in number])


def _facts(opened: Opened, paths: Sequence[str]) -> list[Facts]:
    """What the scanner says of each file: kept facts for what is as the base has it, else of the file as it is."""
    changed = {state.path for state in opened.changes}
    workspace = opened.workspace
    entries = {each.path: each for each in workspace.entries(opened.base) if each.mode != SYMLINK}
    jobs = {path: Job(entries[path].oid, path) for path in paths if path in entries and path not in changed}
    store = FactStore(workspace.cache)
    store.load_packs()
    known = store.facts(list(jobs.values()), lambda share: workspace.read_blobs([job.oid for job in share]))
    facts = dict(zip(jobs, known, strict=True))
    return [facts[path] if path in facts else scan_version(opened.read_head(path), path) for path in paths]


def _links(
    names: Names, node: int, facts: Facts, edges: list[list[int]], fixed: set[int], imports_only: bool
) -> list[Link]:
    """The links of one file. With ``imports_only`` its edges are cut down to what they and ``fixed`` give."""
    by_kind = [
        (scan.RUNTIME, f"{facts.runtime}\n{facts.guarded}".split()),
        (scan.FUNCTION, facts.function.split()),
    ]
    if not imports_only:
        by_kind.append((scan.STRING, facts.string.split()))
        by_kind.append((scan.RELATIVE_STRING, facts.relative_strings()))
        by_kind.append((scan.PREFIX, facts.prefixes()))
    found: dict[tuple[int, ...], tuple[str, set[int]]] = {}
    for kind, spelled in by_kind:
        for name in spelled:
            for own, targets in names.lead(node, kind, name):
                if own != (node,):
                    found.setdefault(own, (_KINDS[kind], set()))[1].update(targets)
    there = set(edges[node])
    users = Counter(target for _, targets in found.values() for target in targets & there)
    if imports_only:
        edges[node] = sorted(there & (users.keys() | fixed))
    single = {target for target, count in users.items() if count == 1 and target not in fixed}
    return [
        Link(own, kind, tuple(sorted(targets & single)))
        for own, (kind, targets) in found.items()
        if not there.isdisjoint(own)
    ]


# -- graphs --------------------------------------------------------------------------------------------------


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


# -- hubs ----------------------------------------------------------------------------------------------------


class Hub(NamedTuple):
    """A module, the test files that depend on it, and the files with a statement that imports it."""

    node: int
    tests: int
    importers: int


def hubs(graph: CodeGraph) -> list[Hub]:
    """Every module that a test depends on, the most tests first, then the most importers."""
    importers: Counter[int] = Counter()
    for links in graph.links:
        importers.update({node for link in links if link.kind != NAMED for node in link.modules})
    tests = counts(condense(graph.edges), [(test,) for test in graph.tests])
    found = [Hub(node, count, importers[node]) for node, count in enumerate(tests) if count]
    return sorted(found, key=lambda hub: (-hub.tests, -hub.importers, hub.node))


# -- cycles --------------------------------------------------------------------------------------------------


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
    """Node → the modules that its statements import, each with IMPORT or LAZY. Test files import nothing here."""
    tests = set(graph.tests)
    return [
        {each: link.kind for link in links if link.kind != NAMED for each in link.modules if each != node}
        if node not in tests
        else {}
        for node, links in enumerate(graph.links)
    ]


def cycles(imports: Sequence[Mapping[int, str]]) -> list[Cycle]:
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
    """Edges without which the graph has no cycle, by the greedy order of Eades, Lin and Smyth.

    The order puts first what has no importers left, else what imports most and is imported least; edges that run
    backwards go, unless the rest leaves no way back.
    """
    importers: dict[int, list[int]] = {node: [] for node in inner}
    for node, targets in inner.items():
        for target in targets:
            importers[target].append(node)
    out = {node: len(targets) for node, targets in inner.items()}
    into = {node: len(nodes) for node, nodes in importers.items()}
    queue = [(into[node] > 0, into[node] - out[node], node) for node in inner]
    heapq.heapify(queue)
    position: dict[int, int] = {}
    while queue:
        *key, node = heapq.heappop(queue)
        if node in position or key != [into[node] > 0, into[node] - out[node]]:
            continue
        position[node] = len(position)
        for left, others in ((into, inner[node]), (out, importers[node])):
            for other in others:
                if other not in position:
                    left[other] -= 1
                    heapq.heappush(queue, (into[other] > 0, into[other] - out[other], other))
    kept = {node: {each for each in inner[node] if position[each] > position[node]} for node in inner}
    found = []
    for node in sorted(inner):
        for target in sorted(set(inner[node]) - kept[node]):
            if _way(kept, target, node, len(inner)):
                found.append((node, target))
            else:
                kept[node].add(target)
    return found


# -- cost ----------------------------------------------------------------------------------------------------


class Costs(NamedTuple):
    """What each cut spares, the most first, without those that spare nothing.

    ``total``: tests that the changes affect now; ``ranked``: (tests spared, index of the cut); ``limit``: no cut
    that is not ranked spares more (equal to the last of a full ranking: nothing is left to try).
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
    limit = tried = 0
    for cut in sorted(range(len(cuts)), key=lambda each: (-bounds[each], each)):
        limit = bounds[cut]
        if tried >= most or not limit or (len(ranked) >= top and limit <= -ranked[top - 1][0]):
            break
        node, gone = cuts[cut]
        lists[node] = set(edges[node]).difference(gone)
        ranked = sorted([*ranked, (selected(lists, tests, changes) - total, cut)])
        lists[node] = edges[node]
        tried += 1
        limit = 0
    return Costs(total, [(-less, cut) for less, cut in ranked[:top] if less], tried, limit)


def _bounds(
    edges: Edges,
    cuts: Sequence[tuple[int, Collection[int]]],
    tests: Sequence[int],
    changes: Sequence[Collection[int]],
) -> list[int]:
    """What each cut spares at most, for all of them at once.

    Take a hub that most pairs (test, change) run through. After the cut a test still reaches the change through the
    hub, unless all its ways to the hub or all ways from there to the change lead through the cut: it *dominates* them.
    Pairs past the hub count for the cut as soon as they can run through it.
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
    ahead, behind = dominators(ways, hub), dominators(back, hub)
    near = [change for change in changes if any(ahead.number[node] >= 0 for node in change)]
    far_changes = [change for change in changes if all(ahead.number[node] < 0 for node in change)]
    far_tests = [(test,) for test in tests if behind.number[test] < 0]
    cut_changes = ahead.weights(ahead.common([node for node in change if ahead.number[node] >= 0]) for change in near)
    cut_tests = behind.weights(test for test in tests if behind.number[test] >= 0)
    far_testing, far_changing = counts(shape, far_tests), counts(shape, far_changes, up=True)
    bounds = []
    for at, (node, gone) in enumerate(cuts, len(edges)):
        below = min(len(changes), sum(changing[each] for each in gone))
        far_below = min(len(far_changes), sum(far_changing[each] for each in gone))
        far, close = far_testing[node], testing[node] - far_testing[node]
        through = cut_tests[at] * below + close * cut_changes[at]
        bounds.append(min(testing[node] * below, through + far * below + close * far_below))
    return bounds


class Dominators(NamedTuple):
    """The dominator tree of what a root reaches. Nodes have numbers along the tree, parents before children."""

    number: list[int]  # node → number, or -1 if the root does not reach it
    parent: list[int]  # number → number of the immediate dominator (the root: itself)

    def common(self, nodes: Iterable[int]) -> int:
        """The number... """
