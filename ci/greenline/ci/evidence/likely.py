"""Which selected test files are likely to fail: those close to the change, and those that broke recently.

Close is who was hit by what few tests use: a function that three tests ran says more about them than one that all did.
Test files that changed themselves come first. Recent breakage as a predictor: Elbaum, Rothermel and Penix, FSE 2014.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

RECENT_RUNS = 10


def rank(sharing: int, alive: int, runs: int, broke: Iterable[int] = ()) -> float:
    """From -1 (broke in the last run) over 0 (the only one that ran what changed) to 1 (all did).

    ``sharing``: records that were hit together with it, of ``alive``; ``runs``: how many there were;
    ``broke``: in which of them its tests failed last, 0 for never.
    """
    since = min((runs - run for run in broke if run), default=RECENT_RUNS)
    if since < RECENT_RUNS:
        return -1 / (1 + since)
    return math.log(max(1, sharing)) / math.log(max(2, alive))
