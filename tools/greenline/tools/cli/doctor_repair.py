"""What `greenline doctor` says of repair: can agents be isolated here, are they here, can a pull request be opened?

All of it is advice at most: without agents and without a token repair still makes fixes, reverts and branches.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from greenline.ci.repair.agents.settings import KEYS, Agent, agents_of
from greenline.ci.repair.sandbox.sandbox import NoSandbox, open_sandbox, settings_of
from greenline.depgraph.errors import GreenlineError
from greenline.tools.cli.finding import ADVICE, BROKEN, OK, Finding

ENGINES = ("docker", "podman")
_ANSWER_SECONDS = 10


def examine_repair(room: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[Finding]:
    """Isolation, container engines, agents, forge. ``room``: `repair` of greenline.yaml."""
    try:
        agents = agents_of(room.get("agents", ()))
        settings = settings_of(room.get("sandbox", {}))
    except GreenlineError as error:
        yield Finding("agents", BROKEN, error.message, error.hint)
        return
    needed = ADVICE if agents else OK
    try:
        open_sandbox(settings)
        yield Finding("sandbox", OK, f"{settings.backend} isolates: a probe inside found nothing open")
    except NoSandbox as error:
        told = f"{error.message}: no agent is started here"
        yield Finding("sandbox", needed, told, error.hint if agents else None)
    yield Finding("containers", OK, "; ".join(map(_engine, ENGINES)))
    yield from _agents(agents, environment)
    yield _forge(environment)


def _engine(name: str) -> str:
    program = shutil.which(name)
    if not program:
        return f"no {name}"
    try:
        done = subprocess.run(
            [program, "version"], capture_output=True, stdin=subprocess.DEVNULL, timeout=_ANSWER_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return f"{name} does not answer"
    return f"{name} answers" if done.returncode == 0 else f"{name} is installed, but reaches no engine"


def _agents(agents: tuple[Agent, ...], environment: Mapping[str, str]) -> Iterator[Finding]:
    """Those of greenline.yaml; without any, which of the known ones could be named."""
    if not agents:
        here = [name for name in KEYS if name != "command" and shutil.which(name)]
        found = f"on the PATH: {', '.join(here)}" if here else "neither codex nor claude is on the PATH"
        yield Finding("agents", OK, f"none is configured; {found}")
    for agent in agents:
        program = shutil.which(agent.command[0])
        if not program:
            message = f"{agent.name}: {agent.command[0]} is not on the PATH"
            yield Finding("agents", ADVICE, message, f"install it, or name it: repair.agents[{agent.name}].command")
        elif agent.key and not environment.get(agent.key):
            yield Finding("agents", ADVICE, f"{agent.name}: ${agent.key} is not set here", "set it where repair runs")
        else:
            yield Finding("agents", OK, f"{agent.name}: {program}")


def _forge(environment: Mapping[str, str]) -> Finding:
    token = next((name for name in ("GITHUB_TOKEN", "GH_TOKEN") if environment.get(name)), None)
    if token and environment.get("GITHUB_REPOSITORY"):
        return Finding("forge", OK, f"${token} and $GITHUB_REPOSITORY are set: --forge github can open pull requests")
    missing = "GITHUB_REPOSITORY" if token else "GITHUB_TOKEN"
    told = f"--forge git makes branches; --forge github lacks ${missing}"
    if environment.get("GITHUB_ACTIONS") == "true":
        return Finding("forge", ADVICE, told, "env: {GITHUB_TOKEN: ${{ github.token }}} in the job that writes")
    return Finding("forge", OK, told)
