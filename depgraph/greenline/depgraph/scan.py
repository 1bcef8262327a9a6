"""What one Python file imports, and which of its strings may name modules, files, commands or entry points.

``scan(bytes)`` depends on the bytes alone, so its answer can be kept by blob id. Import statements are exact (see
:mod:`.import_statements`). Strings are a superset: a string that looks like a name counts as one, wherever it stands
and whatever is done with it. Of strings over several lines only ``-m a.b`` counts.

An *importing* file is one that may import by name: it says ``import_module``, ``pytest_plugins``, ``"-m"`` or the
like. Its single words and relative names may be modules too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from greenline.depgraph import import_statements
from greenline.depgraph.import_statements import FUNCTION, GUARDED, RUNTIME, TYPE_CHECKING, Names

STRING, RELATIVE_STRING, PREFIX, PATH, ENTRY_POINT, COMMAND, MARK = range(4, 11)


class _Fields(NamedTuple):
    """Each field but ``flags`` holds sorted, unique names, joined by ``\\n``; "" for none. Kinds are field numbers."""

    runtime: str = ""
    """``import a.b`` is ``a.b``, ``from ..x import y`` is ``..x.y``, ``from . import y`` is ``.y``, ``from a import *``
    is ``a.*``; so for the next three."""
    function: str = ""
    type_checking: str = ""
    guarded: str = ""
    string: str = ""
    """Strings that may name a module, or something in one: dotted names (``a.b:C`` is ``a.b.C``), the word after
    ``-m``; in an importing file single words and relative names too."""
    relative_string: str = ""
    """Names that may lie below the file's package: ``__all__`` of an ``__init__.py``; every name-like string of a file
    with a lazy loader or a ``__getattr__`` for the module."""
    prefix: str = ""
    """Packages of which any submodule may be meant: ``"a.b." + x``, ``f"a.b.{x}"``, ``f"a.b.c_{x}"``, ``"a.b.%s"``;
    in an importing file also ``"." + x`` (``.`` is the file's package) and ``f"..x.{y}"``; packages that the file
    lists with ``__path__`` or by looking for ``*.py`` beside itself."""
    path: str = ""
    """Strings that end in ``.py`` or ``.ipynb``, from the last space or replacement field on. May hold ``*``."""
    entry_point: str = ""
    """Groups of entry points that are loaded; ``*`` for a computed one."""
    command: str = ""
    """First words of the strings of a file that may start processes."""
    mark: str = ""
    """Names of pytest marks: ``mark.slow`` is ``slow``."""
    flags: int = 0


class Facts(_Fields):
    """What one Python file imports and names. ``tuple(facts)`` can be marshalled, ``Facts(*fields)`` brings it back."""

    __slots__ = ()

    BROKEN = 1  # cannot be parsed: all imports count as RUNTIME, and the facts are a superset
    UNKNOWN_DYNAMIC = 2  # imports a module, or lists a package, that no string in the file tells
    READS_SOURCE = 4  # inspect.getsource, linecache and the like
    READS_DOCS = 8  # __doc__, getdoc, doctest
    ALWAYS_RUN = 16  # carries pytest.mark.always_run

    def runtime_names(self) -> list[str]:
        """What running the file may import: the names of statements, those for type checkers excepted, and strings."""
        return f"{self.runtime}\n{self.function}\n{self.guarded}\n{self.string}".split()

    def type_checking_names(self) -> list[str]:
        return self.type_checking.split()

    def relative_strings(self) -> list[str]:
        return self.relative_string.split()

    def prefixes(self) -> list[str]:
        return self.prefix.split()

    def script_paths(self) -> list[str]:
        return self.path.split()

    def entry_point_groups(self) -> list[str]:
        return self.entry_point.splitlines()

    def commands(self) -> list[str]:
        return self.command.split()

    def marks(self) -> list[str]:
        return self.mark.split()


def scan(data: bytes, is_package_init: bool = False) -> Facts:
    """Facts of the bytes of a Python file. ``is_package_init``: it is an ``__init__.py``, so its ``__all__`` counts."""
    source = _decoded(data)
    text = source if isinstance(source, bytes) else source.encode(errors="surrogatepass")
    code = import_statements.split(text)
    imports = import_statements.of_code(code) or import_statements.of_source(source)
    flags = 0
    if imports is None:
        imports, flags = import_statements.of_anything(text), Facts.BROKEN
    if flags or not code.exact:
        literals = short = code_text = text
    else:
        tokens = [token for token in set(code.parts[1::2]) if token[0] != _HASH] + _concatenated(code.parts)
        literals = b"\n".join(tokens)
        short = b"\n".join([token for token in tokens if b"\n" not in token])
        code_text = code.text
    return _facts(imports, text, code_text, short, literals, is_package_init, flags)


# -- bytes -----------------------------------------------------------------------------------------------

_HASH = ord("#")
_CODING = re.compile(rb"(?:[ \t\f]*(?:#[^\n]*)?\n)?[ \t\f]*#[^\n]*?coding[:=][ \t]*([-\w.]+)")
_BLANK = b" \t\f\n\\rbufRBUF"  # what may stand between two literals that make one string


def _decoded(data: bytes) -> bytes | str:
    """The text with ``\\n`` newlines and no byte order mark: UTF-8, or str where the file declares another encoding."""
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if data.startswith(b"\xef\xbb\xbf"):
        return data[3:]
    coding = _CODING.match(data)
    if coding and not coding[1].lower().startswith((b"utf-8", b"utf8")):
        try:
            return data.decode(coding[1].decode())
        except (LookupError, UnicodeError):
            return data
    return data


def _concatenated(parts: list[bytes]) -> list[bytes]:
    """Strings without spaces that consecutive literals may make: ``"a.b" ".c"`` is ``"a.b.c"``."""
    strings: list[bytes] = []
    run, last = b"", -2
    for index, gap in enumerate(parts[2:-1:2]):
        if not gap.strip(_BLANK):
            if last != index - 1:
                strings.append(run)
                run = _content(parts[2 * index + 1])
            run += _content(parts[2 * index + 3])
            last = index
    return [b'"%b"' % run for run in [*strings, run] if run and (b" " not in run or b"-m " in run)]


def _content(token: bytes) -> bytes:
    return b"" if token[0] == _HASH else token.strip(b"\"'")


# -- names -----------------------------------------------------------------------------------------------

_ID = r"[A-Za-z_\x80-\xff][\w\x80-\xff]*+"
_ENDS = r"""(?=["'(]|\ \[|:[%{])"""  # of a name: the quote, or a call, or the extras of an entry point
_COMPUTED = r"""(?:["'%{]|[\w\x80-\xff]+[%{])"""  # after a dot: the rest of the name is computed


def _bytes_pattern(pattern: str) -> re.Pattern[bytes]:
    return re.compile(pattern.encode(), re.VERBOSE)


_DOTTED = _bytes_pattern(rf"""["'](?: ({_ID}(?:[.:]{_ID})+) {_ENDS} | ((?:{_ID}\.)+) {_COMPUTED} )""")
_ANY_NAME = _bytes_pattern(
    rf"""["'](?: (\.*{_ID}(?:[.:]{_ID})*) {_ENDS} | (\.+(?:{_ID}\.)*|(?:{_ID}\.)+) {_COMPUTED}
    | (?:\{{[^{{}}"']*\}}|%s)(\.) )"""
)
_AFTER_M = re.compile(rf"-m[ =]+[\"']?({_ID}(?:\.{_ID})*)".encode())
_PATH = re.compile(rb"""([^\s"'{}()=,:;<>|]*[\w*?\]]\.(?:py|ipynb))(?=["']|::)""")
_COMMAND = re.compile(rb"""["']([\w.-]+)(?=["' ])""")
_PYTEST_MARK = re.compile(rb"\bmark\s*\.\s*(\w+)")
_ALONE = re.compile(rb"""["']\.["']\s*\+|\+\s*["']\.["']|["']\.["']\.join""")
_LISTED_PACKAGE = re.compile(rb"([\w.]*)\s*\.\s*__path__")
_ENTRY_POINTS = _bytes_pattern(
    r"""(?:entry_?points|Manager)\s*\( (?:\s*\)\s*(?:\[|\.(?:get|select)\s*\()\s*)?
    \s*(?:(?:group|namespace)\s*=\s*)? (?:["']([^"'\n]+)["'])?"""
)
_ALL = _bytes_pattern(
    r"""__all__(?:[ \t]*:[^=\n]*)?[ \t]*(?:\+?=|\.(?:extend|append)\()[ \t]*[\[(]{0,2}
    ((?:[\s,]|\#[^\n]*|["']\w+["'])*+)[\])]{1,2}[ \t]*(?:\#[^\n]*)?(?:\n|\Z)"""
)
_MODULE_GETATTR = _bytes_pattern(
    r"""\n__getattr__\b | \bdef[ ]__getattr__\s*\(\s*\w+\s*(?::[^,()]*)?,?\s*\) | lazy_loader | _import_structure
    | \bLazy(?:Module|Importer|Import)\b"""
)
# Ends of identifiers that make a file worth a closer look, all in one search.
_HINT = _bytes_pattern(
    r"""_(?: modules? | plugins? | APPS | spec | packages | points | entrypoints | import | structure
    | (?<=resolve_)name | (?<=load_)(?:class|object|attr) | (?<=script_)runner
    | _(?:path|doc|getattr|all|file|import)__ )\b"""
)
_IMPORTS_BY_NAME = _bytes_pattern(
    r"""__import__ | importlib | import_\w+\s*\( | importorskip | (?:lazy|try|safe|optional|dynamic)_import | find_spec
    | (?:find|from|load|run|exec|get|reload|locate)_(?:modules?|spec)\b | load_(?:class|object|attr|plugins?)\b
    | resolve_name | pytest_plugins | INSTALLED_APPS | _import_structure | Lazy(?:Module|Loader|Import)"""
)
_IMPORTER = rb"(?:import_module|__import__|find_spec|run_module|load_module|import_string|resolve_name|locate)"
_OF_UNKNOWN = re.compile(
    rb"\b" + _IMPORTER + rb"""\s*\(\s*(?!\s|[rRuUbBfF]{0,2}["'](?:[^{%"'\n]+["']\s*[,)]|[\w.]*\.["'%{]|\{__(?:name|package)__\}\.))"""
    rb"|[(=]\s*" + _IMPORTER + rb"\s*[,)\n]"
)  # fmt: skip
_STARTS_PROCESSES = re.compile(rb"\bos\.(?:system|popen|exec|spawn|posix_spawn)|create_subprocess|script_runner")
_READS_SOURCE = re.compile(rb"getsource|findsource|getcomments|getblock|linecache")


def _facts(
    imports: Names, source: bytes, code: bytes, short: bytes, literals: bytes, is_package_init: bool, flags: int
) -> Facts:
    """Facts from the imported names and four views of the file: all, its code, one-line strings, all strings."""
    runtime, function, type_checking, guarded = ["\n".join(sorted(set(names))) for names in imports]
    imported = f"{runtime}\n{function}\n{type_checking}\n{guarded}"
    hints = set(_HINT.findall(code))
    runs_module = b'"-m"' in short or b"'-m'" in short
    importing = runs_module or (
        (bool(hints) or "importlib" in imported or "pydoc" in imported or "runpy" in imported or b"import_" in code or b"importorskip" in code)
        and (_IMPORTS_BY_NAME.search(code) is not None or "pydoc" in imported or "runpy" in imported)
    )
    strings: set[bytes] = set()
    prefixes: set[bytes] = set()
    relative: set[bytes] = set()
    groups: set[bytes] = set()
    if importing:
        for name, prefix, joint in _ANY_NAME.findall(short):
            if name:
                strings.add(name)
            elif prefix != b"." or _ALONE.search(source):
                prefixes.add(prefix.rstrip(b".") or prefix or joint)
        if _OF_UNKNOWN.search(source):
            flags |= Facts.UNKNOWN_DYNAMIC
    else:
        for name, prefix in _DOTTED.findall(short):
            if name:
                strings.add(name)
            else:
                prefixes.add(prefix[:-1])
    if b"-m " in literals or b"-m=" in literals:
        strings.update(_AFTER_M.findall(literals))
    if hints:
        if b"__path__" in hints or b"_modules" in hints or b"_packages" in hints or b"__file__" in hints:
            listed, known = _listed_packages(code, short, imported, strings)
            prefixes |= listed
            if not known:
                flags |= Facts.UNKNOWN_DYNAMIC
        if is_package_init and b"__all__" in hints:
            relative |= _exported(source, code, short)
        if b"__doc__" in hints:
            flags |= Facts.READS_DOCS
        if b"_points" in hints or b"_entrypoints" in hints:
            groups.update(group or b"*" for group in _ENTRY_POINTS.findall(source) or [b""])
    if "stevedore" in imported:
        groups.update(group or b"*" for group in _ENTRY_POINTS.findall(source) or [b""])
    if (b"__getattr__" in hints or "lazy" in imported or b"_structure" in hints) and _MODULE_GETATTR.search(
        b"\n".join((code, imported.encode()))
    ):
        relative.update(name for name, _, _ in _ANY_NAME.findall(short) if name)
        if b"attach_stub" in code:
            prefixes.add(b".")
    if "inspect" in imported or "linecache" in imported:
        if _READS_SOURCE.search(source):
            flags |= Facts.READS_SOURCE
        if b"getdoc" in code:
            flags |= Facts.READS_DOCS
    if "doctest" in imported:
        flags |= Facts.READS_DOCS
    marks = ""
    if "pytest" in imported:
        marks = _joined(set(_PYTEST_MARK.findall(code)))
        if "always_run" in marks.split("\n"):
            flags |= Facts.ALWAYS_RUN
    commands = ""
    if "subprocess" in imported or ("os" in imported and _STARTS_PROCESSES.search(code)):
        commands = _joined(set(_COMMAND.findall(short)))
    paths = _joined(set(_PATH.findall(short))) if b".py" in short or b".ipynb" in short else ""
    return Facts(
        runtime, function, type_checking, guarded,
        _joined(strings).replace(":", "."), _joined(relative).replace(":", "."), _joined(prefixes), paths,
        _joined(groups), commands, marks, flags,
    )  # fmt: skip


def _joined(names: set[bytes]) -> str:
    return b"\n".join(sorted(names)).decode(errors="replace") if names else ""


def _listed_packages(code: bytes, short: bytes, imported: str, strings: set[bytes]) -> tuple[set[bytes], bool]:
    """Packages whose modules the file may list, and whether that is all."""
    found: set[bytes] = set()
    known = True
    if b"iter_modules" in code or b"walk_packages" in code or b"__path__" in code:
        found.add(b".")
    if b"__file__" in code and (b"*.py" in short or b'".py"' in short or b"'.py'" in short):
        found.add(b".")
    for owner in set(_LISTED_PACKAGE.findall(code)):
        named = _imported_as(owner, code, imported)
        if not named:
            # A module from somewhere: any that a string names, and perhaps another one.
            known = False
            named = {name.replace(b":", b".") for name in strings}
        found |= named
    return found, known


def _imported_as(name: bytes, code: bytes, imported: str) -> set[bytes]:
    """The imported names that ``name``, such as ``plugins`` or ``app.plugins``, may stand for."""
    first, dot, rest = name.partition(b".")
    if not first:
        return set()
    firsts = {first, *re.findall(rb"([\w.]+)\s+as\s+%b\b" % first, code)}
    lasts = {alias.rpartition(b".")[2].decode() for alias in firsts}
    found = {full.encode() + dot + rest for full in imported.split() if full.rpartition(".")[2] in lasts}
    if name.decode() in imported.split():
        found.add(name)
    return found


def _exported(source: bytes, code: bytes, short: bytes) -> set[bytes]:
    """The entries of ``__all__``, or all name-like strings where it is not a plain list."""
    lists = _ALL.findall(source)
    if len(lists) == code.count(b"__all__"):
        return {name.strip(b"\"'") for listed in lists for name in re.findall(rb"""["']\w+["']""", listed)}
    return {name for name, _, _ in _ANY_NAME.findall(short) if name}


# -- notebooks, and single lines -------------------------------------------------------------------------

_MAGIC = re.compile(r"^([ \t]*(?:[\w, \t]+=[ \t]*)?)[%!](.*)$", re.MULTILINE)
_HELP = re.compile(r"^[ \t]*\?.*$|^.*\?[ \t]*$", re.MULTILINE)
_PYTHON_CELL = re.compile(r"%%(?:time|timeit|capture|prun|memit|mprun|lprun|heat|skip|px)\b[^\n]*")


def scan_notebook(data: bytes) -> Facts:
    """Facts of the bytes of a notebook (``.ipynb``): of its code cells, one after another.

    The words of a line that IPython handles (``!python -m a.b``, ``%run x.py``) count as strings.
    """
    source = notebook_source(data)
    if source is None:
        facts = scan(data.replace(b"\\n", b"\n").replace(b'\\"', b'"'))
        return Facts(*facts[:-1], facts.flags | Facts.BROKEN)
    return scan(source)


def notebook_source(data: bytes) -> bytes | None:
    """The code cells of a notebook as one Python source; None when it cannot be read as a notebook."""
    import json

    try:
        notebook = json.loads(data)
        sheets = [notebook, *notebook.get("worksheets", ())]
        cells = [cell for sheet in sheets for cell in sheet.get("cells", ()) if cell.get("cell_type") == "code"]
        sources = ["".join(cell.get("source", cell.get("input", ""))) for cell in cells]
    except (ValueError, AttributeError, TypeError, RecursionError):
        return None
    return "\n".join(map(_plain_cell, sources)).encode(errors="surrogatepass")


def _plain_cell(source: str) -> str:
    """A cell as plain Python."""
    source = source.replace("\r\n", "\n")
    if source.lstrip().startswith("%%"):
        if not _PYTHON_CELL.match(source.lstrip()):
            return repr(source.split())
        source = source.lstrip().partition("\n")[2]
    if not (_MAGIC.search(source) or _HELP.search(source)) or import_statements.parse(source):
        return source
    return _MAGIC.sub(lambda line: f"{line[1]}{line[2].split()!r}", _HELP.sub("", source))


def import_lines(source: bytes) -> list[tuple[int, int, str]]:
    """Where a file imports or names something: (line, kind, name), sorted. Only to explain; ``scan`` is what counts.

    Kinds are the field numbers RUNTIME, FUNCTION, TYPE_CHECKING, GUARDED, STRING, PREFIX and PATH. In a file that
    cannot be parsed every name after an ``import`` is RUNTIME.
    """
    decoded = _decoded(source)
    text = decoded if isinstance(decoded, bytes) else decoded.encode(errors="surrogatepass")
    tree = import_statements.parse(decoded)
    found: set[tuple[int, int, str]] = set()
    if tree is None:
        for line, content in enumerate(text.split(b"\n"), 1):
            found.update((line, RUNTIME, name) for name in import_statements.of_anything(content)[RUNTIME])
    else:
        found.update((each.line, each.kind, name) for each in import_statements.walk(tree) for name in each.names)
    facts = scan(source)
    for kind, names in ((STRING, facts.string), (PREFIX, facts.prefix), (PATH, facts.path)):
        found.update((line, kind, name) for name in names.splitlines() for line in _lines_of(text, name))
    return sorted(found)


def _lines_of(text: bytes, name: str) -> Iterator[int]:
    pattern = re.escape(name.encode()).replace(rb"\.", rb"[.:]")
    for match in re.finditer(pattern, text):
        yield text.count(b"\n", 0, match.start()) + 1
