"""GitLab: a child pipeline. The parent's plan job keeps the plan as an artifact and triggers this file.

Each pool is one job that runs in parallel, a runner for each shard; GitLab allows 200. The gate is in a stage of its
own, because a job may name at most 50 others that it needs; it gets the plan from the shards' artifacts.
"""

from __future__ import annotations

from typing import Any

from greenline.ci.sharding.emit.jobs import (
    GATE,
    HEAD,
    PLAN,
    RESULTS,
    Options,
    by_pool,
    gate_command,
    labels_of,
    minutes,
    shard_command,
    yaml,
)  # fmt: skip
from greenline.ci.sharding.plan_file import Plan
from greenline.depgraph.errors import GreenlineError

MOST_PARALLEL = 200
_LOST = ["runner_system_failure", "stuck_or_timeout_failure", "scheduler_failure", "data_integrity_failure"]


def pipeline(plan: Plan, options: Options) -> str:
    """The child pipeline. Raises GreenlineError above GitLab's limit."""
    given = {"pipeline": "$PARENT_PIPELINE_ID", "job": options.plan_job}
    common: dict[str, Any] = {**({"image": options.image} if options.image else {})}
    if options.setup:
        common["before_script"] = list(options.setup)
    jobs: dict[str, Any] = {}
    for pool, shards in by_pool(plan):
        if len(shards) > MOST_PARALLEL:
            raise GreenlineError(
                f"pool {pool.name} has {len(shards)} shards, a parallel job of GitLab at most {MOST_PARALLEL}",
                f"plan at most that many (maximum: {MOST_PARALLEL} in greenline.yaml), or a longer --target",
            )
        jobs[f"shard {pool.name}"] = {
            "stage": "shards",
            **({"tags": tags} if (tags := labels_of(pool, [])) else {}),
            "parallel": {"matrix": [{"SHARD": [str(shard.index) for shard in shards]}]},
            "timeout": f"{max(map(minutes, shards))} minutes",
            "needs": [given],
            "script": [shard_command('"$SHARD"', options)],
            "retry": {"max": 2, "when": _LOST},
            "artifacts": {"when": "always", "paths": [RESULTS, PLAN]},
        }
    jobs[GATE] = {
        "stage": "gate",
        "when": "always",
        **({} if jobs else {"needs": [given]}),
        "script": [f"mkdir -p {RESULTS}", gate_command()],
    }
    rules = {"workflow": {"rules": [{"when": "always"}]}, "stages": ["shards", "gate"]}
    return yaml({**rules, **({"default": common} if common else {}), **jobs}, f"{HEAD} {PLAN} is the parent's.")
