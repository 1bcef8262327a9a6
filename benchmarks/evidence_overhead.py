"""What recording costs: user CPU time of whole test runs with and without it, and with coverage.py in both.

    make bench-evidence-overhead [ARGS="mpmath --rounds 5 --python /usr/bin/python3.12"]

Runs alternate, so that a busy machine slows all kinds alike; the ratio is that of the medians, and the smallest and
largest ratio of a round say how sure it is. Coverage runs with its default core and without contexts.

Goals: at most 1.10 on Python 3.12 and later, at most 1.35 on 3.11. Exit code 1 if one is missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

import trees
from evidence_suites import SUITES, environment_of, python_of, pythons, tree_of

SUITES_MEASURED = ("werkzeug", "jinja2", "mpmath")
LEFT_OUT = ("--ignore=tests/test_serving.py", "--ignore=tests/middleware/test_http_proxy.py",
            "--ignore=tests/test_debug.py", "--ignore=tests/test_async.py")  # fmt: skip
"""Tests that wait for servers and event loops: they say nothing of what a call costs."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; default: three of them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", action="append", help="measure with this interpreter; may be repeated")
    options = parser.parse_args()
    print("| suite | Python | tests alone (s) | recorded | round by round | beside coverage | goal |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    names = options.suites or SUITES_MEASURED
    return (
        0 if all([measure(name, python, options.rounds) for python in pythons(options.python) for name in names]) else 1
    )


def measure(name: str, base: str, rounds: int) -> bool:
    python = python_of(name, base)
    tree = tree_of(name)
    out = trees.BUILD / "evidence" / name / "overhead"
    record, cover = (
        [f"--greenline-record={out}"],
        ["-m", "coverage", "run", f"--data-file={out}.coverage", f"--source={tree}"],
    )
    kinds = {"plain": ([], []), "recorded": ([], record), "covered": (cover, []), "both": (cover, record)}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds + 1):  # the first one fills caches of compiled code
        for kind, (before, after) in kinds.items():
            shutil.rmtree(out, ignore_errors=True)
            seconds[kind].append(
                run(name, [str(python), *before, "-m", "pytest", "-q", "-p", "no:cacheprovider"], after)
            )
    for values in seconds.values():
        del values[0]
    middle = {kind: median(values) for kind, values in seconds.items()}
    alone, beside = middle["recorded"] / middle["plain"], middle["both"] / middle["covered"]
    each = sorted(with_it / without for with_it, without in zip(seconds["recorded"], seconds["plain"], strict=True))
    version = python.parents[1].name.rpartition("-")[2]
    goal = 1.35 if version == "3.11" else 1.10
    fine = alone <= goal and beside <= goal
    verdict = "met" if fine else "MISSED"
    print(
        f"| {SUITES[name].library} | {version} | {middle['plain']:.2f} | {alone:.3f} | {each[0]:.2f} to {each[-1]:.2f}"
        f" | {beside:.3f} | {goal:.2f}: {verdict} |",
        flush=True,
    )
    return fine


def run(name: str, command: list[str], options: list[str]) -> float:
    """User CPU seconds of a test run, its children included."""
    suite = SUITES[name]
    left_out = [each for each in LEFT_OUT if Path(tree_of(name), each.partition("=")[2]).exists()]
    process = subprocess.Popen(
        [*command, *suite.arguments, *left_out, *options],
        cwd=tree_of(name),
        env=environment_of(name),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        sys.exit(f"pytest cannot run {name}: exit code {process.returncode}")
    return usage.ru_utime


if __name__ == "__main__":
    sys.exit(main())
