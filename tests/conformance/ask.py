"""Ask the real `greenline affected` about a case."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from string import Template
from typing import NamedTuple

from table import Case, environment, write_base, write_change

GREENLINE = Path(sys.executable).with_name("greenline")


class Answer(NamedTuple):
    """What the command said: `tests` holds paths, and node ids of files that are not selected as a whole."""

    exit: int
    tests: set[str]
    complete: bool
    warnings: str


def answers(case: Case, folder: Path) -> list[Answer]:
    """Make the repository of the case and ask as it says. `at_once` questions give as many answers."""
    base = write_base(case, folder)

    def ask(arguments: Sequence[str]) -> Answer:
        return read(greenline(case, folder, base, [*arguments, "--format", "json"]))

    def between() -> None:
        for arguments in case.between:
            ask(arguments)

    for arguments in case.warm:
        ask(arguments)
    write_change(case, folder, base, between)
    with ThreadPoolExecutor(case.at_once) as pool:
        return list(pool.map(ask, [case.arguments] * case.at_once))


def greenline(case: Case, folder: Path, base: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run `greenline affected` as a user would, in the repository at `folder`, in the case's environment."""
    env = environment(
        {name: Template(value).safe_substitute(BASE=base, REPO=folder) for name, value in case.env.items()}
    )
    command = [str(GREENLINE), "affected", *arguments]
    return subprocess.run(command, cwd=folder / case.folder, env=env, capture_output=True, text=True, check=False)


def read(done: subprocess.CompletedProcess[str]) -> Answer:
    """The answer in the command's JSON."""
    if not done.stdout:
        raise AssertionError(f"no answer, exit code {done.returncode}: {done.stderr}")
    answer = json.loads(done.stdout)
    tests = {nodeid for test in answer["tests"] for nodeid in test["nodeids"] or [test["path"]]}
    return Answer(done.returncode, tests, answer["complete"], "\n".join(answer["warnings"]))
