"""The ledger: rates with their intervals, and what was saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy

from greenline.ci.scores import BUILDS_TO_TRUST, SCORE, Score, interval, keep, kept, ledger


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [  # from tables of the interval (95 %)
        (0, 10, 0.0, 0.3085),
        (1, 10, 0.0025, 0.4450),
        (5, 10, 0.1871, 0.8129),
        (10, 10, 0.6915, 1.0),
        (3, 300, 0.0021, 0.0289),
    ],
)
def test_interval(hits: int, trials: int, low: float, high: float) -> None:
    assert interval(hits, trials) == pytest.approx((low, high), abs=1e-4)


def test_without_a_miss_the_bound_is_close_to_three_over_n() -> None:
    assert interval(0, 1000)[1] == pytest.approx(3.0 / 1000, rel=0.3)
    assert interval(0, 0) == (0.0, 1.0)


def score(commit: str, missed: dict[str, str], suite: str = ".") -> Score:
    return Score(suite, "shadow", commit, 1.0, 100, 10, 3600.0, 360.0, 90, missed)


def test_ledger(tmp_path: Path) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/store.db")
    SCORE.metadata.create_all(engine, tables=[SCORE])
    builds = [score("a", {"t.py::test_x": "failed, not selected"})]
    builds += [score(str(number), {}) for number in range(BUILDS_TO_TRUST - 1)]
    keep(engine, builds)
    keep(engine, [score("b", {}, "other")])
    own, other = ledger(kept(engine, "shadow"), price_per_hour=2.0)
    assert own.missed == [("a", "t.py::test_x", "failed, not selected")]
    assert (own.builds, own.clean, own.ready) == (BUILDS_TO_TRUST, BUILDS_TO_TRUST - 1, False)
    assert own.saved_seconds == pytest.approx(BUILDS_TO_TRUST * 3240)
    assert own.saved_money == pytest.approx(BUILDS_TO_TRUST * 0.9 * 2)
    assert own.low < own.rate < own.high
    assert (other.suite, other.builds) == ("other", 1)
    keep(engine, [score("c", {})])
    assert ledger(kept(engine))[0].ready
