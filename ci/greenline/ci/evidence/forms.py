"""The values that evidence keeps in the store: bitmaps, entries of tests, and the kinds of facts."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from pyroaring import BitMap

BLOCK = "block"  # path, qualified name: ran this function, or this module body ("")
IMPORTED = "import"  # path, qualified name: a unit ran this block at import or collection
EARLY = "early"  # path: a module that was imported before recording began
OPENED = "opened"  # path
LISTED = "listed"  # folder
QUERIED = "queried"  # path
VARIABLE = "variable"  # name of an environment variable, digest of the value that it had
LEARNED = "learned"  # path, path: what ran for the first file imported the second; see learned.py
SOUGHT = "sought"  # "", dotted name: imported or looked up, and not found in the repository

DESELECTED = "deselected"
"""The outcome of a test that was collected and never ran."""
KEPT_RUNS = 3
"""Records of one test that are kept while they differ: random inputs, time and hash order vary what it runs."""


class Names(NamedTuple):
    """The tests of a file, in short. ``of``: record number → name; ``broke``: name → run in which it failed last."""

    of: dict[int, str]
    broke: dict[str, int]


class Entry(NamedTuple):
    """What is known of one test. ``records``: (number, fingerprint) of those that count, the newest last."""

    records: Sequence[tuple[int, str]]
    outcome: str
    seconds: float
    broke: int  # the run in which it last failed; 0: never seen

    @property
    def numbers(self) -> list[int]:
        return [number for number, _ in self.records]

    def is_in(self, numbers: set[int]) -> bool:
        """Whether one of its records is among these."""
        for record in self.records:  # noqa: SIM110 asked for every test: half the time of any()
            if record[0] in numbers:
                return True
        return False


def pack(value: Any) -> bytes:
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode("utf-8", "surrogatepass"), 1)


def unpack(data: bytes) -> Any:
    return json.loads(zlib.decompress(data).decode("utf-8", "surrogatepass"))


def pack_entries(entries: dict[str, Entry]) -> bytes:
    """Everything, after a line with the names alone: where many tests are selected, no more of them is read."""
    pairs = [(number, name) for name, entry in sorted(entries.items()) for number in entry.numbers]
    broke = {name: entry.broke for name, entry in sorted(entries.items()) if entry.broke}
    line = json.dumps([[number for number, _ in pairs], [name for _, name in pairs], broke], separators=(",", ":"))
    return line.encode() + b"\n" + pack({name: list(entry) for name, entry in sorted(entries.items())})


def unpack_entries(data: bytes) -> dict[str, Entry]:
    packed = data.partition(b"\n")[2] if data.startswith(b"[") else data  # older stores have no line of names
    return {name: Entry(*values) for name, values in unpack(packed).items()}


def unpack_names(data: bytes) -> Names:
    if not data.startswith(b"["):
        data = pack_entries(unpack_entries(data))
    numbers, names, broke = json.loads(data[: data.index(b"\n")])
    return Names(dict(zip(numbers, names, strict=True)), broke)


def bitmap(data: bytes) -> BitMap:
    return BitMap.deserialize(bytes(data))


def dump(records: BitMap) -> bytes:
    records.run_optimize()
    data: bytes = records.serialize()
    return data
