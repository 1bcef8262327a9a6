"""The table of conflict pairs and near misses, and the repository that holds them: see conflicts/*.yaml.

A file holds one breakage class: ``base`` (path → content), ``conflicts`` and ``near_misses`` with what each side
changes: a text is the whole file, null deletes it, a mapping replaces its keys by its values, "+" appends. A case may
lay its own ``base`` over that of the file. ``fix: true``: a deterministic fix makes the merged tree pass.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import yaml

TABLE = Path(__file__).parent / "conflicts"


class Case(NamedTuple):
    """``base``, ``ours``, ``theirs``: path → content of the three states. ``limit``: why we cannot tell it yet."""

    number: int
    title: str
    name: str
    conflict: bool
    fix: bool
    base: dict[str, str]
    ours: dict[str, str]
    theirs: dict[str, str]
    limit: str

    @property
    def id(self) -> str:
        return f"{self.number}-{'conflict' if self.conflict else 'near'}-{self.name.replace(' ', '-')}"


def load(folder: Path = TABLE) -> list[Case]:
    """Every case of the table, in order."""
    found = []
    for path in sorted(folder.glob("*.yaml")):
        table = yaml.safe_load(path.read_text())
        for key in ("conflicts", "near_misses"):
            for row in table[key]:
                base = _edited(table["base"], row.get("base", {}))
                found.append(
                    Case(
                        table["class"],
                        table["title"],
                        row["id"],
                        key == "conflicts",
                        row.get("fix", False),
                        base,
                        _edited(base, row["ours"]),
                        _edited(base, row["theirs"]),
                        row.get("limit", ""),
                    )
                )
    return found


def _edited(files: dict[str, str], edits: dict[str, Any]) -> dict[str, str]:
    found = dict(files)
    for path, edit in edits.items():
        if edit is None:
            del found[path]
        elif isinstance(edit, str):
            found[path] = edit
        else:
            for old, new in edit.items():
                if old == "+":
                    found[path] += new
                else:
                    assert old in found[path], f"{path} has no {old!r}"
                    found[path] = found[path].replace(old, new)
    return found


class Commits(NamedTuple):
    base: str
    ours: str
    theirs: str


def build(folder: Path, cases: list[Case]) -> dict[str, Commits]:
    """A repository with three commits for each case, and nothing checked out; case id → commits."""
    subprocess.run(["git", "init", "-q", "-b", "main", str(folder)], check=True)
    lines: list[bytes] = []
    marks: dict[str, list[int]] = {}
    count = 0
    for case in cases:
        marks[case.id] = []
        for files in (case.base, case.ours, case.theirs):
            count += 1
            parent = marks[case.id][0] if marks[case.id] else 0
            marks[case.id].append(count)
            lines.append(f"commit refs/heads/c{count}\nmark :{count}\n".encode())
            lines.append(b"committer t <t@example.com> 1700000000 +0000\ndata 1\nx\n")
            lines.append(f"from :{parent}\n".encode() if parent else b"")
            lines.append(b"deleteall\n")
            for path, text in sorted(files.items()):
                data = text.encode()
                lines.append(b'M 100644 inline "%b"\ndata %d\n%b\n' % (path.encode(), len(data), data))
    table = folder / ".git" / "marks"
    command = ["git", "-C", str(folder), "fast-import", "--quiet", f"--export-marks={table}"]
    subprocess.run(command, input=b"".join(lines), check=True)
    ids = dict(line.split() for line in table.read_text().splitlines())
    return {case: Commits(*(ids[f":{mark}"] for mark in three)) for case, three in marks.items()}
