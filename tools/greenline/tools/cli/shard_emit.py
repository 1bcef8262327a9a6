"""``greenline shard emit``: the jobs of a plan, in the words of a CI system."""

from __future__ import annotations

import importlib
import sys

import click

from greenline.ci.sharding import plan_file
from greenline.ci.sharding.emit.jobs import Options
from greenline.depgraph.errors import GreenlineError

SYSTEMS = ("github", "gitlab", "buildkite", "kubernetes")


@click.command("emit")
@click.argument("system", type=click.Choice(SYSTEMS))
@click.option("--plan", "plan_path", metavar="FILE", help="The plan, as JSON.")
@click.option("--workflow", is_flag=True, help="For github: the workflow file that runs any plan, to commit once.")
@click.option("--setup", metavar="COMMAND", multiple=True, help="Shell command of each job before ours; repeatable.")
@click.option("--image", metavar="NAME", default="", help="Container image of the jobs (gitlab, kubernetes).")
@click.option("--queue", metavar="NAME", default="", help="Kueue's queue (kubernetes).")
@click.option("--claim", metavar="NAME", default="greenline", show_default=True, help="Volume claim (kubernetes).")
@click.option("--plan-job", metavar="NAME", default="plan", show_default=True, help="The job that plans.")
@click.argument("pytest_args", metavar="[-- PYTEST_ARGS...]", nargs=-1, type=click.UNPROCESSED)
def command(
    system: str,
    plan_path: str | None,
    workflow: bool,
    setup: tuple[str, ...],
    image: str,
    queue: str,
    claim: str,
    plan_job: str,
    pytest_args: tuple[str, ...],
) -> None:
    """Print the jobs of a plan: github, gitlab, buildkite or kubernetes.

    Each has a job for each shard that runs `greenline shard run`, and one gate called "greenline" that always runs
    `greenline shard verify`. The plan file is greenline-plan.json, results are in greenline-results.
    """
    options = Options(setup, image, queue, claim, plan_job, pytest_args)
    module = importlib.import_module(f"greenline.ci.sharding.emit.{system}")
    if workflow and system != "github":
        raise GreenlineError("--workflow is for github", "leave it out: the plan makes the whole pipeline")
    if workflow:
        sys.stdout.write(module.workflow(options))
        return
    if plan_path is None:
        raise GreenlineError("which plan?", "--plan FILE")
    plan = plan_file.read(plan_path)
    made = {"github": "matrix", "kubernetes": "jobs"}.get(system, "pipeline")
    text = module.matrix(plan) if system == "github" else getattr(module, made)(plan, options)
    sys.stdout.write(text)
