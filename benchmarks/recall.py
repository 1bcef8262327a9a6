"""Recall and precision of `greenline affected` on real suites, against what coverage saw and against ruff's graph.

    make bench-recall [ARGS="werkzeug"]

Truth: every test file runs alone under coverage.py, so that imports and collection count for each of them. A
function was used by a test file when a line of its body ran in that process, or in one that it started. Then each
function that a test file other than its own used is edited (`_greenline_probe = None` becomes its first statement),
`greenline affected` is asked, and the file is restored. What has run is kept below build/: delete that folder to
run it again.

- recall: of the pairs (edited function, other test file that used it), the share that was selected. Where only
  single tests of a file are selected, all of its tests that ran the function must be among them.
- precision: the selected files of all edits together, compared with the files that used the function, and with
  those that `ruff analyze graph` reaches: as it is; with an edge from each conftest.py to what lies below it, since
  pytest loads it for every test there; and with such an edge from each `__init__.py` as well, since Python runs it
  before any module below it.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from statistics import median
from typing import NamedTuple

import trees

from greenline.ci.affected import Request, affected

RUFF = "ruff==0.17.6"
COVERAGE = "coverage==7.10.7"
LIMIT = 900  # seconds that a test file may take


class Suite(NamedTuple):
    """A library whose source distribution holds its tests, which run offline.

    ``needs``: what the tests import; ``source``: the folder that goes on sys.path; ``tests``: what pytest is given.
    """

    library: str
    needs: tuple[str, ...]
    source: str
    tests: str


# Named before anything was measured: a small library with packages below packages, whose root package imports most
# of it and whose tests start servers; and a large one that finds classes and plugins by strings.
SUITES = {
    "werkzeug": Suite(
        "werkzeug==3.0.6",
        ("pytest==8.3.5", "pytest-timeout==2.3.1", "pytest-xprocess==0.23.0", "ephemeral-port-reserve==1.1.4",
         "cryptography==44.0.2", "watchdog==6.0.0"),
        "src",
        "tests",
    ),
    "celery": Suite(
        "celery==5.4.0",
        ("pytest==8.3.5", "pytest-celery==0.0.0", "pytest-subtests==0.13.1", "pytest-timeout==2.3.1",
         "pytest-click==1.1.0", "pytest-order==1.3.0", "kombu==5.4.2", "redis==5.2.1", "msgpack==1.1.0",
         "PyYAML==6.0.2", "SQLAlchemy==2.0.40", "cryptography==44.0.2", "pymongo==4.11.3", "tblib==3.1.0",
         "boto3==1.37.23", "moto==4.2.14"),
        ".",
        "t/unit",
    ),
}  # fmt: skip

# Every line that runs belongs to a context: the test that runs, or "" outside of tests and in other processes.
RECORDER = """
import pytest

@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    from coverage import Coverage
    Coverage.current().switch_context(item.nodeid)
    yield
    Coverage.current().switch_context("")
"""
SETTINGS = """
[run]
core = ctrace
parallel = true
patch = subprocess, fork, _exit
concurrency = thread, multiprocessing
sigterm = true
source = %s
data_file = %s
"""


class Function(NamedTuple):
    """A function of the tree; a statement can be put at ``line`` and ``column``, in front of its code."""

    path: str
    name: str
    line: int
    column: int


Uses = Mapping[Function, Mapping[str, set[str]]]
"""function → test file → ids of its tests that ran a line of the body; "" for imports, collection, processes."""
Answer = Mapping[str, tuple[str, ...] | None]
"""Selected test file → the selected tests in it, or None for all."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; default: all")
    parser.add_argument(
        "--sample", type=int, metavar="N", help="N functions a suite, chosen by a fixed seed; default: all"
    )
    options = parser.parse_args()
    fine = [measure(name, SUITES[name], options.sample) for name in options.suites or SUITES]
    return 0 if all(fine) else 1


def measure(name: str, suite: Suite, sample: int | None) -> bool:
    """Measure with one suite and print what came of it. False when a goal does not hold."""
    home = trees.BUILD / "recall" / name
    tree = home / "tree"
    if not tree.exists():
        trees.source_distribution(suite.library, tree)
    statuses = record(suite, tree, trees.programs(name, [COVERAGE, suite.library, *suite.needs]), home)
    uses = used_functions(tree, list(statuses), home / "coverage")
    if sample and sample < len(uses):
        chosen = sorted(Random(0).sample(list(uses), sample))
        uses = {function: uses[function] for function in chosen}
    print(f"\n## {suite.library}: {len(statuses)} test files, {len(uses)} functions\n")
    if failed := sorted(path for path, status in statuses.items() if status):
        print(f"pytest did not end with 0 for {', '.join(failed)}: what ran counts.\n", flush=True)
    shutil.rmtree(tree / ".greenline", ignore_errors=True)
    start = time.monotonic()
    ours = dict(answers(tree, uses))
    print(f"{1000 * (time.monotonic() - start) / len(uses):.0f} ms an answer\n")
    graph = dependents_by_ruff(tree)
    graphs = {"ruff": graph}
    graphs["ruff + conftest"] = graph = with_edges_down(graph, tree, "conftest.py")
    graphs["ruff + conftest + packages"] = with_edges_down(graph, tree, "__init__.py")
    reached = {
        tool: {function: reach(graph, function.path, statuses) for function in uses} for tool, graph in graphs.items()
    }
    return report(uses, list(statuses), {"greenline": ours, **reached})


