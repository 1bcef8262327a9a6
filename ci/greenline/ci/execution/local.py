"""Run a selection on this machine: one pytest for each suite, in its root and with its own interpreter."""

from __future__ import annotations

import functools
import os
import posixpath
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from greenline.ci.affected import Answer, Test
from greenline.depgraph.config import Config
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.suites import find_suites, is_config_name

NOTHING_COLLECTED = 5


class Run(NamedTuple):
    """One call of pytest. ``ids``: what it is to run, relative to ``folder``; () for the whole suite."""

    suite: str
    folder: str  # absolute
    command: tuple[str, ...]  # what starts pytest
    options: tuple[str, ...]
    ids: tuple[str, ...]
    files: int  # test files that were selected


def runs_of(
    answer: Answer,
    config: Config,
    options: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
) -> list[Run]:
    """The calls of pytest that run an answer, by suite; ``options`` are for each of them.

    Raises GreenlineError for a suite without a pytest.
    """
    commands = {suite.name: suite.command for suite in config.suites if suite.command}
    tests: dict[str, list[Test]] = {}
    if not answer.total:  # no test file is known: pytest may know better
        tests = {suite: [] for suite in answer.suite_roots}
    for test in answer.tests:
        tests.setdefault(test.suite, []).append(test)
    runs = []
    for suite, selected in sorted(tests.items()):
        root = answer.suite_roots.get(suite, "")
        command = commands.get(suite) or (_python(answer.root, root, environment), "-m", "pytest")
        own_options, ids = _narrow(answer, root, selected)
        folder = os.path.join(answer.root, root)
        runs.append(Run(suite, folder, command, (*own_options, *options), ids, len(selected)))
    return runs


def _narrow(answer: Answer, root: str, tests: list[Test]) -> tuple[list[str], tuple[str, ...]]:
    """The options and ids with which pytest runs these tests of the suite in ``root``."""
    below = f"{root}/" if root else ""
    deeper = sorted(
        {other for other in answer.suite_roots.values() if other != root and other.startswith(below)}
    )
    own = not any(test.path.startswith(f"{other}/") for other in deeper for test in tests)
    nameable = not any(
        "[" in test.path or "::" in test.path for test in tests
    )  # pytest would read ids in them
    if not nameable or (own and (answer.everything or not tests)):
        # Without ids pytest also runs what no answer names, such as generated tests.
        return [f"--ignore={_relative(other, root)}" for other in deeper if own], ()
    ids = [
        f"{_relative(test.path, root)}::{each}" if each else _relative(test.path, root)
        for test in tests
        for each in test.node_ids or ("",)
    ]
    return _configuration(answer.root, root), tuple(f"./{each}" if each[0] in "-@" else each for each in ids)


def _configuration(top: str, root: str) -> list[str]:
    """Options that keep pytest where it is without ids; by ids it would look for its configuration below."""
    for folder in (*_up(root), ""):
        contents = {}
        for name in filter(is_config_name, os.listdir(os.path.join(top, folder))):
            with open(os.path.join(top, folder, name), "rb") as file:
                contents[name] = file.read()
        found = next(suite.config for suite in find_suites(contents) if not suite.root)
        if found:
            file_path = _relative(posixpath.join(folder, found), root)
            return ["-c", file_path, f"--rootdir={_relative(folder, root)}"]
    return ["--rootdir=."]


def _relative(path: str, root: str) -> str:
    return posixpath.relpath(path or ".", root or ".")


def _up(folder: str) -> Iterator[str]:
    """This folder and those above it, without "", the top."""
    while folder:
        yield folder
        folder = posixpath.dirname(folder)


# -- interpreters --------------------------------------------------------------------------------------------


def _python(top: str, root: str, environment: Mapping[str, str]) -> str:
    """The first with pytest: of the suite's .venv, the active environment, the repository, our own."""
    homes = [os.path.join(top, folder, ".venv") for folder in _up(root)]
    homes += [environment.get("VIRTUAL_ENV", ""), os.path.join(top, ".venv")]
    places = [os.path.join(home, *where) for home in homes if home for where in _PYTHONS]
    pythons = [*filter(os.path.exists, places), sys.executable]
    for python in pythons:
        if _has_pytest(python):
            return python
    raise GreenlineError(
        f"there is no pytest in {', '.join(pythons)}",
        "install it there, or name what starts it: suites[].command in greenline.yaml",
    )


_PYTHONS = (("bin", "python"), ("Scripts", "python.exe"))


@functools.cache
def _has_pytest(python: str) -> bool:
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('pytest') is None)"
    try:
        return subprocess.run([python, "-c", code], stderr=subprocess.DEVNULL, check=False).returncode == 0
    except OSError:
        return False


# -- processes -----------------------------------------------------------------------------------------------


def execute(run: Run) -> int:
    """pytest's exit code, or 128 + N where signal N ended it. pytest writes to our stdout and stderr."""
    call = [*run.command, *run.options]
    with tempfile.TemporaryDirectory(prefix="greenline-") as folder:
        if _is_short([*call, *run.ids]):
            call += run.ids
        elif _reads_argument_files(run):
            path = os.path.join(folder, "tests.args")
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.writelines(f"{each}\n" for each in run.ids)
            call.append(f"@{path}")
        # Else there is no way to name them all: the whole suite runs.
        try:
            process = subprocess.Popen(call, cwd=run.folder)
        except OSError as error:
            raise GreenlineError(
                f"suite {run.suite}: cannot start {run.command[0]}: {error.strerror}",
                "see suites[].command in greenline.yaml",
            ) from None
        try:
            code = process.wait()
        except KeyboardInterrupt:  # pytest got it too, and has its report to write
            process.wait()
            raise
    return code if code >= 0 else 128 - code


def _is_short(call: list[str]) -> bool:
    """Does a command line take this, beside the environment?"""
    most = os.sysconf("SC_ARG_MAX") // 2 if hasattr(os, "sysconf") else 30_000
    return sum(len(os.fsencode(each)) + 9 for each in call) < most


def _reads_argument_files(run: Run) -> bool:
    """``pytest @FILE`` came with pytest 8.2."""
    asked = subprocess.run(
        [*run.command, "--version"], cwd=run.folder, capture_output=True, text=True, check=False
    )
    version = re.search(r"pytest (?:version )?(\d+)\.(\d+)", asked.stdout + asked.stderr)
    return version is not None and (int(version[1]), int(version[2])) >= (8, 2)


def worst(codes: Iterable[int]) -> int:
    """One exit code for several runs: 1 where tests failed, else the first that is not 0."""
    codes = list(codes)
    return 1 if 1 in codes else next((code for code in codes if code), 0)


# Options of pytest, pytest-xdist and pytest-cov that leave every test in; the second kind takes a value.
_SWITCHES = re.compile(
    r"-[qvslx]+|-r\w+|-n\w+"
    r"|--(?:quiet|verbose|exitfirst|showlocals|no-header|no-summary|full-trace|strict-\w+|cov\S*)"
)
_VALUED = re.compile(
    r"-n|-r|--(?:numprocesses|dist|tb|color|maxfail|durations|durations-min|capture|show-capture|junit-?xml"
    r"|verbosity)"
)


def keep_all(options: Sequence[str]) -> bool:
    """Do these options of pytest leave every test in? One that is not known may well not."""
    words = iter(options)
    for word in words:
        name, given, _ = word.partition("=")
        if _VALUED.fullmatch(name):
            if not given:
                next(words, None)
        elif not _SWITCHES.fullmatch(word):
            return False
    return True
