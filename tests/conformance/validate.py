"""Show with real pytest that the table is true: python tests/conformance/validate.py [NUMBER …]

For each case the tests run on the base commit and on the change. Every test whose outcome differs must be
expected to be selected, and every file that is expected must hold a test whose outcome differs, unless the
case says `flips` and why.

Third-party packages that cases need (django, celery, alembic, jinja2, lazy_loader) must be installed where
pytest runs: --python PATH names another interpreter. Exit code 1 when a case is not true or could not be run.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from suite_run import root_of, run_pytest
from table import Case, covers, files_with_tests, load, write_base, write_change


def main() -> int:
    parser = argparse.ArgumentParser(description="Show with real pytest that the conformance table is true.")
    parser.add_argument("numbers", nargs="*", metavar="NUMBER", help="only these cases, such as 44a")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs the cases' tests")
    options = parser.parse_args()
    program = shutil.which(options.python)
    if not program:
        parser.error(f"--python: there is no {options.python}")
    python = str(Path(program).absolute())
    cases = [case for case in load() if not options.numbers or case.number in options.numbers]
    lacking = {name for case in cases for name in case.requires if not importable(name, python)}
    runnable = [case for case in cases if not lacking.intersection(case.requires)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(partial(check, python=python), runnable))
    for case, problems in zip(runnable, found, strict=True):
        for problem in problems:
            print(f"{case.id}: {problem}")
    wrong = sum(map(bool, found))
    shown = sum(case.flips is not False for case in runnable)
    print(f"{len(runnable)} cases, {shown} shown by tests whose outcome differs; {wrong} not true")
    if lacking:
        print(f"{len(cases) - len(runnable)} cases were not run, without {', '.join(sorted(lacking))}")
    return 1 if wrong or lacking else 0


def check(case: Case, python: str) -> list[str]:
    """What is not true about a case."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch).resolve() / "repository"
        base = write_base(case, folder)
        before = run_pytest(case, folder, python).outcomes
        write_change(case, folder, base)
        root = root_of(case, folder)
        after = run_pytest(case, root, python).outcomes
        there = {path.relative_to(root).as_posix() for path in root.rglob("*.*")}
        tests = files_with_tests(root)
    different = {test for test in before.keys() | after.keys() if before.get(test) != after.get(test)}
    flipped = {test for test in different if test.partition("::")[0] in there}
    wanted = tests if case.all else set(case.selected)
    problems = [] if before else ["no test ran on the base commit"]
    if case.flips is not False:
        shown = set(wanted if case.flips is True else case.flips)
        failing = [test for test, outcome in before.items() if "failed" in outcome and covers(shown, test)]
        problems += [f"{test} fails on the base commit" for test in failing]
        problems += [f"{test} changes its outcome" for test in sorted(flipped) if not covers(wanted, test)]
        idle = [item for item in sorted(shown) if not covers(flipped, item)]
        problems += [f"{item} does not change its outcome" for item in idle]
    return problems


def importable(name: str, python: str) -> bool:
    """Whether that interpreter finds a top-level module."""
    if python == sys.executable:
        return importlib.util.find_spec(name) is not None
    return subprocess.run([python, "-c", f"import {name}"], capture_output=True).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
