"""Any other agent: a program that finds its task in the file $GREENLINE_PROMPT and edits the folder that it is in."""

from __future__ import annotations

import os
import shutil

from greenline.ci.repair.agents.invocation import PORT, Invocation, Outcome, missing
from greenline.ci.repair.agents.proxy import Gate
from greenline.ci.repair.agents.settings import Agent

_PATHS = ("/chat/completions", "/completions", "/responses", "/messages", "/models", "/embeddings")


def invocation(agent: Agent, prompt: str, home: str, folder: str) -> Invocation:
    """How to start it. With an endpoint, $GREENLINE_MODEL_URL stands for it; the key is put in as a Bearer token."""
    found = shutil.which(agent.command[0])
    if not found:
        raise missing(agent.command[0], "see repair.agents in greenline.yaml")
    return Invocation(
        command=(found, *agent.command[1:]),
        environment={
            "GREENLINE_PROMPT": os.path.join(home, "prompt.txt"),
            **({"GREENLINE_MODEL_URL": f"http://127.0.0.1:{PORT}"} if agent.endpoint else {}),
        },
        files={"prompt.txt": prompt},
        readable=(found,),
        gate=Gate(_PATHS + tuple(f"/v1{path}" for path in _PATHS), "Authorization", "Bearer {}"),
    )


def outcome(code: int, output: str) -> Outcome:
    """Its exit code, if it is none of success."""
    return Outcome("" if code == 0 else f"exit code {code}")
