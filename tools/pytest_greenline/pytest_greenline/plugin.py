"""pytest's hooks: the options, the marker, and ``--affected``, which loads the rest."""

from __future__ import annotations

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


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "always_run: run this test's file in every selection of --affected.")


@pytest.hookimpl(tryfirst=True)  # before the header is printed and pytest-xdist starts its workers
def pytest_sessionstart(session: pytest.Session) -> None:
    if session.config.getoption("affected"):
        from pytest_greenline import selection

        selection.start(session.config)
