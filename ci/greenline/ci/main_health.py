"""How main is: the share of time it was green, how fast breaks were found and mended, and which tests flake.

Runs of main and what repair found are records in the store; everything shown follows from them and from a time that is
an input, so that the same records give the same answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import NamedTuple

from sqlalchemy import Boolean, Column, Engine, Float, Integer, String, Table, Text, insert, select, update

from greenline.ci.store import METADATA
from greenline.depgraph.wording import plural

DAY = 86400.0
WINDOW = 30 * DAY
QUARANTINE = 14 * DAY
"""How long a quarantine lasts: then the test must have been mended, or be judged anew."""
FLAKY_COMMITS = 2
"""At so many commits a test must have both failed and passed before a quarantine is proposed."""

RUNS = Table(
    "main_runs",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("commit", String(64), nullable=False, index=True),
    Column("at", Float, nullable=False, index=True),
    Column("green", Boolean, nullable=False),
    Column("failed", Text, nullable=False),
)
BREAKAGES = Table(
    "main_breakages",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("fingerprint", String(64), nullable=False, index=True),
    Column("kind", String(40), nullable=False),
    Column("tests", Text, nullable=False),
    Column("bad", String(64), nullable=False),
    Column("culprit", String(64), nullable=False),
    Column("landed", Float),
    Column("detected", Float, nullable=False),
    Column("culprit_at", Float),
    Column("proposed", Float),
    Column("green", Float),
    Column("branch", String(200), nullable=False),
)
QUARANTINES = Table(
    "main_quarantine",
    METADATA,
    Column("test", String(500), primary_key=True),
    Column("since", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("reason", Text, nullable=False),
)


class MainRun(NamedTuple):
    """One run of all tests at a commit of main. ``at``: seconds since 1970; ``failed``: node ids."""

    commit: str
    at: float
    green: bool
    failed: tuple[str, ...] = ()


class Event(NamedTuple):
    """One breakage of main and when what happened, in seconds since 1970; None: not yet, or not known.

    ``landed``: the culprit came to main; ``detected``: repair began; ``green``: the first green run after it.
    """

    fingerprint: str
    kind: str
    tests: tuple[str, ...]
    bad: str
    culprit: str
    landed: float | None
    detected: float
    culprit_at: float | None
    proposed: float | None
    green: float | None
    branch: str


class Flake(NamedTuple):
    """A test that both failed and passed at one commit. ``commits``: at how many; ``failures``: how often."""

    test: str
    commits: int
    failures: int
    last: float


class Quarantine(NamedTuple):
    """A proposal to leave a test out of the gate for a while; it ends by itself."""

    test: str
    since: float
    expires: float
    reason: str


class Health(NamedTuple):
    """``share``: of the time since the first run in the window in which main was green, None: no run; the times are
    (median, 95th percentile) in seconds, None without an event."""

    at: float
    runs: int
    green: bool | None
    share: float | None
    last_green: str | None
    detect: tuple[float, float] | None
    culprit: tuple[float, float] | None
    proposal: tuple[float, float] | None
    mend: tuple[float, float] | None
    events: tuple[Event, ...]
    flakes: tuple[Flake, ...]
    quarantines: tuple[Quarantine, ...]


# -- records -------------------------------------------------------------------------------------------------


def record_run(store: Engine, run: MainRun) -> None:
    """Keep a run of main; a green one ends every open breakage."""
    with store.begin() as connection:
        values = {"commit": run.commit, "at": run.at, "green": run.green, "failed": json.dumps(sorted(run.failed))}
        connection.execute(insert(RUNS).values(**values))
        if run.green:
            still_open = BREAKAGES.c.green.is_(None) & (BREAKAGES.c.detected <= run.at)
            connection.execute(update(BREAKAGES).where(still_open).values(green=run.at))


def record_event(store: Engine, event: Event) -> None:
    """Keep a breakage; one with this fingerprint that is still open is brought up to date instead."""
    values = {**event._asdict(), "tests": json.dumps(event.tests)}
    mine = (BREAKAGES.c.fingerprint == event.fingerprint) & BREAKAGES.c.green.is_(None)
    with store.begin() as connection:
        row = connection.execute(select(BREAKAGES).where(mine)).first()
        if row is None:
            connection.execute(insert(BREAKAGES).values(**values))
        else:
            firsts = {name: getattr(row, name) for name in ("detected", "culprit_at", "proposed") if getattr(row, name)}
            connection.execute(update(BREAKAGES).where(BREAKAGES.c.id == row.id).values(**{**values, **firsts}))


def propose_quarantines(store: Engine, health: Health) -> None:
    """Keep the proposals, so that each has one beginning and one end."""
    with store.begin() as connection:
        for each in health.quarantines:
            known = connection.execute(select(QUARANTINES).where(QUARANTINES.c.test == each.test)).first()
            if known is None:
                connection.execute(insert(QUARANTINES).values(**each._asdict()))
            elif known.expires <= health.at:
                connection.execute(update(QUARANTINES).where(QUARANTINES.c.test == each.test).values(**each._asdict()))


def read(store: Engine, now: float, window: float = WINDOW) -> Health:
    """Main's health at a time, from the records of the window before it."""
    with store.begin() as connection:
        rows = connection.execute(select(RUNS).where(RUNS.c.at <= now).order_by(RUNS.c.at, RUNS.c.id)).all()
        events = connection.execute(select(BREAKAGES).where(BREAKAGES.c.detected <= now).order_by(BREAKAGES.c.id)).all()
        kept = connection.execute(select(QUARANTINES).where(QUARANTINES.c.expires > now)).all()
    runs = [MainRun(row.commit, row.at, row.green, tuple(json.loads(row.failed))) for row in rows]
    told = [
        Event(**{**{name: getattr(row, name) for name in Event._fields}, "tests": tuple(json.loads(row.tests))})
        for row in events
        if row.detected >= now - window
    ]
    known = {row.test: Quarantine(row.test, row.since, row.expires, row.reason) for row in kept}
    return judge(runs, told, known.values(), now, window)


