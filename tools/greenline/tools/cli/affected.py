"""``greenline affected``: the tests that a change can break."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from greenline.ci.affected import Answer, Request, affected
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.workspace import Workspace, find
from greenline.tools.cli.options import Progress, change_options, readings, request_of, tell

SUPERSET = 3


@click.command("affected")
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@change_options
@click.option(
    "--mode",
    type=click.Choice(["auto", "static", "evidence"]),
    default="auto",
    help="What the answer rests on. static: the import graph; auto: that, sharpened by evidence where there is any;"
    " evidence: only tests that evidence decides about.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["paths", "nodeids", "json", "pytest"]),
    help="paths: a test file a line; nodeids: single tests where they can be told; json; pytest: an argument file"
    " a suite, for pytest @FILE. Default: paths, or a table on a terminal.",
)
@click.option("-0", "nul", is_flag=True, help="End names with NUL instead of a line break.")
@click.option("--strict", is_flag=True, help="Exit 3 when the answer is only a superset.")
def command(
    paths: tuple[str, ...],
    base: str | None,
    base_exact: str | None,
    head: str | None,
    suite: str | None,
    mode: str,
    form: str | None,
    nul: bool,
    strict: bool,
) -> int:
    """Print the tests that the change can break.

    The change is everything from the base to the work tree: commits, staged, unstaged and untracked files. With
    PATHs, files or folders, it is whatever could change in these, and nothing else: no base is needed.
    """
    start = time.monotonic()
    table = form is None and sys.stdout.isatty() and not nul
    request = request_of(base, base_exact, head, suite, reasons=form not in (None, "paths") or table)
    request = request._replace(mode=mode)
    if paths:
        request = _as_if_changed(request, paths)
    answer = affected(request=request, progress=Progress())
    if table:
        _print_table(answer)
    elif form == "json":
        print(json.dumps(as_json(answer, mode == "evidence"), indent=1))
    elif form == "pytest":
        from greenline.tools.report.argument_files import write

        for path in write(answer):
            print(path)
    else:
        lines = node_ids(answer) if form == "nodeids" else [test.path for test in answer.tests]
        sys.stdout.write("".join(line + ("\0" if nul else "\n") for line in lines))
    sys.stdout.flush()
    tell(answer, time.monotonic() - start)
    return SUPERSET if strict and not answer.complete else 0


def _as_if_changed(request: Request, paths: tuple[str, ...]) -> Request:
    if request.base or request.base_exact or request.head:
        raise GreenlineError("--base and --head measure a change, PATHs name one", "give one or the other")
    if request.mode == "evidence":
        raise GreenlineError("--mode evidence compares two states, and PATHs have one", "leave out --mode")
    workspace = find()
    present = workspace.paths()
    return request._replace(paths=tuple(sorted({file for path in paths for file in _files(workspace, present, path)})))


def _files(workspace: Workspace, present: list[str], path: str) -> list[str]:
    """The files that a PATH names: itself, or all in a folder."""
    for reading in readings(workspace.root, path):
        found = [each for each in present if not reading or each == reading or each.startswith(reading + "/")]
        if found:
            return found
    raise GreenlineError(
        f"{path}: there is no such file, or git ignores it",
        "give files or folders of this repository, relative to here or to its root",
    )


def node_ids(answer: Answer) -> list[str]:
    """pytest's ids, relative to the repository: single tests, or a file for all of its tests."""
    return [f"{test.path}::{each}" if each else test.path for test in answer.tests for each in test.node_ids or ("",)]


def as_json(answer: Answer, only: bool = False) -> dict[str, Any]:
    """The answer as docs/affected.schema.json describes it."""
    return {
        "version": 1,
        "complete": answer.complete,
        "everything": answer.everything,
        "mode": "static" if answer.share is None else "evidence" if only else "auto",
        "evidence": None if answer.share is None else round(answer.share, 4),
        "root": answer.root,
        "base": answer.base,
        "base_how": answer.how,
        "total": answer.total,
        "suites": answer.suite_roots,
        "tests": [
            {
                "path": test.path,
                "suite": test.suite,
                "nodeids": None if test.node_ids is None else [f"{test.path}::{each}" for each in test.node_ids],
                "reason": test.reason,
            }
            for test in answer.tests
        ],
        "unaffected": answer.unaffected,
        "warnings": answer.warnings,
    }


def _print_table(answer: Answer) -> None:
    import shutil

    width = shutil.get_terminal_size().columns
    names = [test.path if test.node_ids is None else f"{test.path} ({len(test.node_ids)})" for test in answer.tests]
    column = min(max(map(len, names), default=0), max(30, width // 2))
    for name, test in zip(names, answer.tests, strict=True):
        line = f"{name:<{column}}  {test.reason}"
        print(line if len(line) <= width else line[: width - 1] + "…")
