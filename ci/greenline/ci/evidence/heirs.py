"""Which files may have other tests because a class of another file changed, from which theirs inherit."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from greenline.ci.evidence.python_rule import Rule
from greenline.depgraph import changes as kinds
from greenline.depgraph.blocks import items, leaf, parse
from greenline.depgraph.fixtures import name_matcher
from greenline.depgraph.layout import is_code
from greenline.depgraph.overlay import FileState

MOST_CLASSES = 300
"""Beyond that, any file may."""

_SAME_TESTS = (kinds.BODY, kinds.COMPILED, kinds.DEFAULT, kinds.DOCSTRING)
_COLLECTION = ("", "__init__", "__new__", "__test__", "pytestmark")
"""Members that decide whether pytest collects a class, and as which tests; "" is its head, or a statement in it."""
_USE = rb"\bclass\s+\w+\s*(\[.*?\])?\s*\([^)]*\b%b\b|\bimport\b[^\n(]*(\([^)]*)?\b%b\b"
"""What a file looks like that inherits from a name, or imports it."""


class _Changed(NamedTuple):
    """A class by name, in a file that defines or imports it. ``gains``: it has a test more or less than before."""

    name: str
    path: str
    gains: bool


def other_tests(rule: Rule) -> frozenset[str]:
    """Test files with a class that goes by the name of a heir of one whose tests may be others now.

    A class's own file is none of them: its text shows what changed.
    """
    opened, names, files = rule.opened, rule.names, rule.evidence.files
    suites = [(*suite.python_functions, *suite.python_classes) for suite in opened.suites]
    is_test = name_matcher([each for suite in suites for each in suite])
    waiting = [each for state in opened.changes if is_code(state.path) for each in _changed(rule, state, is_test)]
    found, seen = set[str](), set[_Changed]()
    while waiting:
        changed = waiting.pop()
        if changed in seen:
            continue
        seen.add(changed)
        if len(seen) > MOST_CLASSES:
            return frozenset(files)
        name = changed.name
        for path in filter(is_code, names.files(name)):
            source = opened.read_head(path) or b""
            if not re.search(_USE % (name.encode(), name.encode()), source):
                continue
            near = [
                (node.name, bases) for _, node in names.classes(path) if name in (bases := [*map(leaf, node.bases)])
            ]
            waiting += [_Changed(heir, path, changed.gains) for heir, _ in near]
            tests = any(changed.gains or is_test(heir) or _sounds_so(heir, *bases) for heir, bases in near)
            if tests or ((is_test(name) or _sounds_so(name)) and _imports(source, name)):
                found |= {path} - {changed.path}
    return frozenset(found.intersection(files))


def _changed(rule: Rule, state: FileState, is_test: Callable[[str], bool]) -> Iterator[_Changed]:
    """The classes of a file that may have other tests now, or are others."""
    compared = rule.compared(state)
    for change in compared.changes if compared else ():  # all of a file came or went: so do the modules that name it
        owner, _, last = change.name.rpartition(".")
        if not owner and (isinstance(change.node, ast.ClassDef) or change.target):
            yield _Changed(change.name, state.path, False)
        elif not owner or change.kind in _SAME_TESTS:
            continue
        elif last.startswith(("test", "runTest")) or (last and is_test(last)):
            yield _Changed(owner.rpartition(".")[2], state.path, True)
        elif last in _COLLECTION and change.kind != kinds.SIGNATURE:
            yield _Changed(owner.rpartition(".")[2], state.path, False)


def _sounds_so(*names: str) -> bool:
    """Whether it may be a class of tests by unittest's customs."""
    return any(word in name.lower() for name in names for word in ("test", "case"))


def _imports(source: bytes, name: str) -> bool:
    tree = parse(source)
    return tree is None or any(name in item.names and isinstance(item.value, tuple) for item in items(tree.body))
