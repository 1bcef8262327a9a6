"""Does `greenline affected --mode auto` select every test that a change breaks? Mutants of each kind, on real suites.

    make bench-evidence-mutation [ARGS="click --killed 25 --python /usr/bin/python3.12"]

The suite is recorded once, with a forking pass. Then one place of the library at a time is changed, chosen by a fixed
seed, until enough mutants of a kind were killed. For each: greenline is asked; all tests that it leaves out run, and a
test among them that passed before and does not now is run again alone, three times on the mutant and three times
without it. If that holds it is a miss. Where none is missed, the selected tests run until one fails: then the mutant is
killed.

Goal: no miss. The selected share says what that costs: selecting everything would be 100 %. Exit code 1 for a miss.
"""

from __future__ import annotations

import argparse
import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import trees
from evidence_suites import SUITES, environment_of, python_of, pythons, tree_of

HOOKS = """
import json, os
import pytest

OUTCOMES = {}

def pytest_collection_modifyitems(config, items):
    if "MUTANT_TESTS" not in os.environ:
        return
    with open(os.environ["MUTANT_TESTS"]) as file:
        selected = json.load(file)
    def is_selected(item):
        path, _, name = item.nodeid.partition("::")
        names = selected.get(path, ())
        return names is None or any(name == each or name.startswith((each + "[", each + "::")) for each in names)
    wanted = os.environ["MUTANT_RUN"] == "selected"
    dropped = [item for item in items if is_selected(item) != wanted]
    items[:] = [item for item in items if is_selected(item) == wanted]
    config.hook.pytest_deselected(items=dropped)

def pytest_runtest_logreport(report):
    if report.when == "call" or report.outcome != "passed":
        OUTCOMES[report.nodeid] = report.outcome if OUTCOMES.get(report.nodeid) != "failed" else "failed"

def pytest_sessionfinish():
    with open(os.environ["MUTANT_OUT"], "w") as file:
        json.dump(OUTCOMES, file)
"""


class Mutant(NamedTuple):
    """A changed file: ``text`` is all of it."""

    kind: str
    path: str
    name: str
    text: str


# -- mutants -------------------------------------------------------------------------------------------------


def mutants(tree: Path, source: str) -> Iterator[Mutant]:
    """Every mutant of the library's own files, in no particular order."""
    for path in sorted((tree / source).rglob("*.py")):
        if "tests" in path.parts or "egg" in str(path):
            continue
        text = path.read_text("utf-8")
        module = ast.parse(text)
        for parent in [module, *(node for node in ast.walk(module) if isinstance(node, ast.ClassDef))]:
            for node in parent.body:
                for kind, name, change in _changes(node, isinstance(parent, ast.ClassDef)):
                    yield Mutant(kind, path.relative_to(tree).as_posix(), name, _edited(text, *change))


