"""The forge that needs no service: one branch in a repository, put there by compare-and-swap.

Only branches below ``greenline/repair/`` are ever pushed, each with a lease on what was there before.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.workspace import Workspace

if TYPE_CHECKING:
    import git

PREFIX = "greenline/repair/"
_OURS = re.compile(r"greenline/repair/[0-9a-f]{16}")


class Lost(GreenlineError):
    """Somebody else wrote the branch meanwhile; nothing was changed."""


def branch_of(fingerprint: str) -> str:
    return PREFIX + fingerprint


def tip(workspace: Workspace, branch: str) -> str | None:
    """The commit of a branch in the repository, or None."""
    return workspace.resolve(f"refs/heads/{branch}")


def tip_anywhere(workspace: Workspace, branch: str, remote: str) -> str | None:
    """The commit of a branch here, else where the remote had it at the last fetch."""
    return tip(workspace, branch) or workspace.resolve(f"refs/remotes/{remote}/{branch}")


def fetch(workspace: Workspace, remote: str) -> None:
    """Learn which proposals the remote has. Raises GreenlineError."""
    _remotely(
        workspace, "fetch", "--quiet", "--no-tags", remote, f"+refs/heads/{PREFIX}*:refs/remotes/{remote}/{PREFIX}*"
    )


def tip_of_remote(workspace: Workspace, branch: str, remote: str) -> str | None:
    """The commit of a branch on the remote now, or None. Raises GreenlineError."""
    listed = _remotely(workspace, "ls-remote", remote, f"refs/heads/{branch}").split()
    return listed[0] if listed else None


def _remotely(workspace: Workspace, command: str, *arguments: str) -> str:
    import git

    try:
        return str(git.Repo(workspace.root).git.execute(["git", command, *arguments]))
    except git.GitCommandError as error:
        last = str(error.stderr).strip("' \n").rpartition("\n")[2]
        raise GreenlineError(
            f"git {command} failed: {last}", "is the remote there, and may this user read it?"
        ) from None


def push(scratch: git.Repo, target: str, branch: str, commit: str, expected: str | None) -> None:
    """Put a commit of the scratch repository on a branch of another one (a path or URL).

    ``expected``: what the branch must hold until now, None: it must not exist. Raises :class:`Lost`.
    """
    import git

    if not _OURS.fullmatch(branch):
        raise GreenlineError(f"{branch!r} is no branch of Greenline's, so it is not pushed")
    lease = f"--force-with-lease=refs/heads/{branch}:{expected or ''}"
    try:
        scratch.git.push("--quiet", "--no-verify", lease, target, f"{commit}:refs/heads/{branch}")
    except git.GitCommandError as error:
        text = str(error.stderr).strip()
        if "stale info" in text or "rejected" in text or "already exists" in text:
            raise Lost(f"{branch} was written by somebody else meanwhile", "run greenline repair again") from None
        last = text.strip("' \n").rpartition("\n")[2]
        raise GreenlineError(f"git cannot push {branch}: {last}", "may this user write there?") from None
