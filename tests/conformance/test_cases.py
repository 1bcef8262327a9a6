"""Every case of the table, against the real command in a real repository."""

from __future__ import annotations

from pathlib import Path

import pytest
from ask import answers, greenline
from suite_run import root_of
from table import Case, load, missed, superfluous

CASES = load()


def row(case: Case) -> object:
    known = [pytest.mark.xfail(reason=case.limit, strict=True)] if case.limit else []
    return pytest.param(case, id=case.id, marks=known)


@pytest.mark.parametrize("case", [row(case) for case in CASES])
def test_case(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    for answer in answers(case, folder):
        assert answer.exit == case.exit
        assert missed(case, answer.tests, root_of(case, folder)) == []
        assert superfluous(case, answer.tests) == []
        assert case.complete is None or answer.complete is case.complete
        assert case.warning is None or case.warning in answer.warnings


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.number in ("36", "49b", "58d")], ids=lambda case: case.id
)
def test_paths_are_those_of_json(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    (answer,) = answers(case, folder)
    paths = greenline(case, folder, "main", [*case.arguments, "--format", "paths"]).stdout.splitlines()
    assert paths == sorted({test.partition("::")[0] for test in answer.tests})


def test_a_call_keeps_something(tmp_path: Path) -> None:
    """Or the cases about what an earlier call has kept would show nothing."""
    (case,) = (case for case in CASES if case.number == "171a")
    answers(case._replace(steps=()), tmp_path / "repository")
    assert any(path.is_file() for path in (tmp_path / "repository" / ".greenline").rglob("*"))
