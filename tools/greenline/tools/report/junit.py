"""A report as JUnit XML: a suite for each section, a test case for each finding."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from greenline.rules.findings import Finding, Report, Section
from greenline.tools.report.text import spot


def render(report: Report) -> str:
    root = ElementTree.Element("testsuites", name="greenline")
    for section in report.sections:
        root.append(_suite(section))
    ElementTree.indent(root, " ")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(section: Section) -> ElementTree.Element:
    """Warnings pass, with their text as output; a section that is not complete has a skipped case that says why."""
    failing = [finding for finding in section.findings if not finding.warning]
    suite = ElementTree.Element("testsuite", name=section.name, errors="0", failures=str(len(failing)))
    for finding in section.findings:
        case = _case(suite, section, f"{spot(finding.place)}: {finding.message}", finding.rule)
        if finding.warning:
            ElementTree.SubElement(case, "system-out").text = _legal(_text(finding))
        else:
            failure = ElementTree.SubElement(case, "failure", message=_legal(finding.message), type=finding.rule)
            failure.text = _legal(_text(finding))
    if not section.complete:
        case = _case(suite, section, f"{section.name} is complete")
        ElementTree.SubElement(case, "skipped", message=_legal("; ".join(section.notes)))
    elif not section.findings:
        _case(suite, section, section.summary or section.name)
    suite.set("tests", str(len(suite)))
    suite.set("skipped", "0" if section.complete else "1")
    return suite


def _case(suite: ElementTree.Element, section: Section, name: str, rule: str = "") -> ElementTree.Element:
    classname = f"greenline.{section.name}" + (f".{rule.replace('/', '.')}" if rule else "")
    return ElementTree.SubElement(suite, "testcase", classname=_legal(classname), name=_legal(name), time="0")


def _text(finding: Finding) -> str:
    lines = [f"{spot(finding.place)}: {finding.message}", *(f"{spot(each)}: {each.note}" for each in finding.related)]
    return "\n".join([*lines, finding.hint] if finding.hint else lines)


_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _legal(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold."""
    return _ILLEGAL.sub("�", text)
