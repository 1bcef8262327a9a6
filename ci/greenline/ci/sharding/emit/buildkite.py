"""Buildkite: steps for `buildkite-agent pipeline upload`; a pool's labels or name are its agents' queue."""

from __future__ import annotations

from typing import Any

from greenline.ci.sharding.emit.jobs import (
    GATE,
    HEAD,
    PLAN,
    RESULTS,
    STARTED,
    Options,
    gate_command,
    labels_of,
    minutes,
    shard_command,
    yaml,
)  # fmt: skip
from greenline.ci.sharding.plan_file import Plan

_PLAN_HERE = f"buildkite-agent artifact download {PLAN} ."
_NOW = f"export {STARTED}=$$(date +%s)"  # "$$": pipeline upload makes "$" of it
_LOST = {"automatic": [{"exit_status": -1, "limit": 2}], "manual": {"permit_on_passed": True}}


def pipeline(plan: Plan, options: Options) -> str:
    steps: list[Any] = [
        {
            "label": f"shard {shard.index} ({shard.pool})",
            "command": "\n".join([_NOW, *options.setup, _PLAN_HERE, shard_command(shard.index, options)]),
            "agents": {"queue": labels_of(plan.pool(shard), ["default"])[0]},
            "artifact_paths": f"{RESULTS}/*",
            "timeout_in_minutes": minutes(shard),
            "retry": _LOST,
        }
        for shard in plan.shards
    ]
    fetch = f'buildkite-agent artifact download "{RESULTS}/*" .' if plan.shards else f"mkdir -p {RESULTS}"
    gate = {
        "label": GATE,
        "key": GATE,
        "command": "\n".join([*options.setup, _PLAN_HERE, fetch, gate_command()]),
    }
    wait: list[Any] = [{"wait": None, "continue_on_failure": True}] if steps else []
    return yaml({"steps": [*steps, *wait, gate]}, HEAD)
