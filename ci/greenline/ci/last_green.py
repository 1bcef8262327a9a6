"""The record of the last commit whose full test run was green: the base for the default branch itself."""

from __future__ import annotations

from greenline.ci.environment import LAST_GREEN, on_default_branch
from greenline.depgraph.config import Config
from greenline.depgraph.workspace import Workspace


def provable(workspace: Workspace, config: Config, untracked: bool = True) -> str | None:
    """The commit of the default branch that a green run of every test would prove; None: there is none.

    Changes in the work tree would make the run one of another state; ``untracked``: untracked files too.
    """
    if not on_default_branch(workspace, config.base):
        return None
    which = "normal" if untracked else "no"
    clean = not workspace.git("status", "--porcelain", f"--untracked-files={which}")
    return workspace.resolve("HEAD") if clean else None


def record(workspace: Workspace, commit: str) -> None:
    """Record a commit as green. Raises GitError."""
    workspace.git("update-ref", LAST_GREEN, commit)