def _changes(node: ast.stmt, in_class: bool) -> Iterator[tuple[str, str, tuple[int, int, int, int, str]]]:
    """(kind, name, (line, column, end line, end column, new text)) for one statement of a module or class."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        yield from _of_function(node, in_class)
    elif isinstance(node, ast.ClassDef):
        if node.bases:
            yield "base", node.name, (*_span(node.bases[0]), "object")
    elif isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Constant):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        kind = "class attribute" if in_class else "constant"
        if isinstance(target, ast.Name) and not target.id.startswith("__"):
            yield kind, target.id, (*_span(node.value), _other(node.value.value))
    elif isinstance(node, ast.ImportFrom) and not in_class and node.module != "__future__":
        yield "import", node.module or ".", (*_span(node), "pass")


def _of_function(
    node: ast.FunctionDef | ast.AsyncFunctionDef, in_class: bool
) -> Iterator[tuple[str, str, tuple[int, int, int, int, str]]]:
    first = min([node, *node.decorator_list], key=lambda each: each.lineno)
    whole = (first.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0)
    dunder = node.name.startswith("__")
    body = next(
        (each for each in node.body if not isinstance(each, ast.Expr) or not isinstance(each.value, ast.Constant)), None
    )
    if body is not None and body.lineno > node.lineno:
        yield (
            "body",
            node.name,
            (
                body.lineno,
                body.col_offset,
                body.lineno,
                body.col_offset,
                f"raise ZeroDivisionError\n{' ' * body.col_offset}",
            ),
        )
    for default in node.args.defaults:
        if isinstance(default, ast.Constant):
            yield "default", node.name, (*_span(default), _other(default.value))
    if node.args.args[in_class:]:
        name = node.args.args[-1]
        at = (name.lineno, name.col_offset)
        yield "signature", node.name, (*at, *at, "mutant, ") if not node.args.defaults else (*_span(name), "mutant")
    yield ("dunder" if dunder else "method removed" if in_class else "function removed"), node.name, (*whole, "pass")
    if node.decorator_list:
        yield "decorator", node.name, (*_span(node.decorator_list[0]), "(lambda mutant: mutant)")


def _span(node: ast.expr | ast.stmt | ast.arg) -> tuple[int, int, int, int]:
    return node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0


def _other(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return repr(not value)
    return repr(value + 1) if isinstance(value, int) else repr(f"{value}mutant") if isinstance(value, str) else "None"


def _edited(text: str, line: int, column: int, end_line: int, end_column: int, new: str) -> str:
    lines = [each.encode() for each in text.splitlines(keepends=True)]
    head, tail = lines[line - 1][:column], lines[end_line - 1][end_column:]
    return b"".join([*lines[: line - 1], head, new.encode(), tail, *lines[end_line:]]).decode()


# -- measuring -----------------------------------------------------------------------------------------------


class Bench:
    """One suite, recorded, and what its tests said without a mutant."""

    def __init__(self, name: str, base: str) -> None:
        self.name, self.python = name, python_of(name, base)
        self.home = trees.BUILD / "evidence" / name / "mutation"
        self.tree = self.home / "tree"
        trees.clear(self.home)
        shutil.copytree(tree_of(name), self.tree, ignore=shutil.ignore_patterns("__pycache__", ".greenline"))
        (self.home / "mutant_hooks.py").write_text(HOOKS)
        suite = json.dumps({"name": name, "root": ".", "command": [str(self.python), "-m", "pytest"]})
        (self.tree / "greenline.yaml").write_text(f"suites: [{suite}]\n")
        trees.git(self.tree, "add", "--all")
        trees.git(self.tree, "commit", "--quiet", "--no-verify", "--message=greenline.yaml")
        self.environment = environment_of(name, self.home) | {"PYTHONDONTWRITEBYTECODE": "1"}
        source = str(self.tree / SUITES[name].source)
        self.environment["PYTHONPATH"] = f"{self.home}:{source}"
        command = [str(trees.GREENLINE), "record", "--", "-q", "-p", "no:cacheprovider", "--greenline-fork"]
        done = subprocess.run(
            [*command, *SUITES[name].arguments],
            cwd=self.tree,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if "recorded" not in done.stderr:
            sys.exit(f"{name} cannot be recorded:\n{done.stdout}{done.stderr}")
        print(done.stderr.strip().splitlines()[-1])
        self.before = self.run()
        self.passed = {test for test, outcome in self.before.items() if outcome == "passed"}

    def run(self, *options: str, selected: dict[str, Any] | None = None, which: str = "") -> dict[str, str]:
        """Test → outcome; of all tests, of those selected, or of the others."""
        out = self.home / "outcomes.json"
        out.unlink(missing_ok=True)
        variables = {"MUTANT_OUT": str(out)}
        if selected is not None:
            (self.home / "selected.json").write_text(json.dumps(selected))
            variables |= {"MUTANT_TESTS": str(self.home / "selected.json"), "MUTANT_RUN": which}
        command = [
            str(self.python),
            "-m",
            "pytest",
            "-q",
            "-p",
            "mutant_hooks",
            "-p",
            "no:cacheprovider",
            "--timeout=30",
        ]
        tests = [each for each in options if "::" in each] or SUITES[self.name].arguments
        command += ["--continue-on-collection-errors", *tests, *(each for each in options if "::" not in each)]
        subprocess.run(command, cwd=self.tree, env=self.environment | variables, capture_output=True, check=False)
        found: dict[str, str] = json.loads(out.read_text()) if out.exists() else {}  # none: pytest could not even start
        return found

    def select(self) -> dict[str, Any]:
        """Affected test file → names of its affected tests, or None for all."""
        command = [str(trees.GREENLINE), "affected", "--base", "HEAD", "--mode", "auto", "--format", "json"]
        own = trees.environment()  # the suite's PYTHONPATH would give greenline the mutant of a library that it uses
        done = subprocess.run(command, cwd=self.tree, env=own, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"greenline failed:\n{done.stderr}")
        tests = json.loads(done.stdout)["tests"]
        return {each["path"]: each["nodeids"] and [id.partition("::")[2] for id in each["nodeids"]] for each in tests}

    def judge(self, mutant: Mutant) -> tuple[float, bool, list[str]]:
        """(share selected, killed, missed tests) of one mutant."""
        path = self.tree / mutant.path
        original = path.read_text("utf-8")
        path.write_text(mutant.text, "utf-8")
        try:
            selected = self.select()
            left_out = {test for test in self.passed if not _is_selected(test, selected)}
            outcomes = self.run(selected=selected, which="others") if left_out else {}
            flipped = sorted(test for test in left_out if outcomes.get(test) != "passed")
            missed = [test for test in flipped[:20] if all(self.run(test).get(test) != "passed" for _ in "123")]
            killed = bool(missed) or any(
                outcome != "passed" and test in self.passed
                for test, outcome in self.run("-x", selected=selected, which="selected").items()
            )
        finally:
            path.write_text(original, "utf-8")
        missed = [test for test in missed if all(self.run(test).get(test) == "passed" for _ in "123")]
        return 1 - len(left_out) / len(self.passed), killed or bool(missed), missed


def _is_selected(test: str, selected: dict[str, Any]) -> bool:
    path, _, name = test.partition("::")
    names = selected.get(path, ())
    return names is None or any(name == each or name.startswith((f"{each}[", f"{each}::")) for each in names)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; default: two of them")
    parser.add_argument("--killed", type=int, default=25, metavar="N", help="killed mutants of each kind")
    parser.add_argument("--kind", action="append", help="only mutants of this kind; may be repeated")
    parser.add_argument("--python", action="append", help="measure with this interpreter; may be repeated")
    options = parser.parse_args()
    fine = True
    for name in options.suites or ["click", "jinja2"]:
        for python in pythons(options.python):
            fine &= measure(Bench(name, python), options.killed, options.kind)
    return 0 if fine else 1


def measure(bench: Bench, enough: int, kinds: list[str] | None) -> bool:
    print(f"\n## {SUITES[bench.name].library}: {len(bench.passed)} tests pass\n")
    print(
        "| kind of change | mutants | killed | missed | tests selected (mean) |\n| --- | --- | --- | --- | --- |",
        flush=True,
    )
    by_kind: dict[str, list[Mutant]] = {}
    for mutant in mutants(bench.tree, SUITES[bench.name].source):
        by_kind.setdefault(mutant.kind, []).append(mutant)
    misses = []
    for kind in kinds or sorted(by_kind):
        candidates = sorted(by_kind.get(kind, ()))
        Random(0).shuffle(candidates)
        shares, killed, missed = [], 0, 0
        for mutant in candidates:
            share, dead, found = bench.judge(mutant)
            shares.append(share)
            killed += dead
            missed += bool(found)
            misses += [(mutant, test) for test in found]
            if killed >= enough:
                break
        mean = 100 * sum(shares) / max(1, len(shares))
        print(f"| {kind} | {len(shares)} | {killed} | {missed} | {mean:.0f} % |", flush=True)
    for mutant, test in misses[:20]:
        print(f"missed: {mutant.kind} of {mutant.name} in {mutant.path}: {test}")
    return not misses


if __name__ == "__main__":
    sys.exit(main())
