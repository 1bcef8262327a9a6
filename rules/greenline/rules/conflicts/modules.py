"""What a module and its classes bind, read from syntax: every name that a user of the module could ask for."""

from __future__ import annotations

import ast
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from greenline.depgraph.blocks import leaf

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class Binding(NamedTuple):
    """One statement that binds a name.

    ``kind``: "function", "class", "value", "import" (``module`` with its dots, ``name`` there) or "module"
    (``module``: what the name stands for). ``sure``: no condition around it.
    """

    kind: str
    node: ast.AST
    module: str = ""
    name: str = ""
    sure: bool = True


class Module:
    """A parsed file. ``open``: it may have names that syntax does not show; ``answers``: the names that its
    ``__getattr__`` may know; ``stars``: modules imported with ``*``."""

    def __init__(self, path: str, tree: ast.Module, source: bytes) -> None:
        self.path = path
        self.tree = tree
        self.source = source
        self.names: dict[str, list[Binding]] = {}
        self.stars: list[str] = []
        self.open = False
        for binding_name, binding in bindings(tree.body):
            if binding_name == "*":
                self.stars.append(binding.module)
            else:
                self.names.setdefault(binding_name, []).append(binding)
        self.answers: frozenset[str] | None = frozenset()
        if "__getattr__" in self.names:
            self.answers = _answers(tree, self.names["__getattr__"][-1].node)
        self.open = self.answers is None or (_DYNAMIC.search(source) is not None and _is_dynamic(tree))
        for name in _global_names(tree) if b"global " in source else ():
            self.names.setdefault(name, []).append(Binding("value", tree, sure=False))

    def lines_with(self, words: frozenset[str]) -> list[int]:
        """The lines, from 1, that spell one of these words."""
        wanted = {word.encode() for word in words}
        lines = self.source.splitlines()
        return [number for number, line in enumerate(lines, 1) if not wanted.isdisjoint(_WORD.findall(line))]


_WORD = re.compile(rb"[\w\x80-\xff]+")


def is_near(statement: ast.stmt, lines: Sequence[int]) -> bool:
    """Whether a statement, with its decorators and its body, has one of these lines (in order)."""
    first = min([statement.lineno, *(one.lineno for one in getattr(statement, "decorator_list", ()))])
    at = bisect_left(lines, first)
    return at < len(lines) and lines[at] <= (statement.end_lineno or first)


def nodes_near(node: ast.AST, lines: Sequence[int]) -> Iterator[ast.AST]:
    """All nodes below a node, but for those of statements that have none of these lines."""
    todo = [node]
    while todo:
        node = todo.pop()
        yield node
        todo += [
            child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.stmt) or is_near(child, lines)
        ]


_DYNAMIC = re.compile(rb"\b(?:globals|exec|vars|locals)\b|sys\.modules")


def local_bindings(function: Function) -> dict[str, list[Binding]]:
    """The names that a function binds in its body; kept at the node."""
    known: dict[str, list[Binding]] | None = getattr(function, "_bindings", None)
    if known is None:
        known = {}
        for name, binding in bindings(function.body):
            known.setdefault(name, []).append(binding)
        function._bindings = known  # type: ignore[union-attr]
    return known


def bindings(body: Sequence[ast.stmt], sure: bool = True) -> Iterator[tuple[str, Binding]]:
    """The names that a module or class body binds, in order, through conditions and loops; "*" for a star import.

    Without overloads that are only there for type checkers.
    """
    for at, node in enumerate(body):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() if _is_overload(node, body[at + 1 :]):
                pass
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name, Binding("function", node, sure=sure)
            case ast.ClassDef():
                yield node.name, Binding("class", node, sure=sure)
            case ast.Import():
                for alias in node.names:
                    target = alias.name if alias.asname else alias.name.partition(".")[0]
                    yield alias.asname or target, Binding("module", alias, target, sure=sure)
            case ast.ImportFrom():
                module = "." * node.level + (node.module or "")
                for alias in node.names:
                    yield alias.asname or alias.name, Binding("import", alias, module, alias.name, sure)
            case _:
                yield from _of_statement(node, sure)


def _is_overload(node: Function, later: Iterable[ast.stmt]) -> bool:
    return any(leaf(one) == "overload" for one in node.decorator_list) and any(
        isinstance(one, Function) and one.name == node.name for one in later
    )


def _of_statement(node: ast.stmt, sure: bool) -> Iterator[tuple[str, Binding]]:
    for name in _stored(node):
        yield name, Binding("value", node, sure=sure)
    match node:
        case ast.If() | ast.For() | ast.AsyncFor() | ast.While():
            yield from bindings(node.body, False)
            yield from bindings(node.orelse, False)
        case ast.Try() | ast.TryStar():
            for part in (node.body, *(handler.body for handler in node.handlers), node.orelse):
                yield from bindings(part, False)
            yield from bindings(node.finalbody, sure)
        case ast.With() | ast.AsyncWith():
            yield from bindings(node.body, sure)
        case ast.Match():
            for case in node.cases:
                yield from bindings(case.body, False)
        case _:
            pass


_BODIES = frozenset(("body", "orelse", "finalbody"))


