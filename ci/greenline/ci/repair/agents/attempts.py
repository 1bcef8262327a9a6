"""Let agents try: each attempt in a checkout, a home and a sandbox of its own, all at once; diffs come back."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from greenline.ci.repair import clones
from greenline.ci.repair.agents import brief as briefs
from greenline.ci.repair.agents import claude, codex, command
from greenline.ci.repair.agents.invocation import PORT
from greenline.ci.repair.agents.proxy import Spent, proxy
from greenline.ci.repair.agents.settings import Agent
from greenline.ci.repair.candidates import Brief, Candidate
from greenline.ci.repair.sandbox.sandbox import NOBODY, Sandbox, Service
from greenline.ci.repair.scrub import scrub, secrets_of
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.workspace import Workspace

LOG = 20_000
KINDS = {"codex": codex, "claude": claude, "command": command}


class Surroundings(NamedTuple):
    """What every attempt shares: folders to read (the environment of the tests) and variables (PATH, say)."""

    readable: tuple[str, ...] = ()
    variables: Mapping[str, str] = {}


NOTHING = Surroundings()


def attempt_all(
    brief: Brief,
    workspace: Workspace,
    agents: Sequence[Agent],
    sandbox: Sandbox,
    surroundings: Surroundings = NOTHING,
    environment: Mapping[str, str] = os.environ,
) -> list[Candidate]:
    """A candidate for each attempt of each agent, in their order; one that failed has an empty diff and says why.

    ``environment`` is Greenline's own: agents' keys are taken from it, and its secrets are kept out of everything.
    """
    secrets = secrets_of(environment)
    text = briefs.prompt(brief, secrets)
    numbered = [(agent, number) for agent in agents for number in range(1, agent.attempts + 1)]

    def one(item: tuple[Agent, int]) -> Candidate:
        agent, number = item
        name = f"agent:{agent.name}#{number}"
        start = time.monotonic()
        try:
            return _attempt(name, agent, text, brief.bad, workspace, sandbox, surroundings, environment, secrets)
        except (GreenlineError, clones.Refused, OSError) as error:
            return Candidate(name, b"", time.monotonic() - start, notes=scrub(str(error), secrets, 1000))

    with ThreadPoolExecutor(max_workers=max(len(numbered), 1), thread_name_prefix="attempt") as pool:
        return list(pool.map(one, numbered))


def _attempt(
    name: str,
    agent: Agent,
    text: str,
    commit: str,
    workspace: Workspace,
    sandbox: Sandbox,
    surroundings: Surroundings,
    environment: Mapping[str, str],
    secrets: tuple[str, ...],
) -> Candidate:
    start = time.monotonic()
    kind = KINDS[agent.kind]
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="greenline-attempt-"))
        clone = clones.make(workspace, commit, os.path.join(scratch, "clone"))
        home = os.path.join(scratch, "home")
        os.mkdir(home)
        call = kind.invocation(agent, text, home, clone.folder)
        for file, content in call.files.items():
            with open(os.path.join(home, file), "w", encoding="utf-8", errors="replace") as target:
                target.write(content)
        spent, services = Spent(), []
        if agent.endpoint:
            key = environment.get(agent.key, "")
            if agent.key and not key:
                raise GreenlineError(f"${agent.key} is not set: the agent {agent.name!r} has no key")
            socket = os.path.join(scratch, "model.sock")
            spent = stack.enter_context(proxy(agent, call.gate, key, socket, secrets))
            if os.geteuid() == 0:
                os.chown(socket, NOBODY, NOBODY)
            services.append(Service("model", socket, PORT))
        result = sandbox.run(
            call.command,
            clone.folder,
            environment={**surroundings.variables, "HOME": home, **call.environment},
            timeout=agent.minutes * 60,
            writable=[clone.folder, home],
            readable=[clone.objects, *surroundings.readable, *call.readable],
            services=services,
        )
        notes = [kind.outcome(result.code, result.output).notes, *spent.notes]
        if result.timed_out:
            notes[0] = f"stopped after {agent.minutes:g} minutes"
        diff = clones.diff_of(clone)
        if not diff:
            notes.append("it changed nothing")
    said = scrub("; ".join(dict.fromkeys(note for note in notes if note)), secrets, 1000)
    log = scrub(result.output, secrets, LOG)
    return Candidate(name, diff, time.monotonic() - start, spent.cost(agent), said, log)
