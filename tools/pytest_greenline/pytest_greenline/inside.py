"""Which paths lie in the repository, and how greenline names them."""

from __future__ import annotations

import os
import stat
import sys
import threading

# The real functions: probes.py replaces them in `os` while it watches.
_realpath, _exists, _lstat = os.path.realpath, os.path.exists, os.lstat
_NOT_OURS = frozenset((".git", ".greenline", "site-packages", "dist-packages", "__pycache__", ".pytest_cache"))


def repository_of(folder: str) -> str:
    """The folder with ``.git`` at or above this one, links resolved; without one this folder itself."""
    probe = here = _realpath(folder)
    while not _exists(os.path.join(probe, ".git")):
        above = os.path.dirname(probe)
        if above == probe:
            return here
        probe = above
    return probe


class Inside:
    """Answers for one repository; what was found out about a path or folder is kept."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._below = root.rstrip(os.sep) + os.sep
        prefixes = {_realpath(prefix) for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
        self._environments = tuple(each + os.sep for each in prefixes if each.startswith(self._below))
        self._folders: dict[str, str] = {}
        self.known: dict[str, str | None] = {}
        """Normal, absolute path → what ``relative`` gives."""
        self._resolving: set[int] = set()  # threads

    def relative(self, path: str) -> str | None:
        """The path in the repository, with "/" between ("" for its root); None for what is not ours.

        Links are resolved as they were when the path was first met; a missing file has the path it would have.
        """
        found = self.known.get(path, "?")
        if found != "?":
            return found
        path = os.path.normpath(os.path.join(os.getcwd(), path))
        if path not in self.known:
            thread = threading.get_ident()
            self._resolving.add(thread)
            try:
                self.known[path] = self._find(path)
            finally:
                self._resolving.discard(thread)
        return self.known[path]

    @property
    def is_resolving(self) -> bool:
        """Does this thread resolve links for us? It asks `os`, which is watched."""
        return bool(self._resolving) and threading.get_ident() in self._resolving

    def _find(self, path: str) -> str | None:
        folder, name = os.path.split(path)
        real = os.path.join(self._folder(folder), name)
        if real.startswith(self._below):
            real = _resolved(real)  # the file itself may be a link
        elif real != self.root:
            return None
        if real == self.root:
            return ""
        if not real.startswith(self._below) or real.startswith(self._environments):
            return None
        parts = real[len(self._below) :].split(os.sep)
        return None if _NOT_OURS.intersection(parts) else "/".join(parts)

    def _folder(self, folder: str) -> str:
        """A folder without links. Each test may have a new one, deep down: those above it were asked for already."""
        if folder not in self._folders:
            above, name = os.path.split(folder)
            self._folders[folder] = _resolved(os.path.join(self._folder(above), name)) if name else folder
        return self._folders[folder]


def _resolved(path: str) -> str:
    """A path whose folders have no links, without one at its end."""
    try:
        is_link = os.name == "nt" or stat.S_ISLNK(_lstat(path).st_mode)
    except OSError:
        return path
    return _realpath(path) if is_link else path
