"""A deterministic fix as data: what to rewrite, and where. :func:`.apply.apply` does it."""

from __future__ import annotations

from typing import NamedTuple


class Fix(NamedTuple):
    """One rewrite of one file.

    ``kind`` names the codemod (:data:`.apply.CODEMODS`); ``number``: the breakage class of docs/conflicts.md;
    ``path``, ``line`` (from 1), ``column`` (from 0, in UTF-8 bytes as in `ast`): the use in the merged tree, line 0
    for a whole file; ``old``, ``new``: names; ``module``, ``new_module``: where an imported name was, as the file
    writes it, and is.
    """

    kind: str
    number: int
    path: str
    line: int
    column: int
    old: str
    new: str
    module: str = ""
    new_module: str = ""

    def __str__(self) -> str:
        """One line for people."""
        return _WORDS[self.kind].format(**self._asdict())


_WORDS = {
    "import": "import {new} from {new_module} instead of {old} from {module}",
    "module": "write {new} for module {old}",
    "attribute": "write .{new} for .{old}",
    "module-attribute": "write {new} for {old}",
    "add-import": "import {new} from {new_module}",
    "name": "write {new} for {old}",
    "keyword": "write {new}= for {old}=",
    "add-keywords": "pass {new} by keyword",
    "add-argument": "pass {new}",
    "await": "await it",
    "string": "write {new!r} for {old!r}",
    "definition": "rename {old} to {new}",
    "request": "request fixture {new} instead of {old}",
    "file": "rename the file to {new}",
    "type-checking": "import {old} for type checkers only",
    "new-file": "add {new}",
    "duplicate": "remove the second, identical {old}",
}


class Refused(Exception):
    """A fix that would not be safe; the reason, as a sentence."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
