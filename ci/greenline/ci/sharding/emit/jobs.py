"""What all CI systems have in common: the command of a shard, the gate's, and their names."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple

from greenline.ci.sharding.plan_file import Plan, Pool, Shard

GATE = "greenline"
"""The name of the gate job: constant, so that a required check can name it whatever was selected."""
PLAN = "greenline-plan.json"
RESULTS = "greenline-results"


class Options(NamedTuple):
    """What the caller adds: ``setup``, shell commands that make greenline and the tests ready; ``image`` and
    ``queue`` (Kueue's) and ``claim`` (a volume claim), where the system has them; ``plan_job``: who made the plan."""

    setup: tuple[str, ...] = ()
    image: str = ""
    queue: str = ""
    claim: str = "greenline"
    plan_job: str = "plan"
    pytest_args: tuple[str, ...] = ()


def shard_command(index: str | int, options: Options, folder: str = "") -> str:
    """Runs one shard; ``index`` may be a shell variable. ``folder`` ("" or "…/") has the plan and gets the results."""
    tail = f" -- {shlex.join(options.pytest_args)}" if options.pytest_args else ""
    return f"greenline shard run --plan {folder}{PLAN} --index {index} --results {folder}{RESULTS}{tail}"


def gate_command(folder: str = "") -> str:
    return f"greenline shard verify --plan {folder}{PLAN} {folder}{RESULTS}"


def by_pool(plan: Plan) -> list[tuple[Pool, list[Shard]]]:
    """The pools that have something to run, with their shards."""
    found = [(pool, [shard for shard in plan.shards if shard.pool == pool.name]) for pool in plan.pools]
    return [(pool, shards) for pool, shards in found if shards]


def labels_of(pool: Pool, usual: Sequence[str]) -> list[str]:
    """What the CI system calls the pool's runners; without labels its name, or the usual runners if it has no GPU."""
    return list(pool.labels) or ([pool.name] if pool.gpus else list(usual))


def minutes(shard: Shard) -> int:
    """After this long a job hangs: three times what is expected, and a quarter of an hour."""
    return int(shard.seconds * 3 / 60) + 15


def yaml(value: Any, head: str) -> str:
    """YAML text with a comment in front; keys stay in their order, texts of several lines are blocks."""
    import yaml as pyyaml

    class Dumper(pyyaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: pyyaml.SafeDumper, said: str) -> pyyaml.Node:
        return dumper.represent_scalar("tag:yaml.org,2002:str", said, style="|" if "\n" in said else None)

    Dumper.add_representer(str, text)
    return f"# {head}\n" + str(pyyaml.dump(value, Dumper=Dumper, sort_keys=False, width=1000))


STARTED = "GREENLINE_STARTED_AT"
"""Environment variable: seconds since 1970 at which a shard's job began; the planner learns start-up times."""
HEAD = "Made by greenline shard emit; make it again rather than edit it."
