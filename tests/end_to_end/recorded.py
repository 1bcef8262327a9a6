"""Record files, as a test wants to see them: what each test used, its units' content included."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LISTS = ("modules", "opened", "listed", "queried", "env", "children")


def run(python: str | Path, root: Path, *options: str, folder: str = "out", **variables: str) -> str:
    """pytest's output, with recording into a folder."""
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--greenline-record={folder}", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV"))}
    done = subprocess.run(
        command, cwd=root, env={**environment, **variables}, capture_output=True, text=True, check=False, timeout=300
    )
    return done.stdout + done.stderr


class Records:
    """All files of a folder. ``used(test)`` is what counts as its own: list name → values, blocks as "path::name"."""

    def __init__(self, folder: Path) -> None:
        self.tests: dict[str, dict[str, Any]] = {}
        self.lines: list[dict[str, Any]] = []
        self.parts: dict[str, list[dict[str, Any]]] = {}
        self.caches: dict[str, set[str]] = {}
        self.oids: dict[str, set[str]] = {}
        self.ended = 0
        for path in sorted(folder.glob("*.jsonl")):
            blocks: dict[int, str] = {}
            for text in path.read_text("utf-8").splitlines():
                line = json.loads(text)
                self.lines.append(line)
                if line["kind"] == "block":
                    blocks[line["id"]] = f"{line['path']}::{line['name']}"
                line["blocks"] = {blocks[number] for number in line.get("blocks", ())}
                self._add(line)

    def _add(self, line: dict[str, Any]) -> None:
        kind = line["kind"]
        if kind == "test":
            self.tests[line["id"].rpartition("::")[2]] = line
        if kind in ("test", "unit", "part"):
            self.parts.setdefault(line["id"], []).append(line)
        elif kind == "cache":
            self.caches.setdefault(f"{line['path']}::{line['name']}", set()).update(line["blocks"])
        elif kind == "file":
            self.oids.setdefault(line["path"], set()).add(line["oid"])
        self.ended += kind == "end"

    def units(self, test: str) -> set[str]:
        """The test's id and all units that it used."""
        found: set[str] = set()
        todo = [self.tests[test]["id"]]
        while todo:
            id = todo.pop()
            if id not in found:
                found.add(id)
                todo += [each for part in self.parts.get(id, ()) for each in part.get("units", ())]
        return found

    def blocks(self, test: str) -> set[str]:
        return {block for id in self.units(test) for part in self.parts.get(id, ()) for block in part["blocks"]}

    def used(self, test: str, what: str) -> set[Any]:
        lists = (part.get(what, ()) for id in self.units(test) for part in self.parts.get(id, ()))
        return {each for values in lists for each in values}


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
