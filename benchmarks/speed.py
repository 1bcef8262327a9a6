"""Speed of `greenline affected` beside `ruff analyze graph`, on a large repository and on generated ones that grow.

    make bench-speed [ARGS="--rounds 9 --sizes 1000,10000"]

Whole processes, run in turns (ruff, greenline, ruff, …) after a first turn that does not count, so that both meet
the same machine; medians. CPU is user and system time of a process and of those that it starts (git); on a busy
machine it varies less than wall time does. Trees are kept below build/.
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
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import NamedTuple

import trees

RUFF = "ruff==0.17.6"
HOME_ASSISTANT = "homeassistant==2024.3.3"
EDITED = "homeassistant/util/dt.py"  # a module that much depends on
MOVED = 1500  # files that a branch switch moves
EARLIER = 200  # files that changed since a restored cache was written
WARM, COLD = 0.25, 0.8  # goals: at most this share of ruff's time
LARGEST = 100_000
LARGEST_WARM, LARGEST_COLD, LARGEST_MEMORY = 0.5, 15, 1024  # goals there: seconds, seconds, MiB

ASK = (str(trees.GREENLINE), "affected", "--base", "HEAD")
BRANCH_COMMIT = ("commit", "--quiet", "--no-verify", "--all", "--message=benchmark")


class Cost(NamedTuple):
    """Of one run with all that it starts: wall and CPU seconds, MiB of its largest process."""

    wall: float
    cpu: float
    memory: float


class Task(NamedTuple):
    """A command to measure, and what comes before each of its runs without being measured."""

    name: str
    command: Sequence[str]
    before: Callable[[], object] = lambda: None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="runs of each command on the large repository")
    parser.add_argument("--sizes", default="1000,3000,10000,30000,100000", help="files of the generated trees")
    parser.add_argument("--only", choices=["large", "growth"], help="one of the two parts")
    options = parser.parse_args()
    ruff = Task("ruff", [str(trees.programs("ruff", [RUFF]) / "ruff"), "analyze", "graph", "--isolated", "--quiet"])
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"Python {sys.version.split()[0]}, {RUFF}, {cpus} CPUs, load {os.getloadavg()[0]:.1f}\n", flush=True)
    fine = True
    if options.only != "growth":
        fine &= large(ruff, options.rounds)
    if options.only != "large":
        fine &= growth(ruff, [int(size) for size in options.sizes.split(",")])
    return 0 if fine else 1


# -- a large repository --------------------------------------------------------------------------------------


def large(ruff: Task, rounds: int) -> bool:
    """Home Assistant: everyday situations beside ruff. False when a goal does not hold."""
    home = trees.BUILD / "speed"
    tree, saved = home / "home-assistant", home / "saved"
    if not tree.exists():
        trees.source_distribution(HOME_ASSISTANT, tree)
    trees.git(tree, "switch", "--quiet", "--force", "main")
    cache = tree / ".greenline"
    modules = trees.git(tree, "ls-files", "*.py").splitlines()
    files = trees.git(tree, "ls-files").count("\n")
    print(f"## {HOME_ASSISTANT}: {len(modules):,} Python files of {files:,}\n", flush=True)
    costs: dict[str, list[Cost]] = {}

    def beside_ruff(*tasks: Task, rounds: int = rounds) -> None:
        for name, measured in measure(tree, [ruff, *tasks], rounds).items():
            costs.setdefault(name, []).extend(measured)

    def first_of_branch() -> None:
        trees.git(tree, "switch", "--quiet", "main")
        copy(saved, cache)
        trees.git(tree, "switch", "--quiet", "moved")

    beside_ruff(Task("cold", ASK, partial(shutil.rmtree, cache, ignore_errors=True)))
    copy(cache, saved)
    beside_ruff(Task("warm, a module was edited", ASK, editor(tree / EDITED)))
    trees.git(tree, "checkout", "--quiet", "--", ".")
    beside_ruff(Task("warm, nothing was edited", ASK))
    parts_of_a_call(tree, home / "trace")
    make_branch(tree, "moved", every(modules, MOVED))
    first = Task(f"first after a switch that moves {MOVED:,} files", ASK, first_of_branch)
    beside_ruff(first, Task("second after it", ASK), rounds=max(3, rounds // 2))
    make_branch(tree, "later", every(modules, EARLIER))
    trees.git(tree, "switch", "--quiet", "later")
    restored = f"with the cache of a commit {EARLIER} changed files earlier"
    beside_ruff(Task(restored, ASK, lambda: copy(saved, cache)), rounds=max(3, rounds // 2))
    trees.git(tree, "switch", "--quiet", "main")
    goals = {"warm, a module was edited": WARM, "warm, nothing was edited": WARM, "cold": COLD}
    return compare(costs, ruff.name, goals)


def editor(path: Path) -> Callable[[], None]:
    """A function that adds another statement to a file each time it is called."""
    numbers = count()

    def edit() -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(f"_BENCHMARK = {next(numbers)}\n")

    return edit


def copy(folder: Path, where: Path) -> None:
    shutil.rmtree(where, ignore_errors=True)
    shutil.copytree(folder, where)


def every(paths: Sequence[str], wanted: int) -> Sequence[str]:
    """So many of the paths, from all over the repository."""
    return paths[:: len(paths) // wanted][:wanted]


def make_branch(tree: Path, name: str, paths: Sequence[str]) -> None:
    """A branch with one commit that adds a statement to each of these files, made from main unless it is there."""
    trees.git(tree, "switch", "--quiet", "main")
    if name in trees.git(tree, "branch", "--format=%(refname:short)").split():
        return
    trees.git(tree, "switch", "--quiet", "--create", name)
    for path in paths:
        with (tree / path).open("a", encoding="utf-8") as file:
            file.write("\n_BENCHMARK = None\n")
    trees.git(tree, *BRANCH_COMMIT)
    trees.git(tree, "switch", "--quiet", "main")


def compare(costs: Mapping[str, Sequence[Cost]], peer: str, goals: Mapping[str, float]) -> bool:
    """Print medians beside the peer's. False when a goal does not hold."""
    head = ["", "wall, s", "CPU, s", "MiB", f"wall ÷ {peer}", f"CPU ÷ {peer}", f"goal: wall ÷ {peer}"]
    print(row(head), row(["-"] * len(head)), sep="\n")
    other = middle(costs[peer])
    fine = True
    for name, measured in costs.items():
        own = middle(measured)
        share = own.wall / other.wall
        cells = [
            name,
            f"{own.wall:.3f}",
            f"{own.cpu:.3f}",
            f"{own.memory:.0f}",
            f"{share:.2f}",
            f"{own.cpu / other.cpu:.2f}",
        ]
        holds = share <= goals.get(name, share)
        fine &= holds
        print(row([*cells, f"at most {goals[name]}: {'holds' if holds else 'MISSED'}" if name in goals else ""]))
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


