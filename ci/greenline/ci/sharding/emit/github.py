"""GitHub Actions: a matrix for this plan, and the workflow (the same for all plans) that runs it.

A workflow cannot be made while it runs, so the repository holds it once: its first job plans and prints the matrix,
the second has a job for each shard, the third is the gate.
"""

from __future__ import annotations

import json

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
from greenline.depgraph.errors import GreenlineError

MOST_JOBS = 256


def matrix(plan: Plan) -> str:
    """Lines for $GITHUB_OUTPUT: matrix, and whether there is any shard. Raises GreenlineError above GitHub's limit."""
    if len(plan.shards) > MOST_JOBS:
        raise GreenlineError(
            f"the plan has {len(plan.shards)} shards, a matrix of GitHub Actions at most {MOST_JOBS} jobs",
            f"plan at most that many: greenline shard plan --shards {MOST_JOBS}, or a longer --target",
        )
    include = [
        {
            "index": shard.index,
            "pool": shard.pool,
            "runs-on": labels_of(plan.pool(shard), ["ubuntu-latest"]),
            "minutes": minutes(shard),
        }
        for shard in plan.shards
    ]
    return f"matrix={json.dumps({'include': include}, separators=(',', ':'))}\nany={json.dumps(bool(include))}\n"


def workflow(options: Options) -> str:
    """The workflow file."""
    checkout = {"uses": "actions/checkout@v4", "with": {"fetch-depth": 0}}
    python = {"uses": "actions/setup-python@v5", "with": {"python-version": "3.12"}}
    setup = [checkout, python, {"run": "\n".join(options.setup)}]
    upload = {"uses": "actions/upload-artifact@v4"}
    download = {"uses": "actions/download-artifact@v4"}
    plan_artifact = {"name": "greenline-plan"}
    jobs = {
        options.plan_job: {
            "runs-on": "ubuntu-latest",
            "outputs": {"matrix": "${{ steps.matrix.outputs.matrix }}", "any": "${{ steps.matrix.outputs.any }}"},
            "steps": [
                *setup,
                {"run": f"greenline shard plan --output {PLAN}"},
                {
                    "id": "matrix",
                    "run": f"greenline shard emit github --plan {PLAN} >> \"$GITHUB_OUTPUT\"",
                },
                {**upload, "with": {**plan_artifact, "path": PLAN}},
            ],
        },
        "shard": {
            "needs": options.plan_job,
            "if": f"needs.{options.plan_job}.outputs.any == 'true'",
            "name": "shard ${{ matrix.index }} (${{ matrix.pool }})",
            "strategy": {"fail-fast": False, "matrix": f"${{{{ fromJSON(needs.{options.plan_job}.outputs.matrix) }}}}"},
            "runs-on": "${{ matrix.runs-on }}",
            "timeout-minutes": "${{ matrix.minutes }}",
            "steps": [
                {"run": f'echo "{STARTED}=$(date +%s)" >> "$GITHUB_ENV"'},
                *setup,
                {**download, "with": plan_artifact},
                {"run": shard_command("${{ matrix.index }}", options)},
                {
                    **upload,
                    "if": "always()",
                    "with": {
                        "name": "greenline-results-${{ matrix.index }}-${{ github.run_attempt }}",
                        "path": RESULTS,
                    },
                },
            ],
        },
        GATE: {
            "needs": [options.plan_job, "shard"],
            "if": "always()",
            "runs-on": "ubuntu-latest",
            "steps": [
                *setup,
                {**download, "with": plan_artifact},
                {
                    **download,
                    "with": {"pattern": "greenline-results-*", "path": RESULTS, "merge-multiple": True},
                },
                {"run": gate_command()},
            ],
        },
    }  # fmt: skip
    triggers = {"pull_request": None, "merge_group": None}
    return yaml({"name": "tests", "on": triggers, "permissions": {"contents": "read"}, "jobs": jobs}, HEAD)
