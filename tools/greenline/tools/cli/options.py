"""Options that several commands share, and the progress line of long first runs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from greenline.ci.affected import Answer, Request
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.wording import plural


def change_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--base, --base-exact, --head and --suite: which change, and which tests of it."""
    options = [
        click.option("--base", metavar="REF", help="Measure from the merge base of REF and HEAD."),
        click.option(
            "--base-exact",
            metavar="[REF]",
            is_flag=False,
            flag_value="",
            help="Measure from REF itself, or, without REF, from that of --base.",
        ),
        click.option("--head", metavar="REF", help="Measure up to REF instead of the work tree."),
        click.option("--suite", metavar="NAME", help="Only the tests of this suite."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def request_of(base: str | None, base_exact: str | None, head: str | None, suite: str | None, reasons: bool) -> Request:
    if base_exact is not None and bool(base) == bool(base_exact):
        problem = "--base-exact needs a REF" if not base else "--base and --base-exact both name a REF"
        raise GreenlineError(problem, "write --base-exact REF")
    return Request(base_exact or base, base_exact is not None, head, suite, reasons)


def readings(root: str, text: str) -> list[str]:
    """What a path (or pytest's id) on a command line may mean, as paths below the root: relative to the current folder
    if it lies in the repository, then to the root. The root itself is ""."""
    path, mark, rest = text.partition("::")
    below = os.path.relpath(os.path.abspath(path), root)
    inside = [] if below.startswith(os.pardir) else ["" if below == os.curdir else below]
    return list(dict.fromkeys([each + mark + rest for each in (*inside, os.path.normpath(path))]))


class Progress:
    """Tells on stderr what a run that takes more than a second is doing."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._told = 0.0
        self._terminal = sys.stderr.isatty()

    def __call__(self, what: str, done: int, of: int) -> None:
        now = time.monotonic()
        if now - self._start < 1 or now - self._told < (0.1 if self._terminal else 10):
            return
        share = f" {100 * done // of} %" if of > 1 else ""
        end = "\r" if self._terminal else "\n"
        print(f"greenline: {what}{share}  ", end=end, file=sys.stderr, flush=True)
        self._told = now


def tell(answer: Answer, seconds: float) -> None:
    """The summary line and the warnings, on stderr."""
    files = len(answer.tests)
    base = f"base {answer.base[:7]} ({answer.how})" if answer.base else f"no base: {answer.how}"
    rests_on = "static" if answer.share is None else f"{int(100 * answer.share)} % by evidence"
    print(f"{files:,} of {plural(answer.total, 'test file')}; {base}; {rests_on}; {seconds:.2f} s", file=sys.stderr)
    if answer.everything and answer.complete:
        print(f"everything is affected: {answer.everything}", file=sys.stderr)
    elif not answer.everything and any(test.reason for test in answer.tests):
        from greenline.tools.report.reasons import in_short  # only where somebody asked for reasons

        print(f"{in_short(answer.tests)}; greenline why TEST shows how", file=sys.stderr)
    for warning in answer.warnings:
        print(f"warning: {warning}", file=sys.stderr)