def parts_of_a_call(tree: Path, trace: Path) -> None:
    """Print how long the interpreter, imports, the stages of the answer and git's processes take."""
    python = sys.executable
    started = measure(tree, [Task("python", [python, "-c", ""])], 7)["python"]
    stages = [list(map(float, output_of([python, "-c", STAGES], tree).stdout.split())) for _ in range(7)]
    imports, opening, answering = (1000 * median(times) for times in zip(*stages, strict=True))
    print(
        f"Parts of a warm call: starting Python {1000 * middle(started).wall:.0f} ms, imports {imports:.0f} ms,"
        f" finding the base and opening the graph {opening:.0f} ms, answering {answering:.0f} ms."
    )
    log = output_of([python, "-X", "importtime", *ASK], tree).stderr
    own = [(int(time), name) for time, name in re.findall(r"import time:\s*(\d+) \|\s*\d+ \|\s*(\S+)", log)]
    slowest = ", ".join(f"{name} {time / 1000:.1f}" for time, name in sorted(own, reverse=True)[:8])
    print(f"- imports: {len(own)} modules in {sum(time for time, _ in own) / 1000:.0f} ms, above all {slowest}")
    trace.unlink(missing_ok=True)
    output_of(ASK, tree, {"GIT_TRACE2_EVENT": str(trace)})
    commands = {}
    for event in map(json.loads, trace.read_text("utf-8").splitlines()):
        if event["event"] == "start":
            commands[event["sid"]] = " ".join(event["argv"][3:])
        elif event["event"] == "exit":
            print(f"- {1000 * event['t_abs']:.0f} ms: git {commands[event['sid']]}")
    print(flush=True)


