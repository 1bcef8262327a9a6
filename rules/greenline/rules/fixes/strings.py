"""Strings that name something: mock targets and dotted paths (classes 26 and 28), keys (class 27)."""

from __future__ import annotations

import re

import libcst as cst

from greenline.rules.fixes.fix import Fix, Refused
from greenline.rules.fixes.source import Source


def rewrite_string(fix: Fix, data: bytes) -> bytes:
    """The dotted name ``old`` in the string at this place becomes ``new``; other files than Python's: in the line."""
    if not fix.path.endswith(".py"):
        return _in_line(fix, data)
    source = Source(data)
    node = source.at(fix.line, fix.column, lambda one: isinstance(one, cst.SimpleString) and fix.old in one.value)
    return source.replaced({node: lambda one: one.with_changes(value=_once(fix, one.value))})


def _in_line(fix: Fix, data: bytes) -> bytes:
    lines = data.decode("utf-8", "surrogateescape").splitlines(keepends=True)
    if fix.line > len(lines):
        raise Refused("the line is not there")
    lines[fix.line - 1] = _once(fix, lines[fix.line - 1])
    return "".join(lines).encode("utf-8", "surrogateescape")


def _once(fix: Fix, text: str) -> str:
    spelled = rf"(?<![\w.]){re.escape(fix.old)}(?!\w)"
    if len(re.findall(spelled, text)) != 1:
        raise Refused(f"{fix.old} does not stand there exactly once")
    return re.sub(spelled, lambda _: fix.new, text)
