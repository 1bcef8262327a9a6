"""Imports inside functions: they affect who runs the function, not the whole file.

A conftest.py whose fixture imports the application lazily does not tie every test below it to the application, and
of a test file whose tests import different modules only some tests are affected. Both are judged as if the import
statements that lead to the change had been edited.
"""

from __future__ import annotations

from greenline.ci.selection.fixture_users import only_fixtures
from greenline.ci.selection.found import Found
from greenline.depgraph.affected_items import affected_tests
from greenline.depgraph.blocks import compare
from greenline.depgraph.factstore import scan_version
from greenline.depgraph.linking import CONFTEST, LOCAL, nearest_conftest
from greenline.depgraph.resolve import absolute
from greenline.depgraph.scan import TYPE_CHECKING, import_lines


def stop_at_conftests(found: Found) -> set[int]:
    """The conftest.py files that the change reaches only through imports in fixtures; their requesters are added.

    What depends on them is not reached through them.
    """
    graph = found.graph
    stops = {node for node in graph.with_flag(LOCAL) if graph.flags(node) & CONFTEST} - found.seeds.keys()
    while stops:
        reached = graph.dependents(found.seeds, stops)
        through = [node for node in sorted(stops & reached) if not _is_local(found, node, reached, stops)]
        if not through:
            for node in sorted(stops & reached):
                _judge_conftest(found, node, reached)
            break
        stops.difference_update(through)
    return stops


def tests_of(found: Found, node: int, reached: set[int], stops: set[int]) -> tuple[str, ...] | None:
    """The tests of a reached test file that run an import which leads to the change; None: all of them."""
    path = found.graph.path(node)
    source = found.opened.read_head(path)
    if source is None or not _is_local(found, node, reached, stops):
        return None
    suite = found.graph.suites.suite_of(path)
    edited = _with_edited_imports(found, path, source, reached)
    items = affected_tests(edited, source, *((suite.python_functions, suite.python_classes) if suite else ()))
    if items.whole or (items.exported and found.graph.importers(node)):
        return None
    return items.node_ids or None


def _is_local(found: Found, node: int, reached: set[int], stops: set[int]) -> bool:
    """Whether lines of the file itself explain every edge from it to what is reached."""
    graph = found.graph
    path = graph.path(node)
    source = found.opened.read_head(path)
    if source is None:
        return False
    hits = graph.dependencies(path, scan_version(source, path)) & reached
    conftest = nearest_conftest(path, graph.node, graph.suites)
    if conftest in stops:
        hits.discard(conftest)  # judged by itself
    explained = set().union(*_targets_by_line(found, path, source).values())
    return bool(hits) and hits <= explained and conftest not in hits


def _judge_conftest(found: Found, node: int, reached: set[int]) -> None:
    path = found.graph.path(node)
    source = found.opened.read_head(path) or b""
    edited = _with_edited_imports(found, path, source, reached)
    if not only_fixtures(found, path, edited, source, compare(edited, source)):
        found.seed(node, "imports what changed")


def _with_edited_imports(found: Found, path: str, source: bytes, reached: set[int]) -> bytes:
    """The file with a statement put before each line that leads to what is reached: another version of its blocks."""
    lines = source.splitlines(keepends=True)
    for number, targets in _targets_by_line(found, path, source).items():
        if targets & reached:
            line = lines[number - 1]
            indent = len(line) - len(line.lstrip(b" \t"))
            lines[number - 1] = line[:indent] + b"pass; " + line[indent:]
    return b"".join(lines)


def _targets_by_line(found: Found, path: str, source: bytes) -> dict[int, set[int]]:
    """Line number → nodes that what is written there means."""
    if path not in found.targets_by_line:
        found.targets_by_line[path] = _find_targets(found, path, source)
    return found.targets_by_line[path]


def _find_targets(found: Found, path: str, source: bytes) -> dict[int, set[int]]:
    graph = found.graph
    resolver = graph.linker().resolver
    folder = path.rpartition("/")[0]
    targets: dict[int, set[int]] = {}
    for line, kind, name in import_lines(source):
        if kind != TYPE_CHECKING:
            bare = name[:-2] if name.endswith(".*") and name.strip(".*") else name.rstrip("*")
            for each in absolute(bare, graph.layout.package_of(path)):
                targets.setdefault(line, set()).update(resolver.targets(each, folder))
    return targets
