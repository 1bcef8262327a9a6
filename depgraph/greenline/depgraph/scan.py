"""What one Python file imports, and which of its strings may name modules, files, commands or entry points.

``scan(bytes)`` depends on the bytes alone, so its answer can be kept by blob id. Import statements are exact,
see :mod:`.import_statements`; what strings name is a superset, see :mod:`.string_names`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from greenline.depgraph import import_statements, string_names
from greenline.depgraph.import_statements import FUNCTION, GUARDED, RUNTIME, TYPE_CHECKING
from greenline.depgraph.string_names import Views

__all__ = ["FUNCTION", "GUARDED", "PATH", "PREFIX", "RELATIVE_STRING", "RUNTIME", "STRING", "TYPE_CHECKING"]
__all__ += ["Facts", "import_lines", "scan"]

STRING, RELATIVE_STRING, PREFIX, PATH = 4, 5, 6, 7


class _Fields(NamedTuple):
    """Each field but ``flags`` holds sorted, unique names, one a line. Kinds are the numbers of fields."""

    runtime: str = ""
    """``import a.b`` is ``a.b``, ``from ..x import y`` is ``..x.y``, ``from . import y`` is ``.y``,
    ``from a import *`` is ``a.*``; so for the next three."""
    function: str = ""
    type_checking: str = ""
    guarded: str = ""
    string: str = ""
    """What may name a module, or something in one: dotted names (``a.b:C`` as ``a.b.C``), the word after
    ``-m``, what code in a string imports; in a file that imports by name also words and relative names."""
    relative_string: str = ""
    """What may lie below the file's package: ``__all__`` of an ``__init__.py``, words of a lazy package."""
    prefix: str = ""
    """Packages of which any submodule may be meant: ``a.b`` for ``"a.b." + x``, ``"a.b.%s"``, ``f"a.b.{x}"``
    and ``f"a.b.c_{x}"``; in a file that imports by name ``.`` (the file's package) for ``"." + x``, ``..x``
    for ``f"..x.{y}"``; packages whose modules it looks up by ``__path__`` or by ``*.py`` beside itself."""
    path: str = ""
    """What ends in ``.py`` or ``.ipynb``, from the last space or replacement field on. It may hold ``*``."""
    entry_point: str = ""
    """Groups of entry points that are loaded; ``*`` for a computed one."""
    command: str = ""
    """First words of the strings of a file that may start processes."""
    mark: str = ""
    """Names of pytest marks: ``mark.slow`` is ``slow``."""
    flags: int = 0


class Facts(_Fields):
    """What one Python file imports and names. Marshal ``tuple(facts)``, load ``Facts(*fields)``."""

    __slots__ = ()

    BROKEN = 1  # had to be parsed and cannot be: all imports count as RUNTIME, and the facts are a superset
    UNKNOWN_DYNAMIC = 2  # imports, or looks up, what no string in the file tells
    READS_SOURCE = 4  # inspect.getsource, linecache and the like
    READS_DOCS = 8  # __doc__, getdoc, doctest
    ALWAYS_RUN = 16  # carries pytest.mark.always_run
    AUTODISCOVERS = 32  # names packages whose "tasks" a framework imports by convention (Celery)
    LISTS_SOURCE = 64  # looks for *.py files
    INSTALLS_APPS = 1024  # names applications whose modules a framework imports by convention (Django)

    def runtime_names(self) -> list[str]:
        """What running the file may import: all statements but those for type checkers, and strings."""
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
    """Facts of a Python file. ``is_package_init``: it is an ``__init__.py``, so its ``__all__`` counts."""
    source = _decoded(data)
    text = source if isinstance(source, bytes) else source.encode(errors="surrogatepass")
    code = import_statements.split(text)
    flags = 0
    statements = import_statements.of_code(code) or import_statements.of_source(source)
    if statements is None:
        statements, flags = import_statements.of_anything(text), Facts.BROKEN
    if flags or not code.exact:
        views = string_names.views_of_text(text)
    else:
        views = string_names.views_of_code(text, code, statements.other_words)
    runtime, function, type_checking, guarded = ["\n".join(sorted(set(names))) for names in statements.names]
    imported = f"\n{runtime}\n{function}\n{type_checking}\n{guarded}\n"
    named = string_names.names_of(views, imported, is_package_init)
    paths = string_names.paths_of(views.strings)
    if named.unknown:
        paths += string_names.siblings_of(views, imported)
    unknown = named.unknown or (not paths and _imports_by_path(views.code, imported))
    return Facts(
        runtime,
        function,
        type_checking,
        guarded,
        _joined(named.string).replace(":", "."),
        _joined(named.relative_string).replace(":", "."),
        _joined(named.prefix).replace(":", "."),
        _joined(paths),
        _joined(named.entry_point),
        _joined(_COMMAND.findall(views.strings) if _starts_processes(views.code, imported) else ()),
        _joined(_PYTEST_MARK.findall(views.code) if "pytest" in imported else ()),
        flags | _flags(views, imported) | Facts.UNKNOWN_DYNAMIC * unknown,
    )


