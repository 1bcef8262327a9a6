"""``greenline test``: select and run tests, suite by suite."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import time
from typing import NamedTuple

import click

from greenline.ci import last_green
from greenline.ci.affected import SWITCH, Answer, affected
from greenline.ci.execution.local import Run, call_of, execute, runs_of
from greenline.ci.execution.pytest_codes import NOTHING_COLLECTED, keep_all, worst
from greenline.depgraph import config as configuration
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.workspace import NotARepository, Workspace, find
from greenline.tools.cli.options import Progress, change_options, request_of, tell


@click.command("test")
@change_options
@click.option("--all", "every", is_flag=True, help="Run every test.")
@click.option("--shadow", is_flag=True, help="Run every test, and score what selection would have missed.")
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="N", help="Run N of the unselected tests too, to score it."
)
@click.argument("pytest_args", metavar="[-- PYTEST_ARGS...]", nargs=-1, type=click.UNPROCESSED)
def command(
    base: str | None,
    base_exact: str | None,
    head: str | None,
    suite: str | None,
    every: bool,
    shadow: bool,
    sample: int | None,
    pytest_args: tuple[str, ...],
) -> int:
    """Run the tests that the change can break.

    Each suite with an affected test is one call of pytest, in the suite's root and with its own interpreter
    or command. PYTEST_ARGS are options for all of them. The exit code is pytest's: 1 if a test failed in any
    suite, else the first that is not 0; and 0 where no test is affected.
    """
    start = time.monotonic()
    workspace = _workspace()
    _check_head(workspace, head)
    request = request_of(base, base_exact, head, suite, reasons=True)
    environment = {**os.environ, SWITCH: "off"} if every else os.environ
    answer = affected(request=request, progress=Progress(), environment=environment)
    if every:
        _say("every test runs (--all)")
    else:
        tell(answer, time.monotonic() - start)
    if workspace and (shadow or sample):
        from greenline.tools.cli import probation  # seldom used

        return probation.run(workspace, answer, request, pytest_args, 0 if shadow else sample or 0)
    if answer.total and not answer.tests:
        _say("no test is affected")
        return 0
    config = configuration.load(answer.root, workspace.cache if workspace else None)
    options = _Options(pytest_args, keep_all((*pytest_args, *shlex.split(os.environ.get("PYTEST_ADDOPTS", "")))))
    proof = None
    if workspace and answer.everything and options.keep_all and not suite:
        proof = last_green.provable(workspace, config)
    code = _run_all(runs_of(answer, config), answer, options)
    if code == NOTHING_COLLECTED and not answer.total:
        _say(NOTHING_HERE)
    if workspace and proof and not code and last_green.provable(workspace, config, untracked=False) == proof:
        last_green.record(workspace, proof)
        _say(f"recorded {proof[:7]} as last green")
    return code


NOTHING_HERE = (
    "there is no test in this repository that Greenline or pytest can find, which is pytest's exit code 5;"
    " see testpaths and python_files in pytest's configuration, or name suites in greenline.yaml"
)


class _Options(NamedTuple):
    """PYTEST_ARGS. ``keep_all``: neither they nor $PYTEST_ADDOPTS keep tests from running."""

    pytest_args: tuple[str, ...]
    keep_all: bool


def _run_all(runs: list[Run], answer: Answer, options: _Options) -> int:
    """Run the suites one after the other; the exit code of all."""
    codes = []
    for number, run in enumerate(runs, 1):
        count = len(run.tests)
        files = f"{count:,} test file{'s' if count > 1 else ''}" if count else "what pytest finds"
        how = f"{shlex.join(run.command)} in {run.root or '.'}"
        _say(f"suite {run.suite} ({number} of {len(runs)}): {files}: {how}")
        codes.append(_run(run, answer, options))
    red = [f"{run.suite} ({code})" for run, code in zip(runs, codes, strict=True) if code]
    if red and len(runs) > 1:
        _say(f"suites that did not pass, with pytest's exit code: {', '.join(red)}")
    return worst(codes)


def _run(run: Run, answer: Answer, options: _Options) -> int:
    """Run one suite; its exit code."""
    with tempfile.TemporaryDirectory(prefix="greenline-") as scratch:
        call = call_of(run, answer, options.pytest_args, scratch)
        if call.note:
            _say(f"suite {run.suite}: {call.note}")
        code = execute(call)
    if code == NOTHING_COLLECTED and options.keep_all and not call.whole:
        _say(f"suite {run.suite}: there is no test to run in the affected files")
        return 0
    return code


def _workspace() -> Workspace | None:
    try:
        return find()
    except NotARepository:  # affected() tells what follows from it
        return None


def _check_head(workspace: Workspace | None, head: str | None) -> None:
    if head and workspace and workspace.resolve(head) not in (None, workspace.resolve("HEAD")):
        raise GreenlineError(
            f"--head: {head} is not what is checked out, and so not what would run",
            f"git switch --detach {head}",
        )


def _say(text: str) -> None:
    print(f"greenline: {text}", file=sys.stderr, flush=True)
