"""pytest markers and decorators of test functions, read from the source: nothing is imported.

So a machine without a GPU, or without torch, knows which tests need one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from greenline.depgraph.blocks import parse


class Mark(NamedTuple):
    """A decorator, or an entry of `pytestmark`.

    ``marker``: the name after `pytest.mark.`, or "". ``names``: all dotted names in the expression. ``unknown``: an
    argument is no literal.
    """

    marker: str
    names: tuple[str, ...]
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()
    unknown: bool = False


Marks = dict[str, tuple[Mark, ...]]
"""Qualified name ("TestC::test_x"; "" for the module) → its own marks."""


def read_marks(source: bytes) -> Marks:
    """The marks of a file's module, classes and functions; those of a class hold for its subclasses in the file too.

    A mark on one parameter set counts for the whole function: which ids it has is known only when pytest runs.
    Nothing for a file that does not parse.
    """
    tree = parse(source)
    if tree is None:
        return {}
    bound = {
        target.id: statement.value
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    found: Marks = {"": _pytestmarks(tree.body, bound)}
    classes: dict[str, tuple[Mark, ...]] = {}

    def read(body: Sequence[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found[prefix + node.name] = _decorators(node, bound)
            elif isinstance(node, ast.ClassDef):
                inherited = [mark for base in node.bases for mark in classes.get(_dotted(base), ())]
                own = (*inherited, *_pytestmarks(node.body, bound), *_decorators(node, bound))
                classes[node.name] = own
                found[prefix + node.name] = own
                read(node.body, f"{prefix}{node.name}::")
            elif isinstance(node, ast.If | ast.Try | ast.With):
                for field in ("body", "orelse", "finalbody"):
                    read(getattr(node, field, []), prefix)

    read(tree.body, "")
    return found


def marks_of(marks: Marks, name: str) -> Iterator[Mark]:
    """All marks of a test ("TestC::test_x"): the module's, its classes' and its own, the nearest last."""
    yield from marks.get("", ())
    parts = name.split("::")
    for end in range(1, len(parts) + 1):
        yield from marks.get("::".join(parts[:end]), ())


_Bound = dict[str, ast.expr]


def _decorators(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, bound: _Bound) -> tuple[Mark, ...]:
    # pytest applies the lowest decorator first, so the highest is the nearest.
    return tuple(mark for expression in reversed(node.decorator_list) for mark in _read(expression, bound))


def _pytestmarks(body: Sequence[ast.stmt], bound: _Bound) -> tuple[Mark, ...]:
    for statement in body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in targets):
                value = statement.value
                each = value.elts if isinstance(value, ast.List | ast.Tuple) else [value]
                return tuple(mark for expression in each for mark in _read(expression, bound))
    return ()


def _read(expression: ast.expr, bound: _Bound, depth: int = 0) -> Iterator[Mark]:
    """The mark that an expression is, and those inside it: on parameter sets, behind names."""
    if isinstance(expression, ast.Name) and expression.id in bound and depth < 5:
        yield from _read(bound[expression.id], bound, depth + 1)
        return
    names = tuple(sorted({_dotted(node) for node in ast.walk(expression)} - {""}))
    call = expression if isinstance(expression, ast.Call) else None
    marker = _marker(call.func if call else expression)
    args, kwargs, unknown = _arguments(call, bound) if call and marker else ((), (), False)
    yield Mark(marker, names, args, kwargs, unknown)
    inner = [node for part in (*call.args, *call.keywords) for node in ast.walk(part)] if call else []
    called = {id(node.func) for node in inner if isinstance(node, ast.Call)}
    for node in inner:
        if isinstance(node, ast.Call) and _marker(node.func):
            yield Mark(_marker(node.func), (), *_arguments(node, bound))
        elif isinstance(node, ast.Attribute) and _marker(node) and id(node) not in called:
            yield Mark(_marker(node), ())
        elif isinstance(node, ast.Name) and node.id in bound and _is_mark(bound[node.id]) and depth < 5:
            yield from _read(bound[node.id], bound, depth + 1)


def _is_mark(expression: ast.expr) -> bool:
    return bool(_marker(expression.func if isinstance(expression, ast.Call) else expression))


def _arguments(call: ast.Call, bound: _Bound) -> tuple[tuple[Any, ...], tuple[tuple[str, Any], ...], bool]:
    args: list[Any] = []
    kwargs: list[tuple[str, Any]] = []
    unknown = False
    for name, value in [("", arg) for arg in call.args] + [(each.arg or "**", each.value) for each in call.keywords]:
        seen = bound.get(value.id, value) if isinstance(value, ast.Name) else value
        try:
            literal = ast.literal_eval(seen)
        except (ValueError, TypeError):
            unknown = True
            continue
        if name:
            kwargs.append((name, literal))
        else:
            args.append(literal)
    return tuple(args), tuple(kwargs), unknown


def _marker(node: ast.expr) -> str:
    """ "gpu" for `pytest.mark.gpu` and `mark.gpu`."""
    dotted = _dotted(node)
    head, _, name = dotted.rpartition(".")
    return name if head in ("pytest.mark", "mark") else ""


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return ""
