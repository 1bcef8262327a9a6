"""One cache file: named sections of bytes, each with a checksum, written atomically and mapped lazily.

A cache may vanish, be cut short, be corrupted or be written by two processes at once at any time: a reader then
gets None (or :class:`Corrupted` from a section it opens later) and works without it; a writer that cannot write
goes on.

Layout: magic, CRC-32 and length of the table (4 bytes each, little endian), the table (marshal: section name →
(offset, length, CRC-32)), the sections.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import mmap
import os
import sys
import zlib
from collections.abc import Mapping

from greenline.depgraph.errors import Corrupted as Corrupted


def _code_digest() -> str:
    """Of this package's source: what any other version of it computed is not to be trusted."""
    digest = hashlib.sha1()
    folder = os.path.dirname(__file__)
    for file_name in sorted(os.listdir(folder)):
        if file_name.endswith(".py"):
            with open(os.path.join(folder, file_name), "rb") as file:
                digest.update(file.read())
    return digest.hexdigest()[:8]


TAG = f"{sys.implementation.cache_tag}-{_code_digest()}"
"""Part of every cache file's name: facts depend on the interpreter's parser and on the code that found them."""

_MAGIC = b"greenline cache 1\n"
_HEAD = len(_MAGIC) + 8


class CacheFile:
    """The sections of a cache file, verified when they are first opened."""

    def __init__(self, path: str, view: memoryview, table: dict[str, tuple[int, int, int]]) -> None:
        self.path = path
        self._view = view
        self._table = table

    def section(self, name: str) -> memoryview:
        start, length, crc = self._table.get(name, (0, -1, 0))
        data = self._view[start : start + length]
        if len(data) != length or zlib.crc32(data) != crc:
            remove(self.path)
            raise Corrupted(self.path)
        return data

    def load(self, name: str) -> object:
        """A section that was written with ``marshal.dumps``."""
        return marshal.loads(self.section(name))


def read(path: str) -> CacheFile | None:
    """The file's sections, or None when it is missing, cut short, corrupted or of another format."""
    try:
        with open(path, "rb") as file:
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if bytes(view[: len(_MAGIC)]) != _MAGIC:
            raise ValueError
        crc = int.from_bytes(view[_HEAD - 8 : _HEAD - 4], "little")
        start = _HEAD + int.from_bytes(view[_HEAD - 4 : _HEAD], "little")
        if _checksum(path, view[_HEAD:start]) != crc:
            raise ValueError
        table = marshal.loads(view[_HEAD:start])
        return CacheFile(path, view, {name: (start + at, size, crc) for name, (at, size, crc) in table.items()})
    except (OSError, ValueError, EOFError, TypeError):
        return None


def write(path: str, sections: Mapping[str, bytes]) -> bool:
    """Write a file in one step (a temporary file, then a rename). False when it could not be written."""
    table = {}
    offset = 0
    for name, data in sections.items():
        table[name] = (offset, len(data), zlib.crc32(data))
        offset += len(data)
    head = marshal.dumps(table)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        _make_folder(os.path.dirname(path))
        with open(temporary, "wb") as file:
            file.write(_MAGIC + _checksum(path, head).to_bytes(4, "little") + len(head).to_bytes(4, "little") + head)
            file.writelines(sections.values())
        os.replace(temporary, path)
        return True
    except OSError:
        remove(temporary)
        return False


def _checksum(path: str, head: bytes | memoryview) -> int:
    """Of the table and the file's name: a file that was given another's name is none that can be used."""
    return zlib.crc32(head, zlib.crc32(os.fsencode(os.path.basename(path))))


def name(folder: str, prefix: str, key: str) -> str:
    return os.path.join(folder, f"{prefix}-{TAG}-{key}")


def files(folder: str, prefix: str) -> list[str]:
    """The cache files of this format whose names start with ``prefix``, the most recently used first."""
    return [path for _, path in _scan(folder, f"{prefix}-{TAG}-")]


def touch(path: str) -> None:
    """Mark as used, for :func:`prune`."""
    with contextlib.suppress(OSError):
        os.utime(path)


def remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def prune(folder: str, prefix: str, keep: int) -> None:
    """Delete the least recently used files of this prefix (of any format) beyond ``keep``, and stale temporaries."""
    for _, path in _scan(folder, f"{prefix}-")[keep:]:
        remove(path)
    for _, path in _scan(folder, "", ".tmp"):
        if not _alive(path):
            remove(path)


def _scan(folder: str, prefix: str, ending: str = "") -> list[tuple[int, str]]:
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                wanted = entry.name.startswith(prefix) and entry.name.endswith(ending)
                if wanted and (ending or not entry.name.endswith(".tmp")):
                    found.append((entry.stat().st_mtime_ns, entry.path))
    except OSError:
        return []
    return sorted(found, reverse=True)


def _make_folder(folder: str) -> None:
    """Create the cache folder, with a .gitignore that hides it from git."""
    if not os.path.isdir(folder):
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, ".gitignore"), "w", encoding="utf-8") as file:
            file.write("*\n")


def _alive(temporary: str) -> bool:
    """Whether the process that writes this temporary file still runs here."""
    try:
        os.kill(int(temporary.rsplit(".", 2)[-2]), 0)
    except (OSError, ValueError):
        return False
    return True
