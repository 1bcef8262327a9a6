"""pytest's hooks: the options and the marker; what an option needs is loaded when it is given."""

from __future__ import annotations

import argparse
from collections.abc import Generator
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("greenline")
    group.addoption(
        "--affected",
        action="store_true",
        help="Run only the tests that the change can break, as the greenline command tells. Test files that"
        " are left out are not even imported.",
    )
    group.addoption(
        "--affected-base",
        metavar="REF",
        help="With --affected: measure the change from the merge base of REF and HEAD.",
    )
    group.addoption(
        "--greenline-record",
        metavar="FOLDER",
        nargs="?",
        const="",
        help="Record what each test runs, imports and reads, as files for greenline. Without =FOLDER: in a new"
        " folder below .greenline/records.",
    )
    group.addoption(
        "--greenline-fork",
        action="store_true",
        help="With --greenline-record: each test runs in a fork first, which shows what caches hide. Where the process"
        " cannot fork, each file runs in a process of its own.",
    )
    group.addoption("--greenline-alone", metavar="FILE", help=argparse.SUPPRESS)  # in such a process
    group.addoption(
        "--greenline-results",
        metavar="FILE",
        help="Record in FILE, as JSON lines, what is collected and how each test ends.",
    )
    group.addoption(
        "--greenline-shard",
        metavar="FILE",
        help="Run only the tests of the shard that `greenline shard run` describes in FILE.",
    )
    group.addoption(
        "--greenline-leases",
        metavar="R,W",
        help="Run what `greenline shard run --local` leases through these pipes.",
    )


@pytest.hookimpl(tryfirst=True)  # before conftest files are imported
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    folder = early_config.known_args_namespace.greenline_record
    if folder and "--greenline-record" in args:
        raise pytest.UsageError(f"--greenline-record takes {folder} for its folder: write --greenline-record=FOLDER")
    if folder is not None:
        from pytest_greenline import recording

        folder = recording.folder_of(early_config, folder)
        early_config.known_args_namespace.greenline_record = folder
        recording.start(early_config, folder)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "always_run: run this test's file in every selection of --affected.")
    for line in (  # what `greenline shard plan` reads
        "gpu(count=1, memory=None, kind=None, nodes=1, share=None): GPUs that this test needs.",
        "cpu(count=1, memory=None): slots and memory of the runner that this test needs.",
        "lock(*names, scope=None): one test with this lock at a time; scope='runner': on each runner.",
        "exclusive: nothing else runs on the runner meanwhile.",
        "isolated: run this test in a process of its own.",
    ):
        config.addinivalue_line("markers", line)
    if getattr(config.option, "greenline_record", None) is not None:  # the workers of pytest-xdist write there too
        config.option.greenline_record = config.known_args_namespace.greenline_record


@pytest.hookimpl(hookwrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, Any, None]:
    if config.getoption("greenline_leases") and hasattr(config.option, "numprocesses"):
        config.option.numprocesses, config.option.dist, config.option.tx = 0, "no", []  # whatever addopts say
    yield


@pytest.hookimpl(tryfirst=True)  # before the header is printed and pytest-xdist starts its workers
def pytest_sessionstart(session: pytest.Session) -> None:
    if session.config.getoption("affected"):
        from pytest_greenline import selection

        selection.start(session.config)
    results, shard, leases = (session.config.getoption(f"greenline_{name}") for name in ("results", "shard", "leases"))
    if leases:
        from pytest_greenline import leases as on_lease

        on_lease.start(session.config, leases, shard, results)
        return
    if results:
        from pytest_greenline import results as recording

        recording.start(session.config, results)
    if shard:
        from pytest_greenline import shard as part

        part.start(session.config, shard)
