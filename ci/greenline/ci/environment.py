"""Which CI this is, and the base commit that it means.

The base is the commit that a change is measured from. In order: ``--base``, ``$GREENLINE_BASE``, what the CI says,
the last commit recorded green when this is the default branch itself, the merge base with the remote's default
branch. When none can be told the answer is a :class:`Base` without a commit, with the reason and the way out: the
caller then takes everything.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from greenline.depgraph import config as configuration
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.wording import plural
from greenline.depgraph.workspace import Workspace

LAST_GREEN = "refs/greenline/last-green"
"""The ref that records the last commit whose full test run was green; it is fetched and pushed like any other."""


class Base(NamedTuple):
    """``commit`` is an object id, or None when it cannot be told, and then ``how`` says why.

    ``tip``: the latest commit of the branch that ``commit`` is the merge base with; None if it is compared with itself.
    """

    commit: str | None
    how: str
    hint: str | None = None
    tip: str | None = None


class _Named(NamedTuple):
    """A commit that an environment names as base. ``exact``: compare with it itself, not with the merge base."""

    ref: str
    how: str
    exact: bool


def find_base(
    workspace: Workspace,
    settings: configuration.Base,
    ref: str | None = None,
    exact: bool = False,
    head: str = "HEAD",
    environment: Mapping[str, str] = os.environ,
) -> Base:
    """The base of the change that ends in ``head``. Raises :class:`GreenlineError` for a ``ref`` that is not there."""
    if ref is not None:
        return _given(workspace, ref, f"--base {ref}" if not exact else f"--base-exact {ref}", exact, head)
    if environment.get("GREENLINE_BASE"):
        return _given(workspace, environment["GREENLINE_BASE"], "$GREENLINE_BASE", False, head)
    named = _from_ci(workspace, environment)
    if named is not None:
        return _from_named(workspace, named, head)
    return _from_branches(workspace, settings, head, environment)


def _given(workspace: Workspace, ref: str, how: str, exact: bool, head: str) -> Base:
    if not ref.strip():
        raise GreenlineError(f"{how.rstrip()} names no commit: it is empty", "is a variable not set?")
    commit = workspace.resolve(ref)
    if commit is None:
        if workspace.resolve(head) is None:
            return Base(None, "the repository has no commit yet")
        if workspace.is_shallow():
            return Base(None, f"{how}: {ref} is not in this shallow clone", _fetch_hint(workspace, ref, exact))
        raise no_commit(workspace, f"{how}: ", ref)
    return _settle(workspace, _Named(commit, how, exact), head)


def no_commit(workspace: Workspace, told: str, ref: str) -> GreenlineError:
    """The error for a name that git does not resolve. ``told``: what was asked for it ("--head: ")."""
    hint = "git fetch it, or see the names with: git branch -a"
    start = re.split(r"[~^@]", ref)[0]
    if start != ref and start and workspace.resolve(start):
        before = int(workspace.git("rev-list", "--first-parent", "--count", start)) - 1
        deeper = ", or git fetch --unshallow origin" if workspace.is_shallow() else ""
        hint = f"{start} has {plural(before, 'commit')} before it here: go back no further{deeper}"
    return GreenlineError(f"{told}git knows no commit {ref!r}", hint)


def _from_named(workspace: Workspace, named: _Named, head: str) -> Base:
    commit = workspace.resolve(named.ref)
    if commit is None:
        what = f"commit {named.ref[:12]}" if _OBJECT_ID.fullmatch(named.ref) else named.ref
        return Base(None, f"{named.how}: {what} is not in this clone", _fetch_hint(workspace, named.ref, named.exact))
    return _settle(workspace, named._replace(ref=commit), head)


def _settle(workspace: Workspace, named: _Named, head: str) -> Base:
    if named.exact:
        return Base(named.ref, named.how)
    commit = workspace.merge_base(named.ref, head)
    if commit is None:
        if workspace.is_shallow():
            return Base(None, f"{named.how}: no merge base in this shallow clone", "git fetch --unshallow origin")
        return Base(None, f"{named.how}: it shares no history with {head}")
    return Base(commit, named.how, tip=named.ref)


_OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def _fetch_hint(workspace: Workspace, ref: str, exact: bool, remote: str = "origin") -> str:
    """The command that brings a commit here, and, unless it is compared with itself, the history up to it."""
    depth = ("--depth=1 " if exact else "--unshallow ") if workspace.is_shallow() else ""
    branch = ref.removeprefix(f"{remote}/")
    if branch != ref:
        what = f"+refs/heads/{branch}:refs/remotes/{ref}"
    elif _OBJECT_ID.fullmatch(ref):
        what = ref
    elif re.search(r"[~^@:]|HEAD", ref) or re.fullmatch(r"[0-9a-f]{4,}", ref):  # a remote knows neither
        return f"git fetch --unshallow {remote}"
    else:
        what = f"{ref}:{ref}"
    return f"git fetch --no-tags {depth}{remote} {what}"


# -- continuous integration ----------------------------------------------------------------------------------


def _from_ci(workspace: Workspace, environment: Mapping[str, str]) -> _Named | None:
    if environment.get("GITHUB_ACTIONS") == "true":
        return _from_github(workspace, environment)
    if environment.get("GITLAB_CI"):
        return _from_gitlab(environment)
    if environment.get("BUILDKITE") == "true":
        return _from_buildkite(environment)
    return None


def _from_github(workspace: Workspace, environment: Mapping[str, str]) -> _Named | None:
    event = _github_event(environment)
    name = environment.get("GITHUB_EVENT_NAME", "")
    if name == "merge_group":
        sha = _text(event, "merge_group", "base_sha")
        return _Named(sha, "GitHub merge queue", exact=True) if sha else None
    if name.startswith("pull_request"):
        sha = _text(event, "pull_request", "base", "sha")
        if not sha:
            branch = environment.get("GITHUB_BASE_REF")
            return _Named(f"origin/{branch}", "GitHub pull request", exact=False) if branch else None
        if _is_merge_of(workspace, environment, event):
            # The checkout is GitHub's test merge: its first parent is what the base branch has now, which may be
            # newer than the event's base. A depth of 1 has no parents; the event's base then serves exactly,
            # at worst with changes that the branch does not make.
            first = workspace.resolve("HEAD^1")
            return _Named(first or sha, "GitHub pull request", exact=True)
        return _Named(sha, "GitHub pull request", exact=False)
    if name == "push":
        before = _text(event, "before")
        # A force push rewrites what was tested before: compare with it all the same, file by file.
        return _Named(before, "GitHub push", exact=True) if before.strip("0") else None
    return None


def _is_merge_of(workspace: Workspace, environment: Mapping[str, str], event: object) -> bool:
    head = _text(event, "pull_request", "head", "sha")
    return environment.get("GITHUB_REF", "").endswith("/merge") and workspace.resolve("HEAD") != head


def _github_event(environment: Mapping[str, str]) -> object:
    path = environment.get("GITHUB_EVENT_PATH", "")
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


def _text(value: object, *keys: str) -> str:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def _from_gitlab(environment: Mapping[str, str]) -> _Named | None:
    merged = environment.get("CI_MERGE_REQUEST_TARGET_BRANCH_SHA")  # set in merged-results pipelines and trains
    if merged:
        return _Named(merged, "GitLab merge request", exact=True)
    start = environment.get("CI_MERGE_REQUEST_DIFF_BASE_SHA")  # the merge base, as GitLab found it
    if start:
        return _Named(start, "GitLab merge request", exact=True)
    before = environment.get("CI_COMMIT_BEFORE_SHA", "")
    return _Named(before, "GitLab push", exact=True) if before.strip("0") else None


def _from_buildkite(environment: Mapping[str, str]) -> _Named | None:
    queued = environment.get("BUILDKITE_MERGE_QUEUE_BASE_COMMIT")
    if queued:
        return _Named(queued, "Buildkite merge queue", exact=True)
    branch = environment.get("BUILDKITE_PULL_REQUEST_BASE_BRANCH")
    if branch and environment.get("BUILDKITE_PULL_REQUEST", "false") != "false":
        return _Named(f"origin/{branch}", "Buildkite pull request", exact=False)
    return None


# -- branches ------------------------------------------------------------------------------------------------


def _from_branches(
    workspace: Workspace, settings: configuration.Base, head: str, environment: Mapping[str, str]
) -> Base:
    commit = workspace.resolve(head)
    if commit is None:
        return Base(None, "the repository has no commit yet")
    remote = settings.remote or "origin"
    named = settings.branch or _default_branch(environment)
    refs = _refs(workspace, remote, named)
    branch = named or refs.default
    if branch is None:
        return Base(
            None,
            "no default branch is known",
            "say which commit to compare with: --base REF, or base.branch in greenline.yaml",
        )
    upstream = refs.commits.get(f"refs/remotes/{remote}/{branch}")
    if _is_default(refs, branch, upstream, commit, head):
        green = refs.commits.get(LAST_GREEN)
        if green is None:
            return Base(
                None,
                f"this is the default branch ({branch}) and no commit of it is recorded green",
                "for your own edits: --base HEAD; a green 'greenline test' on a clean checkout records the commit",
            )
        return _settle(workspace, _Named(green, "last green", exact=False), head)
    name = f"{remote}/{branch}" if upstream else branch
    other = upstream or refs.commits.get(f"refs/heads/{branch}")
    if other is None:
        hint = _fetch_hint(workspace, f"{remote}/{branch}", exact=False, remote=remote)
        return Base(None, f"there is no branch {name} here", hint)
    return _settle(workspace, _Named(other, name, exact=False), head)


def on_default_branch(
    workspace: Workspace, settings: configuration.Base, environment: Mapping[str, str] = os.environ
) -> bool:
    """Whether HEAD is the default branch or, detached, its remote's latest commit."""
    commit = workspace.resolve("HEAD")
    remote = settings.remote or "origin"
    named = settings.branch or _default_branch(environment)
    refs = _refs(workspace, remote, named)
    branch = named or refs.default
    upstream = refs.commits.get(f"refs/remotes/{remote}/{branch}")
    return commit is not None and branch is not None and _is_default(refs, branch, upstream, commit, "HEAD")