def _stored(node: ast.stmt) -> Iterator[str]:
    """The names that a statement itself stores, outside its body and outside functions."""
    parts: list[ast.AST] = [node]
    while parts:
        part = parts.pop()
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id
        elif isinstance(part, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and part.name:
            yield part.name
        elif isinstance(part, ast.MatchMapping) and part.rest:
            yield part.rest
        for field, value in ast.iter_fields(part):
            if isinstance(part, ast.stmt | ast.ExceptHandler | ast.match_case) and field in _BODIES:
                continue
            children = value if isinstance(value, list) else [value]
            parts += [child for child in children if isinstance(child, ast.AST) and not isinstance(child, ast.Lambda)]


def _global_names(tree: ast.Module) -> set[str]:
    return {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}


def _answers(tree: ast.Module, function: ast.AST) -> frozenset[str] | None:
    """The strings that a module's ``__getattr__`` compares its name with, also in tables of the module; None where it
    hands the name on, or does not end in an AttributeError."""
    if not isinstance(function, ast.FunctionDef) or not function.args.args:
        return None
    name = function.args.args[0].arg
    words: set[str] = set()
    raises = False
    parts: list[ast.AST] = [function]
    used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    parts += [
        node
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and not used.isdisjoint(_stored(node))
    ]
    for node in (inner for part in parts for inner in ast.walk(part)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            words.add(node.value)
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            raises |= called == "AttributeError"
            given = any(isinstance(one, ast.Name) and one.id == name for part in node.args for one in ast.walk(part))
            if given and called not in ("AttributeError", "warn", "warn_deprecated", "get"):
                return None
    return frozenset(words) if raises else None


_READERS = frozenset(("__import__", "eval", "dict", "len", "list", "sorted", "set"))


def _is_dynamic(tree: ast.Module) -> bool:
    """Whether the module may gain names in ways that syntax does not show: reading ``globals()`` is none of them."""
    only_read = {
        id(node.value)
        for node in ast.walk(tree)
        if (isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load))
        or (isinstance(node, ast.Attribute) and node.attr in ("get", "keys", "items", "values", "copy"))
    }
    only_read |= {
        id(argument)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _READERS
        for argument in node.args
    }
    at_import = {id(node) for statement in tree.body for node in _outside_functions(statement)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and id(node) not in only_read:
            if node.func.id == "globals" or (node.func.id in ("exec", "vars", "locals") and id(node) in at_import):
                return True
        elif (
            isinstance(node, ast.Subscript)
            and isinstance(node.slice, ast.Name)
            and ast.unparse(node) == "sys.modules[__name__]"
        ):
            return True
    return False


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    if not isinstance(node, Function | ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from _outside_functions(child)


class Members(NamedTuple):
    """What a class body and the methods in it give to the class and its instances.

    ``names``: bound in the body; ``on_self``: attributes that methods set on their first parameter, with the method
    and the plain assignment where it is one, and slots;
    ``open``: it answers for any name; ``settable``: methods set attributes of computed names.
    """

    names: dict[str, list[Binding]]
    on_self: dict[str, list[tuple[Function, ast.stmt]]]
    open: bool
    settable: bool


_ANY_ATTRIBUTE = frozenset(("__getattr__", "__getattribute__"))


def members(node: ast.ClassDef) -> Members:
    """The members of one class, without those of its bases; kept at the node, which all trees share."""
    known: Members | None = getattr(node, "_members", None)
    if known is None:
        known = node._members = _members(node)  # type: ignore[attr-defined]
    return known


def _members(node: ast.ClassDef) -> Members:
    names: dict[str, list[Binding]] = {}
    on_self: dict[str, list[tuple[Function, ast.stmt]]] = {}
    settable = False
    for name, binding in bindings(node.body):
        names.setdefault(name, []).append(binding)
        if binding.kind == "function" and isinstance(binding.node, Function):
            settable |= _add_on_self(on_self, binding.node)
    for part in node.body:  # annotations alone declare what an instance has
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name) and part.value is None:
            names.setdefault(part.target.id, []).append(Binding("value", part))
        if isinstance(part, ast.Assign) and "__slots__" in [t.id for t in part.targets if isinstance(t, ast.Name)]:
            for one in ast.walk(part.value):
                if isinstance(one, ast.Constant) and isinstance(one.value, str):
                    on_self.setdefault(one.value, [])
    return Members(names, on_self, not _ANY_ATTRIBUTE.isdisjoint(names), settable)


def _add_on_self(on_self: dict[str, list[tuple[Function, ast.stmt]]], function: Function) -> bool:
    """Add what a method sets on its first parameter; whether it may set anything else."""
    first = (function.args.posonlyargs + function.args.args)[:1]
    if not first:
        return False
    me = first[0].arg
    dynamic = False
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == me:
            if isinstance(node.ctx, ast.Store):
                on_self.setdefault(node.attr, [])
            dynamic |= node.attr == "__dict__"
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == me:
                    on_self.setdefault(target.attr, []).append((function, node))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "vars") and node.args:
            dynamic |= isinstance(node.args[0], ast.Name) and node.args[0].id == me
    return dynamic
