"""Which definitions and bindings of one Python file mention which names, and what they reach that way.

It goes by the name alone: a local variable called like a helper is a mention.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from greenline.depgraph.blocks import Function, bound_names, items, leaf, parse, walrus


class Symbol(NamedTuple):
    """What one definition or binding mentions."""

    names: set[str]  # bare names, parameters, and string literals that look like names
    attributes: set[str]  # what follows a dot, and those strings
    bases: set[str]  # what the bases of a class mention
    provides: set[str]  # further names of the module that change with it: fixture(name=...), global X


class References(NamedTuple):
    """Which definitions and bindings of a file mention which names.

    symbols: by qualified name; a class stands for its head and its attributes, its methods for themselves.
    The block under `if __name__ == "__main__"` is "__file__": only who starts the file as a script runs it.
    statements: what all other statements that run at import mention.
    dynamic: the file looks names up in ways that cannot be followed (globals(), eval, star imports, ...).
    """

    symbols: dict[str, Symbol]
    statements: Symbol
    dynamic: bool


def references(tree: ast.Module) -> References:
    """Which definitions and bindings of a file mention which names."""
    found = References({}, _no_mentions(), False)
    _collect(tree.body, "", found)
    mentioned = (found.statements, *found.symbols.values())
    suspicious = any(
        not _DYNAMIC_NAMES.isdisjoint(symbol.names) or not _DYNAMIC_ATTRIBUTES.isdisjoint(symbol.attributes)
        for symbol in mentioned
    )
    return found._replace(dynamic=suspicious and _is_dynamic(tree))


def _no_mentions() -> Symbol:
    return Symbol(set(), set(), set(), set())


def _collect(body: list[ast.stmt], inside: str, found: References) -> None:
    def symbol(name: str) -> Symbol:
        return found.symbols.setdefault(name, _no_mentions())

    for item in items(body):
        node = item.value
        if isinstance(node, ast.ClassDef):
            name = f"{inside}{node.name}"
            own = symbol(name)
            for part in [*node.decorator_list, *node.keywords, *getattr(node, "type_params", ())]:
                _mention(part, own)
            bases = _no_mentions()
            for base in node.bases:
                _mention(base, bases)
            own.bases.update(bases.names | bases.attributes)
            _collect(node.body, f"{name}.", found)
        elif isinstance(node, Function):
            _mention(node, symbol(f"{inside}{node.name}"))
            symbol(f"{inside}{node.name}").provides.update(fixture_names(node))
        elif inside:
            _mention(item.node, symbol(inside[:-1]))
        elif item.names:
            for name in item.names:
                _mention(item.node, symbol(name))
                symbol(name).provides.update(walrus(item))
        elif _is_main_guard(node):
            _mention(node, symbol("__file__"))
        elif not _is_inert_statement(node):
            _mention(node, found.statements)


_NAME_LIST = re.compile(r"[\w.:]+(\s*,\s*[\w.:]+)*")


def _mention(node: ast.AST, into: Symbol) -> None:
    """Adds what the tree mentions."""
    for part in ast.walk(node):
        match part:
            case ast.Name(id=name) | ast.arg(arg=name):
                into.names.add(name)
            case ast.Attribute(attr=name, value=value):
                into.attributes.add(name)
                if isinstance(value, ast.Attribute) and value.attr == "module":  # request.module.NAME
                    into.names.add(name)
            case ast.Constant(value=str(text)) if _NAME_LIST.fullmatch(text):
                names = re.findall(r"\w+", text)
                into.names.update(names)
                into.attributes.update(names)
            case ast.alias(name=name) if part is not node:
                into.names.add(name.rpartition(".")[2])
            case ast.Global(names=names):
                into.provides.update(names)


def fixture_names(node: Function) -> list[str]:
    """The names that `@fixture(name=...)` gives a function."""
    return [
        str(keyword.value.value)
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call) and "fixture" in leaf(decorator)
        for keyword in decorator.keywords
        if keyword.arg == "name" and isinstance(keyword.value, ast.Constant)
    ]


def _is_main_guard(node: ast.stmt) -> bool:
    match node:
        case ast.If(test=ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]), orelse=[]):
            return {leaf(left), leaf(right)} == {"__name__", ""} and "__main__" in (_text(left), _text(right))
    return False


def _text(node: ast.AST) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def _is_inert_statement(node: ast.stmt) -> bool:
    """Statements that use no names: future imports, `__all__ = [...]`, `__all__ += [...]`."""
    if isinstance(node, ast.ImportFrom):
        return node.module == "__future__"
    return "__all__" in (*bound_names(node), leaf(node.target) if isinstance(node, ast.AugAssign) else "")


# What looking up names dynamically always mentions, and some harmless code too.
_DYNAMIC_NAMES = {"globals", "locals", "vars", "exec", "eval", "*", "__name__"}
_DYNAMIC_ATTRIBUTES = {"__subclasses__", "module"}
_DYNAMIC_CALLS = {"import_module", "__import__", "get"}


def _is_dynamic(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) if name in _DYNAMIC_NAMES - {"__name__"}:
                return True
            case ast.Attribute(attr="__subclasses__") | ast.ImportFrom(names=[ast.alias(name="*")]):
                return True
            case ast.Subscript(value=value, slice=ast.Name(id="__name__")) if leaf(value) == "modules":
                return True
            case ast.Call(args=[ast.Name(id="__name__"), *_]) if leaf(node) in _DYNAMIC_CALLS:
                return True
            case ast.Call(func=ast.Name(id="getattr"), args=[ast.Attribute(attr="module"), name, *_]):
                if not isinstance(name, ast.Constant):  # request.module
                    return True
    return False


class Reach(NamedTuple):
    """What a set of names reaches.

    found: qualified name → the name through which it is reached; None for those that were asked about.
    containers: classes that are reached only because a test in them is.
    statement: a name that a statement run at import mentions, or None.
    """

    found: dict[str, str | None]
    containers: frozenset[str]
    statement: str | None


def reach(
    refs: References,
    seeds: Mapping[str, str | None],
    is_test: Callable[[str], bool] = lambda name: False,
) -> Reach:
    """Everything that refers to one of the seeds, directly or through others.

    A member of a class reaches the class, and with it who mentions it or inherits from it. A test in a class
    reaches only who mentions the class: the other tests of the class and of its subclasses do not run it.
    """
    by_name, by_attribute, by_base = (_inverted(refs, field) for field in ("names", "attributes", "bases"))
    found = dict(sorted(seeds.items()))
    containers: set[str] = set()
    statement = None

    def expose(name: str, through: str, inherited: bool) -> None:
        nonlocal statement
        outer, _, last = name.rpartition(".")
        for user in (by_attribute if outer else by_name).get(last, ()):
            found.setdefault(user, through)
        for subclass in by_base.get(last, ()) if inherited else ():
            found.setdefault(subclass, through)
        if last in (refs.statements.attributes if outer else refs.statements.names):
            statement = statement or name

    for name in _growing(found):
        expose(name, name, inherited=True)
        for other in sorted(refs.symbols[name].provides) if name in refs.symbols else ():
            found.setdefault(other, name)
        outer = name.rpartition(".")[0]
        if outer and not is_test(name):
            found.setdefault(outer, name)
        while outer and is_test(name) and outer not in containers:
            containers.add(outer)
            expose(outer, name, inherited=False)
            outer = outer.rpartition(".")[0]
    return Reach(found, frozenset(containers - found.keys()), statement)


def _growing(found: Mapping[str, object]) -> Iterator[str]:
    """The keys of a dictionary that grows meanwhile."""
    seen = 0
    while seen < len(found):
        names = list(found)[seen:]
        seen += len(names)
        yield from names


def _inverted(refs: References, field: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, symbol in refs.symbols.items():
        for mentioned in sorted(getattr(symbol, field)):
            found.setdefault(mentioned, []).append(name)
    return found


def closure(source: bytes, names: Iterable[str]) -> frozenset[str] | None:
    """The names, and the definitions and bindings that refer to one of them, directly or through others.

    None when that cannot be told: the file does not parse, it looks names up dynamically, or a statement that
    runs at import (an expression, if, for, `pytestmark`) uses one of them.
    """
    tree = parse(source)
    if tree is None:
        return None
    refs = references(tree)
    reached = reach(refs, dict.fromkeys(names))
    if refs.dynamic or reached.statement:
        return None
    return frozenset(name for name, through in reached.found.items() if through is None or name in refs.symbols)
