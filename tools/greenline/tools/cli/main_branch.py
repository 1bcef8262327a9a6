"""``greenline main``: how main is, and the record that it follows from."""

from __future__ import annotations

import datetime
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.wording import plural

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from greenline.ci.main_health import Health
    from greenline.depgraph.config import Config
    from greenline.depgraph.workspace import Workspace


@click.group("main")
def command() -> None:
    """How main is: green share, breaks and repairs, flakes, the last green commit."""


_at = click.option("--at", metavar="TIME", help="As of this time (2026-01-31, 2026-01-31T12:00). Default: now.")
_days = click.option(
    "--days", type=click.IntRange(1, 3650), default=30, show_default=True, help="How far to look back."
)


@command.command("record")
@click.option("--junit", multiple=True, metavar="FILE", help="JUnit file of the run of all tests; may be given again.")
@click.option("--results", multiple=True, metavar="FILE", help="JSON lines of pytest-reportlog; may be given again.")
@click.option("--commit", metavar="REF", default="HEAD", show_default=True, help="The commit that was run.")
@_at
def record(junit: tuple[str, ...], results: tuple[str, ...], commit: str, at: str | None) -> int:
    """Keep the result of a run of all tests on main. A green one makes its commit the last green one.

    A report that breaks off, or names no test, proves nothing: it is not kept.
    """
    from greenline.ci import last_green, main_health
    from greenline.ci.breakage import failures
    from greenline.ci.environment import no_commit

    if not junit and not results:
        raise GreenlineError("greenline main record needs the reports of a run", "--junit FILE, or --results FILE")
    workspace, _, store = _open()
    oid = workspace.resolve(commit)
    if oid is None:
        raise no_commit(workspace, "--commit: ", commit)
    files = [entry.path for entry in workspace.entries(oid)]
    told = [failures.read_junit(junit, files), failures.read_stream(results)]
    lost = [path for each in told for path in each.lost]
    failed = sorted({test for each in told for test in each.failed})
    passed = sum(len(each.passed) for each in told)
    if not failed and (lost or not passed):
        why = f"{lost[0]} breaks off" if lost else "no test of this repository is in the reports"
        click.echo(f"not kept: {why}", err=True)
        return 1
    run = main_health.MainRun(oid, _time(at), not failed, tuple(failed))
    main_health.record_run(store, run)
    if run.green:
        last_green.record(workspace, oid)
    red = f"red: {plural(len(failed), 'test')} failed"
    click.echo(f"{oid[:12]} is {'green' if run.green else red}", err=True)
    return 0


@command.command("status")
@_at
@_days
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def status(at: str | None, days: int, form: str) -> int:
    """How main is now. Exit code 0: green, or not known; 1: red."""
    health = _read(at, days)
    if form == "json":
        print(json.dumps(as_json(health), indent=1))
    else:
        sys.stdout.write(text_of(health))
    return 1 if health.green is False else 0


@command.command("report")
@_at
@_days
def report(at: str | None, days: int) -> int:
    """The same as Markdown, with every breakage of the window."""
    health = _read(at, days)
    sys.stdout.write(markdown_of(health, days))
    return 0


def _open() -> tuple[Workspace, Config, Engine]:
    from greenline.ci import main_health as main_health  # declares its tables
    from greenline.ci import store
    from greenline.depgraph.config import load
    from greenline.depgraph.workspace import find

    workspace = find()
    config = load(workspace.root, workspace.cache)
    return workspace, config, store.open_store(workspace, config, os.environ)


def _read(at: str | None, days: int) -> Health:
    from greenline.ci import main_health, store
    from greenline.ci.environment import LAST_GREEN

    workspace, config, engine = _open()
    health = main_health.read(engine, _time(at), days * main_health.DAY)
    if at is None and store.may_write(workspace, config):
        main_health.propose_quarantines(engine, health)
    return health._replace(last_green=health.last_green or workspace.resolve(LAST_GREEN))


def _time(given: str | None) -> float:
    if given is None:
        return time.time()
    try:
        moment = datetime.datetime.fromisoformat(given)
    except ValueError:
        raise GreenlineError(f"--at: {given!r} is no time", "write 2026-01-31 or 2026-01-31T12:00") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


