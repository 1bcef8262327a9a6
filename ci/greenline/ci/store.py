"""Where records live that are no cache: evidence, durations, flakes, leases.

SQLite in ``.greenline/`` by default, PostgreSQL by URL for a team. Each module that keeps records declares its
tables on :data:`METADATA`; :func:`open_store` makes those that are missing. Who may write into a shared store is
decided here, once: a pull request's CI run only reads.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import sqlalchemy
from sqlalchemy import Engine, MetaData, event

from greenline.ci.environment import on_default_branch
from greenline.depgraph.config import Config
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.globs import matcher
from greenline.depgraph.workspace import Workspace

METADATA = MetaData()

URL = "GREENLINE_STORE"
"""Environment variable: the store's URL; ``off`` keeps and reads no records."""
OFF = ("off", "0", "false", "no")
_TABLES_LOCK = 0x677265656E  # any number that nobody else takes
BUSY_SECONDS = 30
"""How long a writer of a SQLite file waits for another."""


class NoStore(GreenlineError):
    """The store is switched off or cannot be reached; whoever only wants better answers goes on without it."""


def open_store(workspace: Workspace, config: Config, environment: Mapping[str, str] = os.environ) -> Engine:
    """The store with all tables of the modules that are imported. Raises NoStore.

    In a store that this run may not write into, the database refuses every write.
    """
    settings = config.rooms.get("store", {})
    given = environment.get(URL) or settings.get("url")
    if given and given.lower() in OFF:
        raise NoStore(f"the store is off (${URL})")
    url = _url(given, workspace)
    local = url.get_backend_name() == "sqlite"
    may_write = local or _is_writer(workspace, config, environment)
    try:
        engine = sqlalchemy.create_engine(url, **({"connect_args": {"timeout": BUSY_SECONDS}} if local else {}))
        if local:
            _prepare_file(engine, url.database)
        elif not may_write:
            event.listen(engine, "connect", _forbid_writes)
        if may_write:
            _make_tables(engine, local)
        else:
            engine.connect().close()
    except ImportError:
        raise NoStore(
            "the store is a PostgreSQL database, but psycopg is not installed", "pip install 'greenline[postgres]'"
        ) from None
    except (sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        name = url.render_as_string(hide_password=True)
        raise NoStore(f"the store {name} cannot be used: {reason}", f"see store in greenline.yaml, or ${URL}") from None
    return engine


def _make_tables(engine: Engine, local: bool) -> None:
    """Make the tables that are missing; of runs that come at once, all but one find them made."""
    if set(METADATA.tables) <= set(sqlalchemy.inspect(engine).get_table_names()):
        return
    lock = "BEGIN IMMEDIATE" if local else f"SELECT pg_advisory_xact_lock({_TABLES_LOCK})"
    with engine.begin() as connection:
        connection.exec_driver_sql(lock)
        METADATA.create_all(connection)


def may_write(workspace: Workspace, config: Config, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this run may write into the store: always into a local file, else on a writer's branch."""
    settings = config.rooms.get("store", {})
    given = environment.get(URL) or settings.get("url")
    return _url(given, workspace).get_backend_name() == "sqlite" or _is_writer(workspace, config, environment)


def _url(given: str | None, workspace: Workspace) -> sqlalchemy.URL:
    if not given:
        home = os.path.join(os.path.dirname(workspace.cache), "store")
        return sqlalchemy.URL.create("sqlite", database=os.path.join(home, "greenline.db"))
    try:
        url = sqlalchemy.make_url(given)
    except sqlalchemy.exc.ArgumentError:
        raise NoStore("the store's URL cannot be read", f"see store.url in greenline.yaml, or ${URL}") from None
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite":
        url = url.set(database=os.path.join(workspace.root, url.database or "greenline.db"))
    elif url.get_backend_name() != "postgresql":
        raise NoStore(f"{url.get_backend_name()} is no store", "a store is a sqlite:/// or postgresql:// URL")
    return url


def _is_writer(workspace: Workspace, config: Config, environment: Mapping[str, str]) -> bool:
    """Whether a run in CI is of a branch that may write. A pull request has its target's name at most as base."""
    if environment.get("GITHUB_EVENT_NAME", "").startswith("pull_request") or environment.get("CI_MERGE_REQUEST_IID"):
        return False
    if environment.get("BUILDKITE_PULL_REQUEST", "false") != "false":
        return False
    writers = config.rooms.get("store", {}).get("writers")
    if not writers:
        return on_default_branch(workspace, config.base, environment)
    names = ("GITHUB_REF_NAME", "CI_COMMIT_BRANCH", "BUILDKITE_BRANCH")
    branch = next(filter(None, map(environment.get, names)), None)
    if branch is None:
        branch = workspace.git("branch", "--show-current").strip()
    return bool(branch) and matcher(writers)(branch)


def _prepare_file(engine: Engine, path: str | None) -> None:
    folder = os.path.dirname(path or "")
    os.makedirs(folder, exist_ok=True)
    ignore = os.path.join(folder, ".gitignore")
    if os.path.basename(folder) == "store" and not os.path.exists(ignore):
        with open(ignore, "w", encoding="utf-8") as file:
            file.write("*\n")
    event.listen(engine, "connect", _set_pragmas)


def _set_pragmas(connection: Any, _: object) -> None:
    with suppress(sqlite3.OperationalError):  # a run that opens the new file at the same time sets it
        connection.execute("PRAGMA journal_mode=WAL")  # readers do not wait for a writer
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _forbid_writes(connection: Any, _: object) -> None:
    connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
    connection.commit()
