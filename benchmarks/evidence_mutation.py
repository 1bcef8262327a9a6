"""Does `greenline affected --mode auto` select every test that a change breaks? Mutants of each kind, on real suites.

    make bench-evidence-mutation [ARGS="click --killed 25 --python /usr/bin/python3.12 [--kind body] [--again]"]

The suite is recorded once, with a forking pass. Then one place of the library, of a fixture or of a data file at a time
is changed, chosen by a fixed seed, next of the kind with the fewest killed, until enough of each were. For each:
greenline is asked (in this process; it is what the command prints); all tests that it leaves out run, and one of these
that passed before and does not now is run again alone, three times on the mutant and three times without it. If that
holds it is a miss. Then the selected tests run until one fails: then the mutant is killed. Each of these runs is a
pytest of its own, forked from a process that has imported pytest and nothing else; only the changed file is compiled.

What was judged is kept below build/, and a later call goes on; --again starts anew. Goal: no miss, and so many killed.
The selected share says what that costs: selecting everything would be 100 %, and where nothing is left out ("of these
all selected") nothing can be missed. Of killed mutants it is also told where the first failing test stands among the
selected: in the order in which greenline runs them, in pytest's own, and at random (expected). That takes runs that go
on after a failure: a quarter of the mutants. Exit code 1 for a miss.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from statistics import median
from typing import NamedTuple

import trees
from evidence_suites import SUITES, environment_of, python_of, pythons, tree_of
from replay import first_failure

from greenline.ci.affected import Request, affected
from greenline.ci.shadow import Selected

HOOKS = """
import json, os
import pytest

OUTCOMES, LEFT_OUT = {}, set()

@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    with open(os.environ["MUTANT_LEFT_OUT"]) as file:
        LEFT_OUT.update(json.load(file))
    items.sort(key=lambda item: item.nodeid not in LEFT_OUT)

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    enough = "MUTANT_ALL" not in os.environ or "Timeout" in str(report.longrepr)
    if report.failed and enough and item.nodeid not in LEFT_OUT:
        item.session.shouldstop = "killed"
    return report

def pytest_runtest_logreport(report):
    if report.when == "call" or report.outcome != "passed":
        OUTCOMES[report.nodeid] = report.outcome if OUTCOMES.get(report.nodeid) != "failed" else "failed"

def pytest_sessionfinish():
    with open(os.environ["MUTANT_OUT"], "w") as file:
        json.dump(OUTCOMES, file)
"""
SERVER = """
import json, os, signal, sys
import pytest
from _pytest.config import get_config

get_config()  # imports pytest's own plugins
for line in sys.stdin:
    arguments, variables = json.loads(line)
    child = os.fork()
    if child == 0:
        os.environ.update(variables)
        if "MUTANT_COMPILE" in variables:
            sys.dont_write_bytecode = False
            del os.environ["PYTHONDONTWRITEBYTECODE"]
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        signal.alarm(60)  # ends an import that hangs; tests have --timeout
        pytest.main(arguments)
        os._exit(0)
    os.waitpid(child, 0)
    print("done", flush=True)
