"""A report as Markdown, for a comment on a pull request."""

from __future__ import annotations

import re

from greenline.rules.findings import Finding, Report, Section
from greenline.tools.report.text import spot

MOST = 60_000
"""Characters; GitHub takes 65,536 for a comment."""
MARK = "<!-- greenline -->"
"""The first line, by which a job finds its comment again to replace it."""


def render(report: Report) -> str:
    failures = report.failures
    verdict = "Fine" if not failures else f"{failures} problem{'s' * (failures != 1)}"
    if not report.complete:
        verdict += ", but not everything could be looked at"
    lines = [MARK, f"### Greenline: {verdict}", ""]
    for section in report.sections:
        lines += _section(section)
    end = (
        f"\n<sub>base {report.base[:7]} ({_plain(report.how)}); judged as of {report.today}</sub>\n"
        if report.base
        else ""
    )
    return _cut(lines, MOST - len(end)) + end


def _section(section: Section) -> list[str]:
    lines = [f"**{_plain(section.name)}**: {_plain(section.summary)}", ""]
    lines += [f"> {'not complete: ' if not section.complete else ''}{_plain(note)}" for note in section.notes]
    if section.notes:
        lines.append("")
    if section.findings:
        lines += ["| where | rule | what | way out |", "| --- | --- | --- | --- |"]
        lines += [_row(finding) for finding in section.findings]
        lines.append("")
    return lines


def _row(finding: Finding) -> str:
    what = "<br>".join(
        [_plain(finding.message), *(f"{_code(spot(each))} {_plain(each.note)}" for each in finding.related)]
    )
    rule = _plain(finding.rule) + (" (warning)" if finding.warning else "")
    return f"| {_code(spot(finding.place))} | {rule} | {what} | {_plain(finding.hint)} |"


def _cut(lines: list[str], most: int) -> str:
    kept: list[str] = []
    left = most - 100
    for at, line in enumerate(lines):
        left -= len(line) + 1
        if left < 0:
            rows = sum(each.startswith("| <code>") for each in lines[at:])
            return "\n".join([*kept, "", f"… and {rows} more; the job's log has all of them.", ""])
        kept.append(line)
    return "\n".join(kept)


def _plain(text: str) -> str:
    """Text that means nothing to Markdown: no markup, no mention, no reference, no second line."""
    text = " ".join(text.encode("utf-8", "replace").decode().split())
    return re.sub(r"[&<>\\`*_\[\]|~#@!]", lambda match: f"&#{ord(match[0])};", text)


def _code(text: str) -> str:
    return f"<code>{_plain(text)}</code>"
