"""The policy's rules on test files: tests stay where they are, run, and assert at least what they asserted.

A test may follow the code (a name that was renamed, an argument that was added); then its assertions have the same
shape as before, and a person looks at the proposal. Anything that makes one weaker is refused.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from greenline.ci.repair.patch import FileChange
from greenline.ci.repair.policy import Context, Remark
from greenline.ci.repair.policy_python import common, dotted, more, parsed

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_ASSERTS = re.compile(
    r"(?:.*\.)?(?:assert\w*|raises|warns|deprecated_call|fail|check_\w+|expect\w*|verify\w*|should\w*|match\w*|mustEqual)"
)
_TOLERANT = re.compile(
    r"(?:.*\.)?(?:approx|isclose|allclose|round|almost\w*|ANY|call|any|all|len|set|sorted|str|repr|bool|type)"
)
_BUILTINS = frozenset(dir(builtins))
_DETOURS = (ast.Try, ast.TryStar, ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Match)


class _Test(NamedTuple):
    decorators: tuple[str, ...]
    parameters: tuple[str, ...]
    asserts: tuple[str, ...]  # each with where it stands, its names numbered
    leaves: int  # statements that end it early
    whole: str


def remarks(change: FileChange, context: Context) -> Iterator[Remark]:
    """What the rules see in one test file."""
    old, new = parsed(change.before), parsed(change.after)
    if change.after is None:
        if change.before is not None:
            yield Remark("test-removed", change.path, "a test file is deleted or renamed")
        return
    if new is None:
        yield Remark("syntax", change.path, "is no valid Python afterwards")
        return
    yield from common(change, old, new)
    if change.before is None:
        yield Remark("new-test", change.path, "is a new test file", refuse=False)
        return
    if old is None:
        yield Remark("test-changed", change.path, "was no valid Python before: nothing can be compared")
        return
    before, after = _tests(old), _tests(new)
    for name, test in before.items():
        if name not in after:
            yield Remark("test-removed", change.path, f"{name} is gone, renamed, shadowed or under a condition")
        else:
            yield from _compare(change.path, name, test, after[name])
    for name in more(after, before):
        yield Remark("new-test", change.path, f"{name} is new", refuse=False)
    yield from _around(change.path, old, new)


def _tests(tree: ast.Module) -> dict[str, _Test]:
    """The tests that pytest collects from module and class bodies, by name; the last of one name counts."""
    found: dict[str, _Test] = {}
    for name, node in _definitions(tree.body, ""):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found[name] = _test(node)
        else:
            found.pop(name, None)
    return found


def _definitions(body: Iterable[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.AST]]:
    """Tests, and whatever else binds or deletes their names. A test under a condition is none: it may not run."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if node.name.startswith("test"):
                yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            collected = not any(
                isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)) and part.name in ("__init__", "__new__")
                for part in node.body
            )
            if (collected and node.name.lower().startswith("test")) or _is_test_case(node):
                yield from _definitions(node.body, f"{prefix}{node.name}::")
        else:
            for part in ast.walk(node):
                if isinstance(part, ast.Name) and isinstance(part.ctx, (ast.Store, ast.Del)):
                    yield prefix + part.id, node
                elif isinstance(part, ast.alias):
                    yield prefix + (part.asname or part.name), node


def _is_test_case(node: ast.ClassDef) -> bool:
    return any("Test" in dotted(base) for base in node.bases)


def _test(node: _Function) -> _Test:
    inner = [part for statement in node.body for part in ast.walk(statement)]
    return _Test(
        tuple(_numbered(part, keep_arguments=True) for part in node.decorator_list),
        tuple(arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)),
        tuple(_asserted(node.body, ())),
        sum(isinstance(part, (ast.Return, ast.Raise, ast.Yield, ast.YieldFrom)) for part in inner),
        ast.dump(node),
    )


def _compare(path: str, name: str, old: _Test, new: _Test) -> Iterator[Remark]:
    if old.whole == new.whole:
        return
    yield Remark("test-changed", path, f"{name}: a person has to look", refuse=False)
    if old.decorators != new.decorators:
        yield Remark("test-changed", path, f"{name}: its decorators, and so its inputs, are others")
    if gone := more(old.asserts, new.asserts):
        yield Remark(
            "assertion-weakened", path, f"{name}: {len(gone)} of {len(old.asserts)} assertions gone or changed"
        )
    if new.leaves > old.leaves:
        yield Remark("assertion-weakened", path, f"{name}: ends early")
    if len(new.parameters) != len(old.parameters):
        yield Remark("test-changed", path, f"{name}: asks for other fixtures", refuse=False)


