"""The tests of a file by name, with those that its classes inherit from classes of other files.

pytest runs an inherited test once for each class that inherits it, under that class's name, and syntax shows it in
another file. So the classes that a file inherits from are read as if they stood in it. Without that, nobody could say
whether all tests of the file have been seen.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from greenline.depgraph import blocks
from greenline.depgraph.blocks import Function, Item, leaf
from greenline.depgraph.changes import is_plain_decorator
from greenline.depgraph.fixtures import FileFixtures, is_expanding, is_mark, name_matcher, read_fixtures, read_tree

Imported = Callable[[str, str], str | None]
"""(path, module as it is written there) → the file that it means, None if it is none of the repository's."""
MARKER = "GreenlineInherited"
MOST_STEPS = 10
"""From file to file, or from class to base, until a name is found; beyond that it counts as dynamic."""


class Dynamic(Exception):
    """What a class inherits is decided as it is made."""


class Foreign(NamedTuple):
    """A class or module from outside the repository: the file that imports it, and the import."""

    path: str
    item: Item


class Class(NamedTuple):
    path: str
    node: ast.ClassDef


class Files:
    """What the files of the repository bind; each is read once."""

    def __init__(self, read: Callable[[str], bytes | None], imported: Imported) -> None:
        self.read, self.imported = read, imported
        self._bound: dict[str, dict[str, list[Item]]] = {}
        self._names: dict[str, frozenset[str]] = {}
        self._makes_tests: dict[str, bool] = {}

    def bindings(self, path: str) -> dict[str, list[Item]]:
        """Name → what binds it at the top of a file; "*": the imports of all names. Raises Dynamic."""
        if path not in self._bound:
            tree = blocks.parse(self.read(path) or b"")
            if tree is None:
                raise Dynamic
            self._bound[path] = bindings(tree)
        return self._bound[path]

    def stars(self, path: str, bound: dict[str, list[Item]]) -> list[str]:
        """The files of the repository of which a file imports all names."""
        nodes = (item.value for item in bound.get("*", []))
        found = [self.imported(path, "." * node.level + (node.module or "")) for node in nodes]
        return [file for file in found if file]

    def names(self, path: str) -> frozenset[str]:
        """The names that a file binds, those of its star imports included."""
        if path not in self._names:
            bound = self.bindings(path)
            self._names[path] = frozenset(bound)  # for files that import all of each other
            self._names[path] = frozenset(bound).union(*map(self.names, self.stars(path, bound)))
        return self._names[path]

    def makes_tests(self, path: str) -> bool:
        """Whether statements of a file may give its classes tests."""
        if path not in self._makes_tests:
            loose = (t for t in read_fixtures(self.read(path) or b"").tests if not t.node_id and not t.classes)
            self._makes_tests[path] = any(test.dynamic and not test.requests for test in loose)
        return self._makes_tests[path]


def node_ids(path: str, files: Files, names: tuple[tuple[str, ...], tuple[str, ...]]) -> list[str] | None:
    """The tests of a file: "test_x", "TestC::test_m"; "TestC" for one whose tests have no names here.

    ``names``: python_functions and python_classes of pytest's configuration. None: there may be others.
    """
    source = files.read(path)
    tree = blocks.parse(source) if source is not None and path.endswith(".py") else None
    if source is None or tree is None:
        return None
    facts = read_tree(tree, *names)
    unknown = {name for test in facts.tests if test.dynamic for name in test.classes}
    try:
        whole = _Whole(files, names)
        whole.inline(path, tree, unknown, facts.test_imports)
    except Dynamic:
        return None
    return _named(read_tree(tree, *names) if whole.added else facts, whole.foreign)


def _named(facts: FileFixtures, foreign: set[str]) -> list[str] | None:
    found = []
    for test in facts.tests:
        if not any(name.startswith(MARKER) for name in test.classes):
            only_class = len(test.classes) == 1 and test.classes[0] in foreign
            found.append(test.classes[0] if only_class and not test.node_id else test.node_id)
    return found if found and "" not in found and "*" not in facts.test_imports else None


