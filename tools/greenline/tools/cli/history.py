"""``greenline history``: durations and outcomes of tests, into the store and out of it."""

from __future__ import annotations

import json
import sys

import click
from sqlalchemy import Engine

from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.wording import plural


@click.group("history")
def command() -> None:
    """Keep how long tests take and how they end: the planner's memory."""


@command.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option("--commit", metavar="SHA", help="Of the runs. Without it: HEAD, if the work tree has no changes.")
@click.option("--suite", metavar="NAME", default="", help="Of tests whose file does not say it.")
@click.option("--variant", metavar="NAME", default="", help="Of tests whose file does not say it.")
@click.option("--runner", metavar="POOL", default="", help="Kind of runner, where the file does not say it.")
def import_command(files: tuple[str, ...], commit: str | None, suite: str, variant: str, runner: str) -> None:
    """Add what these files say to the store: result streams, JUnit XML, .test_durations.

    The files of many shards merge; a file that was imported before changes nothing.
    """
    from greenline.ci.sharding.history import import_files

    store, head = _open(write=True)
    done = import_files(store, files, commit if commit is not None else head, suite, variant, runner)
    again = f"; {done.again} were known" if done.again else ""
    waits = f", {done.waits} waits for runners" if done.waits else ""
    print(f"{plural(done.runs, 'run')} of tests{waits} from {plural(done.files, 'file')}{again}", file=sys.stderr)


@command.command("export")
@click.option(
    "--format",
    "form",
    type=click.Choice(["durations", "json"]),
    default="durations",
    show_default=True,
    help="durations: test → seconds, as .test_durations of pytest-split; json: all that is known.",
)
@click.option("--variant", metavar="NAME", help="Only of this variant.")
@click.option(
    "--quantile",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Of the recent runs that passed: 0.5 is the median.",
)
def export_command(form: str, variant: str | None, quantile: float) -> None:
    """Print what the store knows of tests."""
    from greenline.ci.sharding.history import histories, waits

    store, _ = _open()
    found = histories(store, quantile, variant)
    if form == "durations":
        seconds: dict[str, float] = {}
        for each in found:
            if each.passed:
                seconds[each.test] = max(seconds.get(each.test, 0.0), round(each.seconds, 6))
        print(json.dumps(dict(sorted(seconds.items())), indent=1))
        return
    answer = {
        "version": 1,
        "quantile": quantile,
        "tests": [each._asdict() for each in found],
        "pools": [each._asdict() for each in waits(store).values()],
    }
    print(json.dumps(answer, indent=1))


def _open(write: bool = False) -> tuple[Engine, str]:
    """The store, and HEAD if the work tree is what it says."""
    import greenline.ci.sharding.history  # noqa: F401  its tables are made when the store is opened
    from greenline.ci.store import may_write, open_store
    from greenline.depgraph.config import load
    from greenline.depgraph.workspace import find

    workspace = find()
    config = load(workspace.root, workspace.cache)
    store = open_store(workspace, config)
    if write and not may_write(workspace, config):
        raise GreenlineError("this run may not write into the store", "see store.writers in greenline.yaml")
    clean = not workspace.git("status", "--porcelain", "--untracked-files=no").strip()
    return store, (workspace.resolve("HEAD") or "") if clean else ""