# -- truth ---------------------------------------------------------------------------------------------------


def record(suite: Suite, tree: Path, programs: Path, home: Path) -> dict[str, int]:
    """Run every test file of a suite alone, under coverage: test file → exit code of pytest."""
    plugin = home / "plugin"
    plugin.mkdir(exist_ok=True)
    (plugin / "recorder_of_tests.py").write_text(RECORDER)
    environment = trees.environment() | {
        "PYTHONPATH": f"{plugin}{os.pathsep}{tree / suite.source}",
        "PYTHONPYCACHEPREFIX": str(home / "pycache"),
        "PYTHONHASHSEED": "0",
    }
    pytest = ("-m", "pytest", "-q", "-o", f"cache_dir={home / 'pytest_cache'}", "-p", "recorder_of_tests")

    def python(*options: str) -> subprocess.CompletedProcess[str]:
        command = [str(programs / "python"), *options]
        return subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )

    def run(path: str) -> int:
        folder = home / "coverage" / path
        status = folder / "status"
        if not status.exists():
            folder.mkdir(parents=True, exist_ok=True)
            settings = folder / "settings"
            settings.write_text(SETTINGS % (tree, folder / "data"))
            done = python("-m", "coverage", "run", f"--rcfile={settings}", *pytest, path)
            (folder / "output").write_text(done.stdout + done.stderr)
            status.write_text(str(done.returncode))
        return int(status.read_text())

    collected = python(*pytest, "--collect-only", suite.tests)
    paths = sorted({line.partition("::")[0] for line in collected.stdout.splitlines() if "::" in line})
    if not paths:
        sys.exit(f"pytest collects nothing:\n{collected.stdout}{collected.stderr}")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        statuses = dict(zip(paths, pool.map(run, paths), strict=True))
    trees.git(tree, "clean", "-dffxq")  # what the tests left behind
    return statuses


