"""What the change of one Python file or notebook affects.

Comments, formatting and docstrings that nothing reads affect nothing. A test file is taken at the grain of its
tests, a file in which only fixtures changed at the grain of those (:mod:`.fixture_users`); any other file at the
grain of the module: everything that depends on it.
"""

from __future__ import annotations

import posixpath
import re

from greenline.ci.selection.found import Found
from greenline.depgraph.blocks import Delta, compare
from greenline.depgraph.embedded import python_of
from greenline.depgraph.layout import is_code
from greenline.depgraph.linking import DOC_READER, SOURCE_LISTER, SOURCE_READER, TEST
from greenline.depgraph.overlay import FileState
from greenline.depgraph.workspace import ABSENT

MIGRATION = re.compile(rb"^(?:from\s+alembic|import\s+alembic)\b|\bmigrations\.Migration\b", re.MULTILINE)
SETTINGS = re.compile(rb"^INSTALLED_APPS\b", re.MULTILINE)


def judge(found: Found, state: FileState) -> None:
    """Add to ``found`` what this change affects."""
    graph, path = found.graph, state.path
    old = found.opened.contents.get(path, state.base)
    new = found.opened.contents.get(path, state.head)
    if not is_code(path):  # a text with doctests: what it expects counts as much as what it runs
        found.seed(graph.node(path), "changed")
        return
    old, new = (None if data is None else python_of(path, data) for data in (old, new))
    delta = compare(old, new)
    node = graph.node(path)
    flags = graph.flags(node) if node >= 0 else 0
    for lister in graph.with_flag(SOURCE_LISTER):
        if graph.flags(lister) & TEST:
            found.seed(lister, "looks for Python files, and one changed")
    if state.head == ABSENT:
        found.seed(node, "deleted")
    elif state.base == ABSENT:
        found.seed(node, "added")
        if flags & TEST:
            _same_name(found, path, node)
    elif delta.kind in ("none", "docstrings"):
        _readers_of_text(found, node, delta.kind)
        return
    elif flags & TEST and new is not None:
        _test_file(found, path, node, old, new)
    elif b"fixture" in (new or b"") and _only_fixtures(found, path, old, new, delta):
        pass
    else:
        found.seed(node, "changed")
    _far(found, path, (old or b"") + (new or b""))


def judge_all_of(found: Found, path: str) -> None:
    """Add to ``found`` what a change of whatever is in a file may affect: its tests, dependents, and who reads it."""
    graph = found.graph
    node = graph.node(path)
    for lister in graph.with_flag(SOURCE_LISTER):
        if graph.flags(lister) & TEST:
            found.seed(lister, f"looks for Python files, as {path} is one")
    found.seed(node, "as if changed")
    _readers_of_text(found, node, "docstrings")
    _far(found, path, found.opened.read_head(path) or b"")


def _far(found: Found, path: str, content: bytes) -> None:
    """Files whose changes reach every test by a way that no import shows."""
    if MIGRATION.search(content):
        found.all(f"{path}: a database migration")
    elif SETTINGS.search(content):
        found.all(f"{path}: the settings of the application")


def _same_name(found: Found, path: str, node: int) -> None:
    """pytest cannot import two test files of one base name in one run, unless they lie in packages."""
    graph = found.graph
    for name in graph.names(path):
        for definer in graph.modules().get(name.name) if "." not in name.name else ():
            if definer.node != node and graph.flags(definer.node) & TEST:
                found.seed(definer.node, f"has the base name of {path}, which was added")


def _only_fixtures(found: Found, path: str, old: bytes | None, new: bytes | None, delta: Delta) -> bool:
    from greenline.ci.selection.fixture_users import only_fixtures  # seldom needed

    return only_fixtures(found, path, old, new, delta)


def _test_file(found: Found, path: str, node: int, old: bytes | None, new: bytes) -> None:
    from greenline.depgraph.affected_items import affected_tests

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


def _readers_of_text(found: Found, node: int, kind: str) -> None:
    """Comments and docstrings matter only to who reads them: the file itself, its importers, tests that reach it."""
    graph = found.graph
    for importer in graph.importers(node) if node >= 0 else ():
        # Who spells the file's path may read it as text instead of importing it.
        if posixpath.basename(graph.path(node)).encode() in (found.opened.read_head(graph.path(importer)) or b""):
            found.seed(importer, f"names the path of {graph.path(node)}, whose text changed")
    bit = SOURCE_READER if kind == "none" else SOURCE_READER | DOC_READER
    readers = [reader for reader in graph.with_flag(bit)] if node >= 0 else []
    if not readers:
        return
    near = {node, *graph.importers(node)}
    reached = graph.dependents([node])
    for reader in readers:
        if reader in near or (reader in reached and graph.flags(reader) & TEST):
            found.seed(reader, f"reads the source or docstrings of {graph.path(node)}, whose text changed")
