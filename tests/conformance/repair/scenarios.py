"""Breakages as data: read the scenarios, make the repository of one, and judge what repair made of it.

A scenario (*.yaml) is a green base, two branches that are green alone, and a merge of both that is red:

    - scenario: 1a a function is renamed, a new module calls it     number and title
      class: 1                       of docs/repair.md
      base:                          path → text
      ours:                          path → text, path → {old: new} in the text that is there, path → null: deleted
      theirs:                        the same; merged after `ours`, so that this merge is the culprit
      squash: true                   `theirs` comes as one commit without its branch
      later: {path: …}               a commit on main after the red merge
      hidden: text                   a test file that a fix must pass besides all tests, seen by nobody before
      expect: fix | revert | handoff | any    what is expected; the measure counts what happens

`@YESTERDAY@` in a text is yesterday's date; all commits are ten days old.
"""

from __future__ import annotations

import atexit
import datetime
import os
import shutil
import subprocess
import tempfile
import venv
from collections.abc import Mapping
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, NamedTuple

import yaml

HERE = Path(__file__).parent
DEFAULTS = {
    "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["."]\n',
    "tests/test_bystander.py": "def test_bystander():\n    assert True\n",
}
Edit = Mapping[str, str | Mapping[str, str] | None]


class Scenario(NamedTuple):
    """One breakage; the fields are described at the top of this file."""

    number: str
    title: str
    kind: int
    base: Mapping[str, str]
    ours: Edit
    theirs: Edit
    later: Edit
    squash: bool
    hidden: str
    expect: str
    blind: bool


def load() -> list[Scenario]:
    """All scenarios. Those of 1-blind.yaml were written before there was a fixer."""
    found = []
    for file in sorted(HERE.glob("*.yaml")):
        for row in yaml.safe_load(file.read_text("utf-8")):
            number, title = row.pop("scenario").split(" ", 1)
            row = {"later": {}, "squash": False, "hidden": "", **row}
            found.append(Scenario(number, title, row.pop("class"), blind=file.stem == "1-blind", **row))
    numbers = [scenario.number for scenario in found]
    twice = {number for number in numbers if numbers.count(number) > 1}
    if twice:
        raise ValueError(f"scenario numbers used twice: {', '.join(sorted(twice))}")
    return found


def make(scenario: Scenario, root: Path) -> None:
    """The repository of a scenario, on its red branch `main`."""
    root.mkdir(parents=True)
    git(root, "init", "--quiet", "--initial-branch=main", "--template=")
    commit(root, {**DEFAULTS, **scenario.base}, "base")
    for name, edit in (("ours", scenario.ours), ("theirs", scenario.theirs)):
        git(root, "checkout", "--quiet", "-b", name, "main")
        commit(root, edit, f"work of {name}")
        git(root, "checkout", "--quiet", "main")
    git(root, "merge", "--quiet", "--no-ff", "--message=Merge ours", "ours")
    if scenario.squash:
        git(root, "merge", "--quiet", "--squash", "theirs")
        git(root, "commit", "--quiet", "--message=theirs, squashed")
    else:
        git(root, "merge", "--quiet", "--no-ff", "--message=Merge theirs", "theirs")
    if scenario.later:
        commit(root, scenario.later, "later work")


def commit(root: Path, edit: Edit, message: str) -> None:
    for name, content in edit.items():
        path = root / name
        if content is None:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Mapping):
            text = path.read_text("utf-8")
            for old, new in content.items():
                assert old in text, f"{name} does not hold {old!r}"
                text = text.replace(old, new)
        else:
            text = content.replace("@YESTERDAY@", str(datetime.date.today() - datetime.timedelta(days=1)))
        path.write_text(text, "utf-8")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", f"--message={message}")


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}{done.stdout}"
    return done.stdout.strip()


