"""What the change of one Python file or notebook affects.

Comments, formatting and docstrings that nothing reads affect nothing. A test file is taken at the grain of its
tests, a conftest.py at the grain of its fixtures where only fixtures changed; any other file at the grain of the
module: everything that depends on it.
"""

from __future__ import annotations

import re

from greenline.ci.selection.found import Found
from greenline.depgraph.affected_items import affected_tests
from greenline.depgraph.blocks import Delta, closure, compare
from greenline.depgraph.fixtures import FileFixtures, read_fixtures, requesters
from greenline.depgraph.index import FileState
from greenline.depgraph.notebooks import notebook_source
from greenline.depgraph.snapshot import CONFTEST, DOC_READER, SOURCE_READER, TEST
from greenline.depgraph.workspace import ABSENT

MIGRATION = re.compile(rb"^(?:from\s+alembic|import\s+alembic)\b|\bmigrations\.Migration\b", re.MULTILINE)
SETTINGS = re.compile(rb"^INSTALLED_APPS\b", re.MULTILINE)


def judge(found: Found, state: FileState) -> None:
    """Add to ``found`` what this change affects."""
    graph, path = found.graph, state.path
    old = found.opened.contents.get(path, state.base)
    new = found.opened.contents.get(path, state.head)
    if path.endswith(".ipynb"):
        old, new = (None if data is None else notebook_source(data) for data in (old, new))
    delta = compare(old, new)
    node = graph.node(path)
    flags = graph.flags(node) if node >= 0 else 0
    if state.head == ABSENT:
        found.seed(node, "deleted")
    elif state.base == ABSENT:
        found.seed(node, "added")
    elif delta.kind in ("none", "docstrings"):
        _readers_of_text(found, node, delta)
        return
    elif flags & TEST and new is not None:
        _test_file(found, path, node, old, new)
    elif flags & CONFTEST and _only_fixtures(found, path, old, new, delta):
        pass
    else:
        found.seed(node, "changed")
    content = (old or b"") + (new or b"")
    if MIGRATION.search(content):
        found.all(f"{path}: a database migration")
    elif SETTINGS.search(content):
        found.all(f"{path}: the settings of the application")


def _test_file(found: Found, path: str, node: int, old: bytes | None, new: bytes) -> None:
    suite = found.graph.suites.suite_of(path)
    items = affected_tests(old, new, *((suite.python_functions, suite.python_classes) if suite else ()))
    if items.whole:
        found.test(path, None, "changed")
    elif items.node_ids:
        first = items.node_ids[0]
        found.test(path, items.node_ids, f"{first}: {items.why.get(first, 'changed')}")
    # Others import helpers, base classes or tests of this file: for them it is a module like any other. Its own
    # tests are judged above; as a seed it would be selected whole.
    for importer in found.graph.importers(node):
        found.seed(importer, f"imports {path}, which changed")


def _readers_of_text(found: Found, node: int, delta: Delta) -> None:
    """Comments and docstrings matter only to who reads them: the file itself, its importers, tests that reach it."""
    graph = found.graph
    bit = SOURCE_READER if delta.kind == "none" else SOURCE_READER | DOC_READER
    readers = [reader for reader in graph.with_flag(bit)] if node >= 0 else []
    if not readers:
        return
    near = {node, *graph.importers(node)}
    reached = graph.dependents([node])
    for reader in readers:
        if reader in near or (reader in reached and graph.flags(reader) & TEST):
            found.seed(reader, f"reads the source or docstrings of {graph.path(node)}, whose text changed")


def _only_fixtures(found: Found, path: str, old: bytes | None, new: bytes | None, delta: Delta) -> bool:
    """Whether only fixtures of a conftest.py changed; if so, adds the tests that request them."""
    if old is None or new is None or delta.statements or not delta.changed:
        return False
    changed: set[str] = set()
    for source in (old, new):
        touched, facts = closure(source, delta.changed), read_fixtures(source)
        if touched is None or facts.opaque or any(not fixture.function for fixture in facts.fixtures):
            return False
        if any(name.startswith("pytest_") for name in touched):
            return False
        reached = [fixture for fixture in facts.fixtures if fixture.function in touched]
        if any(fixture.autouse or not fixture.certain for fixture in reached):
            return False
        changed |= {fixture.name for fixture in reached}
    for importer in sorted(_importers_by_name(found, path)):
        found.seed(importer, f"imports {path}, which changed")
    names = ", ".join(sorted(changed))
    for test, node_ids in _requesters(found, path, changed, read_fixtures(old)).items():
        found.test(test, node_ids, f"requests a fixture of {path} that changed: {names}")
    return True


def _importers_by_name(found: Found, path: str) -> set[int]:
    """Who imports a conftest.py as a module, besides those below it to whom pytest applies it."""
    graph = found.graph
    importers = set(graph.importers(graph.node(path)))
    return importers & {other for name in graph.names(path) for other in graph.mentioning(name.name)}


def _requesters(
    found: Found, path: str, changed: set[str], before: FileFixtures
) -> dict[str, tuple[str, ...] | None]:
    """The tests that use one of these fixtures of a conftest.py: test file → node ids, or None for the whole file."""
    graph = found.graph
    below = [node for node in graph.below(path.rpartition("/")[0]) if graph.flags(node) & (TEST | CONFTEST)]
    tests = {graph.path(node): found.opened.read_head(graph.path(node)) or b"" for node in below}
    above = graph.suites.conftest_chain(path, lambda other: graph.node(other) >= 0)
    files = {other: _fixtures_of(found, other, found.opened.read_head(other) or b"") for other in above}
    # Parsing thousands of test files costs seconds: only those that spell the name of an affected fixture count.
    names = set(changed)
    while True:
        spelled = re.compile(rb"\b(?:%s|getfixturevalue)\b" % b"|".join(re.escape(name.encode()) for name in sorted(names)))
        for other in [other for other, data in tests.items() if other.endswith("conftest.py") or spelled.search(data)]:
            files[other] = _fixtures_of(found, other, tests.pop(other))
        grown = names | {
            fixture.name for facts in files.values() for fixture in facts.fixtures if names.intersection(fixture.requests)
        }
        if grown == names:
            break
        names = grown
    return requesters(
        {path: changed},
        files,
        lambda test: graph.suites.conftest_chain(test, lambda other: other in files),
        {path: before},
    )


def _fixtures_of(found: Found, path: str, source: bytes) -> FileFixtures:
    suite = found.graph.suites.suite_of(path)
    return read_fixtures(source, *((suite.python_functions, suite.python_classes) if suite else ()))
