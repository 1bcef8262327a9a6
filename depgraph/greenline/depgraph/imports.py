"""Which module imports which, and what they import from outside: import statements alone.

This is the graph that rules judge: without what strings name, and without the packages that run on the way to a module.
``import a.b.c`` is an import of ``a.b.c``; ``from a.b import c`` one of ``a.b.c`` if that is a module, else of ``a.b``.
"""

from __future__ import annotations

import marshal
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from greenline.depgraph import cachefile, scan
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
    nodes that it imports, each with the earliest of START, LAZY and TYPES; ``meaning``: what names mean; ``facts``:
    what the scanner said of each module; ``oids``: their blobs, "" where git does not have the file as it is.
    """

    paths: list[str]
    names: list[tuple[str, ...]]
    edges: list[dict[int, int]]
    meaning: Meaning
    facts: list[Facts]
    oids: list[str]

    def known(self) -> Known:
        return Known(self.paths, self.names, self.edges, self.oids, sorted(self.meaning.layout.roots))

    def lines(self, importer: int, imported: int) -> list[int]:
        """The lines of a module whose statements import another, sorted, those that run first before others."""
        path = self.paths[importer]
        found = []
        for line, kind, name in scan.import_lines(self.meaning.read(path)):
            if kind in _WHEN and imported in self.meaning.of(path, name):
                found.append((_WHEN[kind], line))
        return [line for _, line in sorted(found)]


class Known(NamedTuple):
    """What another state can take over of the imports of one, as there; ``roots``: the source roots. Plain values."""

    paths: list[str]
    names: list[tuple[str, ...]]
    edges: list[dict[int, int]]
    oids: list[str]
    roots: list[str]


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
        found = found or [self.outside_node(name)]
        if self._resolver.is_plain(name):
            self._plain[name] = found
        return found

    def outside_node(self, name: str) -> int:
        """The node of a name from outside."""
        return self._outside.setdefault(name, self._first + len(self._outside))

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


def read_imports(opened: Opened, at_base: bool = False, like: Imports | None = None) -> Imports:
    """The imports of the head of a change, or of its base. ``like``: another state, to take over what is the same;
    without one, that which was kept for this snapshot."""
    graph = opened.graph
    changed = {state.path: state for state in opened.changes}
    absent = {path for path, state in changed.items() if (state.base if at_base else state.head) == ABSENT}
    paths = [path for path in map(graph.path, graph.nodes()) if path not in absent and is_module(path)]
    paths.sort()
    meaning = Meaning(opened, paths, {path: state.base for path, state in changed.items()}, at_base)
    blobs = _blobs(opened, at_base)
    facts, oids = _facts(opened, paths, blobs), [blobs.get(path, "") for path in paths]
    known = like.known() if like else _kept(opened)
    same = _same(opened, paths, facts, oids, known) if known else {}
    edges, names = [], []
    for path, each in zip(paths, facts, strict=True):
        as_there = same.get(path)
        edges.append(_edges(meaning, path, each) if as_there is None else as_there[0])
        names.append(_names(graph.layout, path) if as_there is None else as_there[1])
    if known and same:
        number = {path: node for node, path in enumerate(paths)}
        to = [number.get(path, -1) for path in known.paths]
        for node in range(len(known.oids), len(known.paths)):
            to[node] = meaning.outside_node(known.names[node][0])
        edges = [
            {to[node]: when for node, when in own.items()} if path in same else own
            for path, own in zip(paths, edges, strict=True)
        ]
    outside = meaning.outside()
    names += [(name,) for name in outside]
    found = Imports(paths + [""] * len(outside), names, edges + [{} for _ in outside], meaning, facts, oids)
    if known is None:
        _keep(opened, found.known())
    return found


def _kept_file(opened: Opened) -> str:
    meta = opened.graph.snapshot.meta
    return cachefile.name(opened.workspace.cache, "imports", f"{meta.anchor}-{meta.config}")


def _kept(opened: Opened) -> Known | None:
    """What was kept of a state that was laid over the same snapshot."""
    file = cachefile.read(_kept_file(opened))
    try:
        return None if file is None else Known(*file.load("imports"))  # type: ignore[misc]
    except (cachefile.Corrupted, ValueError, EOFError, TypeError):
        cachefile.remove(_kept_file(opened))
        return None


def _keep(opened: Opened, known: Known) -> None:
    plain: Any = tuple(known)  # marshal takes no named tuples
    if cachefile.write(_kept_file(opened), {"imports": marshal.dumps(plain)}):
        cachefile.prune(opened.workspace.cache, "imports", keep=4)


def _edges(meaning: Meaning, path: str, facts: Facts) -> dict[int, int]:
    own: dict[int, int] = {}
    spelled = ((f"{facts.runtime}\n{facts.guarded}", START), (facts.function, LAZY), (facts.type_checking, TYPES))
    for text, when in spelled:
        for name in text.split():
            for each in meaning.of(path, name):
                own.setdefault(each, when)
    return own


def _same(
    opened: Opened, paths: Sequence[str], facts: Sequence[Facts], oids: Sequence[str], known: Known
) -> dict[str, tuple[dict[int, int], tuple[str, ...]]]:
    """The modules that import the same as in another state, with their edges and names there.

    They have the same content, and no statement that names a module that only one of the states has. Another package
    changes the names of all that is in it: then nothing is taken over.
    """
    graph = opened.graph
    other = set(paths).symmetric_difference(path for path in known.paths if path)
    if any(path.endswith("__init__.py") for path in other) or sorted(graph.layout.roots) != known.roots:
        return {}
    names = {name.name for path in other for name in graph.names(path)}
    differ = {graph.path(node) for name in names for node in graph.mentioning(name)}
    last = {name.rpartition(".")[2] for name in names}  # what only type checkers see, nobody mentions
    differ |= {
        path for path, each in zip(paths, facts, strict=True) if any(word in each.type_checking for word in last)
    }
    there = {path: node for node, path in enumerate(known.paths)}
    return {
        path: (known.edges[there[path]], known.names[there[path]])
        for path, oid in zip(paths, oids, strict=True)
        if path in there and path not in differ and oid and oid == known.oids[there[path]]
    }


def _names(layout: Layout, path: str) -> tuple[str, ...]:
    """A module's names, the shortest first. What only its folder's own scripts call it counts where it has no other."""
    found = layout.names(path)
    proper = [each.name for each in found if not each.loose] or [each.name for each in found]
    return tuple(sorted(dict.fromkeys(proper), key=lambda name: (name.count("."), name)))


def facts_of(opened: Opened, paths: Iterable[str], at_base: bool = False) -> list[Facts]:
    """What the scanner says of each file: kept facts where it is as at the base, else those of the file itself."""
    return _facts(opened, list(paths), _blobs(opened, at_base))


def _blobs(opened: Opened, at_base: bool) -> dict[str, str]:
    """Path → object id of the files that are as at the base of a change."""
    changed = set() if at_base else {state.path for state in opened.changes}
    entries = opened.workspace.entries(opened.base)
    return {
        each.path: each.oid for each in entries if each.mode not in (SYMLINK, SUBMODULE) and each.path not in changed
    }


def _facts(opened: Opened, paths: Sequence[str], blobs: Mapping[str, str]) -> list[Facts]:
    workspace = opened.workspace
    jobs = {path: Job(blobs[path], path) for path in paths if path in blobs}
    store = FactStore(workspace.cache)
    store.load_packs()
    known = store.facts(list(jobs.values()), lambda share: workspace.read_blobs([job.oid for job in share]))
    facts = dict(zip(jobs, known, strict=True))
    return [facts[path] if path in facts else scan_version(opened.read_head(path), path) for path in paths]
