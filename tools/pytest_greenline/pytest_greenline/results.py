"""Record what a session collects and how each test ends: JSON lines that a killed process leaves readable.

One object a line, written and flushed at once. Lines belong to the ``session`` line above them:

    {"event": "session", "version": 1, "suite": …, "variant": …, "runner": …, "shard": …, "attempt": …, "plan": …}
    {"event": "collected", "files": […], "ids": […]}          everything that was found, selected or not
    {"event": "collect", "id": …, "outcome": "failed" | "skipped", "message": …}
    {"event": "start", "id": …, "time": …}
    {"event": "test", "id": …, "when": "setup" | "call" | "teardown", "outcome": …, "seconds": …, …}
    {"event": "end", "exit": …, "time": …}

Ids are those of pytest, with the file's path relative to the repository. Times are seconds since 1970. A test line
has ``xfail``, ``message``, ``oom`` (the device ran out of memory) and ``gpu_memory`` (peak bytes, of torch) where
they apply; ``when`` is ``crash`` where pytest-xdist lost the process. docs/running-shards.md has the whole format.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import sys
import time
from collections.abc import Generator, Iterable
from typing import Any, Callable

import pytest

from pytest_greenline.part import SESSION

VERSION = 1

_OUT_OF_MEMORY = re.compile(
    r"CUDA out of memory|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|OutOfMemoryError|HIP out of memory"
    r"|RESOURCE_EXHAUSTED: Out of memory"
)
_LONGEST_MESSAGE = 500


def start(config: pytest.Config, path: str, also: Callable[[str], object] | None = None) -> None:
    """Record into a file; under pytest-xdist the controller does. ``also`` gets the same lines."""
    config.pluginmanager.register(Measure(), "greenline-measure")
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(Found(config), "greenline-found")
    else:
        config.pluginmanager.register(Recorder(config, path, also), "greenline-recorder")


class Ids:
    """pytest's node ids, with the path relative to the repository."""

    def __init__(self, config: pytest.Config, top: str | None = None) -> None:
        root = os.path.realpath(str(config.rootpath))
        self._prefix = os.path.relpath(root, top or _top(root)).replace(os.sep, "/")

    def __call__(self, nodeid: str) -> str:
        path, colons, name = nodeid.partition("::")
        return posixpath.normpath(posixpath.join(self._prefix, path)) + colons + name


def _top(folder: str) -> str:
    """The root of the repository around a folder, or the folder."""
    above = folder
    while not os.path.exists(os.path.join(above, ".git")):
        if above == os.path.dirname(above):
            return folder
        above = os.path.dirname(above)
    return above


class Found:
    """What the process that collects has found; a worker of pytest-xdist hands it over when it ends."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._files: list[str] = []
        self._all: dict[str, list[str]] = {"files": [], "ids": []}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.passed and "::" not in report.nodeid and posixpath.splitext(report.nodeid)[1]:
            self._files.append(report.nodeid)

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None, Any, None]:
        self.found(self._files, [item.nodeid for item in items])  # before anybody takes some away
        self._files = []
        yield

    def found(self, files: list[str], ids: list[str]) -> None:
        self._all["files"] += files
        self._all["ids"] += ids

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, None]:
        getattr(self._config, "workeroutput", {})["greenline_found"] = self._all
        yield


class Recorder(Found):
    """Writes the lines."""

    def __init__(self, config: pytest.Config, path: str, also: Callable[[str], object] | None) -> None:
        super().__init__(config)
        self._also = also
        self._merged: set[tuple[str, ...]] = set()
        said = json.loads(os.environ.pop(SESSION, "") or "{}")  # not for a pytest that tests start
        self._full = Ids(config, said.pop("top", None))
        folder = os.path.dirname(os.path.abspath(path))
        os.makedirs(folder, exist_ok=True)
        self._file = open(path, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        python = "{}.{}".format(*sys.version_info)
        unsaid = {"suite": ".", "variant": "", "runner": "", "shard": None, "attempt": 1, "plan": None}
        self.write("session", version=VERSION, **{**unsaid, **said}, python=python, time=time.time())

    def write(self, event: str, **rest: object) -> None:
        line = json.dumps({"event": event, **rest}) + "\n"
        self._file.write(line)
        self._file.flush()
        if self._also:
            self._also(line)

    def found(self, files: list[str], ids: list[str]) -> None:
        if files or ids:
            self.write("collected", files=self._each(files), ids=self._each(ids))

    def _each(self, nodeids: Iterable[str]) -> list[str]:
        return [self._full(nodeid) for nodeid in nodeids]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        super().pytest_collectreport(report)
        if not report.passed:
            message = _message(report)
            self.write("collect", id=self._full(report.nodeid), outcome=report.outcome, message=message)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.write("start", id=self._full(nodeid), time=time.time())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        more: dict[str, object] = {}
        if hasattr(report, "wasxfail"):
            more["xfail"] = True
        elif not report.passed:
            more["message"] = _message(report)
            if report.failed and _OUT_OF_MEMORY.search(report.longreprtext):
                more["oom"] = True
        gpu_memory = getattr(report, "greenline_gpu_memory", None)
        if gpu_memory:
            more["gpu_memory"] = gpu_memory
        worker = getattr(report, "worker_id", None)
        if worker and worker != "master":
            more["worker"] = worker
        when = report.when if report.when in ("setup", "call", "teardown") else "crash"
        seconds = round(report.duration, 6)
        self.write("test", id=self._full(report.nodeid), when=when, outcome=report.outcome, seconds=seconds, **more)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        found = getattr(node, "workeroutput", {}).get("greenline_found")
        if found and tuple(found["ids"]) not in self._merged:  # the workers have all found the same
            self._merged.add(tuple(found["ids"]))
            self.found(found["files"], found["ids"])

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, None]:
        yield
        self.write("end", exit=int(session.exitstatus), time=time.time())


def _message(report: pytest.CollectReport | pytest.TestReport) -> str:
    """Why, in short: the exception's message, or the reason to skip."""
    if isinstance(report.longrepr, tuple):
        text = str(report.longrepr[2])
    else:
        crash = getattr(report.longrepr, "reprcrash", None)
        text = crash.message if crash else report.longreprtext.strip()
        if not crash:
            text = text[-_LONGEST_MESSAGE:]
    return text[:_LONGEST_MESSAGE]


class Measure:
    """Peak memory of the GPUs that a test uses through torch, in the process that runs the test."""

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
        outcome = yield
        cuda = getattr(sys.modules.get("torch"), "cuda", None)  # a test may have imported it; we do not
        if call.when != "teardown" or cuda is None or not cuda.is_initialized():
            return
        devices = range(cuda.device_count())
        peak = max((cuda.max_memory_reserved(device) for device in devices), default=0)
        outcome.get_result().greenline_gpu_memory = peak
        for device in devices:
            cuda.reset_peak_memory_stats(device)
