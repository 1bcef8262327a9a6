"""Pull requests on GitHub: one for each failure, brought up to date, closed when main recovers, never merged.

Nothing is remembered outside of GitHub: the branch's name, which follows from the failure, is the key. So a run that
was killed, or whose answer was lost after GitHub had written, finds on its next try what is there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from greenline.ci.forges.plain_git import PREFIX
from greenline.depgraph.errors import GreenlineError

if TYPE_CHECKING:
    from github.PullRequest import PullRequest
    from github.Repository import Repository

RECOVERED = "Greenline closed this: the tests pass on main again without it."
"""Written when we close; a pull request that is closed without it was closed by a person, who wants no other."""
_SECONDS = 30


class Pull(NamedTuple):
    """``state``: "opened", "updated", "unchanged", or "declined": a person closed it."""

    number: int
    url: str
    state: str


class Draft(NamedTuple):
    """What to propose. ``owners``: "@user", "@org/team"; ``as_draft``: a person must look before it may be merged."""

    branch: str
    title: str
    body: str
    owners: Sequence[str] = ()
    as_draft: bool = False


def connect(environment: Mapping[str, str]) -> Repository:
    """The repository that the CI environment names. Raises GreenlineError without a token."""
    import github

    token = environment.get("GITHUB_TOKEN") or environment.get("GH_TOKEN")
    name = environment.get("GITHUB_REPOSITORY")
    if not token or not name:
        missing = "GITHUB_REPOSITORY" if token else "GITHUB_TOKEN"
        raise GreenlineError(f"--forge github: ${missing} is not set", "see docs/repair.md for the job that writes")
    url = environment.get("GITHUB_API_URL", "https://api.github.com")
    # One quick retry for what never reached GitHub; a write is never repeated blindly, propose() looks first.
    retry = github.GithubRetry(total=2, backoff_factor=0.2, secondary_rate_wait=1, allowed_methods=["GET"])
    client = github.Github(
        auth=github.Auth.Token(token),
        base_url=url,
        timeout=_SECONDS,
        retry=retry,
        seconds_between_requests=0,
        seconds_between_writes=0,
        lazy=True,
    )
    return client.get_repo(name)


def propose(repository: Repository, draft: Draft, base: str) -> Pull:
    """Open the pull request of a branch, or bring the one that is there up to date. Raises GreenlineError."""
    with _told():
        found = _find(repository, draft.branch)
        if found is None:
            created = _create(repository, draft, base)
            _ask_owners(created, draft.owners)
            return Pull(created.number, created.html_url, "opened")
        if found.state == "closed":
            return Pull(found.number, found.html_url, "declined")
        if (found.title, (found.body or "").replace("\r\n", "\n")) == (draft.title, draft.body):
            return Pull(found.number, found.html_url, "unchanged")
        found.edit(title=draft.title, body=draft.body)
        return Pull(found.number, found.html_url, "updated")


def _find(repository: Repository, branch: str) -> PullRequest | None:
    """The open pull request of a branch, else one that a person closed; merged ones and those we closed are over."""
    owner = repository.full_name.partition("/")[0]
    pulls = list(repository.get_pulls(state="all", head=f"{owner}:{branch}", sort="created", direction="desc"))
    mine = [pull for pull in pulls if pull.head.ref == branch]
    still = next((pull for pull in mine if pull.state == "open"), None)
    declined = next((pull for pull in mine if pull.merged_at is None and RECOVERED not in (pull.body or "")), None)
    return still or declined


def _create(repository: Repository, draft: Draft, base: str) -> PullRequest:
    import github

    try:
        return repository.create_pull(
            base=base, head=draft.branch, title=draft.title, body=draft.body, draft=draft.as_draft
        )
    except github.GithubException as error:
        if error.status != 422:
            raise
        found = _find(repository, draft.branch)  # another run has just opened it
        if found is None:
            raise
        return found
    except OSError:  # of requests, all are
        found = _find(repository, draft.branch)  # the answer was lost, the write perhaps not
        if found is None:
            raise
        return found


def _ask_owners(pull: PullRequest, owners: Sequence[str]) -> None:
    """Ask for reviews. GitHub refuses whoever cannot review; that is no reason to fail."""
    import github

    names = [owner.removeprefix("@") for owner in owners if owner.startswith("@")]
    users = [name for name in names if "/" not in name]
    teams = [name.partition("/")[2] for name in names if "/" in name]
    if users or teams:
        with contextlib.suppress(github.GithubException):
            pull.create_review_request(reviewers=users, team_reviewers=teams)


def close_recovered(repository: Repository, broken: Collection[str]) -> list[int]:
    """Close our pull requests whose branch is none of ``broken``: main is green again without them."""
    closed = []
    with _told():
        for pull in repository.get_pulls(state="open", sort="created", direction="desc"):
            own = pull.head.repo is not None and pull.head.repo.full_name == repository.full_name
            if own and pull.head.ref.startswith(PREFIX) and pull.head.ref not in broken:
                pull.edit(state="closed", body=f"{pull.body or ''}\n\n{RECOVERED}\n")
                closed.append(pull.number)
    return sorted(closed)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """GitHub's errors as ours: what was refused, and the way out."""
    import github

    try:
        yield
    except github.RateLimitExceededException as error:
        raise GreenlineError(f"GitHub's rate limit is used up: {_message(error)}", "run it again in an hour") from None
    except github.BadCredentialsException:
        raise GreenlineError("GitHub does not accept the token", "is $GITHUB_TOKEN of this repository?") from None
    except github.GithubException as error:
        hint = "the job needs `permissions: {contents: write, pull-requests: write}`" if error.status == 403 else None
        raise GreenlineError(f"GitHub refuses ({error.status}): {_message(error)}", hint) from None
    except OSError as error:
        raise GreenlineError(f"GitHub cannot be reached: {type(error).__name__}", "run it again") from None


def _message(error: Exception) -> str:
    data = getattr(error, "data", None)
    text = data.get("message", "") if isinstance(data, dict) else str(data or "")
    details = data.get("errors", []) if isinstance(data, dict) else []
    told = [each.get("message", "") for each in details if isinstance(each, dict)]
    return "; ".join(filter(None, [text, *told])) or "no reason given"
