"""Calls: a renamed keyword, arguments that must be named now, a coroutine to await (classes 5, 6 and 7)."""

from __future__ import annotations

from typing import Any

import libcst as cst

from greenline.rules.fixes.fix import Fix, Refused
from greenline.rules.fixes.source import Source, dotted


def rename_keyword(fix: Fix, data: bytes) -> bytes:
    """``f(old=1)`` becomes ``f(new=1)``."""
    source = Source(data)
    call = source.at(fix.line, fix.column, lambda node: isinstance(node, cst.Call) and _passes(node, fix.old))
    if _passes(call, fix.new):
        raise Refused(f"the call passes {fix.new}= already")
    (argument,) = (one for one in call.args if one.keyword is not None and one.keyword.value == fix.old)
    return source.replaced({argument.keyword: lambda name: name.with_changes(value=fix.new)})


def _passes(call: cst.Call, keyword: str) -> bool:
    return any(one.keyword is not None and one.keyword.value == keyword for one in call.args)


def add_keywords(fix: Fix, data: bytes) -> bytes:
    """``f(1, 2)`` becomes ``f(1, b=2)``: the positional arguments from number ``fix.module`` on get these names."""
    source = Source(data)
    names, start = fix.new.split(","), int(fix.module)
    call = source.at(fix.line, fix.column, lambda node: isinstance(node, cst.Call) and _called(node) == fix.old)
    positional = [one for one in call.args if one.keyword is None]
    if any(one.star for one in call.args) or len(positional) != start + len(names):
        raise Refused("its arguments cannot be told apart")
    named = dict(zip(positional[start:], names, strict=True))

    def with_name(name: str) -> Any:
        equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
        return lambda argument: argument.with_changes(keyword=cst.Name(name), equal=equal)

    return source.replaced({argument: with_name(name) for argument, name in named.items()})


def _called(call: cst.Call) -> str:
    if isinstance(call.func, cst.Attribute):
        return call.func.attr.value
    return dotted(call.func)


def add_await(fix: Fix, data: bytes) -> bytes:
    """``f()`` becomes ``await f()``, in async functions only."""
    source = Source(data)
    call = source.at(fix.line, fix.column, lambda node: isinstance(node, cst.Call) and _called(node) == fix.old)
    function = source.around(call, (cst.FunctionDef, cst.Lambda, cst.GeneratorExp))
    if not isinstance(function, cst.FunctionDef) or function.asynchronous is None:
        raise Refused("its caller is not async")
    parent = source.parents[call]
    binds_tighter = isinstance(parent, cst.Attribute | cst.Subscript | cst.Call | cst.BinaryOperation)
    left, right = ([cst.LeftParen()], [cst.RightParen()]) if binds_tighter else ([], [])
    return source.replaced({call: lambda node: cst.Await(node, left, right)})
