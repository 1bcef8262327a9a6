"""What repair remembers between runs: who works on which failure now, and what was tried before.

A lease keeps a second run away from the same failure. It is taken and renewed by compare-and-swap in the database, so
that of two runs exactly one gets it; it expires soon after its holder stops renewing it, and at once if the holder was
a process of this machine that is gone.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple

from sqlalchemy import Column, Engine, Float, Integer, String, Table, Text, delete, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from greenline.ci.store import METADATA

LEASE_SECONDS = 120.0

LEASES = Table(
    "repair_leases",
    METADATA,
    Column("fingerprint", String(64), primary_key=True),
    Column("holder", String(200), nullable=False),
    Column("expires", Float, nullable=False),
)
ATTEMPTS = Table(
    "repair_attempts",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("fingerprint", String(64), nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("bad", String(64), nullable=False),
    Column("branch", String(200), nullable=False),
    Column("outcome", String(40), nullable=False),
    Column("report", Text, nullable=False),
)


class Attempt(NamedTuple):
    """One run that tried to repair a failure. ``outcome``: "proposed" or "handed off"; ``branch``: "" without one."""

    fingerprint: str
    at: float
    bad: str
    branch: str
    outcome: str


class Leased(Exception):
    """Another run works on this failure; the message says who."""


class Lease:
    """Hold a lease while a ``with`` block runs. Raises :class:`Leased` if another run has it."""

    def __init__(self, store: Engine | None, fingerprint: str, seconds: float = LEASE_SECONDS) -> None:
        self._store, self._fingerprint, self._seconds = store, fingerprint, seconds
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{time.time():.3f}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Lease:
        if self._store is not None:
            self._take(self._store)
            self._thread.start()
        return self

    def _take(self, store: Engine) -> None:
        now = time.time()
        mine = {"holder": self._holder, "expires": now + self._seconds}
        with store.begin() as connection:
            row = connection.execute(select(LEASES).where(LEASES.c.fingerprint == self._fingerprint)).first()
        if row is None:
            try:
                with store.begin() as connection:
                    connection.execute(insert(LEASES).values(fingerprint=self._fingerprint, **mine))
                return
            except IntegrityError:
                raise Leased("another run has just taken it") from None
        if row.expires > now and not _is_gone(row.holder):
            raise Leased(f"{row.holder.rpartition(':')[0]} has it for another {row.expires - now:.0f} s")
        swap = update(LEASES).where(LEASES.c.fingerprint == self._fingerprint, LEASES.c.holder == row.holder)
        with store.begin() as connection:
            if connection.execute(swap.where(LEASES.c.expires == row.expires).values(**mine)).rowcount != 1:
                raise Leased("another run has just taken it")

    def _renew(self) -> None:
        while not self._stop.wait(self._seconds / 4):
            try:
                self.check()
            except (Leased, SQLAlchemyError):
                return  # whoever wants to write asks again, and is told

    def check(self) -> None:
        """Renew the lease. Raises :class:`Leased` if it was lost: nothing may be written then."""
        if self._store is None:
            return
        mine = (LEASES.c.fingerprint == self._fingerprint) & (LEASES.c.holder == self._holder)
        with self._store.begin() as connection:
            renewed = connection.execute(update(LEASES).where(mine).values(expires=time.time() + self._seconds))
            if renewed.rowcount != 1:
                raise Leased("the lease was lost")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._store is not None:
            self._thread.join()
            mine = (LEASES.c.fingerprint == self._fingerprint) & (LEASES.c.holder == self._holder)
            with self._store.begin() as connection:
                connection.execute(delete(LEASES).where(mine))


def _is_gone(holder: str) -> bool:
    """Whether a holder was a process of this machine that is no more."""
    host, pid, _ = holder.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def remember(store: Engine | None, attempt: Attempt, fingerprints: Iterable[str], report: str) -> None:
    """Record an attempt for each of the failures that it was for."""
    if store is None:
        return
    with store.begin() as connection:
        for fingerprint in sorted(set(fingerprints)):
            values = attempt._replace(fingerprint=fingerprint)._asdict()
            connection.execute(insert(ATTEMPTS).values(**values, report=report))


def attempts(store: Engine | None, fingerprints: Iterable[str]) -> list[Attempt]:
    """The attempts to repair any of these failures, oldest first."""
    if store is None:
        return []
    query = select(ATTEMPTS).where(ATTEMPTS.c.fingerprint.in_(sorted(set(fingerprints)))).order_by(ATTEMPTS.c.id)
    with store.begin() as connection:
        rows = connection.execute(query).all()
    return [Attempt(row.fingerprint, row.at, row.bad, row.branch, row.outcome) for row in rows]
