"""Speed of `greenline affected` beside `ruff analyze graph`, on a large repository and on generated ones that grow.

    make bench-speed [ARGS="--rounds 9 --sizes 1000,10000"]

Whole processes, started one after the other in turns (ruff, greenline, ruff, …) after a first turn that does not count,
so that both meet the same machine; medians. CPU is user and system time of the process and of those that it started
(git), and varies less than wall time on a busy machine. Trees are kept below build/.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import trees

RUFF = "ruff==0.17.6"
HOME_ASSISTANT = "homeassistant==2024.3.3"
MOVED = 1500  # files that a branch switch moves
EARLIER = 200  # files that changed since a restored cache was written
WARM, COLD = 0.25, 0.8  # goals: share of ruff's time
LARGEST = 100_000
LARGEST_WARM, LARGEST_COLD, LARGEST_MEMORY = 0.5, 15.0, 1024  # goals there: seconds, seconds, MiB


class Cost(NamedTuple):
    """Of one run, with everything it started: wall seconds, CPU seconds, memory of the largest process in MiB."""

    wall: float
    cpu: float
    memory: float


class Task(NamedTuple):
    """What is measured, and what comes before each of its runs without being measured."""

    name: str
    command: Sequence[str | Path]
    before: Callable[[], object] = lambda: None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="runs of each command on the large repository")
    parser.add_argument("--sizes", default="1000,3000,10000,30000,100000", help="files of the generated trees")
    parser.add_argument("--only", choices=["large", "growth"], help="only one of the two parts")
    options = parser.parse_args()
    ruff = trees.programs("ruff", [RUFF]) / "ruff"
    print(f"Python {sys.version.split()[0]}, {RUFF}, {cpus()} CPUs, load {os.getloadavg()[0]:.1f}\n")
    fine = True
    if options.only != "growth":
        fine &= large(ruff, options.rounds)
    if options.only != "large":
        fine &= growth(ruff, [int(size) for size in options.sizes.split(",") if size])
    return 0 if fine else 1


# -- one large repository ------------------------------------------------------------------------------------


def large(ruff: Path, rounds: int) -> bool:
    """Home Assistant: everyday situations beside ruff. False when a goal does not hold."""
    tree = trees.BUILD / "speed" / "home-assistant"
    if not tree.exists():
        trees.source_distribution(HOME_ASSISTANT, tree)
    trees.git(tree, "switch", "--quiet", "--force", "main")
    modules = trees.git(tree, "ls-files", "*.py").splitlines()
    print(f"## {HOME_ASSISTANT}: {len(modules):,} Python files, {len(trees.git(tree, 'ls-files').splitlines()):,} files\n")
    edited = tree / "homeassistant" / "util" / "dt.py"
    cache = tree / ".greenline"
    saved = trees.BUILD / "speed" / "saved"
    ask = [trees.GREENLINE, "affected", "--base", "HEAD"]
    peer = Task("ruff analyze graph", [ruff, "analyze", "graph", "--isolated", "--quiet"])
    numbers = iter(range(10**6))

    def edit() -> None:
        with edited.open("a") as file:
            file.write(f"_BENCHMARK = {next(numbers)}\n")

    def keep(folder: Path, where: Path) -> None:
        shutil.rmtree(where, ignore_errors=True)
        shutil.copytree(folder, where)

    def forget() -> None:
        shutil.rmtree(cache, ignore_errors=True)

    measure(tree, [Task("first", ask, forget)], 1)
    results: dict[str, list[Cost]] = {}

    def beside_peer(*tasks: Task, rounds: int = rounds) -> None:
        for name, costs in measure(tree, [peer, *tasks], rounds).items():
            results.setdefault(name, []).extend(costs)

    beside_peer(Task("warm, a module was edited", ask, edit))
    trees.git(tree, "checkout", "--quiet", "--", ".")
    beside_peer(Task("warm, nothing was edited", ask))
    show_parts(tree, ask)
    beside_peer(Task("cold", ask, forget))

    branch(tree, "moved", modules[:: max(1, len(modules) // MOVED)][:MOVED])
    keep(cache, saved)

    def switch() -> None:
        trees.git(tree, "switch", "--quiet", "main")
        keep(saved, cache)
        trees.git(tree, "switch", "--quiet", "moved")

    first = Task(f"first after a switch that moves {MOVED:,} files", ask, switch)
    beside_peer(first, Task("the next one", ask), rounds=rounds // 2)
    trees.git(tree, "switch", "--quiet", "main")

    branch(tree, "later", modules[:: max(1, len(modules) // EARLIER)][:EARLIER])
    trees.git(tree, "switch", "--quiet", "later")
    restored = Task(f"with the cache of a commit {EARLIER} changed files earlier", ask, lambda: keep(saved, cache))
    beside_peer(restored, rounds=rounds // 2)
    trees.git(tree, "switch", "--quiet", "main")

    goals = {"warm, a module was edited": WARM, "warm, nothing was edited": WARM, "cold": COLD}
    return show(results, peer.name, goals)


def branch(tree: Path, name: str, paths: Sequence[str]) -> None:
    """A branch with one commit that adds a statement to each of these files, made unless it is there."""
    if name in trees.git(tree, "branch", "--format=%(refname:short)").split():
        return
    trees.git(tree, "switch", "--quiet", "--create", name)
    for path in paths:
        with (tree / path).open("a") as file:
            file.write("\n_BENCHMARK = None\n")
    trees.git(tree, "commit", "--quiet", "--no-verify", "--all", "--message=benchmark")
    trees.git(tree, "switch", "--quiet", "main")


def show(results: dict[str, list[Cost]], peer: str, goals: dict[str, float]) -> bool:
    """Print medians and ratios. False when a goal does not hold."""
    print("| | wall s | CPU s | memory MiB | ÷ ruff, wall | ÷ ruff, CPU | goal |\n| - | - | - | - | - | - | - |")
    fine = True
    for name, costs in results.items():
        own, other = middle(costs), middle(results[peer])
        goal = ""
        if name in goals:
            holds = own.wall / other.wall <= goals[name]
            fine &= holds
            goal = f"≤ {goals[name]}: {'holds' if holds else 'MISSED'}"
        ratios = f"{own.wall / other.wall:.2f} | {own.cpu / other.cpu:.2f}"
        print(f"| {name} | {own.wall:.3f} | {own.cpu:.3f} | {own.memory:.0f} | {ratios} | {goal} |")
    print(flush=True)
    return fine


# -- where the time of a warm call goes ----------------------------------------------------------------------


STAGES = """
import time
start = time.perf_counter()
from greenline.ci.affected import Request, answer_of, change_of
imported = time.perf_counter()
request = Request(base="HEAD", reasons=False)
change = change_of(request=request)
opened = time.perf_counter()
answer_of(change.opened, change.config, request, change.how)
print(imported - start, opened - imported, time.perf_counter() - opened)
"""


def show_parts(tree: Path, ask: Sequence[str | Path]) -> None:
    """Print the parts of a warm call: the interpreter, imports, the stages of the answer, and git's processes."""
    python = Path(sys.executable)
    parts = {"starting Python": [cost.wall for cost in measure(tree, [Task("", [python, "-c", ""])], 7)[""]]}
    stages = [map(float, output_of([python, "-c", STAGES], tree).stdout.split()) for _ in range(7)]
    parts |= zip(("imports", "finding the base and opening the graph", "answering"), zip(*stages, strict=True), strict=True)
    print("Parts of a warm call: " + ", ".join(f"{name} {1000 * median(times):.0f} ms" for name, times in parts.items()))
    log = output_of([python, "-X", "importtime", *ask], tree).stderr
    imports = [(int(own), name) for own, name in re.findall(r"import time:\s*(\d+) \|\s*\d+ \|\s*(\S+)", log)]
    slowest = ", ".join(f"{name} {own / 1000:.1f}" for own, name in sorted(imports, reverse=True)[:8])
    print(f"- {len(imports)} modules are imported in {sum(own for own, _ in imports) / 1000:.0f} ms; slowest: {slowest}")
    trace = trees.BUILD / "speed" / "trace"
    trace.unlink(missing_ok=True)
    output_of(ask, tree, {"GIT_TRACE2_EVENT": str(trace)})
    started = {}
    for line in map(json.loads, trace.read_text("utf-8").splitlines()):
        if line["event"] == "start":
            started[line["sid"]] = " ".join(line["argv"][3:])
        elif line["event"] == "exit":
            print(f"- {1000 * line['t_abs']:.0f} ms: git {started[line['sid']]}")
    print(flush=True)


