"""A diff as data, strictly: what `git diff --binary --full-index` writes, and nothing else.

Whoever judges a diff must see exactly what git will apply. So the reader refuses what it does not know, works the
hunks out on the old file itself, and compares the result with the blob id that the diff names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from greenline.depgraph.workspace import blob_id

REGULAR = "100644"
_HEADER = re.compile(rb"diff --git (.+)")
_INDEX = re.compile(rb"index ([0-9a-f]{40,64})\.\.([0-9a-f]{40,64})(?: (\d{6}))?")
_HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@(?: .*)?")
_MODES = (b"old mode ", b"new mode ", b"deleted file mode ", b"new file mode ")
_ESCAPES = {b"a": 7, b"b": 8, b"t": 9, b"n": 10, b"v": 11, b"f": 12, b"r": 13, b'"': 34, b"\\": 92}


class Unreadable(Exception):
    """Not a diff that git wrote with these options, or not one of this state."""


class FileChange(NamedTuple):
    """One file of a diff. Modes are git's ("100644"), None: there is no such file before or after.

    ``before``, ``after``: the bytes; None where the file is not there, and for a binary file. ``added`` and
    ``removed``: lines without their ends.
    """

    path: str
    old_mode: str | None
    new_mode: str | None
    before: bytes | None
    after: bytes | None
    added: tuple[bytes, ...] = ()
    removed: tuple[bytes, ...] = ()
    binary: bool = False


class _Hunk(NamedTuple):
    start: int  # line of the old file, from 1
    lines: list[bytes]  # with their first character and their end


def read(diff: bytes, before: Callable[[str], bytes | None]) -> list[FileChange]:
    """The changes of a diff against a state; ``before`` gives a file of it, None: not there. Raises Unreadable."""
    changes = []
    paths = set()
    for lines in _files(diff):
        change = _file(lines, before)
        if change.path in paths:
            raise Unreadable(f"{change.path!r} is changed twice")
        paths.add(change.path)
        changes.append(change)
    return changes


def _files(diff: bytes) -> Iterator[list[bytes]]:
    """The lines of each file's part, with their ends."""
    lines = diff.split(b"\n")
    if lines and lines[-1] == b"":
        lines.pop()
    current: list[bytes] = []
    remaining = 0  # lines of the current hunk, old and new counted apart, so that "diff --git" in one is text
    old = new = 0
    for line in lines:
        if remaining:
            old -= line[:1] in (b" ", b"-")
            new -= line[:1] in (b" ", b"+")
            remaining = max(old, 0) + max(new, 0)
        elif match := _HUNK.fullmatch(line):
            old, new = _count(match[2]), _count(match[4])
            remaining = old + new
        elif _HEADER.fullmatch(line):
            if current:
                yield current
            current = []
        elif not current:
            raise Unreadable("text before the first file")
        current.append(line)
    if current:
        yield current


def _file(lines: list[bytes], before: Callable[[str], bytes | None]) -> FileChange:
    modes: dict[bytes, str] = {}
    index: re.Match[bytes] | None = None
    names: dict[bytes, str] = {}
    at = 1
    while at < len(lines) and not lines[at].startswith((b"@@ ", b"GIT binary patch")):
        line = lines[at]
        at += 1
        mode = next((prefix for prefix in _MODES if line.startswith(prefix)), None)
        if mode:
            modes[mode] = line[len(mode) :].decode("ascii", "replace")
        elif index is None and (index := _INDEX.fullmatch(line)):
            pass
        elif line.startswith((b"--- ", b"+++ ")) and line[:3] not in names:
            names[line[:3]] = _name(line[4:])
        else:
            raise Unreadable(f"a line that a plain diff does not have: {line[:60]!r}")
    path = _path(lines[0], names)
    creates, deletes = b"new file mode " in modes, b"deleted file mode " in modes
    same = index[3].decode() if index and index[3] else None
    old_mode = None if creates else modes.get(b"deleted file mode ") or modes.get(b"old mode ") or same
    new_mode = None if deletes else modes.get(b"new file mode ") or modes.get(b"new mode ") or same
    if (old_mode is None and not creates) or (new_mode is None and not deletes):
        raise Unreadable(f"{path!r} has no mode")
    if names and (names.get(b"---") == "") != creates:
        raise Unreadable(f"{path!r} is new in one line and not in another")
    if names and (names.get(b"+++") == "") != deletes:
        raise Unreadable(f"{path!r} is deleted in one line and not in another")
    body = lines[at:]
    old = None if creates else before(path)
    if (old is None) != creates and old_mode != "160000":
        raise Unreadable(f"{path!r} is {'not ' if old is None else ''}there in the state that the diff is for")
    if creates and before(path) is not None:
        raise Unreadable(f"{path!r} is there in the state that the diff is for")
    if body[:1] == [b"GIT binary patch"]:
        return FileChange(path, old_mode, new_mode, None, None, binary=True)
    if index is None and body:
        raise Unreadable(f"{path!r} has no index line")
    hunks = [*_hunks(body, path)]
    if old_mode == "160000":  # git shows a submodule as one line of text
        old = b"".join(line[1:] for hunk in hunks for line in hunk.lines if line[:1] == b"-")
    new = _apply(old or b"", hunks, path)
    if index:
        for content, wanted, kind in ((old or b"", index[1], old_mode), (new, index[2], new_mode)):
            if kind not in (None, "160000") and blob_id(content, len(wanted)) != wanted.decode():
                raise Unreadable(f"{path!r} is not the file that the diff names")
    changed = [line for hunk in hunks for line in hunk.lines]
    return FileChange(
        path,
        old_mode,
        new_mode,
        None if creates else old,
        None if deletes else new,
        tuple(line[1:].rstrip(b"\n") for line in changed if line[:1] == b"+"),
        tuple(line[1:].rstrip(b"\n") for line in changed if line[:1] == b"-"),
    )


