"""Who spells a name: the blocks, class heads and statements of the repository that contain a token.

It goes by the text, so a string, a comment or another thing of the same name counts too.
"""

from __future__ import annotations

import ast
import bisect
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple, get_args

from greenline.depgraph import blocks
from greenline.depgraph.blocks import Function
from greenline.depgraph.index import Opened

BODY = "body"  # of the function ``name``
HEAD = "head"  # decorators, parameters and annotations of the function ``name``; ``binds`` it if any of them runs
CLASS = "class"  # head, attributes and statements of the class ``name``; ``binds`` an attribute
IMPORT = "import"  # ``binds`` a name
BINDING = "binding"  # ``binds`` names
STATEMENT = "statement"


class Region(NamedTuple):
    """Lines ``first`` to ``last`` of a file, from 1."""

    first: int
    last: int
    kind: str
    name: str
    binds: tuple[str, ...] = ()


MANY = 50
"""Words that git looks for one by one; when more are asked for, all words of all files are listed once,"""
MOST_FILES = 20_000
"""unless there are more files than this."""
_INTO_NAMESPACE = (b"sys.modules", b"import_module(__name__", b"__import__(__name__")
_WORD = re.compile(rb"\w+")
_TEXT_WORD = re.compile(r"\w+")
_DEFINED = re.compile(rb"(?:def|class)\s+(\w+)")


class Text(NamedTuple):
    """A Python file as regions, and as words: on which lines each stands, other than as the name that it defines.

    ``elsewhere``: where it may mean what another file binds though nothing imports it from there. ``members``: of
    these, without attributes of ``self``. ``imports``: all statements of the form `from MODULE import NAME`.
    """

    regions: list[Region]
    lines: dict[bytes, list[int]]
    elsewhere: dict[bytes, list[int]]
    members: dict[bytes, list[int]]
    imports: list[ast.ImportFrom]


