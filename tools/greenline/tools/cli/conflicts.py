"""``greenline conflicts``: which of these branches break together."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from greenline.ci.queue import BREAKS, Pair, Queue, judge
from greenline.depgraph import config as configuration
from greenline.depgraph.wording import plural
from greenline.depgraph.workspace import find
from greenline.rules.conflicts.report import Conflict
from greenline.rules.findings import Place
from greenline.tools.report.text import spot

FAILED = 1


@click.command("conflicts")
@click.argument("branches", metavar="BRANCH…", nargs=-1, required=True)
@click.option("--base", metavar="REF", help="Where the branches start; default: where they left the default branch.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="json: see docs/.")
def command(branches: tuple[str, ...], base: str | None, form: str) -> int:
    """Tell which of these branches break together.

    Each BRANCH is held against what the default branch has gained since it left it, and against each other one.
    Exit code 1: some would break together.
    """
    workspace = find()
    queue = judge(workspace, configuration.load(workspace.root, workspace.cache), branches, base)
    if form == "json":
        print(json.dumps(as_json(queue), indent=1))
    else:
        _print(queue)
    sys.stdout.flush()
    broken = sum(pair.verdict == BREAKS for pair in queue.pairs)
    print(
        f"{broken} of {plural(len(queue.pairs), 'pair')} break{'s' * (broken == 1)};"
        f" target {queue.target[0]} {queue.target[1][:7]}",
        file=sys.stderr,
    )
    for warning in queue.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return FAILED if broken else 0


def _print(queue: Queue) -> None:
    for pair in queue.pairs:
        joint = f" ({plural(len(pair.shared), 'test file')})" if pair.shared and pair.verdict != BREAKS else ""
        print(f"{pair.ours} + {pair.theirs}: {pair.verdict}{joint}")
        for conflict in pair.conflicts:
            where = conflict.finding.place
            print(f"  {spot(where._replace(commit=''))}: {conflict.finding.message}")
            for name, place in ((pair.ours, conflict.ours), (pair.theirs, conflict.theirs)):
                print(f"    {name} {place.commit[:7]} {spot(place._replace(commit=''))}")
            if conflict.finding.hint:
                print(f"    fix: {conflict.finding.hint}")


def as_json(queue: Queue) -> dict[str, Any]:
    """The answer as docs/conflicts.schema.json describes it."""
    return {
        "version": 1,
        "complete": queue.complete,
        "target": {"name": queue.target[0], "commit": queue.target[1]},
        "branches": [
            {"name": one.name, "commit": one.commit, "base": one.base, "tests": len(one.tests)}
            for one in queue.branches
        ],
        "pairs": [_pair(pair) for pair in queue.pairs],
        "warnings": queue.warnings,
    }


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "branches": [pair.ours, pair.theirs],
        "verdict": pair.verdict,
        "joint_tests": list(pair.shared),
        "conflicts": [_conflict(pair, conflict) for conflict in pair.conflicts],
    }


def _conflict(pair: Pair, conflict: Conflict) -> dict[str, Any]:
    finding, fix = conflict.finding, conflict.fix
    return {
        "class": conflict.number,
        "rule": finding.rule,
        "path": finding.place.path,
        "line": finding.place.line,
        "message": finding.message,
        "hint": finding.hint,
        "warning": finding.warning,
        "fingerprint": finding.fingerprint,
        "places": [_place(pair.ours, conflict.ours), _place(pair.theirs, conflict.theirs)],
        "fix": None if fix is None else {"kind": fix.kind, "what": str(fix), "path": fix.path, "line": fix.line},
    }


def _place(branch: str, place: Place) -> dict[str, Any]:
    return {"branch": branch, "commit": place.commit, "path": place.path, "line": place.line}