"""
BUILTINS = frozenset(dir(builtins)) - {"property", "super", "type", "object", "__import__", "__build_class__"}


class Mutant(NamedTuple):
    """A changed file: ``content`` is all of it, None where it is gone."""

    kind: str
    path: str
    name: str
    content: bytes | None

    @property
    def id(self) -> str:
        digest = hashlib.sha1(self.content or b"").hexdigest()[:12]
        return f"{self.kind} {self.path} {self.name} {digest}"


# -- mutants -------------------------------------------------------------------------------------------------


def mutants(tree: Path, source: str) -> Iterator[Mutant]:
    """Every mutant of the library's own files, and of its tests' fixtures and data files; in no particular order."""
    for path in sorted((tree / source).rglob("*.py")):
        if "tests" in path.parts or "egg" in str(path):
            continue
        text = path.read_text("utf-8")
        module = ast.parse(text)
        where = path.relative_to(tree).as_posix()
        classes = [node for node in ast.walk(module) if isinstance(node, ast.ClassDef)]
        for parent, body in [(module, module.body), *((node, node.body) for node in classes)]:
            for node in body:
                for kind, name, change in _changes(node, parent is not module):
                    yield Mutant(kind, where, name, _edited(text, *change))
        for kind, name, change in _additions(module):
            yield Mutant(kind, where, name, _edited(text, *change))
    for path in sorted((tree / "tests").rglob("*")):
        where = path.relative_to(tree).as_posix()
        if path.suffix == ".py":
            text = path.read_text("utf-8")
            functions = [each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.FunctionDef)]
            for function in functions:
                if any("fixture" in ast.unparse(each) for each in function.decorator_list):
                    for name, change in _of_fixture(function):
                        yield Mutant("fixture", where, name, _edited(text, *change))
        elif path.is_file() and path.suffix != ".pyc":
            for name, content in _of_data(path.read_bytes()):
                yield Mutant("data file", where, name, content)


Place = tuple[int, int, int, int, str]
"""Line, column, end line, end column, new text."""


def _additions(module: ast.Module) -> Iterator[tuple[str, str, Place]]:
    """Functions that take the place of a builtin that the module uses; methods that override one of a base beside."""
    own = {node.name for node in module.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    used = {node.id for node in ast.walk(module) if isinstance(node, ast.Name)} & BUILTINS
    end = (module.body[-1].end_lineno or 0) if module.body else 0
    for name in sorted(used - own):
        if name[0].islower():
            at = (end + 1, 0)
            yield "function added", name, (*at, *at, f"\n\ndef {name}(*args, **kwargs):\n    raise ZeroDivisionError\n")
    classes = {node.name: node for node in module.body if isinstance(node, ast.ClassDef)}
    for node in classes.values():
        have = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
        last = node.body[-1]
        at = ((last.end_lineno or 0) + 1, 0)
        added = "    def {}(self, *args, **kwargs):\n        raise ZeroDivisionError\n\n"
        bases = [base for each in node.bases if isinstance(each, ast.Name) and (base := classes.get(each.id))]
        methods = {each.name for base in bases for each in base.body if isinstance(each, ast.FunctionDef)}
        for name in sorted(methods - have):
            kind = "dunder" if name.startswith("__") else "method added"
            yield kind, f"{node.name}.{name}", (*at, *at, added.format(name))
        for name in ("__bool__", "__getattribute__", "__eq__", "__setattr__"):
            if name not in have:
                yield "dunder", f"{node.name}.{name}", (*at, *at, added.format(name))


def _of_fixture(node: ast.FunctionDef) -> Iterator[tuple[str, Place]]:
    first, decorator = node.body[0], node.decorator_list[0]
    indent = " " * first.col_offset
    at = (first.lineno, first.col_offset)
    if first.lineno > node.lineno:
        yield f"{node.name}: body", (*at, *at, f"raise ZeroDivisionError\n{indent}")
        yield f"{node.name}: value", (*at, *at, f"return None\n{indent}")
    yield f"{node.name}: decorator", (*_span(decorator), "(lambda mutant: mutant)")
    yield f"{node.name}: name", (node.lineno, node.col_offset, node.lineno, node.col_offset + 4, "def mutant_")
    whole = (decorator.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0)
    yield f"{node.name}: removed", (*whole, "pass")
    arguments = node.args.args
    if not arguments:
        at = (node.lineno, node.col_offset + len(f"def {node.name}("))
        yield f"{node.name}: asks for one that is not there", (*at, *at, "mutant")


def _of_data(data: bytes) -> Iterator[tuple[str, bytes | None]]:
    yield "removed", None
    yield "emptied", b""
    if data:
        yield "half", data[: len(data) // 2]
        yield "doubled", data + data
        yield "reversed", data[::-1]
        yield "one byte", bytes([data[0] ^ 1]) + data[1:]


def _changes(node: ast.stmt, in_class: bool) -> Iterator[tuple[str, str, Place]]:
    """(kind, name, (line, column, end line, end column, new text)) for one statement of a module or class."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        yield from _of_function(node, in_class)
    elif isinstance(node, ast.ClassDef):
        if node.bases:
            yield "base", node.name, (*_span(node.bases[0]), "object")
    elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        kind = "class attribute" if in_class else "constant"
        if isinstance(target, ast.Name) and not target.id.startswith("__"):
            other = _other(node.value.value) if isinstance(node.value, ast.Constant) else "None"
            yield kind, target.id, (*_span(node.value), other)
            yield kind, f"{target.id}, a string", (*_span(node.value), "'mutant'")
    elif isinstance(node, ast.ImportFrom) and not in_class and node.module != "__future__":
        yield "import", node.module or ".", (*_span(node), "pass")


def _of_function(node: ast.FunctionDef | ast.AsyncFunctionDef, in_class: bool) -> Iterator[tuple[str, str, Place]]:
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