def _hunks(body: list[bytes], path: str) -> Iterator[_Hunk]:
    at = 0
    while at < len(body):
        match = _HUNK.fullmatch(body[at])
        if not match:
            raise Unreadable(f"{path!r}: expected @@, got {body[at][:40]!r}")
        old, new = _count(match[2]), _count(match[4])
        start = int(match[1]) + (0 if old else 1)  # git names the line before, if nothing is removed
        at += 1
        lines: list[bytes] = []
        while at < len(body) and (old or new or body[at].startswith(b"\\")):
            line = body[at]
            at += 1
            if line.startswith(b"\\ No newline"):
                if not lines:
                    raise Unreadable(f"{path!r}: a hunk starts with '\\'")
                lines[-1] = lines[-1].removesuffix(b"\n")
                continue
            if line[:1] not in (b" ", b"-", b"+"):
                raise Unreadable(f"{path!r}: a line of a hunk starts with {line[:1]!r}")
            old -= line[:1] in (b" ", b"-")
            new -= line[:1] in (b" ", b"+")
            lines.append(line + b"\n")
        if old or new:
            raise Unreadable(f"{path!r}: a hunk is not as long as it says")
        yield _Hunk(start, lines)


def _apply(old: bytes, hunks: list[_Hunk], path: str) -> bytes:
    lines = _split(old)
    result: list[bytes] = []
    done = 0
    for start, changed in hunks:
        if start - 1 < done:
            raise Unreadable(f"{path!r}: hunks overlap")
        result += lines[done : start - 1]
        done = start - 1
        for line in changed:
            if line[:1] != b"+":
                if done >= len(lines) or lines[done] != line[1:]:
                    raise Unreadable(f"{path!r}: line {done + 1} is not what the diff says")
                done += 1
            if line[:1] != b"-":
                result.append(line[1:])
    return b"".join((*result, *lines[done:]))


def _split(data: bytes) -> list[bytes]:
    """Lines as git sees them: only a line feed ends one."""
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _path(header: bytes, names: dict[bytes, str]) -> str:
    """The one path of a part. A rename has two: it is refused, so that each file's whole content is judged."""
    rest = header[len(b"diff --git ") :]
    given = {name for name in names.values() if name}
    half = rest[: (len(rest) - 1) // 2]
    other = rest[len(half) + 1 :]
    if rest[len(half) : len(half) + 1] != b" " or _name(half) != _name(other) or given - {_name(half)}:
        raise Unreadable(f"a file with two names: {rest[:80]!r}")
    return _name(half)


def _name(raw: bytes) -> str:
    """A name as git writes it: "a/…" or "b/…", quoted if need be; "" for /dev/null."""
    raw = raw.removesuffix(b"\t")
    if raw.startswith(b'"') and raw.endswith(b'"') and len(raw) > 1:
        raw = re.sub(
            rb'\\([0-3][0-7]{2}|[abtnvfr"\\])',
            lambda match: bytes([_ESCAPES[match[1]] if match[1] in _ESCAPES else int(match[1], 8)]),
            raw[1:-1],
        )
    if raw == b"/dev/null":
        return ""
    if raw[:2] not in (b"a/", b"b/") or len(raw) < 3:
        raise Unreadable(f"a name without a/ or b/: {raw[:60]!r}")
    return raw[2:].decode("utf-8", "surrogateescape")


def _count(digits: bytes | None) -> int:
    return 1 if digits is None else int(digits)
