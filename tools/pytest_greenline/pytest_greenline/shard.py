"""Run one shard of a plan: only its files are collected, and only its tests kept."""

from __future__ import annotations

import os

import pytest

from pytest_greenline import part
from pytest_greenline.part import Part, files, home
from pytest_greenline.results import Ids


def read(path: str) -> Part:
    """Raises UsageError for a file that is no shard."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return part.loads(file.read())
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise pytest.UsageError(f"--greenline-shard {path}: {type(error).__name__}: {error}") from None


def start(config: pytest.Config, path: str) -> None:
    config.pluginmanager.register(Shard(config, read(path)), "greenline-shard")


class Shard:
    """The hooks. Each worker of pytest-xdist has its own."""

    def __init__(self, config: pytest.Config, part: Part) -> None:
        self._config = config
        self._part = part
        self._full = Ids(config, part.top)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        paths = (os.path.join(self._part.top, file) for file in files(self._part.mine))
        self._config.args = [path for path in paths if os.path.exists(path)]

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        planned, owned = self._part.every()
        mine = [item for item in items if self._part.mine.hold(home(self._full(item.nodeid), planned, owned))]
        if len(mine) < len(items):
            kept = set(mine)
            self._config.hook.pytest_deselected(items=[item for item in items if item not in kept])
            items[:] = mine
