"""Pull requests on a GitHub that fails in all the ways it can."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenline.ci.forges.github import RECOVERED, Draft, close_recovered, connect, propose
from greenline.depgraph.errors import GreenlineError

sys.path.insert(0, str(Path(__file__).parents[1]))
from github_server import GitHub, serve

BRANCH = "greenline/repair/0123456789abcdef"
DRAFT = Draft(BRANCH, "Repair: f is now g", "# Repair\n\ntext\n", ("@ada", "@org/core", "mail@example.org"))


@pytest.fixture
def github() -> Iterator[GitHub]:
    with serve() as server:
        yield server


def test_one_failure_one_pull_request(github: GitHub) -> None:
    repository = connect(github.environment())
    assert propose(repository, DRAFT, "main").state == "opened"
    assert propose(repository, DRAFT, "main").state == "unchanged"
    assert propose(repository, DRAFT._replace(body="new evidence"), "main") == (
        1,
        github.pulls[0]["html_url"],
        "updated",
    )
    (pull,) = github.pulls
    assert (pull["title"], pull["body"], pull["draft"]) == (DRAFT.title, "new evidence", False)
    asked = next(request for request in github.requests if request.path.endswith("requested_reviewers"))
    assert asked.body == {"reviewers": ["ada"], "team_reviewers": ["core"]}
    assert not any("/merge" in request.path for request in github.requests)


def test_what_a_person_must_see_is_a_draft(github: GitHub) -> None:
    propose(connect(github.environment()), DRAFT._replace(as_draft=True), "main")
    assert github.pulls[0]["draft"] is True


def test_an_answer_that_is_lost_after_the_write(github: GitHub) -> None:
    github.faults = ["drop"]
    assert propose(connect(github.environment()), DRAFT, "main").number == 1
    assert len(github.pulls) == 1


def test_another_run_was_faster(github: GitHub) -> None:
    repository = connect(github.environment())
    find = repository.get_pulls
    calls: list[object] = []

    def late(**options: object) -> object:
        calls.append(options)
        if len(calls) > 1:
            return find(**options)
        github.add(BRANCH, "main", DRAFT.title, DRAFT.body)  # between our look and our write
        return []

    repository.get_pulls = late  # type: ignore[method-assign,assignment]
    assert propose(repository, DRAFT, "main").number == 1
    assert len(github.pulls) == 1


@pytest.mark.parametrize(
    ("fault", "message", "hint"),
    [
        ("403", "not accessible", "pull-requests: write"),
        ("422", "No commits between", None),
        ("429", "rate limit", "in an hour"),
    ],
)
def test_refusals_are_told(github: GitHub, fault: str, message: str, hint: str | None) -> None:
    github.faults = [fault]
    with pytest.raises(GreenlineError) as error:
        propose(connect(github.environment()), DRAFT, "main")
    assert message in error.value.message
    assert "ghs_" not in error.value.message
    assert hint is None or hint in (error.value.hint or "")
    assert github.pulls == []
    assert len(github.writes()) == 1


def test_a_person_who_closed_it_is_not_asked_again(github: GitHub) -> None:
    github.add(BRANCH, "main", "t", "b", state="closed")
    assert propose(connect(github.environment()), DRAFT, "main").state == "declined"
    assert github.writes() == []


def test_after_a_merge_or_a_recovery_the_same_failure_may_come_again(github: GitHub) -> None:
    github.add(BRANCH, "main", "t", "b", state="closed", merged_at="2026-01-01T00:00:00Z")
    github.add(BRANCH, "main", "t", f"b\n\n{RECOVERED}\n", state="closed")
    assert propose(connect(github.environment()), DRAFT, "main").number == 3


def test_main_recovers(github: GitHub) -> None:
    github.add(BRANCH, "main", "t", "b")
    github.add("greenline/repair/fedcba9876543210", "main", "still broken", "b")
    github.add("feature", "main", "of a person", "b")
    assert close_recovered(connect(github.environment()), {"greenline/repair/fedcba9876543210"}) == [1]
    assert [pull["state"] for pull in github.pulls] == ["closed", "open", "open"]
    assert RECOVERED in github.pulls[0]["body"]
    assert propose(connect(github.environment()), DRAFT, "main").number == 4


def test_no_token_no_request(github: GitHub) -> None:
    environment = github.environment()
    del environment["GITHUB_TOKEN"]
    with pytest.raises(GreenlineError, match="GITHUB_TOKEN"):
        connect(environment)
    assert github.requests == []


def test_a_server_that_is_not_there() -> None:
    environment = {"GITHUB_TOKEN": "x", "GITHUB_REPOSITORY": "a/b", "GITHUB_API_URL": "http://127.0.0.1:9"}
    with pytest.raises(GreenlineError, match="cannot be reached"):
        propose(connect(environment), DRAFT, "main")
