"""Which lines of a file are news: a statement that the base has as well is in the other side's file too."""

from __future__ import annotations

import ast
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from greenline.rules.conflicts.modules import Function, Module, bindings

_WORD = re.compile(rb"[\w\x80-\xff]+")


class Statement(NamedTuple):
    """A statement of a module's body or a class's, or the head of a class. ``key``: the heads of the classes around it
    and its text; ``first`` and ``last``: its lines, from 1."""

    key: tuple[bytes, ...]
    first: int
    last: int
    node: ast.stmt


def touched(base: Module | None, module: Module, lines: Sequence[int]) -> list[int]:
    """Those of ``lines`` (in order, from 1) in a module that are in statements that its version in the base does not
    have, or that spell a name that one of these, or one that is gone, binds: it may mean something else now."""
    if base is None:
        return list(lines)
    old, new = list(_statements(base)), list(_statements(module))
    both = {one.key for one in old} & {one.key for one in new}
    changed = [one.node for one in (*old, *new) if one.key not in both]
    names = {name.encode() for name, _ in bindings(changed)}
    found: set[int] = set()
    for one in new:
        if one.key not in both or not names.isdisjoint(_WORD.findall(one.key[-1])):
            found.update(lines[bisect_left(lines, one.first) : bisect_right(lines, one.last)])
    return sorted(found)


def _statements(module: Module) -> Iterator[Statement]:
    lines = module.source.splitlines()

    def inside(body: Sequence[ast.stmt], around: tuple[bytes, ...]) -> Iterator[Statement]:
        for node in body:
            first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])
            last = node.end_lineno or node.lineno
            if isinstance(node, ast.ClassDef):
                last = max(node.lineno, node.body[0].lineno - 1)
            text = b"\n".join(lines[first - 1 : last])
            yield Statement((*around, text), first, last, node)
            if isinstance(node, ast.ClassDef):
                yield from inside(node.body, (*around, text))

    return inside(module.tree.body, ())


def within(module: Module | None, scopes: set[str], lines: Sequence[int]) -> list[int]:
    """Those of ``lines`` that are in functions or classes with these qualified names ("" for any)."""
    if module is None or "" in scopes:
        return list(lines)
    around = {".".join(parts[:count]) for scope in scopes for parts in [scope.split(".")] for count in (1, 2)}
    found: set[int] = set()

    def inside(body: Sequence[ast.stmt], prefix: str) -> None:
        for node in body:
            name = prefix + getattr(node, "name", "")
            if isinstance(node, ast.ClassDef) and not prefix and name in around and name not in scopes:
                inside(node.body, f"{name}.")
            elif not isinstance(node, Function | ast.ClassDef) or name in around:
                found.update(lines[bisect_left(lines, node.lineno) : bisect_right(lines, node.end_lineno or 0)])

    inside(module.tree.body, "")
    return sorted(found)
