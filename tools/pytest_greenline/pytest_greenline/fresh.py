"""The forking pass where a process cannot fork: each test file runs in a process of its own first.

That shows less than a fork per test: a cache that two tests of one file share is filled by the first of them. What the
first one learns still counts for both, since it belongs to the block that asks the cache (forked.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable

import pytest

from pytest_greenline.forked import Alone

_OURS = ("--greenline-fork", "--greenline-record", "--greenline-results", "--greenline-shard", "--affected")


def run_files(config: pytest.Config, files: Iterable[str]) -> dict[str, Alone]:
    """Test id → what it ran, of the tests that pass in the process of their file."""
    given = [str(each) for each in config.invocation_params.args]
    options = [each for each in given if each not in config.args and not each.startswith(_OURS)]
    found: dict[str, Alone] = {}
    for file in files:
        with tempfile.TemporaryDirectory(prefix="greenline-alone-") as folder:
            told = os.path.join(folder, "alone.json")
            record = [f"--greenline-record={folder}", f"--greenline-alone={told}"]
            subprocess.run(
                [sys.executable, "-m", "pytest", *options, *record, file],
                cwd=config.invocation_params.dir,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
            found.update(_read(told))
    return found


def write(path: str, alone: dict[str, Alone]) -> None:
    """In such a process, at its end."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump({id: list(each.items()) for id, each in alone.items()}, file)


def _read(path: str) -> dict[str, Alone]:
    try:
        with open(path, encoding="utf-8") as file:
            told = json.load(file)
    except (OSError, ValueError):
        return {}  # the process did not come to its end
    return {
        id: {(name[0], name[1]): (caller[0], caller[1]) if caller else None for name, caller in pairs}
        for id, pairs in told.items()
    }
