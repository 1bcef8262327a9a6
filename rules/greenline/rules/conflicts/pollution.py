"""Test pollution out of two sides: a test leaves a value behind that a test of the other side does not expect.

Told only where both spell it out: one side adds a test that sets a variable of the process to a literal and does not
set it back, the other adds an assertion about that variable that a literal decides, in a test that runs later.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from greenline.depgraph.blocks import same
from greenline.rules.conflicts.infer import Scope, World
from greenline.rules.conflicts.merge import Merge
from greenline.rules.conflicts.modules import Function, Module
from greenline.rules.conflicts.problem import Problem
from greenline.rules.conflicts.report import Found

Cell = tuple[str, ...]
"""A variable: file and name of a module's or a class's attribute, with a key for an item; or "os.environ" and a key."""

MISSING = object()
_OPERATORS: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class Test(NamedTuple):
    path: str
    name: str
    node: Function

    @property
    def order(self) -> tuple[list[str], int]:
        """pytest runs the files of a suite by their paths, and the tests of a file from top to bottom."""
        return self.path.split("/"), self.node.lineno


class Left(NamedTuple):
    """What a test leaves in a variable."""

    test: Test
    line: int
    cell: Cell
    value: object


def pollution(merge: Merge) -> list[Found]:
    """Tests of one side that fail after a test of the other."""
    if merge.linear:
        return []
    found: list[Found] = []
    sides = (merge.ours, merge.theirs)
    tree = merge.merged.tree
    for polluting, suffering in (sides, sides[::-1]):
        setting = (path for path in _test_files(merge, polluting) if tree.kept("sets", path, _sets))
        left = [each for test in _new_tests(merge, polluting, setting) for each in _left(merge.merged, test)]
        words = re.compile(b"|".join(sorted({re.escape(each.cell[-1].encode()) for each in left})))
        reading = (path for path in _test_files(merge, suffering) if words.search(tree.read(path) or b""))
        for test in _new_tests(merge, suffering, reading) if left else ():
            for each in left:
                if each.test.order < test.order and _same_suite(merge, each.test, test):
                    found += _told(merge.merged, each, test)
    return found


def _same_suite(merge: Merge, one: Test, other: Test) -> bool:
    suites = merge.merged.tree.suites
    return suites.suite_of(one.path) == suites.suite_of(other.path)


def _test_files(merge: Merge, side: World) -> Iterator[str]:
    """The test files of the merged state that a side added or changed."""
    for path in sorted(merge.changed(side)):
        if path.endswith(".py") and path in merge.merged.tree.files and side.tree.suites.is_test_file(path):
            yield path


def _new_tests(merge: Merge, side: World, paths: Iterable[str]) -> Iterator[Test]:
    """The tests without decorators in these files of the merged state that a side added or changed."""
    for path in paths:
        before = {test.name: test.node for test in _tests(merge.base.tree.module(path))}
        mine = {test.name: test.node for test in _tests(side.tree.module(path))}
        for test in _tests(merge.merged.tree.module(path)):
            old, new = before.get(test.name), mine.get(test.name)
            if new is not None and same(new, test.node) and (old is None or not same(old, new)):
                yield test


def _sets(module: Module) -> list[tuple[str]]:
    """The tests of a file that set an attribute or an item to a literal, of what need not be their own."""
    return [
        (test.name,)
        for test in _tests(module)
        for node in test.node.body
        if isinstance(node, ast.Assign) and _is_literal(node.value)
        for target in node.targets
        if isinstance(target, ast.Attribute | ast.Subscript) and _root(target) not in _own(test.node)
    ]


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _own(function: Function) -> set[str]:
    """A function's parameters and the results of its calls, by name."""
    arguments = function.args
    results = (node for node in ast.walk(function) if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call))
    return {
        *(one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)),
        *(target.id for node in results for target in node.targets if isinstance(target, ast.Name)),
    }


def _tests(module: Module | None) -> Iterator[Test]:
    if module is None:
        return
    for node in module.tree.body:
        if isinstance(node, Function) and node.name.startswith("test") and not node.decorator_list:
            yield Test(module.path, node.name, node)


# -- what a test leaves --------------------------------------------------------------------------------------