# -- views ---------------------------------------------------------------------------------------------------


def as_json(health: Health) -> dict[str, Any]:
    """The answer as docs/main.schema.json describes it. Times are seconds since 1970, spans are seconds."""
    spans = {name: getattr(health, name) for name in ("detect", "culprit", "proposal", "mend")}
    return {
        "version": 1,
        "at": health.at,
        "runs": health.runs,
        "green": health.green,
        "green_share": health.share,
        "last_green": health.last_green,
        "times": {name: span and {"p50": span[0], "p95": span[1]} for name, span in spans.items()},
        "breakages": [event._asdict() for event in health.events],
        "flakes": [flake._asdict() for flake in health.flakes],
        "quarantine": [each._asdict() for each in health.quarantines],
    }


_SPANS = (("detect", "to detect"), ("culprit", "to the culprit"), ("proposal", "to a proposal"), ("mend", "to green"))


def text_of(health: Health) -> str:
    """The terminal's view."""
    state = {True: "green", False: "red", None: "not known: no run is recorded (greenline main record)"}[health.green]
    lines = [f"main is {state}"]
    if health.share is not None:
        lines.append(f"green {health.share:.1%} of the time, {plural(health.runs, 'run')}")
    if health.last_green:
        lines.append(f"last green commit {health.last_green[:12]}")
    for name, words in _SPANS:
        span = getattr(health, name)
        if span:
            lines.append(f"{words:<15} median {_span(span[0])}, 95 % {_span(span[1])}")
    still = [event for event in health.events if event.green is None and event.kind == "break"]
    for event in still:
        lines.append(f"open: {event.fingerprint} {_some(event.tests)}, culprit {event.culprit[:12] or 'not known'}")
        if event.branch:
            lines.append(f"  proposed on {event.branch}")
    for flake in health.flakes[:10]:
        lines.append(f"flaky: {flake.test}: at {plural(flake.commits, 'commit')}, {plural(flake.failures, 'failure')}")
    for each in health.quarantines:
        lines.append(f"quarantine until {_day(each.expires)}: {each.test} ({each.reason})")
    return "\n".join(lines) + "\n"


def markdown_of(health: Health, days: int) -> str:
    share = "not known" if health.share is None else f"{health.share:.1%}"
    lines = [f"# Main, {days} days to {_day(health.at)}", "", "| measure | |", "| --- | --- |"]
    lines += [f"| green share of the time | {share} |", f"| runs | {health.runs} |"]
    lines.append(f"| last green commit | {(health.last_green or 'none')[:12]} |")
    for name, words in _SPANS:
        span = getattr(health, name)
        lines.append(f"| time {words} (median, 95 %) | {f'{_span(span[0])}, {_span(span[1])}' if span else '-'} |")
    lines += [
        "",
        "## Breakages",
        "",
        "| detected | kind | tests | culprit | proposal | green after |",
        "|" + " --- |" * 6,
    ]
    for event in health.events:
        green = _span(event.green - event.detected) if event.green is not None else "open"
        cells = [
            _day(event.detected),
            event.kind,
            _some(event.tests),
            event.culprit[:12] or "-",
            event.branch or "-",
            green,
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", "## Flaky tests", "", "| test | commits | failures |", "| --- | --- | --- |"]
    lines += [f"| {flake.test} | {flake.commits} | {flake.failures} |".replace("[", "\\[") for flake in health.flakes]
    lines += ["", "## Quarantine", ""]
    lines += [f"- until {_day(each.expires)}: {each.test} ({each.reason})" for each in health.quarantines] or ["None."]
    return "\n".join(lines) + "\n"


def _some(tests: tuple[str, ...]) -> str:
    return tests[0] + (f" and {len(tests) - 1} more" if len(tests) > 1 else "") if tests else "-"


def _day(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d")


def _span(seconds: float) -> str:
    """Seconds for people: 48 s, 14 min, 3.2 h, 2.1 days."""
    for size, word in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {word}".replace(".0 ", " ")
    return f"{seconds:.0f} s"
