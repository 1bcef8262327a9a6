"""Failures told apart, and reports of CI read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from greenline.ci.breakage.classify import Counts, classify, missing_module, near_dates
from greenline.ci.breakage.failures import fingerprint, group, kind_of, read_junit, read_stream
from greenline.ci.breakage.probe import Outcome
from greenline.depgraph.errors import GreenlineError


def failed(message: str) -> Outcome:
    return Outcome("failed", message)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ImportError: no 'a' in 'b' (/tmp/x1/b.py)", "ImportError: no 'a' in 'b' (/opt/u/b.py)"),
        ("KeyError: 'at 0x7f00aa'", "KeyError: 'at 0x7fbb11'"),
        ("ValueError: took 1.25 s", "ValueError: took 7 s"),
        ("OSError: /tmp/pytest-of-a/pytest-1/x is gone", "OSError: /tmp/pytest-of-b/pytest-22/x is gone"),
        ("RuntimeError: at 2026-01-01T10:00:00", "RuntimeError: at 2025-12-31T09:30:59"),
    ],
)  # fmt: skip
def test_what_varies_between_runs_is_no_part_of_a_fingerprint(one: str, other: str) -> None:
    assert fingerprint("t.py::a", failed(one)) == fingerprint("t.py::b", failed(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ImportError: cannot import name 'a' from 'b'", "ImportError: cannot import name 'c' from 'b'"),
        ("KeyError: 'a'", "ValueError: 'a'"),
        ("TypeError: f() got an unexpected argument 'x'", "TypeError: g() got an unexpected argument 'x'"),
    ],
)  # fmt: skip
def test_another_reason_is_another_fingerprint(one: str, other: str) -> None:
    assert fingerprint("t.py::a", failed(one)) != fingerprint("t.py::a", failed(other))


def test_assertions_are_told_apart_by_their_tests_and_not_by_parameters() -> None:
    one, same, other = (fingerprint(test, failed("assert 1 == 2")) for test in ("t.py::a[1]", "t.py::a[2]", "t.py::b"))
    assert one == same != other
    assert kind_of("assert 1 == 2") == kind_of("AssertionError: no") == "AssertionError"


def test_several_failures_at_once() -> None:
    lost = failed("ImportError: cannot import name 'a' from 'b'")
    found = group({"t.py::x": lost, "t.py::y": lost, "t.py::z": failed("assert 0"), "t.py::fine": Outcome("passed")})
    assert sorted(found.values()) == [("t.py::x", "t.py::y"), ("t.py::z",)]


@pytest.mark.parametrize(
    ("counts", "message", "kind"),
    [
        (Counts((3, 3), (0, 3)), "assert 0", "break"),
        (Counts((2, 7), (0, 9)), "assert 0", "flake"),
        (Counts((5, 7), (0, 9)), "assert 0", "break"),
        (Counts((3, 7), (2, 9)), "assert 0", "flake"),
        (Counts((3, 3), (3, 3)), "assert 0", "environment"),
        (Counts((3, 3), (3, 3)), "ConnectionRefusedError: [Errno 111] Connection refused", "infrastructure"),
        (Counts((0, 2), (0, 3), (2, 2)), "assert 0", "order-dependent"),
        (Counts((0, 2), (0, 3), (1, 2)), "assert 0", "flake"),
        (Counts((1, 3), (0, 3)), "OSError: No space left on device", "infrastructure"),
    ],
)
def test_kinds(counts: Counts, message: str, kind: str) -> None:
    assert classify(counts, message) == kind


def test_a_module_that_is_not_there() -> None:
    assert missing_module("ModuleNotFoundError: No module named 'numpy.linalg'") == "numpy"
    assert missing_module("KeyError: \"No module named 'numpy'\"") == ""


def test_dates_near_now() -> None:
    import datetime

    texts = {"t.py": "X = '2026-03-01'\nY = date(2026, 3, 9)\nOLD = '1999-01-01'\nNO = '2026-13-40'\n"}
    found = near_dates(texts, datetime.date(2026, 3, 5))
    assert [(path, line, str(day)) for path, line, day in found] == [
        ("t.py", 1, "2026-03-01"),
        ("t.py", 2, "2026-03-09"),
    ]


TESTS = """
import pytest

def test_fine():
    assert True

@pytest.mark.parametrize("x", ["a b", "1::2"])
def test_each(x):
    assert x == "a b"

class TestC:
    def test_inner(self):
        assert 0

@pytest.fixture
def broken():
    raise RuntimeError

def test_setup(broken):
    pass
"""


def test_junit_of_real_pytest(tmp_path: Path) -> None:
    files = {"api/tests/test_x.py": TESTS, "api/tests/test_broken.py": "import not_there\n"}
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, "utf-8")
    report = tmp_path / "junit.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--rootdir=api",
        "--continue-on-collection-errors",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
        "api",
    ]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    told = read_junit([str(report)], files)
    assert told.failed == (
        "api/tests/test_broken.py",
        "api/tests/test_x.py::TestC::test_inner",
        "api/tests/test_x.py::test_each[1::2]",
        "api/tests/test_x.py::test_setup",
    )
    assert told.passed == ("api/tests/test_x.py::test_each[a b]", "api/tests/test_x.py::test_fine")
    report.write_text(report.read_text("utf-8")[:300], "utf-8")
    assert read_junit([str(report)], files) == ((), (), (str(report),))


def test_a_stream_of_results(tmp_path: Path) -> None:
    stream = tmp_path / "results.jsonl"
    lines = [
        {"$report_type": "SessionStart"},
        {"$report_type": "TestReport", "nodeid": "t.py::a", "when": "call", "outcome": "failed"},
        {"$report_type": "TestReport", "nodeid": "t.py::b", "when": "call", "outcome": "passed"},
        {"$report_type": "TestReport", "nodeid": "t.py::c", "when": "setup", "outcome": "passed"},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    stream.write_text(text + '{"$report_type": "Sess', "utf-8")
    assert read_stream([str(stream)]) == (("t.py::a",), ("t.py::b",), (str(stream),))
    stream.write_text(text + '{"$report_type": "SessionFinish"}\n', "utf-8")
    assert read_stream([str(stream)]).lost == ()


def test_reports_that_are_not_there(tmp_path: Path) -> None:
    for read in (lambda path: read_junit([path], []), lambda path: read_stream([path])):
        with pytest.raises(GreenlineError) as error:
            read(str(tmp_path / "none"))
        assert "none" in error.value.message
