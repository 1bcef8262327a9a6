"""The repository on disk: where it is, what git says of it, and the bytes of its files.

Every git call goes through :meth:`Workspace.git`, with argument lists, NUL-separated output and no optional
locks, so that a running ``git commit`` of the user is never disturbed. Paths are relative to the repository's
root, with ``/``; bytes that are not UTF-8 survive as surrogate escapes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import IO, NamedTuple

from greenline.depgraph.errors import GreenlineError

ABSENT = ""
"""Object id of a file that does not exist in a state."""
UNKNOWN = "?"
"""Object id of a file in the work tree whose content git has not hashed."""
SUBMODULE = "160000"
_NOTHING: Mapping[str, str] = MappingProxyType({})
PIPE_SIZE = 16384
"""Bytes that a pipe surely takes without a reader."""


class GitError(GreenlineError):
    """git refused; the message is git's own first line."""


class NotARepository(GreenlineError):
    """No git repository holds this folder, or git is not to be had."""


class RawChange(NamedTuple):
    """One line of ``git diff --raw``: a path and its object ids before and after (:data:`ABSENT`, :data:`UNKNOWN`)."""

    path: str
    old: str
    new: str
    old_mode: str
    new_mode: str


class Entry(NamedTuple):
    """One tracked file of a commit: its path, object id and mode."""

    path: str
    oid: str
    mode: str


