"""Numbers in sentences."""

from __future__ import annotations


def plural(number: int, noun: str) -> str:
    """A number and what it counts: "1 test", "2,000 tests"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
