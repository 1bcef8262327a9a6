"""How selection did: one row a build, from shadow runs and replays. What trust in it rests on.

A *miss* is a test that failed, passed before, and would not have been selected. An *escape* is one that sampling
finds. Rates come with Clopper and Pearson's interval (Biometrika 26, 1934); for no miss in n trials its upper end is
close to 3 / n.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, Engine, Float, Integer, String, Table, Text, insert, select

from greenline.ci.store import METADATA

BUILDS_TO_TRUST = 20
"""Shadow builds without a miss after which switching selection on is proposed."""

SCORE = Table(
    "selection_score",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("suite", String, nullable=False),
    Column("source", String, nullable=False),  # "shadow" or "replay"
    Column("commit_id", String, nullable=False),
    Column("time", Float, nullable=False),  # seconds since 1970
    Column("tests", Integer, nullable=False),
    Column("selected", Integer, nullable=False),
    Column("seconds", Float, nullable=False),  # of all tests
    Column("selected_seconds", Float, nullable=False),
    Column("sampled", Integer, nullable=False),  # unselected tests whose outcome was looked at
    Column("missed", Text, nullable=False),  # JSON: test → cause
)


class Score(NamedTuple):
    """One build of one suite. Seconds are those of the tests themselves, one after the other."""

    suite: str
    source: str
    commit: str
    time: float
    tests: int
    selected: int
    seconds: float
    selected_seconds: float
    sampled: int
    missed: dict[str, str]


def keep(engine: Engine, scores: Sequence[Score]) -> None:
    rows = [
        {**score._asdict(), "commit_id": score.commit, "missed": json.dumps(score.missed, sort_keys=True)}
        for score in scores
    ]
    for row in rows:
        del row["commit"]
    if rows:
        with engine.begin() as connection:
            connection.execute(insert(SCORE), rows)


def kept(engine: Engine, source: str | None = None) -> list[Score]:
    """All scores, or those of one source, the oldest first."""
    wanted = select(SCORE).order_by(SCORE.c.id)
    if source:
        wanted = wanted.where(SCORE.c.source == source)
    with engine.connect() as connection:
        rows = connection.execute(wanted).all()
    return [
        Score(
            row.suite, row.source, row.commit_id, row.time, row.tests, row.selected, row.seconds, row.selected_seconds,
            row.sampled, json.loads(row.missed),
        )
        for row in rows
    ]  # fmt: skip


class Ledger(NamedTuple):
    """The sum of one suite's scores. ``rate`` and its interval: misses for each unselected test that was looked at."""

    suite: str
    builds: int
    clean: int  # the latest builds in a row without a miss
    tests: int
    selected: int
    saved_seconds: float
    saved_money: float | None
    sampled: int
    missed: list[tuple[str, str, str]]  # commit, test, cause
    rate: float
    low: float
    high: float
    ready: bool


def ledger(scores: Sequence[Score], price_per_hour: float | None = None) -> list[Ledger]:
    """One ledger a suite. ``price_per_hour``: of one machine, in whatever currency."""
    found = []
    for suite in sorted({score.suite for score in scores}):
        own = [score for score in scores if score.suite == suite]
        missed = [(score.commit, test, cause) for score in own for test, cause in sorted(score.missed.items())]
        clean = next((at for at, score in enumerate(reversed(own)) if score.missed), len(own))
        saved = sum(score.seconds - score.selected_seconds for score in own)
        sampled = sum(score.sampled for score in own)
        low, high = interval(len(missed), sampled)
        found.append(
            Ledger(
                suite,
                len(own),
                clean,
                sum(score.tests for score in own),
                sum(score.selected for score in own),
                saved,
                None if price_per_hour is None else saved / 3600 * price_per_hour,
                sampled,
                missed,
                len(missed) / sampled if sampled else 0.0,
                low,
                high,
                clean >= BUILDS_TO_TRUST,
            )
        )
    return found


def interval(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval for a rate of ``hits`` in ``trials``; (0, 1) without trials."""
    if not trials:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    low = _root(lambda p: _at_least(hits, trials, p) - tail) if hits else 0.0
    high = _root(lambda p: tail - _at_most(hits, trials, p)) if hits < trials else 1.0
    return low, high


def _at_least(hits: int, trials: int, p: float) -> float:
    return 1 - _at_most(hits - 1, trials, p)


def _at_most(hits: int, trials: int, p: float) -> float:
    """P(X <= hits) for a binomial X."""
    if p <= 0:
        return 1.0
    if p >= 1:
        return float(hits >= trials)
    logs = [_log_choose(trials, k) + k * math.log(p) + (trials - k) * math.log1p(-p) for k in range(hits + 1)]
    return min(1.0, math.fsum(math.exp(each) for each in logs))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _root(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def as_json(ledgers: Sequence[Ledger]) -> dict[str, Any]:
    """As docs/audit.schema.json describes it."""
    return {
        "version": 1,
        "suites": [
            {
                **{key: value for key, value in each._asdict().items() if key != "missed"},
                "missed": [{"commit": commit, "test": test, "cause": cause} for commit, test, cause in each.missed],
            }
            for each in ledgers
        ],
    }


def now() -> float:
    return time.time()
