from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import jsonschema
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from greenline.rules.findings import Finding, Place, Report, Section
from greenline.tools.report import as_json, github, junit, markdown, sarif, text

ROOT = Path(__file__).parents[2]
JSON = json.loads((ROOT / "docs" / "report.schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(JSON)
SARIF = ROOT / "build/sarif/node_modules/@microsoft/jest-sarif/lib/schemas/sarif-2.1.0-rtm.5.json"
SARIF_VALIDATOR = jsonschema.Draft7Validator(json.loads(SARIF.read_text("utf-8")) if SARIF.exists() else False)

NASTY = st.text(alphabet=st.sampled_from("ab:,%|`*_@#<>&;\\\n\r\t\"'é\0\x1b\udcff]["), max_size=12)
PATHS = st.text(alphabet=st.sampled_from("ab/ :,%é\udcff#"), min_size=1, max_size=8)
PLACES = st.builds(Place, PATHS, st.integers(0, 9), st.sampled_from(["", "a" * 40]), NASTY)
FINDINGS = st.builds(
    Finding,
    st.sampled_from(["layers/a b", "lint/E501", "conflict/renamed"]),
    PLACES,
    NASTY,
    NASTY,
    NASTY,
    st.lists(PLACES, max_size=2).map(tuple),
    st.booleans(),
    st.booleans(),
)
SECTIONS = st.builds(
    Section,
    st.sampled_from(["rules", "lint", "conflicts"]),
    st.lists(FINDINGS, max_size=4).map(tuple),
    NASTY,
    st.booleans(),
    st.lists(NASTY, max_size=2).map(tuple),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from([{}, {"a": [1]}]),
)
REPORTS = st.builds(
    Report, st.lists(SECTIONS, max_size=3).map(tuple), st.just("2030-01-01"), st.sampled_from(["", "b" * 40]), NASTY
)


def findings(report: Report) -> list[Finding]:
    return [finding for section in report.sections for finding in section.findings]


@given(REPORTS)
@settings(max_examples=40, phases=[Phase.explicit, Phase.generate])
def test_json_fits_its_schema(report: Report) -> None:
    data = json.loads(as_json.render(report))
    VALIDATOR.validate(data)
    assert data["failures"] == sum(not each.warning for each in findings(report))
    assert data["complete"] == all(section.complete for section in report.sections)
    told = [each for section in data["sections"] for each in section["findings"]]
    assert [(each["path"], each["fingerprint"]) for each in told] == [
        (each.place.path, each.fingerprint) for each in findings(report)
    ]


@given(REPORTS)
@settings(max_examples=40, phases=[Phase.explicit, Phase.generate])
def test_sarif_has_each_finding_once(report: Report) -> None:
    (run,) = json.loads(sarif.render(report))["runs"]
    results = run["results"]
    assert len(results) == len(findings(report))
    for result, finding in zip(results, findings(report), strict=True):
        place = result["locations"][0]["physicalLocation"]
        assert re.fullmatch(r"[\w.~/%-]+", place["artifactLocation"]["uri"])
        path = unquote(place["artifactLocation"]["uri"], errors="surrogateescape")
        assert path == finding.place.path
        assert place.get("region", {}).get("startLine", 0) == finding.place.line
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == finding.rule
        assert result["partialFingerprints"] == {"greenline/v1": finding.fingerprint}
    assert run["invocations"][0]["executionSuccessful"] == report.complete


@pytest.mark.slow
@given(REPORTS)
@settings(max_examples=40, phases=[Phase.explicit, Phase.generate])
def test_sarif_fits_the_schema_of_the_standard(report: Report) -> None:
    if not SARIF.exists():
        pytest.skip("the schema of SARIF is not here: .ci/needs/premerge.sh installs it")
    SARIF_VALIDATOR.validate(json.loads(sarif.render(report)))


@given(REPORTS)
@settings(max_examples=40, phases=[Phase.explicit, Phase.generate])
def test_annotations_are_one_line_each_and_come_back_as_they_were(report: Report) -> None:
    lines = github.render(report).split("\n")[:-1]
    commands = [line for line in lines if "file=" in line.partition("::")[2].partition("::")[0]]
    assert len(commands) == len(findings(report))
    for line, finding in zip(commands, sorted(findings(report), key=lambda each: each.warning), strict=True):
        assert "\r" not in line
        head, _, data = line.removeprefix("::").partition("::")
        level, _, properties = head.partition(" ")
        values = dict(each.split("=", 1) for each in properties.split(","))
        assert level == ("warning" if finding.warning else "error")
        assert unquote(values["file"], errors="surrogateescape") == unquote(
            finding.place.path.replace("%", "%25"), errors="surrogateescape"
        )
        assert unescaped(data).startswith(finding.message)


def unescaped(data: str) -> str:
    return data.replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%")


@given(REPORTS)
@settings(max_examples=40, phases=[Phase.explicit, Phase.generate])
def test_junit_can_be_parsed_and_counts(report: Report) -> None:
    data = junit.render(report).encode("utf-8", "surrogateescape")
    suites = ElementTree.fromstring(data).findall("testsuite")
    assert len(suites) == len(report.sections)
    for suite, section in zip(suites, report.sections, strict=True):
        cases = suite.findall("testcase")
        assert len(cases) == int(suite.get("tests", "")) >= 1
        failing = [case for case in cases if case.find("failure") is not None]
        assert len(failing) == int(suite.get("failures", "")) == sum(not each.warning for each in section.findings)
        assert (len(suite.findall("testcase/skipped")) == 1) == (not section.complete)


@given(REPORTS)
@settings(max_examples=40, phases=[Phase.explicit, Phase.generate])
def test_markdown_has_a_row_for_each_finding_and_no_markup_of_theirs(report: Report) -> None:
    rendered = markdown.render(report)
    rendered.encode("utf-8")
    rows = [line for line in rendered.split("\n") if line.startswith("| <code>")]
    assert len(rows) == len(findings(report))
    for row in rows:
        assert row.count("|") == 5
        left = re.sub(r"</?code>|<br>|&#\d+;", "", row)
        assert not re.search(r"[<>`*_@\\]", left)


def test_markdown_stays_below_the_limit_of_a_comment() -> None:
    many = tuple(Finding("layers/x", Place(f"{number}.py", 1), "m" * 200, "s") for number in range(1000))
    rendered = markdown.render(Report((Section("rules", many, "1 rule"),), "2030-01-01", "b" * 40, "how"))
    assert len(rendered) <= markdown.MOST
    rows = sum(line.startswith("| <code>") for line in rendered.split("\n"))
    assert 100 < rows < 1000
    assert f"and {1000 - rows} more" in rendered


def test_text_tells_where_what_and_the_way_out() -> None:
    place, other = Place("a.py", 3), Place("b.py", 1, "c" * 40, "defines it")
    finding = Finding("conflict/renamed", place, "f is gone", "f", "call it g", (other,), True)
    quiet = Finding("x", Place("d.py"), "hm", "h", warning=True)
    assert text.render(Report((Section("rules", (finding, quiet)),), "2030-01-01")).splitlines() == [
        "a.py:3: conflict/renamed: f is gone",
        "    b.py:1 (ccccccc): defines it",
        "    call it g",
        "    greenline fix mends it",
        "d.py: warning: x: hm",
    ]


def test_a_fingerprint_outlives_lines_and_words() -> None:
    one = Finding("layers/x", Place("a.py", 3), "said so", "a -> b", "do this")
    assert one.fingerprint == one._replace(place=Place("a.py", 9), message="said otherwise", hint="").fingerprint
    others = [one._replace(rule="layers/y"), one._replace(place=Place("b.py", 3)), one._replace(subject="a -> c")]
    assert len({each.fingerprint for each in [one, *others]}) == 4
