"""What people let pass: `rules.ignore` of greenline.yaml, and comments ``# greenline: ignore[rule] reason``.

Each needs a reason and may end on a day: ``until`` in greenline.yaml, or ``ignore[rule until 2030-01-31] reason``.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from greenline.depgraph.config import FILE
from greenline.depgraph.globs import matcher
from greenline.rules.findings import Finding, Place
from greenline.rules.modules import pattern_of
from greenline.rules.settings import Ignore

REASON = "ignores/reason"
EXPIRED = "ignores/expired"
UNUSED = "ignores/unused"


class Suppressed(NamedTuple):
    finding: Finding
    reason: str


class Sifted(NamedTuple):
    """``findings``: what is left, and what is wrong with comments; ``used``: the keys of ignores that were needed."""

    findings: list[Finding]
    suppressed: list[Suppressed]
    used: set[str]


Names = Callable[[str], Iterable[str]]
"""The module names of a path."""
Read = Callable[[Place], bytes | None]
"""The file of a place, as it is in the place's commit."""


def about(ignore: Ignore, rule: str) -> bool:
    """Whether an ignore is about a rule: its full name, what stands before its ``/``, or ``*``."""
    return ignore.rule in ("*", rule) or rule.startswith(ignore.rule + "/")


def expired(until: datetime.date | None, today: datetime.date) -> bool:
    return until is not None and until < today


def sift(
    findings: Iterable[Finding], ignores: Iterable[Ignore], names: Names, read: Read, today: datetime.date
) -> Sifted:
    """Take out what is ignored. Ignores with ``to`` are about imports: the contracts have seen to them."""
    sifted = Sifted([], [], set())
    active = [each for each in ignores if not each.to and not expired(each.until, today)]
    texts: dict[tuple[str, str], list[bytes]] = {}
    for finding in findings:
        place = finding.place
        ignore = next((each for each in active if about(each, finding.rule) and _holds(each, place.path, names)), None)
        if ignore:
            sifted.suppressed.append(Suppressed(finding, ignore.reason))
            sifted.used.add(ignore.key)
            continue
        key = (place.commit, place.path)
        if key not in texts:
            texts[key] = (read(place) or b"").splitlines() if place.line else []
        lines = texts[key]
        line = lines[place.line - 1] if 0 < place.line <= len(lines) else b""
        reason, problem = _comment(line, finding, today)
        if reason:
            sifted.suppressed.append(Suppressed(finding, reason))
        else:
            sifted.findings.append(finding)
        if problem:
            sifted.findings.append(problem)
    return sifted


def unneeded(ignores: Iterable[Ignore], used: Iterable[str], today: datetime.date) -> list[Finding]:
    """Warnings about ignores that have ended, or that nothing needs."""
    found, needed = [], set(used)
    for each in ignores:
        if expired(each.until, today):
            message = f"{each.key} ({each.rule}: {', '.join(each.from_)}) ended on {each.until}"
            found.append(Finding(EXPIRED, Place(FILE), message, each.key, "remove it", warning=True))
        elif each.key not in needed:
            message = f"{each.key} ({each.rule}: {', '.join(each.from_)}) ignores nothing"
            found.append(Finding(UNUSED, Place(FILE), message, each.key, "remove it", warning=True))
    return found


def _holds(ignore: Ignore, path: str, names: Names) -> bool:
    for expression in ignore.from_:
        if "/" in expression or expression == path:
            if matcher([expression])(path):
                return True
        elif any(pattern_of(expression).fullmatch(name) for name in names(path)):
            return True
    return False


_COMMENT = re.compile(rb"#\s*greenline:\s*ignore\[([^\]\n]+)\][ \t:]*([^\n]*)")


def _comment(line: bytes, finding: Finding, today: datetime.date) -> tuple[str, Finding | None]:
    """The reason in a line's comment for letting a finding pass, "" if there is none; what is wrong with it."""
    match = _COMMENT.search(line)
    if not match:
        return "", None
    reason = match[2].decode("utf-8", "replace").strip()
    for part in match[1].decode("utf-8", "replace").split(","):
        rule, _, day = part.strip().partition(" until ")
        ignore = Ignore("", rule.strip(), (), (), reason, None)
        if not about(ignore, finding.rule):
            continue
        try:
            until = datetime.date.fromisoformat(day.strip()) if day else None
        except ValueError:
            problem = (f"the comment names no day: {day.strip()!r}", "write until 2030-01-31")
        else:
            if reason and not expired(until, today):
                return reason, None
            problem = (
                (f"the comment that lets {rule} pass gives no reason", "write it after the bracket")
                if not reason
                else (f"the comment that lets {rule} pass ended on {until}", "mend the line or remove the comment")
            )
        return "", Finding(REASON, finding.place, problem[0], f"{rule}: {finding.subject}", problem[1], warning=True)
    return "", None
