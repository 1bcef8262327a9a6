"""What the scanner found, by git blob id, kept between runs in a few immutable packs.

A pack is one cache file with a marshalled dict: blob id → fields of :class:`.scan.Facts`. Packs are only added
and, when a snapshot is built, merged into one. Files of different kinds with the same bytes cannot collide: the ids
of all but plain Python files have a prefix.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, cast

from greenline.depgraph import cachefile
from greenline.depgraph.embedded import python_of
from greenline.depgraph.scan import Facts, scan

DOCTESTS, UNREADABLE = 128, 256
"""Bits of Facts.flags, besides the scanner's own: the file holds a ``>>>``; nobody knows what is in it."""
PACKS = 6  # how many packs may lie in the folder


class Job(NamedTuple):
    """A file version to scan. ``oid`` is its blob id; ``path`` tells how to read and what kind it is."""

    oid: str
    path: str

    @property
    def key(self) -> str:
        if self.path.endswith(".py"):
            return self.oid if not self.path.endswith("__init__.py") else f"pkg:{self.oid}"
        return f"{self.path.rpartition('.')[2]}:{self.oid}"


Reader = Callable[[Sequence[Job]], Iterable[bytes | None]]
"""Gives the bytes of several jobs, in order; None for what cannot be read."""


class FactStore:
    """Facts of many file versions, from the packs or by scanning."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._known: dict[str, tuple[object, ...]] = {}
        self._packs: list[str] | None = None

    def load_packs(self) -> None:
        """Read every pack. Worth it for many jobs; a few are scanned faster than that."""
        if self._packs is None:
            self._packs = []
            for path in cachefile.files(self._folder, "facts"):
                file = cachefile.read(path)
                try:
                    if file is not None:
                        self._known |= cast("dict[str, tuple[object, ...]]", file.load("facts"))
                        self._packs.append(path)
                except (cachefile.Corrupted, ValueError, EOFError, TypeError):
                    cachefile.remove(path)

    def facts(self, jobs: Sequence[Job], read: Reader) -> list[Facts]:
        """The facts of each job, in order. A file that cannot be read counts as broken, never as empty."""
        keys = [job.key for job in jobs]
        unknown = {key: job for key, job in zip(keys, jobs, strict=True) if key not in self._known}
        for (key, job), data in zip(unknown.items(), read(list(unknown.values())), strict=True):
            self._known[key] = tuple(scan_version(data, job.path))
        return [Facts(*cast("tuple[str]", self._known[key])) for key in keys]

    def add(self, jobs: Iterable[Job], facts: Iterable[tuple[object, ...]]) -> None:
        """Take over what another process found."""
        for job, fields in zip(jobs, facts, strict=True):
            self._known[job.key] = fields

    def save(self, jobs: Iterable[Job], merge: bool) -> None:
        """Keep the facts of these jobs in a new pack; ``merge`` lets it replace all packs that were read."""
        fields = {job.key: self._known[job.key] for job in jobs}
        fields = {key: facts for key, facts in fields.items() if not cast(int, facts[-1]) & UNREADABLE}
        if not fields:
            return
        import marshal

        data = marshal.dumps(fields)
        path = cachefile.name(self._folder, "facts", hashlib.sha1(data).hexdigest())
        if cachefile.write(path, {"facts": data}):
            for old in self._packs or () if merge else ():
                if old != path:
                    cachefile.remove(old)
            cachefile.prune(self._folder, "facts", keep=PACKS)


def scan_version(data: bytes | None, path: str) -> Facts:
    """Facts of one file version. What cannot be read (a partial clone, say) is UNREADABLE and names nothing."""
    if data is None:
        return Facts(flags=Facts.BROKEN | UNREADABLE)
    facts = scan(python_of(path, data), path.endswith("__init__.py"))
    return facts._replace(flags=facts.flags | DOCTESTS) if b">>>" in data else facts