def output_of(
    command: Sequence[str | Path], folder: Path, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = trees.environment() | (variables or {})
    return subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)


# -- growth --------------------------------------------------------------------------------------------------


def growth(ruff: Path, sizes: Sequence[int]) -> bool:
    """Generated trees of several sizes. False when a goal does not hold."""
    print("## Generated trees\n")
    print("| files | ruff s | cold s | CPU s | MiB | warm s | CPU s | MiB | warm, a hub was edited s | CPU s | git s | cache MB |")
    print("| - | - | - | - | - | - | - | - | - | - | - | - |", flush=True)
    ask = [trees.GREENLINE, "affected", "--base", "HEAD"]
    largest = (Cost(0, 0, 0), Cost(0, 0, 0))
    for size in sizes:
        tree = trees.BUILD / "speed" / f"generated-{size}"
        if not tree.exists():
            trees.generate(tree, size)
        modules = trees.git(tree, "ls-files", "*/mod05.py").splitlines()
        leaf, hub = tree / modules[-2], tree / modules[0]
        cache = tree / ".greenline"
        peer = Task("ruff", [ruff, "analyze", "graph", "--isolated", "--quiet"])
        rounds = 3 if size > 20_000 else 5
        numbers = iter(range(10**6))

        def edit(path: Path) -> None:
            with path.open("a") as file:
                file.write(f"_BENCHMARK = {next(numbers)}\n")

        cold = measure(tree, [peer, Task("cold", ask, lambda: shutil.rmtree(cache, ignore_errors=True))], rounds - 2)
        warm = measure(tree, [Task("leaf", ask, lambda: edit(leaf))], rounds + 2)
        trees.git(tree, "checkout", "--quiet", "--", ".")
        warm |= measure(tree, [Task("hub", ask, lambda: edit(hub))], rounds)
        trees.git(tree, "checkout", "--quiet", "--", ".")
        untracked = ["git", "ls-files", "--others", "--exclude-standard"]
        git = measure(tree, [Task("diff", ["git", "diff", "--raw", "HEAD"]), Task("untracked", untracked)], rounds)
        megabytes = sum(path.stat().st_size for path in cache.rglob("*")) / 1e6
        one, two, three = middle(cold["cold"]), middle(warm["leaf"]), middle(warm["hub"])
        print(
            f"| {len(trees.git(tree, 'ls-files', '*.py').splitlines()):,} | {middle(cold['ruff']).wall:.2f} "
            f"| {one.wall:.2f} | {one.cpu:.2f} | {one.memory:.0f} | {two.wall:.3f} | {two.cpu:.3f} | {two.memory:.0f} "
            f"| {three.wall:.3f} | {three.cpu:.3f} | {middle(git['diff']).wall + middle(git['untracked']).wall:.3f} "
            f"| {megabytes:.0f} |",
            flush=True,
        )
        if size == LARGEST:
            largest = one, two
    if LARGEST not in sizes:
        return True
    print()
    cold_cost, warm_cost = largest
    fine = goal(f"warm at {LARGEST:,}", warm_cost.wall, LARGEST_WARM, "s")
    fine &= goal(f"cold at {LARGEST:,}", cold_cost.wall, LARGEST_COLD, "s")
    return goal(f"memory at {LARGEST:,}", max(cold_cost.memory, warm_cost.memory), LARGEST_MEMORY, "MiB") and fine


def goal(what: str, value: float, most: float, unit: str) -> bool:
    print(f"goal: {what}: {value:.2f} {unit}, at most {most} {unit}: {'holds' if value <= most else 'MISSED'}")
    return value <= most


# -- measuring -----------------------------------------------------------------------------------------------


def measure(tree: Path, tasks: Sequence[Task], rounds: int) -> dict[str, list[Cost]]:
    """Run the tasks in turns: name → the costs of its runs. The first turn does not count where there are several."""
    costs: dict[str, list[Cost]] = {task.name: [] for task in tasks}
    for turn in range(rounds + (rounds > 1)):
        for task in tasks:
            task.before()
            cost = run(task.command, tree)
            if turn or rounds == 1:
                costs[task.name].append(cost)
    return costs


def run(command: Sequence[str | Path], folder: Path) -> Cost:
    """Run a command to its end, whatever it prints. Raises CalledProcessError when it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=trees.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(map(str, command)))
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / 2**20)


def middle(costs: Sequence[Cost]) -> Cost:
    return Cost(*(median(values) for values in zip(*costs, strict=True)))


def cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main())
