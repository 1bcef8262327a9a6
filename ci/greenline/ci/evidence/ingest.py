"""From record files to the store.

All records of a suite and variant hold in one state of the repository. Before new ones are added, the old ones are
asked whether they still hold in the state in which the new ones were made: the rule that selects tests tells.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

from pyroaring import BitMap
from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, text, update
from sqlalchemy.engine import Row

from greenline.ci.evidence import forms
from greenline.ci.evidence.closure import Fact, Facts, close
from greenline.ci.evidence.forms import KEPT_RUNS, Entry
from greenline.ci.evidence.inherited import Files, node_ids
from greenline.ci.evidence.learned import Learner
from greenline.ci.evidence.reading import Evidence
from greenline.ci.evidence.records import Recorded, Test, read
from greenline.ci.evidence.rule import affected_records, judge
from greenline.ci.evidence.states import State, since_recording, state_of
from greenline.ci.evidence.tables import FACT, FILE, SUITE
from greenline.ci.selection.fixture_users import importer_of
from greenline.ci.store import open_store
from greenline.depgraph.config import Config
from greenline.depgraph.index import Opened, open_change
from greenline.depgraph.workspace import GitError, Workspace, blob_id

HARMLESS = frozenset(
    """git uname ldconfig locale which true false echo sleep stty tput lsb_release nvidia-smi file date whoami id
    hostname""".split()  # noqa: SIM905
)
"""Programs that run no code of the repository. A test that starts another one has used what nobody saw."""
FILTERS = frozenset("cat cut head less more sort tail tr uniq wc".split())  # noqa: SIM905
"""Programs that do not either, and read no file of it unless an argument names one."""
KEPT_SECONDS = 60 * 86400
"""A suite's variant that nobody recorded for so long is dropped when another one is written."""


class Ingested(NamedTuple):
    """What was added: tests whose records count, units, blocks, and why how many records do not count."""

    tests: int
    units: int
    blocks: int
    invalid: dict[str, int]


def ingest(workspace: Workspace, config: Config, folder: str, environment: Mapping[str, str] = os.environ) -> Ingested:
    """Add the records below ``folder`` to the store. They must be of the work tree as it is now.

    Raises NoStore, and GreenlineError for records that cannot be read.
    """
    recorded = read([folder])
    head = workspace.resolve("HEAD")
    if head is None:
        raise GitError("the repository has no commit yet", "commit something first: evidence belongs to a state")
    opened = open_change(workspace, config, head)
    state = state_of(opened)
    engine = open_store(workspace, config, environment)
    total = Ingested(0, 0, 0, {})
    for each in recorded:
        with engine.begin() as connection:
            # A write first, so that SQLite's lock is had before anything is read.
            connection.execute(delete(SUITE).where(SUITE.c.id < 0))
            added = _Writer(connection, workspace, config, opened, state).add(each)
        invalid = {
            why: total.invalid.get(why, 0) + added.invalid.get(why, 0) for why in {*total.invalid, *added.invalid}
        }
        total = Ingested(total.tests + added.tests, total.units + added.units, total.blocks + added.blocks, invalid)
    engine.dispose()
    return total._replace(invalid=dict(sorted(total.invalid.items())))


class _Written(NamedTuple):
    """Tests with new records and their numbers; the records that were seen now; those that count no more."""

    new: dict[str, int]
    seen: BitMap
    dead: BitMap


