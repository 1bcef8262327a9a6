"""The tables of evidence, and the forms that their values have. Kept apart from :mod:`.reading`: a reader of a SQLite
store needs no SQLAlchemy.

A record has a number, and a set of records is a roaring bitmap. Numbers only grow: a record that counts no more is
taken out of ``alive``, and its bits elsewhere are dropped when more than half of all numbers are dead.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, ForeignKey, Integer, LargeBinary, String, Table, UniqueConstraint

from greenline.ci.store import METADATA

SUITE = Table(
    "evidence_suite",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("suite", String, nullable=False),
    Column("variant", String, nullable=False),
    Column("commit_id", String, nullable=False),  # the state in which every alive record holds
    Column("dirty", LargeBinary, nullable=False),  # and how that differed from the commit: see forms.pack
    Column("next_number", Integer, nullable=False),
    Column("alive", LargeBinary, nullable=False),
    Column("runs", Integer, nullable=False),
    Column("updated", Float, nullable=False),  # seconds since 1970
    UniqueConstraint("suite", "variant"),
)

FILE = Table(
    "evidence_file",
    METADATA,
    Column("suite_id", Integer, ForeignKey("evidence_suite.id", ondelete="CASCADE"), primary_key=True),
    Column("path", String, primary_key=True),
    Column("records", LargeBinary, nullable=False),  # bitmap: all of its tests
    Column("newest", LargeBinary, nullable=False),  # bitmap: the newest record of each
    Column("known", Integer, nullable=False),  # tests
    Column("complete", Boolean, nullable=False),  # whether these are all tests of the file
    Column("tests", LargeBinary, nullable=False),  # packed: name → forms.Entry
)

FACT = Table(
    "evidence_fact",
    METADATA,
    Column("suite_id", Integer, ForeignKey("evidence_suite.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", String, primary_key=True),
    Column("path", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("records", LargeBinary, nullable=False),  # bitmap
)