def default_branch(
    workspace: Workspace, settings: configuration.Base, environment: Mapping[str, str] = os.environ
) -> tuple[str, str] | None:
    """The default branch's name, with the remote if it is there, and its commit; None if none is known."""
    remote = settings.remote or "origin"
    named = settings.branch or _default_branch(environment)
    refs = _refs(workspace, remote, named)
    branch = named or refs.default
    for name, ref in ((f"{remote}/{branch}", f"refs/remotes/{remote}/{branch}"), (branch, f"refs/heads/{branch}")):
        if name is not None and ref in refs.commits:
            return name, refs.commits[ref]
    return None


def _default_branch(environment: Mapping[str, str]) -> str | None:
    """The default branch's name, as far as the CI tells."""
    if environment.get("GITHUB_ACTIONS") == "true":
        return _text(_github_event(environment), "repository", "default_branch") or None
    names = (environment.get(name) for name in ("CI_DEFAULT_BRANCH", "BUILDKITE_PIPELINE_DEFAULT_BRANCH"))
    return next(filter(None, names), None)


def _is_default(refs: _Refs, branch: str, upstream: str | None, commit: str, head: str) -> bool:
    """Whether ``head`` is the default branch or, detached, the latest commit of it: the remote's, if there is one."""
    if refs.current and head == "HEAD":
        return refs.current == branch
    return commit == (upstream or refs.commits.get(f"refs/heads/{branch}"))


