"""Evidence as one file, for the caches of CI systems, and what of it there is."""

from __future__ import annotations

import os
import tempfile
from typing import NamedTuple

import sqlalchemy
from sqlalchemy import Connection, Engine, delete, func, insert, select

from greenline.ci.evidence import forms
from greenline.ci.evidence.tables import FACT, FILE, SUITE
from greenline.ci.store import METADATA
from greenline.depgraph.errors import GreenlineError

TABLES = (SUITE, FILE, FACT)


class Status(NamedTuple):
    """One suite's evidence under one variant.

    ``tests``: known ones; ``records``: those that count; ``updated``: seconds since 1970; ``size``: bytes of values.
    """

    suite: str
    variant: str
    commit: str
    updated: float
    files: int
    tests: int
    records: int
    facts: int
    size: int


def status(engine: Engine) -> list[Status]:
    found = []
    with engine.connect() as connection:
        for row in connection.execute(select(SUITE).order_by(SUITE.c.suite, SUITE.c.variant)).all():
            of_file = select(func.count(), func.sum(FILE.c.known), func.sum(func.length(FILE.c.tests)))
            of_fact = select(func.count(), func.sum(func.length(FACT.c.records)))
            files, tests, bytes_ = connection.execute(of_file.where(FILE.c.suite_id == row.id)).one()
            facts, more = connection.execute(of_fact.where(FACT.c.suite_id == row.id)).one()
            found.append(
                Status(
                    row.suite, row.variant, row.commit_id, row.updated, files, int(tests or 0),
                    len(forms.bitmap(row.alive)), facts, int(bytes_ or 0) + int(more or 0),
                )
            )  # fmt: skip
    return found


def export(engine: Engine, path: str) -> int:
    """Write all evidence into one new file; how many suites and variants."""
    folder = os.path.dirname(os.path.abspath(path))
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
    os.close(handle)
    os.unlink(temporary)
    target = sqlalchemy.create_engine(sqlalchemy.URL.create("sqlite", database=temporary))
    try:
        METADATA.create_all(target, tables=list(TABLES))
        with engine.connect() as source, target.begin() as connection:
            ids = [row.id for row in source.execute(select(SUITE))]
            for suite_id in ids:
                _copy(source, connection, suite_id)
        target.dispose()
        os.replace(temporary, path)
    finally:
        target.dispose()
        if os.path.exists(temporary):
            os.unlink(temporary)
    return len(ids)


def load(engine: Engine, path: str) -> tuple[int, int]:
    """Take over the evidence of a file, where it is newer than what is there: (taken, left). Raises GreenlineError."""
    if not os.path.isfile(path):
        raise GreenlineError(f"there is no file {path}", "greenline evidence export writes one")
    source_engine = sqlalchemy.create_engine(sqlalchemy.URL.create("sqlite", database=path))
    taken = left = 0
    try:
        with source_engine.connect() as source, engine.begin() as connection:
            for row in source.execute(select(SUITE)).all():
                same = (SUITE.c.suite == row.suite) & (SUITE.c.variant == row.variant)
                here = connection.execute(select(SUITE).where(same)).first()
                if here is not None and here.updated >= row.updated:
                    left += 1
                    continue
                if here is not None:
                    for table, column in ((FACT, FACT.c.suite_id), (FILE, FILE.c.suite_id), (SUITE, SUITE.c.id)):
                        connection.execute(delete(table).where(column == here.id))
                _copy(source, connection, row.id)
                taken += 1
    except sqlalchemy.exc.DatabaseError as error:
        raise GreenlineError(f"{path} holds no evidence: {error.orig}", "greenline evidence export writes it") from None
    finally:
        source_engine.dispose()
    return taken, left


def _copy(source: Connection, target: Connection, suite_id: int) -> None:
    """Copy one suite's rows; it gets a new id there."""
    row = source.execute(select(SUITE).where(SUITE.c.id == suite_id)).one()
    values = {key: value for key, value in row._mapping.items() if key != "id"}
    key = target.execute(insert(SUITE).values(values)).inserted_primary_key
    assert key is not None
    for table in (FILE, FACT):
        rows = source.execution_options(yield_per=1000).execute(select(table).where(table.c.suite_id == suite_id))
        for part in rows.partitions():
            target.execute(insert(table), [{**each._mapping, "suite_id": key[0]} for each in part])
