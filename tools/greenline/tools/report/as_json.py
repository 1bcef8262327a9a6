"""A report as JSON; docs/report.schema.json describes it."""

from __future__ import annotations

import json
from typing import Any

from greenline.rules.findings import Finding, Place, Report


def render(report: Report) -> str:
    return json.dumps(as_data(report), indent=1) + "\n"


def as_data(report: Report) -> dict[str, Any]:
    return {
        "version": 1,
        "complete": report.complete,
        "failures": report.failures,
        "base": report.base or None,
        "base_how": report.how,
        "today": report.today,
        "sections": [
            {
                "name": section.name,
                "summary": section.summary,
                "complete": section.complete,
                "notes": list(section.notes),
                "ignored": section.ignored,
                "known": section.known,
                "findings": [_finding(finding) for finding in section.findings],
                **({"data": dict(section.data)} if section.data else {}),
            }
            for section in report.sections
        ],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "level": "warning" if finding.warning else "error",
        **_place(finding.place),
        "message": finding.message,
        "hint": finding.hint,
        "subject": finding.subject,
        "fingerprint": finding.fingerprint,
        "fixable": finding.fixable,
        "related": [_place(each) for each in finding.related],
    }


def _place(place: Place) -> dict[str, Any]:
    return {"path": place.path, "line": place.line or None, "commit": place.commit or None, "note": place.note}