def _asserted(body: Iterable[ast.stmt], detours: tuple[str, ...]) -> Iterator[str]:
    """Every assertion in its shape, with the statements that it stands under."""
    for node in body:
        if isinstance(node, ast.Assert):
            yield " ".join((*detours, "assert", _numbered(node.test)))
        elif isinstance(node, _DETOURS):
            head = [part for part in ast.iter_child_nodes(node) if isinstance(part, (ast.expr, ast.withitem))]
            shape = type(node).__name__ + ",".join(_numbered(part) for part in head)
            if isinstance(node, (ast.With, ast.AsyncWith)) and any(
                _is_assertion(item.context_expr) for item in node.items
            ):
                yield " ".join((*detours, "with", shape, _statements(node.body)))
            for _, value in ast.iter_fields(node):
                for part in value if isinstance(value, list) else ():
                    if isinstance(part, ast.stmt):
                        yield from _asserted([part], (*detours, shape))
                    elif isinstance(part, (ast.ExceptHandler, ast.match_case)):
                        yield from _asserted(part.body, (*detours, shape))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield from _asserted(node.body, (*detours, type(node).__name__))
        else:
            for part in ast.walk(node):
                if isinstance(part, ast.Call) and _is_assertion(part):
                    yield " ".join((*detours, type(node).__name__, _numbered(part, keep_arguments=True)))


def _statements(body: list[ast.stmt]) -> str:
    """The kinds of statements that must raise: a `raise` put among them would satisfy any expectation."""
    return ",".join(type(part).__name__ for part in body)


def _is_assertion(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and _ASSERTS.fullmatch(dotted(node.func)) is not None


def _numbered(node: ast.AST, keep_arguments: bool = False) -> str:
    """The shape of an expression: operators and constants as they are, names numbered in order of appearance.

    Names of assertions, tolerances and builtins stay; the arguments of any other call are left out, for a fix may
    have to change them. Renaming keeps the shape, comparing a value with itself does not.
    """
    numbers: dict[str, int] = {}

    def walk(part: object, whole: bool) -> str:
        if isinstance(part, ast.Call):
            name = dotted(part.func)
            kept = whole or bool(_ASSERTS.fullmatch(name) or _TOLERANT.fullmatch(name) or name in _BUILTINS)
            arguments = ",".join(walk(item, False) for item in (*part.args, *part.keywords)) if kept else ""
            return f"{walk(part.func, False)}({arguments})"
        if isinstance(part, (ast.Name, ast.Attribute)):
            name = dotted(part)
            if "?" in name and isinstance(part, ast.Attribute):
                return f"{walk(part.value, False)}.{_label(part.attr, numbers)}"
            if _ASSERTS.fullmatch(name) or _TOLERANT.fullmatch(name) or name in _BUILTINS or name.startswith("pytest."):
                return name
            return _label(name, numbers)
        if isinstance(part, ast.Constant):
            return repr(part.value)
        if isinstance(part, ast.AST):
            fields = ",".join(walk(value, False) for name, value in ast.iter_fields(part) if name != "ctx")
            return f"{type(part).__name__}({fields})"
        if isinstance(part, list):
            return "[" + ",".join(walk(item, False) for item in part) + "]"
        return repr(part)

    return walk(node, keep_arguments)


def _label(name: str, numbers: dict[str, int]) -> str:
    return f"v{numbers.setdefault(name, len(numbers))}"


def _around(path: str, old: ast.Module, new: ast.Module) -> Iterator[Remark]:
    """What stands around the tests: fixtures, helpers, constants. Changed, they can weaken any assertion."""

    def rest(tree: ast.Module) -> list[str]:
        return [
            ast.dump(node)
            for node in tree.body
            if not isinstance(node, (ast.Import, ast.ImportFrom))
            and not (
                isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
                and node.name.lower().startswith("test")
            )
        ]

    if rest(old) != rest(new):
        yield Remark(
            "test-changed", path, "helpers, fixtures or constants of tests change: a person has to look", refuse=False
        )
    if imports := more(_imports(new), _imports(old)):
        yield Remark("test-changed", path, f"imports {', '.join(imports)}", refuse=False)


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)
