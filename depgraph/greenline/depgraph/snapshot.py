"""The import graph of one commit, built once and kept as one immutable file.

A snapshot never changes: later states of the repository are laid over it (:mod:`.graph`). Its tables:

``paths``      node id → path, sorted: every Python file and notebook of the commit
``flags``      node id → bits of :data:`TEST` …
``importers``  node id → node ids whose code depends on it (see :func:`_dependencies`)
``modules``    module name → the files that define it, as (node, index into ``roots``, loose)
``mentions``   name that some file imports or spells in a string → node ids of those files; ``a.b.*`` stands for
               "whatever is in the package a.b", ``@slow`` for the pytest mark; external names ("numpy.linalg") are
               among them
"""

from __future__ import annotations

import marshal
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from greenline.depgraph import cachefile
from greenline.depgraph.cachefile import CacheFile
from greenline.depgraph.factstore import DOCTESTS
from greenline.depgraph.layout import Layout
from greenline.depgraph.resolve import Definer, Resolver, absolute, parents
from greenline.depgraph.scan import Facts
from greenline.depgraph.suites import Suite, SuiteIndex
from greenline.depgraph.tables import Lists, StringTable, encode

TEST, CONFTEST, ALWAYS, BROKEN, SOURCE_READER, DOC_READER, DYNAMIC, LOCAL, SOURCE_LISTER = (
    1 << bit for bit in range(9)
)
"""Bits of a node's flags: a test file, a conftest.py, has an always-run marker, facts are a superset, reads source
code or docstrings at run time, imports names that no text in it can tell, imports inside functions, looks for *.py
files."""


MOST_PAIRS = 400
"""Of a relative and an absolute string of one file that may belong together; beyond, only import statements count."""


class Meta(NamedTuple):
    """What a snapshot knows besides its tables. Only tuples, text and numbers."""

    anchor: str  # commit id
    config: str  # digest of what in the configuration shapes the graph
    packages: tuple[str, ...]
    roots: tuple[str, ...]
    entry_points: tuple[tuple[str, tuple[str, ...]], ...]
    scripts: tuple[tuple[str, str], ...]
    aliases: tuple[tuple[str, str], ...]  # symbolic links to folders: link → target
    configs: tuple[tuple[str, bytes], ...]  # files that may configure pytest
    suites: tuple[tuple[object, ...], ...]
    generators: tuple[str, ...]  # files that others are generated from (*.proto)
    suite_errors: tuple[str, ...]  # pytest configuration files that could not be read, and why


class ModuleTable:
    """Module name → definers, straight from the snapshot's bytes. Has what :class:`.resolve.Resolver` needs."""

    def __init__(self, names: StringTable, definers: Lists, roots: Sequence[str]) -> None:
        self._names = names
        self._definers = definers
        self._roots = roots

    def get(self, name: str) -> list[Definer]:
        index = self._names.index(name)
        return self._unpack(index) if index >= 0 else []

    def below(self, package: str) -> list[str]:
        return [self._names[index] for index in self._names.between(package + ".", package + "/")]

    def _unpack(self, index: int) -> list[Definer]:
        numbers = self._definers[index]
        return [
            Definer(numbers[at], self._roots[numbers[at + 1]], bool(numbers[at + 2]))
            for at in range(0, len(numbers), 3)
        ]


