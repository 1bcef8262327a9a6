"""What the strings of a Python file may name: modules, packages, files, entry points.

Nothing here follows values. A string that looks like a name counts as one, wherever it stands and whatever is
done with it, so the answer is a superset. Strings over several lines count only for ``-m a.b`` and for the
imports of code in them. Two kinds of files need more than dotted names:

- An *importing* file may import by name: it says ``import_module``, ``pytest_plugins``, ``"-m"`` or the like.
  Its single words and relative names may be modules.
- A *lazy* package has a ``__getattr__`` for the module, or a lazy loader. Its words may be names below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from greenline.depgraph.import_statements import RUNTIME, Code, of_anything


class Views(NamedTuple):
    """One file in several forms.

    ``source`` is all of it, ``code`` is without strings and comments, and in ``strings`` each of these starts
    a line. ``scripts`` are the import statements of code in strings. ``hints`` are the ends of identifiers
    that make a file worth a closer look, such as ``_module``. ``other_words`` tells whether ``import`` also
    stands in words such as import_module.
    """

    source: bytes
    code: bytes
    strings: bytes
    scripts: bytes
    hints: set[bytes]
    other_words: bool


class Named(NamedTuple):
    """Sets of names; see the fields of the same name in :class:`.scan.Facts`."""

    string: set[bytes]
    relative_string: set[bytes]
    prefix: set[bytes]
    entry_point: set[bytes]
    unknown: bool  # imports a module, or lists a package, that no string in the file tells


def _verbose(pattern: str) -> re.Pattern[bytes]:
    return re.compile(pattern.encode(), re.VERBOSE)


# -- views -----------------------------------------------------------------------------------------------

_HASH = ord("#")
_NOT_AFTER_DOCSTRING = (b")", b"]", b"}", b",", b".", b"%", b"+")
_WORD_WITH_DOT = re.compile(rb"""\n["'][\w:\x80-\xff]*\.[\w.:\x80-\xff]*["']""")
_NEIGHBOURS = re.compile(rb'"(?=[ \t\f\n]*[rbufRBUF]{0,2}")')
_FIELD = re.compile(rb"""\{[^{}"'\n]*+["'][^{}\n]*+\}""")
_CODE_IMPORT = _verbose(r"""[\n;:"'][ \t]*((?:from[ \t]+[\w.]+[ \t]+)?import\b(?:[ \t]*\([^)]*\)|[ \t]+[^\n;"'\\]*))""")
# The last line's identifiers make a file an importing one.
_HINT = _verbose(
    r"""_(?: _(?:path|doc|getattr|all|file)__
    | _import__ | modules? | plugins | APPS | structure | tasks(?<=autodiscover_tasks) )\b"""
)
_IMPORTING_HINTS = frozenset((b"__import__", b"_module", b"_modules", b"_plugins", b"_APPS", b"_structure", b"_tasks"))


def views_of_text(source: bytes) -> Views:
    """Views of a file whose strings are not known: each quote counts as the start of one, and as its end."""
    quoted = source.replace(b'"', b'"\n"').replace(b"'", b"'\n'")
    return Views(source, source, quoted, source, set(_HINT.findall(source)), True)


def views_of_code(source: bytes, code: Code, other_words: bool) -> Views:
    """Views of a file whose code, strings and comments are known.

    The strings include those inside f-strings, and those that consecutive literals make (``"a.b" ".c"``).
    """
    text, parts = code.text, code.parts
    strings = b"\n" + b"\n".join(parts[1::2]) + b"\n"
    fields = _FIELD.findall(strings)
    if fields:
        strings += b"\n".join(fields).replace(b'"', b'"\n"').replace(b"'", b"'\n'")
    if _WORD_WITH_DOT.search(strings) or b"-m" in strings:
        strings += b"".join(_concatenated(text, parts))
    scripts = _scripts(parts) if b"import" in strings else b""
    return Views(source, text, strings, scripts, set(_HINT.findall(text)), other_words)


def _concatenated(text: bytes, parts: list[bytes]) -> list[bytes]:
    """What consecutive literals make, where it may be a name; also where a new statement starts between them."""
    strings: list[bytes] = []
    run = b""
    at = index = 0  # the place in the code, and the number of the literal that starts there
    last = -2
    for match in _NEIGHBOURS.finditer(text):
        index += text.count(b'"', at, match.start())
        at = match.start()
        if index != last + 1:
            strings.append(run)
            run = _content(parts[2 * index + 1])
        run += _content(parts[2 * index + 3])
        last = index
    return [b'\n"%b"' % run for run in [*strings, run] if run and (b" " not in run or b"-m " in run)]


def _content(token: bytes) -> bytes:
    return b"" if token[0] == _HASH else token.strip(b"\"'")


def _scripts(parts: list[bytes]) -> bytes:
    """The import statements in strings that may be run: in all but docstrings."""
    found: list[bytes] = []
    for number in [number for number, token in enumerate(parts[1::2]) if b"import" in token]:
        token = parts[2 * number + 1]
        if token[0] != _HASH and not _is_docstring(parts, 2 * number + 1):
            found += _CODE_IMPORT.findall(token.replace(rb"\n", b"\n"))
    return b"\n".join(found)


def _is_docstring(parts: list[bytes], index: int) -> bool:
    """Whether a string is the first statement of a block or of the file. Rather no than wrongly yes."""
    after = parts[index + 1].lstrip(b" \t\f")
    if after[:1] not in (b"\n", b"") or after.strip().startswith(_NOT_AFTER_DOCSTRING):
        return False
    before = parts[index - 1].rstrip(b"rRuU")
    while index > 1 and not before.strip() and parts[index - 2][0] == _HASH:
        index -= 2
        before = parts[index - 1]
    return before.rstrip()[-1:] == b":" or (index == 1 and not before.strip())


# -- names -----------------------------------------------------------------------------------------------

_ID = r"[A-Za-z_\x80-\xff][\w\x80-\xff]*+"
_NAME = rf"{_ID}(?:[.:]{_ID})*+"
# After a name: the quote, a call, or the extras of an entry point; or else the rest of the name is computed.
_END = r"""["'(]|\ \[|:?[%{]|\.["'%{]"""
_DOTTED = _verbose(rf"""\n["']++(?=[\w\x80-\xff]++[.:]) () ({_NAME}) ({_END})""")
_ANY_NAME = _verbose(rf"""\n["']++(?: (?:\{{[^{{}}"']*+\}}|%s)(\.) | (\.*+(?:{_NAME})?) ({_END}) )""")
_WORDS = _verbose(rf"""\n["']++ (\.*{_ID}(?:[.:]{_ID})*) ["'] """)
_AFTER_M = re.compile(rf"-m(?<=[\s\"']-m)[\s=]*[\"']?({_ID}(?:\.{_ID})*)".encode())
_PATH_END = re.compile(rb"""\.(?:py|ipynb|sh|bash)(?=["']|::)""")
_BEFORE_PATH_END = re.compile(rb"""[^\s"'{}()=,:;<>|]*[\w*?\]]\Z""")
_IMPORTING_WORD = _verbose(r"import(?: lib | orskip | _\w+\s*\( | \s*\((?<=_import\() )")
_MODULE_GETATTR = re.compile(rb"def __getattr__\s*\(\s*\w+\s*(?::[^,()]*)?,?\s*\)")
_IMPORTERS = (
    *("import_module", "__import__", "find_spec", "run_module"),
    *("load_module", "import_string", "resolve_name", "locate"),
)
_IMPORTER = f"(?:{'|'.join(_IMPORTERS)})"
_OF_UNKNOWN = _verbose(
    rf"""{_IMPORTER}\s*\(\s*(?:name\s*=\s*)?(?!\s|name\s*=|[rRuUbBfF]{{0,2}}["']
        (?: [^{{%"'\n]+["']\s*[,)] | [\w.]*\.["'%{{] | \{{__(?:name|package)__\}}\. ) )"""
)
_PASSED_ON = _verbose(rf"[(=]\s*{_IMPORTER}\s*[,)\n]")
# "." + name starts at the own package; a.b + "." + name does not.
_LONE_DOT = _verbose(
    r"""(?:[(,=:\[] | \breturn) \s* ["']\.["'] \s* \+
    | __(?:name|package)__ \s* \+ \s* ["']\.["']
    | ["']\.["']\.join \( \s* [\[(]? \s* __(?:name|package)__
    | import\w* \s* \( \s* ["']\.["']\.join"""
)
_LAST_NAME = re.compile(rb"[\w.]*\Z")
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
    hints, strings = views.hints, views.strings
    named, prefixes, unknown = _names_by_look(views, imported)
    relative: set[bytes] = set()
    if hints or "pkgutil" in imported:
        listed, known = _listed_packages(views, imported, named)
        prefixes |= listed
        unknown |= not known
        if is_package_init and b"__all__" in hints:
            relative.update(_exported(views))
    if _is_lazy(views, imported):
        relative.update(_WORDS.findall(strings))
        if b"attach_stub" in views.code:
            prefixes.add(b".")  # the names stand in a stub file
    return Named(named, relative, prefixes, _entry_point_groups(views, imported), unknown)


# An f-string or a format that only the end of a module's name is known of: f"{name}_app".
_KNOWN_END = _verbose(r"""\n["'] (?: \{[^{}"']*+\} | %s ) (\w+) ["'] """)


def siblings_of(views: Views, imported: str) -> list[bytes]:
    """Globs for the modules beside a file that it imports by a name of which only the end is known."""
    if not _is_importing(views, imported):
        return []
    return [b"*%b.py" % end for end in _KNOWN_END.findall(views.strings)]


_PATH_ENDINGS = (b".py", b".ipynb", b".sh", b".bash")


def paths_of(strings: bytes) -> list[bytes]:
    """Strings that may be the path of a Python file or a notebook."""
    found: list[bytes] = []
    if any(ending in strings for ending in _PATH_ENDINGS):
        for end in _PATH_END.finditer(strings):
            path = _BEFORE_PATH_END.search(strings[max(0, end.start() - 256) : end.start()])
            if path:
                found.append(path[0] + end[0])
    return found


def _names_by_look(views: Views, imported: str) -> tuple[set[bytes], set[bytes], bool]:
    """Names, prefixes, and whether something unknown is imported."""
    strings = views.strings
    importing = _is_importing(views, imported)
    lone_dot = False
    named: set[bytes] = set()
    prefixes: set[bytes] = set()
    for joint, name, end in (_ANY_NAME if importing else _DOTTED).findall(strings):
        if joint:
            prefixes.add(b".")
        elif end[:1] == b"." or not name.strip(b"."):
            if name != b"." or end in (b"%", b"{"):
                prefixes.add(name)
            else:
                lone_dot = True
        elif end in (b"%", b"{"):
            head = name[: name.rfind(b".") + 1]
            prefixes.add(head.rstrip(b".") or head)
        elif importing or b"." in name or b":" in name:
            named.add(name)
    if lone_dot and _LONE_DOT.search(views.source):
        prefixes.add(b".")
    prefixes.discard(b"")
    if b"-m" in strings:
        named.update(_AFTER_M.findall(strings))
    if views.scripts:
        named.update(name.encode(errors="replace") for name in of_anything(views.scripts).names[RUNTIME])
    unknown = importing and _imports_unknown(views.source)
    return named, prefixes, unknown


def _is_lazy(views: Views, imported: str) -> bool:
    """Whether the module gives names that are imported when they are asked for."""
    if b"__getattr__" in views.hints and (b"\n__getattr__" in views.code or _MODULE_GETATTR.search(views.code)):
        return True
    return "lazy_loader" in imported or (b"_structure" in views.hints and b"_import_structure" in views.code)


def _imports_unknown(source: bytes) -> bool:
    called = any(importer.encode() in source for importer in _IMPORTERS)
    return called and bool(_OF_UNKNOWN.search(source) or _PASSED_ON.search(source))


def _is_importing(views: Views, imported: str) -> bool:
    """Whether the file may import by name."""
    return (
        not views.hints.isdisjoint(_IMPORTING_HINTS)
        or b'\n"-m"' in views.strings
        or b"\n'-m'" in views.strings
        or (views.other_words and _IMPORTING_WORD.search(views.code) is not None)
        or ("pydoc" in imported and b"locate" in views.code)
        or ("pkgutil" in imported and b"resolve_name" in views.code)
    )


def _entry_point_groups(views: Views, imported: str) -> set[bytes]:
    """The groups that are loaded, ``*`` for a computed one."""
    by_importlib = "metadata" in imported or "entry_points" in imported
    if by_importlib or "pkg_resources" in imported or "pluggy" in imported:
        if b"entry" not in views.code:
            return set()
    elif "stevedore" not in imported:
        return set()
    return {group or b"*" for group in _ENTRY_POINTS.findall(views.source)}


def _exported(views: Views) -> Iterable[bytes]:
    """The entries of ``__all__``, or every word where that is more than a plain list."""
    lists = _ALL.findall(views.source)
    if len(lists) == views.code.count(b"__all__"):
        return [name for names in lists for name in re.findall(rb"""["'](\w+)["']""", names)]
    return _WORDS.findall(views.strings)


def _listed_packages(views: Views, imported: str, named: set[bytes]) -> tuple[set[bytes], bool]:
    """Packages whose modules the file may look up, and whether that is all of them."""
    code, strings, hints = views.code, views.strings, views.hints
    found: set[bytes] = set()
    known = True
    if b"__file__" in hints and (b"*.py" in strings or b'\n".py"' in strings or b"\n'.py'" in strings):
        found.add(b".")
    if b"__path__" in hints or b"iter_modules" in code or b"walk_packages" in code:
        found.add(b".")
    for before in code.split(b"__path__")[:-1] if b"__path__" in hints else ():
        owner = _LAST_NAME.search(before.rstrip()[-200:])
        if owner and owner[0].endswith(b"."):
            packages = _meanings(owner[0][:-1], code, imported)
            known &= bool(packages)
            found |= packages or named  # a module from somewhere, perhaps one that a string names
    return found, known


def _meanings(name: bytes, code: bytes, imported: str) -> set[bytes]:
    """The imported names that ``name``, such as ``plugins`` or ``app.plugins``, may stand for."""
    names = imported.split()
    first, dot, rest = name.partition(b".")
    if not first:
        return set()
    aliased = re.findall(rb"(?<![\w.])([\w.]++)[ \t\f]+as[ \t\f]+%b\b" % first, code)
    ends = {each.rpartition(b".")[2].decode() for each in (first, *aliased)}
    found = {each.encode() + dot + rest for each in names if each.rpartition(".")[2] in ends}
    return found | ({name} if name.decode() in names else set())
