"""From the facts of one file to its node in the graph: flags, what it depends on, and the names that it mentions."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from greenline.depgraph.factstore import DOCTESTS, UNREADABLE
from greenline.depgraph.layout import Layout
from greenline.depgraph.resolve import Modules, Resolver, absolute, parents
from greenline.depgraph.scan import Facts
from greenline.depgraph.suites import SuiteIndex

TEST, CONFTEST, ALWAYS, BROKEN, SOURCE_READER, DOC_READER, DYNAMIC, LOCAL, SOURCE_LISTER, HAS_DOCTESTS, UNKNOWN = (
    1 << bit for bit in range(11)
)
"""Bits of a node's flags: a test file, a conftest.py, has an always-run marker, facts are a superset, reads source
code or docstrings at run time, imports names that no text in it can tell, imports inside functions, looks for *.py
files, holds a doctest, cannot be read."""

_FLAG_OF_FACT = (
    (Facts.ALWAYS_RUN, ALWAYS),
    (Facts.BROKEN, BROKEN),
    (Facts.READS_SOURCE, SOURCE_READER),
    (Facts.READS_DOCS, DOC_READER),
    (Facts.UNKNOWN_DYNAMIC, DYNAMIC),
    (Facts.LISTS_SOURCE, SOURCE_LISTER),
    (DOCTESTS, HAS_DOCTESTS),
    (UNREADABLE, UNKNOWN),
)
MOST_PAIRS = 400
"""Of a relative and an absolute string of one file that may belong together; beyond, only import statements count."""


class Link(NamedTuple):
    """A file's place in the graph. ``targets``: node ids it depends on; ``names``: what it mentions."""

    flags: int
    targets: set[int]
    names: list[str]


class Linker:
    """Links files into one graph.

    ``node_of`` gives a path's node, or -1; ``paths`` all paths, asked for only when a script is named by its path;
    ``cut(importer, imported)`` tells which edges to leave out.
    """

    def __init__(
        self,
        layout: Layout,
        modules: Modules,
        node_of: Callable[[str], int],
        suites: SuiteIndex,
        paths: Iterable[str],
        cut: Callable[[str, str], bool] | None,
        path_of: Callable[[int], str],
    ) -> None:
        self.layout = layout
        self.resolver = Resolver(modules)
        self.suites = suites
        self._node_of = node_of
        self._path_of = path_of
        self._scripts = _ScriptPaths(paths)
        self._cut = cut
        self._are_tests: dict[int, bool] = {}

    def link(self, path: str, facts: Facts, target_of_link: str = "") -> Link:
        """One file; ``target_of_link``: for a symbolic link, the file that it leads to."""
        names = self.names(path, facts)
        flags = file_flags(path, facts, self.suites)
        folder = path.rpartition("/")[0]
        targets: set[int] = set()
        for name in names:
            if name[-2:] == ".*":
                targets.update(self._whole_package(name[:-2], folder))
            else:
                targets.update(self.resolver.targets(name, folder))
        node_of = self._node_of
        targets.update([node_of(parent) for parent in parents(path, self.layout)])
        if facts.path:
            targets.update(self._scripts.nodes(facts.script_paths(), path, node_of))
        if target_of_link:
            targets.add(node_of(target_of_link))
        if flags & (TEST | CONFTEST):
            targets.add(nearest_conftest(path, node_of, self.suites))
        targets -= {-1, node_of(path)}
        if self._cut is not None:
            targets = {target for target in targets if not self._cut(path, self._path_of(target))}
        names += [f"@{mark}" for mark in facts.marks()]
        names += [spelled_name(spelled) for spelled in facts.script_paths()]
        return Link(flags, targets, list(dict.fromkeys(names)))

    def _whole_package(self, package: str, folder: str) -> list[int]:
        """Every module of a package but test files: nothing loads those by convention or by a computed name."""
        known = self._are_tests
        found = []
        for node in self.resolver.below(package, folder):
            is_test = known.get(node)
            if is_test is None:
                path = self._path_of(node)
                is_test = known[node] = self.suites.is_test_file(path) and not self.suites.only_doctests(path)
            if not is_test:
                found.append(node)
        return found

    def names(self, path: str, facts: Facts) -> list[str]:
        """The absolute names that count for a file's dependencies, ``a.b.*`` for a whole package."""
        names: list[str] = []
        packages = self.layout.package_of(path)
        for name in facts.runtime_names():
            if name[-1] == "*":  # what a star import takes are names of that module, not modules below it
                name = name[:-2] if name.strip(".*") else name[:-1]
            if name[0] == ".":
                names += absolute(name, packages)
            else:
                names.append(name)
        for prefix in facts.prefixes():
            names += [f"{name}.*" for name in absolute(prefix, packages)]
        for name in facts.relative_strings():
            names += absolute("." + name, packages)
        if facts.string:
            names += self._names_by_convention(facts)
        for group in facts.entry_point_groups():
            groups = self.layout.entry_points if group == "*" else [group]
            names += [module for each in groups for module in self.layout.entry_points.get(each, ())]
        scripts = self.layout.scripts
        names += [scripts[command] for command in facts.commands() if command in scripts] if scripts else []
        return names

    def _names_by_convention(self, facts: Facts) -> list[str]:
        """What strings mean besides the modules that they spell."""
        strings = facts.string.split()
        full = [name for name in strings if name[0] != "."]
        # "python -m a.b" runs a.b.__main__ where a.b is a package.
        names = [f"{name}.__main__" for name in full]
        # import_module(".mail", package="app.handlers"): the package is some other string of the file.
        relative = [name.strip(".") for name in strings if name[0] == "." and name.strip(".")]
        if len(relative) * len(full) <= MOST_PAIRS:
            names += [f"{package}.{name}" for package in full for name in relative]
        if facts.flags & Facts.AUTODISCOVERS:
            names += [f"{package}.tasks" for package in full]
            if len(full) ** 2 <= MOST_PAIRS:  # autodiscover_tasks(["shop"], related_name="jobs")
                names += [f"{package}.{name}" for package in full for name in full if "." not in name]
        if facts.flags & Facts.INSTALLS_APPS:
            names += [f"{name}.*" for name in full]
        return names


