"""One state of the repository as the detector reads it: files by path, and modules parsed when they are asked for.

The four states of a merge (base, ours, theirs, merged) share nearly all blobs, so what is read and parsed is kept by
object id and serves all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from typing import Any

from greenline.depgraph import blocks
from greenline.depgraph.factstore import FactStore, Job, scan_version
from greenline.depgraph.fixtures import FileFixtures, read_fixtures
from greenline.depgraph.layout import Layout
from greenline.depgraph.resolve import Resolver, absolute
from greenline.depgraph.scan import Facts
from greenline.depgraph.snapshot import DictModules
from greenline.depgraph.suites import SuiteIndex
from greenline.depgraph.workspace import Entry, Workspace
from greenline.rules.conflicts.kept import Kept
from greenline.rules.conflicts.modules import Module

WORK = "work tree"
"""Stands for the work tree where a commit or tree is asked for."""
IN_WORK = "work:"
"""Before a path: the object id of a file as it lies in the work tree."""


FEW = 100
"""Files that are scanned faster than everything is read that was kept of others."""


class Blobs:
    """Blobs by object id, through one running git, and what they say; use it as a context manager."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._process = workspace.start("cat-file", "--batch", stdin=True)
        self._known: dict[str, bytes | None] = {}
        self._modules: dict[tuple[str, str], Module | None] = {}
        self._lines: dict[tuple[str, str], list[str]] = {}
        self._fixtures: dict[tuple[object, ...], FileFixtures] = {}
        self._kept = Kept(workspace.cache)

    def __enter__(self) -> Blobs:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()
        self._kept.save()

    def read(self, oid: str) -> bytes | None:
        """The blob, or None when it is not in this clone."""
        if oid not in self._known:
            self._known[oid] = self.read_once(oid)
        return self._known[oid]

    def read_once(self, oid: str) -> bytes | None:
        """The same for one that is not asked for again."""
        if oid.startswith(IN_WORK):
            return self._workspace.read(oid.removeprefix(IN_WORK))
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin and stdout
        stdin.write(oid.encode() + b"\n")
        stdin.flush()
        header = stdout.readline().split()
        if len(header) != 3:
            return None
        data = stdout.read(int(header[2]))
        stdout.read(1)
        return data if header[1] == b"blob" else None

    def facts(self, kind: str, oids: tuple[str, ...], find: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
        """What ``find`` says of these blobs, from an earlier run where it was asked before."""
        if any(oid.startswith(IN_WORK) for oid in oids):
            return find()
        return self._kept.facts(" ".join((kind, *oids)), find)

    def facts_of(self, kind: str, oid: str, find: Callable[[bytes], tuple[str, ...]]) -> tuple[str, ...]:
        """The same of the content of one blob."""
        return self.facts(kind, (oid,), lambda: find(self.read_once(oid) or b""))

    def fixtures(self, oid: str, names: tuple[tuple[str, ...], ...]) -> FileFixtures:
        """What a blob defines and requests, as pytest sees it; ``names``: see :func:`.fixtures.read_fixtures`."""
        key = (oid, *names)
        if key not in self._fixtures:
            kind = f"fixtures {names}"
            facts = self.facts(kind, (oid,), lambda: read_fixtures(self.read(oid) or b"", *names).to_tuples())
            self._fixtures[key] = FileFixtures.from_tuples(facts)
        return self._fixtures[key]

    def scanned(self, files: Mapping[str, str]) -> dict[str, Facts]:
        """What the scanner says of Python files: path → object id in, path → facts out."""
        store = FactStore(self._workspace.cache)
        if len(files) > FEW:
            store.load_packs()
        kept = [path for path, oid in files.items() if not oid.startswith(IN_WORK)]
        jobs = [Job(files[path], path) for path in kept]
        known = store.facts(jobs, lambda share: self._workspace.read_blobs([job.oid for job in share]))
        here = {path: scan_version(self.read(oid), path) for path, oid in files.items() if oid.startswith(IN_WORK)}
        return dict(zip(kept, known, strict=True)) | here

    def grep(self, tree: str, word: str) -> list[str]:
        """The files of a tree, or of the work tree, that contain a fixed string."""
        if tree == WORK:
            return self._workspace.grep((word,), ("*",))
        found = self._workspace.git("grep", "-lzF", "-e", word, tree, ok=(0, 1))
        return sorted(path.partition(":")[2] for path in found.split("\0")[:-1])

    def grep_lines(self, tree: str, pattern: str) -> list[str]:
        """The lines of the Python files of a tree, or of the work tree, that match an extended expression."""
        if (tree, pattern) in self._lines:
            return self._lines[tree, pattern]
        where = ("--untracked",) if tree == WORK else ()
        names = () if tree == WORK else (tree,)
        found = self._workspace.git("grep", "-hE", *where, "-e", pattern, *names, "--", "*.py", ok=(0, 1))
        self._lines[tree, pattern] = found.splitlines()
        return self._lines[tree, pattern]

    def module(self, path: str, oid: str) -> Module | None:
        """The module that a blob is at this path; None for one that is missing or that Python cannot read."""
        if (path, oid) not in self._modules:
            data = self.read(oid)
            parsed = None if data is None else blocks.parse(data)
            self._modules[path, oid] = None if parsed is None or data is None else Module(path, parsed, data)
        return self._modules[path, oid]


class Tree:
    """A commit or a merged tree. ``name``: its object id; ``files``: path → object id of its regular files."""

    def __init__(self, name: str, files: Mapping[str, str], layout: Layout, suites: SuiteIndex, blobs: Blobs) -> None:
        self.name = name
        self.files = files
        self.suites = suites
        self.blobs = blobs
        packages = {path.removesuffix("/__init__.py") for path in files if path.endswith("/__init__.py")}
        self.layout = layout.with_packages(packages - layout.own_packages, layout.own_packages - packages)
        self._paths = sorted(path for path in files if path.endswith(".py"))
        self._resolver = Resolver(DictModules(self._paths, self.layout))
        self._stand_ins: list[list[str]] | None = None

    def holding(self, path: str, oid: str) -> Tree:
        """The same tree with another content of one file."""
        other = copy(self)
        other.files = {**self.files, path: oid}
        return other

    def read(self, path: str) -> bytes | None:
        """A file's bytes; None if it is not there."""
        oid = self.files.get(path)
        return None if oid is None else self.blobs.read(oid)

    def grep(self, word: str) -> list[str]:
        """Files that contain a fixed string, sorted."""
        return self.blobs.grep(self.name, word)

    def grep_lines(self, pattern: str) -> list[str]:
        """Lines of Python files that match an extended regular expression."""
        return self.blobs.grep_lines(self.name, pattern)

    def stand_ins(self, find: Callable[[bytes], tuple[str, ...]]) -> list[list[str]]:
        """What ``find`` says of all Python files, as lists of words."""
        if self._stand_ins is None:
            every = {self.files[path] for path in self._paths}
            facts = [self.blobs.facts_of("stand-ins", oid, find) for oid in every]
            self._stand_ins = [line.split() for each in facts for line in each]
        return self._stand_ins

    def module(self, path: str) -> Module | None:
        """A Python file read as a module; None if it is not there or cannot be parsed."""
        oid = self.files.get(path)
        return self.blobs.module(path, oid) if oid and path.endswith(".py") else None

    def kept(
        self, kind: str, path: str, find: Callable[[Module], Iterable[tuple[Any, ...]]]
    ) -> tuple[tuple[Any, ...], ...]:
        """What ``find`` says of a module, from its path and content alone, as tuples of plain values; () for none."""
        oid = self.files.get(path)
        if oid is None:
            return ()

        def find_here() -> tuple[tuple[Any, ...], ...]:
            module = self.module(path)
            return tuple(map(tuple, find(module))) if module else ()

        return self.blobs.facts(f"{kind} {path}", (oid,), find_here)

    def find(self, name: str, importer: str) -> tuple[str, ...]:
        """The files that module ``name`` may mean for a file; relative names start with dots."""
        found: list[str] = []
        for full in absolute(name, self.layout.package_of(importer)):
            found += [self._paths[node] for node in self._resolver.visible(full, importer.rpartition("/")[0])]
        return tuple(dict.fromkeys(found))

    def is_package(self, name: str, importer: str) -> bool:
        """Whether modules lie below this name, with an ``__init__.py`` or without."""
        names = absolute(name, self.layout.package_of(importer))
        return any(self._resolver.modules.below(full) for full in names)

    def dotted(self, path: str) -> str:
        """The shortest module name of a file that code outside its folder uses."""
        names = self.layout.names(path)
        firm = [each.name for each in names if not each.loose] or [each.name for each in names]
        return min(firm, key=len, default=path)


def files_of(entries: list[Entry]) -> dict[str, str]:
    """Path → object id of the regular files among a commit's entries."""
    return {entry.path: entry.oid for entry in entries if entry.mode.startswith("100")}
