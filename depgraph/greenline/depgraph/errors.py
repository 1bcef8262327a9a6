"""What the user can mend. The terminal shows these errors as text, never as a traceback."""

from __future__ import annotations

from typing import NamedTuple


class GreenlineError(Exception):
    """A wrong input or environment. `message` says what is wrong, `hint` is the way out."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Corrupted(Exception):
    """A cache file is not what was written; it has been deleted if that is possible, so start again without it."""


class Problem(NamedTuple):
    """One thing that is wrong in a file, its line (from 1) and key (`suites[0].root`; "": the whole file)."""

    line: int
    key: str
    message: str


class ConfigError(GreenlineError):
    """A configuration file that cannot be used, with everything that is wrong in it.

    `file`, `line` and `key` are those of the first problem; the message has one line for each.
    """

    def __init__(self, file: str, problems: tuple[Problem, ...], hint: str | None = None) -> None:
        lines = (": ".join(part for part in (f"{file}:{line}", key, text) if part) for line, key, text in problems)
        super().__init__("\n".join(lines), hint)
        self.file = file
        self.problems = problems
        self.line, self.key, _ = problems[0]
