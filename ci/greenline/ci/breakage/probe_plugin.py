"""A pytest plugin that a probe injects: it runs just the wanted tests and writes down what became of each.

It is copied beside a probe and loaded with ``-p`` into whatever environment the tests have, so it needs pytest and
the standard library of Python 3.9 only. ``$GREENLINE_PROBE`` names a JSON file with its settings.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from typing import Any

import pytest

with open(os.environ["GREENLINE_PROBE"], encoding="utf-8") as _file:
    SETTINGS = json.load(_file)
_WORKER = "PYTEST_XDIST_WORKER" in os.environ


def _write(record: dict[str, Any]) -> None:
    with open(SETTINGS["out"], "a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(json.dumps(record) + "\n")


class _Clock:
    """Moves what `time` and `datetime` call now by a number of seconds."""

    def __init__(self, seconds: float) -> None:
        import datetime
        import time

        real_time = time.time
        real_datetime: Any = datetime.datetime
        real_date: Any = datetime.date
        shift = datetime.timedelta(seconds=seconds)

        class Kind(type):
            def __instancecheck__(cls, value: object) -> bool:
                return isinstance(value, cls.__mro__[1])

        class DateTime(real_datetime, metaclass=Kind):  # type: ignore[misc]
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return real_datetime.now(tz) + shift

            @classmethod
            def utcnow(cls) -> Any:
                return real_datetime.fromtimestamp(real_time(), datetime.timezone.utc).replace(tzinfo=None) + shift

            @classmethod
            def today(cls) -> Any:
                return real_datetime.now() + shift

        class Date(real_date, metaclass=Kind):  # type: ignore[misc]
            @classmethod
            def today(cls) -> Any:
                return (real_datetime.now() + shift).date()

        datetime.datetime, datetime.date = DateTime, Date  # type: ignore[misc]
        time.time = lambda: real_time() + seconds


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    if SETTINGS["shift"]:
        _Clock(SETTINGS["shift"])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    wanted = SETTINGS["wanted"]
    if wanted is None:
        return
    ranks = {name: rank for rank, name in enumerate(wanted)}

    def rank(item: Any) -> int | None:
        parts = item.nodeid.split("[", 1)[0].split("::")
        names = [item.nodeid, *("::".join(parts[:end]) for end in range(len(parts), 0, -1))]
        return next((ranks[name] for name in names if name in ranks), None)

    found = [(rank(item), item) for item in items]
    left_out = [item for place, item in found if place is None]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    kept = [(place, item) for place, item in found if place is not None]
    items[:] = [item for _, item in sorted(kept, key=lambda pair: pair[0])]


def _crash(report: Any) -> tuple[str, str]:
    crash = getattr(report.longrepr, "reprcrash", None)
    return (crash.message, str(crash.path)) if crash else ("", "")


def pytest_collectreport(report: Any) -> None:
    if report.failed and not _WORKER:
        _write({"id": report.nodeid, "when": "collect", "outcome": "failed", "text": report.longreprtext})


def pytest_runtest_logreport(report: Any) -> None:
    if _WORKER:
        return
    record = {"id": report.nodeid, "when": report.when, "outcome": report.outcome}
    if hasattr(report, "wasxfail"):
        record["xfail"] = True
    if report.failed:
        message, path = _crash(report)
        record.update(message=message, path=path, text=report.longreprtext)
    if report.failed or report.when == "call" or report.skipped:
        _write(record)


def pytest_sessionfinish() -> None:
    atexit.unregister(_tell_foreign)
    _tell_foreign(early=False)


@atexit.register  # for a session that does not get so far: its conftest.py may have failed because of such a module
def _tell_foreign(early: bool = True) -> None:
    """First-party modules that did not come from the checkout: an installation that points elsewhere."""
    foreign = {}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if not isinstance(path, str):
            continue
        path = os.path.realpath(path)
        if path.startswith(SETTINGS["root"] + os.sep):
            continue
        home = path.startswith(SETTINGS["home"] + os.sep) and "site-packages" not in path
        if home or name in SETTINGS["modules"]:
            foreign[name] = path
    _write({"foreign": foreign, "early": early})