class Names:
    """Searches the head of a change. Files are read and parsed once."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._files: dict[str, list[str]] = {}
        self._everywhere: dict[bytes, list[str]] | None = None
        self._listers: frozenset[str] | None = None
        self._texts: dict[str, Text] = {}
        self._takes: dict[str, bool] = {}
        self._classes: dict[str, list[tuple[str, ast.ClassDef]]] = {}

    def files(self, token: str) -> list[str]:
        """The files of any kind that contain the word."""
        if token not in self._files:
            word = token.encode()
            if len(self._files) == MANY:
                self._everywhere = self._all_words()
            if self._everywhere is not None and _WORD.fullmatch(word):
                self._files[token] = self._everywhere.get(word, [])
            else:
                self._files[token] = self._grep("-lzwF", "-e", token, "--", ".")
        return self._files[token]

    def _grep(self, *args: str) -> list[str]:
        where = ["--untracked"] if self._opened.head is None else [self._opened.head]
        at = args.index("--")
        found = self._opened.workspace.git("grep", *args[:at], *where, *args[at:], ok=(0, 1))
        prefix = "" if self._opened.head is None else f"{self._opened.head}:"
        return sorted(path.removeprefix(prefix) for path in found.split("\0")[:-1])

    def _all_words(self) -> dict[bytes, list[str]] | None:
        """Word → the files that contain it; None where there are too many files."""
        paths = self._grep("-lz", "-e", "", "--", ".")
        if len(paths) > MOST_FILES:
            return None
        found: dict[bytes, list[str]] = {}
        for path in paths:
            for word in set(_WORD.findall(self._opened.read_head(path) or b"")):
                found.setdefault(word, []).append(path)
        return found

    def regions(self, path: str) -> list[Region]:
        """The regions of a Python file, in order; one statement for all of a file that cannot be read."""
        return self._read(path).regions

    def hits(self, path: str, token: str, elsewhere: bool = False) -> Iterator[Region]:
        """The regions of a Python file that contain the word; the definition of that name itself is no hit.

        ``elsewhere``: not as a bare name, which means what the file itself binds, or a builtin.
        """
        text = self._read(path)
        regions = text.regions
        word = token.encode()
        if _WORD.fullmatch(word):
            numbers = (text.elsewhere if elsewhere else text.lines).get(word, [])
        else:  # the name of a file, or one that is not spelled in ASCII
            pattern = re.compile(rb"(?<!\w)%b(?!\w)" % re.escape(word))
            source = self._opened.read_head(path) or b""
            numbers = [number for number, line in enumerate(source.splitlines(), 1) if pattern.search(line)]
        return _at(regions, numbers)

    def hits_of_member(self, path: str, token: str) -> Iterator[Region]:
        """The regions where the word may mean a member of a class, without those of ``self``, which is an instance."""
        text = self._read(path)
        return _at(text.regions, text.members.get(token.encode(), []))

    def imports(self, path: str) -> list[ast.ImportFrom]:
        return self._read(path).imports

    def listers(self) -> frozenset[str]:
        """The Python files that contain a word by which something can be listed: one search for all of them."""
        if self._listers is None:
            words = [part for word in sorted(LISTING) for part in ("-e", word)]
            self._listers = frozenset(self._grep("-lzwF", *words, "--", "*.py"))
        return self._listers

    def listing(self, path: str) -> Iterator[Region]:
        """The regions of a Python file that may list what a module holds."""
        source = self._opened.read_head(path) or b""
        tree = blocks.parse(source)
        if tree is None:
            return iter(self.regions(path))
        instance = "" if b"ModuleType" in source else "self"
        return _at(self.regions(path), sorted(set(_listing(tree, frozenset(), instance))))

    def takes_names(self, path: str) -> bool:
        """Whether names of a Python file may come from elsewhere without an import statement that says so."""
        if path not in self._takes:
            source = self._opened.read_head(path) or b""
            tree = blocks.parse(source)
            own = any("__getattr__" in (region.name, *region.binds) for region in self.regions(path))
            read = tree is None or any(_reading(tree, frozenset(), _TAKING))
            self._takes[path] = own or read or any(each in source for each in _INTO_NAMESPACE)
        return self._takes[path]

    def classes(self, path: str) -> list[tuple[str, ast.ClassDef]]:
        """The classes of a Python file, outside functions, by qualified name."""
        if path not in self._classes:
            tree = blocks.parse(self._opened.read_head(path) or b"")
            found = blocks.definitions(tree.body) if tree else ()
            self._classes[path] = [(name, node) for name, node in found if isinstance(node, ast.ClassDef)]
        return self._classes[path]

    def spell_prefix(self, prefix: str) -> bool:
        """Whether a string somewhere starts with this: names may be put together from it."""
        words = [part for quote in "\"'" for part in ("-e", f"{quote}{prefix}{quote}", "-e", f"{quote}{prefix}{{")]
        words += [part for quote in "\"'" for part in ("-e", f"{quote}{prefix}%")]
        return bool(self._grep("-lzF", *words, "--", "*.py"))

    def _read(self, path: str) -> Text:
        if path not in self._texts:
            source = self._opened.read_head(path) or b""
            tree = blocks.parse(source)
            lines: dict[bytes, list[int]] = {}
            last = 0
            for last, line in enumerate(source.splitlines(), 1):
                words = Counter(_WORD.findall(line))
                words.subtract(_DEFINED.findall(line))
                for word, count in words.items():
                    if count > 0:
                        lines.setdefault(word, []).append(last)
            if tree is None:
                self._texts[path] = Text([Region(1, last, STATEMENT, "")], lines, lines, lines, [])
            else:
                imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
                self._texts[path] = Text(sorted(_regions(tree.body, "")), lines, *_elsewhere(tree), imports)
        return self._texts[path]


def _at(regions: list[Region], numbers: list[int]) -> Iterator[Region]:
    """The regions on these lines."""
    starts = [region.first for region in regions]
    found: dict[Region, None] = {}
    for number in numbers:
        at = bisect.bisect_right(starts, number)
        for region in regions[max(0, at - 2) : at]:  # a head and a body may share a line
            if number <= region.last:
                found[region] = None
    return iter(found)


def _elsewhere(tree: ast.Module) -> tuple[dict[bytes, list[int]], dict[bytes, list[int]]]:
    """Words in attributes, modules, arguments (for pytest: fixtures) and strings, on which lines; and without `self.`

    A string that is a statement, such as a docstring, leads to nothing unless it is a doctest.
    """
    found: dict[bytes, set[int]] = {}
    members: dict[bytes, set[int]] = {}
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if not (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and ">>>" not in str(node.value.value)
        ):
            waiting += ast.iter_child_nodes(node)
        words: list[str] = []
        if isinstance(node, ast.Attribute):
            words = [node.attr]
        elif isinstance(node, ast.arg | ast.keyword):
            words = [node.arg or ""]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            words = _TEXT_WORD.findall(node.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, bytes):
            words = _TEXT_WORD.findall(node.value.decode("latin-1"))
        elif isinstance(node, ast.Import):
            words = [part for alias in node.names for part in alias.name.split(".")]
        elif isinstance(node, ast.ImportFrom):
            renamed = [alias.name for alias in node.names if alias.asname]
            words = [*(node.module or "").split("."), *renamed]
        elif isinstance(node, ast.MatchClass):
            words = node.kwd_attrs
        of_self = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
        for word in words:
            for each in (found,) if of_self else (found, members):
                each.setdefault(word.encode("utf-8", "surrogatepass"), set()).add(getattr(node, "end_lineno", 0))
    sides = [{word: sorted(lines) for word, lines in each.items()} for each in (found, members)]
    return sides[0], sides[1]


_BUILTIN_LISTING = ("globals", "vars", "dir", "locals")
LISTING = frozenset((*_BUILTIN_LISTING, "getmembers", "__dict__", "__subclasses__"))
_LISTING_IN_TEXT = re.compile(r"\b(globals|vars|dir|locals)\(|\b(getmembers|__dict__|__subclasses__)\b")
_TAKING = frozenset(("globals", "vars", "locals", "exec", "eval"))


def _listing(node: ast.AST, arguments: frozenset[str], instance: str) -> Iterator[int]:
    """The lines that list what a module or a class holds: by a builtin, an attribute, or a text that names one.

    What an ``instance`` holds (``self.__dict__``) is in no module.
    """
    yield from _reading(node, arguments, LISTING)
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and part.attr in LISTING.difference(_BUILTIN_LISTING):
            if (part.attr, blocks.leaf(part.value)) != ("__dict__", instance):
                yield part.end_lineno or part.lineno
        elif isinstance(part, ast.Constant) and isinstance(part.value, str) and _LISTING_IN_TEXT.search(part.value):
            yield from range(part.lineno, (part.end_lineno or part.lineno) + 1)


def _reading(node: ast.AST, arguments: frozenset[str], words: frozenset[str]) -> Iterator[int]:
    """The lines that read one of these builtins: an argument or variable called `dir` is none."""
    if isinstance(node, Function | ast.Lambda):
        arguments |= {each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)}
        arguments |= _variables(node)
    elif isinstance(node, ast.Name) and node.id in words - arguments and isinstance(node.ctx, ast.Load):
        yield node.lineno
    elif isinstance(node, ast.Attribute) and node.attr in words and blocks.leaf(node.value) == "builtins":
        yield node.end_lineno or node.lineno
    elif isinstance(node, ast.alias) and node.name in words:
        yield node.lineno
    for child in ast.iter_child_nodes(node):
        yield from _reading(child, arguments, words)


def _variables(node: ast.AST) -> set[str]:
    """The names that a function itself assigns: its own wherever it reads them. None if it says `global`."""
    found = set[str]()
    waiting = list(getattr(node, "body", ())) if isinstance(node, Function) else []
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.Global | ast.Nonlocal):
            return set()
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            found.add(part.id)
        scopes = (ast.Lambda, ast.ClassDef, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
        if not isinstance(part, (*get_args(Function), *scopes)):  # each a scope of its own
            waiting += ast.iter_child_nodes(part)
    return found


def _regions(body: list[ast.stmt], inside: str) -> Iterator[Region]:
    """The regions of a module body, or of a class body (``inside``: "C.")."""
    owner = inside[:-1]
    for node in body:
        end = node.end_lineno or node.lineno
        first = _first(node)
        if isinstance(node, Function):
            start = min(statement.lineno for statement in node.body)
            made = (node.name,) if node.decorator_list or not all(map(_is_literal, _defaults(node))) else ()
            yield Region(first, max(first, start - 1), HEAD, inside + node.name, made)
            yield Region(start, end, BODY, inside + node.name)  # sorts after the head where they share a line
        elif isinstance(node, ast.ClassDef):
            start = min(
                min(s.lineno, *[d.lineno for d in getattr(s, "decorator_list", ())], s.lineno) for s in node.body
            )
            yield Region(first, max(first, start - 1), CLASS, inside + node.name)
            yield from _regions(node.body, f"{inside}{node.name}.")
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound = tuple(alias.asname for alias in node.names if alias.asname)
            yield Region(first, end, IMPORT, owner, bound)
        elif _is_for_checkers(node) or "__all__" in blocks.bound_names(node):
            yield Region(first, end, IMPORT, owner)
        elif inside:
            yield Region(first, end, CLASS, owner, blocks.bound_names(node))
        elif (names := blocks.bound_names(node)) and "pytestmark" not in names:
            yield Region(first, end, BINDING, "", names)
        else:
            yield from _statement(node, first, end)


def _is_for_checkers(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and blocks.leaf(node.test) == "TYPE_CHECKING" and not node.orelse


def _first(node: ast.stmt) -> int:
    """The first line, decorators included."""
    return min([node.lineno, *(int(each.lineno) for each in getattr(node, "decorator_list", ()))])


def _defaults(node: Function) -> list[ast.expr]:
    return [*node.args.defaults, *filter(None, node.args.kw_defaults)]


def _is_literal(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant)


def _statement(node: ast.stmt, first: int, end: int) -> Iterator[Region]:
    """Functions under an ``if`` or ``try`` are blocks too; what is between them is the statement."""
    inner: list[Region] = []
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.stmt | ast.ExceptHandler):
            body = [part] if isinstance(part, ast.stmt) else part.body
            inner += [region for region in _regions(body, "") if region.kind in (BODY, HEAD, CLASS, IMPORT)]
    at = first
    for region in sorted(inner):
        if region.first > at:
            yield Region(at, region.first - 1, STATEMENT, "")
        yield region
        at = max(at, region.last + 1)
    if at <= end:
        yield Region(at, end, STATEMENT, "")
