"""``greenline shard``: a table of subcommands; each is a module ``shard_<name>`` that is loaded when it is called."""

from __future__ import annotations

import click

from greenline.tools.cli.main import LazyCommand, TableGroup

COMMANDS = {
    "plan": "Put tests on runners so that a target latency is met.",
    "emit": "Print the jobs of a plan for a CI system.",
    "run": "Run a shard of a plan, or all of it on this machine or on Ray.",
    "verify": "Prove from the results that every planned test ran exactly once.",
}


@click.group(
    "shard",
    cls=TableGroup,
    commands=[LazyCommand(name, f"shard_{name}", line) for name, line in COMMANDS.items()],
)
def command() -> None:
    """Plan CPU and GPU jobs that meet a target latency, run them, and prove that every test ran."""
