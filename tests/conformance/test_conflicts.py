"""Conflict pairs are told, near misses are not, and a fix is offered where the table says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conflict_cases import Case, Commits, build, load

from greenline.depgraph.config import Config
from greenline.depgraph.workspace import Workspace, find
from greenline.rules.conflicts.find import find_conflicts

CASES = load()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, dict[str, Commits]]]:
    folder = tmp_path_factory.mktemp("conflicts") / "repository"
    commits = build(folder, CASES)
    yield find(str(folder)), commits


def row(case: Case) -> object:
    known = [pytest.mark.xfail(reason=case.limit, strict=True)] if case.limit else []
    return pytest.param(case, id=case.id, marks=known)


@pytest.mark.parametrize("case", [row(case) for case in CASES])
def test_case(case: Case, built: tuple[Workspace, dict[str, Commits]]) -> None:
    workspace, commits = built
    found = find_conflicts(workspace, Config(), *commits[case.id])
    told = [(one.number, one.finding.message) for one in found if not one.finding.warning]
    if case.conflict:
        assert case.number in [number for number, _ in told], told
        assert not case.fix or any(one.fix for one in found), told
    else:
        assert told == []


def test_the_table_is_full() -> None:
    """Six pairs and six near misses of every class; names that are said once."""
    counts = {(case.number, case.conflict): 0 for case in CASES}
    for case in CASES:
        counts[case.number, case.conflict] += 1
    assert {key: count for key, count in counts.items() if count < 6} == {}
    assert len({case.id for case in CASES}) == len(CASES)
