"""Which selected test files are likely to fail: those close to the change, and those that broke recently.

Close is who was hit by what few tests use: a function that three tests ran says more about them than one that all did.
Test files that changed themselves come first. Recent breakage as a predictor: Elbaum, Rothermel and Penix, FSE 2014.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from pyroaring import BitMap

from greenline.ci.evidence.forms import Entry
from greenline.ci.evidence.reading import Evidence
from greenline.ci.evidence.rule import Judged

RECENT_RUNS = 10


def rank(evidence: Evidence, judged: Judged, records: BitMap, entries: Iterable[Entry] = ()) -> float:
    """From -1 (broke in the last run) over 0 (the only one that ran what changed) to 1 (all did, or nothing is known)."""
    since = min((evidence.runs - entry.broke for entry in entries if entry.broke), default=RECENT_RUNS)
    if since < RECENT_RUNS:
        return -1 / (1 + since)
    sizes = [len(hit.records) for hits in judged.hits.values() for hit in hits if hit.records & records]
    return math.log(min(sizes)) / math.log(max(2, len(evidence.alive))) if sizes else 1.0