class Snapshot:
    """An open snapshot."""

    def __init__(self, file: CacheFile) -> None:
        self.file = file
        self.meta = Meta(*file.load("meta"))  # type: ignore[misc]
        self.paths = StringTable(file.section("paths"), file.section("paths.offsets"))
        self.flags = file.section("flags").cast("H")
        self.importers = Lists(file.section("importers.offsets"), file.section("importers"))
        self.suites = [Suite(*values) for values in self.meta.suites]  # type: ignore[arg-type]
        meta = self.meta
        self.layout = Layout(
            meta.packages, meta.roots, dict(meta.entry_points), dict(meta.scripts), dict(meta.aliases)
        )
        self._mentions: tuple[StringTable, Lists] | None = None

    def modules(self) -> ModuleTable:
        section = self.file.section
        roots = self.file.load("modules.roots")
        return ModuleTable(
            StringTable(section("modules"), section("modules.offsets")),
            Lists(section("definers.offsets"), section("definers")),
            roots,  # type: ignore[arg-type]
        )

    def mentioning(self, name: str, below: bool = True) -> set[int]:
        """Files that mention the name or (``below``) something below it, such as ``name.attribute``."""
        if self._mentions is None:
            section = self.file.section
            self._mentions = (
                StringTable(section("names"), section("names.offsets")),
                Lists(section("mentions.offsets"), section("mentions")),
            )
        names, lists = self._mentions
        at = names.index(name)
        found = set(lists[at]) if at >= 0 else set()
        if below:
            for index in names.between(name + ".", name + "/"):
                found.update(lists[index])
        return found

    def mentioning_part(self, part: str) -> set[int]:
        """Files that mention any dotted name with this part."""
        self.mentioning("")
        assert self._mentions is not None
        names, lists = self._mentions
        wanted = encode(f".{part}.")
        found: set[int] = set()
        for index in range(len(names)):
            if wanted in b".%b." % names.raw(index):
                found.update(lists[index])
        return found


class Source(NamedTuple):
    """One file that goes into a snapshot: its path, what the scanner says of it, and for a link its target."""

    path: str
    facts: Facts
    link: str = ""


def mentioned(facts: Facts, path: str, layout: Layout) -> list[str]:
    """The absolute names that count for a file's dependencies, ``a.b.*`` for a whole package."""
    names: list[str] = []
    packages: list[str] | None = None
    for name in facts.runtime_names():
        if name[-1] == "*":  # what a star import takes are names of that module, not modules below it
            name = name[:-2] if name.strip(".*") else name[:-1]
        if name[0] == ".":
            if packages is None:
                packages = layout.package_of(path)
            names += absolute(name, packages)
        else:
            names.append(name)
    for prefix in facts.prefixes():
        if prefix[0] == ".":
            names += [f"{name}.*" for name in absolute(prefix, layout.package_of(path))]
        else:
            names.append(f"{prefix}.*")
    for name in facts.relative_strings():
        names += absolute("." + name, layout.package_of(path))
    strings = facts.string.split()
    # "python -m a.b" runs a.b.__main__ where a.b is a package.
    names += [f"{name}.__main__" for name in strings if name[0] != "."]
    # import_module(".mail", package="app.handlers"): the package is some other string of the file.
    relative = [name.lstrip(".") for name in strings if name[0] == "."]
    if relative and len(relative) * len(strings) <= MOST_PAIRS:
        names += [
            f"{package}.{name}" for package in strings if package[0] != "." for name in relative if name
        ]
    if facts.flags & Facts.AUTODISCOVERS:
        names += [f"{name}.*" for name in strings if name[0] != "."]
    for group in facts.entry_point_groups():
        groups = layout.entry_points if group == "*" else [group]
        names += [module for each in groups for module in layout.entry_points.get(each, ())]
    names += [layout.scripts[command] for command in facts.commands() if command in layout.scripts]
    return names


def dependencies(
    names: Iterable[str], path: str, resolver: Resolver, node_of: Callable[[str], int], layout: Layout
) -> set[int]:
    """Node ids that a file depends on: what its names mean, and the packages that it lies in."""
    folder = path.rpartition("/")[0]
    found: set[int] = set()
    for name in names:
        if name[-2:] == ".*":
            found.update(resolver.below(name[:-2], folder))
        else:
            found.update(resolver.targets(name, folder))
    found.update(node_of(parent) for parent in parents(path, layout))
    found.discard(-1)
    return found


