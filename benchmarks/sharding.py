"""Plans on recorded durations of real suites, beside pytest-split, hashing and whole files; exit 1 if a goal is missed.

    make bench-sharding [ARGS="FOLDER [--full]"]

FOLDER holds the durations (JSON: test → seconds; SOURCES.md there says where they are from); without it
../shared/data/durations. --full plans for every number of shards from 4 to 64 rather than five of them. Every
makespan is replayed from the plan with the same durations; `pytest-split` is the library itself.
"""

from __future__ import annotations

import gc
import heapq
import json
import random
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pytest_split.algorithms import Algorithms

from greenline.ci.sharding import pack
from greenline.ci.sharding.durations import Known, by_file, most_elsewhere, read_durations
from greenline.ci.sharding.needs import NOTHING, file_of
from greenline.ci.sharding.plan import Wanted, make_plan
from greenline.ci.sharding.plan_file import Plan, Pool
from greenline.ci.sharding.settings import Rule
from greenline.ci.sharding.units import make_units

Durations = dict[str, float]
CPU = Pool("cpu")
SETS = ("onegov", "dvc", "pgmpy", "eir", "tilegym")
FILE_SETS = ("default", "distributed", "multigpu", "nogpu_AVX512")
SHARDS = (4, 8, 16, 32, 64)
missed: list[str] = []


def goal(holds: bool, what: str) -> str:
    if not holds:
        missed.append(what)
    return "" if holds else "  MISSED"


def plan_of(
    durations: Durations, wanted: Wanted, cost: float = 0.0, together: str = "", previous: Plan | None = None
) -> Plan:
    """A plan for all of these tests. `together`: "function" never splits one."""
    known = Known(durations, {}, {}, {}, {})
    rules = [Rule((), (), (), NOTHING, together)] if together else []
    units = make_units(dict.fromkeys(durations, ""), known, rules).units
    return make_plan(units, wanted, (CPU,), cost, previous=previous)


def makespan(groups: Iterable[Iterable[str]], durations: Mapping[str, float], cost: float = 0.0) -> float:
    """The fullest group, each file in it with its cost."""
    ends = []
    for group in groups:
        tests = list(group)
        ends.append(sum(durations[test] for test in tests) + cost * len({file_of(test) for test in tests}))
    return max(ends, default=0.0)


# -- the peers -----------------------------------------------------------------------------------------------


class Item(NamedTuple):
    """What pytest-split's algorithms look at."""

    nodeid: str


def peers(tests: Sequence[str], guessed: Durations, shards: int) -> dict[str, list[list[str]]]:
    """Each peer's groups; `guessed`: the durations that it knows."""
    items = [Item(test) for test in tests]
    known = {test: guessed[test] for test in tests if test in guessed}
    found = {}
    for name, algorithm in (("least_duration", "least_duration"), ("chunks", "duration_based_chunks")):
        groups = Algorithms[algorithm].value(shards, items, dict(known))
        found[name] = [[item.nodeid for item in group.selected] for group in groups]
    hashed: list[list[str]] = [[] for _ in range(shards)]
    for test in tests:
        hashed[zlib.crc32(test.encode()) % shards].append(test)
    found["hash"] = hashed
    whole: list[list[str]] = [[] for _ in range(shards)]
    heap = [(0.0, place) for place in range(shards)]
    average = sum(known.values()) / max(1, len(known))
    totals = {file: sum(known.get(test, average) for test in own) for file, own in by_file(tests).items()}
    for file in sorted(totals, key=lambda file: -totals[file]):
        load, place = heap[0]
        heapq.heapreplace(heap, (load + totals[file], place))
        whole[place] += [test for test in tests if file_of(test) == file]
    found["whole files"] = whole
    return found


# -- packing -------------------------------------------------------------------------------------------------


def sets(folder: Path) -> dict[str, Durations]:
    named = {name: folder / f"{name}.json" for name in SETS}
    named |= {f"pytorch {name}": folder / f"pytorch-cuda132-{name}.json" for name in FILE_SETS}
    return {name: read_durations([str(path)]).seconds for name, path in named.items()}


