"""The import graph of a change: a snapshot, with the files that differ from it laid over.

An edge runs from a file to each file it depends on. For a file that differs between the base and the head, the
edges of both states count: what the old state reached may break as well as what the new one reaches.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from greenline.depgraph.layout import ModuleName
from greenline.depgraph.linking import CONFTEST, TEST, Linker
from greenline.depgraph.resolve import Definer, Modules
from greenline.depgraph.scan import Facts
from greenline.depgraph.snapshot import Snapshot
from greenline.depgraph.suites import Suite, SuiteIndex


class Version(NamedTuple):
    """A file that differs from the snapshot: the facts of its states at base and head that exist."""

    path: str
    facts: tuple[Facts, ...]
    link: str = ""


class Graph:
    """Nodes are ids of files; ids from ``len(snapshot.paths)`` on are files that the snapshot does not have."""

    def __init__(
        self,
        snapshot: Snapshot,
        versions: Sequence[Version] = (),
        suites: Sequence[Suite] | None = None,
        cut: Callable[[str, str], bool] | None = None,
    ) -> None:
        """``suites``: those of the head where they are not the snapshot's; ``cut``: edges to leave out."""
        self.snapshot = snapshot
        self.suites = SuiteIndex(snapshot.suites if suites is None else suites)
        self.layout = snapshot.layout
        self._added: list[str] = []
        self._ids: dict[str, int] = {}
        self._flags: dict[int, int] = {}
        self._dependencies: dict[int, set[int]] = {}
        self._importers: dict[int, list[int]] = {}
        self._names: dict[str, list[Definer]] = {}
        self._mentions: dict[str, list[int]] = {}
        self._cut = cut
        if versions:
            self._lay_over(versions)
        if suites is not None:
            self._judge_tests_again()

    # -- nodes -------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.snapshot.paths) + len(self._added)

    def node(self, path: str) -> int:
        """The node of a path, or -1."""
        known = self._ids.get(path)
        if known is None:
            known = self._ids[path] = self.snapshot.paths.index(path)
        return known

    def path(self, node: int) -> str:
        count = len(self.snapshot.paths)
        return self.snapshot.paths[node] if node < count else self._added[node - count]

    def flags(self, node: int) -> int:
        flags = self._flags.get(node)
        return self.snapshot.flags[node] if flags is None else flags

    def with_flag(self, bit: int) -> list[int]:
        """Every node whose flags have one of these bits."""
        flags = self.snapshot.flags
        old = [node for node in range(len(flags)) if flags[node] & bit and node not in self._flags]
        return old + [node for node, value in self._flags.items() if value & bit]

    def below(self, folder: str) -> list[int]:
        """Every node in a folder ("" for all)."""
        if not folder:
            return list(range(len(self)))
        found = list(self.snapshot.paths.between(folder + "/", folder + "0"))
        start = len(self.snapshot.paths)
        return found + [start + at for at, path in enumerate(self._added) if path.startswith(folder + "/")]

    # -- edges -------------------------------------------------------------------------------------------

    def importers(self, node: int) -> list[int]:
        """The files that depend on this one directly."""
        found = []
        if node < len(self.snapshot.paths):
            relaid = self._dependencies
            found = [importer for importer in self.snapshot.importers[node] if importer not in relaid]
        return found + self._importers.get(node, [])

    def dependents(self, seeds: Iterable[int], stops: Collection[int] = ()) -> set[int]:
        """Everything that depends on a seed, directly or not, the seeds included.

        ``stops`` are reached, but what depends on them is not reached through them unless they are seeds.
        """
        lists, count = self.snapshot.importers, len(self.snapshot.paths)
        relaid = self._dependencies.keys()
        seen = set(seeds)
        front = set(seen)
        while front:
            reached: set[int] = set().union(*[lists[node] for node in front if node < count])
            reached.difference_update(relaid)
            for node in front & self._importers.keys():
                reached.update(self._importers[node])
            front = reached - seen
            seen |= front
            front.difference_update(stops)
        return seen

    def chains(self, seeds: Iterable[int], stops: Collection[int] = ()) -> dict[int, int]:
        """Like :meth:`dependents`: each node → the node through which a shortest chain reaches it (a seed: itself)."""
        through = {seed: seed for seed in sorted(set(seeds))}
        front = list(through)
        while front:
            reached = []
            for node in front:
                for importer in sorted(self.importers(node)):
                    if importer not in through:
                        through[importer] = node
                        if importer not in stops:
                            reached.append(importer)
            front = reached
        return through

    def dependency_lists(self) -> list[list[int]]:
        """For every node the nodes it depends on: the whole graph, the other way round."""
        found: list[list[int]] = [[] for _ in range(len(self))]
        for node in range(len(self)):
            for importer in self.importers(node):
                found[importer].append(node)
        return found

    # -- names -------------------------------------------------------------------------------------------

    def mentioning(self, name: str) -> set[int]:
        """Files that mention a dotted name, something below it, or the whole of a package above it."""
        found = self._old_mentions(name).difference(self._dependencies)
        for mention, nodes in self._mentions.items():
            whole = mention[-2:] == ".*" and name.startswith(mention[:-1])
            if whole or mention == name or mention.startswith(name + "."):
                found.update(nodes)
        return found

    def mentioning_part(self, part: str) -> set[int]:
        """Files that mention any dotted name with this part."""
        found = self.snapshot.mentioning_part(part).difference(self._dependencies)
        for mention, nodes in self._mentions.items():
            if f".{part}." in f".{mention}.":
                found.update(nodes)
        return found

    def modules(self) -> Modules:
        """Module names and the nodes that define them."""
        return _Overlaid(self.snapshot.modules(), self._names)

    def dependencies(self, path: str, facts: Facts) -> set[int]:
        """The nodes that a file with these facts depends on."""
        return self._linker().link(path, facts).targets

    def _linker(self) -> Linker:
        paths = (self.path(node) for node in range(len(self)))
        return Linker(self.layout, self.modules(), self.node, self.suites, paths, self._cut, self.path)

    def names(self, path: str) -> list[ModuleName]:
        return self.layout.names(path)

    # -- laying over -------------------------------------------------------------------------------------

    def _lay_over(self, versions: Sequence[Version]) -> None:
        added = [version.path for version in versions if self.node(version.path) < 0]
        for path in added:
            self._ids[path] = len(self)
            self._added.append(path)
        new_names = self._new_names(added)
        for node, (name, root, loose) in new_names:
            self._names.setdefault(name, []).append(Definer(node, root, loose))
        linker = self._linker()
        for version in versions:
            self._lay_file(version, linker)
        # Files that did not change depend on a new module as soon as they mention its name.
        for node, (name, _, _) in new_names:
            self._add_importers(node, self._old_mentions(name))
        for path in added:
            node, (folder, _, file) = self._ids[path], path.rpartition("/")
            if file == "conftest.py":
                tests = (other for other in self.below(folder) if self.flags(other) & (TEST | CONFTEST))
                self._add_importers(node, tests)
            elif file == "__init__.py":
                self._add_importers(node, self.below(folder))

    def _judge_tests_again(self) -> None:
        """The configuration of pytest changed: what is a test file follows the head's suites."""
        for node in range(len(self)):
            flags = self.flags(node)
            self._flags[node] = flags | TEST if self.suites.is_test_file(self.path(node)) else flags & ~TEST

    def _new_names(self, added: Sequence[str]) -> list[tuple[int, ModuleName]]:
        """The names that the added files bring: their own, and those of the files of a folder that became a package."""
        folders = [path.rpartition("/")[0] for path in added if path.endswith("/__init__.py")]
        old_layout = self.layout
        if folders:
            self.layout = old_layout.with_packages(folders)
        found = [(self._ids[path], name) for path in added for name in self.layout.names(path)]
        for folder in folders:
            for node in self.below(folder):
                path = self.path(node)
                if path not in added:
                    known = set(old_layout.names(path))
                    found += [(node, name) for name in self.layout.names(path) if name not in known]
        return found

    def _lay_file(self, version: Version, linker: Linker) -> None:
        """The links of both of a file's states count."""
        path, node = version.path, self.node(version.path)
        links = [linker.link(path, facts, version.link) for facts in version.facts]
        self._dependencies[node] = set().union(*(link.targets for link in links))
        self._flags[node] = 0
        for link in links:
            self._flags[node] |= link.flags
        for target in sorted(self._dependencies[node]):
            self._importers.setdefault(target, []).append(node)
        for name in dict.fromkeys(name for link in links for name in link.names):
            self._mentions.setdefault(name, []).append(node)

    def _old_mentions(self, name: str) -> set[int]:
        """Unchanged files that mention a name, something below it, or the whole of a package above it."""
        found = self.snapshot.mentioning(name)
        parent = name.rpartition(".")[0]
        while parent:
            found |= self.snapshot.mentioning(parent + ".*", below=False)
            parent = parent.rpartition(".")[0]
        return found

    def _add_importers(self, node: int, importers: Iterable[int]) -> None:
        known = self._importers.setdefault(node, [])
        for importer in sorted(set(importers).difference(known, self._dependencies, (node,))):
            if self._cut is None or not self._cut(self.path(importer), self.path(node)):
                known.append(importer)


class _Overlaid:
    """The snapshot's modules and those of added files, as one."""

    def __init__(self, old: Modules, new: Mapping[str, list[Definer]]) -> None:
        self._old = old
        self._new = new

    def get(self, name: str) -> list[Definer]:
        return [*self._old.get(name), *self._new.get(name, ())]

    def below(self, package: str) -> list[str]:
        new = [name for name in self._new if name.startswith(package + ".")]
        return sorted({*self._old.below(package), *new})