class _Writer:
    """Adds the records of one suite and variant, in one transaction."""

    def __init__(
        self, connection: Connection, workspace: Workspace, config: Config, opened: Opened, state: State
    ) -> None:
        self.connection, self.workspace, self.config = connection, workspace, config
        self.opened, self.state = opened, state

    def add(self, recorded: Recorded) -> Ingested:
        roots = {suite.root: suite.name for suite in self.opened.suites}
        suite = roots.get(recorded.suite_root, recorded.suite_root or ".")
        row = self._row(suite, recorded.variant)
        alive = self._advanced(row)
        edited = {path for path, oids in recorded.files.items() if oids != {self._oid(path)}}
        facts = close(recorded, self.opened.read_head, self._names_of, Learner(self.opened.graph))
        fingerprints = facts.fingerprints()
        judged = {test: _verdict(test, each, facts, edited) for test, each in recorded.tests.items()}
        run = row.runs + 1
        written = self._tests(row.id, recorded, judged, fingerprints, row.next_number, run)
        alive = (alive - written.dead) | written.seen
        next_number = row.next_number + len(written.new)
        self._facts(row.id, facts, written.new)
        values = {
            "commit_id": self.state.commit,
            "dirty": forms.pack(self.state.dirty),
            "next_number": next_number,
            "alive": forms.dump(alive),
            "runs": run,
            "updated": time.time(),
        }
        self.connection.execute(update(SUITE).where(SUITE.c.id == row.id).values(values))
        self.connection.execute(delete(SUITE).where(SUITE.c.updated < time.time() - KEPT_SECONDS))
        if next_number > 1000 and len(alive) < next_number // 2:
            compact(self.connection, row.id)
        invalid: dict[str, int] = {}
        for why in filter(None, judged.values()):
            invalid[why] = invalid.get(why, 0) + 1
        counted = sum(not why for why in judged.values())
        blocks = sum(kind == forms.BLOCK for kind, _, _ in facts.numbers)
        return Ingested(counted, len(recorded.units), blocks, invalid)

    def _row(self, suite: str, variant: str) -> Row[tuple[object, ...]]:
        wanted = select(SUITE).where(SUITE.c.suite == suite, SUITE.c.variant == variant).with_for_update()
        found = self.connection.execute(wanted).first()
        if found is None:
            values = {"suite": suite, "variant": variant, "commit_id": self.state.commit, "updated": time.time()}
            values |= {
                "dirty": forms.pack(self.state.dirty),
                "next_number": 0,
                "alive": forms.dump(BitMap()),
                "runs": 0,
            }
            self.connection.execute(insert(SUITE).values(values))
            found = self.connection.execute(wanted).one()
        return found

    def _advanced(self, row: Row[tuple[object, ...]]) -> BitMap:
        """The old records that hold in the new state too. Test files that changed since may have other tests now."""

        def query(sql: str, values: Mapping[str, object]) -> list[tuple[object, ...]]:
            return [tuple(each) for each in self.connection.execute(text(sql), dict(values))]

        columns = (row.id, row.suite, row.variant, row.commit_id, row.dirty, row.alive, row.runs)
        evidence = Evidence(query, columns)
        if not row.next_number or State(evidence.commit, evidence.dirty) == self.state:
            return evidence.alive
        of_suite = FILE.c.suite_id == row.id
        try:
            since = since_recording(self.workspace, self.config, evidence, None)
        except GitError:  # the old state is not in this clone: nothing is known of what changed
            self.connection.execute(update(FILE).where(of_suite).values(complete=False))
            return BitMap()
        judged = judge(since, self.config, evidence)
        for path in sorted({change.path for change in since.changes if change.path in evidence.files} | judged.others):
            where = of_suite & (FILE.c.path == path)
            if self.opened.read_head(path) is None:
                self.connection.execute(delete(FILE).where(where))
            else:
                complete = self._complete(path, evidence.entries(path))
                self.connection.execute(update(FILE).where(where).values(complete=complete))
        return evidence.alive - affected_records(judged, evidence)

    def _oid(self, path: str) -> str:
        data = self.workspace.read(path)
        return blob_id(data) if data is not None else ""

    def _names_of(self, path: str) -> list[tuple[str, str]]:
        graph = self.opened.graph
        is_package = path.endswith("/__init__.py")
        names = [name.name for name in graph.names(path)]
        found = [(name, name if is_package else name.rpartition(".")[0]) for name in names]
        return found or [("", package) for package in graph.layout.package_of(path)]

    def _tests(
        self,
        suite_id: int,
        recorded: Recorded,
        judged: Mapping[str, str],
        fingerprints: Mapping[str, str],
        next_number: int,
        run: int,
    ) -> _Written:
        by_file: dict[str, list[str]] = {}
        for test in sorted(recorded.tests):
            by_file.setdefault(test.partition("::")[0], []).append(test)
        left_out: dict[str, list[str]] = {}
        for test in sorted(recorded.deselected):
            left_out.setdefault(test.partition("::")[0], []).append(test.partition("::")[2])
        new: dict[str, int] = {}
        dead, seen = BitMap(), BitMap()
        for path, tests in by_file.items():
            where = (FILE.c.suite_id == suite_id) & (FILE.c.path == path)
            row = self.connection.execute(select(FILE).where(where)).first()
            entries = forms.unpack_entries(row.tests) if row else {}
            for test in tests:
                name = test.partition("::")[2]
                each, why = recorded.tests[test], judged[test]
                old = entries.get(name, Entry((), "", 0.0, 0))
                records = {print_: number for number, print_ in old.records}
                if why:
                    dead.update(records.values())
                else:  # a record that did not hold meanwhile counts again when it is seen again
                    if fingerprints[test] not in records:
                        new[test] = next_number + len(new)
                        number = new[test]
                    else:
                        number = records.pop(fingerprints[test])
                    records[fingerprints[test]] = number  # the newest comes last
                    seen.add(number)
                kept = tuple((number, print_) for print_, number in records.items())
                dead.update(number for number, _ in kept[:-KEPT_RUNS])
                broke = run if each.outcome in ("failed", "error", "timeout", "crashed") else old.broke
                seconds = round(sum(each.phases.values()), 4)
                entries[name] = Entry(kept[-KEPT_RUNS:], each.outcome, seconds, broke)
            groups = {name.partition("[")[0] for name in entries}
            for name in left_out.get(path, ()):
                if name not in entries and name.partition("[")[0] in groups:
                    entries[name] = Entry((), forms.DESELECTED, 0.0, 0)
            values = {"suite_id": suite_id, "path": path, **_columns(entries)}
            values["complete"] = self._complete(path, entries)
            self.connection.execute(update(FILE).where(where).values(values) if row else insert(FILE).values(values))
        return _Written(new, seen, dead)

    def _complete(self, path: str, entries: Mapping[str, Entry]) -> bool:
        """Whether the file has no other tests, as far as syntax tells."""
        ids = node_ids(path, self._sources, self.opened.graph.suites.names_of_tests(path))
        bare = {name.partition("[")[0] for name in entries}
        return ids is not None and all(
            any(name == each or name.startswith(f"{each}::") for name in bare) for each in ids
        )

    @cached_property
    def _sources(self) -> Files:
        return Files(self.opened.read_head, importer_of(self.opened.graph))

    def _facts(self, suite_id: int, facts: Facts, numbers: Mapping[str, int]) -> None:
        fact_of = {number: fact for fact, number in facts.numbers.items()}
        added: dict[Fact, BitMap] = {}
        for test, record in numbers.items():
            for number in facts.of_test[test]:
                added.setdefault(fact_of[number], BitMap()).add(record)
        known = {
            (row.kind, row.path, row.name): forms.bitmap(row.records)
            for row in self.connection.execute(select(FACT).where(FACT.c.suite_id == suite_id))
            if (row.kind, row.path, row.name) in added
        }
        fresh = []
        for fact, records in sorted(added.items()):
            if fact in known:
                joined = forms.dump(known[fact] | records)
                self.connection.execute(update(FACT).where(_is_fact(suite_id, *fact)).values(records=joined))
            else:
                values = dict(zip(("kind", "path", "name"), fact, strict=True))
                fresh.append({"suite_id": suite_id, **values, "records": forms.dump(records)})
        if fresh:
            self.connection.execute(insert(FACT), fresh)