class Workspace:
    """A git repository with a work tree.

    ``root`` is absolute; ``cache`` is the folder of disposable caches (it need not exist or be writable), shared
    by all linked worktrees of a repository.
    """

    def __init__(self, root: str, git_dir: str) -> None:
        self.root = root
        self.git_dir = git_dir
        self.common_dir = _common_dir(git_dir)
        self.cache = os.environ.get("GREENLINE_CACHE_DIR") or os.path.join(self._cache_home(), ".greenline", "cache")

    def _cache_home(self) -> str:
        """The main worktree for a linked one, so that a new worktree starts warm; else this root."""
        if self.common_dir != self.git_dir and os.path.basename(self.common_dir) == ".git":
            return os.path.dirname(self.common_dir)
        return self.root

    # -- git ---------------------------------------------------------------------------------------------

    def start(self, *args: str, stdin: bool = False, extra: Mapping[str, str] = _NOTHING) -> subprocess.Popen[bytes]:
        """Start git in the root; read it with :func:`finish`. ``extra``: environment variables."""
        command = ["git", "-c", "core.quotePath=false", *args]
        try:
            return subprocess.Popen(
                command,
                cwd=self.root,
                env={**_git_environment(self.root), **extra},
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except FileNotFoundError:
            raise NotARepository("git is not installed", "install git 2.25 or later") from None
        except OSError as error:
            raise NotARepository(f"git cannot be started: {error.strerror}", "see which git is first on PATH") from None

    def git(self, *args: str, ok: tuple[int, ...] = (0,), extra: Mapping[str, str] = _NOTHING) -> str:
        """git's standard output as text. Raises :class:`GitError` on an exit code that is not in ``ok``."""
        return finish(self.start(*args, extra=extra), ok)

    def resolve(self, ref: str) -> str | None:
        """The commit id that ``ref`` names, or None."""
        if ref.startswith("-") or not ref.strip():
            return None
        try:
            found = self.git("rev-parse", "--verify", "--quiet", ref + "^{commit}").strip()
        except GitError:
            return None
        return found if found.isalnum() else None  # "^main" is no commit

    def merge_base(self, one: str, other: str) -> str | None:
        """The best common ancestor of two commits, or None when there is none in the history that is here."""
        try:
            return self.git("merge-base", one, other).split("\n")[0] or None
        except GitError:
            return None

    def is_shallow(self) -> bool:
        return os.path.exists(os.path.join(self.common_dir, "shallow"))

    def may_be_sparse(self) -> bool:
        """Whether tracked files may be missing in the work tree though git calls them unchanged."""
        return os.path.exists(os.path.join(self.git_dir, "info", "sparse-checkout"))

    # -- states ------------------------------------------------------------------------------------------

    def entries(self, commit: str) -> list[Entry]:
        """All files of a commit, sorted by path (submodules as entries of mode :data:`SUBMODULE`)."""
        return parse_tree(finish(self.start_entries(commit)))

    def start_entries(self, commit: str) -> subprocess.Popen[bytes]:
        """Start listing the files of a commit; :func:`parse_tree` reads it."""
        return self.start("ls-tree", "-r", "-z", "--full-tree", commit)

    def start_diff(self, old: str, new: str | None) -> subprocess.Popen[bytes]:
        """Start the comparison of commit ``old`` with commit ``new``, or with the work tree (None)."""
        options = ("--raw", "-z", "--no-renames", "--no-abbrev", "--no-ext-diff", "--no-textconv")
        if new is not None:
            return self.start("diff-tree", "-r", *options, old, new)
        # Without the setting, git would lock the index to note which files only look changed.
        return self.start("-c", "diff.autoRefreshIndex=false", "diff", "--ignore-submodules=none", *options, old)

    def ids_after_filters(self, paths: Sequence[str]) -> list[str]:
        """The object ids that git would give files of the work tree, line ends and filters (LFS) applied.

        [] when a filter fails, or a file is gone.
        """
        process = self.start("hash-object", "--stdin-paths", stdin=True)
        out, _ = process.communicate("".join(path + "\n" for path in paths).encode("utf-8", "surrogateescape"))
        found = out.decode("ascii").split("\n")[:-1]
        return found if len(found) == len(paths) and process.returncode == 0 else []

    def start_untracked(self) -> subprocess.Popen[bytes]:
        return self.start("ls-files", "--others", "--exclude-standard", "-z")

    def paths(self) -> list[str]:
        """The files of the work tree that git tracks or could track."""
        return self.git("ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")[:-1]

    def read(self, path: str) -> bytes | None:
        """A file of the work tree as bytes, or None when it cannot be read."""
        try:
            return read_regular(os.path.join(self.root, path))
        except OSError:
            return None

    def read_link(self, path: str) -> bytes | None:
        """Where a symbolic link of the work tree leads to, or None when it is none."""
        try:
            return os.fsencode(os.readlink(os.path.join(self.root, path)))
        except OSError:
            return None

    def is_own_worktree(self, folder: str) -> bool:
        """Whether a folder is another checkout of this repository, made with ``git worktree``."""
        git_dir = _git_dir(os.path.join(self.root, folder, ".git"))
        return git_dir is not None and _common_dir(git_dir) == self.common_dir

    def read_blobs(self, oids: Iterable[str]) -> Iterator[bytes | None]:
        """The blobs of these object ids, in order; None for one that is missing (a partial clone, say)."""
        wanted = [self._object_id(name) if "\n" in name else name for name in oids]
        if not wanted:
            return
        process = self.start("cat-file", "--batch", "--buffer", stdin=True)
        assert process.stdin and process.stdout and process.stderr
        request = "".join(oid + "\n" for oid in wanted).encode("utf-8", "surrogateescape")
        if len(request) <= PIPE_SIZE:
            _feed(process.stdin, request)
        else:  # git answers while it reads: a second thread keeps both pipes moving
            import threading

            threading.Thread(target=_feed, args=(process.stdin, request), daemon=True).start()
        for _ in wanted:
            header = process.stdout.readline().split()
            if len(header) != 3 or header[2] == b"missing":  # a name with a space has three fields too
                yield None
                continue
            data = process.stdout.read(int(header[2]))
            process.stdout.read(1)
            yield data if header[1] == b"blob" else None
        process.stdout.close()
        process.stderr.close()
        process.wait()

    def _object_id(self, name: str) -> str:
        """The id of what is named so ("commit:path", with a line break); "-", which is none, if it is missing."""
        try:
            return self.git("rev-parse", "--verify", "--quiet", name).strip()
        except GitError:
            return "-"

    def grep(self, words: Iterable[str], paths: tuple[str, ...] = ("*.py", "*.ipynb")) -> list[str]:
        """Files of the work tree (untracked ones too) that contain one of these fixed strings, sorted."""
        patterns = [item for word in words for item in ("-e", word)]
        found = self.git("grep", "-lzF", "--untracked", "--full-name", *patterns, "--", *paths, ok=(0, 1))
        return sorted(found.split("\0")[:-1])


def find(start: str | None = None) -> Workspace:
    """The repository that holds ``start`` (default: the current folder).

    Raises :class:`NotARepository`, with the way out, also when git refuses the folder's owner.
    """
    try:
        folder = os.path.realpath(start or os.getcwd())
    except FileNotFoundError:
        raise GreenlineError("the current folder was deleted", "change to a folder that is there") from None
    if not os.path.isdir(folder):
        raise NotARepository(f"{folder} is not a folder")
    probe = folder
    while True:
        marker = os.path.join(probe, ".git")
        git_dir = _git_dir(marker)
        if git_dir:
            return Workspace(probe, git_dir)
        parent = os.path.dirname(probe)
        if parent == probe:
            if all(os.path.exists(os.path.join(folder, name)) for name in ("HEAD", "objects", "refs")):
                raise NotARepository(f"{folder} is a bare repository", "make a work tree of it: git worktree add")
            raise NotARepository(
                f"{folder} is not in a git repository", "run greenline inside a clone, or 'git init' first"
            )
        probe = parent


def read_regular(path: str) -> bytes:
    """The bytes of a file. Raises OSError, also for pipes and devices: they may never end."""
    file = os.open(path, _READ)  # a file object would cost as much as the reading: a cold start reads every file
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        data = os.read(file, found.st_size + 1)
        while more := os.read(file, 1 << 20):  # it grows meanwhile, or is very large
            data += more
        return data
    finally:
        os.close(file)


_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
"""O_NONBLOCK: do not wait for the other end of a pipe."""


def root_of(folder: str | None = None) -> str:
    """The root of the repository around a folder, whether git can read it or not; without one the folder itself."""
    try:
        return find(folder).root
    except NotARepository:
        return os.path.realpath(folder or os.getcwd())


def walk(folder: str) -> list[str]:
    """The files below a folder that is in no repository, without hidden folders, environments and build output."""
    found = []
    for current, folders, files in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and name not in ("node_modules", "__pycache__")
            and not os.path.exists(os.path.join(current, name, "pyvenv.cfg"))
        ]
        relative = os.path.relpath(current, folder).replace(os.sep, "/")
        found += [name if relative == "." else f"{relative}/{name}" for name in files]
    return found


