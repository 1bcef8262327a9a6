"""Contracts: which modules may import which, directly and through others.

Layers, forbidden, independent, protected and acyclic mean what import-linter's contracts of these names mean
(https://import-linter.readthedocs.io, "Contract types"). What is told differs: each violation is one import statement
to remove, the last step of a chain that must not be.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from greenline.depgraph.cycles import feedback
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.imports import Imports
from greenline.depgraph.reachability import condense
from greenline.rules.modules import ModuleSets
from greenline.rules.settings import Acyclic, Contract, Forbidden, Independent, Layers, Protected, rule_name

Edges = Sequence[Mapping[int, int]]
_Edges = Sequence[Collection[int]] | Mapping[int, Collection[int]]
Edge = tuple[int, int]


class NoModule(GreenlineError):
    """A rule names a module that is not there: a guard of nothing must not look like one."""

    def __init__(self, contract: Contract, module: str) -> None:
        hint = "correct or remove it: a rule about nothing guards nothing"
        super().__init__(f"the rule {rule_name(contract)} is about {module}, and there is no such module", hint)
        self.module = module


class Violation(NamedTuple):
    """An import that breaks a contract.

    ``importer``, ``imported``: nodes; None for a module that is wrong as it stands (in no layer); ``chain``: nodes of
    a shortest way from the package ``source`` to the package ``target``, that import last; for a circle all around it.
    """

    contract: Contract
    importer: int
    imported: int | None
    source: str
    target: str
    chain: tuple[int, ...]


class Before(NamedTuple):
    """The imports of an earlier state as pairs of paths, and path → the circle that it was part of."""

    edges: set[tuple[str, str]]
    component: dict[str, int]


def violations(
    imports: Imports,
    sets: ModuleSets,
    contract: Contract,
    cut: Collection[Edge],
    known: Collection[Edge] = (),
    before: Callable[[], Before] | None = None,
) -> list[Violation]:
    """What breaks a contract.

    ``cut``: imports that do not count; ``known``: imports whose circles are known; ``before``: tell only circles of
    modules that an import closes which was not there before.

    Raises NoModule.
    """
    gone = {*cut, *known} if isinstance(contract, Acyclic) else set(cut)
    edges = _counting(imports, contract.latest, gone)
    match contract:
        case Layers():
            return list(_layers(edges, imports, sets, contract))
        case Forbidden():
            return list(_forbidden(edges, sets, contract))
        case Independent():
            packages = _existing(sets, contract, contract.modules)
            return list(_apart(edges, contract, packages, [(a, b) for a in packages for b in packages if a != b]))
        case Protected():
            return list(_protected(edges, sets, contract))
        case Acyclic():
            return list(_acyclic(edges, imports, sets, contract, before))


def _counting(imports: Imports, latest: int, gone: Collection[Edge]) -> list[dict[int, int]]:
    """The imports up to a kind and without these; most modules have no other, and keep theirs as they are."""
    edges = [
        own if max(own.values(), default=latest) <= latest else {to: when for to, when in own.items() if when <= latest}
        for own in imports.edges
    ]
    for importer in {importer for importer, _ in gone}:
        edges[importer] = {to: when for to, when in edges[importer].items() if (importer, to) not in gone}
    return edges


def before_of(imports: Imports, latest: int) -> Before:
    """A state, as far as kinds of imports up to ``latest`` count, to tell new circles by."""
    edges = [[to for to, when in own.items() if when <= latest] for own in imports.edges]
    component = condense(edges).component
    pairs = {(imports.paths[node], imports.paths[to]) for node, own in enumerate(edges) for to in own}
    return Before(pairs, {path: component[node] for node, path in enumerate(imports.paths) if path})


def _existing(sets: ModuleSets, contract: Contract, expressions: Iterable[str]) -> dict[str, list[int]]:
    for expression in expressions:
        if not sets.names(expression):
            raise NoModule(contract, expression)
    return sets.packages(expressions)


# -- layers, forbidden, independent --------------------------------------------------------------------------


def _layers(edges: Edges, imports: Imports, sets: ModuleSets, contract: Layers) -> Iterator[Violation]:
    """A layer must not reach one above it, siblings of one layer not each other."""
    containers = list(_existing(sets, contract, contract.containers)) if contract.containers else [""]
    for container in containers:
        ranks: dict[str, int] = {}
        pairs = []
        for rank, layer in enumerate(contract.layers):
            here = []
            for member in layer.members:
                name = f"{container}.{member.module}" if container else member.module
                if sets.nodes(name):
                    here.append(name)
                elif not member.optional:
                    raise NoModule(contract, name)
            pairs += [(low, high) for low in here for high in ranks]
            if layer.independent:
                pairs += [(one, two) for one in here for two in here if one != two]
            ranks.update(dict.fromkeys(here, rank))
        yield from _apart(edges, contract, {name: sets.nodes(name) for name in ranks}, pairs)
        if contract.exhaustive:
            declared = {*ranks, *(f"{container}.{name}" for name in contract.exempt)}
            for name in sets.children(container):
                if name not in declared:
                    yield Violation(contract, sets.package(name)[0], None, name, container, ())


def _apart(
    edges: Edges, contract: Contract, packages: Mapping[str, list[int]], pairs: Iterable[tuple[str, str]]
) -> Iterator[Violation]:
    """The first package of each pair must not reach the second.

    A chain through a third package of these has a step of its own between two of them that breaks the contract, or none
    does: so the search stops at all of them.
    """
    owner = {node: name for name, nodes in packages.items() for node in nodes}
    targets: dict[str, set[str]] = {}
    for source, target in pairs:
        targets.setdefault(source, set()).add(target)
    for source in sorted(targets):
        own = set(packages[source])
        stops = owner.keys() - own
        for chain in exits(edges, packages[source], stops):
            if owner[chain[-1]] in targets[source]:
                yield Violation(contract, chain[-2], chain[-1], source, owner[chain[-1]], chain)


def _forbidden(edges: Edges, sets: ModuleSets, contract: Forbidden) -> Iterator[Violation]:
    sources = _existing(sets, contract, contract.from_)
    targets = sets.packages(contract.to)  # what nobody imports from outside is no module of the graph
    for source, own in sources.items():
        for target, nodes in targets.items():
            if set(own).isdisjoint(nodes):
                for chain in exits(edges, own, set(nodes), contract.through):
                    yield Violation(contract, chain[-2], chain[-1], source, target, chain)


def exits(
    edges: _Edges, start: Iterable[int], stops: Collection[int], through: bool = True
) -> Iterator[tuple[int, ...]]:
    """The edges on which one comes from the start to a stop without passing another, each as a shortest chain to it.

    ``through``: also over other nodes.
    """
    came: dict[int, int] = dict.fromkeys(sorted(start), -1)
    front = list(came)
    while front:
        reached = []
        for node in front:
            for to in sorted(edges[node]):
                if to in stops:
                    chain = [to, node]
                    while came[chain[-1]] >= 0:
                        chain.append(came[chain[-1]])
                    yield tuple(reversed(chain))
                elif through and to not in came:
                    came[to] = node
                    reached.append(to)
        front = reached


# -- protected -----------------------------------------------------------------------------------------------


def _protected(edges: Edges, sets: ModuleSets, contract: Protected) -> Iterator[Violation]:
    packages = _existing(sets, contract, contract.modules)
    allowed = {node for nodes in sets.packages(contract.importers).values() for node in nodes}
    owner = {node: name for name, nodes in packages.items() for node in nodes}
    for node, own in enumerate(edges):
        for to in sorted(own.keys() & owner.keys()):
            if node not in allowed and node not in packages[owner[to]]:
                yield Violation(contract, node, to, "", owner[to], (node, to))


# -- acyclic -------------------------------------------------------------------------------------------------


def _acyclic(
    edges: Edges, imports: Imports, sets: ModuleSets, contract: Acyclic, before: Callable[[], Before] | None
) -> Iterator[Violation]:
    """The imports to remove, few, so that no circle is left; see :func:`.cycles.feedback`."""
    for package, nodes in _existing(sets, contract, contract.within).items():
        if not contract.children:
            inside = set(nodes)
            part = {node: [to for to in edges[node] if to in inside] for node in nodes}
            for chain in _circles(part) if before is None else _new_circles(part, imports, before):
                yield Violation(contract, chain[0], chain[1], package, package, chain)
            continue
        exempt = set(sets.packages(contract.exempt))
        level = [package]
        for _ in range(contract.depth + 1):
            for parent in level:
                yield from _between_children(edges, sets, contract, parent)
            level = [child for parent in level for child in sets.children(parent) if child not in exempt]


def _between_children(edges: Edges, sets: ModuleSets, contract: Acyclic, package: str) -> Iterator[Violation]:
    children = sets.children(package)
    owner = {node: at for at, child in enumerate(children) for node in sets.package(child)}
    steps: dict[tuple[int, int], list[Edge]] = {}
    for node, at in owner.items():
        for to in edges[node]:
            if owner.get(to, at) != at:
                steps.setdefault((at, owner[to]), []).append((node, to))
    part: dict[int, list[int]] = {at: [] for at in range(len(children))}
    for one, two in steps:
        part[one].append(two)
    for circle in _circles(part):
        around = [min(steps[step]) for step in itertools.pairwise(circle)]
        chain = tuple(node for step in around[1:] for node in step)
        for importer, imported in sorted(steps[circle[0], circle[1]]):
            yield Violation(
                contract, importer, imported, children[circle[0]], children[circle[1]], (importer, imported, *chain)
            )


def _circles(part: Mapping[int, Collection[int]]) -> Iterator[tuple[int, ...]]:
    """For each edge to remove from a graph, so that no circle is left, a shortest circle that it closes."""
    for inner in _tangles(part):
        for one, two in feedback(inner):
            yield _around(inner, one, two)


def _new_circles(
    part: Mapping[int, Collection[int]], imports: Imports, earlier: Callable[[], Before]
) -> Iterator[tuple[int, ...]]:
    """For each edge that was not there before, and ties modules that were in no circle, a shortest one it closes."""
    for inner in _tangles(part):
        before = earlier()
        for one, own in inner.items():
            for two in own:
                pair = (imports.paths[one], imports.paths[two])
                old, other = (before.component.get(path, path) for path in pair)
                if pair not in before.edges and old != other:
                    yield _around(inner, one, two)


def _tangles(part: Mapping[int, Collection[int]]) -> Iterator[dict[int, list[int]]]:
    """The parts of a graph, more than a node each, in which every node reaches every other."""
    nodes = sorted(part)
    number = {node: at for at, node in enumerate(nodes)}
    shape = condense([[number[to] for to in part[node]] for node in nodes])
    groups: dict[int, list[int]] = {}
    for node, component in zip(nodes, shape.component, strict=False):
        groups.setdefault(component, []).append(node)
    for members in sorted(groups.values()):
        if len(members) > 1:
            inside = set(members)
            yield {node: sorted(inside.intersection(part[node])) for node in members}


def _around(inner: Mapping[int, Collection[int]], one: int, two: int) -> tuple[int, ...]:
    return (one, *next(exits(inner, [two], {one})))