def file_flags(path: str, facts: Facts, suites: SuiteIndex) -> int:
    """The flags of a file's node."""
    flags = LOCAL if facts.function else 0
    if is_test_file(path, facts.flags & DOCTESTS != 0, suites):
        flags |= TEST
    if path.endswith("conftest.py") and path.rpartition("/")[2] == "conftest.py":
        flags |= CONFTEST
    if facts.flags:
        for fact, flag in _FLAG_OF_FACT:
            if facts.flags & fact:
                flags |= flag
    return flags


def is_test_file(path: str, has_doctests: bool, suites: SuiteIndex) -> bool:
    """Whether pytest would collect the file and look into it."""
    return suites.is_test_file(path) and (has_doctests or not suites.only_doctests(path))


def nearest_conftest(path: str, node_of: Callable[[str], int], suites: SuiteIndex) -> int:
    """The conftest.py that applies to a test file, or the next outer one for a conftest.py; -1 if there is none.

    The outer ones follow, because each conftest.py depends on the next.
    """
    folder, _, file = path.rpartition("/")
    limit = suites.conftest_limit(folder)
    while True:
        if file != "conftest.py":
            node = node_of(f"{folder}/conftest.py" if folder else "conftest.py")
            if node >= 0:
                return node
        if folder == limit or not folder:
            return -1
        folder, file = folder.rpartition("/")[0], ""


GLOBS = "/*"
"""What the mentioned globs of file names start with."""


def spelled_name(path: str) -> str:
    """How the mention of a file by its path is noted: "/run.py", or after GLOBS a glob for names."""
    name = _plain(path).rpartition("/")[2]
    return (GLOBS if "*" in name else "/") + name


def _plain(path: str) -> str:
    return path.replace("\\", "/").lstrip("./")


class _ScriptPaths:
    """Finds files by the paths that strings spell: ``"scripts/run.py"``, relative to the repository or the file."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = paths
        self._by_name: dict[str, list[str]] | None = None

    def nodes(self, spelled: Iterable[str], importer: str, node_of: Callable[[str], int]) -> list[int]:
        if self._by_name is None:
            self._by_name = {}
            for path in self._paths:
                self._by_name.setdefault(path.rpartition("/")[2], []).append(path)
        found = []
        for text in spelled:
            wanted = _plain(text)
            if "*" in wanted:
                found += [node_of(path) for path in self._matching(wanted, importer)]
                continue
            # Only the last parts of a path may be spelled, the folder being computed: any file that ends so counts.
            same_name = self._by_name.get(wanted.rpartition("/")[2], [])
            candidates = [path for path in same_name if f"/{path}".endswith(f"/{wanted}")] or same_name
            if len(candidates) > 1 and "/" not in wanted:
                folder = importer.rpartition("/")[0]
                candidates = [path for path in candidates if path.rpartition("/")[0] == folder] or candidates
            found += [node_of(path) for path in candidates]
        return found

    def _matching(self, glob: str, importer: str) -> list[str]:
        """Files that a glob means: with a folder, wherever that is; without, beside the importer ("*.py": nothing,
        that is for those who look for source files at large)."""
        folder, _, name = glob.rpartition("/")
        if not name.strip("*").removesuffix(".py"):
            return []
        if folder.strip("*/"):
            pattern = fnmatch.translate(f"*/{glob}")
        else:  # the importer's folder is no glob, whatever its name
            beside = importer.rpartition("/")[0]
            pattern = re.escape(f"/{beside}/" if beside else "/") + fnmatch.translate(name)
        match = re.compile(pattern).match
        assert self._by_name is not None
        return [path for paths in self._by_name.values() for path in paths if match(f"/{path}")]
