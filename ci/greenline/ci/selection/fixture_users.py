"""A file in which only fixtures changed affects the tests that request them, instead of everything that imports it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from greenline.ci.selection.found import Found
from greenline.depgraph.blocks import Delta
from greenline.depgraph.fixture_requests import requesters
from greenline.depgraph.fixtures import FileFixtures, read_fixtures
from greenline.depgraph.graph import Graph
from greenline.depgraph.linking import TEST
from greenline.depgraph.mentions import closure
from greenline.depgraph.packs import Packs
from greenline.depgraph.parallel import map_shares
from greenline.depgraph.resolve import Resolver, absolute


def only_fixtures(found: Found, path: str, old: bytes | None, new: bytes | None, delta: Delta) -> bool:
    """Whether only fixtures changed in a conftest.py or plugin; if so, adds the tests that request them."""
    if old is None or new is None or delta.statements or not delta.changed or b"fixture" not in new + old:
        return False
    changed: set[str] = set()
    helpers: set[str] = set()
    for source in (old, new):
        touched = closure(source, delta.changed)
        names = None if touched is None else fixtures_among(touched, read_fixtures(source))
        if touched is None or names is None:
            return False
        changed |= names
        helpers |= {name for name in touched if not name.startswith("_")} - {
            fixture.function for fixture in read_fixtures(source).fixtures
        }
    if helpers and not path.endswith("conftest.py"):
        return False  # whoever imports the plugin may use them
    if helpers:
        for importer in sorted(_importers_by_name(found.graph, path)):
            found.seed(importer, f"imports {path}, which changed")
    if changed:
        add_requesters(found, path, changed, read_fixtures(old), f"{', '.join(sorted(changed))} of {path} changed")
    return bool(changed or helpers)


def _importers_by_name(graph: Graph, path: str) -> set[int]:
    """Who imports a conftest.py as a module, besides those below it to whom pytest applies it."""
    importers = set(graph.importers(graph.node(path)))
    return importers & {other for name in graph.names(path) for other in graph.mentioning(name.name)}


def fixtures_among(names: frozenset[str], facts: FileFixtures) -> set[str] | None:
    """The fixtures that these definitions of a file are or make up; None when more than requests can tell of them."""
    if facts.opaque or any(not fixture.function for fixture in facts.fixtures):
        return None
    reached = [fixture for fixture in facts.fixtures if fixture.function in names]
    if any(fixture.autouse or not fixture.certain for fixture in reached):
        return None
    if any(name.startswith("pytest_") for name in names):
        return None
    return {fixture.name for fixture in reached}


def add_requesters(found: Found, path: str, changed: set[str], before: FileFixtures, why: str) -> None:
    """Add the tests that use one of these fixtures of a file."""
    graph = found.graph
    reached = graph.dependents([graph.node(path)])
    imported = importer_of(graph)
    loaded = [imported("", name) for suite in found.opened.suites for name in suite.plugins]
    if any(graph.node(plugin) in reached for plugin in loaded if plugin):
        reached |= set(graph.with_flag(TEST))
    sources = {graph.path(node): found.opened.read_head(graph.path(node)) or b"" for node in sorted(reached)}
    tests = {graph.path(node) for node in reached if graph.flags(node) & TEST}
    for test in tests:
        for conftest in graph.suites.conftest_chain(test, lambda other: graph.node(other) >= 0):
            if conftest not in sources:
                sources[conftest] = found.opened.read_head(conftest) or b""
    files = _fixtures_of_all(found, sources)
    plugins = sorted(
        {plugin for file, facts in files.items() for name in facts.plugins if (plugin := imported(file, name))}
    )
    plugins += [plugin for plugin in loaded if plugin]
    asked = tuple({name for suite in found.opened.suites for name in suite.usefixtures})

    def chain(test: str) -> list[str]:
        return [*graph.suites.conftest_chain(test, lambda other: other in files), *plugins]

    answer = requesters({path: changed}, files, chain, {path: before}, imported, asked)
    for test, node_ids in answer.items():
        if test in tests:
            found.test(test, node_ids, f"requests a fixture: {why}")


def importer_of(graph: Graph) -> Callable[[str, str], str | None]:
    """(path, module as it is written there) → the file that it means, None if it is none of the repository's."""
    resolver = Resolver(graph.modules())

    def imported(path: str, module: str) -> str | None:
        folder = path.rpartition("/")[0]
        for name in absolute(module, graph.layout.package_of(path)):
            if resolver.modules.get(name):
                targets = resolver.targets(name, folder)
                return graph.path(targets[-1]) if targets else None
        return None

    return imported


def _fixtures_of(found: Found, path: str, source: bytes) -> FileFixtures:
    return read_fixtures(source, *found.graph.suites.names_of_tests(path))


def _fixtures_of_all(found: Found, sources: dict[str, bytes]) -> dict[str, FileFixtures]:
    """The facts of many files, kept by their content. All are read: a test may use a fixture that it does not spell."""
    packs = Packs(found.opened.workspace.cache, "fixtures")
    if len(sources) > FEW:
        packs.load()
    keys = {path: _key(source, found.graph.suites.names_of_tests(path)) for path, source in sources.items()}
    new = sorted({key: path for path, key in keys.items() if key not in packs.known}.items(), key=lambda item: item[1])
    read = map_shares(lambda share: [_fixtures_of(found, path, sources[path]).to_tuples() for _, path in share], new)
    packs.known.update((key, facts) for (key, _), facts in zip(new, read, strict=True))
    if len(new) > FEW:
        packs.save(dict.fromkeys(keys.values()), merge=False)
    return {path: FileFixtures.from_tuples(packs.known[key]) for path, key in keys.items()}


FEW = 20
"""Files that are faster read anew than kept."""


def _key(source: bytes, names: tuple[tuple[str, ...], ...]) -> str:
    return hashlib.sha1(repr(names).encode() + b"\0" + source).hexdigest()
