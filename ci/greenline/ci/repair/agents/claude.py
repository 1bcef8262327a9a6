"""Anthropic's Claude Code, without a person: `claude -p --bare` (tried with 2.1.197).

`--bare` leaves out what a repository could bring along: CLAUDE.md, hooks, plugins, servers. The sandbox around it makes
its shell tool safe to allow.
"""

from __future__ import annotations

import json
import os
import shutil

from greenline.ci.repair.agents.invocation import PORT, Invocation, Outcome, missing
from greenline.ci.repair.agents.proxy import Gate
from greenline.ci.repair.agents.settings import Agent

TURNS = "60"
_TOOLS = "Read,Edit,Write,Bash"


def invocation(agent: Agent, prompt: str, home: str, folder: str) -> Invocation:
    """How to start it in ``folder``, with ``home`` for its files. Raises GreenlineError where it is missing."""
    found = shutil.which(agent.command[0])
    if not found:
        raise missing(agent.command[0], "npm install --global @anthropic-ai/claude-code")
    program = os.path.realpath(found)
    options = ["--bare", "--output-format", "json", "--permission-mode", "acceptEdits", "--tools", _TOOLS]
    options += ["--allowedTools", _TOOLS, "--no-session-persistence", "--setting-sources", "", "--strict-mcp-config"]
    options += ["--max-turns", TURNS, *(("--model", agent.model) if agent.model else ())]
    return Invocation(
        command=(program, "-p", prompt, *options, *agent.command[1:]),
        environment={
            "CLAUDE_CONFIG_DIR": home,
            "ANTHROPIC_API_KEY": "outside",  # the proxy puts the real one in
            "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{PORT}",
            "CLAUDE_CODE_MAX_RETRIES": "2",
            "API_TIMEOUT_MS": "300000",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_ERROR_REPORTING": "1",
        },
        files={},
        readable=(os.path.dirname(program) if program.endswith((".js", ".mjs")) else program,),
        gate=Gate(("/", "/v1/messages", "/v1/messages/count_tokens"), "x-api-key"),
    )


def outcome(code: int, output: str) -> Outcome:
    """What it said about itself: an error's text. "subtype" says success even then."""
    try:
        answer = json.loads(output.strip().rpartition("\n")[2])
        failed = answer["is_error"]
        said = str(answer.get("result") or answer.get("subtype") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return Outcome(f"exit code {code}, and no answer" if code else "no answer")
    if failed:
        return Outcome(said or f"exit code {code}")
    return Outcome("its last answer was cut off" if answer.get("stop_reason") is None else "")
