"""The formats of reports, and the options that all commands with findings share."""

from __future__ import annotations

import datetime
import importlib
import sys
from typing import TextIO

import click

from greenline.depgraph.errors import GreenlineError
from greenline.rules.findings import Report

FORMATS = {"text": "text", "json": "as_json", "sarif": "sarif", "github": "github", "junit": "junit"}
FORMATS["markdown"] = "markdown"

format_option = click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    default="text",
    show_default=True,
    help="text; json; sarif (code scanning); github (annotations); junit; markdown (a comment on a pull request).",
)
today_option = click.option(
    "--today",
    metavar="DAY",
    help="The day that expiring ignores are judged by (2030-01-31). Default: the clock's, UTC.",
)


def day_of(today: str | None) -> datetime.date:
    if today is None:
        return datetime.datetime.now(datetime.UTC).date()
    try:
        return datetime.date.fromisoformat(today)
    except ValueError:
        raise GreenlineError(f"--today: {today!r} is no day", "write it as 2030-01-31") from None


def rendered(report: Report, form: str) -> str:
    text: str = importlib.import_module(f"greenline.tools.report.{FORMATS[form]}").render(report)
    return text


def show(report: Report, form: str, stream: TextIO | None = None) -> int:
    """Print a report, and on stderr what the terminal should know; gives the exit code."""
    out = stream or sys.stdout
    out.write(rendered(report, form))
    out.flush()
    warnings = sum(len(section.findings) for section in report.sections) - report.failures
    known = sum(section.known for section in report.sections)
    ignored = sum(section.ignored for section in report.sections)
    counts = [(report.failures, "problem"), (warnings, "warning")]
    told = [f"{count:,} {what}{'s' * (count != 1)}" for count, what in counts]
    told += [f"{count:,} {what}" for count, what in ((known, "known to the baseline"), (ignored, "ignored")) if count]
    base = f"; base {report.base[:7]} ({report.how})" if report.base else ""
    only = f"{report.sections[0].summary}: " if len(report.sections) == 1 else ""
    print(f"{only}{', '.join(told)}{base}; as of {report.today}", file=sys.stderr)
    incomplete: dict[str, list[str]] = {}
    for section in report.sections:
        for note in section.notes if not section.complete else ():
            incomplete.setdefault(note, []).append(section.name)
    for note, names in incomplete.items():
        print(f"warning: not complete: {', '.join(names)}: {note}", file=sys.stderr)
    return 1 if report.failures else 0
