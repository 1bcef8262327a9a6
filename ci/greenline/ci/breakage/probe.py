"""Run tests in a checkout, and see what became of each: the only way in which repair looks at code.

A run counts only if first-party modules came from the checkout. An editable install, a ``.pth`` file or a PYTHONPATH
that leads elsewhere would test another commit's code and blame the wrong one: the probe then puts the checkout's own
source roots in front, and if that does not help the run says nothing (:attr:`Run.trouble`).
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from greenline.ci.breakage.checkouts import Checkout
from greenline.ci.breakage.processes import TIMED_OUT, Finished, Runner, run_here
from greenline.ci.execution.local import interpreter, stay_here
from greenline.depgraph.config import Config
from greenline.depgraph.index import list_tests
from greenline.depgraph.layout import DISTRIBUTION_FILES, find_layout
from greenline.depgraph.suites import Suite, SuiteIndex
from greenline.depgraph.workspace import read_regular

PLUGIN = "greenline_probe_plugin"
_HERE = os.path.dirname(__file__)
_MOST_TEXT = 20_000


class Outcome(NamedTuple):
    """What became of a test: ``state`` is passed, failed, error or skipped; the rest describes a failure.

    ``where``: the file in which it was raised, relative to the checkout if it lies there.
    """

    state: str
    message: str = ""
    where: str = ""
    text: str = ""

    @property
    def bad(self) -> bool:
        return self.state in ("failed", "error")


class Run(NamedTuple):
    """One run of tests. ``outcomes``: node id → outcome; ``trouble``: why the run says nothing, or ""."""

    outcomes: dict[str, Outcome]
    code: int
    seconds: float
    trouble: str
    output: str

    def of(self, test: str) -> Outcome | None:
        """The worst outcome of a node id: of its parameters, of all tests in a file; None: it is not there."""
        below = (test + "[", test + "::")
        own = [each for name, each in self.outcomes.items() if name == test or name.startswith(below)]
        broken = self.outcomes.get(test.partition("::")[0])  # a file that could not be collected
        own += [broken] if broken else []
        return max(own, key=lambda each: _RANK[each.state], default=None)


_RANK = {"skipped": 0, "passed": 1, "failed": 2, "error": 3}


class Settings(NamedTuple):
    """What probes of one repository share.

    ``home``: the user's checkout; ``python``: the interpreter of a commit's environment, "": the one that
    `greenline test` would take; ``timeout``: seconds for one run; ``roots``: source roots to put in front.
    """

    home: str
    config: Config
    environment: Mapping[str, str]
    python: str = ""
    timeout: float = 600.0
    roots: tuple[str, ...] = ()
    runner: Runner = run_here


class Probe(NamedTuple):
    """What to run, in this order: node ids or files; None: every test. ``shift``: seconds to move the clock by."""

    tests: tuple[str, ...] | None
    shift: float = 0.0


def run(checkout: Checkout, settings: Settings, probe: Probe) -> Run:
    """Run tests in a checkout. Tests that are not there are left out of the outcomes."""
    paths = checkout.repo.git.ls_files("-z").split("\0")[:-1]
    files, suites, _ = list_tests(checkout.folder, paths, settings.config)
    index = SuiteIndex(suites, paths)
    modules = _modules(checkout.folder, paths, suites, settings.config)
    wanted: dict[str, list[str]] = {}
    for test in files if probe.tests is None else probe.tests:
        path = test.partition("::")[0]
        suite = index.suite_of(path)
        if suite and os.path.isfile(os.path.join(checkout.folder, path)):
            wanted.setdefault(suite.root, []).append(test)
    return merge([_run_suite(checkout, settings, tests, probe.shift, root, modules) for root, tests in wanted.items()])


def merge(runs: Sequence[Run]) -> Run:
    """Runs of several suites as one."""
    outcomes = {name: each for run in runs for name, each in run.outcomes.items()}
    return Run(
        outcomes,
        next((run.code for run in runs if run.code), 0),
        sum(run.seconds for run in runs),
        next((run.trouble for run in runs if run.trouble), ""),
        "\n".join(run.output for run in runs),
    )


def _modules(folder: str, paths: Sequence[str], suites: Sequence[Suite], config: Config) -> dict[str, str]:
    """First-party module name → its source root."""
    manifests = {path: _read(folder, path) for path in paths if posixpath.basename(path) in DISTRIBUTION_FILES}
    declared = [*config.source_roots, *(root for suite in suites for root in (suite.root, *suite.pythonpath))]
    layout = find_layout(paths, manifests, declared)
    found: dict[str, str] = {}
    for path in paths:
        if path.endswith(".py") and posixpath.basename(path) not in _SCRIPTS:
            for name in layout.names(path):
                if not name.loose:
                    found.setdefault(name.name, name.root)
    return found


_SCRIPTS = ("conftest.py", "setup.py", "__main__.py")


def _read(folder: str, path: str) -> bytes:
    try:
        return read_regular(os.path.join(folder, path))
    except OSError:
        return b""


def _run_suite(
    checkout: Checkout, settings: Settings, tests: list[str], shift: float, root: str, modules: Mapping[str, str]
) -> Run:
    roots = list(settings.roots)
    while True:
        found, foreign = _run_once(checkout, settings, tests, shift, root, modules, roots)
        needed = sorted({modules[name] for name in foreign if name in modules} - set(roots))
        if not foreign or not needed:
            break
        roots += needed
    if foreign:
        name, path = min(foreign.items())
        found = found._replace(trouble=f"{name} was imported from {path}, not from the commit under test")
    return found


def _run_once(
    checkout: Checkout,
    settings: Settings,
    tests: list[str],
    shift: float,
    root: str,
    modules: Mapping[str, str],
    roots: Sequence[str],
) -> tuple[Run, dict[str, str]]:
    scratch = os.path.join(os.path.dirname(checkout.folder), f"probe-{uuid.uuid4().hex[:12]}")
    os.makedirs(scratch)
    try:
        shutil.copy(os.path.join(_HERE, "probe_plugin.py"), os.path.join(scratch, f"{PLUGIN}.py"))
        out = os.path.join(scratch, "results.jsonl")
        below = f"{root}/" if root else ""
        plan = {
            "out": out,
            "root": checkout.folder,
            "home": settings.home,
            "modules": sorted(modules),
            "wanted": [test.removeprefix(below) for test in tests],
            "shift": shift,
        }
        with open(os.path.join(scratch, "settings.json"), "w", encoding="utf-8") as file:
            json.dump(plan, file)
        command = _command(checkout, settings, tests, root, scratch)
        environment = _environment(checkout, settings, roots, scratch)
        folder = os.path.join(checkout.folder, root)
        done = settings.runner(command, folder, settings.timeout, environment, (checkout.folder, scratch))
        return _read_results(out, done, tests, below, checkout.folder, settings.timeout)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _command(checkout: Checkout, settings: Settings, tests: list[str], root: str, scratch: str) -> list[str]:
    declared = next((suite.command for suite in settings.config.suites if suite.root == root and suite.command), None)
    python = settings.python or interpreter(settings.home, root, settings.environment)
    files = [posixpath.relpath(path, root or ".") for path in dict.fromkeys(test.partition("::")[0] for test in tests)]
    options = ["-p", PLUGIN, "-p", "no:randomly", "--maxfail=0", "--continue-on-collection-errors", "-q", "--tb=short"]
    options += ["-o", f"cache_dir={scratch}/cache"]
    named = [f"./{file}" if file[0] in "-@" else file for file in files]
    if sum(map(len, named)) > _MOST_ARGUMENTS:
        named = []  # the plugin leaves out what is not wanted
    return [*(declared or (python, "-m", "pytest")), *stay_here(checkout.folder, root), *options, *named]


_MOST_ARGUMENTS = 60_000
_DROPPED = re.compile(r"GIT_|PYTEST_XDIST|PYTEST_CURRENT_TEST|GREENLINE_|GITHUB_TOKEN|GH_TOKEN|.*_TOKEN$|PWD$")


def _environment(checkout: Checkout, settings: Settings, roots: Sequence[str], scratch: str) -> dict[str, str]:
    """The caller's, without tokens; paths into the user's checkout lead into this one."""
    kept = {name: value for name, value in settings.environment.items() if not _DROPPED.match(name)}
    given = [entry for entry in kept.pop("PYTHONPATH", "").split(os.pathsep) if entry]
    moved = [_moved(os.path.abspath(entry), settings.home, checkout.folder) for entry in given]
    first = [os.path.join(checkout.folder, root) for root in roots]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join([scratch, *first, *moved]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "GREENLINE_PROBE": os.path.join(scratch, "settings.json"),
    }


def _moved(path: str, home: str, folder: str) -> str:
    inside = path == home or path.startswith(home + os.sep)
    return folder + path[len(home) :] if inside and "site-packages" not in path else path


# -- reading what the plugin wrote ---------------------------------------------------------------------------


def _read_results(
    path: str, done: Finished, tests: list[str], below: str, folder: str, timeout: float
) -> tuple[Run, dict[str, str]]:
    outcomes: dict[str, Outcome] = {}
    foreign: dict[str, str] = {}
    finished = False
    for record in _records(path):
        if "foreign" in record:
            foreign |= record["foreign"]
            finished = finished or not record["early"]
            continue
        name = below + record["id"] if record["id"] else ""
        outcome = _outcome(record, folder)
        if outcome and (name not in outcomes or _RANK[outcome.state] > _RANK[outcomes[name].state]):
            outcomes[name] = outcome
    output = done.out[-_MOST_TEXT:].replace(folder + os.sep, "")
    trouble = ""
    if done.code == TIMED_OUT:
        trouble = f"the run was ended after {timeout:.0f} s"
    elif done.code < 0 or (done.code in (2, 3, 4) and not outcomes) or not finished:
        broken = _broken_start(done, tests, output)
        outcomes |= broken
        trouble = "" if broken else f"pytest ended with code {done.code} before it had a result"
    return Run(outcomes, done.code, done.seconds, trouble, output), foreign


def _records(path: str) -> Iterator[dict[str, Any]]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    record = json.loads(line)
                except ValueError:
                    continue  # a killed process leaves half a line
                if isinstance(record, dict):
                    yield record
    except FileNotFoundError:
        return


def _outcome(record: Mapping[str, Any], folder: str) -> Outcome | None:
    text = str(record.get("text", ""))[-_MOST_TEXT:].replace(folder + os.sep, "")
    if record["when"] == "collect":
        return Outcome("error", _last_error(text), str(record["id"]), text)
    if record["outcome"] == "failed":
        raised = os.path.join(folder, str(record.get("path", "")))
        where = os.path.relpath(raised, folder) if os.path.isfile(raised) else ""
        state = "failed" if record["when"] == "call" else "error"
        message = str(record.get("message") or "").replace(folder + os.sep, "")
        return Outcome(state, message or _last_error(text), where, text)
    if record["outcome"] == "skipped":
        return Outcome("skipped")
    return Outcome("passed") if record["when"] == "call" else None


def _broken_start(done: Finished, tests: list[str], output: str) -> dict[str, Outcome]:
    """A conftest.py or plugin that cannot be imported, or wrong options: every wanted test fails with it."""
    match = re.search(r"ImportError while loading conftest '(.*)'", output)
    if done.code == _USAGE and (match or "Error" in output):
        outcome = Outcome("error", _last_error(output), os.path.basename(match[1]) if match else "", output)
        return dict.fromkeys(tests, outcome)
    return {}


_USAGE = 4


def _last_error(text: str) -> str:
    lines = [line[1:].strip() for line in text.splitlines() if line.startswith("E ")]
    named = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Warning)\b", line)]
    return (named or lines or [""])[-1]
