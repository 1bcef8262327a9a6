"""Why a test is where a plan has it: plans that were really made, asked about each of their tests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from greenline.ci.sharding.durations import Known
from greenline.ci.sharding.needs import Needs
from greenline.ci.sharding.placed import why_placed
from greenline.ci.sharding.plan import Wanted, make_plan
from greenline.ci.sharding.plan_file import Plan, Pool
from greenline.ci.sharding.units import make_units

POOLS = (
    Pool("cpu", startup=5),
    Pool("small", slots=4, gpus=1, gpu_memory=2**34),
    Pool("big", slots=8, gpus=8, price=9),
)


def plan_of(
    seconds: dict[str, float], shards: int = 2, needs: dict[str, Needs] | None = None, owned: tuple[str, ...] = ()
) -> Plan:
    units = make_units(dict.fromkeys(seconds, ""), Known(seconds, needs or {}, {}, {}, {})).units
    return make_plan(units, Wanted(shards), POOLS, owned=owned)


def test_a_cpu_test_says_why_no_gpu_runner() -> None:
    said = "\n".join(why_placed(plan_of({"a.py::test": 3.0, "b.py::test": 2.0}), "a.py::test"))
    assert "a runner of cpu" in said and "it needs no GPU" in said
    assert "small is for tests that need a GPU" in said and "big is for tests that need a GPU" in said
    assert "from second 5.0 to 8.0: expected are 3.0 s; the shard ends at 10.0, the plan at 10.0" in said


def test_a_wide_test_says_what_is_too_small() -> None:
    said = why_placed(plan_of({"a.py::test": 3.0}, needs={"a.py::test": Needs(gpus=4)}), "a.py::test")
    assert "it needs 4 GPU" in said and "small has too little for it" in said
    assert "device 0, 1, 2, 3 is planned for it" in said


def test_a_split_file_says_where_the_rest_is() -> None:
    plan = plan_of({f"a.py::test_{number}": 10.0 for number in range(4)})
    said = "\n".join(why_placed(plan, "a.py::test_0"))
    assert "a.py (40.0 s) is split so that the shards end together: 2 of its tests here, 2 on shard" in said
    whole, *pieces = why_placed(plan, "a.py")
    assert whole == "a.py is on several shards" and len(pieces) == 2


def test_what_no_runner_makes_shorter() -> None:
    said = why_placed(plan_of({"a.py::slow": 60.0, "b.py::test": 2.0}), "a.py::slow")
    assert (
        said[-1]
        == "no number of runners makes the plan shorter than 65.0 s because of it: "
        + "one test, 5 s of them until a cpu runner is ready"
    )


def test_what_is_not_planned() -> None:
    plan = plan_of({"a.py::test": 3.0, "b.py::test": 2.0}, owned=("a.py",))
    (owner,) = (shard.index for shard in plan.shards if "a.py" in shard.owns)
    assert why_placed(plan, "a.py::new[1]") == [
        f"a.py::new[1] is not planned; if it is collected, shard {owner} runs it, which has a.py"
    ]
    assert "was not selected" in why_placed(plan, "b.py::new")[0]


@given(
    st.dictionaries(
        st.sampled_from([f"{f}.py::test_{n}" for f in "abc" for n in range(5)]), st.floats(0.1, 90), min_size=1
    ),
    st.integers(1, 5),
)
def test_each_test_is_told_its_own_shard(seconds: dict[str, float], shards: int) -> None:
    plan = plan_of(seconds, shards)
    for shard in plan.shards:
        for test in shard.tests:
            assert why_placed(plan, test)[0] == f"{test} runs on shard {shard.index}, a runner of {shard.pool}"
