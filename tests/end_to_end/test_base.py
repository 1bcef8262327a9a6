"""Which commit a change is measured from: on each CI, on each kind of checkout, on branches.

    main     one ─ two ─ three          two edits a, three edits c
    feature        └── F1 ── F2         F1 edits b, F2 edits d
    merge          three + F2           what GitHub and GitLab check out for a request

Where a checkout lacks the base, everything is selected, and the command that is printed mends it: the tests run it.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from calls import GREENLINE, call
from conftest import Repository

from greenline.ci.affected import NOW, Answer, Request, affected
from greenline.depgraph.errors import GreenlineError

ALL = "abcd"
BRANCH = "bd"  # what the feature branch edits


class Origin(NamedTuple):
    """The remote and the ids of its commits."""

    url: str
    one: str
    two: str
    three: str
    first: str
    second: str
    merge: str


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def commit(root: Path, **edits: str) -> str:
    for name, value in edits.items():
        (root / f"{name}.py").write_text(f"VALUE = {value}\n")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "--message=change")
    return git(root, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    with pytest.MonkeyPatch.context() as patch:
        for role in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{role}_NAME", "Ada")
            patch.setenv(f"GIT_{role}_EMAIL", "ada@example.org")
        root = tmp_path_factory.mktemp("origin")
        git(root, "init", "--quiet", "--initial-branch=main")
        for setting in ("uploadpack.allowAnySHA1InWant", "uploadpack.allowFilter"):
            git(root, "config", setting, "true")
        for name in ALL:
            (root / f"test_{name}.py").write_text(f"from {name} import VALUE\ndef test(): assert VALUE\n")
        one = commit(root, a="1", b="1", c="1", d="1")
        two = commit(root, a="2")
        git(root, "checkout", "--quiet", "-b", "feature")
        first, second = commit(root, b="2"), commit(root, d="2")
        git(root, "checkout", "--quiet", "main")
        three = commit(root, c="2")
        git(root, "checkout", "--quiet", "--detach")
        git(root, "merge", "--quiet", "--no-ff", "--no-edit", "feature")
        merge = git(root, "rev-parse", "HEAD")
        git(root, "update-ref", "refs/pull/7/merge", merge)
        git(root, "checkout", "--quiet", "main")
        yield Origin(f"file://{root}", one, two, three, first, second, merge)


def checkout(folder: Path, origin: Origin, commit: str, depth: int = 0, branch: str | None = None) -> Path:
    """As CI checks out: one commit, and of its history as much as ``depth`` says (0: all branches, all of it)."""
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=none")
    git(folder, "remote", "add", "origin", origin.url)
    if depth:
        git(folder, "fetch", "--quiet", "--no-tags", f"--depth={depth}", "origin", commit)
    else:
        git(folder, "fetch", "--quiet", "origin", "+refs/heads/*:refs/remotes/origin/*", "+refs/pull/*:refs/pull/*")
    git(folder, "checkout", "--quiet", *(("-B", branch) if branch else ("--detach",)), commit)
    return folder


def ask(folder: Path, environment: Mapping[str, str], request: Request = NOW) -> Answer:
    return affected(str(folder), request, environment=environment)


def selected(answer: Answer) -> str:
    return "".join(test.path.removeprefix("test_").removesuffix(".py") for test in answer.tests)


def check(folder: Path, environment: Mapping[str, str], tests: str, how: str, fetches: int) -> None:
    """``fetches``: how many times everything is selected first, each time with a command that brings more."""
    for _ in range(fetches):
        answer = ask(folder, environment)
        assert (selected(answer), answer.complete) == (ALL, False)
        (warning,) = answer.warnings
        command = warning.partition("; ")[2]
        assert command.startswith("git fetch "), warning
        subprocess.run(command, shell=True, cwd=folder, check=True, capture_output=True)
    answer = ask(folder, environment)
    assert (selected(answer), answer.how, answer.complete, answer.warnings) == (tests, how, True, [])


def github(folder: Path, name: str, event: object, ref: str = "refs/heads/feature") -> dict[str, str]:
    path = folder / "event.json"
    path.write_text(json.dumps(event))
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": name,
        "GITHUB_EVENT_PATH": str(path),
        "GITHUB_REF": ref,
        "GITHUB_BASE_REF": "main",
    }


@pytest.mark.parametrize(
    ("depth", "base", "tests", "fetches"),
    [
        (0, "three", BRANCH, 0),
        (2, "three", BRANCH, 0),
        (1, "three", BRANCH, 1),
        (2, "two", BRANCH, 0),  # main went on after the event: the merge commit knows better
        (1, "two", "bcd", 1),  # without its parents, what main gained meanwhile counts too
    ],
)
def test_github_merge_checkout(origin: Origin, tmp_path: Path, depth: int, base: str, tests: str, fetches: int) -> None:
    event = {"pull_request": {"base": {"sha": getattr(origin, base)}, "head": {"sha": origin.second}}}
    environment = github(tmp_path, "pull_request", event, "refs/pull/7/merge")
    folder = checkout(tmp_path / "work", origin, origin.merge, depth)
    check(folder, environment, tests, "GitHub pull request", fetches)


@pytest.mark.parametrize(("depth", "fetches"), [(0, 0), (1, 1), (2, 1)])
def test_github_head_checkout(origin: Origin, tmp_path: Path, depth: int, fetches: int) -> None:
    event = {"pull_request": {"base": {"sha": origin.three}, "head": {"sha": origin.second}}}
    environment = github(tmp_path, "pull_request", event, "refs/pull/7/merge")
    folder = checkout(tmp_path / "work", origin, origin.second, depth)
    check(folder, environment, BRANCH, "GitHub pull request", fetches)


@pytest.mark.parametrize(("depth", "fetches"), [(0, 0), (1, 1)])
def test_github_pull_request_without_its_event(origin: Origin, tmp_path: Path, depth: int, fetches: int) -> None:
    environment = github(tmp_path, "pull_request", "nothing of use", "refs/pull/7/merge")
    folder = checkout(tmp_path / "work", origin, origin.merge, depth)
    check(folder, environment, BRANCH, "GitHub pull request", fetches)


@pytest.mark.parametrize(("depth", "fetches"), [(0, 0), (1, 1)])
def test_github_merge_queue(origin: Origin, tmp_path: Path, depth: int, fetches: int) -> None:
    environment = github(tmp_path, "merge_group", {"merge_group": {"base_sha": origin.three}})
    folder = checkout(tmp_path / "work", origin, origin.merge, depth)
    check(folder, environment, BRANCH, "GitHub merge queue", fetches)


@pytest.mark.parametrize(
    ("pushed", "before", "depth", "tests", "fetches"),
    [
        ("three", "two", 0, "c", 0),
        ("three", "one", 1, "ac", 1),
        ("second", "first", 2, "d", 0),
        ("first", "second", 0, "d", 0),  # a force push that takes a commit back
        ("first", "second", 1, "d", 1),
    ],
)
def test_github_push(
    origin: Origin, tmp_path: Path, pushed: str, before: str, depth: int, tests: str, fetches: int
) -> None:
    environment = github(tmp_path, "push", {"before": getattr(origin, before)})
    folder = checkout(tmp_path / "work", origin, getattr(origin, pushed), depth, "feature")
    check(folder, environment, tests, "GitHub push", fetches)


@pytest.mark.parametrize(("depth", "fetches"), [(0, 0), (1, 1)])
def test_github_first_push_of_a_branch(origin: Origin, tmp_path: Path, depth: int, fetches: int) -> None:
    environment = github(tmp_path, "push", {"before": "0" * 40, "repository": {"default_branch": "main"}})
    folder = checkout(tmp_path / "work", origin, origin.second, depth, "feature")
    check(folder, environment, BRANCH, "origin/main", fetches)


def test_a_forced_push_whose_past_is_lost_selects_everything(origin: Origin, tmp_path: Path) -> None:
    environment = github(tmp_path, "push", {"before": "1" * 40})
    answer = ask(checkout(tmp_path / "work", origin, origin.second, branch="feature"), environment)
    assert (selected(answer), answer.complete) == (ALL, False)
    assert answer.how == f"GitHub push: commit {'1' * 12} is not in this clone"


@pytest.mark.parametrize(
    ("variables", "commit", "how"),
    [
        ({"CI_MERGE_REQUEST_DIFF_BASE_SHA": "two"}, "second", "GitLab merge request"),
        (
            {"CI_MERGE_REQUEST_TARGET_BRANCH_SHA": "three", "CI_MERGE_REQUEST_DIFF_BASE_SHA": "two"},
            "merge",
            "GitLab merge request",
        ),
        ({"CI_COMMIT_BEFORE_SHA": "two"}, "second", "GitLab push"),
    ],
)
@pytest.mark.parametrize(("depth", "fetches"), [(0, 0), (1, 1)])
def test_gitlab(
    origin: Origin, tmp_path: Path, variables: dict[str, str], commit: str, how: str, depth: int, fetches: int
) -> None:
    environment = {"GITLAB_CI": "true", "CI_COMMIT_BEFORE_SHA": "0" * 40, "CI_DEFAULT_BRANCH": "main"}
    environment |= {name: getattr(origin, value) for name, value in variables.items()}
    folder = checkout(tmp_path / "work", origin, getattr(origin, commit), depth)
    check(folder, environment, BRANCH, how, fetches)


@pytest.mark.parametrize(("depth", "fetches"), [(0, 0), (1, 1)])
def test_gitlab_first_push_of_a_branch(origin: Origin, tmp_path: Path, depth: int, fetches: int) -> None:
    environment = {"GITLAB_CI": "true", "CI_COMMIT_BEFORE_SHA": "0" * 40, "CI_DEFAULT_BRANCH": "main"}
    folder = checkout(tmp_path / "work", origin, origin.second, depth)
    check(folder, environment, BRANCH, "origin/main", fetches)


@pytest.mark.parametrize(
    ("variables", "commit", "how", "depth", "fetches"),
    [
        ({"BUILDKITE_PULL_REQUEST": "7"}, "second", "Buildkite pull request", 0, 0),
        ({"BUILDKITE_PULL_REQUEST": "7"}, "second", "Buildkite pull request", 1, 1),
        ({"BUILDKITE_MERGE_QUEUE_BASE_COMMIT": "three"}, "merge", "Buildkite merge queue", 0, 0),
        ({"BUILDKITE_MERGE_QUEUE_BASE_COMMIT": "three"}, "merge", "Buildkite merge queue", 1, 1),
        ({"BUILDKITE_PULL_REQUEST": "false"}, "second", "origin/main", 0, 0),
    ],
)
def test_buildkite(
    origin: Origin, tmp_path: Path, variables: dict[str, str], commit: str, how: str, depth: int, fetches: int
) -> None:
    environment = {"BUILDKITE": "true", "BUILDKITE_PULL_REQUEST_BASE_BRANCH": "main"}
    environment |= {"BUILDKITE_PIPELINE_DEFAULT_BRANCH": "main"}
    environment |= {name: getattr(origin, value, value) for name, value in variables.items()}
    folder = checkout(tmp_path / "work", origin, getattr(origin, commit), depth)
    check(folder, environment, BRANCH, how, fetches)


@pytest.mark.parametrize("ref", ["origin/main", "three"])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("exact", [False, True])
def test_a_named_base_in_a_shallow_clone(origin: Origin, tmp_path: Path, ref: str, depth: int, exact: bool) -> None:
    folder = checkout(tmp_path / "work", origin, origin.second, depth)
    request = Request(getattr(origin, ref, ref), exact)
    answer = ask(folder, {}, request)
    assert (selected(answer), answer.complete) == (ALL, False)
    command = answer.warnings[0].partition("; ")[2]
    subprocess.run(command, shell=True, cwd=folder, check=True, capture_output=True)
    answer = ask(folder, {}, request)
    assert (selected(answer), answer.complete) == ("bcd" if exact else BRANCH, True)


@pytest.mark.parametrize("ref", ["HEAD~1", "HEAD^"])
def test_an_ancestor_that_a_shallow_clone_lacks(origin: Origin, tmp_path: Path, ref: str) -> None:
    folder = checkout(tmp_path / "work", origin, origin.second, 1)
    git(folder, "config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
    answer = ask(folder, {}, Request(ref))
    assert (selected(answer), answer.complete) == (ALL, False)
    subprocess.run(answer.warnings[0].partition("; ")[2], shell=True, cwd=folder, check=True, capture_output=True)
    assert selected(ask(folder, {}, Request(ref))) == "d"


def test_the_variable_comes_before_the_ci_and_the_option_before_the_variable(origin: Origin, tmp_path: Path) -> None:
    folder = checkout(tmp_path / "work", origin, origin.second)
    environment = {"GITLAB_CI": "true", "CI_COMMIT_BEFORE_SHA": origin.one}
    assert selected(ask(folder, environment)) == "abd"
    environment["GREENLINE_BASE"] = "origin/main"
    answer = ask(folder, environment)
    assert (selected(answer), answer.how) == (BRANCH, "$GREENLINE_BASE")
    answer = ask(folder, environment, Request(origin.first))
    assert (selected(answer), answer.how) == ("d", f"--base {origin.first}")
    environment["GREENLINE_BASE"] = "nowhere"
    with pytest.raises(GreenlineError, match=r"\$GREENLINE_BASE: git knows no commit 'nowhere'"):
        ask(folder, environment)


# -- branches ------------------------------------------------------------------------------------------------


@pytest.fixture
def clone(origin: Origin, tmp_path: Path) -> Path:
    """A developer's clone, on the feature branch."""
    git(tmp_path, "clone", "--quiet", origin.url, "clone")
    git(tmp_path / "clone", "checkout", "--quiet", "feature")
    return tmp_path / "clone"


