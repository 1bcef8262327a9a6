"""What pytest's exit codes and options say of a run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

NOTHING_COLLECTED = 5


def worst(codes: Iterable[int]) -> int:
    """One exit code for several runs: 1 where tests failed, else the first that is not 0."""
    codes = list(codes)
    return 1 if 1 in codes else next((code for code in codes if code), 0)


# Options of pytest, pytest-xdist and pytest-cov that leave every test in; the second kind takes a value.
_SWITCHES = re.compile(
    r"-[qvslx]+|-r\w+|-n\w+"
    r"|--(?:quiet|verbose|exitfirst|showlocals|no-header|no-summary|full-trace|strict-\w+|cov\S*)"
)
_VALUED = re.compile(
    r"-n|-r|--(?:numprocesses|dist|tb|color|maxfail|durations|durations-min|capture|show-capture|junit-?xml"
    r"|verbosity)"
)


def keep_all(options: Sequence[str]) -> bool:
    """Do these options of pytest leave every test in? One that is not known may well not."""
    words = iter(options)
    for word in words:
        name, given, _ = word.partition("=")
        if _VALUED.fullmatch(name):
            if not given:
                next(words, None)
        elif not _SWITCHES.fullmatch(word):
            return False
    return True
