"""GPU tests of different sizes on few GPUs: makespan / bound, beside one test at a time on each GPU and whole files.

    make bench-gpu-packing [ARGS="FOLDER"]

FOLDER holds the durations; without it ../shared/data/durations. No GPU is needed: the first part plans, the second runs
real processes on logical devices, which are numbers in CUDA_VISIBLE_DEVICES and nothing else.

- gangs: tests for 1, 2, 4 and 8 GPUs (sglang, TensorRT-LLM; vLLM's also on two nodes at once) on nodes of 8.
- memory: TileGym's tests on devices of 80 GiB. How much memory each takes is not recorded anywhere, so it is drawn,
  seeded, one size for each function: mostly small (median 4 GiB) or mostly large (median 16 GiB). Tests that share a
  device are taken to be as fast as alone, which a real device need not grant.

Each plan is replayed: at no time more than a device's memory, no device in two gangs, no gang on two nodes. Goal for
gangs: at most 1.02 times the bound; with memory the bound is the area, which no plan may reach. Then such tests, made
of sleeping, run for real with `greenline shard run --gpus 4`: each says which devices it saw and when; that is checked
in the same way, and the time is compared with one at a time.
"""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import trees

from greenline.ci.sharding.durations import Known, read_durations
from greenline.ci.sharding.needs import Needs, file_of, function_of
from greenline.ci.sharding.plan import Wanted, make_plan
from greenline.ci.sharding.plan_file import Plan, Pool, write
from greenline.ci.sharding.units import make_units

GIB = 2**30
MOST = 1.02
"""Goal: makespan / bound."""
Tests = Mapping[str, tuple[float, Needs]]
"""test → seconds and needs"""
missed: list[str] = []


class Use(NamedTuple):
    """A stretch of time on devices: (runner, device) pairs, and bytes on each (0: the whole of it)."""

    start: float
    end: float
    devices: tuple[tuple[int, int], ...]
    memory: int


def goal(holds: bool, what: str) -> str:
    if not holds:
        missed.append(what)
    return "" if holds else " MISSED"


# -- plans ----------------------------------------------------------------------------------------------------


def plan_of(tests: Tests, count: int, pools: Sequence[Pool], cost: float = 0.0) -> Plan:
    seconds = {test: each for test, (each, _) in tests.items()}
    needs = {test: each for test, (_, each) in tests.items()}
    units = make_units(dict.fromkeys(tests, ""), Known(seconds, needs, {}, {}, {})).units
    return make_plan(units, Wanted(count), pools, cost)


def alone(tests: Tests) -> Tests:
    """Each with whole GPUs."""
    return {
        test: (seconds, Needs(gpus=max(1.0, math.ceil(needs.gpus)), nodes=needs.nodes))
        for test, (seconds, needs) in tests.items()
    }


def by_file(tests: Tests) -> Tests:
    """Each file as one test with as many whole GPUs as its widest needs."""
    found: dict[str, tuple[float, Needs]] = {}
    for test, (seconds, needs) in alone(tests).items():
        total, widest = found.get(file_of(test), (0.0, needs))
        wide = Needs(gpus=max(needs.gpus, widest.gpus), nodes=max(needs.nodes, widest.nodes))
        found[file_of(test)] = (total + seconds, wide)
    return found


def overfull(uses: Iterable[Use], memory: int) -> str:
    """What is on a device beyond what it has, or ""."""
    events = sorted(
        event
        for use in uses
        for device in use.devices
        for event in (
            (use.start, 1, device, use.memory or memory),
            (use.end - 1e-6, 0, device, -(use.memory or memory)),
        )
    )
    held: dict[tuple[int, int], int] = {}
    for at, _, device, change in events:
        held[device] = held.get(device, 0) + change
        if held[device] > memory:
            return f"{held[device] / GIB:.1f} GiB on device {device} at {at:.1f}"
    return ""


def uses_of(plan: Plan) -> list[Use]:
    found = []
    for shard in plan.shards:
        for atom in shard.atoms:
            assert len(set(atom.devices)) == len(atom.devices) <= plan.pool(shard).gpus  # of one runner by construction
            devices = tuple((shard.index, device) for device in atom.devices)
            found.append(Use(atom.start, atom.start + atom.seconds, devices, 0 if atom.gpus >= 1 else atom.gpu_memory))
    return found


def compare(name: str, tests: Tests, counts: Sequence[int], pools: Sequence[Pool]) -> None:
    for count in counts:
        start = time.process_time()
        plan = plan_of(tests, count, pools)
        seconds = time.process_time() - start
        wrong = overfull(uses_of(plan), pools[0].gpu_memory or 1)
        single, files = (plan_of(each, count, pools).makespan for each in (alone(tests), by_file(tests)))
        serial = sum(each for each, _ in tests.values()) / count
        ratio = plan.makespan / plan.bound
        told = "" if pools[0].gpu_memory else goal(ratio <= MOST, f"{name} on {count}: {ratio:.4f}")
        told += goal(not wrong, f"{name} on {count}: {wrong}")
        cells = [name, str(count), f"{plan.bound:.0f}", f"{ratio:.4f}{told}"]
        cells += [f"{each / plan.bound:.2f}" for each in (single, files, serial)]
        print(f"| {' | '.join(cells)} | {seconds:.1f} |", flush=True)


def sized(durations: Mapping[str, float], median: float) -> Tests:
    """One size of memory for each function: log-normal, at most 72 GiB."""
    sizes: dict[str, int] = {}
    for function in sorted({function_of(test) for test in durations}):
        gib = min(72.0, random.Random(f"{median} {function}").lognormvariate(math.log(median), 0.9))
        sizes[function] = round(gib * GIB)
    return {test: (seconds, Needs(gpu_memory=sizes[function_of(test)])) for test, seconds in durations.items()}


