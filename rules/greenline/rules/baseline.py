"""The baseline: findings that a repository knows of and has not mended yet, in a file that is committed.

It is a ratchet. Left alone it changes nothing; :func:`shrink` only takes out what is gone; what is new comes in only
with a reason.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable
from typing import NamedTuple

from greenline.depgraph.errors import GreenlineError
from greenline.rules.findings import Finding

FILE = ".greenline/baseline.json"


class Entry(NamedTuple):
    """A known finding; ``reason``: why it was accepted, ``since``: the day of that."""

    rule: str
    path: str
    subject: str
    fingerprint: str
    reason: str
    since: str


def parse(data: bytes | None) -> tuple[Entry, ...]:
    """The entries of a baseline file; none without one (None). Raises GreenlineError for what is no baseline."""
    if data is None:
        return ()
    try:
        values = json.loads(data)
        entries = [Entry(**each) for each in values["findings"]]
        whole = all(isinstance(field, str) for entry in entries for field in entry) and values["version"] == 1
    except (ValueError, TypeError, KeyError):
        whole = False
    if not whole:
        raise GreenlineError(
            f"{FILE} is not a baseline that greenline wrote",
            f"git checkout {FILE}; after a merge conflict take one side, then: greenline check --update-baseline",
        )
    return tuple(entries)


def shrink(entries: Iterable[Entry], found: Collection[str]) -> list[Entry]:
    """The entries whose fingerprints are still found."""
    return [entry for entry in entries if entry.fingerprint in found]


def entry_of(finding: Finding, reason: str, since: str) -> Entry:
    return Entry(finding.rule, finding.place.path, finding.subject, finding.fingerprint, reason, since)


def write(root: str, entries: Iterable[Entry]) -> None:
    """Write the baseline, one entry a line, so that merges of two branches that both shrink it go well."""
    lines = [json.dumps(entry._asdict()) for entry in sorted(set(entries), key=lambda each: each[1:4] + each[:1])]
    text = '{"version": 1, "findings": [\n' + ",\n".join(lines) + "\n]}\n"
    path = os.path.join(root, FILE)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise GreenlineError(f"{FILE} cannot be written: {error.strerror}") from None
