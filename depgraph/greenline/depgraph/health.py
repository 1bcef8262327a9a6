"""How healthy the import graph is: its cycles, its hubs, and what each import costs in tests.

:func:`read` gives the graph of the work tree, with what each file names as :class:`Reference`. The rest works on
numbers: ``edges`` holds for each node, from 0, the nodes that it depends on. A change of a node affects the tests that
reach it.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from greenline.depgraph import scan
from greenline.depgraph.embedded import python_of
from greenline.depgraph.imports import facts_of
from greenline.depgraph.index import Opened
from greenline.depgraph.linking import TEST
from greenline.depgraph.resolve import Resolver, absolute, parents
from greenline.depgraph.scan import Facts
from greenline.depgraph.workspace import ABSENT, Workspace

if TYPE_CHECKING:
    import networkx

IMPORT, LAZY, NAMED, PACKAGE, CONFTEST, OTHER = "import", "lazy", "named", "package", "conftest", "other"
"""Why a file depends on another: a statement that runs at import, one in a function, a string that may name it, a
package around the file or on the way to a module, a conftest.py that pytest applies, or another rule (entry points,
commands, paths)."""

_KINDS = {
    scan.RUNTIME: IMPORT,
    scan.GUARDED: IMPORT,
    scan.FUNCTION: LAZY,
    scan.STRING: NAMED,
    scan.RELATIVE_STRING: NAMED,
    scan.PREFIX: NAMED,
}
BLOCK = 4096
"""Tests, or changes, that go through the graph together, a bit each."""

Edges = Sequence[Collection[int]]
Nodes = tuple[int, ...]


class Reference(NamedTuple):
    """Everything in a file that names one module (by a computed name: one package), as one thing to remove.

    ``modules``: what it names; ``kind``: IMPORT, LAZY or NAMED; ``only``: edges that nothing else in the file needs.
    """

    modules: Nodes
    kind: str
    only: Nodes


class CodeGraph(NamedTuple):
    """The import graph of a work tree. Nodes are numbered in the order of their paths."""

    paths: list[str]
    edges: list[list[int]]
    references: list[list[Reference]]
    tests: list[int]
    names: Names

    def source(self, node: int) -> bytes:
        """A file as Python, b"" if it cannot be read."""
        return python_of(self.paths[node], self.names.opened.read_head(self.paths[node]) or b"")

    def spots(self, node: int, reference: Reference) -> list[tuple[int, str, str]]:
        """Where a file names what a reference means: (line, name, kind), import statements first."""
        found = []
        for line, kind, name in scan.import_lines(self.source(node)):
            if kind in _KINDS and any(own == reference.modules for own, _ in self.names.lead(node, kind, name)):
                found.append((line, name, _KINDS[kind]))
        return sorted(found, key=lambda spot: ((IMPORT, LAZY, NAMED).index(spot[2]), spot))


# -- reading -------------------------------------------------------------------------------------------------


def read(opened: Opened, imports_only: bool = False) -> CodeGraph:
    """The graph of the head of ``opened`` alone, without what only its base holds.

    ``imports_only``: import statements, packages and conftest.py files, not what strings name and other rules.
    """
    graph = opened.graph
    changed = {state.path: state.head for state in opened.changes}
    there = [node for node in graph.nodes() if changed.get(graph.path(node)) != ABSENT]
    there.sort(key=graph.path)
    number = {old: new for new, old in enumerate(there)}
    paths = [graph.path(old) for old in there]
    names = Names(opened, paths, number)
    lists = graph.dependency_lists()
    edges, references = [], []
    for node, (old, facts) in enumerate(zip(there, facts_of(opened, paths), strict=True)):
        targets = graph.dependencies(paths[node], facts) if paths[node] in changed else lists[old]
        own, found = _references(names, node, facts, set(names.numbers(targets)), imports_only)
        edges.append(sorted(own))
        references.append(found)
    return CodeGraph(paths, edges, references, [number[old] for old in there if graph.flags(old) & TEST], names)


class Names:
    """What names mean, in the numbers of a :class:`CodeGraph`."""

    def __init__(self, opened: Opened, paths: Sequence[str], number: Mapping[int, int]) -> None:
        self.opened = opened
        self.layout = opened.graph.layout
        self._paths = paths
        self._number = number
        self._resolver = Resolver(opened.graph.modules())

    def lead(self, node: int, kind: int, name: str) -> Iterator[tuple[Nodes, Nodes]]:
        """What a name of :mod:`.scan` in a file means, and all that it leads to.

        ``a.b.f`` means the module ``a.b``, where ``f`` is none, and leads to the package ``a`` as well.
        """
        path = self._paths[node]
        folder = path.rpartition("/")[0]
        if kind == scan.RELATIVE_STRING:
            name = "." + name
        if name.endswith("*"):  # names of that module, not modules below it
            name = name[:-2] if name.strip(".*") else name[:-1]
        for each in absolute(name, self.layout.package_of(path)):
            if kind == scan.PREFIX:
                reached = self._resolver.below(each, folder)
                own = reached[len(self._resolver.targets(each.rpartition(".")[0], folder)) :]
            else:
                reached = self._resolver.targets(each, folder)
                own = self._meant(each, folder)
            yield self.numbers(own), self.numbers(reached)

    def _meant(self, name: str, folder: str) -> Nodes:
        """What the last known part of a dotted name adds to those before it."""
        found, parent = self._resolver.targets(name, folder), name.rpartition(".")[0]
        own = found[len(self._resolver.targets(parent, folder)) :]
        return own if own or not parent else self._meant(parent, folder)

    def around(self, node: int, edges: Collection[int]) -> set[int]:
        """What a file depends on for its place: the packages around it, the conftest.py that applies to it."""
        path = self._paths[node]
        packages = parents(path, self.layout)
        return {
            each
            for each in edges
            if (other := self._paths[each]) in packages
            or (other.endswith("conftest.py") and path.startswith(other[: -len("conftest.py")]))
        }

    def numbers(self, nodes: Iterable[int]) -> Nodes:
        number = self._number
        return tuple([number[each] for each in nodes if each in number])


def _references(
    names: Names, node: int, facts: Facts, edges: set[int], imports_only: bool
) -> tuple[set[int], list[Reference]]:
    """The edges of one file, as ``imports_only`` leaves them, and its references."""
    by_kind = [
        (scan.RUNTIME, f"{facts.runtime}\n{facts.guarded}".split()),
        (scan.FUNCTION, facts.function.split()),
    ]
    if not imports_only:
        by_kind.append((scan.STRING, facts.string.split()))
        by_kind.append((scan.RELATIVE_STRING, facts.relative_strings()))
        by_kind.append((scan.PREFIX, facts.prefixes()))
    found: dict[Nodes, tuple[str, set[int]]] = {}
    for kind, spelled in by_kind:
        for name in spelled:
            for own, targets in names.lead(node, kind, name):
                if not edges.isdisjoint(own):
                    found.setdefault(own, (_KINDS[kind], set()))[1].update(targets)
    users = Counter(target for _, targets in found.values() for target in targets)
    around = names.around(node, edges)
    single = {each for each in edges - around if users[each] == 1}
    if imports_only:
        edges = edges & (users.keys() | around)
    return edges, [Reference(own, kind, tuple(sorted(targets & single))) for own, (kind, targets) in found.items()]


def recent_changes(workspace: Workspace, paths: Sequence[str], since: str | None, commits: int) -> list[set[int]]:
    """The modules, as positions in ``paths``, that each of the last commits edited, along the first parents.

    ``since``: a commit id, only commits after it. Left out are commits that edited none, and those without a parent:
    they add everything.
    """
    number = {path: node for node, path in enumerate(paths)}
    options = ("--first-parent", "-m", "--min-parents=1", "--no-renames", "--name-only", "--format=%x01", "-z")
    wanted = f"{since}..HEAD" if since else "HEAD"
    text = workspace.git("log", *options, f"--max-count={commits}", wanted, "--")
    changes = [{number[path] for path in re.split("[\0\n]", part) if path in number} for part in text.split("\1")]
    return [change for change in changes if change]


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
    for references in graph.references:
        importers.update({node for own, kind, _ in references if kind != NAMED for node in own})
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
    """Node → the modules that its statements import, each with IMPORT or LAZY; nothing for test files."""
    found: list[dict[int, str]] = [{} for _ in graph.paths]
    for node in set(range(len(graph.paths))).difference(graph.tests):
        for own, kind, _ in graph.references[node]:
            if kind != NAMED:
                for each in own:
                    if found[node].get(each) != IMPORT:
                        found[node][each] = kind
    return found


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


# -- cost ----------------------------------------------------------------------------------------------------


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


# -- one import ----------------------------------------------------------------------------------------------


class Uses(NamedTuple):
    """The names that a file uses of an import, by where: in what runs at import, in functions, in annotations."""

    at_import: set[str]
    in_functions: set[str]
    in_annotations: set[str]


def uses(source: bytes, spots: Collection[tuple[int, str]]) -> Uses | None:
    """How a file uses what its import statements at ``spots``, (line, name), bind.

    None where that cannot be told: a star import, or a file that this Python cannot parse.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    bound = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            base = ""
            if isinstance(node, ast.ImportFrom):
                base = "." * node.level + (f"{node.module}." if node.module else "")
            names = [alias for alias in node.names if (node.lineno, base + alias.name) in spots]
            bound |= {alias.asname or alias.name.partition(".")[0] for alias in names}
    if not bound or "*" in bound:
        return None
    found = Uses(set(), set(), set())
    todo: list[tuple[ast.AST, set[str]]] = [(tree, found.at_import)]
    while todo:
        node, where = todo.pop()
        if isinstance(node, ast.Name):
            where |= bound & {node.id}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if where is found.in_annotations:
                where |= bound.intersection(re.findall(r"\w+", node.value))
            elif where is found.at_import:
                where |= bound & {node.value}  # __all__
        for field, value in ast.iter_fields(node):
            inside = where
            if field in ("annotation", "returns"):
                inside = found.in_annotations
            elif field == "body" and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                inside = found.in_functions
            children = value if isinstance(value, list) else [value]
            todo += [(child, inside) for child in children if isinstance(child, ast.AST)]
    return found


