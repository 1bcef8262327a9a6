"""``greenline shard run``: run a shard of a plan, or all of it on this machine or on Ray."""

from __future__ import annotations

import os
import sys

import click

from greenline.ci.execution.shard import RESULTS, Setting, attempt_of, check_commit, prepare_results, run_shard
from greenline.ci.sharding import plan_file
from greenline.ci.sharding.plan_file import Plan
from greenline.depgraph import config as configuration
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.workspace import find


@click.command("run")
@click.option("--plan", "plan_path", metavar="FILE", required=True, help="The plan, as JSON.")
@click.option("--index", metavar="I", type=click.IntRange(min=0), help="Run this shard.")
@click.option("--results", metavar="DIR", default=RESULTS, show_default=True, help="Where to record what happened.")
@click.option("--attempt", metavar="N", type=click.IntRange(min=1), help="Which attempt this is, if not the next one.")
@click.option("--any-commit", is_flag=True, help="Run the plan of another commit.")
@click.argument("pytest_args", metavar="[-- PYTEST_ARGS...]", nargs=-1, type=click.UNPROCESSED)
def command(
    plan_path: str,
    index: int | None,
    results: str,
    attempt: int | None,
    any_commit: bool,
    pytest_args: tuple[str, ...],
) -> int:
    """Run one shard of a plan, suite by suite, and record how each test ends.

    Only the shard's tests run, and those that are new in what it owns. A retry replays the plan as the next attempt.
    PYTEST_ARGS are options for each pytest. The exit code is pytest's: 1 if a test failed.
    """
    plan = plan_file.read(plan_path)
    workspace = find()
    config = configuration.load(workspace.root, workspace.cache)
    commit = check_commit(plan, workspace, any_commit)
    results = os.path.abspath(results)
    if not plan.shards:
        _say("the plan is empty: there is nothing to run")
        return 0
    if index is None:
        raise GreenlineError("which shard?", f"--index I, from 0 to {len(plan.shards) - 1}")
    _check_index(plan, index)
    prepare_results(results)
    setting = Setting(plan, workspace.root, config, results, pytest_args, commit)
    return run_shard(setting, index, attempt or attempt_of(results, index), _say)


def _check_index(plan: Plan, index: int) -> None:
    if index >= len(plan.shards):
        raise GreenlineError(
            f"--index {index}: the plan has {len(plan.shards)} shards", f"--index is from 0 to {len(plan.shards) - 1}"
        )


def _say(text: str) -> None:
    print(f"greenline: {text}", file=sys.stderr, flush=True)
