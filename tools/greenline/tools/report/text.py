"""A report for a terminal: one finding a paragraph, problems before warnings."""

from __future__ import annotations

from greenline.rules.findings import Finding, Place, Report


def render(report: Report) -> str:
    lines: list[str] = []
    told: set[str] = set()
    for section in report.sections:
        if len(report.sections) > 1:
            lines.append(f"{section.name}: {section.summary}")
        for finding in section.findings:
            lines += _paragraph(finding)
        for note in section.notes:
            again = "for the same reason" if note in told else note
            lines.append(f"  {again}" if section.complete else f"  not complete: {again}")
            told.add(note)
    return "".join(line + "\n" for line in lines)


def _paragraph(finding: Finding) -> list[str]:
    level = "warning: " if finding.warning else ""
    lines = [f"{spot(finding.place)}: {level}{finding.rule}: {finding.message}"]
    lines += [f"    {spot(each)}: {each.note}" for each in finding.related]
    if finding.hint:
        lines.append(f"    {finding.hint}")
    if finding.fixable:
        lines.append("    greenline fix mends it")
    return lines


def spot(place: Place) -> str:
    """``path:line``, with the commit if it is not the state that was checked."""
    line = f":{place.line}" if place.line else ""
    commit = f" ({place.commit[:7]})" if place.commit else ""
    return f"{place.path}{line}{commit}"
