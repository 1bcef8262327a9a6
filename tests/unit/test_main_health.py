"""Main's health from its records."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import Engine

from greenline.ci.main_health import (
    DAY,
    QUARANTINE,
    Event,
    Flake,
    MainRun,
    find_flakes,
    green_share,
    propose_quarantines,
    read,
    record_event,
    record_run,
)
from greenline.ci.store import METADATA


@pytest.fixture
def store(tmp_path: Path) -> Engine:
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'store.db'}")
    METADATA.create_all(engine)
    return engine


def run(commit: str, at: float, *failed: str) -> MainRun:
    return MainRun(commit, at, not failed, failed)


BREAK = Event("f", "break", ("t.py::a",), "bad", "culprit", 100.0, 160.0, 200.0, None, None, "")


def test_the_share_is_of_time_and_not_of_runs() -> None:
    runs = [run("a", 0), run("b", 10, "t"), run("c", 20, "t"), run("d", 30, "t"), run("e", 40)]
    assert green_share(runs, 0, 100) == pytest.approx(0.7)
    assert green_share(runs, 30, 50) == pytest.approx(0.5)
    assert green_share(runs, -100, 0) == 1.0
    assert green_share([], 0, 100) is None


def test_a_flake_fails_and_passes_at_one_commit() -> None:
    runs = [run("a", 1, "t", "always"), run("a", 2, "always"), run("b", 3, "t"), run("b", 4), run("c", 5, "broken")]
    assert find_flakes(runs) == (Flake("t", 2, 2, 3),)


def test_the_story_of_a_break(store: Engine) -> None:
    record_run(store, run("good", 50))
    record_run(store, run("bad", 150, "t.py::a"))
    record_event(store, BREAK)
    assert read(store, 210).green is False
    record_event(store, BREAK._replace(detected=300.0, proposed=320.0, branch="greenline/repair/f"))
    record_run(store, run("mended", 460))
    health = read(store, 500)
    assert health.green is True
    assert health.last_green == "mended"
    assert (health.detect, health.culprit, health.proposal, health.mend) == ((60, 60), (40, 40), (160, 160), (300, 300))
    (event,) = health.events
    assert (event.detected, event.branch, event.green) == (160, "greenline/repair/f", 460)


def test_the_same_failure_after_a_green_run_is_another_break(store: Engine) -> None:
    record_event(store, BREAK)
    record_run(store, run("mended", 460))
    record_event(store, BREAK._replace(detected=900.0))
    assert len(read(store, 1000).events) == 2


def test_a_quarantine_has_one_beginning_and_ends_by_itself(store: Engine) -> None:
    for at, commit in ((0, "a"), (10, "b")):
        record_run(store, run(commit, at, "t"))
        record_run(store, run(commit, at + 1))
    first = read(store, 20)
    (proposed,) = first.quarantines
    assert (proposed.test, proposed.since, proposed.expires) == ("t", 20, 20 + QUARANTINE)
    propose_quarantines(store, first)
    later = read(store, 5 * DAY)
    assert later.quarantines == (proposed,)
    propose_quarantines(store, later)
    ended = 21 + QUARANTINE
    (renewed,) = read(store, ended).quarantines
    assert renewed.since == ended
    assert read(store, 60 * DAY).quarantines == ()


def test_one_flaky_commit_is_not_enough_for_a_quarantine(store: Engine) -> None:
    record_run(store, run("a", 0, "t"))
    record_run(store, run("a", 1))
    health = read(store, 2)
    assert [flake.test for flake in health.flakes] == ["t"]
    assert health.quarantines == ()


def test_same_records_and_time_same_answer(store: Engine) -> None:
    record_run(store, run("a", 0, "t"))
    assert read(store, 50) == read(store, 50)
    assert read(store, -1).green is None


def test_an_open_break_without_any_run_is_red(store: Engine) -> None:
    record_event(store, BREAK._replace(detected=300.0))
    assert read(store, 299).green is None
    assert read(store, 310).green is False
    record_run(store, MainRun("mended", 400.0, True))
    assert read(store, 410).green is True