def _is_fact(suite_id: int, kind: str, path: str, name: str) -> ColumnElement[bool]:
    return and_(FACT.c.suite_id == suite_id, FACT.c.kind == kind, FACT.c.path == path, FACT.c.name == name)


def _columns(entries: dict[str, Entry]) -> dict[str, object]:
    numbers = [entry.numbers for entry in entries.values() if entry.records]
    return {
        "records": forms.dump(BitMap(number for each in numbers for number in each)),
        "newest": forms.dump(BitMap(each[-1] for each in numbers)),
        "known": len(entries),
        "tests": forms.pack_entries(entries),
    }


def _verdict(test: str, each: Test, facts: Facts, edited: set[str]) -> str:
    """Why a record does not count, or ""."""
    if each.outcome != "passed":
        return each.outcome or "no outcome"
    if edited and any(path in edited for path, _ in each.used.blocks):
        return "a file was edited while it ran"
    body = test.partition("[")[0].rpartition("::")[2]
    if not any(name.rpartition(".")[2] == body for _, name in each.used.blocks):
        return "its own body was not seen"
    for child in each.used.lists["children"]:
        command, *arguments = json.loads(child)
        program = os.path.basename(command)
        is_filter = program in FILTERS and all(each.startswith("-") for each in arguments)
        if program not in HARMLESS and not is_filter:
            return f"started a program that was not recorded ({program})"
    return ""


def compact(connection: Connection, suite_id: int) -> None:
    """Drop the bits of records that count no more, and facts that are nobody's."""
    row = connection.execute(select(SUITE).where(SUITE.c.id == suite_id)).one()
    alive = forms.bitmap(row.alive)
    rename = {old: new for new, old in enumerate(alive)}
    for fact in connection.execute(select(FACT).where(FACT.c.suite_id == suite_id)).all():
        where = _is_fact(suite_id, fact.kind, fact.path, fact.name)
        kept = BitMap(rename[number] for number in forms.bitmap(fact.records) & alive)
        change = update(FACT).where(where).values(records=forms.dump(kept)) if kept else delete(FACT).where(where)
        connection.execute(change)
    for file in connection.execute(select(FILE).where(FILE.c.suite_id == suite_id)).all():
        entries = {
            name: entry._replace(records=tuple((rename[n], print_) for n, print_ in entry.records if n in rename))
            for name, entry in forms.unpack_entries(file.tests).items()
        }
        where = (FILE.c.suite_id == suite_id) & (FILE.c.path == file.path)
        connection.execute(update(FILE).where(where).values(_columns(entries)))
    values = {"alive": forms.dump(BitMap(range(len(rename)))), "next_number": len(rename)}
    connection.execute(update(SUITE).where(SUITE.c.id == suite_id).values(values))
