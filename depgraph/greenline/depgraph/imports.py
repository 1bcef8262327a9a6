"""Which module imports which, and what they import from outside: import statements alone.

This is the graph that rules judge: without what strings name, and without the packages that run on the way to a module.
``import a.b.c`` is an import of ``a.b.c``; ``from a.b import c`` one of ``a.b.c`` if that is a module, else of ``a.b``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from greenline.depgraph import scan
from greenline.depgraph.factstore import FactStore, Job, scan_version
from greenline.depgraph.index import Opened
from greenline.depgraph.layout import Layout, is_module
from greenline.depgraph.overlay import SYMLINK
from greenline.depgraph.resolve import Definer, Modules, Resolver, absolute
from greenline.depgraph.scan import Facts
from greenline.depgraph.workspace import ABSENT, SUBMODULE

START, LAZY, TYPES = 0, 1, 2
"""When an import statement runs: as the module is imported, in a function, only for type checkers."""

_WHEN = {scan.RUNTIME: START, scan.GUARDED: START, scan.FUNCTION: LAZY, scan.TYPE_CHECKING: TYPES}


class Imports(NamedTuple):
    """Nodes are the modules of one state, in the order of their paths, then the names that are imported from outside.

    ``paths``: "" for a name from outside; ``names``: those of a module, the usual one first; ``edges``: node → the
    nodes that it imports, each with the earliest of START, LAZY and TYPES; ``meaning``: what names mean.
    """

    paths: list[str]
    names: list[tuple[str, ...]]
    edges: list[dict[int, int]]
    meaning: Meaning

    def lines(self, importer: int, imported: int) -> list[int]:
        """The lines of a module whose statements import another, sorted, those that run first before others."""
        path = self.paths[importer]
        found = []
        for line, kind, name in scan.import_lines(self.meaning.read(path)):
            if kind in _WHEN and imported in self.meaning.of(path, name):
                found.append((_WHEN[kind], line))
        return [line for _, line in sorted(found)]


class Meaning:
    """What the names in import statements mean, as nodes."""

    def __init__(self, opened: Opened, paths: Sequence[str], oids: Mapping[str, str], at_base: bool) -> None:
        graph = opened.graph
        self._opened = opened
        self._oids = oids
        self._at_base = at_base
        self.layout: Layout = graph.layout
        nodes = [graph.node(path) for path in paths]
        self._number = {node: number for number, node in enumerate(nodes)}
        self._resolver = Resolver(_Present(graph.modules(), self._number.keys()))
        self._plain: dict[str, list[int]] = {}
        self._outside: dict[str, int] = {}
        self._first = len(paths)

    def of(self, path: str, name: str) -> list[int]:
        """The nodes that a name in an import statement of a file means."""
        if name.endswith(".*"):
            name = name[:-2] if name.strip(".*") else name[:-1]
        if name[0] != ".":
            return self._plain.get(name) or self._absolute(path, name)
        names = absolute(name, self.layout.package_of(path))
        found = [node for each in names for node in self._plain.get(each) or self._absolute(path, each)]
        return [node for node in found if node < self._first]

    def _absolute(self, path: str, name: str) -> list[int]:
        folder = path.rpartition("/")[0]
        known = name
        found: list[int] = []
        while known and not found:
            targets = self._resolver.targets(known, folder)
            own = targets[len(self._resolver.targets(known.rpartition(".")[0], folder)) :]
            found = [self._number[node] for node in own]
            known = known.rpartition(".")[0]
        found = found or self._from_outside(name)
        if self._resolver.is_plain(name):
            self._plain[name] = found
        return found

    def _from_outside(self, name: str) -> list[int]:
        return [self._outside.setdefault(name, self._first + len(self._outside))]

    def outside(self) -> list[str]:
        """The names that are imported from outside, in the order of their nodes."""
        return list(self._outside)

    def read(self, path: str) -> bytes:
        """A module's source, b"" if it cannot be read."""
        oid = self._oids.get(path)
        data = self._opened.contents.get(path, oid) if self._at_base and oid else self._opened.read_head(path)
        return data or b""


class _Present:
    """The modules that are there in one of the two states that a graph holds."""

    def __init__(self, modules: Modules, present: Collection[int]) -> None:
        self._modules = modules
        self._present = present

    def get(self, name: str) -> Sequence[Definer]:
        return [each for each in self._modules.get(name) if each.node in self._present]

    def below(self, package: str) -> Sequence[str]:
        return self._modules.below(package)


def read_imports(opened: Opened, at_base: bool = False) -> Imports:
    """The imports of the head of a change, or of its base."""
    graph = opened.graph
    changed = {state.path: state for state in opened.changes}
    absent = {path for path, state in changed.items() if (state.base if at_base else state.head) == ABSENT}
    paths = [path for path in map(graph.path, graph.nodes()) if path not in absent and is_module(path)]
    paths.sort()
    oids = {path: state.base for path, state in changed.items()}
    meaning = Meaning(opened, paths, oids, at_base)
    edges = []
    for path, facts in zip(paths, facts_of(opened, paths, at_base), strict=True):
        own: dict[int, int] = {}
        spelled = ((f"{facts.runtime}\n{facts.guarded}", START), (facts.function, LAZY), (facts.type_checking, TYPES))
        for text, when in spelled:
            for name in text.split():
                for each in meaning.of(path, name):
                    own.setdefault(each, when)
        edges.append(own)
    outside = meaning.outside()
    names = [_names(graph.layout, path) for path in paths] + [(name,) for name in outside]
    return Imports(paths + [""] * len(outside), names, edges + [{} for _ in outside], meaning)


def _names(layout: Layout, path: str) -> tuple[str, ...]:
    """A module's names, the shortest first. What only its folder's own scripts call it counts where it has no other."""
    found = layout.names(path)
    proper = [each.name for each in found if not each.loose] or [each.name for each in found]
    return tuple(sorted(dict.fromkeys(proper), key=lambda name: (name.count("."), name)))


def facts_of(opened: Opened, paths: Iterable[str], at_base: bool = False) -> list[Facts]:
    """What the scanner says of each file: kept facts where it is as at the base, else those of the file itself."""
    workspace = opened.workspace
    changed = {state.path: state for state in opened.changes}
    entries = {each.path: each for each in workspace.entries(opened.base) if each.mode not in (SYMLINK, SUBMODULE)}
    wanted = list(paths)
    jobs = {
        path: Job(entries[path].oid, path) for path in wanted if path in entries and (at_base or path not in changed)
    }
    store = FactStore(workspace.cache)
    store.load_packs()
    known = store.facts(list(jobs.values()), lambda share: workspace.read_blobs([job.oid for job in share]))
    facts = dict(zip(jobs, known, strict=True))
    return [facts[path] if path in facts else scan_version(opened.read_head(path), path) for path in wanted]
