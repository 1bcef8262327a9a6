"""What recorders wrote (docs/record-format.md), read and merged: one set of tests and units a suite and variant."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from greenline.depgraph.errors import GreenlineError

VERSION = 1
LISTS = ("modules", "opened", "listed", "queried", "env", "children", "units")
Block = tuple[str, str]  # path and qualified name; "" is the module body


class Used:
    """What a test or a unit was seen to use: blocks, and the other lists of the format."""

    def __init__(self) -> None:
        self.blocks: set[Block] = set()
        self.lists: dict[str, set[str]] = {name: set() for name in LISTS}
        self.variables: set[tuple[str, str]] = set()  # name and digest of the value
        self.early = False

    def add(self, line: dict[str, Any], blocks: dict[int, Block], digests: dict[str, str]) -> None:
        self.blocks.update(blocks[number] for number in line.get("blocks", ()))
        for name, values in self.lists.items():
            if name in line:
                values.update(map(str, line[name]))
        self.variables.update((name, digests[name]) for name in line.get("env", ()) if name in digests)
        self.early = self.early or bool(line.get("early"))


class Test(NamedTuple):
    """One test: what it used in all of its runs here. ``outcome``: "passed", or why the record does not count."""

    used: Used
    outcome: str
    phases: dict[str, float]


Test.__test__ = False  # type: ignore[attr-defined]


class Recorded:
    """Everything that was recorded of one suite under one variant."""

    def __init__(self, suite_root: str, variant: str) -> None:
        self.suite_root = suite_root
        self.variant = variant
        self.files: dict[str, set[str]] = {}  # path → object ids that processes saw
        self.units: dict[str, Used] = {}
        self.tests: dict[str, Test] = {}
        self.caches: dict[Block, Used] = {}
        self.deselected: set[str] = set()

    def test(self, line: dict[str, Any], ended: bool, blocks: dict[int, Block], digests: dict[str, str]) -> None:
        known = self.tests.get(line["id"])
        used = known.used if known else Used()
        used.add(line, blocks, digests)
        if line["kind"] == "test":
            outcome = line["outcome"] if ended else "crashed"
            if "lost" in line:
                outcome = f"lost: {line['lost']}"
            phases = line.get("phases", {})
            if known and known.outcome not in ("passed", ""):  # one bad run is enough
                outcome = known.outcome
        else:
            outcome, phases = (known.outcome, known.phases) if known else ("", {})
        self.tests[line["id"]] = Test(used, outcome, phases)


def read(folders: Iterable[str]) -> list[Recorded]:
    """The record files below these folders, merged. Raises GreenlineError for what is no record."""
    merged: dict[tuple[str, str], Recorded] = {}
    for path in _files(folders):
        lines = list(_lines(path))
        if not lines or lines[0].get("kind") != "session":
            continue  # the process ended before it wrote a line
        session = lines[0]
        if session.get("version") != VERSION:
            raise GreenlineError(
                f"{path}: records of version {session.get('version')}, and this greenline reads version {VERSION}",
                "update the older one of greenline and pytest-greenline, and record again",
            )
        key = session["suite_root"], variant_name(session["variant"])
        _merge(merged.setdefault(key, Recorded(*key)), lines)
    return [merged[key] for key in sorted(merged)]


def variant_name(variant: dict[str, str]) -> str:
    """ "3.12.1 linux-x86_64", and what $GREENLINE_VARIANT adds."""
    return " ".join(filter(None, (variant["python"], variant["platform"], variant.get("extra", ""))))


def _files(folders: Iterable[str]) -> list[str]:
    found = []
    for folder in folders:
        for current, _, names in os.walk(folder):
            found += [os.path.join(current, name) for name in names if name.endswith(".jsonl")]
    return sorted(set(found))


def _lines(path: str) -> Iterator[dict[str, Any]]:
    """The lines of one file; a process that was killed may leave half a line at the end."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                return


def _merge(recorded: Recorded, lines: list[dict[str, Any]]) -> None:
    ended = lines[-1]["kind"] == "end"
    blocks: dict[int, Block] = {}
    digests: dict[str, str] = {}  # of environment variables
    for line in lines:
        match line["kind"]:
            case "file":
                recorded.files.setdefault(line["path"], set()).add(line["oid"])
            case "block":
                blocks[line["id"]] = line["path"], line["name"]
            case "variable":
                digests[line["name"]] = line["digest"]
            case "unit":
                recorded.units.setdefault(line["id"], Used()).add(line, blocks, digests)
            case "test":
                recorded.test(line, ended, blocks, digests)
            case "part" if line["id"] in recorded.units or line["id"].startswith(_UNITS):
                recorded.units.setdefault(line["id"], Used()).add(line, blocks, digests)
            case "part":
                recorded.test(line, ended, blocks, digests)
            case "deselected":
                recorded.deselected.update(line["ids"])
            case "cache":
                recorded.caches.setdefault((line["path"], line["name"]), Used()).add(line, blocks, digests)


_UNITS = ("module:", "collect:", "fixture:", "hook:")