def build(
    anchor: str,
    config: str,
    sources: Sequence[Source],
    layout: Layout,
    suites: Sequence[Suite],
    configs: Mapping[str, bytes],
    generators: Sequence[str],
    suite_errors: Sequence[str],
    cut: Callable[[str, str], bool] | None,
) -> dict[str, bytes]:
    """The sections of a snapshot file.

    ``sources`` must be sorted by the bytes of their paths; ``cut(importer, imported)`` tells which edges to leave out.
    """
    paths = [source.path for source in sources]
    ids = {path: node for node, path in enumerate(paths)}
    modules: dict[str, list[Definer]] = {}
    for node, path in enumerate(paths):
        for name, root, loose in layout.names(path):
            modules.setdefault(name, []).append(Definer(node, root, loose))
    resolver = Resolver(DictModules(modules))
    index = SuiteIndex(suites, paths)
    suites = index.settled()
    flags = array("H", bytes(2 * len(paths)))
    importers: list[list[int]] = [[] for _ in paths]
    mentions: dict[str, list[int]] = {}
    node_of = _getter(ids)
    scripts = ScriptPaths(paths)
    for node, source in enumerate(sources):
        path, facts = source.path, source.facts
        flags[node] = file_flags(path, facts, index)
        names = mentioned(facts, path, layout)
        targets = dependencies(names, path, resolver, node_of, layout)
        targets.update(scripts.nodes(facts.script_paths(), path, node_of))
        if source.link:
            targets.add(node_of(source.link))
            targets.discard(-1)
        if flags[node] & (TEST | CONFTEST):
            targets.add(nearest_conftest(path, node_of, index))
            targets.discard(-1)
        targets.discard(node)
        for target in targets:
            if cut is None or not cut(path, paths[target]):
                importers[target].append(node)
        for name in dict.fromkeys([*names, *(f"@{mark}" for mark in facts.marks())]):
            known = mentions.get(name)
            if known is None:
                mentions[name] = [node]
            else:
                known.append(node)
    _, path_blob, path_offsets = StringTable.pack(paths)
    importer_offsets, importer_values = Lists.pack(importers)
    meta = Meta(
        anchor,
        config,
        tuple(sorted(layout.packages)),
        tuple(sorted(layout.roots)),
        tuple(sorted(layout.entry_points.items())),
        tuple(sorted(layout.scripts.items())),
        tuple(sorted(layout.aliases.items())),
        tuple(sorted(configs.items())),
        tuple(tuple(suite) for suite in suites),
        tuple(generators),
        tuple(suite_errors),
    )
    plain_meta: Any = tuple(meta)  # marshal takes no named tuples
    sections = {
        "meta": marshal.dumps(plain_meta),
        "paths": path_blob,
        "paths.offsets": path_offsets,
        "flags": flags.tobytes(),
        "importers": importer_values,
        "importers.offsets": importer_offsets,
    }
    return sections | _pack_modules(modules) | _pack_mentions(mentions)


def file_flags(path: str, facts: Facts, index: SuiteIndex) -> int:
    flags = 0
    if index.is_test_file(path) and (facts.flags & DOCTESTS or not index.only_doctests(path)):
        flags |= TEST
    if path.endswith("conftest.py") and path.rpartition("/")[2] == "conftest.py":
        flags |= CONFTEST
    if facts.function:
        flags |= LOCAL
    bits = facts.flags
    if bits:
        flags |= (
            (ALWAYS if bits & Facts.ALWAYS_RUN else 0)
            | (BROKEN if bits & Facts.BROKEN else 0)
            | (SOURCE_READER if bits & Facts.READS_SOURCE else 0)
            | (DOC_READER if bits & Facts.READS_DOCS else 0)
            | (DYNAMIC if bits & Facts.UNKNOWN_DYNAMIC else 0)
            | (SOURCE_LISTER if bits & Facts.LISTS_SOURCE else 0)
        )
    return flags


