"""Checkouts for work that nobody trusts, and the one thing that leaves them: a diff.

A checkout shares the repository's objects and nothing else of it: no remote, no configuration (CI systems leave tokens
there), no hooks, no refs. Git that works for Greenline keeps its own directory outside of the checkout, so that nothing
written into ``.git`` is ever read again.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.workspace import Workspace

SECONDS = 600
MOST_BYTES = 1 << 30
"""What a checkout may have gained in files before its diff is not even looked at."""


DROPPINGS = "__pycache__/\n*.py[cod]\n.pytest_cache/\n.mypy_cache/\n.ruff_cache/\n.hypothesis/\n.coverage\n"
"""What running tests leaves behind in a repository without a .gitignore: no part of a diff."""
MOST_DIFF = 4 << 20
"""Of a diff that is carried on; the policy's own limit is far below."""


class Refused(Exception):
    """A tree or a diff that is not taken over; the message says why."""


class Clone(NamedTuple):
    """``folder``: the work tree, with a ``.git`` of its own; ``git_dir``: the trusted one, elsewhere; ``commit``."""

    folder: str
    git_dir: str
    commit: str
    objects: str


def make(workspace: Workspace, commit: str, home: str) -> Clone:
    """A checkout of a commit in the folder ``home``, which must not exist yet. Raises GreenlineError."""
    objects = os.path.join(workspace.common_dir, "objects")
    folder, trusted = os.path.join(home, "work"), os.path.join(home, "trusted.git")
    os.makedirs(folder)
    object_format = workspace.git("rev-parse", "--show-object-format").strip()
    for git_dir in (os.path.join(folder, ".git"), trusted):
        clone = Clone(folder, git_dir, commit, objects)
        _git(clone, "init", "--quiet", "--template=", f"--object-format={object_format}", bare=True)
        os.makedirs(os.path.join(git_dir, "objects", "info"), exist_ok=True)
        with open(os.path.join(git_dir, "objects", "info", "alternates"), "w", encoding="utf-8") as file:
            file.write(objects + "\n")
        _git(clone, "config", "core.bare", "false", bare=True)
        _git(clone, "update-ref", "--no-deref", "HEAD", commit, bare=True)
    os.makedirs(os.path.join(trusted, "info"), exist_ok=True)
    with open(os.path.join(trusted, "info", "exclude"), "w", encoding="utf-8") as file:
        file.write(DROPPINGS)
    _git(clone, "read-tree", "--reset", "-u", commit)
    _git(clone._replace(git_dir=os.path.join(folder, ".git")), "read-tree", "--reset", commit)
    return clone


def diff_of(clone: Clone) -> bytes:
    """What the work tree has become, as ``git diff --binary --full-index`` against the commit. Raises Refused."""
    _look(clone)
    _git(clone, "read-tree", "--reset", clone.commit)
    _git(clone, "add", "--all", "--", ".")
    diff = _git(clone, "diff-index", "--cached", *_PLAIN, clone.commit, "--")
    if len(diff) > MOST_DIFF:
        raise Refused(f"the diff has {len(diff) >> 20} MiB")
    return diff


def import_candidate(clone: Clone, diff: bytes, blobs: Mapping[str, tuple[str, bytes] | None] | None = None) -> str:
    """Apply a diff in a fresh checkout, and give the id of the tree. Raises Refused.

    ``blobs`` is what the policy judged (:attr:`greenline.ci.repair.policy.Verdict.blobs`): the tree must be just that.
    """
    _git(clone, "apply", "--index", "--whitespace=nowarn", "-", stdin=diff)
    tree = _git(clone, "write-tree").decode("ascii").strip()
    if blobs is not None:
        raw = _git(clone, "diff-tree", "-r", "-z", "--no-renames", "--no-abbrev", clone.commit, tree).decode(
            "utf-8", "surrogateescape"
        )
        fields = raw.split("\0")[:-1]
        for meta, path in zip(fields[0::2], fields[1::2], strict=True):
            _, mode, _, oid, status = meta[1:].split(" ")
            judged = blobs.get(path, ("", b""))
            found = None if status == "D" else (mode, _git(clone, "cat-file", "blob", oid))
            if found != judged:
                raise Refused(f"{path!r} is not what was judged")
        if len(fields) // 2 != len(blobs):
            raise Refused("the diff does not do all that was judged")
    return tree


_PLAIN = (
    "-p",
    "--binary",
    "--full-index",
    "--no-renames",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--submodule=short",
)


def _look(clone: Clone) -> None:
    """Refuse what git must not meet: repositories inside the work tree, files that are none, too many bytes."""
    total = 0
    for current, folders, files in os.walk(clone.folder):
        for name in (*folders, *files):
            path = os.path.join(current, name)
            if name.casefold() == ".git" and path != os.path.join(clone.folder, ".git"):
                raise Refused(f"{os.path.relpath(path, clone.folder)!r}: a git directory inside the work tree")
            if name in files:
                status = os.lstat(path)
                kind = status.st_mode & 0o170000
                if kind not in (0o100000, 0o120000):
                    raise Refused(f"{os.path.relpath(path, clone.folder)!r} is no file")
                total += status.st_blocks * 512
        if current == clone.folder and ".git" in folders:
            folders.remove(".git")
    tracked = _git(clone, "ls-tree", "-r", "-l", clone.commit)
    known = sum(int(line.split(None, 4)[3]) for line in tracked.splitlines() if line.split(None, 4)[1] == b"blob")
    if total > known + MOST_BYTES:
        raise Refused(f"the work tree has grown by {(total - known) >> 20} MiB")


def _git(clone: Clone, *args: str, stdin: bytes = b"", bare: bool = False) -> bytes:
    """git with nothing of this machine's or user's settings, no hooks, no helpers, and the trusted git directory."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.devnull,
        "LC_ALL": "C",
        "GIT_DIR": clone.git_dir,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_CEILING_DIRECTORIES": os.path.dirname(clone.folder),
        **({} if bare else {"GIT_WORK_TREE": clone.folder}),
    }
    settings = [
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
        "core.attributesFile=/dev/null",
        "core.autocrlf=false",
    ]
    settings += [
        "core.excludesFile=/dev/null",
        "core.protectHFS=true",
        "core.protectNTFS=true",
        "submodule.recurse=false",
    ]
    command = ["git", *(part for item in settings for part in ("-c", item)), *args]
    try:
        done = subprocess.run(
            command, cwd=clone.folder, env=environment, input=stdin, capture_output=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GreenlineError(f"git {args[0]} failed: {error}") from None
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        if args[0] in ("add", "apply"):  # the work tree or the diff is at fault, not this machine
            raise Refused(f"git {args[0]}: {reason}")
        raise GreenlineError(f"git {args[0]} failed: {reason}")
    return done.stdout
