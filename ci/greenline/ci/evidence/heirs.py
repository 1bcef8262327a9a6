"""Which files may have other tests because a class of another file changed, from which theirs inherit."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

from greenline.ci.evidence.names import Names
from greenline.depgraph import changes as kinds
from greenline.depgraph.blocks import items, leaf, parse
from greenline.depgraph.fixtures import name_matcher
from greenline.depgraph.index import Opened
from greenline.depgraph.layout import is_code
from greenline.depgraph.overlay import FileState

MOST_CLASSES = 300
"""Beyond that, any file may."""

_SAME_TESTS = (kinds.BODY, kinds.COMPILED, kinds.DEFAULT, kinds.DOCSTRING)
_COLLECTION = ("", "__init__", "__new__", "__test__", "pytestmark")
"""Members that decide whether pytest collects a class, and as which tests; "" is its head, or a statement in it."""


def other_tests(opened: Opened, names: Names, files: Collection[str]) -> frozenset[str]:
    """Those of ``files`` with a class that goes by the name of a heir of one whose tests may be others now.

    A class's own file is none of them: its text shows what changed.
    """
    waiting = [
        (name, state.path) for state in opened.changes if is_code(state.path) for name in _changed(opened, state)
    ]
    found, seen = set[str](), set[tuple[str, str]]()
    while waiting:
        name, home = waiting.pop()
        if (name, home) in seen:
            continue
        seen.add((name, home))
        if len(seen) > MOST_CLASSES:
            return frozenset(files)
        for path in filter(is_code, names.files(name)):
            near = [node.name for _, node in names.classes(path) if name in map(leaf, node.bases)]
            waiting += [(each, path) for each in near]
            if path != home and path in files and (near or _imports(opened.read_head(path) or b"", name)):
                found.add(path)
    return frozenset(found)


def _changed(opened: Opened, state: FileState) -> Iterator[str]:
    """The classes of a file that have other tests now, or are others."""
    sides = [opened.contents.get(state.path, oid) for oid in (state.base, state.head)]
    trees = [parse(data) if data is not None and b"class" in data else None for data in sides]
    if trees[0] is None or trees[1] is None:
        return  # all that the file has came or went: so do the modules that name it
    is_test = name_matcher([each for suite in opened.suites for each in suite.python_functions + suite.python_classes])
    for change in kinds.kinds(trees[0], trees[1]):
        if change.kind in _SAME_TESTS:
            continue
        owner, _, last = change.name.rpartition(".")
        if isinstance(change.node, ast.ClassDef) and not owner:
            yield change.name
        elif owner and (last in _COLLECTION or last.startswith(("test", "runTest")) or is_test(last)):
            yield owner.rpartition(".")[2]


def _imports(source: bytes, name: str) -> bool:
    tree = parse(source)
    return tree is None or any(name in item.names and isinstance(item.value, tuple) for item in items(tree.body))
