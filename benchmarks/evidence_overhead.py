"""What recording costs: user CPU time of whole test runs with and without it, and with coverage.py in both.

    make bench-evidence-overhead [ARGS="mpmath --rounds 15 --python /usr/bin/python3.12"]
    make bench-evidence-overhead ARGS=--instructions

Runs alternate, so that a busy machine slows all kinds alike. The ratio is that of the medians, with the interval that
holds 95 % of what the same rounds give when they are drawn anew. "Noise": the same ratio of two runs that both record
nothing. With --instructions valgrind counts instead what the processor runs, once per kind: other programs and the
machine do not change that. Coverage runs with its default core and without contexts.

Goals: at most 1.10 on Python 3.12 and later, at most 1.35 on 3.11. Exit code 1 if one is missed.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

import trees
from evidence_suites import SUITES, environment_of, python_of, pythons, tree_of

SUITES_MEASURED = ("werkzeug", "jinja2", "mpmath")
LEFT_OUT = ("--ignore=tests/test_serving.py", "--ignore=tests/middleware/test_http_proxy.py",
            "--ignore=tests/test_debug.py", "--ignore=tests/test_async.py")  # fmt: skip
"""Tests that wait for servers and event loops: they say nothing of what a call costs."""
COUNT = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
DRAWS = 2_000


class Kind(NamedTuple):
    """A way to run the tests: beside coverage.py or alone, recorded or not."""

    covered: bool = False
    recorded: bool = False


KINDS = {
    "plain": Kind(),
    "again": Kind(),
    "recorded": Kind(recorded=True),
    "covered": Kind(covered=True),
    "both": Kind(covered=True, recorded=True),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; default: three of them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--instructions", action="store_true", help="count these, with valgrind")
    parser.add_argument("--python", action="append", help="measure with this interpreter; may be repeated")
    options = parser.parse_args()
    print("| suite | Python | tests alone | recorded | beside coverage | noise | goal |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    fine = True
    for python in pythons(options.python):
        for name in options.suites or SUITES_MEASURED:
            found = counted(name, python) if options.instructions else timed(name, python, options.rounds)
            unit = " G instructions" if options.instructions else " s"
            fine &= report(name, python_of(name, python), found, unit)
    return 0 if fine else 1


def timed(name: str, base: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of user CPU of each kind, round by round, after a first one that fills caches of compiled code."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(rounds + 1):
        for kind in random.sample(list(KINDS), len(KINDS)):
            seconds = run(name, base, kind, (), user_seconds)
            if number:
                found[kind].append(seconds)
    return found


def counted(name: str, base: str) -> dict[str, list[float]]:
    """Thousand million instructions of each kind, after a run of each that fills caches of compiled code."""
    for kind in KINDS:
        run(name, base, kind, (), user_seconds)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda kind: run(name, base, kind, COUNT, instructions), KINDS)
        return {kind: [value] for kind, value in zip(KINDS, found, strict=True)}


def report(name: str, python: Path, found: dict[str, list[float]], unit: str) -> bool:
    """Print a row of the table; were the goals met?"""
    version = python.parents[1].name.rpartition("-")[2]
    goal = 1.35 if version == "3.11" else 1.10
    alone, beside = ratio(found["recorded"], found["plain"] + found["again"]), ratio(found["both"], found["covered"])
    fine = alone <= goal and beside <= goal
    cells = [
        SUITES[name].library,
        version,
        f"{median(found['plain'] + found['again']):.2f}{unit}",
        f"{alone:.3f}{interval(found['recorded'], found['plain'] + found['again'])}",
        f"{beside:.3f}{interval(found['both'], found['covered'])}",
        f"{ratio(found['again'], found['plain']):.3f}",
        f"{goal:.2f}: {'met' if fine else 'MISSED'}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)
    return fine


def ratio(these: list[float], those: list[float]) -> float:
    return median(these) / median(those)


def interval(these: list[float], those: list[float]) -> str:
    """In which 95 % of the ratios lie when the measurements are drawn anew, with replacement."""
    if len(these) == 1:
        return ""
    draw = random.Random(0).choices
    drawn = [ratio(draw(these, k=len(these)), draw(those, k=len(those))) for _ in range(DRAWS)]
    cuts = quantiles(drawn, n=40)
    return f" ({cuts[0]:.2f} to {cuts[-1]:.2f})"


def run(
    name: str, base: str, kind: str, before: tuple[str, ...], measure: Callable[[subprocess.Popen[str]], float]
) -> float:
    """Measure a test run, its children included."""
    suite, tree = SUITES[name], tree_of(name)
    out = trees.BUILD / "evidence" / name / f"overhead-{kind}"
    shutil.rmtree(out, ignore_errors=True)
    cover = ("-m", "coverage", "run", f"--data-file={out}.coverage", f"--source={tree}")
    left_out = [each for each in LEFT_OUT if Path(tree, each.partition("=")[2]).exists()]
    command = [*before, str(python_of(name, base)), *(cover if KINDS[kind].covered else ())]
    command += ["-m", "pytest", "-q", "-p", "no:cacheprovider", *suite.arguments, *left_out]
    command += [f"--greenline-record={out}"] if KINDS[kind].recorded else []
    command += ["-p", "no:timeout"] if before else []  # valgrind takes thirty times as long
    process = subprocess.Popen(
        command,
        cwd=tree,
        env=environment_of(name),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if before else subprocess.DEVNULL,
        text=True,
    )
    value = measure(process)
    if process.returncode not in (0, 1):
        sys.exit(f"pytest cannot run {name}: exit code {process.returncode}")
    return value


def user_seconds(process: subprocess.Popen[str]) -> float:
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime


def instructions(process: subprocess.Popen[str]) -> float:
    """Thousand million; without those of children that run other programs."""
    _, errors = process.communicate()
    return int(re.findall(r"I +refs: +([\d,]+)", errors)[-1].replace(",", "")) / 1e9


if __name__ == "__main__":
    sys.exit(main())
