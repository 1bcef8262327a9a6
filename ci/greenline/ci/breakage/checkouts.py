"""Checkouts of any commit, outside of the user's repository.

A scratch repository borrows the user's objects (git alternates), so making one is instant, nothing that happens in it
reaches the user's refs, index or work tree, and a killed run leaves a temporary folder and nothing else.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from types import TracebackType
from typing import TYPE_CHECKING

from greenline.depgraph.workspace import Workspace, find

if TYPE_CHECKING:
    import git

NAME, EMAIL = "Greenline", "greenline@repair.invalid"
_IDENTITY = {"NAME": NAME, "EMAIL": EMAIL}


class Checkout:
    """A work tree of the scratch repository. ``folder`` is absolute; ``commit`` is what it holds."""

    def __init__(self, folder: str, repo: git.Repo, commit: str) -> None:
        self.folder, self.repo, self.commit = folder, repo, commit

    def go(self, commit: str) -> None:
        """Hold another commit, with nothing left of the one before: no build output, no compiled files."""
        self.repo.git.checkout("--detach", "--force", "--quiet", commit)
        self.repo.git.clean("-ffdxq")
        self.commit = commit

    def tree(self) -> str:
        """The git tree of what is in the work tree now, ignored files left out."""
        self.repo.git.add("--all")
        return str(self.repo.git.write_tree())

    def diff(self) -> bytes:
        """What was changed since the commit, as ``git diff --binary --full-index``."""
        self.repo.git.add("--all")
        options = ("--cached", "--binary", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv", "HEAD")
        out = self.repo.git.diff(*options, stdout_as_string=False, strip_newline_in_stdout=False)
        return bytes(out)


class Checkouts:
    """The scratch repository of a run and its work trees; use it with ``with``."""

    def __init__(self, workspace: Workspace) -> None:
        import git

        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="greenline-repair-"))
        home = os.path.join(self.folder, "scratch")
        kind = "sha256" if len(workspace.resolve("HEAD") or "") == 64 else "sha1"
        git.Git(self.folder).init("--quiet", "--template=", f"--object-format={kind}", home)
        self.repo = git.Repo(home)
        self._borrow(workspace, home)
        with self.repo.config_writer() as config:
            config.set_value("core", "hooksPath", os.devnull)
            config.set_value("user", "name", NAME)
            config.set_value("user", "email", EMAIL)
            config.set_value("commit", "gpgSign", "false")
            config.set_value("gc", "auto", "0")
            config.set_value("advice", "detachedHead", "false")
        self._lock = threading.Lock()
        self._count = 0

    @staticmethod
    def _borrow(workspace: Workspace, home: str) -> None:
        objects = os.path.join(workspace.common_dir, "objects")
        info = os.path.join(home, ".git", "objects", "info")
        os.makedirs(info, exist_ok=True)
        with open(os.path.join(info, "alternates"), "w", encoding="utf-8") as file:
            file.write(objects + "\n")
        shallow = os.path.join(workspace.common_dir, "shallow")
        if os.path.exists(shallow):
            shutil.copy(shallow, os.path.join(home, ".git", "shallow"))

    def open(self, commit: str) -> Checkout:
        """A new work tree of a commit."""
        import git

        with self._lock:  # git locks its list of work trees
            self._count += 1
            folder = os.path.join(self.folder, f"tree-{self._count}")
            self.repo.git.worktree("add", "--detach", "--force", "--quiet", folder, commit)
        return Checkout(folder, git.Repo(folder), commit)

    def adopt(self, git_dir: str, tree: str, parent: str) -> str:
        """A commit of a tree that lies in another repository of this run."""
        alternates = os.path.join(str(self.repo.git_dir), "objects", "info", "alternates")
        with self._lock, open(alternates, "a", encoding="utf-8") as file:
            file.write(os.path.join(git_dir, "objects") + "\n")
        return self.commit(tree, parent, "candidate")

    def commit(self, tree: str, parent: str, message: str) -> str:
        """A commit by Greenline, dated as its parent: the same tree and message give the same commit."""
        date = str(self.repo.git.log("-1", "--format=%cI", parent))
        names = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in _IDENTITY.items()}
        dates = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        return str(self.repo.git.commit_tree(tree, "-p", parent, "-m", message, env={**names, **dates}))

    def as_workspace(self, of: Workspace) -> Workspace:
        """The scratch repository as one whose commits, candidates too, can be asked for; it shares the caches."""
        here = find(str(self.repo.working_tree_dir))
        here.cache = of.cache
        return here

    def scratch(self, name: str) -> str:
        """A new empty folder beside the work trees."""
        with self._lock:
            self._count += 1
            folder = os.path.join(self.folder, f"{name}-{self._count}")
        os.makedirs(folder)
        return folder

    def __enter__(self) -> Checkouts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.repo.close()
        shutil.rmtree(self.folder, ignore_errors=True)
