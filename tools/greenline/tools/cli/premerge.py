"""``greenline premerge``: rules, conflicts, lint, affected tests and the shard plan of a change, as one report."""

from __future__ import annotations

import importlib
import sys

import click

from greenline.ci.premerge import Asked, premerge
from greenline.depgraph.errors import GreenlineError
from greenline.rules.findings import Report
from greenline.tools.cli.options import Progress
from greenline.tools.cli.reports import FORMATS, day_of, format_option, rendered, show, today_option

SYSTEMS = {"github": "matrix", "gitlab": "pipeline", "buildkite": "pipeline", "kubernetes": "jobs"}
"""CI system → what makes its jobs of a plan."""
INCOMPLETE = 3


@click.command("premerge")
@click.option("--base", metavar="REF", help="Measure from the merge base of REF and HEAD, and meet what REF gained.")
@click.option("--target", metavar="TIME", help="Plan the affected tests for an end after this time, such as 10m.")
@click.option(
    "--emit",
    type=click.Choice(list(SYSTEMS)),
    help="Print the plan's jobs for this CI system, and the report on stderr; the plan goes to greenline-plan.json.",
)
@format_option
@click.option("--also", metavar="FORMAT=FILE", multiple=True, help="Write the report into a file as well; repeatable.")
@click.option("--strict", is_flag=True, help="Exit 3 when there is no problem, but not everything could be looked at.")
@today_option
def command(
    base: str | None,
    target: str | None,
    emit: str | None,
    form: str,
    also: tuple[str, ...],
    strict: bool,
    today: str | None,
) -> int:
    """Tell all that can be known of a change before it is merged.

    Exit code 1 when there is a problem, 0 when there is none; what could not be looked at is told, and makes the
    report's "complete" false.
    """
    files = [_file(each) for each in also]
    done = premerge(Asked(day_of(today), base, bool(target or emit), target), progress=Progress())
    for name, path in files:
        _write(done.report, name, path)
    if emit is None or done.plan is None:
        code = show(done.report, form)
    else:
        from greenline.ci.sharding.emit.jobs import PLAN, Options
        from greenline.ci.sharding.plan_file import write

        write(done.plan, PLAN)
        system = importlib.import_module(f"greenline.ci.sharding.emit.{emit}")
        jobs = getattr(system, SYSTEMS[emit])
        sys.stdout.write(jobs(done.plan) if emit == "github" else jobs(done.plan, Options()))
        sys.stdout.flush()
        code = show(done.report, form, sys.stderr)
    return INCOMPLETE if strict and not code and not done.report.complete else code


def _file(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    if name not in FORMATS or not path:
        raise GreenlineError(f"--also {text}: not a format and a file", f"FORMAT=FILE; formats: {', '.join(FORMATS)}")
    return name, path


def _write(report: Report, form: str, path: str) -> None:
    try:
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(rendered(report, form))
    except OSError as error:
        raise GreenlineError(f"--also: {path} cannot be written: {error.strerror}") from None
