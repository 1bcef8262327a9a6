"""What differs between two versions of one Python file.

A file is read as *items* in order: definitions (def, class), plain bindings of names (imports, `X = ...`) and
statements (all else that runs at import). `compare` matches the items of two versions by name and compares
their syntax trees, so comments, layout and spelling never count.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Delta(NamedTuple):
    """How two versions of a file differ.

    kind: "none" (comments, layout, spelling or nothing), "docstrings" (only docstrings that nothing is known
    to read), "definitions" (only functions, methods and classes), "module" (anything else).
    changed: qualified names ("f", "C", "C.m") of the definitions that changed, came or went; "C" alone is its
    head or attributes. For "module" also the names whose assignment or import did. Empty with `statements`.
    statements: what changed at import is no plain binding of names, or cannot be told: all can differ.
    """

    kind: str
    changed: frozenset[str]
    statements: bool


NONE = Delta("none", frozenset(), False)
ANYTHING = Delta("module", frozenset(), True)


class Item(NamedTuple):
    """One step of a module or class body: a definition, a binding of names, or without names a statement."""

    names: tuple[str, ...]
    value: Any  # what is compared: the node, or a tuple that stands for one name of an import
    node: ast.AST

    @property
    def is_definition(self) -> bool:
        return isinstance(self.value, Definition)


LARGEST = 1_000_000
"""Bytes of a file whose tree is worth its time (seconds for generated tables); larger ones count as unreadable."""


def parse(source: bytes) -> ast.Module | None:
    """The syntax tree, or None where this interpreter cannot read the file, or not in reasonable time."""
    if len(source) > LARGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def compare(old: bytes | None, new: bytes | None) -> Delta:
    """What differs between two versions of one file; None stands for a file that does not exist.

    Functions without decorators and computed defaults may change places among themselves. Any other change of
    order counts as a changed statement, and so does a change of a name that a module defines more than once.
    Docstrings count where something is likely to read them: doctests, a definition with a decorator, a class
    with bases, anything in such a class, and all of them in a file that mentions `__doc__` or `getdoc`.
    """
    if old == new:
        return NONE
    if old is None or new is None:
        return ANYTHING
    trees = parse_both(old, new)
    return compare_trees(*trees, reads_docstrings(old, new)) if trees else ANYTHING


def reads_docstrings(old: bytes, new: bytes) -> bool:
    """Whether a file may look at docstrings itself."""
    return any(word in source for word in (b"__doc__", b"getdoc") for source in (old, new))


def compare_trees(old: ast.Module, new: ast.Module, reads_docstrings: bool) -> Delta:
    """What `compare` says of two files that both parse."""
    found = _Comparison(reads_docstrings)
    found.module(old, new)
    if found.statements:
        return ANYTHING
    if found.changed:
        return Delta("module" if found.bindings else "definitions", frozenset(found.changed), False)
    return Delta("docstrings", frozenset(), False) if found.docstrings else NONE


_BLOCK = (b"def ", b"class ", b"@", b"async def ")


def parse_both(old: bytes, new: bytes) -> tuple[ast.Module, ast.Module] | None:
    """Both trees, or None where one cannot be read. What the files share at start and end is parsed once.

    Parsing is most of the work. A part that parses by itself ends outside all strings and brackets; where the
    next one starts with a definition in the first column, the file parses into the statements of its parts.
    Line numbers count from the start of each part.
    """
    a, b = old.splitlines(keepends=True), new.splitlines(keepends=True)
    shorter = min(len(a), len(b))
    head = next((i for i in range(shorter) if a[i] != b[i]), shorter)
    tail = next((i for i in range(shorter - head) if a[-1 - i] != b[-1 - i]), shorter - head)
    head = next((i for i in range(head - 1, -1, -1) if a[i].startswith(_BLOCK)), 0)
    tail = next((i for i in range(tail, 0, -1) if a[-i].startswith(_BLOCK)), 0)
    parts = [a[:head], a[head : len(a) - tail], b[head : len(b) - tail], a[len(a) - tail :]]
    bodies = [tree.body for tree in map(parse, map(b"".join, parts)) if tree]
    if len(bodies) == len(parts) and b"coding" not in b"".join(a[:2] + b[:2]):  # which holds for all
        first, before, after, last = bodies
        return ast.Module([*first, *before, *last], []), ast.Module([*first, *after, *last], [])
    whole = [tree for tree in map(parse, (old, new)) if tree]
    return (whole[0], whole[1]) if len(whole) == 2 else None


# Names that mean something to import machinery or pytest: binding them is more than giving a value a name.
_SPECIAL = re.compile(r"__(?!version__|doc__)\w+__|pytestmark|pytest_plugins|collect_ignore(_glob)?")


def items(body: Iterable[ast.stmt]) -> Iterator[Item]:
    """The items of a module or class body in order, without what does nothing: pass and constants."""
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield Item((node.name,), node, node)
            case ast.Import():
                for alias in node.names:
                    bound = alias.asname or alias.name.partition(".")[0]
                    yield Item((bound,), (alias.name, alias.asname), alias)
            case ast.ImportFrom() if node.names[0].name != "*" and node.module != "__future__":
                for alias in node.names:
                    value = (node.module, node.level, alias.name, alias.asname)
                    yield Item((alias.asname or alias.name,), value, alias)
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case ast.If(orelse=[]) if leaf(node.test) == "TYPE_CHECKING":
                inner = list(items(node.body))
                if all(item.names and not item.is_definition for item in inner):
                    yield from (item._replace(value=("TYPE_CHECKING", item.value)) for item in inner)
                else:
                    yield Item((), node, node)
            case _:
                names = bound_names(node)
                special = any(_SPECIAL.fullmatch(name) for name in names)
                yield Item(() if special else names, node, node)


def bound_names(node: ast.AST) -> tuple[str, ...]:
    """The names that a plain assignment binds; () for any other statement."""
    targets: list[ast.expr]
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    elif type(node).__name__ == "TypeAlias":  # Python 3.12
        targets = [node.name]  # type: ignore[attr-defined]
    else:
        return ()
    names = []
    for target in targets:
        for part in target.elts if isinstance(target, ast.Tuple | ast.List) else [target]:
            if not isinstance(part, ast.Name):
                return ()
            names.append(part.id)
    return tuple(names)


def leaf(node: ast.AST) -> str:
    """The last name of `a.b.c`, `a.b.c(...)` or `a.b.c[...]`; "" for anything else."""
    while isinstance(node, ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def definitions(body: Iterable[ast.stmt], inside: str = "") -> Iterator[tuple[str, Definition]]:
    """The functions, classes and members of classes in a body by qualified name, in order."""
    for item in items(body):
        if isinstance(item.value, Definition):
            name = inside + item.value.name
            yield name, item.value
            if isinstance(item.value, ast.ClassDef):
                yield from definitions(item.value.body, f"{name}.")


def same(old: Any, new: Any) -> bool:
    """Whether two syntax trees (or lists, tuples, constants in them) are equal apart from positions."""
    pairs = [(old, new)]
    while pairs:
        a, b = pairs.pop()
        if a is b:
            continue
        if type(a) is not type(b):
            return False
        if isinstance(a, ast.AST):
            for field in a._fields:
                if field != "kind":  # the u of u"text"
                    pairs.append((getattr(a, field, None), getattr(b, field, None)))
        elif isinstance(a, list | tuple):
            if len(a) != len(b):
                return False
            pairs += zip(a, b, strict=True)
        elif a != b:
            return False
    return True


class _Comparison:
    """Collects the differences of one file."""

    def __init__(self, reads_docstrings: bool) -> None:
        self.reads_docstrings = reads_docstrings  # the file looks at docstrings itself
        self.changed: set[str] = set()
        self.bindings = self.statements = self.docstrings = False

    def module(self, old: ast.Module, new: ast.Module) -> None:
        if self.docstring(old, new, plain=True):
            self.changed.add("__doc__")
            self.bindings = True
        before, after = list(items(old.body)), list(items(new.body))
        if not same_statements(before, after) or not same_order(before, after):
            self.statements = True
            return
        for name, was, now in by_name(before, after):
            if self.unique_definition(name, was, now, plain=True):
                continue
            if same([i.value for i in was], [i.value for i in now]):
                continue
            defined_twice = max(sum(i.is_definition for i in part) for part in (was, now)) > 1
            self.statements |= defined_twice or any(map(walrus, (*was, *now)))
            self.changed.add(name)
            self.bindings |= not all(i.is_definition for i in (*was, *now))
            self.members(name, was, now)
        self.statements |= any(map(_SPECIAL.fullmatch, self.changed))  # def __getattr__

    def unique_definition(self, name: str, was: list[Item], now: list[Item], plain: bool) -> bool:
        """Compares one definition with its later version; False where there is no such pair."""
        if len(was) != 1 or len(now) != 1:
            return False
        old, new = was[0].value, now[0].value
        if old is new:
            return True
        if isinstance(old, ast.ClassDef) and isinstance(new, ast.ClassDef):
            self.class_(name, old, new, plain)
        elif isinstance(old, Function) and type(old) is type(new):
            if not _same_function(old, new) or self.docstring(old, new, plain and not old.decorator_list):
                self.changed.add(name)
        else:
            return False
        return True

    def class_(self, name: str, old: ast.ClassDef, new: ast.ClassDef, plain: bool) -> None:
        plain = plain and not (new.bases or new.keywords or new.decorator_list)
        before, after = list(items(old.body)), list(items(new.body))
        if (
            self.docstring(old, new, plain)
            or not same(class_head(old), class_head(new))
            or not same_statements(before, after)
            or not same_order(before, after)
        ):
            self.changed.add(name)
        for member, was, now in by_name(before, after):
            qualified = f"{name}.{member}"
            if self.unique_definition(qualified, was, now, plain):
                continue
            if not same([i.value for i in was], [i.value for i in now]):
                only_definitions = all(i.is_definition for i in (*was, *now))
                self.changed.add(qualified if only_definitions else name)
                self.members(qualified, was, now)

    def members(self, name: str, was: list[Item], now: list[Item]) -> None:
        """A class that came, went or was replaced: so did everything in it."""
        for item in (*was, *now):
            if isinstance(item.value, ast.ClassDef):
                self.changed.update(inner for inner, _ in definitions(item.value.body, f"{name}."))

    def docstring(self, old: Any, new: Any, plain: bool) -> bool:
        """Whether docstrings differ in a way that counts: doctests, or someone is likely to read them."""
        a, b = (ast.get_docstring(node, clean=False) for node in (old, new))
        if a == b:
            return False
        # PLY reads its grammar from the docstrings of functions called p_... and t_...
        grammar = getattr(new, "name", "").startswith(("p_", "t_"))
        if not plain or self.reads_docstrings or grammar or ">>>" in f"{a}{b}":
            return True
        self.docstrings = True
        return False


def walrus(item: Item) -> list[str]:
    """The further names that a binding gives a value: y in `x = (y := 1)`."""
    if item.is_definition:
        return []
    return [part.target.id for part in ast.walk(item.node) if isinstance(part, ast.NamedExpr)]


def class_head(node: ast.ClassDef) -> list[Any]:
    return [getattr(node, field) for field in node._fields if field != "body"]


def _same_function(old: Function, new: Function) -> bool:
    bodies = [node.body[ast.get_docstring(node, clean=False) is not None :] for node in (old, new)]
    return same(bodies[0], bodies[1]) and all(
        same(getattr(old, field), getattr(new, field)) for field in old._fields if field != "body"
    )


def same_statements(old: list[Item], new: list[Item]) -> bool:
    return same([i.value for i in old if not i.names], [i.value for i in new if not i.names])


def by_name(old: list[Item], new: list[Item]) -> Iterator[tuple[str, list[Item], list[Item]]]:
    """Every bound name with the items that bind it, before and after."""
    found: dict[str, tuple[list[Item], list[Item]]] = {}
    for side, part in enumerate((old, new)):
        for item in part:
            for name in item.names:
                found.setdefault(name, ([], []))[side].append(item)
    return ((name, was, now) for name, (was, now) in found.items())


def same_order(old: list[Item], new: list[Item]) -> bool:
    """Whether what both versions have runs in the same order; inert functions side by side have none."""
    counts = [Counter(item.names for item in part) for part in (old, new)]
    common = {names for names, count in counts[0].items() if counts[1][names] == count}
    orders = [[item.names for item in part if item.names in common] for part in (old, new)]
    if orders[0] == orders[1]:
        return True
    active = {item.names for item in (*old, *new) if not _is_inert(item.value)}

    def runs(order: list[tuple[str, ...]]) -> list[list[tuple[str, ...]]]:
        grouped = groupby(order, key=lambda names: names in active)
        return [list(group) if is_active else sorted(group) for is_active, group in grouped]

    return runs(orders[0]) == runs(orders[1])


def _is_inert(value: Any) -> bool:
    """Whether defining this runs no code of the file's own."""
    if not isinstance(value, Function) or value.decorator_list:
        return False
    defaults = [*value.args.defaults, *filter(None, value.args.kw_defaults)]
    return all(isinstance(default, ast.Constant) for default in defaults)
