"""The values that evidence keeps in the store: bitmaps, entries of tests, and the kinds of facts."""

from __future__ import annotations

import json
import zlib
from typing import Any, NamedTuple

from pyroaring import BitMap

BLOCK = "block"  # path, qualified name: ran this function, or this module body ("")
IMPORTED = "import"  # path, qualified name: a unit ran this block at import or collection
EARLY = "early"  # path: a module that was imported before recording began
OPENED = "opened"  # path
LISTED = "listed"  # folder
QUERIED = "queried"  # path
SOUGHT = "sought"  # "", dotted name: imported or looked up, and not found in the repository

KEPT_RUNS = 3
"""Records of one test that are kept while they differ: random inputs, time and hash order vary what it runs."""


class Entry(NamedTuple):
    """What is known of one test. ``records``: (number, fingerprint) of those that count, the newest last."""

    records: tuple[tuple[int, str], ...]
    outcome: str
    seconds: float
    broke: int  # the run in which it last failed; 0: never seen

    @property
    def numbers(self) -> list[int]:
        return [number for number, _ in self.records]


def pack(value: Any) -> bytes:
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode("utf-8", "surrogatepass"), 1)


def unpack(data: bytes) -> Any:
    return json.loads(zlib.decompress(data).decode("utf-8", "surrogatepass"))


def pack_entries(entries: dict[str, Entry]) -> bytes:
    return pack({name: list(entry) for name, entry in sorted(entries.items())})


def unpack_entries(data: bytes) -> dict[str, Entry]:
    def entry(records: list[tuple[int, str]], outcome: str, seconds: float, broke: int) -> Entry:
        return Entry(tuple((number, print_) for number, print_ in records), outcome, seconds, broke)

    return {name: entry(*values) for name, values in unpack(data).items()}


def bitmap(data: bytes) -> BitMap:
    return BitMap.deserialize(bytes(data))


def dump(records: BitMap) -> bytes:
    records.run_optimize()
    data: bytes = records.serialize()
    return data
