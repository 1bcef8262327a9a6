"""Classes that no longer fit their bases: unimplemented abstract methods, overrides with another signature or name."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from greenline.depgraph.blocks import leaf
from greenline.rules.conflicts.infer import Class, Value, World
from greenline.rules.conflicts.modules import Function
from greenline.rules.conflicts.problem import Problem
from greenline.rules.conflicts.signatures import Mismatch, Signature, mismatches, of_function

_ABSTRACT = frozenset(("abstractmethod", "abstractproperty", "abstractclassmethod", "abstractstaticmethod"))


def class_problems(world: World, path: str, words: frozenset[str]) -> list[Problem]:
    """For each class of a module that spells one of these words as its name or a base's: "abstract" (it cannot be
    instantiated), "override" (a call that its base takes fails) and "orphan" (a method that overrides nothing)."""
    found: list[Problem] = []
    module = world.tree.module(path)
    for name, bound in module.names.items() if module else ():
        node = bound[-1].node
        if isinstance(node, ast.ClassDef) and node.bases and not words.isdisjoint((name, *map(_named, node.bases))):
            value = Value("class", path, name, node)
            found += _abstract(world, value)
            found += _overrides(world, value)
    return found


def _named(base: ast.expr) -> str:
    return leaf(base.value if isinstance(base, ast.Subscript) else base)


def _problem(kind: str, value: Value, node: ast.AST, subject: str, target: Class, name: str, *detail: str) -> Problem:
    line, column = getattr(node, "lineno", 0), getattr(node, "col_offset", 0)
    where = (target.path, f"{target.name}.{name}")
    return Problem(kind, value.path, line, column, value.name, subject, where, detail, node)


def _abstract(world: World, value: Value) -> Iterator[Problem]:
    assert isinstance(value.node, ast.ClassDef)
    seen: set[str] = set()
    for owner in world.ancestry(value).classes:
        for name, bound in owner.members.names.items():
            node = bound[-1].node
            if name not in seen and isinstance(node, Function) and is_abstract(node):
                yield _problem("abstract", value, value.node, value.name, owner, name)
                return
        seen.update(owner.members.names)


def is_abstract(node: Function) -> bool:
    return any(leaf(one) in _ABSTRACT for one in node.decorator_list)


def _overrides(world: World, value: Value) -> Iterator[Problem]:
    mine, *above = world.ancestry(value).classes
    for name, bound in mine.members.names.items():
        node = bound[-1].node
        if not isinstance(node, Function) or name in ("__init__", "__new__", "__init_subclass__", "__post_init__"):
            continue
        base = next((one for one in above if name in one.members.names), None)
        if base is None:
            if above and not name.startswith("__"):
                yield _problem("orphan", value, node, f"{value.name}.{name}", above[0], name)
            continue
        theirs = base.members.names[name][-1].node
        if not isinstance(theirs, Function) or _is_special(node) or _is_special(theirs):
            continue
        signature, expected = of_function(node, True), of_function(theirs, True)
        why = _misfit(signature, expected) or _called_otherwise(above, name, signature, expected)
        if why:
            yield _problem("override", value, node, f"{value.name}.{name}", base, name, why.kind, why.name)


def _is_special(node: Function) -> bool:
    known = _ABSTRACT | {"override", "staticmethod", "classmethod", "final"}
    return any(leaf(one) not in known for one in node.decorator_list) or any(
        leaf(one) == "staticmethod" for one in node.decorator_list
    )


def _misfit(mine: Signature, expected: Signature) -> Mismatch | None:
    """Why the smallest call that the base's method takes fails in the override."""
    required = [name for name in expected.names if name not in expected.optional]
    positional = [ast.Constant(0) for name in required if name not in expected.only_keyword]
    keywords = [ast.keyword(name, ast.Constant(0)) for name in required if name in expected.only_keyword]
    found = mismatches(ast.Call(ast.Name("m"), list(positional), keywords), mine)
    return found[0] if found else None


def _called_otherwise(above: list[Class], name: str, mine: Signature, expected: Signature) -> Mismatch | None:
    """Why a call ``self.name(…)`` in a base class fails in the override, though it fits the base's own method."""
    for owner in above:
        for node in _calls_on_self(owner.node).get(name, ()):
            if not mismatches(node, expected) and (found := mismatches(node, mine)):
                return found[0]
    return None


def _calls_on_self(owner: ast.ClassDef) -> dict[str, list[ast.Call]]:
    """The calls ``self.name(…)`` in a class by name; kept at the node, which all trees share."""
    known: dict[str, list[ast.Call]] | None = getattr(owner, "_calls_on_self", None)
    if known is None:
        known = owner._calls_on_self = {}  # type: ignore[attr-defined]
        for node in ast.walk(owner):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name("self"), attr=name)):
                    known.setdefault(name, []).append(node)
    return known