def test_a_feature_branch_is_measured_from_the_remote_s_default_branch(clone: Path) -> None:
    check(clone, {}, BRANCH, "origin/main", 0)
    git(clone, "branch", "--quiet", "--force", "main", "main~2")  # a stale local branch does not matter
    check(clone, {}, BRANCH, "origin/main", 0)
    (clone / "a.py").write_text("VALUE = 9\n")
    check(clone, {}, "abd", "origin/main", 0)


def test_without_a_remote_the_local_branch_serves(clone: Path) -> None:
    git(clone, "remote", "remove", "origin")
    check(clone, {}, BRANCH, "main", 0)


def test_without_a_branch_that_could_be_the_default_everything(clone: Path) -> None:
    git(clone, "remote", "remove", "origin")
    git(clone, "branch", "--quiet", "--delete", "--force", "main")
    answer = ask(clone, {})
    assert (selected(answer), answer.complete, answer.how) == (ALL, False, "no default branch is known")
    assert "--base REF" in answer.warnings[0]


def test_a_renamed_default_branch(clone: Path) -> None:
    git(clone, "update-ref", "refs/remotes/origin/primary", "refs/remotes/origin/main")
    git(clone, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/primary")
    check(clone, {}, BRANCH, "origin/primary", 0)
    git(clone, "update-ref", "-d", "refs/remotes/origin/primary")  # origin/HEAD leads nowhere now
    check(clone, {}, BRANCH, "origin/main", 0)


def test_a_second_remote_and_a_branch_by_configuration(clone: Path, origin: Origin) -> None:
    git(clone, "remote", "add", "upstream", origin.url)
    git(clone, "fetch", "--quiet", "upstream")
    git(clone, "update-ref", "refs/remotes/origin/main", origin.one)  # the fork lags behind
    check(clone, {}, "abd", "origin/main", 0)
    (clone / ".git" / "info" / "exclude").write_text("greenline.yaml\n")
    (clone / "greenline.yaml").write_text("base: {remote: upstream, branch: main}\n")
    check(clone, {}, BRANCH, "upstream/main", 0)
    (clone / "greenline.yaml").write_text("base: {remote: upstream, branch: feature}\n")
    git(clone, "checkout", "--quiet", "-b", "other")
    commit(clone, c="7")
    check(clone, {}, "c", "upstream/feature", 0)


def test_a_branch_of_the_configuration_that_was_not_fetched(clone: Path) -> None:
    git(clone, "update-ref", "-d", "refs/remotes/origin/main")
    git(clone, "branch", "--quiet", "--delete", "--force", "main")
    (clone / ".git" / "info" / "exclude").write_text("greenline.yaml\n")
    (clone / "greenline.yaml").write_text("base: {branch: main}\n")
    check(clone, {}, BRANCH, "origin/main", 1)


@pytest.mark.parametrize("detached", [False, True])
def test_the_default_branch_is_measured_from_the_last_green_commit(clone: Path, origin: Origin, detached: bool) -> None:
    git(clone, "checkout", "--quiet", *(("--detach", "origin/main") if detached else ("main",)))
    answer = ask(clone, {})
    assert (selected(answer), answer.complete) == (ALL, False)
    assert "no commit of it is recorded green" in answer.how
    git(clone, "update-ref", "refs/greenline/last-green", origin.one)
    check(clone, {}, "ac", "last green", 0)
    git(clone, "update-ref", "refs/greenline/last-green", origin.three)
    check(clone, {}, "", "last green", 0)


def test_detached_at_the_latest_commit_of_a_repository_without_remote(clone: Path) -> None:
    git(clone, "checkout", "--quiet", "main")
    git(clone, "remote", "remove", "origin")
    git(clone, "checkout", "--quiet", "--detach")
    answer = ask(clone, {})
    assert (selected(answer), answer.complete) == (ALL, False)
    assert "no commit of it is recorded green" in answer.how


def test_a_head_is_measured_like_a_checkout(clone: Path, origin: Origin) -> None:
    git(clone, "checkout", "--quiet", "main")
    (clone / "a.py").write_text("VALUE = 9\n")
    answer = ask(clone, {}, Request(head="feature"))
    assert (selected(answer), answer.how, answer.base) == (BRANCH, "origin/main", origin.two)


@pytest.mark.parametrize(("ref", "hint"), [("HEAD~999", "HEAD has 3 commits before it"), ("nowhere", "git fetch it")])
def test_a_commit_that_is_not_there(clone: Path, ref: str, hint: str) -> None:
    git(clone, "checkout", "--quiet", "--orphan", "short")
    for _ in range(4):
        git(clone, "commit", "--quiet", "--allow-empty", "--message=more")
    for command in (["affected", "--base", ref], ["affected", "--head", ref], ["audit", "--until", ref]):
        done = call(clone, GREENLINE, *command)
        assert (done.code, done.out) == (2, "")
        assert f"git knows no commit '{ref}'" in done.err and hint in done.err


def test_there_is_nothing_to_audit_before_the_first_commit(clone: Path) -> None:
    git(clone, "checkout", "--quiet", "--orphan", "short")
    git(clone, "commit", "--quiet", "--message=first")
    done = call(clone, GREENLINE, "audit")
    assert done.code == 2 and "HEAD is the first commit" in done.err


@pytest.mark.slow
def test_an_audit_says_on_a_terminal_what_it_does(repository: Repository) -> None:
    repository.commit({"tests/test_a.py": "def test_a():\n    pass\n"})
    head = repository.commit()
    ours, theirs = pty.openpty()
    subprocess.run([GREENLINE, "audit"], cwd=repository.root, stdout=subprocess.DEVNULL, stderr=theirs, check=True)
    os.close(theirs)
    told = os.read(ours, 10_000).decode()
    assert "recording every test at" in told and f"replaying {head[:10]}, 1 of 1" in told


def test_another_user_s_repository_names_the_way_out(clone: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a folder that belongs to somebody else")
    for folder in (clone, clone / ".git"):
        os.chown(folder, 65534, 65534)
    answer = ask(clone, {}, Request("HEAD"))
    assert (selected(answer), answer.complete) == (ALL, False)
    assert f"git config --global --add safe.directory '{clone}" in answer.warnings[0]
