"""What kind of failure it is, from what its test did at bad and at good, alone and in order."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from greenline.ci.breakage.failures import kind_of

BREAK, FLAKE, ORDER, TIME_BOMB = "break", "flake", "order-dependent", "time bomb"
ENVIRONMENT, INFRASTRUCTURE = "environment", "infrastructure"
KINDS = (BREAK, FLAKE, ORDER, TIME_BOMB, ENVIRONMENT, INFRASTRUCTURE)

_INFRASTRUCTURE = re.compile(
    r"ConnectionRefused|ConnectionReset|Connection (?:refused|reset|timed out)|Name or service not known"
    r"|Temporary failure in name resolution|No space left on device|Too many open files|Cannot allocate memory"
    r"|MemoryError|Max retries exceeded|CUDA (?:error|out of memory)|Read timed out|BrokenPipeError"
)
_DATE = re.compile(r"\b(20\d\d)-(\d\d)-(\d\d)\b|\bdate(?:time)?\(\s*(20\d\d)\s*,\s*0?(\d{1,2})\s*,\s*0?(\d{1,2})\b")
NEAR = datetime.timedelta(days=45)


class Counts(NamedTuple):
    """How a test did: failures and runs, alone at bad, alone at good, and in CI's order at bad."""

    bad: tuple[int, int]
    good: tuple[int, int]
    in_order: tuple[int, int] = (0, 0)


def classify(counts: Counts, message: str, third_party_missing: bool = False) -> str:
    """The kind that the counts tell; a time bomb shows by an experiment of its own.

    A break fails at bad nearly always and never at good. What fails at both is no commit's fault: the machine's, or
    that of something out there. What fails at bad only in company depends on the order.
    """
    fails, runs = counts.bad
    good_fails, good_runs = counts.good
    if runs and fails == 0:
        order_fails, order_runs = counts.in_order
        return ORDER if order_fails and order_fails == order_runs else FLAKE
    if good_runs and good_fails == good_runs and fails == runs:
        return INFRASTRUCTURE if _INFRASTRUCTURE.search(message) else ENVIRONMENT
    if good_fails:
        return FLAKE
    if _INFRASTRUCTURE.search(message):
        return INFRASTRUCTURE if fails < runs else BREAK
    if third_party_missing:
        return ENVIRONMENT
    return BREAK if 2 * fails >= runs else FLAKE


def missing_module(message: str) -> str:
    """The top-level module that a failure says is not there, or ""."""
    match = re.search(r"No module named '([\w.]+)'", message)
    if not match or kind_of(message) not in ("ModuleNotFoundError", "ImportError"):
        return ""
    return match[1].partition(".")[0]


def near_dates(texts: Mapping[str, str], now: datetime.date) -> list[tuple[str, int, datetime.date]]:
    """Literal dates shortly before or after now: (file, line, date)."""
    found = []
    for path, text in sorted(texts.items()):
        for number, line in enumerate(text.splitlines(), 1):
            for match in _DATE.finditer(line):
                year, month, day = (int(part) for part in match.groups() if part)
                try:
                    date = datetime.date(year, month, day)
                except ValueError:
                    continue
                if abs(date - now) <= NEAR:
                    found.append((path, number, date))
    return found


def polluters(tests: Sequence[str], victim: str) -> list[str]:
    """The tests that run before the victim: whoever pollutes is among them."""
    files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
    path = victim.partition("::")[0]
    return files[: files.index(path) + 1] if path in files else files
