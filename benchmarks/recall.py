"""Recall and precision of `greenline affected` on real suites, against what coverage saw and against an import graph.

    make bench-recall [ARGS="werkzeug"]

Truth: every test file runs alone under coverage.py, so that imports and collection count for each of them. A function
was used by a test file when a line of its body ran in that process or in one that it started. Then each function that a
test file other than its own used is edited (`_greenline_probe = None` becomes its first statement), `greenline affected`
is asked, and the file is restored. What has run is kept below build/; delete that folder to start again.

- recall: of the pairs (edited function, other test file that used it), the share that was selected. Where only single
  tests of a file are selected, all of its tests that ran the function must be among them.
- precision: the selected files of all edits together, compared with those that used the function, and with those that
  `ruff analyze graph` reaches when each test file and conftest.py also depends on every conftest.py above it.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
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

# Every line that runs belongs to a context: the test that runs, or nothing outside of tests. A process that a test
# starts learns the test from the environment.
RECORDER = """
import os, pytest

@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    from coverage import Coverage
    os.environ["TEST_THAT_RUNS"] = item.nodeid
    Coverage.current().switch_context(item.nodeid)
    yield
    Coverage.current().switch_context("")
    os.environ["TEST_THAT_RUNS"] = ""
"""
SETTINGS = """
[run]
core = ctrace
parallel = true
patch = subprocess, fork, _exit
concurrency = thread, multiprocessing
sigterm = true
context = ${TEST_THAT_RUNS-}
source = %s
data_file = %s
"""


class Function(NamedTuple):
    """A function of the tree; ``line`` and ``column`` tell where a statement can be put in front of its code."""

    path: str
    name: str
    line: int
    column: int


Uses = Mapping[Function, Mapping[str, set[str]]]
"""function → test file → ids of its tests that ran a line of the body ("" for imports and collection)."""
Answer = Mapping[str, tuple[str, ...] | None]
"""Selected test file → the selected tests in it, or None for all."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; default: all")
    options = parser.parse_args()
    fine = [measure(name, SUITES[name]) for name in options.suites or SUITES]
    return 0 if all(fine) else 1


def measure(name: str, suite: Suite) -> bool:
    """Measure with one suite and print what came of it. False when a goal does not hold."""
    home = trees.BUILD / "recall" / name
    tree = home / "tree"
    if not tree.exists():
        trees.source_distribution(suite.library, tree)
    statuses = record(suite, tree, trees.programs(name, [COVERAGE, suite.library, *suite.needs]), home)
    uses = used_functions(tree, list(statuses), home / "coverage")
    print(f"\n## {suite.library}: {len(statuses)} test files, {len(uses)} functions that others' tests ran\n")
    if failed := sorted(path for path, status in statuses.items() if status):
        print(f"pytest did not end with 0 for {', '.join(failed)}: what ran counts.\n", flush=True)
    start = time.monotonic()
    ours = dict(answers(tree, uses))
    print(f"{(time.monotonic() - start) / len(uses):.3f} s an answer\n")
    ruff = dependents_by_ruff(tree)
    with_conftests = with_conftest_edges(ruff, tree)
    return report(
        uses,
        list(statuses),
        {
            "greenline": ours,
            "ruff + conftest": {function: reach(with_conftests, function.path, statuses) for function in uses},
            "ruff": {function: reach(ruff, function.path, statuses) for function in uses},
        },
    )


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

    def python(*options: str) -> subprocess.CompletedProcess[str]:
        command = [programs / "python", *options]
        return subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )

    pytest = ("-m", "pytest", "-q", "-o", f"cache_dir={home / 'pytest_cache'}", "-p", "recorder_of_tests")

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
    trees.git(tree, "clean", "-dffxq", "--exclude=.greenline")  # what the tests left behind
    return statuses


