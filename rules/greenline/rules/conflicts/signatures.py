"""Does a call fit a signature? The rules of Python's own binding, as far as the call spells its arguments out."""

from __future__ import annotations

import ast
from typing import NamedTuple

from greenline.depgraph.blocks import leaf
from greenline.rules.conflicts.infer import Ancestry, Value, World
from greenline.rules.conflicts.modules import Function


class Signature(NamedTuple):
    """Parameters by kind. ``optional``: those with a default; any…: ``*args`` and ``**kwargs`` take the rest."""

    only_positional: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    only_keyword: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()
    any_positional: bool = False
    any_keyword: bool = False

    @property
    def positional(self) -> tuple[str, ...]:
        return self.only_positional + self.plain

    @property
    def names(self) -> tuple[str, ...]:
        return self.only_positional + self.plain + self.only_keyword


class Mismatch(NamedTuple):
    """Why a call does not fit. ``kind``: "missing", "unexpected" or "too many"; ``name``: of the parameter; for
    "too many" the number of positional arguments that fit."""

    kind: str
    name: str


def of_function(node: Function | ast.Lambda, bound: bool = False) -> Signature:
    """``bound``: the first parameter is given already."""
    arguments = node.args
    only = [one.arg for one in arguments.posonlyargs]
    plain = [one.arg for one in arguments.args]
    positional = only + plain
    optional = set(positional[len(positional) - len(arguments.defaults) :]) if arguments.defaults else set()
    optional |= {
        one.arg for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if default is not None
    }
    if bound and only:
        only = only[1:]
    elif bound:
        plain = plain[1:]
    return Signature(
        tuple(only),
        tuple(plain),
        tuple(one.arg for one in arguments.kwonlyargs),
        frozenset(optional),
        arguments.vararg is not None,
        arguments.kwarg is not None,
    )


def of_value(world: World, value: Value) -> Signature | None:
    """The signature of a function, or of a class as its instances are made; None where it cannot be told."""
    if value.kind == "function" and isinstance(value.node, Function):
        return of_function(value.node, value.bound)
    if value.kind != "class" or world.is_enum(value):
        return None
    for name in ("__new__", "__init__"):
        found = world.class_member(value, name)
        if isinstance(found, tuple) and isinstance(found[1].node, Function):
            return of_function(found[1].node, bound=True)
    ancestry = world.ancestry(value)
    if ancestry.open:
        return None
    return _of_fields(ancestry)


def _of_fields(ancestry: Ancestry) -> Signature | None:
    """The signature that @dataclass or NamedTuple makes from annotated fields; a plain class takes nothing."""
    named_tuple = any(getattr(base, "__name__", "") == "NamedTuple" for base in ancestry.outside)
    decorators = [
        decorator
        for one in ancestry.classes
        for decorator in one.node.decorator_list
        if leaf(decorator) in ("dataclass", "define", "frozen", "attrs")
    ]
    if not named_tuple and not decorators:
        plain = all(base is object or getattr(base, "__module__", "") in ("abc", "typing") for base in ancestry.outside)
        return Signature() if plain else None
    if any(isinstance(one, ast.Call) and leaf(one) != "dataclass" for one in decorators):
        return None
    fields: dict[str, bool] = {}
    keyword_only: set[str] = set()
    for one in reversed(ancestry.classes):
        only = any(_says(decorator, "kw_only") for decorator in one.node.decorator_list)
        for node in one.node.body:
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            if leaf(node.annotation) == "KW_ONLY":
                only = True
                continue
            if leaf(node.annotation) == "ClassVar" or _says_not(node.value, "init"):
                continue
            fields[node.target.id] = _has_default(node.value)
            if only or _says(node.value, "kw_only"):
                keyword_only.add(node.target.id)
    return Signature(
        (),
        tuple(name for name in fields if name not in keyword_only),
        tuple(name for name in fields if name in keyword_only),
        frozenset(name for name, optional in fields.items() if optional),
    )


def _has_default(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call) and leaf(value) in ("field", "Factory", "ib"):
        return any(one.arg in ("default", "default_factory", "factory") for one in value.keywords)
    return value is not None


def _says(node: ast.expr | None, option: str, answer: bool = True) -> bool:
    keywords = node.keywords if isinstance(node, ast.Call) else []
    return any(
        one.arg == option and isinstance(one.value, ast.Constant) and one.value.value is answer for one in keywords
    )


def _says_not(node: ast.expr | None, option: str) -> bool:
    return _says(node, option, False)


def positional_names(call: ast.Call, signature: Signature) -> tuple[str, ...]:
    """The parameters that a call's positional arguments go to, as far as they are spelled out."""
    count = next((at for at, one in enumerate(call.args) if isinstance(one, ast.Starred)), len(call.args))
    return signature.positional[:count]


def mismatches(call: ast.Call, signature: Signature, partial: bool = False) -> list[Mismatch]:
    """Why this call fails; [] when it fits or could. ``partial``: more arguments will follow."""
    starred = any(isinstance(one, ast.Starred) for one in call.args)
    unpacked = any(one.arg is None for one in call.keywords)
    found: list[Mismatch] = []
    given = len([one for one in call.args if not isinstance(one, ast.Starred)])
    if given > len(signature.positional) and not signature.any_positional:
        found.append(Mismatch("too many", str(len(signature.positional))))
    taken = set(signature.positional[:given])
    keywords = [one.arg for one in call.keywords if one.arg is not None]
    for name in keywords:
        if name in signature.plain + signature.only_keyword:
            if name in taken and not starred:
                found.append(Mismatch("unexpected", name))
        elif not signature.any_keyword:
            found.append(Mismatch("unexpected", name))
    if partial or unpacked:
        return found
    required = set(signature.names) - signature.optional - taken - set(keywords)
    if starred:
        required &= set(signature.only_keyword)
    return found + [Mismatch("missing", name) for name in signature.names if name in required]
