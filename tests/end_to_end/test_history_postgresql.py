"""Durations in PostgreSQL: a real server, asked by the real command, beside SQLite."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from calls import GREENLINE, call
from conftest import Repository

pytestmark = pytest.mark.slow

IDS = [
    "test_b.py::test_Z",
    "test_b.py::test_a",
    "test_a.py::test_é[x-1]",
    "test_a.py::TestC::test_m",
    "test_a.py::test_m",
]


def stream(folder: Path, name: str, shard: int, outcome: str = "passed") -> Path:
    """A shard's results: each test in three phases, one with a peak of 5 GB of GPU memory."""
    lines: list[dict[str, object]] = [
        {"event": "session", "version": 1, "suite": ".", "variant": "", "runner": "cpu", "shard": shard, "attempt": 1,
         "plan": None, "commit": f"{shard:040x}", "python": "3.12", "time": 0, "queue": 7.5, "startup": 2.0}
    ]  # fmt: skip
    for number, test in enumerate(IDS):
        lines.append({"event": "start", "id": test, "time": 0})
        for when, seconds in (("setup", 0.1), ("call", 1.0 + number + shard), ("teardown", 0.2)):
            line = {"event": "test", "id": test, "when": when, "outcome": outcome, "seconds": seconds}
            lines.append(line | ({"gpu_memory": 5_000_000_000} if number == 2 and when == "call" else {}))
    lines.append({"event": "end", "exit": 0, "time": 9})
    path = folder / name
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def test_both_stores_say_the_same(repository: Repository, postgresql: str, tmp_path: Path) -> None:
    repository.commit({"a.py": ""})
    streams = [stream(tmp_path, f"{shard}.jsonl", shard, "failed" if shard == 5 else "passed") for shard in range(12)]
    said = []
    for store in (f"sqlite:///{tmp_path}/store.db", postgresql):
        first = call(repository.root, GREENLINE, "history", "import", *streams, GREENLINE_STORE=store)
        again = call(repository.root, GREENLINE, "history", "import", streams[0], GREENLINE_STORE=store)
        exports = [
            call(repository.root, GREENLINE, "history", "export", *options, GREENLINE_STORE=store)
            for options in ((), ("--format", "json", "--quantile", "0.9"))
        ]
        assert [first.code, again.code, *(each.code for each in exports)] == [0, 0, 0, 0], (first, again, exports)
        said.append((first.out, first.err, again.err, *(each.out for each in exports)))
    assert said[0] == said[1]
    assert json.loads(said[0][-2])["test_a.py::test_é[x-1]"] > 0


def test_shards_that_import_at_once(repository: Repository, postgresql: str, tmp_path: Path) -> None:
    """Also the tables are made at once: nobody made them before."""
    repository.commit({"a.py": ""})
    url = postgresql.replace("/postgres?", "/shards?")
    made = call(
        repository.root,
        "psql",
        "-h",
        url.partition("host=")[2],
        "-U",
        "greenline",
        "-c",
        "create database shards",
        "postgres",
    )
    assert made.code == 0, made.err
    streams = [stream(tmp_path, f"{shard}.jsonl", shard) for shard in range(6)]
    with ThreadPoolExecutor(6) as pool:
        done = list(
            pool.map(
                lambda path: call(repository.root, GREENLINE, "history", "import", path, GREENLINE_STORE=url), streams
            )
        )
    assert [each.code for each in done] == [0] * 6, [each.err for each in done]
    exported = call(repository.root, GREENLINE, "history", "export", "--format", "json", GREENLINE_STORE=url)
    assert {test["passed"] for test in json.loads(exported.out)["tests"]} == {6}