def nearest_conftest(path: str, node_of: Callable[[str], int], index: SuiteIndex) -> int:
    """The conftest.py that applies to a test file, or the next outer one for a conftest.py; -1 if there is none.

    The outer ones follow, because each conftest.py depends on the next.
    """
    folder, _, file = path.rpartition("/")
    limit = index.conftest_limit(folder)
    while True:
        if file != "conftest.py":
            node = node_of(f"{folder}/conftest.py" if folder else "conftest.py")
            if node >= 0:
                return node
        if folder == limit or not folder:
            return -1
        folder, file = folder.rpartition("/")[0], ""


class ScriptPaths:
    """Finds files by the paths that strings spell: ``"scripts/run.py"``, relative to the repository or the file."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = paths
        self._by_name: dict[str, list[str]] | None = None

    def nodes(self, spelled: Iterable[str], importer: str, node_of: Callable[[str], int]) -> list[int]:
        found = []
        for text in spelled:
            if self._by_name is None:
                self._by_name = {}
                for path in self._paths:
                    self._by_name.setdefault(path.rpartition("/")[2], []).append(path)
            wanted = text.lstrip("./").replace("\\\\", "/")
            # Only the last parts of a path may be spelled (the folder is computed): any file that ends so counts,
            # the importer's own name excepted ("__file__"-like self references say nothing).
            name = wanted.rpartition("/")[2]
            candidates = [path for path in self._by_name.get(name, ()) if f"/{path}".endswith(f"/{wanted}")]
            if not candidates and "/" in wanted:
                candidates = self._by_name.get(name, [])
            if len(candidates) > 1 and "/" not in wanted:
                near = [path for path in candidates if path.rpartition("/")[0] == importer.rpartition("/")[0]]
                candidates = near or candidates
            found += [node_of(path) for path in candidates]
        return found


class DictModules:
    """Module names in memory, with the two questions of :class:`.resolve.Resolver`."""

    def __init__(self, modules: dict[str, list[Definer]]) -> None:
        self._modules = modules
        self._sorted: list[str] | None = None

    def get(self, name: str) -> list[Definer]:
        return self._modules.get(name) or []

    def below(self, package: str) -> Sequence[str]:
        from bisect import bisect_left

        if self._sorted is None:
            self._sorted = sorted(self._modules)
        # "." sorts before every character of an identifier, and "/" is the next character after it.
        return self._sorted[
            bisect_left(self._sorted, package + ".") : bisect_left(self._sorted, package + "/")
        ]


def save(folder: str, sections: Mapping[str, bytes], anchor: str, config: str) -> bool:
    path = cachefile.name(folder, "graph", f"{anchor}-{config}")
    written = cachefile.write(path, sections)
    if written:
        cachefile.prune(folder, "graph", keep=4)
    return written


def _getter(ids: Mapping[str, int]) -> Callable[[str], int]:
    get = ids.get
    return lambda path: get(path, -1)


def _pack_modules(modules: Mapping[str, list[Definer]]) -> dict[str, bytes]:
    roots: dict[str, int] = {}
    names, blob, offsets = StringTable.pack(modules)
    rows = [
        [
            number
            for node, root, loose in modules[name]
            for number in (node, roots.setdefault(root, len(roots)), loose)
        ]
        for name in names
    ]
    row_offsets, values = Lists.pack(rows)
    return {
        "modules": blob,
        "modules.offsets": offsets,
        "definers": values,
        "definers.offsets": row_offsets,
        "modules.roots": marshal.dumps(list(roots)),
    }


def _pack_mentions(mentions: Mapping[str, list[int]]) -> dict[str, bytes]:
    names, blob, offsets = StringTable.pack(mentions)
    row_offsets, values = Lists.pack([mentions[name] for name in names])
    return {"names": blob, "names.offsets": offsets, "mentions": values, "mentions.offsets": row_offsets}


class InMemory(CacheFile):
    """Sections that are not in a file (yet): the cache cannot be written, or is not wanted."""

    def __init__(self, sections: Mapping[str, bytes]) -> None:
        self._sections = sections

    def section(self, name: str) -> memoryview:
        return memoryview(self._sections[name])
