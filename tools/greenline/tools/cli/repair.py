"""``greenline repair``: main is red; propose a verified repair, or hand off with the evidence."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import click

from greenline.depgraph.wording import plural

if TYPE_CHECKING:
    from greenline.ci.repair.pipeline import Outcome, Report

NOT_REPAIRED = 1


@click.command("repair")
@click.option("--bad", metavar="REF", default="HEAD", help="The broken commit. Default: HEAD.")
@click.option(
    "--good", metavar="REF", help="A commit that was green. Default: the last recorded one, else main's history tells."
)
@click.option("--junit", multiple=True, metavar="FILE", help="JUnit file of the red run; may be given again.")
@click.option("--results", multiple=True, metavar="FILE", help="JSON lines of pytest-reportlog; may be given again.")
@click.option("--test", "tests", multiple=True, metavar="NODEID", help="A test that fails; may be given again.")
@click.option("--agent", "agents", multiple=True, metavar="NAME", help="codex, claude, or an agent of greenline.yaml.")
@click.option("--attempts", type=click.IntRange(1, 16), help="Attempts of each agent.")
@click.option("--forge", type=click.Choice(["git", "github"]), default="git", help="Where to propose. Default: git.")
@click.option(
    "--publish", metavar="BRANCH", help="Only push a branch that an earlier job made, and open its pull request."
)
@click.option("--dry-run", is_flag=True, help="Do all but write: no branch, no pull request, no record.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def command(
    bad: str,
    good: str | None,
    junit: tuple[str, ...],
    results: tuple[str, ...],
    tests: tuple[str, ...],
    agents: tuple[str, ...],
    attempts: int | None,
    forge: str,
    publish: str | None,
    dry_run: bool,
    form: str,
) -> int:
    """Find out why a commit is red and propose a repair: a deterministic fix, an agent's attempt, or a revert.

    Exit code 0: a proposal was made, or nothing is broken; 1: it is broken and no repair could be verified.
    """
    from greenline.ci.repair import pipeline
    from greenline.ci.repair.start import Wanted, publish_only, start

    if publish:
        pull = publish_only(publish, os.environ)
        click.echo(f"pull request {pull.number} {pull.state}", err=True)
        print(pull.url)
        return 0
    wanted = Wanted(bad, good, junit, results, tests, agents, attempts, forge, dry_run)
    report = start(wanted, os.environ, lambda line: click.echo(f"greenline: {line}", err=True))
    if form == "json":
        print(json.dumps(pipeline.report_json(report), indent=1))
    else:
        sys.stdout.write(text_of(report))
    sys.stdout.flush()
    click.echo(summary(report), err=True)
    return 0 if report.fine else NOT_REPAIRED


def text_of(report: Report) -> str:
    """The answer for people: one part for each breakage."""
    return "".join(f"{_part(outcome)}\n" for outcome in report.outcomes)


def _part(outcome: Outcome) -> str:
    breakage = outcome.breakage
    lines = [f"{outcome.status}: {', '.join(breakage.tests[:3])}" + (" …" if len(breakage.tests) > 3 else "")]
    fails, runs = breakage.counts.bad
    good_fails, good_runs = breakage.counts.good
    lines.append(f"  {breakage.kind}; failed {fails} of {runs} runs at {breakage.bad[:12]}")
    if breakage.good:
        lines[-1] += f", {good_fails} of {good_runs} at {breakage.good[:12]}"
    if breakage.culprit:
        suspect, certainty = breakage.culprit
        lines.append(
            f"  culprit {suspect.commit[:12]} ({suspect.title}), {certainty:.1%} sure, {plural(breakage.runs, 'run')}"
        )
    if outcome.cause.sentence:
        lines.append(f"  {outcome.cause.sentence}")
    for judged in outcome.judged:
        verdict = "; ".join(judged.refused) or f"verified: {plural(judged.passed, 'test')} passed"
        lines.append(f"  candidate {judged.candidate.name}: {verdict}")
    if outcome.why:
        lines.append(f"  {outcome.why}")
    if outcome.branch:
        lines.append(f"  branch {outcome.branch}")
    if outcome.url:
        lines.append(f"  pull request {outcome.url}")
    return "\n".join(lines)


def summary(report: Report) -> str:
    """The one line on stderr."""
    if report.trouble:
        return f"nothing can be told: {report.trouble}"
    if not report.outcomes:
        return f"nothing is broken at {report.bad[:12]}; {report.seconds:.1f} s"
    counts: dict[str, int] = {}
    for outcome in report.outcomes:
        counts[outcome.status] = counts.get(outcome.status, 0) + 1
    probes = len(report.found.probes) if report.found else 0
    told = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return f"{told}; {plural(probes, 'run')} of tests; {report.seconds:.1f} s"
