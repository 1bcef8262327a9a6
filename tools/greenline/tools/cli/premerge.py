"""``greenline premerge``: rules, conflicts, lint, affected tests and the shard plan of a change, as one report."""

from __future__ import annotations

import click

from greenline.ci.premerge import Asked, premerge
from greenline.tools.cli.options import Progress
from greenline.tools.cli.reports import day_of, format_option, show, today_option


@click.command("premerge")
@click.option("--base", metavar="REF", help="Measure from the merge base of REF and HEAD, and meet what REF gained.")
@format_option
@today_option
def command(base: str | None, form: str, today: str | None) -> int:
    """Tell all that can be known of a change before it is merged.

    Exit code 1 when there is a problem, 0 when there is none; what could not be looked at is told, and makes the
    report's "complete" false.
    """
    report, _ = premerge(Asked(day_of(today), base), progress=Progress())
    return show(report, form)
