"""A report as GitHub's workflow commands: annotations on the lines of a pull request.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

from greenline.rules.findings import Finding, Report
from greenline.tools.report.text import spot

MOST = 10
"""Annotations of one level that GitHub shows for a step; what comes after them is only in the log."""


def render(report: Report) -> str:
    """Problems first, since GitHub shows few. A second line of a message would be no part of the command."""
    findings = [finding for section in report.sections for finding in section.findings]
    lines = [_command(finding) for finding in sorted(findings, key=lambda each: each.warning)]
    for section in report.sections:
        if not section.complete:
            lines += [
                f"::warning title={_property(f'{section.name} is not complete')}::{_data(n)}" for n in section.notes
            ]
    return "".join(line + "\n" for line in lines)


def _command(finding: Finding) -> str:
    place = finding.place
    level = "warning" if finding.warning else "error"
    properties = [f"file={_property(place.path)}"]
    if place.line:
        properties.append(f"line={place.line}")
    properties.append(f"title={_property(finding.rule)}")
    text = "\n".join([finding.message, *(f"{spot(each._replace(commit=''))}: {each.note}" for each in finding.related)])
    return f"::{level} {','.join(properties)}::{_data(text + (chr(10) + finding.hint if finding.hint else ''))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