class _Whole:
    """Puts the classes of other files into a tree, under names that start with MARKER."""

    def __init__(self, files: Files, names: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
        self.files, self.own = files, ("", dict[str, list[Item]]())
        self.is_test, self.is_class = map(name_matcher, names)
        self.foreign: set[str] = set()  # top-level classes with a base from outside the repository
        self._placed: dict[tuple[str, str], str] = {}
        self.added: list[ast.stmt] = []

    def inline(self, path: str, tree: ast.Module, classes: Iterable[str], test_imports: Iterable[str]) -> None:
        """Give these classes of a file, and what pytest collects of its imports, bases that are in the file.

        Raises Dynamic.
        """
        self.own = path, bindings(tree)  # its classes get other bases
        for name in dict.fromkeys([*test_imports, *self._imported_cases(path)]):
            found = self._find(path, [name]) if name != "*" else None
            if isinstance(found, Class):
                self.added.append(_class(name, [self._place(found)]))
        nodes = dict(blocks.definitions(tree.body))
        waiting, seen = sorted(classes), set[str]()
        while waiting:
            name = waiting.pop()
            node = nodes.get(name)
            if isinstance(node, ast.ClassDef) and name not in seen:
                seen.add(name)
                waiting += self._class(path, name, node)
        tree.body += self.added

    def _imported_cases(self, path: str) -> Iterator[str]:
        """The names under which a file imports classes that pytest collects whatever they are called."""
        for name, items in self._bindings(path).items():
            if name[:1].isupper() and all(isinstance(item.value, tuple) and len(item.value) == 4 for item in items):
                try:
                    found = self._find(path, [name])
                    if isinstance(found, Class) and self._is_case(found):
                        yield name
                except Dynamic:  # most of what is imported is no test at all
                    pass

    def _is_case(self, found: Class, depth: int = 0) -> bool:
        if depth > MOST_STEPS:
            raise Dynamic
        if any("__test__" in blocks.bound_names(statement) for statement in found.node.body):
            return True
        for base in found.node.bases:
            above = self._base(found.path, base)
            if self._is_case(above, depth + 1) if isinstance(above, Class) else leaf(base).endswith("TestCase"):
                return True
        return False

    def _class(self, path: str, name: str, node: ast.ClassDef) -> list[str]:
        """The bases of a class that are in its file; the others are put there."""
        near, bases = [], []
        for base in node.bases:
            found = self._base(path, base)
            if found is None or found.path == path:
                bases.append(base)
            else:
                bases.append(ast.parse(self._placed_base(found, base), mode="eval").body)
            if isinstance(found, Foreign) and not is_expanding(node):
                self.foreign.add(name)
            elif isinstance(found, Class) and found.path == path:
                near.append(found.node.name)
        if bases != node.bases:
            self._check_decorators(path, node)
        node.bases = bases
        return near

    def _place(self, found: Class) -> str:
        """Put a class of another file into this one; its name here."""
        path, node = found
        key = (path, node.name)
        if key not in self._placed:
            name = f"{MARKER}{len(self._placed)}"
            self._placed[key] = ""
            self._check(path, node)
            bases = [self._placed_base(self._base(path, base), base) for base in node.bases]
            marks = [each for each in node.decorator_list if is_mark(each)]
            self.added.append(_class(name, bases, node.body, marks))
            self._placed[key] = name
        if not self._placed[key]:
            raise Dynamic  # a class above itself: one of the two has its name from elsewhere
        return self._placed[key]

    def _placed_base(self, found: Class | Foreign | None, base: ast.expr) -> str:
        """An expression that gives a base class in this file. None: a builtin."""
        if isinstance(found, Class):
            return self._place(found)
        if found is None:
            return leaf(base)
        name = f"{MARKER}From{len(self.added)}"
        item = found.item
        if len(item.value) == 2:  # import a.b as c
            self.added.append(ast.Import([ast.alias(item.value[0], name)]))
            return f"{name}.{leaf(base)}"
        module, level, original, _ = item.value
        if level:
            raise Dynamic  # a relative import that leads to nothing in the repository
        self.added.append(ast.ImportFrom(module, [ast.alias(original, name)], 0))
        return f"{name}.{leaf(base)}" if isinstance(base, ast.Attribute) else name

    def _check(self, path: str, node: ast.ClassDef) -> None:
        """Raises Dynamic unless all that a class of another file has is what its body shows."""
        if self.files.makes_tests(path) or any(leaf(keyword.value) != "ABCMeta" for keyword in node.keywords):
            raise Dynamic
        self._check_decorators(path, node)
        for statement in _flat(node.body):
            names = blocks.bound_names(statement)
            plain = isinstance(getattr(statement, "value", None), ast.Constant)
            if isinstance(statement, ast.ClassDef):
                known = not self.is_class(statement.name)
            elif isinstance(statement, ast.Expr):
                known = plain
            elif names:
                known = plain or not any(self.is_test(name) or name.startswith("test") for name in names)
            else:
                known = isinstance(statement, Function | ast.Pass | ast.If | ast.Try | ast.With)
            if not known:
                raise Dynamic

    def _check_decorators(self, path: str, node: ast.ClassDef) -> None:
        for each in node.decorator_list:
            if not is_mark(each) and not is_plain_decorator(each):
                found = self._find(path, _dotted(each))
                if not isinstance(found, Foreign):
                    raise Dynamic

    def _base(self, path: str, base: ast.expr) -> Class | Foreign | None:
        """What a base class is; None for a builtin."""
        while isinstance(base, ast.Subscript):
            base = base.value
        found = self._find(path, _dotted(base))
        if isinstance(found, str) or isinstance(base, ast.Call):
            raise Dynamic
        return found

    def _find(self, path: str, parts: list[str], depth: int = 0) -> Class | Foreign | str | None:
        """What a dotted name is in a file; a path if it is a module."""
        items = self._bindings(path).get(parts[0], []) if parts else []
        if parts and not items and depth <= MOST_STEPS:
            homes = [
                file for file in self.files.stars(path, self._bindings(path)) if parts[0] in self.files.names(file)
            ]
            found = [self._find(home, parts, depth + 1) for home in homes]
            if found and all(each == found[0] for each in found):
                return found[0]
        if not items and len(parts) == 1 and hasattr(builtins, parts[0]):
            return None
        if len(items) != 1 or depth > MOST_STEPS:
            raise Dynamic
        item = items[0]
        if isinstance(item.value, ast.ClassDef) and len(parts) == 1:
            return Class(path, item.value)
        if not isinstance(item.value, tuple) or item.value[0] == "TYPE_CHECKING":
            raise Dynamic
        if len(item.value) == 2:  # import a.b.c, import a.b as c
            dotted = [*item.value[0].split("."), *parts[1:]] if item.value[1] else parts
            for end in range(len(dotted) - 1, 0, -1):
                file = self.files.imported(path, ".".join(dotted[:end]))
                if file:
                    return self._find(file, dotted[end:], depth + 1)
            return Foreign(path, item)
        module, level, name, _ = item.value
        above = "." * level + (module or "")
        inside = self.files.imported(path, f"{above}.{name}" if module else f"{above}{name}")
        file = self.files.imported(path, above)
        if inside and not (file and name in self._bindings(file)):
            return self._find(inside, parts[1:], depth + 1) if parts[1:] else inside
        return self._find(file, [name, *parts[1:]], depth + 1) if file else Foreign(path, item)

    def _bindings(self, path: str) -> dict[str, list[Item]]:
        return self.own[1] if path == self.own[0] else self.files.bindings(path)


def bindings(tree: ast.Module) -> dict[str, list[Item]]:
    found: dict[str, list[Item]] = {}
    for item in blocks.items(tree.body):
        is_star = isinstance(item.value, ast.ImportFrom)
        for name in ("*",) if is_star else item.names:
            found.setdefault(name, []).append(item)
    return found


def _flat(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a class body, with those below if, try and with."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            for part in (*getattr(statement, "handlers", ()), statement):
                for block in ("body", "orelse", "finalbody"):
                    yield from _flat(getattr(part, block, ()))


def _dotted(node: ast.expr) -> list[str]:
    """`a.b.c` and `a.b.c(…)` as parts; [] for anything else."""
    node = node.func if isinstance(node, ast.Call) else node
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return [node.id, *parts] if isinstance(node, ast.Name) else []


def _class(
    name: str, bases: Iterable[str], body: Iterable[ast.stmt] = (), decorators: Iterable[ast.expr] = ()
) -> ast.ClassDef:
    found = ast.parse(f"class {name}({', '.join(bases)}): pass").body[0]
    assert isinstance(found, ast.ClassDef)
    found.body = list(body) or found.body
    found.decorator_list = list(decorators)
    return found
