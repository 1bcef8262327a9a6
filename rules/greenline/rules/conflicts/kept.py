"""What was found out about contents of files, kept between runs in the cache (:mod:`greenline.depgraph.packs`)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any

from greenline.depgraph.packs import Packs

MANY = 50_000
"""Facts that are kept; beyond, only those of the last run."""


class Kept:
    """Tuples of plain values by key; a key names all contents that the values depend on."""

    def __init__(self, folder: str) -> None:
        self._packs = Packs(folder, "conflicts")
        self._prefix = f"{code()} "
        self._used: dict[str, None] = {}
        self._is_new = False

    def facts(self, key: str, find: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
        """What is known of a key; found out by ``find`` where it is not yet."""
        self._packs.load()
        key = self._prefix + key
        self._used[key] = None
        if key not in self._packs.known:
            self._packs.known[key] = find()
            self._is_new = True
        return self._packs.known[key]

    def save(self) -> None:
        """Write what was found out, in one pack with what was known before."""
        if self._is_new:
            known = [key for key in self._packs.known if key.startswith(self._prefix)]
            self._packs.save(known if len(known) <= MANY else self._used, merge=True)


def code() -> str:
    """A digest of the detector's source: what another version of it found is not to be trusted."""
    folder = os.path.dirname(__file__)
    digest = hashlib.sha1()
    for name in sorted(os.listdir(folder)):
        if name.endswith(".py"):
            with open(os.path.join(folder, name), "rb") as file:
                digest.update(file.read())
    return digest.hexdigest()[:8]
