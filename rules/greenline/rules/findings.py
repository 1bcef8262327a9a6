"""What a rule says about a place in the code: the one form in which all rules report and all reports are written."""

from __future__ import annotations

import hashlib
from typing import NamedTuple


class Place(NamedTuple):
    """A line of a file (from 1; 0: the whole file), the commit it is in ("" for the state that was checked), a note."""

    path: str
    line: int = 0
    commit: str = ""
    note: str = ""


class Finding(NamedTuple):
    """One violation.

    ``rule``: its stable name ("layers", "conflict/renamed"); ``place``: where to mend it; ``message``: one sentence;
    ``hint``: the way out; ``subject``: what it is about, without line numbers ("app.a -> lib.b"), so that the finding
    keeps its fingerprint when lines move; ``related``: other places that belong to it; ``fixable``: `greenline fix`
    can mend it; ``warning``: told, but no reason to fail.
    """

    rule: str
    place: Place
    message: str
    subject: str
    hint: str = ""
    related: tuple[Place, ...] = ()
    fixable: bool = False
    warning: bool = False

    @property
    def fingerprint(self) -> str:
        """16 hex digits that stay the same while rule, file and subject do."""
        text = "\0".join((self.rule, self.place.path, self.subject))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
