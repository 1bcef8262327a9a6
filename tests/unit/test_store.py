"""The store's file: opened by many at once, before it is there."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy
from conftest import Repository

import greenline.ci.repair.records  # noqa: F401  declares tables
from greenline.ci.store import METADATA, open_store
from greenline.depgraph import config as configuration
from greenline.depgraph.workspace import find


def test_runs_that_open_a_new_store_at_once_all_get_it(repository: Repository) -> None:
    repository.commit({"a.py": ""})
    workspace = find(str(repository.root))
    config = configuration.load(workspace.root)
    together = threading.Barrier(8)

    def tables(number: int) -> set[str]:
        together.wait(30)
        url = f"sqlite:///new-{number // 8}.db"
        return set(sqlalchemy.inspect(open_store(workspace, config, {"GREENLINE_STORE": url})).get_table_names())

    with ThreadPoolExecutor(8) as pool:
        assert all(found >= set(METADATA.tables) for found in pool.map(tables, range(80)))