def advice(used: Uses | None, path: str, at_import: bool, is_test: bool) -> str:
    """What could be done about an import in the file at ``path``, as far as that file tells; "" if nothing is known.

    ``at_import``: the statement runs as the file is imported.
    """
    if used is None:
        return ""
    if not any(used):
        if path.endswith("__init__.py"):
            return "only passed on from here: who needs it could import it where it is defined"
        return "not used here: remove it, unless it is there for what importing it does"
    if not used.at_import and not used.in_functions:
        names = _few(used.in_annotations)
        return f"only annotations use {names}: import it under 'if TYPE_CHECKING:', unless they are read at run time"
    names = _few(used.at_import or used.in_functions)
    if at_import and not used.at_import and (is_test or path.endswith("conftest.py")):
        return f"only functions use {names}: import it there, and only the tests that run them depend on it"
    return f"move what it takes ({names}), or what uses that, to a module that fewer tests reach"


def _few(names: Iterable[str]) -> str:
    first, *rest = sorted(names)
    return first if not rest else f"{first}, {rest[0]}" if len(rest) == 1 else f"{first} and {len(rest)} more names"


# -- export --------------------------------------------------------------------------------------------------


def to_networkx(graph: CodeGraph) -> networkx.DiGraph[str]:
    """Paths with ``test`` (whether it is a test file), edges from importer to imported with ``kind``."""
    import networkx

    found = networkx.DiGraph()
    tests = set(graph.tests)
    for node, path in enumerate(graph.paths):
        found.add_node(path, test=node in tests)
    for node, edges in enumerate(graph.edges):
        around = graph.names.around(node, edges)
        kinds = {each: kind for own, kind, _ in reversed(graph.references[node]) for each in own}
        for each in edges:
            file = graph.paths[each].rpartition("/")[2]
            place = CONFTEST if each in around and file == "conftest.py" else PACKAGE
            kind = kinds.get(each, place if each in around or file == "__init__.py" else OTHER)
            found.add_edge(graph.paths[node], graph.paths[each], kind=kind)
    return found
