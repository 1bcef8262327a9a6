"""Which lines of a file are news: a statement that the base has as well is in the other side's file too."""

from __future__ import annotations

import ast
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from greenline.rules.conflicts.modules import Function, Module, bindings
from greenline.rules.conflicts.tree import Tree

_WORD = re.compile(rb"[\w\x80-\xff]+")


class Statement(NamedTuple):
    """A statement of a module's body or a class's, or the head of a class. ``key``: the heads of the classes around it
    and its text; ``first`` and ``last``: its lines, from 1."""

    key: tuple[bytes, ...]
    first: int
    last: int
    node: ast.stmt


class News(NamedTuple):
    """What is news in a file: statements that its version in an older tree does not have, or that spell a name that
    one of these, or one that is gone, binds: it may mean something else now.

    ``words``: what they spell, and the names that changed ones bind; ``spans``: their first and last lines, from 1.
    """

    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]

    def among(self, lines: Sequence[int]) -> list[int]:
        """Those of ``lines`` (in order) that are news."""
        found: set[int] = set()
        for first, last in self.spans:
            found.update(lines[bisect_left(lines, first) : bisect_right(lines, last)])
        return sorted(found)


def news(before: Tree, after: Tree, path: str) -> News:
    """What is news in a file of a tree: all of it where there is no older version, or none that Python can read."""
    if not path.endswith(".py") or path not in before.files:
        return _all(after.read(path) or b"")

    def find() -> tuple[object, ...]:
        old, new = before.module(path), after.module(path)
        if old is None or new is None:
            return tuple(_all(after.read(path) or b""))
        statements, names = _touched(old, new)
        words = names.union(*(_WORD.findall(text) for one in statements for text in one.key))
        return _sorted(words), tuple((one.first, one.last) for one in statements)

    return News(*after.blobs.facts("news", (before.files[path], after.files[path]), find))


def words_of(data: bytes) -> tuple[str, ...]:
    """The words that a file spells, sorted."""
    return _sorted(set(_WORD.findall(data)))


def _all(data: bytes) -> News:
    return News(words_of(data), ((1, len(data.splitlines())),))


def _sorted(words: set[bytes]) -> tuple[str, ...]:
    return tuple(sorted(word.decode("utf-8", "replace") for word in words))


def _touched(base: Module, module: Module) -> tuple[list[Statement], set[bytes]]:
    old, new = list(_statements(base)), list(_statements(module))
    both = {one.key for one in old} & {one.key for one in new}
    changed = [one.node for one in (*old, *new) if one.key not in both]
    names = {name.encode() for name, _ in bindings(changed)}
    found = [one for one in new if one.key not in both or not names.isdisjoint(_WORD.findall(one.key[-1]))]
    return found, names


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
