"""How long tests took and how they ended, kept in the store: rows that are only added, so shards never wait for shards.

A test is (suite, variant, id); its seconds are those on a kind of runner. A file that is imported twice counts once.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy import BigInteger, Column, Engine, Float, Index, Integer, String, Table, func, select

from greenline.ci.sharding.durations import Known, Measured, most_elsewhere, read_file
from greenline.ci.sharding.units import quantile
from greenline.ci.store import METADATA
from greenline.depgraph.errors import GreenlineError

RECENT = 10
"""Runs of a test, on a kind of runner, that are looked at and kept."""

SOURCES = Table(
    "duration_sources",
    METADATA,
    Column("digest", String, primary_key=True),  # of the file's bytes
    Column("name", String, nullable=False),
    Column("commit", String, nullable=False),
    Column("imported", Float, nullable=False),  # seconds since 1970
)
RUNS = Table(
    "test_runs",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),  # SQLite counts up for Integer only
    Column("source", String, nullable=False),
    Column("suite", String, nullable=False),
    Column("variant", String, nullable=False),
    Column("runner", String, nullable=False),
    Column("test", String, nullable=False),
    Column("commit", String, nullable=False),
    Column("setup", Float, nullable=False),
    Column("call", Float, nullable=False),
    Column("teardown", Float, nullable=False),
    Column("outcome", String, nullable=False),
    Column("gpu_peak", BigInteger, nullable=False),  # bytes
    Index("test_runs_of", "variant", "runner", "test"),
)
WAITS = Table(
    "pool_waits",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("source", String, nullable=False),
    Column("pool", String, nullable=False),
    Column("queue", Float, nullable=False),  # until a runner is given
    Column("startup", Float, nullable=False),  # from there to its first test
)


class Imported(NamedTuple):
    """``files`` that were new, their ``runs`` of tests and ``waits`` for runners; ``again``: files known before."""

    files: int
    runs: int
    waits: int
    again: int


def import_files(
    store: Engine,
    paths: Sequence[str],
    commit: str = "",
    suite: str = "",
    variant: str = "",
    runner: str = "",
    clock: Callable[[], float] = time.time,
) -> Imported:
    """Read the files and keep what they say; what it does not say itself is `commit`, `suite`, `variant`, `runner`.

    All or nothing of a file. Raises GreenlineError for a file that is none of the known forms.
    """
    done = Imported(0, 0, 0, 0)
    for path in paths:
        runs = list(read_file(path))
        with open(path, "rb") as file:
            data = file.read()
        digest = hashlib.sha256(data).hexdigest()
        rows = [_row(run, digest, commit, suite, variant, runner) for run in runs]
        waits = [{"source": digest, **wait} for wait in _waits(data)]
        try:
            with store.begin() as connection:
                connection.execute(SOURCES.insert().values(digest=digest, name=path, commit=commit, imported=clock()))
                if rows:
                    connection.execute(RUNS.insert(), rows)
                if waits:
                    connection.execute(WAITS.insert(), waits)
        except sqlalchemy.exc.IntegrityError:
            done = done._replace(again=done.again + 1)
            continue
        except sqlalchemy.exc.SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
            raise GreenlineError(
                f"{path}: the store does not take it: {reason}", "see store in greenline.yaml"
            ) from None
        done = Imported(done.files + 1, done.runs + len(rows), done.waits + len(waits), done.again)
    _prune(store)
    return done


def _row(run: Measured, digest: str, commit: str, suite: str, variant: str, runner: str) -> dict[str, Any]:
    return {
        "source": digest,
        "suite": run.suite or suite,
        "variant": run.variant or variant,
        "runner": run.runner or runner,
        "test": run.test,
        "commit": run.commit or commit,
        "setup": run.setup,
        "call": run.call,
        "teardown": run.teardown,
        "outcome": run.outcome,
        "gpu_peak": run.gpu_peak,
    }


def _waits(data: bytes) -> Iterable[dict[str, Any]]:
    """What the session lines of a result stream say of `queue` and `startup` seconds."""
    if not data.startswith(b'{"event":'):
        return
    for line in data.decode("utf-8", "replace").splitlines():
        if '"session"' not in line:
            continue
        try:
            event = json.loads(line)
        except ValueError:
            continue
        queue, startup = event.get("queue"), event.get("startup")
        if event.get("runner") and (queue is not None or startup is not None):
            yield {"pool": str(event["runner"]), "queue": float(queue or 0), "startup": float(startup or 0)}


def _prune(store: Engine) -> None:
    """Keep the recent runs of each test only."""
    newest = func.row_number().over(
        partition_by=(RUNS.c.suite, RUNS.c.variant, RUNS.c.runner, RUNS.c.test), order_by=RUNS.c.id.desc()
    )
    ranked = select(RUNS.c.id, newest.label("rank")).subquery()
    with store.begin() as connection:
        connection.execute(RUNS.delete().where(RUNS.c.id.in_(select(ranked.c.id).where(ranked.c.rank > RECENT))))


class TestHistory(NamedTuple):
    """The recent runs of a test on a kind of runner.

    ``setup``, ``call``, ``teardown``, ``seconds``: of the runs that passed, at a quantile. ``failed``: runs that
    failed at a commit where none passed; ``flaky``: at one where another passed.
    """

    suite: str
    variant: str
    runner: str
    test: str
    setup: float
    call: float
    teardown: float
    seconds: float
    passed: int
    failed: int
    flaky: int
    skipped: int
    gpu_peak: int


def histories(store: Engine, share: float = 0.5, variant: str | None = None) -> list[TestHistory]:
    """All tests of the store, or of a variant, sorted; durations at the quantile `share`."""
    columns = [column for column in RUNS.c if column.name not in ("id", "source")]
    query = select(*columns).order_by(RUNS.c.suite, RUNS.c.variant, RUNS.c.runner, RUNS.c.test, RUNS.c.id)
    if variant is not None:
        query = query.where(RUNS.c.variant == variant)
    groups: dict[tuple[str, ...], list[Any]] = {}
    with store.connect() as connection:
        for row in connection.execute(query):
            groups.setdefault((row.suite, row.variant, row.runner, row.test), []).append(row)
    return [_history(key, rows[-RECENT:], share) for key, rows in groups.items()]


def _history(key: tuple[str, ...], rows: Sequence[Any], share: float) -> TestHistory:
    passed = [row for row in rows if row.outcome == "passed"]
    failed = [row for row in rows if row.outcome == "failed"]
    green = {row.commit for row in passed if row.commit}
    flaky = sum(row.commit in green for row in failed)
    suite, variant, runner, test = key
    return TestHistory(
        suite,
        variant,
        runner,
        test,
        quantile([row.setup for row in passed], share),
        quantile([row.call for row in passed], share),
        quantile([row.teardown for row in passed], share),
        quantile([row.setup + row.call + row.teardown for row in passed], share),
        len(passed),
        len(failed) - flaky,
        flaky,
        sum(row.outcome == "skipped" for row in rows),
        max((row.gpu_peak for row in rows), default=0),
    )


def known_tests(store: Engine, variant: str = "", share: float = 0.5) -> Known:
    """What the planner needs of the store: of a test on several kinds of runners, the slowest where none is named."""
    known = Known({}, {}, {}, {}, {})
    for each in histories(store, share, variant):
        runs = each.passed + each.failed + each.flaky
        if each.passed:
            known.seconds[each.test] = max(known.seconds.get(each.test, 0.0), each.seconds)
            if each.runner:
                known.by_runner.setdefault(each.runner, {})[each.test] = each.seconds
        if each.failed or each.flaky:
            risk = (each.failed + each.flaky) / runs
            known.failing[each.test] = max(known.failing.get(each.test, 0.0), risk)
        if each.gpu_peak:
            known.peaks[each.test] = max(known.peaks.get(each.test, 0), each.gpu_peak)
    return known._replace(elsewhere=most_elsewhere(known.seconds, _others(store, variant)))


def _others(store: Engine, variant: str) -> list[dict[str, float]]:
    """The most seconds of each test in each other variant."""
    most = func.max(RUNS.c.setup + RUNS.c.call + RUNS.c.teardown).label("most")
    query = select(RUNS.c.variant, RUNS.c.test, most).where(RUNS.c.variant != variant, RUNS.c.outcome == "passed")
    found: dict[str, dict[str, float]] = {}
    with store.connect() as connection:
        for row in connection.execute(query.group_by(RUNS.c.variant, RUNS.c.test)):
            found.setdefault(row.variant, {})[row.test] = row.most
    return list(found.values())


class Wait(NamedTuple):
    """Seconds until runners of a pool were given, and from there to the first test: median and 95 of 100."""

    pool: str
    runners: int
    queue: float
    queue_p95: float
    startup: float
    startup_p95: float


def waits(store: Engine) -> dict[str, Wait]:
    found: dict[str, list[Any]] = {}
    with store.connect() as connection:
        for row in connection.execute(select(WAITS).order_by(WAITS.c.id)):
            found.setdefault(row.pool, []).append(row)
    return {
        pool: Wait(
            pool,
            len(rows),
            *(quantile([row.queue for row in rows], share) for share in (0.5, 0.95)),
            *(quantile([row.startup for row in rows], share) for share in (0.5, 0.95)),
        )
        for pool, rows in sorted(found.items())
    }
