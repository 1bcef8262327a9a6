"""What was found out about file versions, kept between runs in a few immutable packs.

A pack is one cache file with a marshalled dict: key → tuple of plain values. Packs are only added, and now and
then merged into one.
"""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Iterable
from typing import cast

from greenline.depgraph import cachefile

PACKS = 6
"""How many packs of a kind may lie in the folder."""


class Packs:
    """The packs of one kind in a cache folder, read when that is asked for. ``known``: key → values."""

    def __init__(self, folder: str, kind: str) -> None:
        self._folder = folder
        self._kind = kind
        self.known: dict[str, tuple[object, ...]] = {}
        self._read: list[str] | None = None

    def load(self) -> None:
        """Read every pack, once. Worth it for many keys; a few are found out anew faster than that."""
        if self._read is None:
            self._read = []
            for path in cachefile.files(self._folder, self._kind):
                file = cachefile.read(path)
                try:
                    if file is not None:
                        self.known |= cast("dict[str, tuple[object, ...]]", file.load(self._kind))
                        self._read.append(path)
                except (cachefile.Corrupted, ValueError, EOFError, TypeError):
                    cachefile.remove(path)

    def save(self, keys: Iterable[str], merge: bool) -> None:
        """Keep what is known of these keys in a new pack; ``merge`` lets it replace all packs that were read."""
        values = {key: self.known[key] for key in keys}
        if not values:
            return
        data = marshal.dumps(values)
        path = cachefile.name(self._folder, self._kind, hashlib.sha1(data).hexdigest())
        if cachefile.write(path, {self._kind: data}):
            for old in self._read or () if merge else ():
                if old != path:
                    cachefile.remove(old)
            cachefile.prune(self._folder, self._kind, keep=PACKS)