def _left(world: World, test: Test) -> Iterator[Left]:
    """The variables that the statements of a test set for good: none in ``with`` or ``try``, none it sets twice."""
    scope = Scope(world, test.path, test.node)
    for node in test.node.body:
        for target in node.targets if isinstance(node, ast.Assign) else ():
            cell = _cell(scope, target)
            assert isinstance(node, ast.Assign)
            if cell and _is_literal(node.value) and _mentions(test.node, cell[-1]) == 1:
                value = ast.literal_eval(node.value)
                yield from () if _others_mention(world, test.path, cell[-1]) else [Left(test, node.lineno, cell, value)]


def _cell(scope: Scope, node: ast.expr) -> Cell | None:
    """The variable that an expression is."""
    if isinstance(node, ast.Attribute):
        owner = scope.evaluate(node.value)
        if owner.kind in ("module", "class") and owner.path:
            inside = f"{owner.name}." if owner.kind == "class" else ""
            return owner.path, f"{inside}{node.attr}", node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        return _item(scope, node.value, node.slice.value)
    return None


def _item(scope: Scope, node: ast.expr, key: str) -> Cell | None:
    if ast.unparse(node) == "os.environ":
        return "os.environ", key
    value = scope.evaluate(node)
    return (value.path, value.name, key) if value.kind == "value" and value.path else None


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError):
        return False
    return True


def _mentions(node: ast.AST, word: str) -> int:
    return sum(
        word in (getattr(one, "id", ""), getattr(one, "attr", ""), getattr(one, "value", ""), getattr(one, "arg", ""))
        for one in ast.walk(node)
    )


def _others_mention(world: World, path: str, word: str) -> bool:
    """Whether a fixture or a set-up that this test may have knows the variable: it may set it back."""
    chain = world.tree.suites.conftest_chain(path, world.tree.files.__contains__)
    for each in (path, *chain):
        module = world.tree.module(each)
        for node in ast.walk(module.tree) if module else ():
            if isinstance(node, Function) and not node.name.startswith("test") and _mentions(node, word):
                return True
    return False


# -- what a test expects -------------------------------------------------------------------------------------


def _told(world: World, left: Left, test: Test) -> Iterator[Found]:
    scope = Scope(world, test.path, test.node)
    word = left.cell[-1]
    asserts = [node for node in test.node.body if isinstance(node, ast.Assert)]
    inside = sum(_mentions(node, word) for node in asserts)
    if inside != _mentions(test.node, word) or _others_mention(world, test.path, word):
        return  # it sets the variable itself
    for node in asserts:
        if _holds(scope, node.test, left) is False:
            what = ".".join(left.cell[1:-1]) or f"{left.cell[0]}[{word!r}]"
            message = f"{test.name} does not expect what {left.test.name} leaves behind in {what}: {left.value!r}"
            problem = Problem(
                "pollution", test.path, node.lineno, 0, test.name, left.test.name, (left.test.path, left.test.name)
            )
            yield Found(problem, 29, "pollution", message, None, (left.test.path, left.line))


def _holds(scope: Scope, node: ast.expr, left: Left) -> bool | None:
    """Whether a condition is true with the value that was left; None where that cannot be told."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = _holds(scope, node.operand, left)
        return None if inner is None else not inner
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        (operation,), (other,) = node.ops, node.comparators
        if isinstance(operation, ast.In | ast.NotIn):
            key = node.left.value if isinstance(node.left, ast.Constant) else None
            found = isinstance(key, str) and _item(scope, other, key) == left.cell
            return isinstance(operation, ast.In) if found else None
        value = _value(scope, node.left, left)
        if value is MISSING or not _is_literal(other):
            return None
        try:
            return bool(_OPERATORS[type(operation)](value, ast.literal_eval(other)))
        except TypeError:
            return None
    value = _value(scope, node, left)
    return None if value is MISSING else bool(value)


def _value(scope: Scope, node: ast.expr, left: Left) -> object:
    """What was left, if the expression reads that variable: itself, ``.get(key)`` or ``os.getenv(key)``."""
    if _cell(scope, node) == left.cell:
        return left.value
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        key, function = node.args[0].value, node.func
        if isinstance(key, str) and isinstance(function, ast.Attribute):
            owner = (
                ast.parse("os.environ", mode="eval").body if ast.unparse(function) == "os.getenv" else function.value
            )
            if function.attr in ("get", "getenv") and _item(scope, owner, key) == left.cell:
                return left.value
    return MISSING
