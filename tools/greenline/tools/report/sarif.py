"""A report as SARIF 2.1.0, which code hosts show beside the code.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from greenline.rules.findings import Finding, Place, Report

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def render(report: Report) -> str:
    findings = [finding for section in report.sections for finding in section.findings]
    names = sorted({finding.rule for finding in findings})
    notes = [f"{section.name}: {note}" for section in report.sections if not section.complete for note in section.notes]
    run = {
        "tool": {
            "driver": {
                "name": "greenline",
                "version": version("greenline"),
                "rules": [{"id": name} for name in names],
            }
        },
        "originalUriBaseIds": {"ROOT": {"description": {"text": "the repository's root"}}},
        "invocations": [
            {
                "executionSuccessful": report.complete,
                "toolExecutionNotifications": [{"level": "warning", "message": {"text": note}} for note in notes],
            }
        ],
        "results": [_result(finding, names) for finding in findings],
        "columnKind": "unicodeCodePoints",
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


def _result(finding: Finding, names: list[str]) -> dict[str, Any]:
    text = f"{finding.message}. {finding.hint[:1].upper()}{finding.hint[1:]}." if finding.hint else finding.message
    found: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": names.index(finding.rule),
        "level": "warning" if finding.warning else "error",
        "message": {"text": text},
        "locations": [_location(finding.place)],
        "partialFingerprints": {"greenline/v1": finding.fingerprint},
    }
    if finding.related:
        found["relatedLocations"] = [
            {"id": at, **_location(place), "message": {"text": place.note or place.path}}
            for at, place in enumerate(finding.related, 1)
        ]
    return found


def _location(place: Place) -> dict[str, Any]:
    uri = quote(place.path.encode("utf-8", "surrogateescape"))
    physical: dict[str, Any] = {"artifactLocation": {"uri": uri, "uriBaseId": "ROOT"}}
    if place.line:
        physical["region"] = {"startLine": place.line}
    return {"physicalLocation": physical}