_WRONG_OPTION = 129
_NO_REPOSITORY = re.compile(
    r"not a git repository|bad (?:numeric )?config|git repo version|unknown repository (?:extension|hash)"
)


def finish(process: subprocess.Popen[bytes], ok: tuple[int, ...] = (0,)) -> str:
    """Wait for a started git and give its output. Raises :class:`GitError`."""
    out, err = process.communicate()
    if process.returncode not in ok:
        text = err.decode("utf-8", "replace").strip()
        lines = [line for line in text.split("\n") if line] or [f"exit code {process.returncode}"]
        lines.sort(key=lambda line: not line.startswith("fatal:"))  # what comes before are warnings
        if _NO_REPOSITORY.search(text):
            raise NotARepository(f"git cannot use this repository: {lines[0]}", "see what 'git status' says")
        if refused := re.search(r"dubious ownership in repository at '(.*)'", text):
            raise NotARepository(
                "git refuses this repository: its folder belongs to another user",
                f"git config --global --add safe.directory '{refused[1]}'",
            )
        if process.returncode == _WRONG_OPTION:
            raise NotARepository(f"git is too old: {lines[0]}", "install git 2.25 or later")
        raise GitError(f"git failed: {lines[0]}")
    return out.decode("utf-8", "surrogateescape")


