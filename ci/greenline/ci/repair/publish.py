"""A proposal's branch made public: pushed to the remote, with a pull request. Runs no test and no agent.

It can be a job of its own: the one that repairs needs no right to write, and this one, which has it, runs nothing that
was written by others. It judges the branch's diff by the policy once more before it pushes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from greenline.ci.breakage.checkouts import EMAIL
from greenline.ci.forges import github, plain_git
from greenline.ci.repair import policy, proposal
from greenline.ci.repair.fixing import BOT
from greenline.ci.repair.scrub import secrets_of
from greenline.depgraph.config import Config
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.workspace import Workspace


class Published(NamedTuple):
    pull: github.Pull
    branch: str


def publish(workspace: Workspace, config: Config, branch: str, environment: Mapping[str, str]) -> Published:
    """Push a branch that repair made and open its pull request. Raises GreenlineError.

    The pull request comes last: killed before it, the next run finds the branch in place and goes on.
    """
    import git

    draft = read(workspace, config, branch, environment)
    repository = github.connect(environment)
    remote = config.base.remote or "origin"
    base = config.base.branch or repository.default_branch
    there = plain_git.tip_of_remote(workspace, branch, remote)
    commit = plain_git.tip_anywhere(workspace, branch, remote)
    assert commit
    if there != commit:
        plain_git.push(git.Repo(workspace.root), remote, branch, commit, there)
    return Published(github.propose(repository, draft, base), branch)


def read(workspace: Workspace, config: Config, branch: str, environment: Mapping[str, str]) -> github.Draft:
    """What a branch proposes. Raises GreenlineError if it is none of ours, or does what the policy refuses."""
    tip = plain_git.tip_anywhere(workspace, branch, config.base.remote or "origin")
    if tip is None:
        raise GreenlineError(
            f"there is no branch {branch} here", "see the branches with: git branch --list 'greenline/*'"
        )
    parents, email, message = workspace.git("log", "-1", "--format=%P%x00%ae%x00%B", tip).split("\0")
    fingerprint = branch.removeprefix(plain_git.PREFIX)
    if branch != plain_git.branch_of(fingerprint) or email != EMAIL or f"{BOT} {fingerprint}" not in message:
        raise GreenlineError(f"{branch} is not as Greenline made it", "somebody works on it: it is left alone")
    path = proposal.path_of(fingerprint)
    body = next(workspace.read_blobs([f"{tip}:{path}"])) or b""
    options = ("--binary", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv")
    diff = workspace.git("diff-tree", "-p", *options, parents, tip, "--", ".", f":(exclude){path}")

    def before(name: str) -> bytes | None:
        return next(workspace.read_blobs([f"{parents}:{name}"]))

    reverts = message.startswith("Revert")
    settings = policy.settings_of(config.rooms.get("repair", {}).get("policy", {}))
    context = policy.Context(
        before, secrets=secrets_of(environment), maker="revert" if reverts else "fix", settings=settings
    )
    verdict = policy.judge(diff.encode("utf-8", "surrogateescape"), context)
    if verdict.refused:
        raise GreenlineError(f"{branch} is refused by the policy: {'; '.join(verdict.refused)}")
    text = body.decode("utf-8", "replace")
    changed = workspace.git("diff-tree", "-r", "-z", "--name-only", "--no-renames", parents, tip).split("\0")[:-1]
    owners = proposal.owners(workspace, parents, [name for name in changed if name != path])
    return github.Draft(branch, message.partition("\n")[0], text, owners, "**Draft:" in text)


def close_recovered(environment: Mapping[str, str], broken: Collection[str]) -> list[int]:
    """Close the pull requests that main does not need any more; their numbers."""
    return github.close_recovered(github.connect(environment), broken)