def used_functions(tree: Path, test_files: Iterable[str], data: Path) -> Uses:
    """The functions that a test file other than their own used."""
    owners: dict[str, dict[int, Function]] = {}
    uses: dict[Function, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for test_file in test_files:
        for database in (data / test_file).glob("data.*"):
            for path, context, lines in executed_lines(database):
                name = os.path.relpath(path, tree)
                if name == test_file or name.startswith("..") or not path.endswith(".py"):
                    continue
                if name not in owners:
                    owners[name] = functions_by_line(name, Path(path).read_bytes())
                for function in {owners[name][line] for line in lines if line in owners[name]}:
                    uses[function][test_file].add(context)
    return dict(sorted(uses.items()))


def executed_lines(database: Path) -> Iterator[tuple[str, str, list[int]]]:
    """(file, test or "", lines that ran) from a file of coverage.py. The tables are documented: "dbschema"."""
    query = "select path, context, numbits from line_bits join file on file_id = file.id join context on context_id = context.id"
    connection = sqlite3.connect(database)
    try:
        for path, context, bits in connection.execute(query):
            lines = [8 * at + bit for at, byte in enumerate(bits) for bit in range(8) if byte >> bit & 1]
            yield path, context.strip("|").partition("|")[0], lines
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
                # Neither a function on one line nor one without code is edited.
                if body and body[0].lineno > child.lineno:
                    first = min([body[0].lineno, *(each.lineno for each in getattr(body[0], "decorator_list", ()))])
                    function = Function(path, name, first, body[0].col_offset)
                    found.update(dict.fromkeys(range(first, body[-1].end_lineno + 1), function))
            visit(child, name)

    visit(ast.parse(source), "")
    return found


# -- answers -------------------------------------------------------------------------------------------------


def answers(tree: Path, functions: Iterable[Function]) -> Iterator[tuple[Function, Answer]]:
    """Edit each function, ask Greenline what is affected, and undo the edit."""
    for function in functions:
        path = tree / function.path
        source = path.read_bytes()
        path.write_bytes(edited(source, function))
        try:
            answer = affected(str(tree), Request(base="HEAD", reasons=False), environment=trees.environment())
        finally:
            path.write_bytes(source)
        yield function, {test.path: test.node_ids for test in answer.tests}


def edited(source: bytes, function: Function) -> bytes:
    lines = source.splitlines(keepends=True)
    indentation = lines[function.line - 1][: function.column]
    lines.insert(function.line - 1, indentation + b"_greenline_probe = None\n")
    changed = b"".join(lines)
    ast.parse(changed)
    return changed


def dependents_by_ruff(tree: Path) -> dict[str, list[str]]:
    """file → files that import it, of the unchanged tree."""
    ruff = trees.programs("ruff", [RUFF]) / "ruff"
    command = [ruff, "analyze", "graph", "--isolated", "--quiet", "--direction", "dependents"]
    graph: dict[str, list[str]] = json.loads(subprocess.run(command, cwd=tree, check=True, stdout=subprocess.PIPE).stdout)
    return graph


def with_conftest_edges(graph: Mapping[str, list[str]], tree: Path) -> dict[str, list[str]]:
    """The graph, and from each conftest.py to what lies below it: pytest loads it for every test there."""
    found = {path: list(dependents) for path, dependents in graph.items()}
    for conftest in tree.rglob("conftest.py"):
        below = [path.relative_to(tree).as_posix() for path in conftest.parent.rglob("*.py")]
        found.setdefault(conftest.relative_to(tree).as_posix(), []).extend(below)
    return found


def reach(graph: Mapping[str, list[str]], path: str, test_files: Iterable[str]) -> Answer:
    """The test files that depend on a file, as an answer."""
    seen, front = {path}, [path]
    while front:
        new = set(graph.get(front.pop(), ())) - seen
        seen |= new
        front += new
    return {test_file: None for test_file in test_files if test_file in seen}


# -- what came of it -----------------------------------------------------------------------------------------


def report(uses: Uses, test_files: list[str], tools: Mapping[str, Mapping[Function, Answer]]) -> bool:
    """Print the tables. False when Greenline misses a pair, or selects more than ruff with conftest edges does."""
    pairs = [(function, test_file) for function, files in uses.items() for test_file in files]
    at_import = {function for function, files in uses.items() if set().union(*files.values()) == {""}}
    others = set(test_files)
    print("| tool | pairs | missed | recall | functions that only run at import: missed | selected | selected ÷ used | median |")
    print("| - | - | - | - | - | - | - | - |")
    used = sum(len(files) for files in uses.values())
    misses = {}
    totals = {}
    for tool, given in tools.items():
        missed = [pair for pair in pairs if not is_covered(given[pair[0]], pair[1], uses[pair[0]][pair[1]])]
        sizes = [len(others.intersection(given[function]) - {function.path}) for function in uses]
        misses[tool], totals[tool] = missed, sum(sizes)
        early = [pair for pair in missed if pair[0] in at_import]
        print(
            f"| {tool} | {len(pairs):,} | {len(missed):,} | {1 - len(missed) / len(pairs):.2%} "
            f"| {len(early)} of {sum(len(uses[function]) for function in at_import)} "
            f"| {sum(sizes):,} | {sum(sizes) / used:.2f} | {median(sizes):.0f} of {len(test_files)} |"
        )
    print(f"| what ran | {used:,} | | | | {used:,} | 1.00 | {median(map(len, uses.values())):.0f} of {len(test_files)} |\n")
    for function, test_file in misses["greenline"]:
        print(f"missed: {function.path} {function.name}: {test_file} {sorted(uses[function][test_file])[:3]}")
    fine = not misses["greenline"]
    frugal = totals["greenline"] <= totals["ruff + conftest"]
    print(f"goal: no pair is missed: {'holds' if fine else 'MISSED'}")
    print(f"goal: no more is selected than by ruff + conftest: {'holds' if frugal else 'MISSED'}", flush=True)
    return fine and frugal


def is_covered(answer: Answer, test_file: str, tests: set[str]) -> bool:
    """Whether an answer holds the tests of a file that ran a function."""
    if test_file not in answer:
        return False
    chosen: Callable[[str], bool] = set(answer[test_file] or ()).__contains__
    return answer[test_file] is None or all(chosen(test.partition("::")[2].partition("[")[0]) for test in tests)


if __name__ == "__main__":
    sys.exit(main())
