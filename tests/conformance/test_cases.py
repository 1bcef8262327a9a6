"""Every case of the table, against the real command in a real repository."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from suite_run import root_of
from table import Case, environment, load, missed, superfluous, write_base, write_change

GREENLINE = Path(sys.executable).with_name("greenline")
CASES = load()


class Answer(NamedTuple):
    """What the command said: `tests` holds paths, and node ids of files that are not selected as a whole."""

    exit: int
    tests: set[str]
    complete: bool
    warnings: str


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    for answer in answers(case, folder):
        assert answer.exit == case.exit
        assert missed(case, answer.tests, root_of(case, folder)) == []
        assert superfluous(case, answer.tests) == []
        assert case.complete is None or answer.complete is case.complete
        assert case.warning is None or case.warning in answer.warnings


@pytest.mark.parametrize("case", [case for case in CASES if case.number in ("36", "49b", "58d")], ids=lambda case: case.id)
def test_paths_are_those_of_json(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    (answer,) = answers(case, folder)
    done = greenline(["affected", *case.arguments, "--format", "paths"], folder, case, "")
    assert done.stdout.splitlines() == sorted({test.partition("::")[0] for test in answer.tests})


def answers(case: Case, folder: Path) -> list[Answer]:
    """Make the repository of the case and ask as it says; more than one answer when it asks at the same time."""
    base = write_base(case, folder)

    def ask(arguments: Sequence[str]) -> Answer:
        return read(greenline(["affected", *arguments, "--format", "json"], folder / case.folder, case, base))

    for arguments in case.warm:
        ask(arguments)
    write_change(case, folder, base, between=lambda: [ask(arguments) for arguments in case.between].clear())
    with ThreadPoolExecutor(case.at_once) as pool:
        return list(pool.map(ask, [case.arguments] * case.at_once))


def greenline(arguments: Sequence[str], folder: Path, case: Case, base: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    head = (folder / ".git" / "refs" / "heads" / "change")
    places = {"$BASE": base, "$REPO": str(folder), "$HEAD": head.read_text().strip() if head.is_file() else ""}
    env = {}
    for name, value in case.env.items():
        for place, meant in places.items():
            value = value.replace(place, meant)
        env[name] = value
    command = [str(GREENLINE), *arguments]
    return subprocess.run(command, cwd=folder, env=environment(env), capture_output=True, text=True, check=False)


def read(done: subprocess.CompletedProcess[str]) -> Answer:
    """The answer in the command's JSON."""
    assert done.stdout, done.stderr
    answer = json.loads(done.stdout)
    tests = {nodeid for test in answer["tests"] for nodeid in test["nodeids"] or [test["path"]]}
    return Answer(done.returncode, tests, answer["complete"], "\n".join(answer["warnings"]))