def environment() -> dict[str, str]:
    """This environment without CI, Python and pytest settings, with a git identity of ten days ago."""
    date = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=10)).strftime("%Y-%m-%dT12:00:00+0000")
    foreign = ("GITHUB", "GITLAB", "CI", "BUILDKITE", "GREENLINE", "GIT_", "PYTEST", "PYTHON", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    who = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in _WHO.items()}
    dates = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    return {**kept, **who, **dates, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


_WHO = {"NAME": "Ada", "EMAIL": "ada@example.org"}


@cache
def lean() -> Path:
    """A virtual environment with pytest and nothing else: its plugins would cost more than the scenarios' tests."""
    folder = Path(tempfile.mkdtemp(prefix="greenline-lean-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    for name in ("pytest", "pluggy", "iniconfig", "packaging", "pygments"):
        for file in distribution(name).files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), site / file)
    subprocess.run([folder / "bin" / "python", "-m", "compileall", "-q", site], check=True)
    return folder


def passes(root: Path, ref: str, scratch: Path, hidden: str = "") -> bool:
    """Whether all tests of a commit pass in a fresh clone, with a hidden test besides."""
    folder = scratch / f"look-{ref.replace('/', '-')}"
    git(root, "worktree", "add", "--quiet", "--detach", str(folder), ref)
    if hidden:
        (folder / "tests" / "test_hidden_truth.py").write_text(hidden, "utf-8")
    command = [lean() / "bin" / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    variables = {**environment(), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    git(root, "worktree", "remove", "--force", str(folder))
    return done.returncode == 0


class Result(NamedTuple):
    """``outcome``: "fix", "agent", "revert", "handoff", "no break" or "invalid"; ``wrong``: why the proposal is wrong,
    or ""; ``why``: what repair said."""

    scenario: Scenario
    outcome: str
    wrong: str
    why: str
    seconds: float


def run(scenario: Scenario, scratch: Path, check: bool = False) -> Result:
    """Make the repository, repair it, and judge the proposal by all tests of its branch and the hidden one.

    ``check``: first make sure that the scenario is one: a green base, two green branches, a red merge. (A time bomb is
    red by the day.)
    """
    from greenline.ci.repair.start import Wanted, start

    root = scratch / scenario.number
    make(scenario, root)
    if check and scenario.kind != 30:
        states = [passes(root, ref, scratch) for ref in (git(root, "merge-base", "ours", "theirs"), "ours", "theirs")]
        if not all(states) or passes(root, "main", scratch):
            return Result(scenario, "invalid", f"base, ours, theirs are green: {states}", "", 0.0)
    before = git(root, "rev-parse", "main")
    variables = {**environment(), "VIRTUAL_ENV": str(lean())}
    report = start(Wanted("main"), variables, lambda _: None, str(root))
    assert git(root, "rev-parse", "main") == before
    branches = git(root, "for-each-ref", "--format=%(refname:short)", "refs/heads/greenline").split()
    return _judge(scenario, root, scratch, report, branches)


def _judge(scenario: Scenario, root: Path, scratch: Path, report: Any, branches: list[str]) -> Result:
    why = "; ".join(
        [outcome.why for outcome in report.outcomes]
        + [
            f"{each.candidate.name}: {', '.join(each.refused)}"
            for o in report.outcomes
            for each in o.judged
            if each.refused
        ]
    )
    statuses = {outcome.status for outcome in report.outcomes}
    if not branches:
        outcome = "no break" if statuses <= {"no break"} else "handoff"
        wrong = "a break was taken for none" if outcome == "no break" else ""
        return Result(scenario, outcome, wrong, why or report.trouble, report.seconds)
    makers = {outcome.judged[0].candidate.maker for outcome in report.outcomes if outcome.status == "proposed"}
    maker = "revert" if "revert" in makers else min(makers)
    wrong = "" if len(branches) == 1 else f"{len(branches)} branches"
    if scenario.kind in (29, 30):
        wrong = "no commit is guilty of this, and one was blamed"
    if not wrong and not passes(root, branches[0], scratch, scenario.hidden if maker != "revert" else ""):
        wrong = "tests of the proposed branch fail"
    return Result(scenario, maker, wrong, why, report.seconds)
