"""OpenAI's Codex CLI, without a person: `codex exec` with a configuration of its own (tried with 0.169.0).

Its own sandbox is off: Greenline's stands around all of it, and inside of one more no command could use localhost. The
repository's instructions for agents are off too: a culprit may have written them.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
from collections.abc import Iterator

from greenline.ci.repair.agents.invocation import PORT, Invocation, Outcome, missing
from greenline.ci.repair.agents.proxy import Gate
from greenline.ci.repair.agents.settings import Agent

_CONFIG = """\
model = {model}
model_provider = "greenline"
approval_policy = "never"
sandbox_mode = "danger-full-access"
web_search = "disabled"
check_for_update_on_startup = false
project_doc_max_bytes = 0

[analytics]
enabled = false

[features]
plugins = false
goals = false
unbounded_connection_retries = false

[agents]
enabled = false

[shell_environment_policy]
inherit = "all"

[model_providers.greenline]
name = "greenline"
base_url = "http://127.0.0.1:{port}"
wire_api = "responses"
request_max_retries = 2
stream_max_retries = 2
stream_idle_timeout_ms = 120000
"""


def invocation(agent: Agent, prompt: str, home: str, folder: str) -> Invocation:
    """How to start it in ``folder``, with ``home`` for its files. Raises GreenlineError where it is missing."""
    program = _native(agent.command[0])
    options = ["--strict-config", "--json", "--ephemeral", "--skip-git-repo-check", "-C", folder]
    return Invocation(
        command=(program, "exec", *options, *agent.command[1:], prompt),
        environment={"CODEX_HOME": home},
        files={"config.toml": _CONFIG.format(model=json.dumps(agent.model or "gpt-5-codex"), port=PORT)},
        readable=(_needs(program),),
        gate=Gate(("/responses", "/models"), "Authorization", "Bearer {}"),
    )


def outcome(code: int, output: str) -> Outcome:
    """What it said about itself. It exits with 0 after a refusal and after an empty answer: only the diff counts."""
    said = [text for text in _errors(output)]
    return Outcome("; ".join(dict.fromkeys(said)) or ("" if code == 0 else f"exit code {code}"))


def _errors(output: str) -> Iterator[str]:
    for line in output.splitlines():
        try:
            event = json.loads(line)
            if event["type"] == "turn.failed":
                yield str(event["error"]["message"])
            elif event["type"] == "error":
                yield str(event["message"])
        except (ValueError, KeyError, TypeError):
            continue


def _needs(program: str) -> str:
    """npm's package, with the tools beside the program; else the program alone: its folder may hold anything."""
    package = os.path.dirname(os.path.dirname(program))
    return package if os.path.isfile(os.path.join(package, "codex-package.json")) else program


def _native(program: str) -> str:
    """The program itself, where what is on the PATH is npm's wrapper around it."""
    found = shutil.which(program)
    if not found:
        raise missing(program, "npm install --global @openai/codex")
    real = os.path.realpath(found)
    if not real.endswith(".js"):
        return real
    package = os.path.dirname(os.path.dirname(real))
    for place in (os.path.dirname(package), os.path.join(package, "node_modules", "@openai")):
        inner = sorted(glob.glob(os.path.join(glob.escape(place), "codex-*", "vendor", "*", "bin", "codex")))
        if inner:
            return inner[0]
    raise missing(f"the program behind {real}", "npm install --global @openai/codex, with its optional packages")
