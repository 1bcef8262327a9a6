"""Replay the last commits of a real repository: what selection picks, what it misses, how long records hold.

    make bench-replay ARGS="CLONE --python VENV/bin/python [--commits 100] [--testmon VENV2/bin/python]"

CLONE is a clone with its history, VENV an environment of CPython 3.12 or newer with what its tests need and with
pytest-greenline; VENV2 has pytest-testmon instead. Records are kept fresh only by what selection itself ran. At each
commit, beside that:

- where a Python file or anything below src/ and tests/ changed, all tests run once under a profiler that shares nothing
  with the recorder. A test that fails there and in three runs alone, passed at the commit before, and was not selected
  is missed. The tests that ran a function of which the text changed, or which is new, are called true: a lower bound,
  since a constant or a class attribute has no function.
- the commit's own tests run on the source before it (see `greenline audit`): those that fail there have to be selected
  from there to the commit; and from the commit back to there, where they are the regression that a revert brings. There
  the place of the first failing test is taken: among the selected, in the order in which greenline runs them, in
  pytest's own, and at random (expected). 1 is the last.
- testmon, in a clone of its own, runs what it selects, from commit to commit as well.

What was replayed is kept below build/, and a later call goes on; --again starts anew. Goal: nothing is missed, and
less is selected than the import graph selects, or "select everything" would pass. Exit code 1 if it is not met.
"""

from __future__ import annotations

import argparse
import ast
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

import trees
from evidence_truth import functions

from greenline.ci.affected import Answer, Request, affected
from greenline.ci.audit import Replay, Step, history
from greenline.ci.scores import interval
from greenline.ci.shadow import Selected
from greenline.depgraph.locks import is_manifest
from greenline.depgraph.suites import is_config_name
from greenline.depgraph.workspace import find

ORACLE = """
import json, os, sys
import pytest

TOOL, SEEN = 1, set()
RESULTS = {}

def start(code, offset):
    SEEN.add(code)
    return sys.monitoring.DISABLE

def pytest_configure():
    sys.monitoring.use_tool_id(TOOL, "oracle")
    sys.monitoring.register_callback(TOOL, sys.monitoring.events.PY_START, start)
    sys.monitoring.set_events(TOOL, sys.monitoring.events.PY_START)

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    SEEN.clear()
    sys.monitoring.restart_events()
    result = yield
    here = os.getcwd() + os.sep
    ran = {(code.co_filename.removeprefix(here), code.co_qualname.partition(".<locals>")[0])
           for code in list(SEEN) if code.co_filename.startswith(here)}
    RESULTS[item.nodeid][1].extend(sorted(ran))
    return result

def pytest_runtest_logreport(report):
    outcome = RESULTS.setdefault(report.nodeid, ["passed", []])
    if report.outcome != "passed" and outcome[0] != "failed":
        outcome[0] = report.outcome

def pytest_sessionfinish():
    with open(os.environ["ORACLE_OUT"], "w") as file:
        json.dump(RESULTS, file)
"""


class Row(NamedTuple):
    """What is kept of a step. Counts and lists are of tests; ``back``: of the way back to the source before."""

    commit: str
    tests: int
    selected: int
    static: int
    true: int
    share: float
    flipped: list[str]
    looked_at: int
    missed: dict[str, str]
    failing: list[str]  # at the commit, whatever the reason: the next step does not blame them
    first: tuple[float, float, float] | None  # place of the first failing test: greenline, file order, random
    seconds: float  # to select and to run that, of wall time
    mixed: str | None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path)
    parser.add_argument("--python", required=True)
    parser.add_argument("--testmon", metavar="PYTHON", help="compare with testmon, which this interpreter has")
    parser.add_argument("--testmon-options", default="", help="what pytest is given beside that in testmon's runs")
    parser.add_argument("--commits", type=int, default=100)
    parser.add_argument("--until", default="HEAD")
    parser.add_argument("--tests", default="", help="what pytest is given in the runs of all tests; default: nothing")
    parser.add_argument("--again", action="store_true", help="use nothing of an earlier run")
    parser.add_argument("--seconds", type=float, default=1e9, help="go on for so long, then print what is known")
    args = parser.parse_args()
    until = time.monotonic() + args.seconds
    workspace = find(str(args.clone))
    home = trees.BUILD / "replay" / args.clone.name
    if args.again:
        shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True, exist_ok=True)
    (home / "oracle.py").write_text(ORACLE)
    commits = history(workspace, args.commits, args.until)
    rows = [Row(*each) for each in _kept(home / "steps.jsonl")]
    tests = args.tests.split()
    args.python, args.testmon = (each and str(Path(each).absolute()) for each in (args.python, args.testmon))
    replay = Replay(workspace, args.python, home=str(home))
    try:
        with (home / "steps.jsonl").open("a") as file:
            for row in measured(AllTests(replay, home, args.python, tests), commits, rows):
                file.write(json.dumps(row) + "\n")
                file.flush()
                rows.append(row)
                print(
                    f"{row.commit[:10]} {share(row.selected, row)} selected, {share(row.static, row)} static,"
                    f" {share(row.true, row)} true, {100 * row.share:3.0f} % hold, {len(row.flipped)} flipped,"
                    f" {len(row.missed)} missed",
                    flush=True,
                )
                if time.monotonic() > until:
                    break
    finally:
        replay.close()
    testmon: list[tuple[int, list[str], float]] = []
    if args.testmon:
        options = [*tests, *args.testmon_options.split()]
        testmon = Testmon(home, args.testmon, options).compare(commits[0], rows, until)
    code = {commit for before, commit in pairwise(commits) if not changes_settings(args.clone, before, commit)}
    return summary(args.clone.name, rows, testmon, code)


