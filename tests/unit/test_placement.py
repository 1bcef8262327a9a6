"""Placement on a machine: whatever runs together fits, and nothing waits for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from greenline.ci.execution.placement import Gpu, Machine, Running, choose, devices_for, why_never
from greenline.ci.sharding.plan_file import PlannedAtom

GIB = 2**30


@st.composite
def atoms(draw: st.DrawFn) -> list[PlannedAtom]:
    made = []
    for number in range(draw(st.integers(1, 25))):
        gpus = draw(st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0, 2.0, 4.0]))
        memory = draw(st.sampled_from([0, 2, 5, 8])) * GIB
        made.append(
            PlannedAtom(
                (f"t{number}",),
                float(draw(st.integers(1, 20))),
                slots=draw(st.integers(1, 2)),
                gpus=gpus,
                gpu_memory=memory,
                locks=tuple(draw(st.sets(st.sampled_from("ab"), max_size=1))),
                exclusive=draw(st.integers(0, 9)) == 0,
            )
        )
    return sorted(made, key=lambda atom: (-atom.seconds, atom.tests))


machines = st.builds(
    Machine,
    slots=st.integers(1, 6),
    gpus=st.integers(0, 4).map(lambda count: tuple(Gpu(str(number), 8 * GIB) for number in range(count))),
)


@given(atoms(), machines)
def test_everything_that_can_run_runs_and_what_runs_together_fits(given: list[PlannedAtom], machine: Machine) -> None:
    waiting = [atom for atom in given if why_never(atom, machine) is None]
    expected = sorted(atom.tests for atom in waiting)
    running: list[Running] = []
    done = []
    now = 0.0
    while waiting or running:
        while chosen := choose(waiting, machine, running, now):
            atom, devices = chosen
            waiting.remove(atom)
            running.append(Running(atom, devices, now + atom.seconds))
            check(machine, running)
        first = min(running, key=lambda each: each.end)  # nothing can wait while nothing runs
        now = first.end
        running.remove(first)
        done.append(first.atom.tests)
    assert sorted(done) == expected


def check(machine: Machine, running: list[Running]) -> None:
    """An oracle of its own: count each resource."""
    assert sum(min(each.atom.slots, machine.slots) for each in running) <= machine.slots
    locks = [lock for each in running for lock in each.atom.locks]
    assert len(locks) == len(set(locks))
    assert not any(each.atom.exclusive for each in running) or len(running) == 1
    for number, gpu in enumerate(machine.gpus):
        here = [each.atom for each in running if number in each.devices]
        assert sum(atom.gpu_memory for atom in here) <= gpu.memory
        assert sum(min(atom.gpus, 1) for atom in here) <= 1
        assert not any(atom.gpus >= 1 for atom in here) or len(here) == 1
    for each in running:
        wanted = max(1, int(each.atom.gpus)) if each.atom.gpus or each.atom.gpu_memory else 0
        assert len(set(each.devices)) == wanted


EIGHT = Machine(8, tuple(Gpu(str(number), 8 * GIB) for number in range(2)))


def atom(name: str, **needs: object) -> PlannedAtom:
    return PlannedAtom((name,), **{"seconds": 10.0, **needs})  # type: ignore[arg-type]


def test_small_tests_share_one_gpu_and_leave_the_other_for_whole_ones() -> None:
    running: list[Running] = []
    for name in ("a", "b", "c"):
        devices = devices_for(atom(name, gpu_memory=2 * GIB), EIGHT, running)
        assert devices == (0,)
        running.append(Running(atom(name, gpu_memory=2 * GIB), devices, 10))
    assert devices_for(atom("whole", gpus=1.0), EIGHT, running) == (1,)
    assert devices_for(atom("large", gpu_memory=3 * GIB), EIGHT, running) == (1,)


def test_short_ones_may_pass_a_gang_that_waits_but_not_delay_it() -> None:
    running = [Running(atom("r", gpus=1.0), (0,), 100)]
    gang, long, short = atom("gang", gpus=2.0), atom("long", gpus=1.0, seconds=200.0), atom("short", gpus=1.0)
    assert choose([gang, long], EIGHT, running, 0) is None
    assert choose([gang, long, short], EIGHT, running, 0) == (short, (1,))
    assert choose([gang, long, short], EIGHT, running, 95) is None


def test_what_can_never_run_is_told() -> None:
    assert why_never(atom("a", gpus=3.0), EIGHT) == "it needs 3 GPUs, 2 such are here"
    assert why_never(atom("a", gpu_memory=9 * GIB), EIGHT) == "it needs 1 GPUs of 9.0 GiB, 0 such are here"
    assert why_never(atom("a", nodes=2), EIGHT) == "it needs 2 machines at once"