def _edited(text: str, line: int, column: int, end_line: int, end_column: int, new: str) -> bytes:
    lines = [*(each.encode() for each in text.splitlines(keepends=True)), b""]
    head, tail = lines[line - 1][:column], lines[end_line - 1][end_column:]
    return b"".join([*lines[: line - 1], head, new.encode(), tail, *lines[end_line:]])


# -- measuring -----------------------------------------------------------------------------------------------


class Judged(NamedTuple):
    """One mutant. ``share``: of the tests, how many were selected (0 to 1). ``first``: the place of the first failing
    test among the selected: greenline, file order, random."""

    id: str
    kind: str
    share: float
    killed: bool
    missed: list[str]
    seconds: float
    first: tuple[float, float, float] | None


class Bench:
    """One suite, recorded, and what its tests said without a mutant."""

    def __init__(self, name: str, base: str, again: bool) -> None:
        self.name, self.python = name, python_of(name, base)
        self.home = trees.BUILD / "evidence" / name / f"mutation-{self.python.parents[1].name.rpartition('-')[2]}"
        self.tree, self.judged = self.home / "tree", self.home / "judged.jsonl"
        if again:
            shutil.rmtree(self.home, ignore_errors=True)
        self.environment = environment_of(name, self.home) | {"PYTHONDONTWRITEBYTECODE": "1"}
        self.environment["PYTHONPATH"] = f"{self.home}:{self.tree / SUITES[name].source}"
        if not (self.home / "before.json").exists():
            self._record()
        trees.git(self.tree, "checkout", "--quiet", "--force", ".")
        environment = self.environment | {"PYTHONPYCACHEPREFIX": str(self.home / "compiled")}
        self.server = subprocess.Popen(
            [str(self.python), "-c", SERVER], cwd=self.tree, env=environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        if not (self.home / "before.json").exists():
            (self.home / "before.json").write_text(json.dumps(self.run(MUTANT_COMPILE="", MUTANT_ALL="")))
        before = json.loads((self.home / "before.json").read_text())
        self.passed = [test for test, outcome in before.items() if outcome == "passed"]

    def _record(self) -> None:
        trees.clear(self.home)
        shutil.copytree(tree_of(self.name), self.tree, ignore=shutil.ignore_patterns("__pycache__", ".greenline"))
        (self.home / "mutant_hooks.py").write_text(HOOKS)
        suite = json.dumps({"name": self.name, "root": ".", "command": [str(self.python), "-m", "pytest"]})
        (self.tree / "greenline.yaml").write_text(f"suites: [{suite}]\n")
        trees.git(self.tree, "add", "--all")
        trees.git(self.tree, "commit", "--quiet", "--no-verify", "--message=greenline.yaml")
        command = [str(trees.GREENLINE), "record", "--", "-q", "-p", "no:cacheprovider", "--greenline-fork"]
        command += SUITES[self.name].arguments
        done = subprocess.run(command, cwd=self.tree, env=self.environment, capture_output=True, text=True, check=False)
        if "recorded" not in done.stderr:
            sys.exit(f"{self.name} cannot be recorded:\n{done.stdout}{done.stderr}")
        print(done.stderr.strip().splitlines()[-1])

    def run(self, *tests: str, left_out: Iterable[str] = (), **variables: str) -> dict[str, str]:
        """Test → outcome; of these tests, or of all, those that are ``left_out`` first."""
        out, first = self.home / "outcomes.json", self.home / "left_out.json"
        out.unlink(missing_ok=True)
        first.write_text(json.dumps(sorted(left_out)))
        variables |= {"MUTANT_OUT": str(out), "MUTANT_LEFT_OUT": str(first)}
        arguments = ["-q", "-p", "mutant_hooks", "-p", "no:cacheprovider", "--tb=native", "--timeout=20"]
        arguments += ["--continue-on-collection-errors", *(tests or SUITES[self.name].arguments)]
        assert self.server.stdin and self.server.stdout
        self.server.stdin.write(json.dumps([arguments, variables]) + "\n")
        self.server.stdin.flush()
        self.server.stdout.readline()
        found: dict[str, str] = json.loads(out.read_text()) if out.exists() else {}  # none: pytest could not even start
        return found

    def judge(self, mutant: Mutant) -> Judged:
        started = time.monotonic()
        path = self.tree / mutant.path
        original, written = path.read_bytes(), path.stat()
        if mutant.content is None:
            path.unlink()
        else:
            path.write_bytes(mutant.content)
        try:
            request = Request(base="HEAD", base_exact=True, reasons=False)
            answer = affected(str(self.tree), request, None, trees.environment())
            selected = Selected(answer.tests)
            left_out = [test for test in self.passed if test not in selected]
            in_full = hashlib.sha1(mutant.id.encode()).digest()[0] % 4 == 0
            outcomes = self.run(left_out=left_out, **({"MUTANT_ALL": ""} if in_full else {}))
            # One that did not run could not be collected.
            failing = {test for test in self.passed if outcomes.get(test) != "passed"}
            missed = [test for test in left_out if test in failing][:20]
            missed = [test for test in missed if all(self.run(test).get(test) != "passed" for _ in "123")]
        finally:
            path.write_bytes(original)
            os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))  # what was compiled of it holds again
        missed = [test for test in missed if all(self.run(test).get(test) == "passed" for _ in "123")]
        killed = bool(missed or failing.difference(left_out))
        all_ran = outcomes.keys() >= set(self.passed)
        first = first_failure(self.passed, answer, failing) if all_ran else None
        share = 1 - len(left_out) / len(self.passed)
        return Judged(mutant.id, mutant.kind, share, killed, missed, time.monotonic() - started, first)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; default: two of them")
    parser.add_argument("--killed", type=int, default=25, metavar="N", help="killed mutants of each kind")
    parser.add_argument("--kind", action="append", help="only mutants of this kind; may be repeated")
    parser.add_argument("--python", action="append", help="measure with this interpreter; may be repeated")
    parser.add_argument("--again", action="store_true", help="use nothing of an earlier run")
    parser.add_argument(
        "--seconds", type=float, default=1e9, help="judge mutants for so long, then print what is known"
    )
    options = parser.parse_args()
    fine = True
    for name in options.suites or ["click", "jinja2"]:
        for python in pythons(options.python):
            bench = Bench(name, python, options.again)
            fine &= measure(bench, options.killed, options.kind, time.monotonic() + options.seconds)
    return 0 if fine else 1


