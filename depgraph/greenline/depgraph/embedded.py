"""Python inside other files: notebooks, doctests in texts, and the commands of shell scripts."""

from __future__ import annotations

import json
import re

_MAGIC = re.compile(r"^([ \t]*(?:[\w, \t]+=[ \t]*)?)[%!](.*)$", re.MULTILINE)
_HELP = re.compile(r"^[ \t]*\?.*$|^.*\?[ \t]*$", re.MULTILINE)
_PYTHON_CELL = re.compile(r"%%(?:time|timeit|capture|prun|memit|mprun|lprun|heat|skip|px)\b[^\n]*")


def python_of(path: str, data: bytes) -> bytes:
    """A file as Python source, as far as it matters to what it imports and names."""
    if path.endswith((".py", ".pyx")):
        return data
    if path.endswith(".ipynb"):
        return _of_notebook(data)
    if path.endswith((".sh", ".bash")):
        return _of_script(data)
    return _of_doctests(data)


def _of_notebook(data: bytes) -> bytes:
    """The code cells, one after another. What is no notebook comes back as text without JSON's escapes."""
    try:
        notebook = json.loads(data)
        sheets = [notebook, *notebook.get("worksheets", ())]
        cells = [cell for sheet in sheets for cell in sheet.get("cells", ()) if cell.get("cell_type") == "code"]
        sources = ["".join(cell.get("source", cell.get("input", ""))) for cell in cells]
    except (ValueError, AttributeError, TypeError, RecursionError):
        return data.replace(b"\\n", b"\n").replace(b'\\"', b'"')
    return "\n".join(map(_plain_cell, sources)).encode(errors="surrogatepass")


def _of_doctests(data: bytes) -> bytes:
    """The lines after ``>>>`` and ``...``."""
    lines = re.findall(rb"^[ \t]*(?:>>>|\.\.\.)(?: |$)([^\n]*)", data, re.MULTILINE)
    return b"\n".join(lines) + b"\n" if lines else b""


def _of_script(data: bytes) -> bytes:
    """The lines as strings, and their words: ``python -m a.b`` and paths of scripts are seen."""
    lines = [line for line in data.decode("utf-8", "replace").splitlines() if not line.lstrip().startswith("#")]
    return "\n".join(f"{line!r}, {line.split()!r}" for line in lines if line.strip()).encode("utf-8", "replace")


def _plain_cell(source: str) -> str:
    """A cell as plain Python. Lines that IPython handles (``!python -m a.b``, ``%run x.py``) become lists of words."""
    source = source.replace("\r\n", "\n")
    if source.lstrip().startswith("%%"):
        if not _PYTHON_CELL.match(source.lstrip()):
            return repr(source.split())
        source = source.lstrip().partition("\n")[2]
    if not (_MAGIC.search(source) or _HELP.search(source)) or _parses(source):
        return source
    return _MAGIC.sub(lambda line: f"{line[1]}{line[2].split()!r}", _HELP.sub("", source))


def _parses(source: str) -> bool:
    try:
        compile(source, "<cell>", "exec", flags=0x400, dont_inherit=True)  # PyCF_ONLY_AST
    except (SyntaxError, ValueError):
        return False
    return True