class _Refs(NamedTuple):
    commits: dict[str, str]  # full ref name → object id
    current: str | None  # the branch that HEAD is on
    default: str | None  # the default branch's name, as far as the refs tell


def _refs(workspace: Workspace, remote: str, branch: str | None) -> _Refs:
    names = [branch] if branch else ["main", "master", "trunk", "develop"]
    patterns = [f"refs/remotes/{remote}/HEAD", LAST_GREEN]
    patterns += [ref for name in names for ref in (f"refs/remotes/{remote}/{name}", f"refs/heads/{name}")]
    listed = workspace.git("for-each-ref", "--format=%(refname)%00%(objectname)%00%(symref)", *patterns)
    commits = {}
    default = None
    for line in listed.splitlines():
        ref, oid, target = line.split("\0")
        commits[ref] = oid
        if ref == f"refs/remotes/{remote}/HEAD":
            default = target.removeprefix(f"refs/remotes/{remote}/") or None
            commits[target] = oid
    if default is None:
        known = (name for name in names if f"refs/remotes/{remote}/{name}" in commits)
        default = next(known, None) or next((name for name in names if f"refs/heads/{name}" in commits), None)
    head = workspace.git("symbolic-ref", "--quiet", "--short", "HEAD", ok=(0, 1)).strip()
    return _Refs(commits, head or None, default)