def measure(bench: Bench, enough: int, kinds: list[str] | None, until: float) -> bool:
    by_kind: dict[str, list[Mutant]] = {}
    for mutant in mutants(bench.tree, SUITES[bench.name].source):
        by_kind.setdefault(mutant.kind, []).append(mutant)
    for candidates in by_kind.values():
        candidates.sort(key=lambda mutant: mutant.id)
        Random(0).shuffle(candidates)
    lines = bench.judged.read_text().splitlines() if bench.judged.exists() else []
    known = {each.id: each for each in (Judged(*json.loads(line)) for line in lines)}
    with bench.judged.open("a") as file:
        while time.monotonic() < until and (mutant := following(by_kind, known, enough, kinds or list(by_kind))):
            known[mutant.id] = bench.judge(mutant)
            file.write(json.dumps(known[mutant.id]) + "\n")
            file.flush()
    print(f"\n## {SUITES[bench.name].library}: {len(bench.passed)} tests pass\n")
    print("| kind of change | mutants | of these all selected | killed | missed | tests selected (mean) |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind in sorted(by_kind):
        judged = [known[mutant.id] for mutant in by_kind[kind] if mutant.id in known]
        mean = 100 * sum(each.share for each in judged) / max(1, len(judged))
        killed, missed = sum(each.killed for each in judged), sum(bool(each.missed) for each in judged)
        every = sum(each.share == 1 for each in judged)
        print(f"| {kind} | {len(judged)} of {len(by_kind[kind])} | {every} | {killed} | {missed} | {mean:.0f} % |")
    places = [each.first for each in known.values() if each.first]
    if places:
        likely, files, chance = (100 * median(each) for each in zip(*places, strict=True))
        print(f"\nfirst failing test of {len(places)} killed mutants, median place among the selected: {likely:.0f} %"
              f" as ordered, {files:.0f} % in file order, {chance:.0f} % at random")  # fmt: skip
    misses = [each for each in known.values() if each.missed]
    for each in misses:
        print(f"missed: {each.id}: {', '.join(each.missed[:5])}")
    return not misses


def following(
    by_kind: dict[str, list[Mutant]], known: dict[str, Judged], enough: int, kinds: list[str]
) -> Mutant | None:
    """The next mutant of the kind that has the fewest killed, so that all kinds are known when the time is up."""
    turns = []
    for kind in sorted(kinds):
        judged = [known[mutant.id] for mutant in by_kind[kind] if mutant.id in known]
        if sum(each.killed for each in judged) < enough and len(judged) < len(by_kind[kind]):
            turns.append((sum(each.killed for each in judged), len(judged), kind))
    return next((mutant for mutant in by_kind[min(turns)[2]] if mutant.id not in known), None) if turns else None


if __name__ == "__main__":
    sys.exit(main())
