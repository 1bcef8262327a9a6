"""The static rule: a change → the tests that it can break.

Each changed file is judged on its own (:mod:`.python_files`, :mod:`.data_files`, :mod:`.manifests`); the import
graph then carries what was found to the tests. What cannot be judged selects everything, with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from greenline.ci.selection import data_files, python_files
from greenline.ci.selection.found import Found
from greenline.depgraph.config import Config
from greenline.depgraph.globs import matcher
from greenline.depgraph.index import REGULAR, Opened
from greenline.depgraph.layout import is_code
from greenline.depgraph.linking import ALWAYS, CONFTEST, LOCAL, TEST, UNKNOWN
from greenline.depgraph.locks import is_manifest
from greenline.depgraph.overlay import FileState
from greenline.depgraph.suites import Suite, is_config_name, read_config
from greenline.depgraph.wording import plural
from greenline.depgraph.workspace import ABSENT
from greenline.depgraph.workspace import UNKNOWN as IN_WORK_TREE

MOST_BYTES = 500_000
"""Of test files with imports in functions to look into for single tests; of more, whole files are selected."""
STUBS = (".pyi",)
NATIVE = (
    ".c",
    ".cc",
    ".cpp",
    ".cxx",
    ".cu",
    ".cuh",
    ".h",
    ".hh",
    ".hpp",
    ".rs",
    ".pxd",
    ".pxi",
    ".f",
    ".f90",
    ".go",
    ".so",
    ".pyd",
)


class SelectedTest(NamedTuple):
    """A test file to run. ``node_ids``: only these tests of it ("test_x", "TestC::test_m"); None: all of them.

    ``rank``: the smaller, the likelier it fails; 1 where nothing is known.
    """

    path: str
    node_ids: tuple[str, ...] | None
    reason: str
    rank: float = 1.0


class Selection(NamedTuple):
    """The answer of the static rule. ``everything``: why all tests are selected, or None."""

    tests: list[SelectedTest]  # sorted by path
    total: int  # test files there are
    everything: str | None
    warnings: list[str]
    seeds: dict[int, str]  # node of the graph → why it may behave differently
    through: dict[int, int]  # node reached from a seed → the next node towards it; empty without ``reasons``


def select(
    opened: Opened,
    config: Config,
    reasons: bool = True,
    learned: Iterable[tuple[str, str]] = (),
    named: Iterable[str] = (),
) -> Selection:
    """The tests that the change in ``opened`` can break.

    ``reasons=False`` spares the search for shortest chains and, in files that depend on the change, for single tests.
    ``learned``: pairs of paths, imports that no import statement shows. ``named``: paths to judge instead of the
    change, as if anything in these files had changed.
    """
    found = Found(opened)
    rules = data_files.DataRules(config)
    named = tuple(named)
    for path in named:
        _judge_named(found, path, rules)
    for state in () if named else opened.changes:
        _judge(found, state, rules)
        if found.everything and not reasons:
            break
    _unknown(found)
    graph = opened.graph
    tests = {node: graph.path(node) for node in graph.with_flag(TEST)}
    gone = {state.path for state in opened.changes if state.head == ABSENT}
    tests = {node: path for node, path in tests.items() if path not in gone}
    if found.everything:
        chosen, through = [SelectedTest(path, None, found.everything) for path in tests.values()], {}
    else:
        _always(found, config, tests)
        _follow(found, learned)
        stops = _stops(found)
        through = graph.chains(found.seeds, stops) if reasons else {}
        chosen = _collect(found, tests, through, stops)
    warnings = [*opened.warnings, *found.warnings]
    return Selection(sorted(chosen), len(tests), found.everything, warnings, found.seeds, through)


def _unknown(found: Found) -> None:
    """Files that cannot be read may depend on whatever changed. Of a work tree, only those that are there count."""
    opened = found.opened
    nodes = {node: found.graph.path(node) for node in found.graph.with_flag(UNKNOWN)}
    if opened.head is None:
        root = opened.workspace.root
        nodes = {node: path for node, path in nodes.items() if os.path.exists(os.path.join(root, path))}
    if nodes and (found.seeds or found.direct or found.suites):
        for node in nodes:
            found.seed(node, "cannot be read, so it may depend on the change")
        found.warnings.append(
            f"{plural(len(nodes), 'file')} cannot be read, such as {min(nodes.values())}:"
            " what depends on them counts as affected; in a partial clone, git fetch --refetch --no-filter gets them"
        )


def _judge(found: Found, state: FileState, rules: data_files.DataRules) -> None:
    path = state.path
    if data_files.judge_any(found, state, rules):
        return
    if (is_code(path) or is_config_name(path) or is_manifest(path)) and _cannot_be_read(found, state):
        node = found.graph.node(path)
        if node >= 0:
            found.seed(node, "changed")
        else:
            found.superset(f"{path}: it cannot be read", "in a partial clone, git fetch --refetch --no-filter gets it")
        return
    if is_config_name(path):
        _pytest_configuration(found, state)
    if is_manifest(path):
        from greenline.ci.selection import manifests  # its parsers are seldom needed

        data_files.seed_mentions(found, path)
        manifests.judge(found, state)
    elif path.endswith(STUBS):
        _stub(found, state)
    elif is_code(path):
        python_files.judge(found, state)
    elif found.graph.flags_of(path) & TEST:  # a text with doctests
        data_files.seed_mentions(found, path)
        python_files.judge(found, state)
    elif path.endswith(NATIVE):
        _native(found, state, rules)
    elif not is_config_name(path):
        data_files.judge_data(found, state, rules)


def _judge_named(found: Found, path: str, rules: data_files.DataRules) -> None:
    """Any change of a file of the work tree. Rules that compare two versions are asked as if the file were new."""
    state = FileState(path, ABSENT, IN_WORK_TREE, "", REGULAR)
    if not (is_code(path) or is_manifest(path) or is_config_name(path)):
        _judge(found, state, rules)
    elif data_files.judge_any(found, state, rules):
        return
    elif is_manifest(path):
        found.all(f"{path}: what changes in it decides what it affects")
    elif is_config_name(path):
        found.suites[path.rpartition("/")[0]] = f"{path}: pytest's configuration may change"
    else:
        python_files.judge_all_of(found, path)


def _cannot_be_read(found: Found, state: FileState) -> bool:
    sides = (state.base, state.head)
    return any(oid != ABSENT and found.opened.contents.get(state.path, oid) is None for oid in sides)


def _pytest_configuration(found: Found, state: FileState) -> None:
    """A suite's configuration changed: all of its tests."""
    sides = []
    for oid in (state.base, state.head):
        data = found.opened.contents.get(state.path, oid)
        try:
            sides.append(read_config(state.path, data) if data is not None else None)
        except Exception as error:  # SuiteError: pytest would refuse it
            found.all(f"{state.path}: pytest cannot read it ({error})")
            return
    if sides[0] != sides[1]:
        root = state.path.rpartition("/")[0]
        found.suites[root] = f"{state.path}: pytest's configuration changed"


