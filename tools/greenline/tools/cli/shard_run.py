"""``greenline shard run``: run a shard of a plan, or all of it on this machine or on Ray."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile

import click

from greenline.ci.execution.gpus import find_gpus
from greenline.ci.execution.parts import digest, parts_of
from greenline.ci.execution.placement import Gpu, Machine
from greenline.ci.execution.queue import Ended
from greenline.ci.execution.shard import (
    Setting,
    attempt_of,
    check_commit,
    is_sequence,
    prepare_results,
    run_shard,
    usual_results,
)
from greenline.ci.execution.slots import Who, run_slots
from greenline.ci.sharding import plan_file
from greenline.ci.sharding.plan_file import Plan, Pool
from greenline.depgraph import config as configuration
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.wording import plural
from greenline.depgraph.workspace import find


@click.command("run")
@click.option("--plan", "plan_path", metavar="FILE", required=True, help="The plan, as JSON.")
@click.option("--index", metavar="I", type=click.IntRange(min=0), help="Run this shard.")
@click.option("--local", is_flag=True, help="Run all shards here, as one queue.")
@click.option("--ray", "address", metavar="ADDRESS", help="Run all shards on this Ray cluster (auto: the one here).")
@click.option("--slots", metavar="N", type=click.IntRange(min=1), help="Tests at a time; as many as there are CPUs.")
@click.option("--gpus", metavar="N", type=click.IntRange(min=0), help="Logical GPUs instead of those that are here.")
@click.option("--timeout", metavar="SECONDS", type=float, help="End a test that is silent for so long.")
@click.option("--results", metavar="DIR", help="Where to record what happened; .greenline/results/PLAN.")
@click.option("--attempt", metavar="N", type=click.IntRange(min=1), help="Which attempt this is, if not the next one.")
@click.option("--any-commit", is_flag=True, help="Run the plan of another commit.")
@click.argument("pytest_args", metavar="[-- PYTEST_ARGS...]", nargs=-1, type=click.UNPROCESSED)
def command(
    plan_path: str,
    index: int | None,
    local: bool,
    address: str | None,
    slots: int | None,
    gpus: int | None,
    timeout: float | None,
    results: str | None,
    attempt: int | None,
    any_commit: bool,
    pytest_args: tuple[str, ...],
) -> int:
    """Run one shard of a plan (--index), or all of it on this machine (--local), and record how each test ends.

    Only planned tests run, and those that are new in what a shard owns. A retry replays the plan as the next attempt.
    PYTEST_ARGS are options for each pytest. The exit code is pytest's: 1 if a test failed.
    """
    plan = plan_file.read(plan_path)
    workspace = find()
    config = configuration.load(workspace.root, workspace.cache)
    commit = check_commit(plan, workspace, any_commit)
    if not plan.shards:
        _say("the plan is empty: there is nothing to run")
        return 0
    _check(plan, index, local, address)
    name = digest(plan)
    results = os.path.abspath(results) if results else usual_results(workspace.root, name)
    prepare_results(results)
    setting = Setting(plan, workspace.root, config, results, pytest_args, commit, name)
    who = Who(index, attempt or attempt_of(results, index), _runner_kind(plan, index, local))
    # Only a worker is watched: plain pytest, with its output as ever, cannot tell silence from work.
    if index is not None and timeout is None and is_sequence(plan.pool(plan.shards[index]), plan.shards[index]):
        return run_shard(setting, index, who.attempt, _say)
    suites = parts_of(plan, workspace.root, range(len(plan.shards)) if index is None else [index])
    if address is not None:
        from greenline.ci.execution.on_ray import run_ray

        return _told(run_ray(setting, suites, address, who, timeout, _say), plan_path, results)
    if index is None:
        machine = Machine(slots or os.cpu_count() or 1, find_gpus(gpus))
    else:
        machine = _runner(plan.pool(plan.shards[index]), slots, gpus)
    with tempfile.TemporaryDirectory(prefix="greenline-") as scratch:
        return _told(run_slots(setting, suites, machine, who, scratch, timeout, _say), plan_path, results)


def _runner_kind(plan: Plan, index: int | None, local: bool) -> str:
    return plan.shards[index].pool if index is not None else "local" if local else "ray"


def _check(plan: Plan, index: int | None, local: bool, address: str | None) -> None:
    last = len(plan.shards) - 1
    ways = (index is not None) + local + (address is not None)
    if ways != 1:
        raise GreenlineError(
            "--index is one shard, --local and --ray are all of them" if ways else "which part of the plan?",
            f"one of --index I, from 0 to {last}; --local; --ray ADDRESS",
        )
    if index is not None and index > last:
        raise GreenlineError(
            f"--index {index}: the plan has {plural(last + 1, 'shard')}", f"--index is from 0 to {last}"
        )


def _runner(pool: Pool, slots: int | None, logical: int | None) -> Machine:
    """This machine as a runner of the pool."""
    found = find_gpus(logical)[: pool.gpus]
    if len(found) < pool.gpus:
        _say(f"pool {pool.name} has {pool.gpus} GPUs, {len(found)} are found here: their numbers are taken as given")
        found = find_gpus(pool.gpus)
    gpus = tuple(Gpu(gpu.name, gpu.memory or pool.gpu_memory) for gpu in found)
    return Machine(slots or pool.slots, gpus, pool.memory)


def _told(ended: Ended, plan: str, results: str) -> int:
    """Print what workers said that did not end well, and what proves the run; the exit code."""
    for log in ended.logs:
        with open(log, encoding="utf-8", errors="replace") as file:
            print(f"\n== {log}\n{file.read()}", flush=True)
    _say(f"the results prove it: {shlex.join(['greenline', 'shard', 'verify', '--plan', plan, results])}")
    return ended.code


def _say(text: str) -> None:
    print(f"greenline: {text}", file=sys.stderr, flush=True)
