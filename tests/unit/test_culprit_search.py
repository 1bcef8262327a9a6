"""The culprit search against worlds of which the truth is known."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from greenline.ci.breakage.search import NONE, Search


def settle(search: Search, culprit: int, flaky: float, broken: float, seed: int, most: int = 200) -> int | None:
    """Answer as a test would that flakes, and fails (nearly) always from the culprit on."""
    chance = random.Random(seed)
    while search.verdict().culprit is None and search.runs < most:
        for position in search.next():
            guilty = culprit != NONE and position >= culprit
            search.see(position, chance.random() < (broken if guilty else flaky))
    return search.verdict().culprit


@settings(max_examples=30)
@given(st.data(), st.integers(1, 200))
def test_without_noise_the_culprit_is_found_in_logarithmic_time(data: st.DataObject, size: int) -> None:
    culprit = data.draw(st.integers(1, size))
    search = Search([1.0] * size)
    assert settle(search, culprit, 0.0, 1.0, 0) == culprit
    assert search.runs <= size.bit_length() + 8


@settings(max_examples=20)
@given(st.integers(1, 100), st.sampled_from([0.0, 0.05, 0.3, 1.0]))
def test_a_test_that_no_suspect_broke_blames_nobody(size: int, rate: float) -> None:
    assert settle(Search([1.0] * size), NONE, rate, 1.0, 1, most=400) == NONE


def test_flaky_ranges_are_judged_right() -> None:
    right = 0
    for seed in range(60):
        culprit = seed % 33
        right += settle(Search([1.0] * 32), culprit, 0.1, 0.97, seed) == culprit
    assert right >= 58


def test_a_wrong_prior_costs_runs_and_not_the_answer() -> None:
    told, misled = Search([*[0.1] * 19, 10.0]), Search([10.0, *[0.1] * 19])
    assert settle(told, 20, 0.0, 1.0, 0) == settle(misled, 20, 0.0, 1.0, 0) == 20
    assert told.runs <= misled.runs


def test_a_suspect_that_cannot_be_guilty_is_never_blamed() -> None:
    search = Search([1.0, 0.0, 1.0])
    assert settle(search, 2, 0.0, 1.0, 0, most=40) != 2
    assert search.posterior[2] == 0


def test_a_position_that_tells_nothing_is_left_out() -> None:
    search = Search([1.0] * 8)
    search.close(4)
    asked = []
    while search.verdict().culprit is None and search.runs < 60:
        (position,) = search.next()
        asked.append(position)
        search.see(position, position >= 6)
    assert 4 not in asked
    assert search.verdict().culprit == 6


def test_when_a_neighbour_tells_nothing_no_one_is_certain() -> None:
    search = Search([1.0] * 8)
    for position in (4, 5):
        search.close(position)
    assert settle(search, 5, 0.0, 1.0, 0, most=60) is None
    assert abs(search.posterior[5] - search.posterior[4]) < 1e-9


def test_probes_that_run_side_by_side_split_the_range() -> None:
    positions = Search([1.0] * 64).next(3)
    assert len(set(positions)) == 3
    assert len(Search([1.0]).next(4)) == 4


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 10), st.booleans()), max_size=30))
def test_the_posterior_is_a_distribution(seen: list[tuple[int, bool]]) -> None:
    search = Search([1.0] * 10)
    for position, failed in seen:
        search.see(position, failed)
    assert abs(sum(search.posterior) - 1) < 1e-9
    assert all(0 <= share <= 1 for share in search.posterior)