def changes_settings(clone: Path, before: str, commit: str) -> bool:
    """Whether a workflow of CI, a requirement or a setting of the build or of pytest changed."""
    paths = trees.git(clone, "diff", "--name-only", "--no-renames", before, commit).splitlines()
    return any(path.startswith(".github/") or is_manifest(path) or is_config_name(Path(path).name) for path in paths)


def _kept(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def measured(everything: AllTests, commits: list[str], rows: list[Row]) -> Iterator[Row]:
    """A row for each commit that has none yet."""
    if len(rows) == len(commits) - 1:
        return
    before = commits[len(rows)]
    failing = set(rows[-1].failing) if rows else None
    for step in everything.replay.steps(commits[len(rows) :]):
        if failing is None:
            failing = failures(everything.at(before))
        row = everything.row(step, before, failing)
        yield row
        failing, before = set(row.failing), step.commit


Ran = dict[str, tuple[str, set[tuple[str, str]]]]
"""Test → outcome, and the functions that it ran."""


def failures(ran: Ran) -> set[str]:
    return {test for test, (outcome, _) in ran.items() if outcome == "failed"}


class AllTests:
    """Runs of all tests beside the replay, in its clone."""

    def __init__(self, replay: Replay, home: Path, python: str, tests: list[str]) -> None:
        self.replay, self.home, self.python, self.tests = replay, home, python, tests
        self.root = Path(replay.root)
        self.environment = {**replay.environment, "ORACLE_OUT": str(home / "all.json")}
        self.environment["PYTHONPATH"] = f"{home}:{replay.environment['PYTHONPATH']}"

    def at(self, commit: str, *tests: str) -> Ran:
        """What all tests, or these, do at a commit."""
        trees.git(self.root, "checkout", "--quiet", "--force", "--detach", commit)
        trees.git(self.root, "clean", "-fdxq", "-e", ".greenline")
        out = self.home / "all.json"
        out.unlink(missing_ok=True)
        command = [self.python, "-m", "pytest", "-q", "-p", "oracle", "-p", "no:cacheprovider"]
        command += ["--continue-on-collection-errors", *(tests or self.tests)]
        subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, check=False)
        found = json.loads(out.read_text()) if out.exists() else {}
        return {test: (outcome, {(path, name) for path, name in ran}) for test, (outcome, ran) in found.items()}

    def row(self, step: Step, before: str, failing: set[str]) -> Row:
        """``failing``: tests that failed before."""
        assert step.answer
        chosen = Selected(step.answer.tests)
        ran = self.at(step.commit) if self.concerns_tests(before, step.commit) else {}
        missed = dict(step.missed)
        suspects = [test for test in sorted(failures(ran) - failing) if test not in chosen]
        for test in suspects[:20]:
            if all(failures(self.at(step.commit, test)) for _ in "123"):
                missed[test] = "fails at the commit, passed before"
        changed = self.changed(before, step.commit)
        place = None
        if step.mixed and step.flipped:
            back = affected(
                str(self.root),
                Request(base=step.commit, base_exact=True, head=step.mixed),
                environment=self.replay.environment,
            )
            missed |= {test: "fails on the way back" for test in step.flipped if test not in Selected(back.tests)}
            place = first_failure(list(ran), back, set(step.flipped))
        return Row(
            step.commit,
            step.tests,
            step.selected,
            step.static,
            sum(bool(functions & changed) for _, functions in ran.values()),
            step.share,
            step.flipped,
            len(step.flipped) + sum(test not in chosen and outcome == "passed" for test, (outcome, _) in ran.items()),
            missed,
            sorted(failures(ran) if ran else failing),
            place,
            step.wall,
            step.mixed,
        )

    def concerns_tests(self, before: str, commit: str) -> bool:
        """Whether anything but documentation, settings of CI and lock files changed."""
        paths = trees.git(self.root, "diff", "--name-only", "--no-renames", before, commit).splitlines()
        return any(path.endswith(".py") or path.startswith(("src/", "tests/")) for path in paths)

    def changed(self, before: str, commit: str) -> set[tuple[str, str]]:
        """The functions of the commit that were not so before."""
        paths = trees.git(
            self.root, "diff", "--name-only", "--no-renames", "--diff-filter=AM", before, commit, "--", "*.py"
        )
        found = set()
        for path in paths.splitlines():
            old, new = (self.functions(each, path) for each in (before, commit))
            found |= {(path, name) for name in new if new[name] != old.get(name)}
        return found

    def functions(self, commit: str, path: str) -> dict[str, str]:
        command = ["git", "show", f"{commit}:{path}"]
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)
        found: dict[str, str] = {}
        for name, node in functions(ast.parse(done.stdout)):  # none where there is no such file
            if ast.get_docstring(node) is not None:
                del node.body[0]
            found[name] = found.get(name, "") + ast.dump(node)
        return found


