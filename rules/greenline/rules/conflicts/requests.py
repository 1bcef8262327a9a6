"""Fixtures that a test or another fixture requests and that are not there."""

from __future__ import annotations

import ast

from greenline.depgraph.fixture_requests import PLUGIN_FIXTURES
from greenline.rules.conflicts.infer import World
from greenline.rules.conflicts.modules import Function
from greenline.rules.conflicts.problem import Problem


def fixture_problems(world: World, path: str, words: frozenset[str]) -> list[Problem]:
    """The requests of a test file or conftest.py for fixtures that nothing visible from there defines."""
    tree = world.tree
    name = path.rpartition("/")[2]
    if not (name == "conftest.py" or tree.suites.is_test_file(path)):
        return []
    facts = world.fixtures(path)
    if facts.opaque:
        return []
    visible = _visible(world, path)
    requests = [
        (each, test.node_id.replace("::", "."), test.parametrized) for test in facts.tests for each in test.requests
    ]
    requests += [(each, one.function, ()) for one in facts.fixtures if one.certain for each in one.requests]
    found = {}
    for request, function, given in requests:
        if visible is not None and request not in visible and request not in given and request not in PLUGIN_FIXTURES:
            node = _function(world, path, function)
            if node is not None:
                line, column = node.lineno, node.col_offset
                found[function, request] = Problem(
                    "request", path, line, column, function, request, ("", request), (), node
                )
    return list(found.values())


def _visible(world: World, path: str) -> set[str] | None:
    """The fixtures that a file sees; None when there may be others."""
    found: set[str] = set()
    files = [path, *world.tree.suites.conftest_chain(path, world.tree.files.__contains__)]
    done = set()
    while files:
        current = files.pop()
        if current in done:
            continue
        done.add(current)
        facts = world.fixtures(current)
        if facts.opaque:
            return None
        found.update(one.name for one in facts.fixtures)
        found.update(local for local, _, _ in facts.imports)
        modules = [*facts.plugins, *(module for local, module, _ in facts.imports if local == "*")]
        for module in modules:
            there = world.tree.find(module, current) if module else ()
            if not module:
                return None
            files += there
    return found


def _function(world: World, path: str, qualified: str) -> Function | None:
    module = world.tree.module(path)
    parts = qualified.split(".")
    body = module.tree.body if module else []
    for part in parts:
        found = [node for node in body if isinstance(node, Function | ast.ClassDef) and node.name == part]
        if not found:
            return None
        node = found[-1]
        body = node.body
    return node if isinstance(node, Function) else None
