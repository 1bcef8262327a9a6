"""Run one shard of a plan: one pytest for each suite, in its root, with the results recorded."""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from greenline.ci.execution.gpus import VISIBLE
from greenline.ci.execution.local import Call, command_of, execute, has_guest
from greenline.ci.execution.parts import SuitePart, parts_of
from greenline.ci.execution.placement import wants_gpu
from greenline.ci.execution.pytest_codes import NOTHING_COLLECTED, worst
from greenline.ci.sharding.plan_file import Plan, Pool, Shard
from greenline.depgraph.config import Config
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.workspace import Workspace
from pytest_greenline import part as part_file
from pytest_greenline.part import SESSION

RESULTS = os.path.join(".greenline", "results")


NOTHING: Mapping[str, float] = MappingProxyType({})


class Setting(NamedTuple):
    """What all runs of a plan share: ``top``, the repository; ``results``, the folder for result streams; ``options``,
    the user's for pytest; ``commit``, what is checked out; ``digest``, the plan's."""

    plan: Plan
    top: str
    config: Config
    results: str
    options: tuple[str, ...]
    commit: str | None
    digest: str

    def session(
        self, suite: str, runner: str, shard: int | None, attempt: int, waited: Mapping[str, float] = NOTHING
    ) -> dict[str, str]:
        """The environment variable that tells pytest-greenline what to say in a session line."""
        said: dict[str, object] = {"top": self.top, "suite": suite, "variant": self.plan.variant, "runner": runner}
        said |= {"shard": shard, "attempt": attempt, "plan": self.digest, "commit": self.commit, **waited}
        return {SESSION: json.dumps(said)}


def check_commit(plan: Plan, workspace: Workspace, anyway: bool) -> str | None:
    """The commit that is checked out. Raises GreenlineError where the plan is of another one."""
    commit = workspace.resolve("HEAD")
    if plan.commit and plan.commit != commit and not anyway:
        raise GreenlineError(
            f"the plan is of commit {plan.commit[:12]}, but {(commit or 'nothing')[:12]} is checked out",
            f"git checkout {plan.commit[:12]}, or plan again; --any-commit runs it here, and verify will say so",
        )
    return commit


def attempt_of(results: str, shard: int | None, environment: Mapping[str, str] = os.environ) -> int:
    """The number of this attempt, from 1: what the CI system says, or one more than what was recorded here."""
    pattern = re.compile(rf"{re.escape(stem(shard))}\.attempt-(\d+)\.")
    names = os.listdir(results) if os.path.isdir(results) else []
    recorded = [int(found[1]) for found in map(pattern.match, names) if found]
    said = [environment.get("GITHUB_RUN_ATTEMPT", ""), environment.get("BUILDKITE_RETRY_COUNT", "")]
    told = [int(number) + extra for number, extra in zip(said, (0, 1), strict=True) if number.isdecimal()]
    return max([1, *told, *(number + 1 for number in recorded)])


def stem(shard: int | None) -> str:
    return "plan" if shard is None else f"shard-{shard}"


def stream_name(shard: int | None, attempt: int, suite: str, more: str = "") -> str:
    """The file for the results of one pytest process."""
    slug = re.sub(r"\W+", "-", suite).strip("-") or "root"
    return f"{stem(shard)}.attempt-{attempt}.{slug}{more}.jsonl"


def usual_results(top: str, digest: str) -> str:
    """Where the results of a plan are, unless the user says."""
    return os.path.join(top, RESULTS, digest)


def prepare_results(folder: str) -> None:
    """Make the folder; git is to leave ours alone."""
    os.makedirs(folder, exist_ok=True)
    above = os.path.dirname(folder)
    if above.endswith(os.sep + RESULTS):
        with open(os.path.join(above, ".gitignore"), "w", encoding="utf-8") as file:
            file.write("*\n")


def suite_command(setting: Setting, suite: SuitePart) -> tuple[list[str], str]:
    """What starts the suite's pytest, and in which folder. Raises GreenlineError where it lacks the guest plugin."""
    command = command_of(suite.suite, suite.root, setting.top, setting.config)
    folder = os.path.join(setting.top, suite.root)
    if not os.path.isdir(folder):
        raise GreenlineError(f"suite {suite.suite}: there is no folder {suite.root}", "plan again: it has moved")
    if not has_guest(command, folder):
        raise GreenlineError(
            f"suite {suite.suite}: its pytest ({command[0]}) has no pytest-greenline, which runs and records shards",
            "pip install pytest-greenline in that environment",
        )
    return list(command), folder


def is_sequence(pool: Pool, shard: Shard) -> bool:
    """Can one pytest after the other run this shard, or does it need slots?"""
    return pool.slots == 1 and not any(atom.isolated for atom in shard.atoms)


def waited(environment: Mapping[str, str] = os.environ, now: float | None = None) -> dict[str, float]:
    """How long the runner was waited for, and how long it took to get here, in seconds, as far as the CI says."""
    queued = _time(environment.get("GREENLINE_QUEUED_AT") or environment.get("CI_PIPELINE_CREATED_AT"))
    started = _time(environment.get("GREENLINE_STARTED_AT") or environment.get("CI_JOB_STARTED_AT"))
    spans = {
        "queue": started - queued if started and queued else None,
        "startup": (now or time.time()) - started if started else None,
    }
    return {name: round(span, 3) for name, span in spans.items() if span is not None and span >= 0}


def _time(text: str | None) -> float | None:
    """Seconds since 1970, from those or from ISO 8601."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp() if "-" in text else float(text)
    except ValueError:
        return None


def run_shard(setting: Setting, index: int, attempt: int, say: Callable[[str], object]) -> int:
    """Run a shard's suites one after the other; one exit code for all: see `worst`."""
    shard = setting.plan.shards[index]
    codes = []
    first = waited()
    for suite in parts_of(setting.plan, setting.top, [index]):
        command, folder = suite_command(setting, suite)
        count = len(suite.part.mine.tests)
        say(f"shard {index}, attempt {attempt}, suite {suite.suite}: {count:,} planned tests")
        stream = os.path.join(setting.results, stream_name(index, attempt, suite.suite))
        with tempfile.TemporaryDirectory(prefix="greenline-") as scratch:
            path = os.path.join(scratch, "shard.json")
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(part_file.dumps(suite.part))
            # With "=": pytest takes a separate word that is a path for one of its arguments when it looks for rootdir.
            call = [*command, f"--greenline-shard={path}", f"--greenline-results={stream}", *setting.options]
            variables = setting.session(suite.suite, shard.pool, index, attempt, first)
            first = {}
            if not any(map(wants_gpu, suite.atoms)):
                variables[VISIBLE] = ""
            code = execute(Call(call, folder, variables))
        if code == NOTHING_COLLECTED and not count:
            code = 0  # only the files' new tests would have run, and there are none
        codes.append(code)
    return worst(codes)
