"""Which files may have other tests because a class of another file changed, from which theirs inherit."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from greenline.ci.evidence.python_rule import Rule
from greenline.depgraph import changes as kinds
from greenline.depgraph.blocks import leaf
from greenline.depgraph.fixtures import name_matcher
from greenline.depgraph.index import Opened
from greenline.depgraph.layout import is_code
from greenline.depgraph.overlay import FileState

MOST_HEIRS = 300
"""Where more are found, any file may have other tests."""

_SAME_TESTS = (kinds.BODY, kinds.COMPILED, kinds.DEFAULT, kinds.DOCSTRING)
_COLLECTION = ("", "__init__", "__new__", "__test__", "pytestmark")
"""Members that decide whether pytest collects a class, and as which tests; "" is its head, or a statement in it."""
_INHERITS = rb"\bclass\s+\w+\s*(\[.*?\])?\s*\([^)]*\b%b\b"
_IMPORTS = rb"\bfrom\s+[\w.]+\s+import\s+(\([^)]*|[^\n(]*)\b%b\b"


class _Changed(NamedTuple):
    """A class by name, in the file that defines or imports it; "" for another name of it.

    ``gains``: it has a test more or less than before. ``imported``: the name means another thing there; whether that
    is a class at all, those tell who inherit from it.
    """

    name: str
    path: str
    gains: bool = False
    imported: bool = False


def other_tests(rule: Rule) -> frozenset[str]:
    """Test files with a class that goes by the name of a heir of one whose tests may be others now.

    A class's own file is none of them: its text shows what changed.
    """
    opened, names, files = rule.opened, rule.names, rule.evidence.files
    suites = [(*suite.python_functions, *suite.python_classes) for suite in opened.suites]
    is_test = name_matcher([each for suite in suites for each in suite])
    waiting = [each for state in opened.changes if is_code(state.path) for each in _changed(rule, state, is_test)]
    most = len(waiting) + MOST_HEIRS
    found, seen = set[str](), set[_Changed]()
    while waiting:
        changed = waiting.pop()
        if changed in seen:
            continue
        seen.add(changed)
        if len(seen) > most:
            return frozenset(files)
        name = changed.name
        for path in _importers(opened, changed.path) if changed.imported else filter(is_code, names.files(name)):
            source = opened.read_head(path) or b""
            imports = bool(re.search(_IMPORTS % name.encode(), source))
            if changed.imported and (imports or b"import *" in source):
                waiting.append(changed._replace(path=path))
            for alias in re.findall(rb"\b%b\s+as\s+(\w+)" % name.encode(), source):
                waiting.append(_Changed(alias.decode(), "", changed.gains))
            near = []
            if re.search(_INHERITS % name.encode(), source):
                near = [(node.name, [*map(leaf, node.bases)]) for _, node in names.classes(path)]
            near = [(heir, bases) for heir, bases in near if name in bases]
            waiting += [_Changed(heir, path, changed.gains) for heir, _ in near]
            tests = any(changed.gains or is_test(heir) or _sounds_so(heir, *bases) for heir, bases in near)
            if tests or (imports and (is_test(name) or _sounds_so(name))):
                found |= {path} - {changed.path}
    return frozenset(found.intersection(files))


def _changed(rule: Rule, state: FileState, is_test: Callable[[str], bool]) -> Iterator[_Changed]:
    """The classes of a file that may have other tests now, or are others."""
    compared = rule.compared(state)
    for change in compared.changes if compared else ():  # all of a file came or went: so do the modules that name it
        owner, _, last = change.name.rpartition(".")
        if not owner and change.kind == kinds.IMPORT_REMOVED:
            yield _Changed(change.name, state.path, imported=True)
        elif not owner and isinstance(change.node, ast.ClassDef):
            yield _Changed(change.name, state.path)
        elif not owner or change.kind in _SAME_TESTS:
            continue
        elif last.startswith(("test", "runTest")) or (last and is_test(last)):
            yield _Changed(owner.rpartition(".")[2], state.path, gains=True)
        elif last in _COLLECTION and change.kind != kinds.SIGNATURE:
            yield _Changed(owner.rpartition(".")[2], state.path)


def _sounds_so(*names: str) -> bool:
    """Whether it may be a class of tests by unittest's customs."""
    return any(word in name.lower() for name in names for word in ("test", "case"))


def _importers(opened: Opened, path: str) -> list[str]:
    return sorted(map(opened.graph.path, opened.graph.importers(opened.graph.node(path))))
