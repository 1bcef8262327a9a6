"""What a rule says about a place in the code: the one form in which all rules report and all reports are written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


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


class Section(NamedTuple):
    """One part of a report, such as "rules" or "lint".

    ``complete``: everything that it looks for was looked for; else ``notes`` say what was not, and the way out.
    ``ignored``, ``known``: findings that people let pass, and those of the baseline; ``data``: what else machines may
    want, as JSON has it.
    """

    name: str
    findings: tuple[Finding, ...]
    summary: str = ""
    complete: bool = True
    notes: tuple[str, ...] = ()
    ignored: int = 0
    known: int = 0
    data: Mapping[str, Any] = MappingProxyType({})


class Report(NamedTuple):
    """What a command found out. ``base``: the commit that the change starts from, "" if it does not matter;
    ``today``: the day that expiring ignores were judged by."""

    sections: tuple[Section, ...]
    today: str
    base: str = ""
    how: str = ""

    @property
    def complete(self) -> bool:
        return all(section.complete for section in self.sections)

    @property
    def failures(self) -> int:
        """Findings that are a reason to fail."""
        return sum(not finding.warning for section in self.sections for finding in section.findings)