def _stub(found: Found, state: FileState) -> None:
    """Stubs are for type checkers, but a lazily loading package reads its own (``lazy_loader.attach_stub``)."""
    module = state.path[:-1]
    node = found.graph.node(module)
    if node >= 0 and b"attach_stub" in (found.opened.read_head(module) or b""):
        found.seed(node, f"reads its stub {state.path}")


def _native(found: Found, state: FileState, rules: data_files.DataRules) -> None:
    if any(matches(state.path) for matches, _, _ in rules.edges):
        return
    found.superset(
        f"{state.path}: compiled code",
        "name the modules that are built from it under 'edges' in greenline.yaml",
    )


def _always(found: Found, config: Config, tests: dict[int, str]) -> None:
    matches = matcher(config.always_run.files)
    marked = set(found.graph.with_flag(ALWAYS))
    for marker in config.always_run.markers:
        marked |= found.graph.mentioning(f"@{marker}")
    for node, path in tests.items():
        if node in marked or matches(path):
            found.seed(node, "always runs")


def _follow(found: Found, learned: Iterable[tuple[str, str]]) -> None:
    """Seed the files that were seen to import what depends on the change."""
    graph = found.graph
    left = [(graph.node(importer), graph.node(imported)) for importer, imported in learned]
    left = [edge for edge in left if min(edge) >= 0]
    while left:
        reached = graph.dependents(found.seeds)
        met = [edge for edge in left if edge[1] in reached]
        if not met:
            break
        left = [edge for edge in left if edge[1] not in reached]
        for importer, imported in met:
            if importer not in reached:
                found.seed(importer, f"was seen to import {graph.path(imported)}, which depends on the change")


def _stops(found: Found) -> set[int]:
    """The conftest.py files that are judged by the functions which import what changed."""
    graph = found.graph
    if not any(graph.flags(node) & CONFTEST for node in graph.with_flag(LOCAL)):
        return set()
    from greenline.ci.selection import local_imports

    return local_imports.stop_at_conftests(found)


def _collect(found: Found, tests: dict[int, str], through: dict[int, int], stops: set[int]) -> list[SelectedTest]:
    """What was found directly, and what the graph leads to. ``through``: chains, or {} for no reasons."""
    graph = found.graph
    reached = set(through) or graph.dependents(found.seeds, stops)
    reached_tests = sorted(reached & tests.keys())
    local = [node for node in reached_tests if graph.flags(node) & LOCAL and node not in found.seeds]
    parts = {}
    if through and local and sum(len(found.opened.read_head(tests[node]) or b"") for node in local) <= MOST_BYTES:
        from greenline.ci.selection import local_imports

        parts = {node: local_imports.tests_of(found, node, reached, stops) for node in local}
    for node in reached_tests:
        found.test(tests[node], parts.get(node), _explain(found, through, node) if through else "")
    chosen = {path: SelectedTest(path, node_ids, why) for path, (node_ids, why) in found.direct.items()}
    for suite, why in _affected_suites(found, reached):
        for path in tests.values():
            if path not in chosen or chosen[path].node_ids is not None:
                owner = graph.suites.suite_of(path)
                if owner == suite:
                    chosen[path] = SelectedTest(path, None, why)
    present = set(tests.values())
    return [test for test in chosen.values() if test.path in present]


def _affected_suites(found: Found, reached: set[int]) -> list[tuple[Suite, str]]:
    """Suites all of whose tests are affected: by their configuration, or by a plugin that pytest loads for them."""
    graph = found.graph
    modules = graph.modules()
    pytest11 = graph.layout.entry_points.get("pytest11", ())
    answer = []
    for suite in found.opened.suites:
        why = found.suites.get(suite.root)
        if why is None:
            for module in (*suite.plugins, *pytest11):
                if any(definer.node in reached for definer in modules.get(module)):
                    why = f"pytest loads {module}, which the change reaches"
                    break
        if why is not None:
            answer.append((suite, why))
    return answer


def _explain(found: Found, through: dict[int, int], node: int) -> str:
    chain = [node]
    while through[chain[-1]] != chain[-1]:
        chain.append(through[chain[-1]])
    graph = found.graph
    origin = chain[-1]
    why = found.seeds[origin]
    if len(chain) == 1:
        return why
    names = " → ".join(graph.path(each) for each in chain[1:])
    return f"depends on {names} ({why})"
