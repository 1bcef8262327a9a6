"""`greenline main`: runs are recorded from real reports, and the status follows from them."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from calls import Call
from conftest import Repository

from greenline.tools.cli.main import run

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "main.schema.json").read_text("utf-8"))
TESTS = {"test_a.py": "def test_one():\n    pass\n\n\ndef test_two():\n    pass\n"}


def junit(path: Path, **outcomes: bool) -> Path:
    cases = "".join(
        f'<testcase classname="test_a" name="{name}">{"" if passed else "<failure/>"}</testcase>'
        for name, passed in outcomes.items()
    )
    path.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>", "utf-8")
    return path


class Main:
    """`greenline main` in this process: starting one for each of these calls would take seconds."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Call:
        code = run(["main", *map(str, arguments)])
        return Call(code, *self._capsys.readouterr())


@pytest.fixture
def main(repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Main:
    monkeypatch.chdir(repository.root)
    return Main(capsys)


def test_a_day_of_main(repository: Repository, main: Main, tmp_path: Path) -> None:
    red = junit(tmp_path / "red.xml", test_one=True, test_two=False)
    green = junit(tmp_path / "green.xml", test_one=True, test_two=True)
    commits = [repository.commit(TESTS), repository.commit(), repository.commit()]
    for hour, commit, report in ((0, 0, green), (6, 1, red), (7, 1, green), (8, 2, red), (9, 2, green)):
        done = main("record", "--junit", report, "--commit", commits[commit], "--at", f"2026-01-01T{hour:02}:00")
        assert done.code == 0, done
    done = main("status", "--at", "2026-01-01T10:00", "--format", "json")
    assert done.code == 0
    status = json.loads(done.out)
    jsonschema.Draft202012Validator(SCHEMA).validate(status)
    assert (status["green"], status["green_share"], status["last_green"]) == (True, 0.8, commits[2])
    assert [(each["test"], each["commits"]) for each in status["flakes"]] == [("test_a.py::test_two", 2)]
    assert [each["test"] for each in status["quarantine"]] == ["test_a.py::test_two"]
    assert main("status", "--at", "2026-01-01T08:30").code == 1
    report = main("report", "--at", "2026-01-01T10:00")
    assert "| green share of the time | 80.0% |" in report.out
    assert repository.git("rev-parse", "refs/greenline/last-green").strip() == commits[2]


def test_what_proves_nothing_is_not_kept(repository: Repository, main: Main, tmp_path: Path) -> None:
    repository.commit(TESTS)
    report = tmp_path / "junit.xml"
    for text, problem in (("<testsuites/>", "no test"), ("<testsuites><testsuite><testca", "breaks off")):
        report.write_text(text, "utf-8")
        done = main("record", "--junit", report)
        assert done.code == 1
        assert problem in done.err
    assert main("record").code == 2
    assert main("status").out.startswith("main is not known")
