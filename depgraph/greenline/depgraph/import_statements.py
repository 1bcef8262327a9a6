"""The import statements of one Python file: the names, and when each statement runs.

Three ways, from fast to general; each gives up where it cannot prove its answer:

1. :func:`of_code`: expressions over the file's *code*, in which one ``"`` stands for each string or
   comment. There ``import`` is always the keyword, so the answer is proven when each ``import`` belongs to
   a statement that starts its line. The blocks around an indented statement follow from the lines that open
   blocks.
2. :func:`of_source`: ``ast``, exact, about ten times slower.
3. :func:`of_anything`: every name that follows an ``import``, for what ``ast`` cannot read. A superset.

Kinds, of which the first that applies counts:

- ``TYPE_CHECKING``: where the conditions around it cannot hold unless ``TYPE_CHECKING`` (the name, or an
  attribute of anything) is true: the body of ``if TYPE_CHECKING`` and of ``if TYPE_CHECKING and x``, the
  ``else`` and ``elif`` of ``if not TYPE_CHECKING``. The body of ``if TYPE_CHECKING or x`` also runs
  otherwise, so it does not count.
- ``FUNCTION``: in the body of a function.
- ``GUARDED``: in any part of a ``try``, or in any branch of an ``if`` whose condition names ``platform``,
  ``version_info``, ``hexversion`` or ``os.name``.
- ``RUNTIME``: everything else; it runs when the file is imported.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

RUNTIME, FUNCTION, TYPE_CHECKING, GUARDED = 0, 1, 2, 3

Names = list[list[str]]
"""Imported names by kind, in no order, possibly repeated: ``names[RUNTIME] == ["os", "a.b", "..x.y"]``."""


class Statements(NamedTuple):
    """What the statements import, and whether ``import`` may be in other words too, as in import_module."""

    names: Names
    other_words: bool


# What surrounds a statement, as bits. UNSURE: a condition that only ast can judge.
_CHECKING, _FUNCTION, _GUARDED, _UNSURE = 4, 2, 1, 8
_KIND = (RUNTIME, GUARDED, FUNCTION, FUNCTION, TYPE_CHECKING, TYPE_CHECKING, TYPE_CHECKING, TYPE_CHECKING)


def _verbose(pattern: str, flags: int = 0) -> re.Pattern[bytes]:
    return re.compile(pattern.encode(), re.VERBOSE | flags)


# -- the code of a file ----------------------------------------------------------------------------------


def _string(quote: str, other: str) -> str:
    """A string literal from its opening quote on.

    An f-string must show where its replacement fields end, because from Python 3.12 on a field may hold the
    very quote that surrounds it. A field with simple strings and one level of nested braces is understood.
    Anything else does not match, which leaves a quote in the code.
    """
    triple = quote * 3
    lone = rf"{quote}(?!{quote}{quote})"  # in a string with three quotes
    plain = rf"""
        {quote}{quote} [^{quote}\\]*+ (?: (?: \\. | {lone} ) [^{quote}\\]*+ )*+ {triple}
        | [^{quote}\\\n]*+ (?: \\. [^{quote}\\\n]*+ )*+ {quote}"""

    def formatted(newline: str, in_field: str = "", in_text: str = "") -> str:
        string = rf"{other}(?!{other}{other})[^'\"\\{{}}\n]*{other}{in_field}"
        expression = rf"(?: [^'\"\\{{}}\#{newline}]++ | {string} )*+"
        field = rf"""
            \{{ (?: [\w.]+ (?:\([\w.]*\))? (?:![rsa])? : (?: [^'\"\\{{}}{newline}]++ | \{{[\w.]+\}} )*
                  | {expression} (?: \{{ {expression} \}} {expression} )*+ ) \}}"""
        text = rf"[^{quote}\\{newline}{{}}]++ | \\(?:[^{{}}]|(?=[{{}}])) | \{{\{{ | \}}\}}"
        return f"(?: {text} | {field} {in_text} )*+"

    in_triple = formatted("", rf"| {lone}[^'\"\\{{}}\n]*{quote}", f"| {lone}")
    in_single = formatted(r"\n")
    return rf"""{quote} (?:
        (?<![fFtT]{quote}) (?<![fFtT][rR]{quote}) (?: {plain} )
        | {quote}{quote} {in_triple} {triple}
        | (?!{quote}{quote}) {in_single} {quote} )"""


# The two control characters never occur in valid code. With them the engine looks for the first character
# of a token in a bit set, which is twice as fast as to compare with three characters.
TOKEN = _verbose(rf"({_string(chr(34), chr(39))} | \#[^\n]* | {_string(chr(39), chr(34))} | \x01 | \x7f)", re.DOTALL)


class Code(NamedTuple):
    """A file's code, and its strings and comments.

    ``text`` is the code; it starts with an additional newline, and ``"`` stands for each string or comment.
    ``parts`` alternates between code and tokens. ``exact`` is False where the tokens could not be told for
    sure; then the rest means nothing.
    """

    text: bytes
    parts: list[bytes]
    exact: bool


def split(source: bytes) -> Code:
    """Separate code from strings and comments. ``source`` is UTF-8 with ``\\n`` newlines."""
    parts = TOKEN.split(source)
    parts[0] = b"\n" + parts[0]
    text = b'"'.join(parts[::2])
    exact = text.count(b'"') == len(parts) // 2 and b"'" not in text and b"\0" not in source
    if b"\\" in text:
        text = text.replace(b"\\\n", b"\f")  # a space that is not an indentation
    return Code(text, parts, exact)


# -- 1: expressions --------------------------------------------------------------------------------------

# Loose where Python is strict: in code that parses, nothing else can stand there.
_STATEMENT = r"""
    (?: from[ \t\f]+([\w.]++)[ \t\f]+import\b [ \t\f]* (\([\w,\s"]++\)|[\w, \t\f]++|\*)
      | import[ \t\f]+([\w.]++(?:[ \t\f]*+(?:,[ \t\f]*+|as[ \t\f]++)[\w.]++)*+) )
    [ \t\f"]* (?=[;\n]|\Z)"""
_AT_MARGIN = _verbose(rf"\n{_STATEMENT}")
_LINE = _verbose(
    rf"""\n([ \t]*) (?: {_STATEMENT}
    | (?:async[ \t]+)? (if|elif|else|try|except|finally|for|while|with|def|class|match|case)
      (?![\w\x80-\xff]) )"""
)
_WORD = re.compile(rb"import\b(?<!\wimport)")
_SPLIT_INDENT = re.compile(rb"\n[ \t]*\f[ \t\f]*[^ \t\f\n]")
_TO_SPACES = bytes.maketrans(b',()"', b"    ")

_CHECK = _verbose(r'[ \t]*(not[ \t]+)?(?:\w+\.)*TYPE_CHECKING[ \t]*:[ \t\f"]*\Z')
_PLATFORM = _verbose(r"\b(?:platform|version_info|hexversion)\b | \bos[ \t\f]*\.[ \t\f]*name\b")
_UNCLEAR = _verbose(r"TYPE_CHECKING | \bos\b(?![ \t\f]*\.) | [\x80-\xff]")


def of_code(code: Code) -> Statements | None:
    """Imported names, or None where the expressions cannot prove them."""
    if not code.exact:
        return None
    text = code.text
    words = text.count(b"import")
    found = _AT_MARGIN.findall(text, 0, _end_of_imports(text))
    if len(found) == words:
        return Statements([_expand(found), [], [], []], False)
    total = len(_WORD.findall(text))
    kinds = [found, [], [], []] if len(found) == total else _of_lines(text, total)
    return Statements([_expand(found) for found in kinds], words != total) if kinds else None


def _end_of_imports(text: bytes) -> int:
    """Where the last statement that may be an import ends; most files go on for long after it."""
    last = text.rfind(b"import")
    if last < 0:
        return 0
    listed = text[last + 6 : last + 40].lstrip(b" \t\f")
    after = text.find(b")", last) if listed[:1] == b"(" else last
    end = text.find(b"\n", after) if after >= 0 else -1
    return end + 1 if end >= 0 else len(text)


def _of_lines(text: bytes, total: int) -> list[list[tuple[bytes, bytes, bytes]]] | None:
    """The statements of a file with indented imports, by kind: follow the lines that open blocks."""
    if b"\f" in text and _SPLIT_INDENT.search(text):
        return None
    kinds: list[list[tuple[bytes, bytes, bytes]]] = [[], [], [], []]
    blocks: list[_Block] = []
    depth = at = 0
    tabs = b"\t" in text
    for match in _LINE.finditer(text):
        indent, base, names, plain, keyword = match.groups(b"")
        if keyword in _ALSO_IN_BRACKETS:
            start = match.start()
            depth += _brackets(text, at, start)
            at = start
            if depth:
                continue
        width = len(indent.expandtabs() if tabs else indent)
        before = None
        while blocks and blocks[-1].width >= width:
            before = blocks.pop()
        if keyword:
            otherwise = 0
            if keyword in (b"elif", b"else"):
                if before is None or before.width != width:
                    return None
                otherwise = _after(text, before)
            blocks.append(_Block(width, keyword, match.end(), otherwise))
        else:
            around = 0
            for block in blocks:
                around |= _in_body(text, block)
            if around & _UNSURE:
                return None
            kinds[_KIND[around]].append((base, names, plain))
            total -= 1
            if not total:
                return kinds
    return None


_ALSO_IN_BRACKETS = frozenset((b"if", b"else", b"for", b"match", b"case"))


def _brackets(text: bytes, start: int, end: int) -> int:
    count = text.count
    return (
        count(b"(", start, end) + count(b"[", start, end) + count(b"{", start, end)
        - count(b")", start, end) - count(b"]", start, end) - count(b"}", start, end)
    )  # fmt: skip


class _Block(NamedTuple):
    """An open block: its header's column and keyword, where that ends, and what it holds as an elif or else."""

    width: int
    keyword: bytes
    end: int
    otherwise: int


def _in_body(text: bytes, block: _Block) -> int:
    """What a block's header says about its body."""
    if block.keyword == b"def":
        return _FUNCTION
    if block.keyword in (b"try", b"except", b"finally"):
        return _GUARDED
    return block.otherwise | (_condition(text, block.end)[0] if block.keyword in (b"if", b"elif") else 0)


def _after(text: bytes, block: _Block) -> int:
    """What a block's header says about the elif or else that follows."""
    if block.keyword in (b"if", b"elif"):
        return block.otherwise | _condition(text, block.end)[1]
    return _GUARDED if block.keyword == b"except" else 0


def _condition(text: bytes, start: int) -> tuple[int, int]:
    """What the condition that starts there adds to its body, and to its else."""
    end = text.find(b"\n", start)
    while end >= 0 and _brackets(text, start, end):
        end = text.find(b"\n", end + 1)
    text = text[start:end] if end >= 0 else text[start:]
    if check := _CHECK.match(text):
        return (0, _CHECKING) if check[1] else (_CHECKING, 0)
    if _UNCLEAR.search(text):
        return _UNSURE, _UNSURE
    if not _PLATFORM.search(text):
        return 0, 0
    if text.rstrip(b' \t\f"')[-1:] != b":":
        return _UNSURE, _UNSURE  # the word may stand in a body on the same line
    return _GUARDED, _GUARDED


def _expand(statements: Sequence[tuple[bytes, bytes, bytes]]) -> list[str]:
    """The names of statements: (module, names, "") of each ``from``, ("", "", names) of each ``import``."""
    found = []
    for base, names, plain in statements:
        words = (names or plain).translate(_TO_SPACES).split()
        while b"as" in words:
            at = words.index(b"as")
            del words[at : at + 2]
        if base:
            prefix = base if base[-1:] == b"." else base + b"."
            found.append(prefix + (b"\n" + prefix).join(words))
        else:
            found += words
    return b"\n".join(found).decode().split("\n") if found else []


# -- 2: ast ----------------------------------------------------------------------------------------------


class Import(NamedTuple):
    line: int
    kind: int
    names: list[str]


LARGEST = 1_000_000
"""Characters of a file whose tree is worth its time."""


def of_source(source: bytes | str) -> Statements | None:
    """Imported names by ``ast``, or None for a file that this Python cannot parse."""
    imports = imports_of(source)
    if imports is None:
        return None
    found: Names = [[], [], [], []]
    for each in imports:
        found[each.kind] += each.names
    return Statements(found, True)


def imports_of(source: bytes | str) -> list[Import] | None:
    """Every import statement by ``ast``, in no order; None for a file that takes too long or cannot be parsed."""
    if len(source) > LARGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return list(_walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _walk(tree: ast.Module) -> Iterator[Import]:
    todo: list[tuple[Sequence[ast.AST], int]] = [(tree.body, 0)]
    while todo:
        nodes, around = todo.pop()
        for node in nodes:
            body, otherwise = around, around
            if isinstance(node, ast.Import):
                yield Import(node.lineno, _KIND[around], [alias.name for alias in node.names])
            elif isinstance(node, ast.ImportFrom):
                base = "." * node.level + (f"{node.module}." if node.module else "")
                yield Import(node.lineno, _KIND[around], [base + alias.name for alias in node.names])
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = around | _FUNCTION
            elif isinstance(node, ast.Try | ast.TryStar):
                body = otherwise = around | _GUARDED
            elif isinstance(node, ast.If):
                guarded = around | _GUARDED * _names_platform(node.test)
                true, false = _requires_checking(node.test)
                body, otherwise = guarded | _CHECKING * true, guarded | _CHECKING * false
            for field in ("body", "handlers", "cases", "finalbody", "orelse"):
                inner = getattr(node, field, None)
                if isinstance(inner, list):
                    todo.append((inner, otherwise if field == "orelse" else body))


def _requires_checking(test: ast.expr) -> tuple[bool, bool]:
    """Whether the condition can only be true, can only be false, while ``TYPE_CHECKING`` is true."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        true, false = _requires_checking(test.operand)
        return false, true
    if isinstance(test, ast.BoolOp):
        trues, falses = zip(*map(_requires_checking, test.values), strict=True)
        return (any(trues), all(falses)) if isinstance(test.op, ast.And) else (all(trues), any(falses))
    return _last_name(test) == "TYPE_CHECKING", False


def _names_platform(test: ast.expr) -> bool:
    todo: list[ast.AST] = [test]
    while todo:
        node = todo.pop()
        names = (getattr(node, "id", ""), getattr(node, "attr", ""), getattr(node, "arg", ""))
        if any(name in ("platform", "version_info", "hexversion") for name in names):
            return True
        if isinstance(node, ast.Attribute) and (_last_name(node.value), node.attr) == ("os", "name"):
            return True
        todo += [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.JoinedStr)]
    return False


def _last_name(node: ast.expr) -> str:
    """``b`` for ``a.b`` and for ``b``, else nothing."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


# -- 3: anything -----------------------------------------------------------------------------------------

_ANYWHERE = _verbose(
    r"""\bfrom[ \t\f]+(\.*)[ \t\f]*([\w.\x80-\xff]*)[ \t\f]+import\b[ \t\f]*(\((?:[^)\#]++|\#[^\n]*+)*+|[^\n;\#]*)
    | \bimport\b[ \t\f]*([^\n;\#]*)"""
)
_COMMENT = re.compile(rb"#[^\n]*")
_ANY_NAME = re.compile(rb"[\w.\x80-\xff]+|\*")


def of_anything(source: bytes) -> Statements:
    """The names after every ``import``, in strings and comments too: never less than is imported."""
    found = []
    for dots, base, listed, plain in _ANYWHERE.findall(source.replace(b"\\\n", b" ")):
        words = [word.decode(errors="replace") for word in _ANY_NAME.findall(_COMMENT.sub(b"", listed or plain))]
        prefix = (dots + base).decode(errors="replace")
        if prefix and not prefix.endswith("."):
            prefix += "."
        found += [prefix + word for word in words or ["*"] if prefix or word != "*"]
    return Statements([found, [], [], []], True)
