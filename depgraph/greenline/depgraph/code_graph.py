"""The import graph of a work tree with what each file names, for questions about the code's structure.

:func:`read` gives it; :mod:`.reachability`, :mod:`.cycles` and :mod:`.edge_cost` work on its numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from greenline.depgraph import scan
from greenline.depgraph.embedded import python_of
from greenline.depgraph.imports import facts_of
from greenline.depgraph.index import Opened
from greenline.depgraph.linking import TEST
from greenline.depgraph.reachability import condense, counts
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
