"""Other tools that tell which tests a change affects, each behind one function: a question in, tests out.

Every tool is called in the way that is best for it and that a user could have found: it is told the merge
base, the source roots and the packages, and a tool that only draws an import graph gets the graph of the base
commit too, so that deleted files have dependents. What a tool does not know is not added: a graph has no edge
from a test to its conftest.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from configparser import ConfigParser
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "conformance"))

from suite_run import run_pytest
from table import BYSTANDER, Case, environment, files_with_tests

# What cases import: installed beside the tools that run pytest.
LIBRARIES = ("django==5.2.19", "celery==5.7.0", "alembic==1.20.1", "jinja2==3.1.6", "lazy_loader==0.6")


class PeerError(Exception):
    """The tool ended with an error instead of an answer."""


class Question(NamedTuple):
    """A case at its head, for a tool."""

    case: Case
    root: Path  # the work tree
    ref: str  # what the user compares with, such as main
    scratch: Path  # a folder for the tool's own files, kept from the base commit to the change
    bin: Path  # where the tool's programs are


class Peer(NamedTuple):
    """A tool. `ask` gives paths and node ids; `at_base` is called on the base commit."""

    name: str
    requirements: tuple[str, ...]
    how: str
    ask: Callable[[Question], set[str]]
    at_base: Callable[[Question], object] | None = None
    watches_runs: bool = False


# -- what all adapters need ----------------------------------------------------------------------------------


def run(question: Question, command: list[str], folder: Path | None = None, given: str | None = None) -> str:
    """The tool's stdout. Raises PeerError."""
    program, *arguments = command
    where = question.bin / program
    try:
        done = subprocess.run(
            [str(where) if where.exists() else program, *arguments],
            cwd=folder or question.root,
            env=environment(question.case.env),
            input=given,
            text=True,
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise PeerError(str(error)) from None
    if done.returncode:
        raise PeerError(done.stderr.strip() or done.stdout.strip())
    return done.stdout


def merge_base(question: Question) -> str:
    """The commit to compare with. Raises PeerError."""
    return run(question, ["git", "merge-base", question.ref, "HEAD"]).strip()


def changed_files(question: Question) -> set[str]:
    """Paths that differ between the merge base and the work tree. Raises PeerError."""
    tracked = run(question, ["git", "diff", "--name-only", "--no-renames", "--no-relative", "-z", merge_base(question)])
    untracked = run(question, ["git", "ls-files", "--others", "--exclude-standard", "-z"])
    return {path for path in (tracked + untracked).split("\0") if path}


def trees(question: Question) -> list[Path]:
    """The work tree, and a checkout of the merge base."""
    base = question.scratch / "base"
    if not base.exists():
        run(question, ["git", "worktree", "add", "--detach", str(base), merge_base(question)])
    return [base, question.root]


def test_paths(question: Question) -> set[str]:
    """Files with tests: those that pytest names so by default, and those of the case's own configuration."""
    named = {item.partition("::")[0] for item in (*question.case.selected, *question.case.not_selected)}
    return {path for path in files_with_tests(question.root) | named if (question.root / path).exists()}


def source_roots(question: Question, suite: str, tree: Path) -> list[str]:
    """Folders that the tests of a suite import from, relative to the root: pytest's pythonpath, those of
    installed projects, and the folders that pytest itself puts on the path for test files and conftests."""
    place, found = Path(suite), []
    toml = tree / suite / "pyproject.toml"
    if toml.exists():
        options = tomllib.loads(toml.read_text("utf-8")).get("tool", {}).get("pytest", {})
        found += options.get("ini_options", {}).get("pythonpath", [])
    for name in ("pytest.ini", "tox.ini"):
        parser = ConfigParser()
        parser.read(tree / suite / name)
        found += parser.get("pytest", "pythonpath", fallback="").split()
    roots = [(place / folder).as_posix() for folder in found]
    for project in question.case.installed:
        roots += [(Path(project) / "src").as_posix(), Path(project).as_posix()]
    for path in sorted((tree / suite).rglob("*.py")):
        if path.name == "conftest.py" or path.name.startswith("test_"):
            folder = path.parent
            while (folder / "__init__.py").exists():
                folder = folder.parent
            roots.append(folder.relative_to(tree).as_posix())
    return [root for root in dict.fromkeys(roots) if (tree / root).is_dir()]


def reachable(seeds: Iterable[str], dependents: Mapping[str, Iterable[str]]) -> set[str]:
    """The seeds and everything that depends on them."""
    found, todo = set(seeds), list(seeds)
    while todo:
        new = set(dependents.get(todo.pop(), ())) - found
        found |= new
        todo += new
    return found


def of_suite(suite: str, paths: Iterable[str]) -> set[str]:
    """Those of the paths that lie below a suite's folder."""
    return {path for path in paths if suite == "." or path.startswith(f"{suite}/")}


# -- import graphs -------------------------------------------------------------------------------------------


def ask_ruff(question: Question, *options: str) -> set[str]:
    changed, tests = changed_files(question), test_paths(question)
    answer = set()
    for suite in question.case.suites:
        dependents: dict[str, set[str]] = {}
        for tree in trees(question):
            roots = json.dumps(source_roots(question, suite, tree))
            command = ["ruff", "--quiet", "analyze", "graph", "--direction", "dependents", *options]
            graph = json.loads(run(question, [*command, "--config", f"src = {roots}"], tree))
            for path, users in graph.items():
                dependents.setdefault(path, set()).update(users)
        answer |= of_suite(suite, reachable(changed, dependents) & tests)
    return answer


# Runs where grimp is installed: {"tree": …, "roots": […], "changed": […], "cache": …} → paths of dependents.
GRIMP = """
import json, sys
from pathlib import Path
import grimp
given = json.load(sys.stdin)
tree, roots = Path(given["tree"]), [Path(root) for root in given["roots"]]
sys.path[:0] = [str(tree / root) for root in roots]
packages = sorted({path.relative_to(tree / root).parts[0]
                   for root in roots for path in (tree / root).glob("*/**/*.py")})
graph = grimp.build_graph(*packages, exclude_type_checking_imports=True, cache_dir=given["cache"])
files = {}
for module in graph.modules:
    for root in roots:
        for end in (".py", "/__init__.py"):
            path = root / (module.replace(".", "/") + end)
            if (tree / path).exists():
                files.setdefault(module, path.as_posix())
modules = {path: module for module, path in files.items()}
found = {files[user] for path in given["changed"] if path in modules
         for user in graph.find_downstream_modules(modules[path]) if user in files}
json.dump(sorted(found), sys.stdout)
"""


def ask_grimp(question: Question) -> set[str]:
    changed, tests = changed_files(question), test_paths(question)
    answer = changed & tests
    cache = str(question.scratch / "grimp_cache") if question.case.warm else None
    for suite in question.case.suites:
        for tree in trees(question):
            roots = dict.fromkeys([suite, *source_roots(question, suite, tree)])
            given = {"tree": str(tree), "roots": list(roots), "changed": sorted(changed)}
            found = json.loads(run(question, ["python", "-c", GRIMP], tree, json.dumps(given | {"cache": cache})))
            answer |= of_suite(suite, set(found) & tests)
    return answer


def ask_snob(question: Question) -> set[str]:
    changed = changed_files(question)
    program = "import json, sys, snob_lib; print(json.dumps(snob_lib.get_tests(json.load(sys.stdin))))"
    found = json.loads(run(question, ["python", "-c", program], given=json.dumps(sorted(changed))).splitlines()[-1])
    affected = {Path(path).relative_to(question.root).as_posix() for path in found} | changed
    return affected & test_paths(question)


# -- pytest plugins ------------------------------------------------------------------------------------------


def collected(question: Question, *options: str, suites: Sequence[str] = ()) -> set[str]:
    """The tests that pytest keeps, and files that it cannot collect. Raises PeerError if pytest gives up."""
    run = run_pytest(question.case, question.root, str(question.bin / "python"), options, suites)
    if not {0, 1, 2, 5}.issuperset(run.codes):
        raise PeerError(f"pytest ended with exit codes {run.codes}")
    return run.selected


def ask_tach(question: Question, declare_modules: bool) -> set[str]:
    roots = {root for suite in question.case.suites for root in source_roots(question, suite, question.root)}
    lines = [
        f"source_roots = {json.dumps(sorted(roots))}",
        "include_string_imports = true",
        "exclude = []",
    ]
    if declare_modules:
        files = [(root, path) for root in roots for path in (question.root / root).rglob("*.py")]
        paths = [path.relative_to(question.root / root).with_suffix("") for root, path in files]
        names = {".".join(path.parts).removesuffix("__init__").removesuffix(".") for path in paths}
        lines += [f"[[modules]]\npath = {json.dumps(name)}\ndepends_on = []" for name in sorted(names - {""})]
    exclude = question.root / run(question, ["git", "rev-parse", "--git-path", "info/exclude"]).strip()
    exclude.parent.mkdir(exist_ok=True)
    exclude.write_text("tach.toml\n")
    (question.root / "tach.toml").write_text("\n".join(lines))
    if declare_modules:
        run(question, ["tach", "sync"])
    return collected(question, "--collect-only", f"--tach-base={merge_base(question)}")


def ask_impacted(question: Question) -> set[str]:
    answer = set()
    tests = test_paths(question)
    uncommitted = run(question, ["git", "status", "--porcelain"])
    modes = [["--impacted-git-mode=branch", f"--impacted-base-branch={question.ref}"]]
    modes += [["--impacted-git-mode=unstaged"]] if uncommitted else []
    for suite in question.case.suites:
        folder = question.root / suite
        own = of_suite(suite, tests)
        test_folders = {Path(path).relative_to(suite).parts[0] for path in own - {BYSTANDER} if "/" in path}
        packages = {
            path.relative_to(folder).as_posix()
            for root in source_roots(question, suite, question.root)
            if (question.root / root).is_relative_to(folder)
            for path in (question.root / root).iterdir()
            if path.is_dir() and any(path.rglob("*.py"))
        }
        for package in sorted(packages - test_folders) or sorted(test_folders):
            for tests_dir in sorted(test_folders):
                for mode in modes:
                    answer |= collected(
                        question,
                        "--collect-only",
                        "--impacted",
                        f"--impacted-module={package}",
                        f"--impacted-tests-dir={tests_dir}",
                        "--impacted-conftest-imports",
                        *mode,
                        suites=[suite],
                    )
    return answer


def record_testmon(question: Question) -> None:
    collected(question, "--testmon")
    for suite in question.case.suites:
        data = question.root / suite / ".testmondata"
        if data.exists():
            (question.scratch / f"testmon-{suite.replace('/', '-')}").write_bytes(data.read_bytes())


def ask_testmon(question: Question) -> set[str]:
    for suite in question.case.suites:
        data = question.scratch / f"testmon-{suite.replace('/', '-')}"
        if data.exists():
            (question.root / suite / ".testmondata").write_bytes(data.read_bytes())
    return collected(question, "--testmon", "--collect-only")


PEERS = (
    Peer(
        "ruff",
        ("ruff==0.17.6",),
        "`ruff analyze graph --direction dependents --no-type-checking-imports`, `src` = the source roots; "
        "changed files → dependents in the graphs of both commits → test files",
        lambda question: ask_ruff(question, "--no-type-checking-imports"),
    ),
    Peer(
        "ruff, strings",
        ("ruff==0.17.6",),
        "the same with `--detect-string-imports --min-dots 1`",
        lambda question: ask_ruff(question, "--no-type-checking-imports", "--detect-string-imports", "--min-dots", "1"),
    ),
    Peer(
        "grimp",
        ("grimp==3.19",),
        "`build_graph` of all top-level packages, `find_downstream_modules` of changed modules, both commits",
        ask_grimp,
        lambda question: ask_grimp(question) if question.case.warm else None,
    ),
    Peer("snob", ("snob_lib==0.1.0",), "`snob_lib.get_tests(changed files)`", ask_snob),
    Peer(
        "tach",
        ("tach==0.35.3", "pytest==9.2.0", *LIBRARIES),
        "`pytest --tach-base=MERGE_BASE --collect-only`, in tach.toml the source roots, "
        "`include_string_imports = true` and `exclude = []`",
        lambda question: ask_tach(question, declare_modules=False),
    ),
    Peer(
        "tach, modules",
        ("tach==0.35.3", "pytest==9.2.0", *LIBRARIES),
        "the same with every module declared in tach.toml, then `tach sync`",
        lambda question: ask_tach(question, declare_modules=True),
    ),
    Peer(
        "impacted",
        ("pytest-impacted==0.36.0", "pytest==9.2.0", *LIBRARIES),
        "`pytest --impacted --impacted-git-mode=branch --impacted-base-branch=REF "
        "--impacted-conftest-imports`, once for each package as `--impacted-module` and each folder as "
        "`--impacted-tests-dir`, again with `--impacted-git-mode=unstaged` where something is not committed; "
        "all answers united",
        ask_impacted,
    ),
    Peer(
        "testmon",
        ("pytest-testmon==2.2.0", "pytest==9.2.0", *LIBRARIES),
        "`pytest --testmon` on the base commit, then `pytest --testmon --collect-only` on the change",
        ask_testmon,
        record_testmon,
        watches_runs=True,
    ),
)
