"""Run what a scheduler leases, piece by piece, in one process: files are imported when a lease first needs them.

The scheduler's pipe gives one JSON object a line, {"tests": […], "owns": […], "retry": why | null}, and is closed when
nothing is left. Back go the lines of results.py, between {"event": "lease"} and {"event": "leased"} for each.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys

import pytest

from pytest_greenline import results
from pytest_greenline.part import Names, Part, files, home, names
from pytest_greenline.results import Ids
from pytest_greenline.shard import read


def start(config: pytest.Config, pipes: str, shard: str, results_file: str) -> None:
    """``pipes``: the file descriptors to read leases from and to write to: "3,4"."""
    leases, back = map(int, pipes.split(","))
    for descriptor in (leases, back):
        os.set_inheritable(descriptor, False)  # processes that tests start must not keep the pipes open
    results.start(config, results_file, lambda line: _tell(back, line))
    config.pluginmanager.register(Leases(config, read(shard), leases), "greenline-leases")


def _tell(descriptor: int, line: str) -> None:
    """Tell the scheduler. Without one nobody waits for what runs here, and others may run it already."""
    data = line.encode("utf-8", "backslashreplace")
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        os.killpg(0, signal.SIGKILL)  # this process has a group of its own


class _Between(pytest.Item):
    """What comes after a lease: nothing of it may stay set up but what belongs to the session."""

    def runtest(self) -> None:
        raise AssertionError("it never runs")


class Leases:
    """The session's loop."""

    def __init__(self, config: pytest.Config, whole: Part, leases: int) -> None:
        self._part = whole
        self._every = whole.every()
        self._full = Ids(config, whole.top)
        self._leases = leases
        self._items: dict[str, list[pytest.Item]] = {}  # by file
        self._collected = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> bool:
        return True  # nothing yet

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        recorder = session.config.pluginmanager.get_plugin("greenline-recorder")
        assert isinstance(recorder, results.Recorder)
        between = _Between.from_parent(session, name="greenline")
        with open(self._leases, encoding="utf-8") as lines:
            for line in lines:
                lease = json.loads(line)
                recorder.write("lease", retry=lease.get("retry"))
                items = self._items_of(session, names(lease))
                for item, following in zip(items, [*items[1:], between]):
                    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                    if session.shouldfail:
                        raise session.Failed(session.shouldfail)
                    if session.shouldstop:
                        raise session.Interrupted(session.shouldstop)
                _release_memory()
                recorder.write("leased")
        session.testscollected = self._collected
        return True

    def _items_of(self, session: pytest.Session, leased: Names) -> list[pytest.Item]:
        for file in files(leased):
            path = os.path.join(self._part.top, file)
            if file not in self._items:
                self._items[file] = list(session.perform_collect([path])) if os.path.exists(path) else []
        candidates = (item for file in files(leased) for item in self._items[file])
        items = [item for item in candidates if self._is_leased(self._full(item.nodeid), leased)]
        self._collected += len(items)
        session.items = items
        return items

    def _is_leased(self, test: str, leased: Names) -> bool:
        return test in leased.tests or leased.hold(home(test, *self._every))


def _release_memory() -> None:
    """Give back what torch keeps of a GPU for later: another process may need it now."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is not None and cuda.is_initialized():
        gc.collect()
        cuda.empty_cache()
