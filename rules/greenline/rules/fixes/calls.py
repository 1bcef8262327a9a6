"""Calls: an argument that is needed now, a renamed keyword, arguments to name, a coroutine to await (classes 4-7)."""

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


def add_argument(fix: Fix, data: bytes) -> bytes:
    """``f(1)`` becomes ``f(1, new=2)``, on a line of its own where the other arguments have theirs."""
    source = Source(data)
    call = source.at(fix.line, fix.column, lambda node: isinstance(node, cst.Call) and _called(node) == fix.old)
    name, _, value = fix.new.partition("=")
    if _passes(call, name) or any(one.star == "**" for one in call.args):
        raise Refused(f"the call may pass {name}= already")
    equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    added = cst.Arg(cst.parse_expression(value), cst.Name(name), equal)
    if not call.args:
        return source.replaced({call: lambda node: node.with_changes(args=[added])})
    before = call.args[-2].comma.whitespace_after if len(call.args) > 1 else call.whitespace_before_args
    gap = _uncommented(before if len(call.args) > 1 or _breaks(before) else cst.SimpleWhitespace(" "))
    last = call.args[-1]
    if isinstance(last.comma, cst.Comma):  # what follows it, and a comment beside it, stay where they are
        end: Any = last.comma.whitespace_after
        added = added.with_changes(comma=cst.Comma(whitespace_after=_uncommented(end)))
        if _breaks(end) and _breaks(gap):
            gap = gap.with_changes(first_line=end.first_line, empty_lines=end.empty_lines)
    else:  # a bracket may stand on the next line
        added = added.with_changes(whitespace_after_arg=last.whitespace_after_arg)
        last = last.with_changes(whitespace_after_arg=cst.SimpleWhitespace(""))
    last = last.with_changes(comma=cst.Comma(whitespace_after=gap))
    return source.replaced({call: lambda node: node.with_changes(args=[*node.args[:-1], last, added])})


def _breaks(space: Any) -> bool:
    """Whether a line ends in the space between two arguments."""
    return isinstance(space, cst.ParenthesizedWhitespace)


def _uncommented(space: Any) -> Any:
    return space.with_changes(first_line=cst.TrailingWhitespace(), empty_lines=[]) if _breaks(space) else space


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
