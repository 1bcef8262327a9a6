"""Notebooks (``.ipynb``) as Python source: their code cells, one after another."""

from __future__ import annotations

import json
import re

_MAGIC = re.compile(r"^([ \t]*(?:[\w, \t]+=[ \t]*)?)[%!](.*)$", re.MULTILINE)
_HELP = re.compile(r"^[ \t]*\?.*$|^.*\?[ \t]*$", re.MULTILINE)
_PYTHON_CELL = re.compile(r"%%(?:time|timeit|capture|prun|memit|mprun|lprun|heat|skip|px)\b[^\n]*")


def notebook_source(data: bytes) -> bytes:
    """The code of a notebook. Lines that IPython handles (``!python -m a.b``, ``%run x.py``) become lists of their
    words, so that what they name is still seen. What is no notebook comes back as text without JSON's escapes."""
    try:
        notebook = json.loads(data)
        sheets = [notebook, *notebook.get("worksheets", ())]
        cells = [cell for sheet in sheets for cell in sheet.get("cells", ()) if cell.get("cell_type") == "code"]
        sources = ["".join(cell.get("source", cell.get("input", ""))) for cell in cells]
    except (ValueError, AttributeError, TypeError, RecursionError):
        return data.replace(b"\\n", b"\n").replace(b'\\"', b'"')
    return "\n".join(map(_plain_cell, sources)).encode(errors="surrogatepass")


def _plain_cell(source: str) -> str:
    """A cell as plain Python."""
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
