"""The import graph of a change: a snapshot, with the files that differ from it laid over.

An edge runs from a file to each file it depends on. For a file that differs between the base and the head, the
edges of both states count: what the old state reached may break as well as what the new one reaches.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from greenline.depgraph.layout import ModuleName
from greenline.depgraph.linking import CONFTEST, HAS_DOCTESTS, TEST, Link, Linker, is_test_file, nearest_conftest
from greenline.depgraph.resolve import Definer, Modules, Resolver, parents
from greenline.depgraph.scan import Facts
from greenline.depgraph.snapshot import Snapshot
from greenline.depgraph.suites import Suite, SuiteIndex
from greenline.depgraph.tables import encode


class Version(NamedTuple):
    """One state of a file that is laid over: its facts, and for a symbolic link the file that it leads to."""

    path: str
    facts: Facts
    end: str = ""


class Graph:
    """Nodes are ids of files; ids from ``len(snapshot.paths)`` on are files that the snapshot does not have.

    Whatever snapshot it is laid over, the graph of a change is the same: :meth:`stale` tells which files must be laid
    over besides those that differ.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        added: Collection[str] = (),
        gone: Collection[str] = (),
        suites: Sequence[Suite] | None = None,
        cut: Callable[[str, str], bool] | None = None,
    ) -> None:
        """``added``: files that the snapshot does not have; ``gone``: its files that neither base nor head has;
        ``suites``: those of the head where they are not the snapshot's; ``cut``: edges to leave out."""
        self.snapshot = snapshot
        self.suites = SuiteIndex(snapshot.suites if suites is None else suites)
        self._cut = cut
        self._linker: Linker | None = None
        self._count = len(snapshot.paths)
        self._added = sorted(added, key=encode)
        self._ranks = [snapshot.paths.position(path) - 0.5 for path in self._added]
        self._gone = {snapshot.paths.index(path): path for path in gone}
        self._ids = {path: self._count + at for at, path in enumerate(self._added)} | dict.fromkeys(gone, -1)
        self._flags = dict.fromkeys(self._gone, 0)
        self._dependencies: dict[int, set[int]] = {node: set() for node in self._gone}
        self._importers: dict[int, list[int]] = {}
        self._mentions: dict[str, list[int]] = {}
        self.layout = snapshot.layout.with_packages(_packages(added), _packages(gone))
        self._repackaged = self._below_changed_packages()
        self._definers = self._changed_definers()
        if suites is not None:
            self._judge_tests_again()

    # -- nodes -------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._count + len(self._added)

    def nodes(self) -> Iterator[int]:
        """Every node, in the order of their paths."""
        order = sorted(range(len(self)), key=self._rank) if self._added else range(self._count)
        return (node for node in order if node not in self._gone)

    def _paths(self) -> Iterator[str]:
        yield from map(self.path, self.nodes())

    def _rank(self, node: int) -> float:
        """Orders nodes by their paths, whichever snapshot they come from."""
        return node if node < self._count else self._ranks[node - self._count]

    def node(self, path: str) -> int:
        """The node of a path, or -1."""
        known = self._ids.get(path)
        if known is None:
            known = self._ids[path] = self.snapshot.paths.index(path)
        return known

    def path(self, node: int) -> str:
        return self.snapshot.paths[node] if node < self._count else self._added[node - self._count]

    def flags(self, node: int) -> int:
        flags = self._flags.get(node)
        return self.snapshot.flags[node] if flags is None else flags

    def flags_of(self, path: str) -> int:
        """The flags of a path's node; 0 if there is none."""
        node = self.node(path)
        return self.flags(node) if node >= 0 else 0

    def with_flag(self, bit: int) -> list[int]:
        """Every node whose flags have one of these bits."""
        flags = self.snapshot.flags
        old = [node for node in range(len(flags)) if flags[node] & bit and node not in self._flags]
        return old + [node for node, value in self._flags.items() if value & bit]

    def below(self, folder: str) -> list[int]:
        """Every node in a folder ("" for all)."""
        if not folder:
            return list(self.nodes())
        old = self.snapshot.paths.between(folder + "/", folder + "0")
        new = (self._ids[path] for path in self._added if path.startswith(folder + "/"))
        return sorted({*old, *new}.difference(self._gone), key=self._rank)

    # -- edges -------------------------------------------------------------------------------------------

    def importers(self, node: int) -> list[int]:
        """The files that depend on this one directly."""
        found = []
        if node < self._count and node not in self._gone:
            relaid = self._dependencies
            found = [importer for importer in self.snapshot.importers[node] if importer not in relaid]
        return found + self._importers.get(node, [])

    def dependents(self, seeds: Iterable[int], stops: Collection[int] = ()) -> set[int]:
        """Everything that depends on a seed, directly or not, the seeds included.

        ``stops`` are reached, but what depends on them is not reached through them unless they are seeds.
        """
        lists, count = self.snapshot.importers, self._count
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
        rank = self._rank if self._added else None
        through = {seed: seed for seed in sorted(set(seeds), key=rank)}
        front = list(through)
        while front:
            reached = []
            for node in front:
                for importer in sorted(self.importers(node), key=rank):
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
        return _Overlaid(self.snapshot.modules(), self._definers)

    def dependencies(self, path: str, facts: Facts) -> set[int]:
        """The nodes that a file with these facts depends on."""
        return self.linker().link(path, facts).targets

    def linker(self) -> Linker:
        """Links files into this graph."""
        if self._linker is None:
            paths = (self.path(node) for node in range(len(self)))
            self._linker = Linker(self.layout, self.modules(), self.node, self.suites, paths, self._cut, self.path)
        return self._linker

    def names(self, path: str) -> list[ModuleName]:
        return self.layout.names(path)

    # -- laying over -------------------------------------------------------------------------------------

    def stale(self) -> set[int]:
        """The snapshot's files whose edges may differ because of what was added or is gone, or is a test now."""
        return {
            *(node for node in self._repackaged if self._lies_in_other_packages(self.path(node))),
            *(node for node, flags in self._flags.items() if (flags ^ self.snapshot.flags[node]) & TEST),
            *self._resolve_otherwise(),
            *self._have_other_conftest(),
            *self._spell_a_file(),
        }.difference(self._gone)

    def lay_over(self, versions: Sequence[Version]) -> None:
        """Replace the edges and flags of these files. The states of one file add up."""
        linker = self.linker()
        states: dict[str, list[Link]] = {}
        for path, facts, end in versions:
            states.setdefault(path, []).append(linker.link(path, facts, end))
        for path, links in states.items():
            self._lay_file(self.node(path), links)

    def _below_changed_packages(self) -> set[int]:
        """The snapshot's files below a folder that became a package or is none any more."""
        changed = self.layout.packages ^ self.snapshot.layout.packages
        paths = self.snapshot.paths
        return {node for folder in changed for node in paths.between(folder + "/", folder + "0")}.difference(self._gone)

    def _changed_definers(self) -> dict[str, list[Definer]]:
        """Module name → its definers, for the names that have others than in the snapshot."""
        before = {(node, name) for node in (*self._gone, *self._repackaged) for name in self._names_before(node)}
        after = {(node, name) for node in self._repackaged for name in self.names(self.path(node))}
        after |= {(self._ids[path], name) for path in self._added for name in self.names(path)}
        if before == after:
            return {}
        old = self.snapshot.modules()
        lost = {(node, *name) for node, name in before - after}
        found = {
            name: [each for each in old.get(name) if (each.node, name, each.root, each.loose) not in lost]
            for name in {name.name for _, name in before ^ after}
        }
        for node, (name, root, loose) in sorted(after - before):
            found[name].append(Definer(node, root, loose))
        for definers in found.values():
            definers.sort(key=lambda each: self._rank(each.node))
        return found

    def _names_before(self, node: int) -> list[ModuleName]:
        return self.snapshot.layout.names(self.snapshot.paths[node])

    def _lies_in_other_packages(self, path: str) -> bool:
        before, after = self.snapshot.layout, self.layout
        left = [parent for parent in parents(path, before) if self.node(parent) >= 0]
        return before.package_of(path) != after.package_of(path) or left != parents(path, after)

    def _resolve_otherwise(self) -> Iterator[int]:
        """Files that mention a name which now means other files for them."""
        if not self._definers:
            return
        before, after = Resolver(self.snapshot.modules()), Resolver(self.modules())
        for name in self._definers:
            for node in self._old_mentions(name):
                folder = self.snapshot.paths[node].rpartition("/")[0]
                if set(before.visible(name, folder)).difference(self._gone) != set(after.visible(name, folder)):
                    yield node

    def _have_other_conftest(self) -> Iterator[int]:
        old = self.snapshot.paths
        for path in (*self._added, *self._gone.values()):
            folder, _, file = path.rpartition("/")
            if file == "conftest.py":
                for node in old.between(folder + "/", folder + "0") if folder else range(len(old)):
                    if self.flags(node) & (TEST | CONFTEST):
                        below = old[node]
                        now = nearest_conftest(below, self.node, self.suites)
                        if now != nearest_conftest(below, old.index, self.suites):
                            yield node

    def _spell_a_file(self) -> Iterator[int]:
        for path in (*self._added, *self._gone.values()):
            yield from self.snapshot.mentioning("/" + path.rpartition("/")[2], below=False)
            yield from self.snapshot.with_glob_for(path.rpartition("/")[2])

    def _judge_tests_again(self) -> None:
        """What is a test file follows the head's suites where they are not the snapshot's."""
        for node in range(self._count):
            if node not in self._gone:
                flags = self.snapshot.flags[node]
                is_test = is_test_file(self.snapshot.paths[node], flags & HAS_DOCTESTS != 0, self.suites)
                if is_test != (flags & TEST != 0):
                    self._flags[node] = flags ^ TEST

    def _lay_file(self, node: int, links: list[Link]) -> None:
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


def _packages(paths: Iterable[str]) -> set[str]:
    return {path.removesuffix("/__init__.py") for path in paths if path.endswith("/__init__.py")}


class _Overlaid:
    """The snapshot's modules, with other definers for some names."""

    def __init__(self, old: Modules, changed: Mapping[str, list[Definer]]) -> None:
        self._old = old
        self._changed = changed

    def get(self, name: str) -> Sequence[Definer]:
        found = self._changed.get(name)
        return self._old.get(name) if found is None else found

    def below(self, package: str) -> list[str]:
        new = [name for name in self._changed if name.startswith(package + ".")]
        return sorted({*self._old.below(package), *new})
