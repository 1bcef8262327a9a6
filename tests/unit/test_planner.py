"""Plans: every test once, never below the bound, the optimum on small instances, the same for the same input."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import jsonschema
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from greenline.ci.sharding import pack, plan_file
from greenline.ci.sharding.durations import Known
from greenline.ci.sharding.needs import NOTHING, Needs
from greenline.ci.sharding.plan import Wanted, make_plan
from greenline.ci.sharding.plan_file import Plan, Pool
from greenline.ci.sharding.units import Unit, make_units
from greenline.depgraph.errors import GreenlineError

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "plan.schema.json").read_text("utf-8"))
SECONDS = st.one_of(st.integers(0, 20).map(float), st.floats(0, 100, allow_nan=False))
EPSILON = 1e-6


def units_of(files: Sequence[Sequence[float]], needs: Needs = NOTHING) -> list[Unit]:
    return [
        Unit((f"f{file}.py::t{place}",), seconds, seconds, f"f{file}.py", needs=needs)
        for file, each in enumerate(files)
        for place, seconds in enumerate(each)
    ]


FILES = st.lists(st.lists(SECONDS, min_size=1, max_size=6), min_size=1, max_size=8)
CPU = Pool("cpu")
NEEDS = st.builds(
    Needs,
    memory=st.just(0),
    nodes=st.just(1),
    isolated=st.booleans(),
    group=st.just(""),
    gpus=st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 4.0]),
    gpu_memory=st.sampled_from([0, 0, 10, 30]),
    gpu_kinds=st.sampled_from([(), (), ("a",), ("a", "b")]),
    locks=st.sampled_from([(), (), (), ("db",), ("db", "port"), ("runner/x",)]),
    exclusive=st.sampled_from([False, False, False, True]),
    slots=st.sampled_from([1, 1, 2]),
)
POOLS = (
    Pool("cpu", slots=2, startup=3.0),
    Pool("gpu-a", slots=16, gpus=4, gpu_kind="a", gpu_memory=40, startup=10.0, price=4.0),
    Pool("gpu-b", slots=16, gpus=8, gpu_kind="b", gpu_memory=80, queue=5.0, price=8.0, maximum=2),
)


@st.composite
def mixed_units(draw: st.DrawFn) -> list[Unit]:
    kinds = draw(st.lists(NEEDS, min_size=1, max_size=4))
    found = []
    for number in range(draw(st.integers(1, 14))):
        seconds = draw(SECONDS)
        file = f"f{draw(st.integers(0, 3))}.py"
        found.append(Unit((f"{file}::t{number}",), seconds, seconds, file, needs=draw(st.sampled_from(kinds))))
    return found


def check(plan: Plan, units: Sequence[Unit]) -> None:
    """What holds for every plan: replayed on its own, event by event."""
    planned = Counter(test for shard in plan.shards for test in shard.tests)
    assert planned == Counter(test for unit in units for test in unit.tests)
    assert all(shard.tests for shard in plan.shards)
    assert plan.makespan >= plan.bound - EPSILON
    assert plan.bound >= plan.bounds.tests - EPSILON
    by_test = {test: unit for unit in units for test in unit.tests}
    home: dict[str, int] = {}
    for shard in plan.shards:
        pool = plan.pool(shard)
        assert plan.makespan >= pool.wait + shard.seconds - EPSILON
        for atom in shard.atoms:
            needs = by_test[atom.tests[0]].needs
            assert atom.start + atom.seconds <= shard.seconds + EPSILON
            assert needs.gpu == (pool.gpus > 0)
            assert not needs.gpu_kinds or pool.gpu_kind in needs.gpu_kinds
            assert not (needs.gpu and pool.gpu_memory) or needs.gpu_memory <= pool.gpu_memory
            if needs.gpus >= 1:
                assert len(set(atom.devices)) == needs.gpus
            for lock in needs.locks:
                if not lock.startswith("runner/") and len({each.pool for each in plan.shards}) == 1:
                    assert home.setdefault(lock, shard.index) == shard.index
        for moment in {atom.start for atom in shard.atoms}:
            now = [atom for atom in shard.atoms if atom.start <= moment < atom.start + atom.seconds - EPSILON]
            assert sum(atom.slots for atom in now) <= pool.slots
            for device in range(pool.gpus):
                on_it = [atom for atom in now if device in atom.devices]
                assert sum(min(atom.gpus, 1.0) for atom in on_it) <= 1 + EPSILON
                assert not pool.gpu_memory or sum(atom.gpu_memory for atom in on_it) <= pool.gpu_memory
            held = [lock for atom in now for lock in atom.locks]
            assert len(held) == len(set(held))
            assert len(now) <= 1 or not any(atom.exclusive for atom in now)
    text = plan_file.dumps(plan)
    jsonschema.validate(json.loads(text), SCHEMA)
    again = plan_file.loads(text)
    assert [shard.tests for shard in again.shards] == [shard.tests for shard in plan.shards]


@settings(max_examples=20)
@given(FILES, st.integers(1, 6), st.sampled_from([0.0, 2.0]))
def test_a_plan_for_equal_runners_holds_every_test_once(files: list[list[float]], shards: int, cost: float) -> None:
    units = units_of(files)
    plan = make_plan(units, Wanted(shards), (CPU,), cost)
    check(plan, units)
    assert len(plan.shards) <= shards
    assert plan == make_plan(units, Wanted(shards), (CPU,), cost)


@settings(max_examples=12, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(mixed_units(), st.integers(3, 6))
def test_a_plan_for_mixed_runners_keeps_to_what_they_have(units: list[Unit], shards: int) -> None:
    try:
        plan = make_plan(units, Wanted(shards), POOLS)
    except GreenlineError as error:
        assert "no pool can run" in error.message
        return
    check(plan, units)
    assert plan == make_plan(units, Wanted(shards), POOLS)


@settings(max_examples=12, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(mixed_units(), st.sampled_from([30.0, 120.0, 400.0]))
def test_a_target_is_met_or_said_to_be_out_of_reach(units: list[Unit], target: float) -> None:
    try:
        plan = make_plan(units, Wanted(target=target), POOLS)
    except GreenlineError:
        return
    check(plan, units)
    assert plan.feasible == (plan.makespan <= target * (1 + 1e-9))
    assert plan.feasible or plan.blocking
    for pool in POOLS:
        used = sum(shard.pool == pool.name for shard in plan.shards)
        assert pool.maximum is None or used <= pool.maximum


def optimum(files: Sequence[Sequence[float]], runners: int, cost: float) -> float:
    """By trying everything."""
    atoms = [(seconds, file) for file, each in enumerate(files) for seconds in each]
    best = float("inf")
    for choice in itertools.product(range(runners), repeat=len(atoms)):
        loads = [0.0] * runners
        pairs = set()
        for (seconds, file), runner in zip(atoms, choice, strict=True):
            loads[runner] += seconds + (cost if (file, runner) not in pairs else 0.0)
            pairs.add((file, runner))
        best = min(best, max(loads))
    return best


SMALL = st.lists(st.lists(st.integers(0, 20).map(float), min_size=1, max_size=3), min_size=1, max_size=3).filter(
    lambda files: sum(map(len, files)) <= 7
)


@settings(max_examples=25)
@given(SMALL, st.integers(1, 3), st.sampled_from([0.0, 3.0]))
def test_small_instances_are_solved_exactly(files: list[list[float]], runners: int, cost: float) -> None:
    best = optimum(files, runners, cost)
    assert pack.makespan(files, pack.pack(files, runners, cost), cost) == pytest.approx(best)
    assert pack.bound(files, runners, cost) <= best + EPSILON


@settings(max_examples=25)
@given(SMALL, st.integers(5, 40).map(float), st.sampled_from([0.0, 3.0]))
def test_the_fewest_runners_are_found_on_small_instances(files: list[list[float]], end: float, cost: float) -> None:
    found = pack.fewest(files, end, cost)
    atoms = sum(map(len, files))
    fitting = [runners for runners in range(1, min(atoms, 4) + 1) if optimum(files, runners, cost) <= end]
    if fitting:
        assert found is not None
        assert found[0] == fitting[0]
    else:
        assert found is None or found[0] > 4


def test_a_file_is_split_only_as_far_as_it_must_be() -> None:
    files = [[1.0] * 40, *([1.0] * 5 for _ in range(12))]
    bins = pack.pack(files, 5)
    assert pack.makespan(files, bins) == 20.0
    assert sum(map(len, bins)) <= len(files) + 2


def test_nothing_makes_no_shard() -> None:
    plan = make_plan([], Wanted(4))
    assert plan.shards == ()
    assert (plan.makespan, plan.cost, plan.feasible) == (0.0, 0.0, True)
    check(plan, [])


def test_no_gpu_runner_without_a_gpu_test() -> None:
    plan = make_plan(units_of([[5.0], [4.0]]), Wanted(4), POOLS)
    assert {shard.pool for shard in plan.shards} == {"cpu"}


def test_an_atom_over_the_target_is_named() -> None:
    plan = make_plan(units_of([[700.0, 1.0], [30.0]]), Wanted(target=600.0), (CPU,))
    assert not plan.feasible
    assert [each.tests for each in plan.blocking] == [("f0.py::t0",)]
    assert plan.makespan == 700.0


def test_start_up_counts_towards_the_target() -> None:
    units = units_of([[60.0], [60.0], [60.0]])
    slow = CPU._replace(startup=50.0, queue=40.0, price=3.6, billing=60.0)
    plan = make_plan(units, Wanted(target=160.0), (slow,))
    assert (len(plan.shards), plan.makespan) == (3, 150.0)
    assert plan.cost == pytest.approx(3 * 3.6 * 120 / 3600)  # 110 s in steps of a minute; the queue is free
    assert len(make_plan(units, Wanted(target=220.0), (slow,)).shards) == 2


def test_a_small_selection_takes_few_runners() -> None:
    """A runner that works for less than it takes to start is none."""
    plan = make_plan(units_of([[2.0], [3.0], [4.0]]), Wanted(16), (CPU._replace(startup=30.0),))
    assert len(plan.shards) == 1


def test_a_test_that_no_pool_can_run() -> None:
    with pytest.raises(GreenlineError, match=r"no pool can run f0.py::t0: it needs 16 GPUs"):
        make_plan(units_of([[1.0]], Needs(gpus=16.0)), Wanted(1), POOLS)


def test_too_few_shards_for_the_pools() -> None:
    units = [*units_of([[1.0]]), Unit(("g.py::t",), 1.0, 1.0, "g.py", needs=Needs(gpus=1.0, gpu_kinds=("a",)))]
    with pytest.raises(GreenlineError, match="runners of 2 pools: cpu, gpu-a"):
        make_plan(units, Wanted(1), POOLS)


def test_the_cheaper_of_two_pools_is_taken() -> None:
    dear, cheap = CPU._replace(name="dear", price=9.0), CPU._replace(name="cheap", price=1.0)
    plan = make_plan(units_of([[100.0] * 6]), Wanted(target=300.0), (dear, cheap))
    assert [shard.pool for shard in plan.shards] == ["cheap", "cheap"]
    few = cheap._replace(maximum=1)
    plan = make_plan(units_of([[100.0] * 6]), Wanted(target=300.0), (dear, few))
    assert sorted(shard.pool for shard in plan.shards) == ["cheap", "dear"]
    assert plan.feasible


def test_likely_failures_come_first() -> None:
    units = units_of([[5.0], [9.0], [1.0]])
    units[2] = units[2]._replace(failing=0.5)
    plan = make_plan(units, Wanted(1), (CPU,))
    assert plan.shards[0].tests[0] == "f2.py::t0"


def test_every_file_has_one_owner() -> None:
    units = units_of([[1.0] * 30, [2.0] * 5])
    plan = make_plan(units, Wanted(4), (CPU,), owned=["f0.py", "f1.py"])
    assert sorted(item for shard in plan.shards for item in shard.owns) == ["f0.py", "f1.py"]


def test_of_a_file_on_two_pools_new_tests_go_where_gpus_are() -> None:
    gpu = Needs(gpus=1.0, gpu_kinds=("a",))
    units = [
        Unit(("f.py::cpu[1]",), 9.0, 9.0, "f.py"),
        Unit(("f.py::gpu[1]",), 1.0, 1.0, "f.py", needs=gpu),
    ]
    plan = make_plan(units, Wanted(2), POOLS, owned=["f.py"])
    owns = {shard.pool: shard.owns for shard in plan.shards}
    assert owns == {"cpu": ("f.py::cpu",), "gpu-a": ("f.py", "f.py::gpu")}


@settings(max_examples=8)
@given(st.data())
def test_a_plan_stays_close_to_the_one_before(data: st.DataObject) -> None:
    files = data.draw(st.lists(st.lists(st.floats(0.5, 5.0), min_size=3, max_size=8), min_size=10, max_size=15))
    before = make_plan(units_of(files), Wanted(4), (CPU,))
    factors = data.draw(st.lists(st.floats(0.98, 1.02), min_size=5, max_size=5))
    wobbled = [[seconds * factors[place % 5] for place, seconds in enumerate(each)] for each in files]
    units = units_of(wobbled)
    after = make_plan(units, Wanted(4), (CPU,), previous=before)
    check(after, units)
    homes = [{test: shard.index for shard in plan.shards for test in shard.tests} for plan in (before, after)]
    moved = sum(homes[0][test] != homes[1][test] for test in homes[0])
    assert moved <= 0.05 * len(homes[0])
    fresh = make_plan(units, Wanted(4), (CPU,))
    assert after.makespan <= max(1.03 * after.bound, fresh.makespan) + EPSILON


def test_what_shares_a_lock_runs_on_one_runner_one_at_a_time() -> None:
    units = units_of([[4.0], [4.0], [4.0]], Needs(locks=("db",))) + [
        Unit((f"x{number}.py::t",), 4.0, 4.0, f"x{number}.py") for number in range(3)
    ]
    plan = make_plan(units, Wanted(3), (CPU,))
    homes = {shard.index for shard in plan.shards for atom in shard.atoms if atom.locks}
    assert len(homes) == 1
    assert plan.makespan == plan.bound == 12.0


def test_gpus_are_shared_by_memory_and_never_by_more() -> None:
    pool = Pool("gpu", slots=8, gpus=1, gpu_memory=24)
    units = units_of([[10.0]] * 4, Needs(gpu_memory=8))
    plan = make_plan(units, Wanted(1), (pool,))
    assert plan.makespan == 20.0  # three at a time
    check(plan, units)


def test_the_order_of_the_input_does_not_matter() -> None:
    known = Known({f"f{number % 7}.py::t{number}": number * 1.7 % 11 for number in range(60)}, {}, {}, {}, {})
    tests = dict.fromkeys(known.seconds, "")
    one = make_plan(make_units(tests, known).units, Wanted(5))
    other = make_plan(
        make_units(dict(tests), known._replace(seconds=dict(reversed(known.seconds.items())))).units, Wanted(5)
    )
    assert one == other


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not a plan"),
        ("[]", "not an object"),
        ('{"version": 2}', "2 is not 1"),
        ('{"version": 1}', "missing key"),
    ],
)
def test_what_is_no_plan(text: str, problem: str) -> None:
    with pytest.raises(GreenlineError, match=problem):
        plan_file.loads(text)


def test_a_plan_that_names_a_test_twice_is_none() -> None:
    plan = make_plan(units_of([[1.0], [2.0]]), Wanted(2), (CPU,))
    text = plan_file.dumps(plan).replace("f0.py::t0", "f1.py::t0")
    with pytest.raises(GreenlineError, match="planned twice"):
        plan_file.loads(text)
