"""``greenline audit``: what selection would have missed and saved."""

from __future__ import annotations

import json
import sys
import time

import click

from greenline.ci import scores
from greenline.ci.audit import Replay, Step, history
from greenline.ci.store import open_store
from greenline.depgraph import config as configuration
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.wording import plural
from greenline.depgraph.workspace import find


@click.command("audit")
@click.option("--commits", type=click.IntRange(min=1), default=20, show_default=True, help="How many to replay.")
@click.option("--until", metavar="REF", default="HEAD", help="The last of them.")
@click.option("--sample", type=click.IntRange(min=0), default=10, show_default=True,
              help="Unselected tests to run at each commit.")  # fmt: skip
@click.option("--python", metavar="PATH", help="The interpreter with the suite's requirements.")
@click.option("--ledger", "only_ledger", is_flag=True, help="Replay nothing: sum up what shadow runs and audits kept.")
@click.option("--price", type=click.FloatRange(min=0), help="What an hour of a machine costs: savings in money too.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="json: see docs.")
def command(
    commits: int, until: str, sample: int, python: str | None, only_ledger: bool, price: float | None, form: str
) -> int:
    """Replay past commits with selection and say what it would have missed and saved.

    A clone starts at the oldest commit with every test recorded, and from there on runs and records only what is
    selected. Exit code 1: something was missed.
    """
    workspace = find()
    config = configuration.load(workspace.root, workspace.cache)
    engine = open_store(workspace, config)
    if only_ledger:
        kept = scores.kept(engine)
        if not kept:
            raise GreenlineError(
                "the ledger is empty", "greenline test --shadow in CI, or greenline audit, gives it its first lines"
            )
        ledgers = scores.ledger(kept, price)
        print(json.dumps(scores.as_json(ledgers), indent=1) if form == "json" else _text(ledgers))
        return 0
    replay = Replay(workspace, python, sample)
    found = []
    try:
        for step in replay.steps(history(workspace, commits, until), _working):
            found.append(_score(step))
            _tell(step)
    finally:
        replay.close()
    scores.keep(engine, found)
    ledgers = scores.ledger(found, price)
    print(json.dumps(scores.as_json(ledgers), indent=1) if form == "json" else _text(ledgers))
    return 1 if any(each.missed for each in ledgers) else 0


def _score(step: Step) -> scores.Score:
    looked_at = step.sampled + len(step.flipped)
    return scores.Score(
        "all", "replay", step.commit, time.time(), step.tests, step.selected, step.seconds, step.selected_seconds,
        looked_at, step.missed,
    )  # fmt: skip


def _working(what: str) -> None:
    """On a terminal, a line that the next one overwrites."""
    if sys.stderr.isatty():
        print(f"greenline: {what}\033[K", end="\r", file=sys.stderr, flush=True)


def _tell(step: Step) -> None:
    def share(count: int) -> str:
        return f"{100 * count / max(1, step.tests):5.1f} %"

    line = f"{step.commit[:10]} {step.tests:6,} tests; selected {share(step.selected)}, static {share(step.static)}"
    line += f"; {100 * step.share:.0f} % by evidence; {len(step.flipped)} flipped, {len(step.missed)} missed"
    print(line, file=sys.stderr, flush=True)
    for test, cause in sorted(step.missed.items()):
        print(f"  missed {test}: {cause}", file=sys.stderr, flush=True)


def _text(ledgers: list[scores.Ledger]) -> str:
    lines = []
    for each in ledgers:
        share = 100 * each.selected / max(1, each.tests)
        lines.append(
            f"suite {each.suite}: {plural(each.builds, 'build')},"
            f" {share:.1f} % of {plural(each.tests, 'test')} selected"
        )
        money = f", {each.saved_money:,.2f} in money" if each.saved_money is not None else ""
        lines.append(f"  saved {each.saved_seconds / 60:,.1f} minutes of tests{money}")
        lines.append(
            f"  missed {len(each.missed):,} of {plural(each.sampled, 'test')} looked at: escape rate"
            f" {100 * each.rate:.2f} %, with 95 % confidence {100 * each.low:.2f} to {100 * each.high:.2f} %"
        )
        lines += [f"  missed {commit[:10]} {test}: {cause}" for commit, test, cause in each.missed]
        if each.ready:
            lines.append(f"  {plural(each.clean, 'build')} in a row without a miss: selection can be switched on")
    return "\n".join(lines)
