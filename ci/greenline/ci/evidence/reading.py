"""Reading evidence. SQLite is read with the standard library: importing SQLAlchemy takes longer than the answer."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pyroaring import BitMap

from greenline.ci.evidence.forms import Entry, Names, bitmap, unpack, unpack_entries, unpack_names
from greenline.ci.evidence.place import place
from greenline.depgraph.config import Config
from greenline.depgraph.workspace import Workspace

Query = Callable[[str, Mapping[str, Any]], Sequence[Any]]
"""Runs SQL with named parameters (":name") and gives all rows."""

MOST_NAMES = 500  # in one IN (...)


class File(NamedTuple):
    """A test file: its records that count, the newest of each test, how many tests, and whether there are no others."""

    records: BitMap
    newest: BitMap
    known: int
    complete: bool


class Evidence:
    """What one suite's store holds under one variant. Every alive record held in the state ``commit`` + ``dirty``."""

    def __init__(self, query: Query, row: Sequence[Any]) -> None:
        self._query = query
        self._entries: dict[str, bytes] = {}
        self.id, self.suite, self.variant, self.commit, dirty, alive, self.runs = row
        self.dirty: dict[str, list[str]] = unpack(dirty)  # path → object id, content in latin-1
        self.alive = bitmap(alive)
        self.files = {
            path: File(bitmap(records) & self.alive, bitmap(newest) & self.alive, known, bool(complete))
            for path, records, newest, known, complete in query(
                "SELECT path, records, newest, known, complete FROM evidence_file WHERE suite_id = :suite",
                {"suite": self.id},
            )
        }

    def fetch(self, paths: Iterable[str]) -> None:
        """Read the tests of many files at once."""
        for part in _parts(sorted(set(paths).difference(self._entries))):
            slots, names = _slots(part)
            rows = self._query(
                f"SELECT path, tests FROM evidence_file WHERE suite_id = :suite AND path IN ({slots})",
                {"suite": self.id, **names},
            )
            self._entries.update(dict.fromkeys(part, b""), **{path: bytes(tests) for path, tests in rows})

    def entries(self, path: str) -> dict[str, Entry]:
        """The tests of one file by name ("test_x[1]", "TestC::test_m")."""
        self.fetch([path])
        packed = self._entries[path]
        return unpack_entries(packed) if packed else {}

    def names(self, path: str) -> Names:
        """What ``entries`` says of names; cheaper. The file is one of ``files``."""
        self.fetch([path])
        return unpack_names(self._entries[path])

    def facts(self, kind: str, paths: Collection[str]) -> dict[tuple[str, str], BitMap]:
        """(path, name) → records, of these paths."""
        found = {}
        for part in _parts(sorted(paths)):
            slots, names = _slots(part)
            rows = self._query(
                "SELECT path, name, records FROM evidence_fact WHERE suite_id = :suite AND kind = :kind"
                f" AND path IN ({slots})",
                {"suite": self.id, "kind": kind, **names},
            )
            for path, name, records in rows:
                found[path, name] = bitmap(records) & self.alive
        return found

    def paths(self, kind: str) -> list[str]:
        """The paths that have facts of a kind."""
        rows = self._query(
            "SELECT DISTINCT path FROM evidence_fact WHERE suite_id = :suite AND kind = :kind",
            {"suite": self.id, "kind": kind},
        )
        return sorted(path for (path,) in rows)


def _slots(values: list[str]) -> tuple[str, dict[str, str]]:
    """Placeholders for a list of values, and their names."""
    names = {f"p{at}": value for at, value in enumerate(values)}
    return ", ".join(f":{name}" for name in names), names


def _parts(values: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(values), MOST_NAMES):
        yield values[start : start + MOST_NAMES]


def load(workspace: Workspace, config: Config, environment: Mapping[str, str] = os.environ) -> list[Evidence]:
    """All evidence that is kept, of every suite and variant; [] without a store. Raises NoStore."""
    query = _open(workspace, config, environment)
    if query is None:
        return []
    columns = "id, suite, variant, commit_id, dirty, alive, runs"
    return [Evidence(query, row) for row in query(f"SELECT {columns} FROM evidence_suite ORDER BY suite, variant", {})]


def _open(workspace: Workspace, config: Config, environment: Mapping[str, str]) -> Query | None:
    path = place(workspace, config, environment)
    if path is None:
        return None
    if "://" in path:
        return _open_server(workspace, config, environment)
    connection = sqlite3.connect(path, timeout=30)
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'evidence_suite'").fetchone():
        return None
    return lambda sql, values: connection.execute(sql, dict(values)).fetchall()


def _open_server(workspace: Workspace, config: Config, environment: Mapping[str, str]) -> Query | None:
    import sqlalchemy

    from greenline.ci.store import open_store

    connection = open_store(workspace, config, environment).connect()
    if not sqlalchemy.inspect(connection).has_table("evidence_suite"):
        return None
    return lambda sql, values: connection.execute(sqlalchemy.text(sql), dict(values)).fetchall()