def first_failure(order: list[str], answer: Answer, bad: set[str]) -> tuple[float, float, float] | None:
    """Where the first failing test stands among the selected ones (0 to 1): as greenline orders them, in pytest's
    own order, and at random (expected)."""
    files = [test.path for test in sorted(answer.tests, key=lambda test: (test.rank, test.path))]
    chosen = Selected(answer.tests)
    selected = [test for test in order if test in chosen]
    likely = sorted(selected, key=lambda test: files.index(test.partition("::")[0]))  # stable: no order within a file
    failing = [test for test in selected if test in bad]
    if not failing:
        return None
    places = [(next(at for at, test in enumerate(tests, 1) if test in bad)) for tests in (likely, selected)]
    expected = (len(selected) + 1) / (len(failing) + 1)
    return places[0] / len(selected), places[1] / len(selected), expected / len(selected)


TESTMON_HOOKS = """
import json, os

RAN = {}

def pytest_runtest_logreport(report):
    if report.outcome == "failed" or report.nodeid not in RAN:
        RAN[report.nodeid] = report.outcome

def pytest_sessionfinish():
    with open(os.environ["ORACLE_OUT"], "w") as file:
        json.dump(RAN, file)
"""


class Testmon:
    """testmon at the same commits, in a clone of its own."""

    def __init__(self, home: Path, python: str, tests: list[str]) -> None:
        self.home, self.python, self.tests = home, python, tests
        self.root = home / "testmon"
        if not self.root.exists():
            trees.git(home, "clone", "--quiet", "--shared", str(home / "repository"), str(self.root))
        (home / "testmon_hooks.py").write_text(TESTMON_HOOKS)

    def compare(self, start: str, rows: list[Row], until: float) -> list[tuple[int, list[str], float]]:
        """For each row, as far as there is time, the tests that testmon ran, what it missed, and its seconds."""
        path = self.home / "testmon.jsonl"
        found = [(ran, missed, seconds) for ran, missed, seconds in _kept(path)]
        if not found:
            self.run(start)
        with path.open("a") as file:
            for row in rows[len(found) :]:
                ran, seconds = self.run(row.commit)
                missed: list[str] = []
                data = self.root / ".testmondata"
                if row.flipped and row.mixed and data.exists():
                    # The way back: on the way there it runs what failed before, whatever changed.
                    shutil.copy(data, self.home / "testmondata")
                    back, _ = self.run(row.mixed)
                    missed = sorted(set(row.flipped) - back.keys())
                    shutil.copy(self.home / "testmondata", data)
                found.append((len(ran), missed, seconds))
                file.write(json.dumps(found[-1]) + "\n")
                file.flush()
                if time.monotonic() > until:
                    break
        return found

    def run(self, commit: str) -> tuple[dict[str, str], float]:
        trees.git(self.root, "checkout", "--quiet", "--force", "--detach", commit)
        trees.git(self.root, "clean", "-fdxq", "-e", ".testmondata*")
        out = self.home / "testmon.json"
        out.unlink(missing_ok=True)
        path = f"{self.home}:{self.root}:{self.root / 'src'}"
        environment = trees.environment() | {"PYTHONPATH": path, "ORACLE_OUT": str(out), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [self.python, "-m", "pytest", "--testmon", "-q", "-p", "testmon_hooks"]
        command += ["--continue-on-collection-errors", *self.tests]
        started = time.perf_counter()
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
        if done.returncode not in (0, 1, 2, 5):  # tests failed, files that cannot be imported, nothing to run
            raise SystemExit(f"testmon at {commit}: pytest ended with {done.returncode}\n{done.stdout[-2000:]}")
        return (json.loads(out.read_text()) if out.exists() else {}), seconds


def share(count: int, row: Row) -> str:
    return f"{100 * count / max(1, row.tests):5.1f} %"


def summary(name: str, rows: list[Row], testmon: list[tuple[int, list[str], float]], code: set[str]) -> int:
    """Print what was measured. ``code``: the commits that change no settings."""
    tests, selected, static, true = (
        sum(getattr(row, of) for row in rows) for of in ("tests", "selected", "static", "true")
    )
    missed, looked_at = sum(len(row.missed) for row in rows), sum(row.looked_at for row in rows)
    middle = median(row.selected / max(1, row.tests) for row in rows)
    print_table(
        {
            "repository": name,
            "commits": str(len(rows)),
            "selected": f"{100 * selected / tests:.1f} %",
            "median": f"{100 * middle:.1f} %",
            "static": f"{100 * static / tests:.1f} %",
            "true": f"{100 * true / tests:.1f} %",
            "by evidence: first, least, last": ", ".join(
                f"{100 * each:.0f} %" for each in (rows[0].share, min(row.share for row in rows), rows[-1].share)
            ),
            "flipped": str(sum(len(row.flipped) for row in rows)),
            "missed": f"{missed} of {looked_at:,}",
            "escape rate at most": f"{100 * interval(missed, looked_at)[1]:.3f} %",
        }
    )
    places = [row.first for row in rows if row.first]
    if places:
        likely, files, chance = (100 * mean(each) for each in zip(*places, strict=True))
        print(f"first failing test of {len(places)} reverts, mean place among the selected: {likely:.0f} %"
              f" as ordered, {files:.0f} % in file order, {chance:.0f} % at random")  # fmt: skip
    if testmon:
        both = list(zip(rows, testmon, strict=False))
        for what, pairs in {
            "all": both,
            "without those that change settings": [each for each in both if each[0].commit in code],
            "with tests that flip": [each for each in both if each[0].flipped],
        }.items():
            ours, theirs = [row for row, _ in pairs], [each for _, each in pairs]
            tests = max(1, sum(row.tests for row in ours))
            print_table(
                {
                    "commits": f"{len(pairs)}, {what}",
                    "flipped": str(sum(len(row.flipped) for row in ours)),
                    "testmon: selected": f"{100 * sum(ran for ran, _, _ in theirs) / tests:.1f} %",
                    "missed on the way back": str(sum(len(each) for _, each, _ in theirs)),
                    "seconds": f"{sum(seconds for *_, seconds in theirs):.0f}",
                    "greenline: selected": f"{100 * sum(row.selected for row in ours) / tests:.1f} %",
                    "missed": str(sum(len(row.missed) for row in ours)),
                    "greenline: seconds": f"{sum(row.seconds for row in ours):.0f}",
                    "true": f"{100 * sum(row.true for row in ours) / tests:.1f} %",
                }
            )
    for row in rows:
        for test, why in row.missed.items():
            print(f"missed at {row.commit[:10]}: {test}: {why}")
    return 0 if not missed and selected < static else 1


def print_table(cells: dict[str, str]) -> None:
    print()
    for row in (cells.keys(), ["---"] * len(cells), cells.values()):
        print(f"| {' | '.join(row)} |")
    print()


if __name__ == "__main__":
    sys.exit(main())
