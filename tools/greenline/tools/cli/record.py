"""``greenline record``: run tests and keep what each of them was seen to use."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
import time

import click

from greenline.ci.affected import SWITCH, Answer, affected
from greenline.ci.execution.local import Run, call_of, execute, has_guest, runs_of
from greenline.ci.execution.pytest_codes import NOTHING_COLLECTED, keep_all, worst
from greenline.depgraph import config as configuration
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.wording import plural
from greenline.depgraph.workspace import Workspace, find
from greenline.tools.cli.options import Progress, change_options, request_of, tell
from greenline.tools.cli.test import NOTHING_HERE


@click.command("record")
@change_options
@click.option("--affected", "only_affected", is_flag=True, help="Run only the tests that the change can break.")
@click.option("--folder", metavar="FOLDER", help="Leave the files there, and add nothing to the store.")
@click.argument("pytest_args", metavar="[-- PYTEST_ARGS...]", nargs=-1, type=click.UNPROCESSED)
def command(
    base: str | None,
    base_exact: str | None,
    head: str | None,
    suite: str | None,
    only_affected: bool,
    folder: str | None,
    pytest_args: tuple[str, ...],
) -> int:
    """Run the tests and record what each of them runs, imports and reads.

    All tests run, or with --affected those that `greenline test` would run, suite by suite. A suite needs
    pytest-greenline in its environment. With --greenline-fork among PYTEST_ARGS each test runs in a process of
    its own as well, which shows what caches hide. The exit code is pytest's.
    """
    start = time.monotonic()
    workspace = find()
    if head and workspace.resolve(head) not in (None, workspace.resolve("HEAD")):
        raise GreenlineError(
            f"--head: {head} is not what is checked out, and so not what would run", f"git switch --detach {head}"
        )
    request = request_of(base, base_exact, head, suite, reasons=True)
    environment = os.environ if only_affected else {**os.environ, SWITCH: "off"}
    answer = affected(request=request, progress=Progress(), environment=environment)
    if only_affected:
        tell(answer, time.monotonic() - start)
    if answer.total and not answer.tests:
        _say("no test is affected")
        return 0
    records = os.path.abspath(folder) if folder else _new_folder(workspace)
    config = configuration.load(answer.root, workspace.cache)
    codes = [_record(run, answer, pytest_args, records) for run in runs_of(answer, config)]
    if not answer.total and NOTHING_COLLECTED in codes:
        _say(NOTHING_HERE)
        if not folder:
            shutil.rmtree(records, ignore_errors=True)
    elif os.path.isdir(records):
        if folder:
            _say(f"the records are in {records}")
        else:
            _keep(workspace, config, records)
    return worst(codes)


def _new_folder(workspace: Workspace) -> str:
    """A folder for the records of this run, which git ignores."""
    home = os.path.join(workspace.root, ".greenline", "records")
    os.makedirs(home, exist_ok=True)
    ignore = os.path.join(home, ".gitignore")
    if not os.path.exists(ignore):
        with open(ignore, "w", encoding="utf-8") as file:
            file.write("*\n")
    return os.path.join(home, f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}")


def _record(run: Run, answer: Answer, pytest_args: tuple[str, ...], records: str) -> int:
    """Run one suite; its exit code."""
    where = os.path.join(answer.root, run.root)
    options = [f"--greenline-record={records}", *pytest_args]
    if not has_guest(run.command, where):
        _say(f"suite {run.suite} is not recorded: {shlex.join(run.command)} has no pytest-greenline")
        options = [*pytest_args]
    with tempfile.TemporaryDirectory(prefix="greenline-") as scratch:
        call = call_of(run, answer, options, scratch)
        _say(f"suite {run.suite}: {shlex.join(call.command)} in {run.root or '.'}")
        code = execute(call)
    return 0 if code == NOTHING_COLLECTED and keep_all(pytest_args) and not call.whole else code


def _keep(workspace: Workspace, config: configuration.Config, records: str) -> None:
    """Add the records to the store, and delete the files."""
    from greenline.ci.evidence.ingest import ingest

    added = ingest(workspace, config, records)
    shutil.rmtree(records)
    invalid = "".join(f"; {count:,} do not count: {why}" for why, count in added.invalid.items())
    _say(
        f"recorded {plural(added.tests, 'test')}, {plural(added.blocks, 'block')},"
        f" {plural(added.units, 'unit')}{invalid}"
    )


def _say(text: str) -> None:
    print(f"greenline: {text}", file=sys.stderr, flush=True)
