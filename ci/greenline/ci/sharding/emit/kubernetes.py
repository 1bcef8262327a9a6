"""Kubernetes: an Indexed Job for each pool, and one for the gate, on a volume that holds the plan and the results.

Pods that the cluster takes away are started again without counting as failures, a shard whose tests failed is not
(https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy). With a queue, Kueue admits the
Jobs: they start suspended (https://kueue.sigs.k8s.io/docs/tasks/run/jobs/).
"""

from __future__ import annotations

import re
from typing import Any

from greenline.ci.sharding.emit.jobs import GATE, HEAD, STARTED, Options, by_pool, gate_command, minutes, shard_command
from greenline.ci.sharding.emit.jobs import yaml as to_yaml
from greenline.ci.sharding.plan_file import Plan, Pool
from greenline.depgraph.errors import GreenlineError

FOLDER = "/greenline/"
"""Where the pods see the volume."""
_INDEX = "JOB_COMPLETION_INDEX"


def jobs(plan: Plan, options: Options) -> str:
    """The Jobs, as one YAML stream. Raises GreenlineError without an image, or for a pool of several nodes."""
    if not options.image:
        raise GreenlineError("the pods need an image", "--image NAME: one with the repository, its tests and greenline")
    made = []
    for pool, shards in by_pool(plan):
        if pool.nodes > 1:
            raise GreenlineError(
                f"pool {pool.name} takes {pool.nodes} nodes a runner, an Indexed Job takes one",
                "run that pool with a JobSet of your own, and `greenline shard run --index`",
            )
        indexes = " ".join(str(shard.index) for shard in shards)
        pick = f'set -- {indexes}; shift "${_INDEX}"'
        script = [f"export {STARTED}=$(date +%s)", *options.setup, pick, shard_command('"$1"', options, FOLDER)]
        seconds = 60 * max(map(minutes, shards))
        made.append(_job(plan, f"greenline-{_slug(pool.name)}", script, options, pool, len(shards), seconds))
    last = max((60 * minutes(shard) for shard in plan.shards), default=0)
    gate = [*options.setup, f"{gate_command(FOLDER)} --wait {last}"]
    made.append(_job(plan, GATE, gate, options, None, 1, last + 600))
    return "---\n".join(to_yaml(job, HEAD) for job in made)


def _job(
    plan: Plan, name: str, script: list[str], options: Options, pool: Pool | None, count: int, seconds: int
) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": "greenline", "app.kubernetes.io/component": _slug(pool.name if pool else GATE)}
    queue = {"kueue.x-k8s.io/queue-name": options.queue} if options.queue and pool else {}
    container: dict[str, Any] = {
        "name": "tests",
        "image": options.image,
        "command": ["sh", "-ec", "\n".join(script)],
        "volumeMounts": [{"name": "greenline", "mountPath": FOLDER}],
        "resources": _resources(pool),
    }
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": seconds,  # from the start of the pod: the queue does not count
        "containers": [container],
        "volumes": [{"name": "greenline", "persistentVolumeClaim": {"claimName": options.claim}}],
    }
    if pool and pool.gpu_kind:
        pod["nodeSelector"] = {"nvidia.com/gpu.product": pool.gpu_kind}
    spec: dict[str, Any] = {
        **({"suspend": True} if queue else {}),
        "completions": count,
        "parallelism": count,
        "completionMode": "Indexed",
        "backoffLimitPerIndex": 2,
        "maxFailedIndexes": count,
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {
                    "action": "FailIndex",
                    "onExitCodes": {"containerName": "tests", "operator": "In", "values": [1, 2, 3, 4, 5]},
                },
            ]
        },
        "ttlSecondsAfterFinished": 3600,
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    metadata = {"name": f"{name}-{plan.commit[:12]}" if plan.commit else name, "labels": {**labels, **queue}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _resources(pool: Pool | None) -> dict[str, Any]:
    if pool is None:
        return {"requests": {"cpu": "1"}}
    requests: dict[str, Any] = {"cpu": str(pool.slots)}
    if pool.memory:
        requests["memory"] = str(pool.memory)
    limits = {"nvidia.com/gpu": str(pool.gpus)} if pool.gpus else {}
    return {"requests": {**requests, **limits}, **({"limits": limits} if limits else {})}


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
