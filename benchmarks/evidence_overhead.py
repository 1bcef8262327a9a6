"""What recording costs: user CPU time of whole test runs with and without it, and with coverage.py in both.

    make bench-evidence-overhead [ARGS="mpmath --rounds 15 --python /usr/bin/python3.12"]
    make bench-evidence-overhead ARGS=--instructions

The speed of a shared core changes by a quarter from second to second, and it is not the same for two cores. So the two
runs that are compared run at the same time on one core, which goes from one to the other every few milliseconds; which
of them is started first alternates. The ratio is the median of the rounds, with the smallest and the largest. "Noise":
the same for two runs that both record nothing. With --instructions valgrind counts instead what the processor runs,
once: that is the same each time, but it does not say what a cache or a branch costs. Coverage runs with its default
core and without contexts.

Goals: at most 1.10 on Python 3.12 and later, at most 1.35 on 3.11. Exit code 1 if one is missed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import trees
from evidence_suites import SUITES, environment_of, python_of, pythons, tree_of

SUITES_MEASURED = ("werkzeug", "jinja2", "mpmath")
LEFT_OUT = ("--ignore=tests/test_serving.py", "--ignore=tests/middleware/test_http_proxy.py",
            "--ignore=tests/test_debug.py", "--ignore=tests/test_async.py")  # fmt: skip
"""Tests that wait for servers and event loops: they say nothing of what a call costs."""
COUNT = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
PAIRS = {"alone": ("recorded", "plain"), "covered": ("both", "coverage"), "noise": ("again", "plain")}
"""What is compared with what: "recorded" and "both" are recorded, "both" and "coverage" run under coverage.py."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; default: three of them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--instructions", action="store_true", help="count these, with valgrind")
    parser.add_argument("--python", action="append", help="measure with this interpreter; may be repeated")
    options = parser.parse_args()
    unit = "10⁹ instructions" if options.instructions else "s"
    print(f"| suite | Python | tests alone ({unit}) | recorded | beside coverage | noise | goal |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    os.sched_setaffinity(0, os.sched_getaffinity(0) if options.instructions else {max(os.sched_getaffinity(0))})
    fine = True
    for base in pythons(options.python):
        for name in options.suites or SUITES_MEASURED:
            python = python_of(name, base)
            for kind in ("plain", "again", "recorded", "coverage", "both"):  # fills caches of compiled code
                wait(start(name, python, kind))
            found = counted(name, python) if options.instructions else timed(name, python, options.rounds)
            fine &= report(name, python.parents[1].name.rpartition("-")[2], found)
    return 0 if fine else 1


def timed(name: str, python: Path, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of user CPU of the runs of each pair, round by round."""
    found: dict[str, list[tuple[float, float]]] = {pair: [] for pair in PAIRS}
    for number in range(rounds):
        for pair, kinds in PAIRS.items():
            order = kinds if number % 2 else kinds[::-1]
            running = {kind: start(name, python, kind) for kind in order}
            seconds = {kind: wait(process) for kind, process in running.items()}
            found[pair].append((seconds[kinds[0]], seconds[kinds[1]]))
    return found


def counted(name: str, python: Path) -> dict[str, list[tuple[float, float]]]:
    """Thousand million instructions of the runs of each pair; without those of children that are other programs."""

    def count(kind: str) -> float:
        process = start(name, python, kind, COUNT)
        _, errors = process.communicate()
        return int(re.findall(r"I +refs: +([\d,]+)", errors)[-1].replace(",", "")) / 1e9

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        kinds = [kind for pair in PAIRS.values() for kind in pair]
        numbers = iter(pool.map(count, kinds))
        return {pair: [(next(numbers), next(numbers))] for pair in PAIRS}


def report(name: str, version: str, found: dict[str, list[tuple[float, float]]]) -> bool:
    """Print a row of the table; were the goals met?"""
    goal = 1.35 if version == "3.11" else 1.10
    ratios = {pair: sorted(with_it / without for with_it, without in values) for pair, values in found.items()}
    fine = median(ratios["alone"]) <= goal and median(ratios["covered"]) <= goal
    cells = [
        SUITES[name].library,
        version,
        f"{median(without for pair in ('alone', 'noise') for _, without in found[pair]):.2f}",
        *(
            f"{median(each):.3f}" + (f" ({each[0]:.2f} to {each[-1]:.2f})" if len(each) > 1 else "")
            for each in ratios.values()
        ),
        f"{goal:.2f}: {'met' if fine else 'MISSED'}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)
    return fine


def start(name: str, python: Path, kind: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    suite, tree = SUITES[name], tree_of(name)
    out = trees.BUILD / "evidence" / name / f"overhead-{kind}"
    shutil.rmtree(out, ignore_errors=True)
    cover = ("-m", "coverage", "run", f"--data-file={out}.coverage", f"--source={tree}")
    left_out = [each for each in LEFT_OUT if Path(tree, each.partition("=")[2]).exists()]
    command = [*before, str(python), *(cover if kind in ("coverage", "both") else ())]
    command += ["-m", "pytest", "-q", "-p", "no:cacheprovider", *suite.arguments, *left_out]
    command += [f"--greenline-record={out}"] if kind in ("recorded", "both") else []
    command += ["-p", "no:timeout"] if before else []  # valgrind takes thirty times as long
    return subprocess.Popen(
        command,
        cwd=tree,
        env=environment_of(name),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if before else subprocess.DEVNULL,
        text=True,
    )


def wait(process: subprocess.Popen[str]) -> float:
    """User CPU seconds of a test run, its children included."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        sys.exit(f"pytest fails with exit code {process.returncode}: {process.args}")
    return usage.ru_utime


if __name__ == "__main__":
    sys.exit(main())
