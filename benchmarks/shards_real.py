"""Real suites, planned and run as shards on this machine: is the plan's makespan what happens?

    make bench-shards-real [ARGS="werkzeug --shards 2,4 --rounds 3"]

History: the whole suite runs as a plan of one shard, a few times; the medians of each test, with what pytest takes
between two tests, are the durations; what a process takes before its first test is the pool's start-up time and the
files' cost. Then for each number of shards the suite is planned, and its shards run one after the other, each as on a
runner of its own. Actual makespan: the longest of them, from the start of `greenline shard run` to its end; the median
of the rounds. The machine must have nothing else to do. `greenline shard
verify` must be green for every round. Last, three targets, of which the plan says how many runners they take: how often
is each met? A test that hangs ends after a minute; its round is told, and counts as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import trees
from recall import SUITES as MEASURED
from recall import Suite

from greenline.ci.execution.result_files import read
from greenline.ci.sharding import plan_file
from greenline.ci.sharding.plan_file import Plan

SUITES = {
    "werkzeug": MEASURED["werkzeug"],
    "more-itertools": Suite("more-itertools==10.6.0", ("pytest==8.3.5",), ".", "tests"),
    "click": Suite("click==8.1.8", ("pytest==8.3.5",), "src", "tests"),
}
MOST = 1.10
"""Goal: actual ÷ predicted makespan."""
SILENCE, LIMIT = 60, 240
"""Seconds that a test may be silent, and that a command may take."""
PARTS = (2, 3, 4)
"""Targets: a start-up more than the whole suite in so many parts, or than its longest test."""
PLUGIN = Path(__file__).parents[1] / "tools" / "pytest_greenline"


class Place(NamedTuple):
    """A suite's tree, the environment that its pytest runs in, and a folder for plans and results."""

    tree: Path
    python: Path
    work: Path

    def run(self, plan: Path, index: int, results: Path) -> float:
        """Run a shard; the seconds that it took."""
        where = ("--plan", plan, "--index", index, "--results", results)
        return self.greenline("run", *where, "--timeout", SILENCE, "--", "-q")

    def greenline(self, *arguments: object, ok: Sequence[int] = (0, 1)) -> float:
        """Run `greenline shard …`; the seconds that it took. Raises CalledProcessError for other exit codes."""
        command = [str(trees.GREENLINE), "shard", *map(str, arguments)]
        home = {"VIRTUAL_ENV": str(self.python.parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
        start = time.perf_counter()
        done = subprocess.run(
            command, cwd=self.tree, env={**trees.environment(), **home}, capture_output=True, text=True, timeout=LIMIT
        )
        for line in done.stderr.splitlines():
            if " hangs: " in line:
                print(line, flush=True)
        if done.returncode not in ok:
            print(done.stdout[-3000:], done.stderr[-3000:], sep="\n")
            raise subprocess.CalledProcessError(done.returncode, command)
        return time.perf_counter() - start


class Learnt(NamedTuple):
    """``durations``: test → seconds, with what lies between two tests; ``startup``: seconds of a process that has
    nothing to collect or to run; ``file_cost``: seconds to collect a file; ``wall``: of the whole suite."""

    durations: dict[str, float]
    startup: float
    file_cost: float
    wall: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; default: all")
    parser.add_argument("--shards", default="2,4", help="numbers of shards")
    parser.add_argument("--rounds", type=int, default=3, help="runs of the whole suite, and of each plan")
    options = parser.parse_args()
    counts = [int(count) for count in options.shards.split(",")]
    fine = [measure(name, counts, options.rounds) for name in options.suites or SUITES]
    return 0 if all(fine) else 1


def measure(name: str, counts: Sequence[int], rounds: int) -> bool:
    place = prepare(name)
    learnt = learn(place, rounds)
    total = sum(learnt.durations.values())
    print(
        f"## {SUITES[name].library}: {len(learnt.durations):,} tests, {total:.1f} s of tests in {learnt.wall:.1f} s;"
        f" start-up {learnt.startup:.2f} s, {1000 * learnt.file_cost:.0f} ms a file; load {os.getloadavg()[0]:.1f}\n"
    )
    print("| plan | shards | predicted, s | bound, s | actual, s | median ÷ predicted | goal |\n" + "| - " * 7 + "|")
    fine = True
    for count in counts:
        plan = make_plan(place, learnt, "--shards", count)
        fine &= row(f"--shards {count}", plan, [run(place, plan) for _ in range(rounds)])
    met = near = 0
    longest = 1.05 * (max(learnt.durations.values()) + learnt.file_cost)
    targets = {max((learnt.startup + total) / parts, longest) + learnt.startup for parts in PARTS}
    for target in sorted(targets, reverse=True):
        plan = make_plan(place, learnt, "--target", f"{target:.2f}s")
        actual = [run(place, plan) for _ in range(rounds)]
        fine &= row(f"--target {target:.2f}s", plan, actual)
        met += sum(seconds <= target for seconds in actual)
        near += sum(seconds <= target * MOST for seconds in actual)
    print(f"\ntargets met: {met} of {len(targets) * rounds} rounds; within {MOST}: {near}\n", flush=True)
    return fine


def row(what: str, plan: Plan, actual: Sequence[float]) -> bool:
    ratio = median(actual) / plan.makespan
    rounds = ", ".join(f"{seconds:.2f}" for seconds in actual)
    cells = [what, len(plan.shards), f"{plan.makespan:.2f}", f"{plan.bound:.2f}", rounds, f"{ratio:.2f}"]
    print(f"| {' | '.join(map(str, cells))} | at most {MOST}: {'holds' if ratio <= MOST else 'MISSED'} |", flush=True)
    return ratio <= MOST


def prepare(name: str) -> Place:
    """The tree and its environment, kept below build/."""
    suite = SUITES[name]
    home = trees.BUILD / "shards" / name
    tree, work = home / "tree", home / "work"
    if not tree.exists():
        trees.source_distribution(suite.library, tree)
    if "tool.pytest" not in (tree / "pyproject.toml").read_text("utf-8"):
        (tree / "pytest.ini").write_text("[pytest]\n", "utf-8")  # else pytest takes the settings of the folders above
    python = trees.programs(f"shards-{name}", [suite.library, *suite.needs, str(PLUGIN)]) / "python"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    files = trees.git(tree, "ls-files", f"{suite.tests}/test_*.py", f"{suite.tests}/**/test_*.py").split()
    (work / "files").write_text("\n".join(sorted(set(files))) + "\n", "utf-8")
    return Place(tree, python, work)


def learn(place: Place, rounds: int) -> Learnt:
    """Run the whole suite as one shard, a few times."""
    (place.tree / "greenline.yaml").write_text("sharding: {pools: [{name: cpu}]}\n", "utf-8")
    path = place.work / "whole.json"
    place.greenline("plan", "--tests", place.work / "files", "--shards", 1, "--output", path)
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    startups, costs, betweens, walls = [], [], [], []
    for _ in range(rounds):
        results = place.work / "whole"
        shutil.rmtree(results, ignore_errors=True)
        walls.append(place.run(path, 0, results))
        (stream,) = results.glob("*.jsonl")
        (session,) = read(str(stream))
        for result in session.results:
            seconds[result.id].append(result.seconds)
        lines = [json.loads(line) for line in stream.read_text("utf-8").splitlines()]
        first = next(line["time"] for line in lines if line["event"] == "start")
        costs.append((first - session.time) / len(session.collected))
        startups.append(walls[-1] - (lines[-1]["time"] - session.time))
        idle = lines[-1]["time"] - first - sum(result.seconds for result in session.results)
        betweens.append(idle / len(session.results))
    durations = {test: median(each) + median(betweens) for test, each in seconds.items()}
    return Learnt(durations, median(startups), median(costs), median(walls))


def make_plan(place: Place, learnt: Learnt, *how: object) -> Plan:
    pool = {"name": "cpu", "startup": f"{learnt.startup:.3f}s"}
    room = {"sharding": {"pools": [pool], "file_cost": f"{learnt.file_cost:.4f}s"}}
    (place.tree / "greenline.yaml").write_text(json.dumps(room), "utf-8")  # JSON is YAML
    durations, tests, path = (place.work / each for each in ("durations.json", "tests", "plan.json"))
    durations.write_text(json.dumps(learnt.durations), "utf-8")
    tests.write_text("\n".join(learnt.durations) + "\n", "utf-8")
    place.greenline("plan", "--tests", tests, "--durations", durations, *how, "--output", path)
    return plan_file.read(str(path))


def run(place: Place, plan: Plan) -> float:
    """Run all shards one after the other, and verify; seconds of the longest."""
    results = place.work / "results"
    shutil.rmtree(results, ignore_errors=True)
    path = place.work / "plan.json"
    walls = [place.run(path, shard.index, results) for shard in plan.shards]
    verify(place, path, results)
    return max(walls)


def verify(place: Place, path: Path, results: Path) -> None:
    """Every planned test has exactly one result; one that fails in the whole suite may fail here."""
    command = [str(trees.GREENLINE), "shard", "verify", "--plan", str(path), str(results), "--format", "json"]
    done = subprocess.run(command, cwd=place.tree, env=trees.environment(), capture_output=True, text=True, check=False)
    verdict: dict[str, Any] = json.loads(done.stdout)
    wrong = [problem["what"] for problem in verdict["problems"] if problem["kind"] != "failed"]
    if wrong:
        raise SystemExit("not proven:\n" + "\n".join(wrong))


if __name__ == "__main__":
    sys.exit(main())