def output_of(
    command: Sequence[str], folder: Path, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**trees.environment(), **(variables or {})}
    return subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)


# -- growth --------------------------------------------------------------------------------------------------


def growth(ruff: Task, sizes: Sequence[int]) -> bool:
    """Generated trees of several sizes. False when a goal for the largest does not hold."""
    print("## Generated trees: wall seconds, CPU seconds, MiB\n")
    head = [
        "files",
        "ruff",
        "cold",
        "warm, a leaf was edited",
        "warm, a hub was edited",
        "git's part, wall s",
        "cache, MB",
    ]
    print(row(head), row(["-"] * len(head)), sep="\n", flush=True)
    fine = True
    for size in sizes:
        tree = trees.BUILD / "speed" / f"generated-{size}"
        if not tree.exists():
            trees.generate(tree, size)
        cache = tree / ".greenline"
        modules = trees.git(tree, "ls-files", "*/mod05.py").splitlines()
        rounds = 3 if size > 20_000 else 5
        costs = measure(tree, [ruff, Task("cold", ASK, partial(shutil.rmtree, cache, ignore_errors=True))], rounds)
        costs |= measure(tree, [Task("leaf", ASK, editor(tree / modules[-2]))], 7)
        trees.git(tree, "checkout", "--quiet", "--", ".")
        costs |= measure(tree, [Task("hub", ASK, editor(tree / modules[0]))], 7)
        trees.git(tree, "checkout", "--quiet", "--", ".")
        diff = Task("diff", ["git", "diff", "--raw", "HEAD"])
        untracked = Task("untracked", ["git", "ls-files", "--others", "--exclude-standard"])
        costs |= measure(tree, [diff, untracked], 7)
        middles = {name: middle(measured) for name, measured in costs.items()}
        cells = [
            f"{one.wall:.3f} · {one.cpu:.3f} · {one.memory:.0f}"
            for one in map(middles.get, ("ruff", "cold", "leaf", "hub"))
            if one
        ]
        git = max(middles["diff"].wall, middles["untracked"].wall)  # they run at the same time
        megabytes = sum(path.stat().st_size for path in cache.rglob("*")) / 1e6
        paths = trees.git(tree, "ls-files", "*.py").count("\n")
        print(row([f"{paths:,}", *cells, f"{git:.3f}", f"{megabytes:.0f}"]), flush=True)
        if size == LARGEST:
            print()
            warm = max(middles["leaf"].wall, middles["hub"].wall)
            memory = max(middles[name].memory for name in ("cold", "leaf", "hub"))
            fine &= goal("warm", warm, LARGEST_WARM, "s")
            fine &= goal("cold", middles["cold"].wall, LARGEST_COLD, "s")
            fine &= goal("memory", memory, LARGEST_MEMORY, "MiB")
    return fine


def goal(what: str, value: float, most: float, unit: str) -> bool:
    holds = value <= most
    print(
        f"goal at {LARGEST:,} files: {what} {value:.2f} {unit}, at most {most} {unit}: {'holds' if holds else 'MISSED'}"
    )
    return holds


# -- measuring -----------------------------------------------------------------------------------------------


def measure(tree: Path, tasks: Sequence[Task], rounds: int) -> dict[str, list[Cost]]:
    """Run the tasks in turns, after a first turn that does not count: name → the costs of its runs."""
    costs: dict[str, list[Cost]] = {task.name: [] for task in tasks}
    for turn in range(rounds + 1):
        for task in tasks:
            task.before()
            cost = run(task.command, tree)
            if turn:
                costs[task.name].append(cost)
    return costs


def run(command: Sequence[str], folder: Path) -> Cost:
    """Run a command to its end, whatever it prints. Raises CalledProcessError when it fails."""
    silent = subprocess.DEVNULL
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=trees.environment(), stdout=silent, stderr=silent)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / 2**20)


def middle(costs: Sequence[Cost]) -> Cost:
    return Cost(*(median(values) for values in zip(*costs, strict=True)))


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
