"""What another variant says of a test: how long it may well take, and so when a queue starts it."""

from __future__ import annotations

import json
from pathlib import Path

import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st

from greenline.ci.sharding import history
from greenline.ci.sharding.durations import Known, most_elsewhere, read_durations
from greenline.ci.sharding.plan import Wanted, make_plan
from greenline.ci.sharding.units import make_units
from greenline.ci.store import METADATA

FAST = {"a.py::test": 1.0, "b.py::test": 5.0, "c.py::test": 4.0}
SLOW = {"a.py::test": 60.0, "b.py::test": 30.0, "d.py::test": 10.0}
Seconds = st.dictionaries(st.sampled_from("abcdef"), st.floats(0.01, 1000), max_size=6)


def test_a_slower_variant_says_less() -> None:
    assert most_elsewhere(FAST, [SLOW]) == {"a.py::test": 6.0, "b.py::test": 3.0, "d.py::test": 1.0}
    assert most_elsewhere(SLOW, [FAST]) == FAST  # a faster one is taken as it is


@given(Seconds, st.lists(Seconds, max_size=3))
def test_never_more_than_any_variant_took(own: dict[str, float], others: list[dict[str, float]]) -> None:
    found = most_elsewhere(own, others)
    assert set(found) == {test for other in others for test in other}
    for test, seconds in found.items():
        assert seconds <= max(other.get(test, 0.0) for other in others) + 1e-9


def test_it_makes_the_queue_begin_with_it_and_the_plan_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    path.write_text(json.dumps({"fast": FAST, "slow": SLOW}))
    known = read_durations([str(path)], "fast")
    assert known.seconds == FAST
    plan, plain = (
        make_plan(make_units(dict.fromkeys(FAST, ""), each).units, Wanted(1))
        for each in (known, known._replace(elsewhere={}))
    )
    longest = {atom.tests[0]: atom.longest for shard in plan.shards for atom in shard.atoms}
    assert max(longest, key=lambda test: longest[test]) == "a.py::test"
    assert plan.makespan == plain.makespan == 10.0


def test_the_store_tells_it(tmp_path: Path) -> None:
    store = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/store.db")
    METADATA.create_all(store)
    for variant, seconds in (("fast", FAST), ("slow", SLOW)):
        path = tmp_path / f"{variant}.json"
        path.write_text(json.dumps(seconds))
        history.import_files(store, [str(path)], variant=variant)
    known = history.known_tests(store, "fast")
    assert (known.seconds, dict(known.elsewhere)) == (FAST, most_elsewhere(FAST, [SLOW]))


def test_nothing_elsewhere_is_nothing() -> None:
    assert most_elsewhere(FAST, []) == {} == dict(Known({}, {}, {}, {}, {}).elsewhere)