def _joined(names: Iterable[bytes]) -> str:
    return b"\n".join(sorted(set(names))).decode(errors="replace") if names else ""


_COMMAND = re.compile(rb"""\n["']([\w.-]+)(?=["' ])""")
_PYTEST_MARK = re.compile(rb"\bmark\s*\.\s*(\w+)")
_OS_STARTS = re.compile(rb"os\.(?:system|popen|exec|spawn|posix_spawn)")
_IMPORTS_BY_PATH = re.compile(rb"spec_from_file_location|SourceFileLoader|run_path")


def _starts_processes(code: bytes, imported: str) -> bool:
    return (
        "subprocess" in imported
        or "pexpect" in imported
        or ("\nos\n" in imported and _OS_STARTS.search(code) is not None)
        or ("asyncio" in imported and b"create_subprocess" in code)
        or ("pytest" in imported and b"script_runner" in code)
    )


def _imports_by_path(code: bytes, imported: str) -> bool:
    return ("importlib" in imported or "runpy" in imported) and _IMPORTS_BY_PATH.search(code) is not None


def _flags(views: Views, imported: str) -> int:
    code, hints = views.code, views.hints
    inspects = "inspect" in imported
    flags = 0
    if "linecache" in imported or (inspects and (b"getsource" in code or b"getcomments" in code)):
        flags |= Facts.READS_SOURCE
    if b"__doc__" in hints or "doctest" in imported or (inspects and b"getdoc" in code):
        flags |= Facts.READS_DOCS
    if "pytest" in imported and b"mark.always_run" in code:
        flags |= Facts.ALWAYS_RUN
    if b"autodiscover_" in code:
        flags |= Facts.AUTODISCOVERS
    if b"INSTALLED_APPS" in code:
        flags |= Facts.INSTALLS_APPS
    if b"*.py" in views.strings:
        flags |= Facts.LISTS_SOURCE
    return flags


_CODING = re.compile(rb"(?:[ \t\f]*(?:#[^\n]*)?\n)??[ \t\f]*#[^\n]*?coding[:=][ \t]*([-\w.]+)")


def _decoded(data: bytes) -> bytes | str:
    """The text with ``\\n`` newlines and no byte order mark; str if it is in another encoding than UTF-8."""
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


# -- single lines ----------------------------------------------------------------------------------------


def import_lines(source: bytes) -> list[tuple[int, int, str]]:
    """Where a file imports or names something: (line, kind, name), sorted. To explain an edge to a person.

    Kinds are RUNTIME, FUNCTION, TYPE_CHECKING, GUARDED, STRING, RELATIVE_STRING, PREFIX and PATH. In a file
    that cannot be parsed every name after an ``import`` is RUNTIME.
    """
    decoded = _decoded(source)
    text = decoded if isinstance(decoded, bytes) else decoded.encode(errors="surrogatepass")
    imports = import_statements.imports_of(decoded)
    found: set[tuple[int, int, str]] = set()
    if imports is None:
        for line, content in enumerate(text.split(b"\n"), 1):
            names = import_statements.of_anything(content).names[RUNTIME]
            found.update((line, RUNTIME, name) for name in names)
    else:
        found.update((each.line, each.kind, name) for each in imports for name in each.names)
    facts = scan(source)
    for kind, joined in (
        (STRING, facts.string),
        (RELATIVE_STRING, facts.relative_string),
        (PREFIX, facts.prefix),
        (PATH, facts.path),
    ):
        for name in joined.splitlines():
            for match in re.finditer(_spelling(name), text):
                found.add((text.count(b"\n", 0, match.start()) + 1, kind, name))
    return sorted(found)


def _spelling(name: str) -> bytes:
    """An expression for where a name of a string stands in a file."""
    if not name.strip("."):  # the file's own package, or one above it
        return rb"""__path__|iter_modules|walk_packages|\*\.py|["'}]%b["'{%%]""" % re.escape(name.encode())
    spelled = re.escape(name.encode()).replace(rb"\.", rb"[.:]")
    return rb"(?<![\w.])%b(?!\w)" % spelled
