"""What the strings of a Python file may name: modules, packages, files, entry points, commands.

Nothing here follows values. A string that looks like a name counts as one, wherever it stands and whatever is done
with it, so the answer is a superset. Two kinds of files need more than dotted names:

- An *importing* file may import by name: it says ``import_module``, ``pytest_plugins``, ``"-m"`` or the like. Its
  single words and relative names may be modules.
- A *lazy* package has a ``__getattr__`` for the module or a lazy loader. Its words may be names below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

UNKNOWN_DYNAMIC = 2  # imports a module, or lists a package, that no string in the file tells


class Views(NamedTuple):
    """One file, three times: all of it, its code without strings and comments, and its strings and comments.

    In ``strings`` each of them starts a line. ``other_words``: ``import`` also stands in words such as import_module.
    """

    source: bytes
    code: bytes
    strings: bytes
    other_words: bool


class Named(NamedTuple):
    """Sets of names; see the fields of the same name in :class:`.scan.Facts`."""

    string: set[bytes]
    relative_string: set[bytes]
    prefix: set[bytes]
    entry_point: set[bytes]
    flags: int


def _verbose(pattern: str) -> re.Pattern[bytes]:
    return re.compile(pattern.encode(), re.VERBOSE)


# -- the strings of a file -------------------------------------------------------------------------------

_HASH = ord("#")
_BLANK = b" \t\f\n\\rbufRBUF"  # what may stand between two literals that make one string
_NEIGHBOURS = re.compile(rb'"[ \t\f\n]*[rbufRBUF]{0,2}"')
_FIELD = re.compile(rb"""\{[^{}\n]*["'][^{}\n]*\}""")


def strings_of(code: bytes, parts: list[bytes]) -> bytes:
    """The strings and comments of split code (see :class:`.import_statements.Code`), each on a new line.

    Also the strings inside f-strings, and those that consecutive literals make: ``"a.b" ".c"`` is ``"a.b.c"``.
    """
    strings = b"\n" + b"\n".join(parts[1::2]) + b"\n"
    fields = _FIELD.findall(strings)
    if fields:
        strings += quoted(b"\n".join(fields))
    if _NEIGHBOURS.search(code):
        strings += b"\n".join(_concatenated(parts))
    return strings


def quoted(text: bytes) -> bytes:
    """Text in which each quote counts as the start of a string, and as the end of one."""
    return text.replace(b'"', b'"\n"').replace(b"'", b"'\n'")


def _concatenated(parts: list[bytes]) -> list[bytes]:
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
_END = r"""(?=["'(]|\ \[|:[%{])"""  # the quote; or a call, or the extras of an entry point, or a computed attribute
_COMPUTED = r"""(?:["'%{]|[\w\x80-\xff]+[%{])"""  # after a dot: what follows is computed
_OPEN = r"""\n(?:["']|"{3}|'{3})"""

_DOTTED = _verbose(rf"""{_OPEN} (?: ({_ID}(?:[.:]{_ID})+) {_END} | ((?:{_ID}\.)+) {_COMPUTED} )""")
_NAME = _verbose(
    rf"""{_OPEN} (?: (\.*{_ID}(?:[.:]{_ID})*) {_END} | (\.+(?:{_ID}\.)*|(?:{_ID}\.)+) (?:(["'])|[%{{]|[\w\x80-\xff]+[%{{])
    | (?:\{{[^{{}}"']*\}}|%s)(\.) )"""
)
_WORDS = _verbose(rf"""{_OPEN} (\.*{_ID}(?:[.:]{_ID})*) ["'] """)
_AFTER_M = re.compile(rf"-m(?<=[\s\"']-m)[\s=]*[\"']?({_ID}(?:\.{_ID})*)".encode())

# Ends of identifiers that make a file worth a closer look; the last line's make it an importing one.
_HINT = _verbose(
    r"""_(?: _(?:path|doc|getattr|all|file)__ | structure
    | _import__ | modules? | plugins | APPS )\b"""
)
_IMPORTING_HINTS = frozenset((b"__import__", b"_module", b"_modules", b"_plugins", b"_APPS", b"_structure"))
_IMPORTING_WORD = _verbose(r"import(?: lib | orskip | _\w+\s*\( | \s*\((?<=_import\() )")
_LAZY = _verbose(
    r"""\n__getattr__\b | \bdef[ ]__getattr__\s*\(\s*\w+\s*(?::[^,()]*)?,?\s*\) | _import_structure
    | \blazy(?:_loader)?\.attach | \bLazy(?:Module|Importer|Import)\b"""
)
_IMPORTER = r"(?:import_module|__import__|find_spec|run_module|load_module|import_string|resolve_name|locate)"
_OF_UNKNOWN = _verbose(
    rf"""\b{_IMPORTER}\s*\(\s*(?:name\s*=\s*)?(?!\s|name\s*=|[rRuUbBfF]{{0,2}}["']
        (?: [^{{%"'\n]+["']\s*[,)] | [\w.]*\.["'%{{] | \{{__(?:name|package)__\}}\. ) )
    | [(=]\s*{_IMPORTER}\s*[,)\n]"""
)
_LONE_DOT = re.compile(rb"""["']\.["']\s*\+|\+\s*["']\.["']|["']\.["']\.join""")
_PACKAGE_PATH = re.compile(rb"([\w.]*)\s*\.\s*__path__")
_ALL = _verbose(
    r"""__all__ (?:[ \t]*:[^=\n]*)? [ \t]*(?:\+?=|\.(?:extend|append)\()[ \t]* [\[(]{0,2}
    ((?:[\s,]|\#[^\n]*|["']\w+["'])*+) [\])]{1,2} [ \t]*(?:\#[^\n]*)?(?:\n|\Z)"""
)
_ENTRY_POINTS = _verbose(
    r"""(?:entry_?points|Manager)\s*\( (?:\s*\)\s*(?:\[|\.(?:get|select)\s*\()\s*)?
    \s*(?:(?:group|namespace)\s*=\s*)? (?:["']([^"'\n]+)["'])?"""
)


def names_of(views: Views, imported: str, is_package_init: bool) -> Named:
    """What the strings may name. ``imported`` holds what the file's statements import, one name a line."""
    source, code, strings, _ = views
    flags = 0
    named: set[bytes] = set()
    prefixes: set[bytes] = set()
    relative: set[bytes] = set()
    hints = set(_HINT.findall(code))
    if _is_importing(views, imported, hints):
        for name, prefix, end, joint in _NAME.findall(strings):
            if name:
                named.add(name)
            elif prefix != b"." or not end or _LONE_DOT.search(source):
                prefixes.add(prefix.rstrip(b".") or prefix or joint)
        if _OF_UNKNOWN.search(source):
            flags = UNKNOWN_DYNAMIC
    else:
        for name, prefix in _DOTTED.findall(strings):
            if name:
                named.add(name)
            else:
                prefixes.add(prefix[:-1])
    if b"-m" in strings:
        named.update(_AFTER_M.findall(strings))
    if hints or "pkgutil" in imported:
        if is_package_init and b"__all__" in hints:
            relative.update(_exported(views))
        if (b"__getattr__" in hints or b"_structure" in hints) and _LAZY.search(code):
            relative.update(_WORDS.findall(strings))
        listed, known = _listed_packages(views, imported, named)
        prefixes |= listed
        if not known:
            flags = UNKNOWN_DYNAMIC
    if "lazy_loader" in imported:
        relative.update(_WORDS.findall(strings))
        if b"attach_stub" in code:
            prefixes.add(b".")
    groups: set[bytes] = set()
    if (
        "metadata" in imported
        or "entry_points" in imported
        or "pkg_resources" in imported
        or "pluggy" in imported
    ):
        if b"entry" in code:
            groups.update(group or b"*" for group in _ENTRY_POINTS.findall(source))
    elif "stevedore" in imported:
        groups.update(group or b"*" for group in _ENTRY_POINTS.findall(source))
    return Named(named, relative, prefixes, groups, flags)


def _is_importing(views: Views, imported: str, hints: set[bytes]) -> bool:
    return (
        not hints.isdisjoint(_IMPORTING_HINTS)
        or b'\n"-m"' in views.strings
        or b"\n'-m'" in views.strings
        or (views.other_words and _IMPORTING_WORD.search(views.code) is not None)
        or ("pydoc" in imported and b"locate" in views.code)
        or ("pkgutil" in imported and b"resolve_name" in views.code)
    )


def _exported(views: Views) -> Iterable[bytes]:
    """The entries of ``__all__``, or every word where that is more than a plain list."""
    lists = _ALL.findall(views.source)
    if len(lists) == views.code.count(b"__all__"):
        return [name for names in lists for name in re.findall(rb"""["'](\w+)["']""", names)]
    return _WORDS.findall(views.strings)


def _listed_packages(views: Views, imported: str, named: set[bytes]) -> tuple[set[bytes], bool]:
    """Packages whose modules the file may look up, and whether that is all of them."""
    code, strings = views.code, views.strings
    found: set[bytes] = set()
    known = True
    beside = b"__file__" in code and (b"*.py" in strings or b'\n".py"' in strings or b"\n'.py'" in strings)
    if beside or b"__path__" in code or b"iter_modules" in code or b"walk_packages" in code:
        found.add(b".")
    for owner in set(_PACKAGE_PATH.findall(code)):
        packages = _meanings(owner, code, imported)
        if not packages:
            known = False
            packages = {name.replace(b":", b".") for name in named}
        found |= packages
    return found, known


def _meanings(name: bytes, code: bytes, imported: str) -> set[bytes]:
    """The imported names that ``name``, such as ``plugins`` or ``app.plugins``, may stand for."""
    names = imported.split()
    first, dot, rest = name.partition(b".")
    if not first:
        return set()
    aliased = re.findall(rb"([\w.]+)[ \t\f]+as[ \t\f]+%b\b" % first, code)
    ends = {each.rpartition(b".")[2].decode() for each in (first, *aliased)}
    found = {each.encode() + dot + rest for each in names if each.rpartition(".")[2] in ends}
    return found | ({name} if name.decode() in names else set())
