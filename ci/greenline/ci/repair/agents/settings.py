"""Which agents try to repair, how often, and what they may cost: ``repair.agents`` of greenline.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from greenline.depgraph.errors import GreenlineError

ENDPOINTS = {"codex": "https://api.openai.com/v1", "claude": "https://api.anthropic.com", "command": ""}
KEYS = {"codex": "OPENAI_API_KEY", "claude": "ANTHROPIC_API_KEY", "command": ""}


class Agent(NamedTuple):
    """One agent.

    ``kind``: "codex", "claude" or "command"; ``command``: the program, with arguments for "command"; ``endpoint``: the
    one URL that it may reach, through Greenline; ``key``: the environment variable that holds its key, which stays
    outside of the sandbox; ``minutes``, ``requests``: limits of one attempt; ``budget``: US dollars for one attempt, 0:
    not counted; prices in US dollars for a million tokens.
    """

    name: str
    kind: str
    command: tuple[str, ...]
    model: str = ""
    endpoint: str = ""
    key: str = ""
    attempts: int = 1
    minutes: float = 10.0
    requests: int = 100
    budget: float = 0.0
    input_price: float = 0.0
    output_price: float = 0.0


def agents_of(values: Sequence[Mapping[str, Any]]) -> tuple[Agent, ...]:
    """The agents as greenline.yaml gives them (all scalars are text). Raises GreenlineError."""
    found: dict[str, Agent] = {}
    for item in values:
        name, kind = item["name"], item["kind"]
        if name in found:
            raise GreenlineError(f"greenline.yaml: repair.agents: {name!r} stands twice", "rename one")
        if kind == "command" and not item.get("command"):
            raise GreenlineError(
                f"greenline.yaml: repair.agents: {name!r} has no command", "say what starts it: command: [my-agent]"
            )
        given: dict[str, Any] = {key: item[key] for key in ("model", "endpoint", "key") if key in item}
        given |= {key: int(item[key]) for key in ("attempts", "requests") if key in item}
        given |= {key: float(item[key]) for key in ("minutes", "budget", "input_price", "output_price") if key in item}
        given = {"endpoint": ENDPOINTS[kind], "key": KEYS[kind], **given}
        found[name] = Agent(name, kind, tuple(item.get("command", (kind,))), **given)
        if found[name].budget and not (found[name].input_price or found[name].output_price):
            raise GreenlineError(
                f"greenline.yaml: repair.agents: {name!r} has a budget, but no price to count with",
                "set input_price and output_price: US dollars for a million tokens",
            )
    return tuple(found.values())