def packing(data: Mapping[str, Durations], every: bool, cost: float, together: str) -> None:
    atoms = "functions as atoms" if together else "tests as atoms"
    print(f"\n## Makespan / bound, {atoms}, {cost:g} s for each file on each shard\n")
    print("| set | shards | greenline | least_duration | chunks | hash | whole files | files split |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, durations in data.items():
        files = [[durations[test] for test in own] for own in by_file(durations).values()]
        worst = (0.0, 0)
        over = 0
        for shards in range(4, 65) if every else SHARDS:
            plan = plan_of(durations, Wanted(shards), cost, together)
            least = plan.bound if together else pack.bound(files, shards, cost)
            ratio = makespan([shard.tests for shard in plan.shards], durations, cost) / least
            worst = max(worst, (ratio, shards))
            over += ratio > 1.01
            if shards not in SHARDS:
                continue
            held = [{file_of(test) for test in shard.tests} for shard in plan.shards]
            split = sum(map(len, held)) - len(files)
            others = peers(sorted(durations), durations, shards)
            row = " | ".join(f"{makespan(groups, durations, cost) / least:.2f}" for groups in others.values())
            told = goal(ratio <= 1.01, f"{name}, {shards} shards, {cost:g} s, {atoms}: {ratio:.4f}")
            print(f"| {name} | {shards} | {ratio:.4f}{told} | {row} | +{split} parts |")
        if every:
            print(f"| {name} | all of 4 to 64 | at worst {worst[0]:.4f}, k = {worst[1]}; {over} over 1.01 | | | | | |")


# -- drift ---------------------------------------------------------------------------------------------------


def pairs(folder: Path) -> dict[str, tuple[Durations, Durations, Durations]]:
    """Old and new durations, and what the old file says of other variants: earlier files, and the Linux jobs of PyTorch
    with at least 100 test files."""
    found: dict[str, tuple[Durations, Durations, Durations]] = {}
    for path in sorted((folder / "history").glob("*.json")):
        name = path.stem.partition("-")[0]
        if name != "pytorch":
            old, new = (read_durations([str(each)]).seconds for each in (path, folder / f"{name}.json"))
            found[path.stem] = (old, new, {})
    old, new = (
        json.loads(path.read_text())
        for path in (folder / "history/pytorch-test-times-2026-08-02.json", folder / "pytorch-test-times.json")
    )
    others = [tests for variants in old.values() for tests in variants.values()]
    for job in sorted(new):
        for variant, tests in sorted(new[job].items()):
            if "linux" in job and len(tests) >= 100 and variant in old.get(job, {}):
                found[f"pytorch {job} {variant}"] = (
                    old[job][variant],
                    tests,
                    most_elsewhere(old[job][variant], others),
                )
    return found


def queue(seconds: Sequence[float], workers: int) -> float:
    """The end when each worker takes the next atom as soon as it is free, as `greenline shard run --local` does."""
    ends = [0.0] * workers
    for each in seconds:
        heapq.heapreplace(ends, ends[0] + each)
    return max(ends)


def drift(folder: Path) -> None:
    print("\n## Planned on an old file, run with the new one: makespan / that of a plan that knew\n")
    print("| pair | shards | unknown | queue | plan | least_duration | chunks | whole files |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    all_pairs = pairs(folder)
    within = 0
    plans = []
    for name, (old, new, elsewhere) in all_pairs.items():
        tests = sorted(new)
        for shards in (4, 8, 16, 32):
            own = [[new[test] for test in each] for each in by_file(tests).values()]
            oracle = pack.makespan(own, pack.pack(own, shards))
            known = Known(old, {}, {}, {}, {}, elsewhere=elsewhere)
            units = make_units(dict.fromkeys(tests, ""), known).units
            plan = make_plan(units, Wanted(shards), (CPU,))
            static = makespan([shard.tests for shard in plan.shards], new) / oracle
            atoms = [atom for shard in plan.shards for atom in shard.atoms]
            atoms.sort(key=lambda atom: (-atom.longest, -atom.seconds, atom.tests))
            leased = queue([sum(new[test] for test in atom.tests) for atom in atoms], shards) / oracle
            within += leased <= 1.10
            plans.append(static)
            others = peers(tests, old, shards)
            row = [makespan(others[peer], new) / oracle for peer in ("least_duration", "chunks", "whole files")]
            unknown = sum(test not in old for test in tests) / len(tests)
            told = goal(leased <= 1.10, f"queue on {name}, {shards} shards: {leased:.3f}")
            if not name.startswith("pytorch") or told:
                cells = " | ".join(f"{each:.2f}" for each in (static, *row))
                print(f"| {name} | {shards} | {unknown:.0%} | {leased:.3f}{told} | {cells} |")
    print(f"\nThe queue is within 1.10 in {within} of {len(plans)}; plans alone are at worst {max(plans):.2f}.")


# -- targets, GPUs, churn, speed -----------------------------------------------------------------------------


def targets(data: Mapping[str, Durations]) -> None:
    print("\n## Runners for a target, beside the fewest that any plan needs\n")
    print("| set | target | runners | lower bound | blocking |\n| --- | --- | --- | --- | --- |")
    for name, durations in data.items():
        files = [[durations[test] for test in own] for own in by_file(durations).values()]
        for minutes in (2, 5, 10, 20, 60):
            plan = plan_of(durations, Wanted(target=60.0 * minutes))
            if not plan.feasible:
                tests = [test for each in plan.blocking for test in each.tests]
                over = [test for test in durations if durations[test] > 60 * minutes]
                told = goal(set(tests) <= set(over) and bool(tests), f"{name}, {minutes} min: blocking tests")
                print(f"| {name} | {minutes} min | not possible{told} | | {len(over)}: {tests[0]} |")
                continue
            least = next(count for count in range(1, 10_000) if pack.bound(files, count) <= 60 * minutes)
            told = goal(len(plan.shards) == least, f"{name} in {minutes} min: {len(plan.shards)} runners, not {least}")
            print(f"| {name} | {minutes} min | {len(plan.shards)}{told} | {least} | |")


def nodes(folder: Path) -> None:
    print("\n## Tests for 1, 2, 4 and 8 GPUs on nodes of 8: makespan / bound\n")
    print("| set | nodes | ratio | one at a time |\n| --- | --- | --- | --- |")
    pool = Pool("gpu", slots=64, gpus=8)
    for name in ("sglang-suite", "trtllm-subset"):
        known = read_durations([str(folder / f"{name}-gpus.json")])
        known.needs.update({test: needs._replace(gpu_kinds=()) for test, needs in known.needs.items()})
        units = make_units(dict.fromkeys(known.seconds, ""), known).units
        for count in (1, 2, 3, 4, 5, 6):
            plan = make_plan(units, Wanted(count), (pool,))
            told = goal(plan.ratios.declared <= 1.02, f"{name} on {count} nodes: {plan.ratios.declared:.4f}")
            alone = sum(known.seconds.values()) / count / plan.bound
            print(f"| {name} | {count} | {plan.ratios.declared:.4f}{told} | {alone:.2f} |")
    known = read_durations([str(folder / "sglang-suite-gpus.json")])
    plan = make_plan(make_units(dict.fromkeys(known.seconds, ""), known).units, Wanted(target=1800.0))
    told = goal(plan.feasible and len(plan.shards) == 4, "sglang in 30 min on 4 nodes")
    print(f"\nsglang in 30 min, with the kinds of GPU that it asks for: {len(plan.shards)} nodes of 8{told}")


def churn(data: Mapping[str, Durations]) -> None:
    print("\n## Five tests more and every duration 10 % off: tests that moved, makespan / bound\n")
    print("| set | shards | moved with --previous | ratio | moved without |\n| --- | --- | --- | --- | --- |")
    for name in SETS:
        durations = data[name]
        for shards in (8, 16, 32):
            chance = random.Random(shards)
            before = plan_of(durations, Wanted(shards))
            wobbled = {test: seconds * chance.uniform(0.9, 1.1) for test, seconds in durations.items()}
            for number, test in enumerate(chance.sample(sorted(durations), 5)):
                wobbled[f"{file_of(test)}::test_added_{number}"] = durations[test]
            kept = plan_of(wobbled, Wanted(shards), previous=before)
            fresh = plan_of(wobbled, Wanted(shards))
            moved, anew = (_moved(before, plan) for plan in (kept, fresh))
            ratio = kept.ratios.declared
            told = goal(moved <= 0.005 and ratio <= 1.03 + 1e-6, f"churn of {name}, {shards} shards")
            print(f"| {name} | {shards} | {moved:.2%}{told} | {ratio:.3f} | {anew:.0%} |")


def _moved(before: Plan, after: Plan) -> float:
    homes = [{test: shard.index for shard in plan.shards for test in shard.tests} for plan in (before, after)]
    return sum(homes[1][test] != index for test, index in homes[0].items()) / len(homes[0])


def speed() -> None:
    chance = random.Random(1)
    durations = {
        f"pkg{file % 97}/test_{file}.py::test_{test}[{case}]": chance.lognormvariate(-1, 1.5)
        for file in range(4000)
        for test in range(5)
        for case in range(5)
    }
    gc.disable()
    start = time.process_time()
    plan = plan_of(durations, Wanted(64))
    seconds = time.process_time() - start
    gc.enable()
    told = goal(seconds <= 1.0 and plan.ratios.tests <= 1.01, f"100,000 tests: {seconds:.2f} s")
    print(f"\n100,000 tests on 64 shards: {seconds:.2f} s of CPU, {plan.ratios.tests:.4f} times the bound{told}")


def main() -> int:
    options = [argument for argument in sys.argv[1:] if argument.startswith("--")]
    folder = Path(next((argument for argument in sys.argv[1:] if argument not in options), "../shared/data/durations"))
    if not (folder / "onegov.json").is_file():
        print(f"{folder} holds no durations: name the folder, ARGS=FOLDER", file=sys.stderr)
        return 2
    data = sets(folder)
    steps: list[Callable[[], None]] = [
        lambda: packing(data, "--full" in options, 0.0, ""),
        lambda: packing({name: data[name] for name in SETS}, False, 0.0, "function"),
        lambda: packing({name: data[name] for name in SETS}, False, 2.0, ""),
        lambda: packing({name: data[name] for name in SETS}, False, 10.0, ""),
        lambda: drift(folder),
        lambda: targets(data),
        lambda: nodes(folder),
        lambda: churn(data),
        speed,
    ]
    for step in steps:
        step()
        sys.stdout.flush()
    print(f"\n{len(missed)} goals missed" if missed else "\nall goals met")
    for each in missed:
        print(f"  {each}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
