"""What each kind of agent is asked for: how to start it, and what its output says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from greenline.ci.repair.agents.proxy import Gate
from greenline.depgraph.errors import GreenlineError

PORT = 4117
"""Of the model, on the sandbox's own loopback."""


class Invocation(NamedTuple):
    """A command for a sandbox. ``files``: written into the agent's private home; ``readable``: folders it needs."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    files: Mapping[str, str]
    readable: tuple[str, ...]
    gate: Gate


class Outcome(NamedTuple):
    """What an agent said about its own run; "" for nothing wrong. No judgement rests on it."""

    notes: str


def missing(program: str, hint: str) -> GreenlineError:
    return GreenlineError(f"the agent is not installed: {program}", hint)
