"""Leases and attempts in the store."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import Engine, insert, select, update

from greenline.ci.repair.records import LEASES, Attempt, Lease, Leased, attempts, remember
from greenline.ci.store import METADATA


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    if request.param == "sqlite":
        engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'store.db'}", connect_args={"timeout": 30})
    else:
        url = sqlalchemy.make_url(request.getfixturevalue("postgresql")).set(drivername="postgresql+psycopg")
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        METADATA.drop_all(engine)
    METADATA.create_all(engine)
    return engine


def test_a_second_run_is_kept_away_until_the_first_is_done(store: Engine) -> None:
    with Lease(store, "f"):
        with pytest.raises(Leased), Lease(store, "f"):
            pass
        with Lease(store, "another failure"):
            pass
    with Lease(store, "f"):
        pass


def test_of_many_at_once_exactly_one_gets_it(store: Engine) -> None:
    got, start = [], threading.Barrier(8)

    def take() -> None:
        start.wait()
        try:
            with Lease(store, "f"):
                got.append(1)
                time.sleep(0.3)
        except Leased:
            pass

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1


def leave(store: Engine, holder: str, expires: float) -> None:
    with store.begin() as connection:
        connection.execute(insert(LEASES).values(fingerprint="f", holder=holder, expires=expires))


def test_an_expired_lease_is_taken_over(store: Engine) -> None:
    leave(store, "elsewhere:1:0", time.time() + 60)
    with pytest.raises(Leased, match="elsewhere"), Lease(store, "f"):
        pass
    with store.begin() as connection:
        connection.execute(update(LEASES).values(expires=time.time() - 1))
    with Lease(store, "f"):
        pass


def test_the_lease_of_a_killed_process_of_this_machine_is_taken_over_at_once(store: Engine) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    leave(store, f"{socket.gethostname()}:{dead.pid}:0", time.time() + 600)
    with Lease(store, "f"):
        pass


def test_a_lost_lease_is_told_before_anything_is_written(store: Engine) -> None:
    with Lease(store, "f") as lease:
        lease.check()
        with store.begin() as connection:
            connection.execute(update(LEASES).values(holder="thief:1:0"))
        with pytest.raises(Leased):
            lease.check()
    with store.begin() as connection:
        assert connection.execute(select(LEASES.c.holder)).scalar() == "thief:1:0"


def test_it_is_renewed_while_it_is_held(store: Engine) -> None:
    with Lease(store, "f", seconds=0.8):
        time.sleep(1.5)
        with pytest.raises(Leased), Lease(store, "f"):
            pass


def test_attempts(store: Engine) -> None:
    attempt = Attempt("", 1.0, "b" * 40, "greenline/repair/x", "proposed")
    remember(store, attempt, ["f", "g", "f"], "{}")
    assert [(each.fingerprint, each.outcome) for each in attempts(store, ["f"])] == [("f", "proposed")]
    assert len(attempts(store, ["f", "g"])) == 2
    assert attempts(store, ["h"]) == attempts(None, ["f"]) == []


def test_without_a_store_there_is_no_lease_to_lose() -> None:
    with Lease(None, "f") as lease:
        lease.check()