def finish_in_background(process: subprocess.Popen[bytes]) -> Callable[[], str]:
    """Let a started git run on: a pipe takes little, and then git would wait for its reader. Call for its output."""
    import threading

    found: list[str | GreenlineError] = []

    def read() -> None:
        try:
            found.append(finish(process))
        except GreenlineError as error:
            found.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()

    def result() -> str:
        thread.join()
        if isinstance(found[0], GreenlineError):
            raise found[0]
        return found[0]

    return result


def parse_tree(text: str) -> list[Entry]:
    """The records of ``git ls-tree -r -z``, sorted by path."""
    found = []
    for record in text.split("\0")[:-1]:
        meta, path = record.split("\t", 1)
        mode, _, oid = meta.split(" ")
        found.append(Entry(path, oid, mode))
    return found


def parse_raw(text: str) -> list[RawChange]:
    """The records of ``git diff --raw -z``; an unmerged path counts as changed in the work tree."""
    fields = text.split("\0")
    changes: dict[str, RawChange] = {}
    for meta, path in zip(fields[0::2], fields[1::2], strict=False):
        old_mode, new_mode, old, new, status = meta[1:].split(" ")
        if old == new and new_mode == SUBMODULE:  # the commit is the same, but the submodule has changes
            new = UNKNOWN
        old = ABSENT if set(old) == {"0"} else old
        if status[0] == "D":
            new = ABSENT
        elif set(new) == {"0"}:
            new = UNKNOWN
        if status[0] == "U":
            new = UNKNOWN
        changes[path] = RawChange(path, old or changes.get(path, _NO_CHANGE).old, new, old_mode, new_mode)
    return list(changes.values())


_NO_CHANGE = RawChange("", ABSENT, ABSENT, "", "")


def blob_id(data: bytes, length: int = 40) -> str:
    """git's object id of a blob with this content (SHA-1, or SHA-256 for ids of 64 digits)."""
    digest = hashlib.sha256 if length == 64 else hashlib.sha1
    return digest(b"blob %d\0" % len(data) + data).hexdigest()


def _git_dir(marker: str) -> str | None:
    if os.path.isdir(marker):
        return marker if os.path.exists(os.path.join(marker, "HEAD")) else None
    try:
        with open(marker, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read(4096)
    except OSError:
        return None
    if not text.startswith("gitdir:"):
        return None
    return os.path.normpath(os.path.join(os.path.dirname(marker), text[7:].strip()))


def _common_dir(git_dir: str) -> str:
    try:
        with open(os.path.join(git_dir, "commondir"), encoding="utf-8", errors="surrogateescape") as file:
            return os.path.normpath(os.path.join(git_dir, file.read().strip()))
    except OSError:
        return git_dir


def _git_environment(root: str) -> dict[str, str]:
    environment = dict(os.environ)
    for name in _SET_BY_GIT:
        environment.pop(name, None)
    # No optional locks: never fight with the user's own git. No lazy fetch: a partial clone is answered from
    # what is here; a git too old for that variable may use no protocol. No prompts, messages in English.
    return environment | {
        "GIT_WORK_TREE": root,
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }


_SET_BY_GIT = (
    "GIT_DIR", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_SHALLOW_FILE", "GIT_NAMESPACE",
    "GIT_PREFIX", "GIT_EXTERNAL_DIFF", "GIT_LITERAL_PATHSPECS", "GIT_GLOB_PATHSPECS", "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
)  # fmt: skip
"""What a hook or a user's shell may have in the environment, and what would make git answer for something else."""


def _feed(stream: IO[bytes], data: bytes) -> None:
    with contextlib.suppress(OSError):  # git is gone: its missing answers tell
        stream.write(data)
        stream.close()