def gangs(folder: Path, name: str) -> Tests:
    known = read_durations([str(folder / f"{name}.json")])
    return {
        test: (seconds, known.needs.get(test, Needs(gpus=1))._replace(gpu_kinds=()))
        for test, seconds in known.seconds.items()
    }


def plans(folder: Path) -> None:
    print("| set | nodes of 8 GPUs | bound, s | plan / bound | one a GPU | whole files | one at a time | CPU, s |")
    print("| - " * 8 + "|")
    node = Pool("gpu", slots=64, gpus=8)
    for name in ("sglang-suite-gpus", "trtllm-subset-gpus"):
        compare(name, gangs(folder, name), (1, 2, 4), [node])
    compare("vllm-steps-gpus", gangs(folder, "vllm-steps-gpus"), (3, 5), [node, node._replace(name="pair", nodes=2)])
    durations = read_durations([str(folder / "tilegym.json")]).seconds
    for median in (4.0, 16.0):
        for gpus in (1, 2, 4):
            pool = Pool("gpu", slots=64, gpus=gpus, gpu_memory=80 * GIB)
            compare(f"tilegym, {median:g} GiB, {gpus} GPUs a node", sized(durations, median), (1,), [pool])


# -- real processes on logical devices ------------------------------------------------------------------------

TEST = """
import json, os, time
import pytest

def run(name, seconds):
    start = time.time()
    time.sleep(seconds)
    line = [name, os.environ["CUDA_VISIBLE_DEVICES"], start, time.time()]
    with open(os.environ["SEEN"], "a") as file:
        file.write(json.dumps(line) + "\\n")

@pytest.mark.parametrize("seconds", {seconds})
def test_{name}(seconds):
    run("{name}", seconds)
"""
KINDS = {
    "small": Needs(gpu_memory=2 * GIB),
    "middle": Needs(gpu_memory=5 * GIB),
    "large": Needs(gpu_memory=11 * GIB),
    "half": Needs(gpus=0.5),
    "one": Needs(gpus=1),
    "two": Needs(gpus=2),
    "four": Needs(gpus=4),
}
DEVICES, MEMORY = 4, 16 * GIB
START = 1.0
"""Seconds that a pytest process takes before its first test, about: the plan's cost of a file."""


def real(scratch: Path) -> None:
    """Seven kinds of tests, ten of each, in files of their own, on four logical devices of 16 GiB."""
    chance = random.Random(6)
    tests: dict[str, tuple[float, Needs]] = {}
    tree = scratch / "tree"
    tree.mkdir()
    for name, needs in KINDS.items():
        seconds = [round(chance.uniform(1.0, 5.0), 2) for _ in range(10)]
        (tree / f"test_{name}.py").write_text(TEST.format(name=name, seconds=sorted(set(seconds))))
        tests |= {f"test_{name}.py::test_{name}[{each}]": (each, needs) for each in sorted(set(seconds))}
    for arguments in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-qm", "x")):
        trees.git(tree, *arguments)
    pool = Pool("gpu", slots=8, gpus=DEVICES, gpu_memory=MEMORY)
    plan = plan_of(tests, 1, [pool], START)
    write(plan, str(scratch / "plan.json"))
    seen = scratch / "seen"
    command = [str(trees.GREENLINE), "shard", "run", "--plan", str(scratch / "plan.json"), "--index", "0"]
    command += ["--gpus", str(DEVICES), "--slots", "8", "--results", str(scratch / "results")]
    home = {"VIRTUAL_ENV": str(Path(sys.executable).parents[1]), "SEEN": str(seen)}
    done = subprocess.run(
        command, cwd=tree, env={**trees.environment(), **home}, capture_output=True, text=True, timeout=500
    )
    rows = [json.loads(line) for line in seen.read_text().splitlines()] if seen.exists() else []
    goal(done.returncode == 0 and len(rows) == len(tests), f"real run: {done.stderr[-500:]}")
    uses = []
    for name, devices, start, end in rows:
        memory = KINDS[name].gpu_memory or (MEMORY // 2 if name == "half" else 0)
        uses.append(Use(start, end, tuple((0, int(each)) for each in devices.split(",")), memory))
        wide = max(1, math.ceil(KINDS[name].gpus))
        goal(len(uses[-1].devices) == wide, f"real run: {name} saw {devices}")
    wrong = overfull(uses, MEMORY)
    goal(not wrong, f"real run: {wrong}")
    span = max(use.end for use in uses) - min(use.start for use in uses)
    serial = sum(seconds for seconds, _ in tests.values())
    started = len(list(scratch.glob("results/*.jsonl")))
    print(
        f"\n{len(rows)} real tests of {len(KINDS)} kinds on {DEVICES} logical devices: bound {plan.bound:.1f} s, plan "
        f"{plan.makespan:.1f} s, real {span:.1f} s ({started} pytest processes), one at a time "
        f"{serial:.1f} s of tests; devices given more than they have: {wrong or 'none'}"
    )


def main() -> int:
    folder = Path(next(iter(sys.argv[1:]), "../shared/data/durations"))
    if not (folder / "tilegym.json").is_file():
        print(f"{folder} holds no durations: name the folder, ARGS=FOLDER", file=sys.stderr)
        return 2
    plans(folder)
    with tempfile.TemporaryDirectory(prefix="greenline-gpu-") as scratch:
        real(Path(scratch).resolve())
    print(f"\n{len(missed)} goals missed" if missed else "\nall goals met")
    for each in missed:
        print(f"  {each}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
