"""Run a selection on this machine: one pytest for each suite, in its root and with its own interpreter."""

from __future__ import annotations

import functools
import json
import os
import posixpath
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from greenline.ci.affected import Answer, Test
from greenline.depgraph.config import Config
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.suites import find_suites, is_config_name


class Run(NamedTuple):
    """The selected tests of one suite. ``root`` is relative to the repository; ``command`` starts its pytest."""

    suite: str
    root: str
    command: tuple[str, ...]
    tests: list[Test]


class Call(NamedTuple):
    """A command for ``folder``, with ``variables`` added to the environment.

    ``whole``: it runs the whole suite; ``note``: why, where only a part was selected.
    """

    command: list[str]
    folder: str
    variables: dict[str, str]
    whole: bool = False
    note: str = ""


def runs_of(answer: Answer, config: Config, environment: Mapping[str, str] = os.environ) -> list[Run]:
    """The suites that have something to run. Raises GreenlineError for one without a pytest."""
    tests: dict[str, list[Test]] = {}
    if not answer.total:  # no test file is known: pytest may know better
        tests = {suite: [] for suite in answer.suite_roots}
    for test in answer.tests:
        tests.setdefault(test.suite, []).append(test)
    runs = []
    for suite, selected in sorted(tests.items()):
        root = answer.suite_roots.get(suite, "")
        runs.append(Run(suite, root, command_of(suite, root, answer.root, config, environment), selected))
    return runs


def command_of(
    suite: str, root: str, top: str, config: Config, environment: Mapping[str, str] = os.environ
) -> tuple[str, ...]:
    """What starts a suite's pytest. Raises GreenlineError where none is found."""
    declared = next((each.command for each in config.suites if each.name == suite), ())
    return declared or (interpreter(top, root, environment), "-m", "pytest")


def call_of(run: Run, answer: Answer, options: Sequence[str], scratch: str) -> Call:
    """How to have pytest run these tests; ``options`` are the user's, ``scratch`` is a folder for files.

    For a whole suite that is pytest alone. A part is left to the guest plugin, if the suite's environment has
    it. Else the tests are named as arguments: pytest is slow with thousands of them, and knows no others.
    """
    folder = os.path.join(answer.root, run.root)
    inner = _inner_suites(run, answer)
    own = [*run.command, *(f"--ignore={_relative(root, run.root)}" for root in inner or ())]
    if inner is not None and (answer.everything or not run.tests):
        return Call([*own, *options], folder, {}, whole=True)
    if has_guest(run.command, folder):
        path = os.path.join(scratch, "answer.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(_guest_answer(run, answer), file)
        return Call([*own, "--affected", *options], folder, {"GREENLINE_ANSWER": path})
    named = [*run.command, *stay_here(answer.root, run.root), *options, *_ids(run)]
    nameable = not any("[" in test.path or "::" in test.path for test in run.tests)  # pytest sees ids in these
    if nameable and _is_short(named):
        return Call(named, folder, {})
    note = "all of it runs: its tests cannot be named on a command line, and its pytest has no pytest-greenline"
    return Call([*own, *options], folder, {}, whole=True, note=note)


def _inner_suites(run: Run, answer: Answer) -> list[str] | None:
    """Roots of other suites inside this one's; None where this one has tests in them."""
    below = f"{run.root}/" if run.root else ""
    roots = {root for root in answer.suite_roots.values() if root != run.root and root.startswith(below)}
    shared = any(test.path.startswith(f"{root}/") for root in roots for test in run.tests)
    return None if shared else sorted(roots)


def _guest_answer(run: Run, answer: Answer) -> dict[str, object]:
    """What `greenline affected --format json` says, for one suite: the tests of all others are left out."""
    chosen = {test.path for test in run.tests}
    others = [test.path for test in answer.tests if test.path not in chosen]
    return {
        "version": 1,
        "root": answer.root,
        "everything": None,
        "base": answer.base,
        "base_how": answer.how,
        "tests": [
            {"path": test.path, "nodeids": _node_ids(test.path, test)}
            for test in sorted(run.tests, key=lambda test: (test.rank, test.path))
        ],
        "likely_first": len({test.rank for test in run.tests}) > 1,
        "unaffected": [*answer.unaffected, *others],
        "warnings": [],  # they were told already
    }


def _node_ids(path: str, test: Test) -> list[str] | None:
    return None if test.node_ids is None else [f"{path}::{each}" for each in test.node_ids]


def _ids(run: Run) -> Iterator[str]:
    for test in run.tests:
        path = _relative(test.path, run.root)
        path = f"./{path}" if path[0] in "-@" else path
        yield from _node_ids(path, test) or [path]


def stay_here(top: str, root: str) -> list[str]:
    """Options that keep pytest's rootdir and configuration: it would look for them near the tests it is given."""
    for folder in (*_up(root), ""):
        contents = {}
        for name in filter(is_config_name, os.listdir(os.path.join(top, folder))):
            with open(os.path.join(top, folder, name), "rb") as file:
                contents[name] = file.read()
        found = next(suite.config for suite in find_suites(contents) if not suite.root)
        if found:
            path = _relative(posixpath.join(folder, found), root)
            return ["-c", path, f"--rootdir={_relative(folder, root)}"]
    return ["--rootdir=."]


def _relative(path: str, root: str) -> str:
    return posixpath.relpath(path or ".", root or ".")


def _up(folder: str) -> Iterator[str]:
    """This folder and those above it, without "", the top."""
    while folder:
        yield folder
        folder = posixpath.dirname(folder)


def _is_short(call: list[str]) -> bool:
    """Does a command line take this, beside the environment?"""
    most = os.sysconf("SC_ARG_MAX") // 2 if hasattr(os, "sysconf") else 30_000
    return sum(len(os.fsencode(each)) + 9 for each in call) < most


# -- what is installed ---------------------------------------------------------------------------------------


def interpreter(top: str, root: str, environment: Mapping[str, str]) -> str:
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


def has_guest(command: tuple[str, ...], folder: str) -> bool:
    """Does this pytest load pytest-greenline? ``pytest -VV`` lists its plugins."""
    try:
        asked = subprocess.run([*command, "-VV"], cwd=folder, capture_output=True, check=False)
    except OSError:
        return False
    return b"pytest-greenline-" in asked.stdout + asked.stderr


# -- running -------------------------------------------------------------------------------------------------


def execute(call: Call) -> int:
    """pytest's exit code, or 128 + N where signal N ended it. pytest writes to our stdout and stderr."""
    try:
        process = subprocess.Popen(call.command, cwd=call.folder, env={**os.environ, **call.variables})
    except OSError as error:
        raise GreenlineError(
            f"cannot start {call.command[0]}: {error.strerror}", "see suites[].command in greenline.yaml"
        ) from None
    try:
        code = process.wait()
    except KeyboardInterrupt:  # pytest got it too, and has its report to write
        process.wait()
        raise
    return code if code >= 0 else 128 - code