# -- what follows from them ----------------------------------------------------------------------------------


def judge(
    runs: Sequence[MainRun], events: Sequence[Event], kept: Iterable[Quarantine], now: float, window: float = WINDOW
) -> Health:
    """``runs``: all, oldest first."""
    recent = [run for run in runs if run.at >= now - window]
    flakes = find_flakes(recent)
    breaks = [event for event in events if event.kind == "break"]
    last = runs[-1].at if runs else now - window
    # What repair saw fail counts as red, until a run of main is green.
    is_open = any(event.green is None and event.detected >= last for event in breaks)
    return Health(
        now,
        len(recent),
        False if is_open else runs[-1].green if runs else None,
        green_share(runs, now - window, now),
        next((run.commit for run in reversed(runs) if run.green), None),
        _spread([event.detected - event.landed for event in breaks if event.landed is not None]),
        _spread([event.culprit_at - event.detected for event in breaks if event.culprit_at is not None]),
        _spread([event.proposed - event.detected for event in breaks if event.proposed is not None]),
        _spread([event.green - event.detected for event in breaks if event.green is not None]),
        tuple(events),
        flakes,
        _quarantines(flakes, {each.test: each for each in kept}, now),
    )


def green_share(runs: Sequence[MainRun], start: float, end: float) -> float | None:
    """The share of the time in which the latest run was green; before the first run nothing is known."""
    green = known = 0.0
    for run, following in zip_longest(runs, runs[1:]):
        begin, stop = max(run.at, start), min(following.at if following else end, end)
        if stop > begin:
            known += stop - begin
            green += (stop - begin) * run.green
    if known:
        return green / known
    return float(runs[-1].green) if runs else None


def find_flakes(runs: Sequence[MainRun]) -> tuple[Flake, ...]:
    """Tests that failed in one run of a commit and not in another of the same commit, the worst first."""
    by_commit: dict[str, list[MainRun]] = {}
    for run in runs:
        by_commit.setdefault(run.commit, []).append(run)
    found: dict[str, Flake] = {}
    for same in by_commit.values():
        for test in sorted({test for run in same for test in run.failed}):
            failing = [run for run in same if test in run.failed]
            if len(failing) < len(same):
                old = found.get(test, Flake(test, 0, 0, 0.0))
                last = max(old.last, *(run.at for run in failing))
                found[test] = Flake(test, old.commits + 1, old.failures + len(failing), last)
    return tuple(sorted(found.values(), key=lambda each: (-each.commits, -each.failures, each.test)))


def _quarantines(flakes: Sequence[Flake], kept: dict[str, Quarantine], now: float) -> tuple[Quarantine, ...]:
    """The proposals that are running, and new ones for the tests that flake most."""
    found = dict(kept)
    for flake in flakes:
        if flake.commits >= FLAKY_COMMITS and flake.test not in found:
            reason = f"failed and passed at {plural(flake.commits, 'commit')}, {plural(flake.failures, 'failure')}"
            found[flake.test] = Quarantine(flake.test, now, now + QUARANTINE, reason)
    return tuple(found[test] for test in sorted(found))


def _spread(seconds: Sequence[float]) -> tuple[float, float] | None:
    """(median, 95th percentile), by the nearest rank."""
    if not seconds:
        return None
    ranked = sorted(seconds)
    return ranked[(len(ranked) - 1) // 2], ranked[min(len(ranked) - 1, -(-95 * len(ranked) // 100) - 1)]
