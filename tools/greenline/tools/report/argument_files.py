"""Argument files for ``pytest @FILE``: one for each suite that has something to run."""

from __future__ import annotations

import os
import re
import tempfile

from greenline.ci.affected import Answer


def write(answer: Answer) -> list[str]:
    """Write the files and return their paths. A suite with nothing to run gets none: an empty one would run it all.

    The ids are relative to the repository's root, where pytest is to be called.
    """
    of_suite: dict[str, list[str]] = {}
    for test in answer.tests:
        ids = [test.path] if test.node_ids is None else [f"{test.path}::{each}" for each in test.node_ids]
        of_suite.setdefault(test.suite, []).extend(ids)
    folder = os.path.join(answer.root, ".greenline", "cache", "selection")
    try:
        os.makedirs(folder, exist_ok=True)
        _write_all(folder, {})
    except OSError:
        folder = tempfile.mkdtemp(prefix="greenline-selection-")
    return _write_all(folder, of_suite)


def _write_all(folder: str, of_suite: dict[str, list[str]]) -> list[str]:
    """Replace what the folder holds."""
    for old in os.listdir(folder):
        os.unlink(os.path.join(folder, old))
    written = []
    for suite, ids in sorted(of_suite.items()):
        name = "root" if suite == "." else re.sub(r"[^\w.-]+", "-", suite)
        path = os.path.join(folder, f"{name}.args")
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.writelines(f"{each}\n" for each in ids)
        written.append(path)
    return written
