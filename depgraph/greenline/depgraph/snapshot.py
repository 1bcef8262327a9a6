"""The import graph of one commit, built once and kept as one immutable file.

A snapshot never changes: later states of the repository are laid over it (:mod:`.graph`). Its tables:

``paths``      node id → path, sorted: every Python file and notebook of the commit
``flags``      node id → bits of :data:`.linking.TEST` …
``importers``  node id → node ids whose code depends on it (see :mod:`.linking`)
``modules``    module name → the files that define it, as (node, index into ``roots``, loose)
``mentions``   name that some file imports or spells in a string → node ids of those files; ``a.b.*`` stands for
               "whatever is in the package a.b", ``@slow`` for the pytest mark, ``/run.py`` for a file; external names
               ("numpy.linalg") are among them
"""

from __future__ import annotations

import marshal
from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from greenline.depgraph import cachefile
from greenline.depgraph.cachefile import CacheFile
from greenline.depgraph.layout import Layout, is_code
from greenline.depgraph.linking import GLOBS, Link
from greenline.depgraph.resolve import Definer
from greenline.depgraph.suites import Suite
from greenline.depgraph.tables import Lists, StringTable, encode

MOST_LINKS = 40
"""Symbolic links on the way to a file; beyond, it is a loop."""


class Meta(NamedTuple):
    """What a snapshot knows besides its tables. Only tuples, text and numbers."""

    anchor: str  # commit id
    config: str  # digest of what in the configuration shapes the graph
    packages: tuple[str, ...]
    roots: tuple[str, ...]
    entry_points: tuple[tuple[str, tuple[str, ...]], ...]
    scripts: tuple[tuple[str, str], ...]
    links: tuple[tuple[str, str], ...]  # symbolic links that stay in the repository: link → target
    configs: tuple[tuple[str, bytes], ...]  # files that may configure pytest
    suites: tuple[tuple[object, ...], ...]  # as they are configured
    settled: tuple[tuple[object, ...], ...]  # as the commit's files settle them: see SuiteIndex.settled()
    generators: tuple[str, ...]  # files that others are generated from (*.proto)
    suite_errors: tuple[str, ...]  # pytest configuration files that could not be read, and why
    replaced: bool  # whether configuration that is not committed holds instead of the commit's


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
        self.configured = [Suite(*values) for values in self.meta.suites]  # type: ignore[arg-type]
        self.suites = [Suite(*values) for values in self.meta.settled]  # type: ignore[arg-type]
        meta = self.meta
        aliases = folders_among(dict(meta.links))
        self.layout = Layout(meta.packages, meta.roots, dict(meta.entry_points), dict(meta.scripts), aliases)
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

    def with_glob_for(self, file_name: str) -> set[int]:
        """Files that mention a glob which the name of a file matches."""
        self.mentioning("")
        assert self._mentions is not None
        names, lists = self._mentions
        found: set[int] = set()
        for index in names.between(GLOBS, GLOBS[:-1] + chr(ord(GLOBS[-1]) + 1)):
            if fnmatchcase(file_name, names[index].removeprefix(GLOBS)):
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


def folders_among(links: Mapping[str, str]) -> dict[str, str]:
    """The symbolic links that do not look like modules: link → what it leads to in the end."""
    found = {link: follow(target, links) for link, target in links.items() if not is_code(link)}
    return {link: target for link, target in found.items() if target}


def follow(path: str, links: Mapping[str, str]) -> str:
    """The path without symbolic links on its way; "" for a loop."""
    for _ in range(MOST_LINKS):
        before = path
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            target = links.get("/".join(parts[:count]))
            if target is not None:
                path = "/".join([target, *parts[count:]])
                break
        if path == before:
            return path
    return ""


Row = tuple[int, bytes, str]
"""A file's flags, the node ids that it depends on (32-bit numbers), and the names that it mentions, a line each."""


def row_of(link: Link) -> Row:
    return link.flags, array("I", link.targets).tobytes(), "\n".join(link.names)


class DictModules:
    """Module names in memory, with the two questions of :class:`.resolve.Resolver`."""

    def __init__(self, paths: Sequence[str], layout: Layout) -> None:
        self.definers: dict[str, list[Definer]] = {}
        for node, path in enumerate(paths):
            for name, root, loose in layout.names(path):
                self.definers.setdefault(name, []).append(Definer(node, root, loose))
        self._sorted: list[str] | None = None

    def get(self, name: str) -> Sequence[Definer]:
        return self.definers.get(name, ())

    def below(self, package: str) -> Sequence[str]:
        if self._sorted is None:
            self._sorted = sorted(self.definers)
        # "." sorts before every character of an identifier, and "/" is the next character after it.
        return self._sorted[bisect_left(self._sorted, package + ".") : bisect_left(self._sorted, package + "/")]


def build(meta: Meta, paths: Sequence[str], modules: DictModules, rows: Sequence[Row]) -> dict[str, bytes]:
    """The sections of a snapshot file. ``paths`` are sorted by their bytes, ``rows`` in the same order."""
    flags = array("H", bytes(2 * len(paths)))
    importers: list[list[int]] = [[] for _ in paths]
    mentions: dict[str, list[int]] = {}
    for node, (bits, targets, names) in enumerate(rows):
        flags[node] = bits
        for target in array("I", targets):
            importers[target].append(node)
        for name in names.split("\n") if names else ():
            known = mentions.get(name)
            if known is None:
                mentions[name] = [node]
            else:
                known.append(node)
    _, path_blob, path_offsets = StringTable.pack(paths)
    importer_offsets, importer_values = Lists.pack(importers)
    plain_meta: Any = tuple(meta)  # marshal takes no named tuples
    sections = {
        "meta": marshal.dumps(plain_meta),
        "paths": path_blob,
        "paths.offsets": path_offsets,
        "flags": flags.tobytes(),
        "importers": importer_values,
        "importers.offsets": importer_offsets,
    }
    return sections | _pack_modules(modules.definers) | _pack_mentions(mentions)


def file_name(folder: str, anchor: str, config: str) -> str:
    return cachefile.name(folder, "graph", f"{anchor}-{config}")


def save(folder: str, sections: Mapping[str, bytes], anchor: str, config: str) -> bool:
    path = file_name(folder, anchor, config)
    written = cachefile.write(path, sections)
    if written:
        cachefile.prune(folder, "graph", keep=4)
    return written


def _pack_modules(modules: Mapping[str, list[Definer]]) -> dict[str, bytes]:
    roots: dict[str, int] = {}
    names, blob, offsets = StringTable.pack(modules)
    rows = [
        [number for node, root, loose in modules[name] for number in (node, roots.setdefault(root, len(roots)), loose)]
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
