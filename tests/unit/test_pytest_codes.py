from __future__ import annotations

import pytest

from greenline.ci.execution.pytest_codes import keep_all, worst


@pytest.mark.parametrize(
    ("codes", "code"), [([], 0), ([0, 0], 0), ([0, 5, 2], 5), ([2, 0, 1], 1), ([137, 0], 137), ([4, 1], 1)]
)
def test_one_code_for_several_runs(codes: list[int], code: int) -> None:
    assert worst(codes) == code


@pytest.mark.parametrize(
    ("options", "all_run"),
    [
        ("", True),
        ("-q -x -vv -n 4 --dist loadfile --tb=short", True),
        ("-n4 -rA --maxfail 3 --junitxml=out.xml --durations 10 --cov=app --cov-report term", False),
        ("-n4 -rA --maxfail 3 --junitxml=out.xml --durations 10 --cov=app --cov-report=term", True),
        ("-k fast", False),
        ("-q -m slow", False),
        ("--deselect=tests/test_a.py::test_x", False),
        ("tests/test_a.py", False),
        ("-n 4 tests/test_a.py", False),
        ("--lf", False),
        ("--collect-only", False),
        ("--co", False),
        ("--an-option-of-some-plugin", False),
    ],
)
def test_options_that_leave_every_test_in(options: str, all_run: bool) -> None:
    assert keep_all(options.split()) == all_run
