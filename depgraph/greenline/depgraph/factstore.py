"""What the scanner found, by git blob id, kept between runs (:mod:`.packs`).

Files of different kinds with the same bytes cannot collide: the ids of all but plain Python files have a prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, cast

from greenline.depgraph.embedded import python_of
from greenline.depgraph.packs import Packs
from greenline.depgraph.scan import Facts, scan

DOCTESTS, UNREADABLE = 128, 256
"""Bits of Facts.flags, besides the scanner's own: the file holds a ``>>>``; nobody knows what is in it."""


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
        self._packs = Packs(folder, "facts")
        self._known = self._packs.known

    def load_packs(self) -> None:
        """Read what is kept. Worth it for many jobs; a few are scanned faster than that."""
        self._packs.load()

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
        keys = {job.key: None for job in jobs}
        readable = [key for key in keys if not cast(int, self._known[key][-1]) & UNREADABLE]
        self._packs.save(readable, merge)


def scan_version(data: bytes | None, path: str) -> Facts:
    """Facts of one file version. What cannot be read (a partial clone, say) is UNREADABLE and names nothing."""
    if data is None:
        return Facts(flags=Facts.BROKEN | UNREADABLE)
    facts = scan(python_of(path, data), path.endswith("__init__.py"))
    return facts._replace(flags=facts.flags | DOCTESTS) if b">>>" in data else facts