def used_functions(tree: Path, test_files: Iterable[str], data: Path) -> Uses:
    """The functions that a test file other than their own used."""
    tracked = trees.git(tree, "ls-files", "*.py").splitlines()
    owners = {path: functions_by_line(path, (tree / path).read_bytes()) for path in tracked}
    uses: dict[Function, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for test_file in test_files:
        for database in (data / test_file).glob("data.*"):
            for path, context, lines in executed_lines(database):
                name = os.path.relpath(path, tree)
                owner = owners.get(name, {}) if name != test_file else {}
                for function in {owner[line] for line in lines if line in owner}:
                    uses[function][test_file].add(context)
    return dict(sorted(uses.items()))


def executed_lines(database: Path) -> Iterator[tuple[str, str, list[int]]]:
    """(file, context, lines that ran) from a file of coverage.py, whose tables are documented ("dbschema")."""
    connection = sqlite3.connect(database)
    try:
        rows = connection.execute(
            "select path, context, numbits from line_bits"
            " join file on file_id = file.id join context on context_id = context.id"
        )
        for path, context, bits in rows:
            yield path, context, [8 * at + bit for at, byte in enumerate(bits) for bit in range(8) if byte >> bit & 1]
    finally:
        connection.close()


def functions_by_line(path: str, source: bytes) -> dict[int, Function]:
    """The innermost function whose body holds a line, for lines that only run when that body runs."""
    found: dict[int, Function] = {}

    def visit(node: ast.AST, outer: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = outer
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{outer}.{child.name}".lstrip(".")
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                body = child.body[1:] if ast.get_docstring(child, clean=False) is not None else child.body
                # Neither a function on one line nor one that is nothing but its docstring is edited.
                if body and body[0].lineno > child.lineno:
                    decorators = getattr(body[0], "decorator_list", [])
                    first = min(each.lineno for each in (body[0], *decorators))
                    function = Function(path, name, first, body[0].col_offset)
                    found.update(dict.fromkeys(range(first, (child.end_lineno or first) + 1), function))
            visit(child, name)

    visit(ast.parse(source), "")
    return found


# -- answers -------------------------------------------------------------------------------------------------


def answers(tree: Path, functions: Iterable[Function]) -> Iterator[tuple[Function, Answer]]:
    """Edit each function, ask Greenline what is affected, and undo the edit."""
    request = Request(base="HEAD", reasons=False)
    for function in functions:
        path = tree / function.path
        source = path.read_bytes()
        path.write_bytes(edited(source, function))
        try:
            answer = affected(str(tree), request, environment=trees.environment())
        finally:
            path.write_bytes(source)
        yield function, {test.path: test.node_ids for test in answer.tests}


def edited(source: bytes, function: Function) -> bytes:
    """The source with one more statement in a function. Raises SyntaxError should that not be Python."""
    lines = source.splitlines(keepends=True)
    indentation = lines[function.line - 1][: function.column]
    lines.insert(function.line - 1, indentation + b"_greenline_probe = None\n")
    changed = b"".join(lines)
    ast.parse(changed)
    return changed


def dependents_by_ruff(tree: Path) -> dict[str, list[str]]:
    """file → files that import it, of the unchanged tree."""
    ruff = trees.programs("ruff", [RUFF]) / "ruff"
    command = [str(ruff), "analyze", "graph", "--isolated", "--quiet", "--direction", "dependents"]
    printed = subprocess.run(command, cwd=tree, check=True, stdout=subprocess.PIPE).stdout
    graph: dict[str, list[str]] = json.loads(printed)
    return graph


def with_edges_down(graph: Mapping[str, list[str]], tree: Path, name: str) -> dict[str, list[str]]:
    """The graph, with every file below a file of this name as its dependent."""
    found = {path: list(dependents) for path, dependents in graph.items()}
    for upper in tree.rglob(name):
        below = [path.relative_to(tree).as_posix() for path in upper.parent.rglob("*.py")]
        found.setdefault(upper.relative_to(tree).as_posix(), []).extend(below)
    return found


def reach(graph: Mapping[str, list[str]], path: str, test_files: Iterable[str]) -> Answer:
    """The test files that depend on a file."""
    seen, front = {path}, [path]
    while front:
        new = set(graph.get(front.pop(), ())) - seen
        seen |= new
        front += new
    return {test_file: None for test_file in test_files if test_file in seen}


# -- what came of it -----------------------------------------------------------------------------------------


def report(uses: Uses, test_files: Collection[str], tools: Mapping[str, Mapping[Function, Answer]]) -> bool:
    """Print the tables. False when Greenline misses a pair, or selects more than ruff with conftest edges does."""
    pairs = [(function, test_file) for function, files in uses.items() for test_file in files]
    outside = {function for function, files in uses.items() if set().union(*files.values()) == {""}}
    of_outside = sum(function in outside for function, _ in pairs)
    head = ["tool", "missed pairs", "recall", "missed, functions that no test ran itself", "selected"]
    print(row([*head, "selected ÷ used", "median selected"]), row(["-"] * 7), sep="\n")
    misses, totals = {}, {}
    for tool, given in tools.items():
        missed = [pair for pair in pairs if not is_covered(given[pair[0]], pair[1], uses[pair[0]][pair[1]])]
        sizes = [len(given[function].keys() & set(test_files) - {function.path}) for function in uses]
        misses[tool], totals[tool] = missed, sum(sizes)
        cells = [tool, f"{len(missed):,} of {len(pairs):,}", f"{1 - len(missed) / len(pairs):.2%}"]
        cells += [f"{sum(function in outside for function, _ in missed)} of {of_outside:,}", f"{sum(sizes):,}"]
        print(row([*cells, f"{sum(sizes) / len(pairs):.2f}", f"{median(sizes):g} of {len(test_files)}"]))
    used = [len(files) for files in uses.values()]
    print(
        row(["what ran", "", "", "", f"{len(pairs):,}", "1.00", f"{median(used):g} of {len(test_files)}"]), end="\n\n"
    )
    for function, test_file in misses["greenline"]:
        tests = ", ".join(sorted(uses[function][test_file])[:3]) or "imports, collection or another process"
        print(f"- missed: {test_file} when {function.name} of {function.path} changes; run by {tests}")
    complete = not misses["greenline"]
    frugal = totals["greenline"] <= totals["ruff + conftest"]
    print(f"goal: no pair is missed: {'holds' if complete else 'MISSED'}")
    print(f"goal: no more is selected than by ruff + conftest: {'holds' if frugal else 'MISSED'}", flush=True)
    return complete and frugal


def is_covered(answer: Answer, test_file: str, tests: set[str]) -> bool:
    """Whether an answer holds the tests of a file that ran a function."""
    chosen = answer.get(test_file, ())
    return chosen is None or {test.partition("::")[2].partition("[")[0] for test in tests} <= set(chosen)


def row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
