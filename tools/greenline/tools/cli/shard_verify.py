"""``greenline shard verify``: the gate that proves from the results that every planned test ran exactly once."""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable

import click

from greenline.ci.execution import result_files
from greenline.ci.execution.parts import digest
from greenline.ci.execution.shard import usual_results
from greenline.ci.sharding import plan_file
from greenline.ci.sharding.plan_file import Plan
from greenline.ci.sharding.verify import LOST, MISSING, SILENT, SKIPPED, Verdict, verify
from greenline.depgraph import config as configuration
from greenline.depgraph.wording import plural
from greenline.depgraph.workspace import NotARepository, find, root_of

MOST_TOLD = 50
"""Problems that are printed; JSON has all."""
_MAY_COME = (LOST, SILENT, MISSING)
_PAUSE = 5.0


@click.command("verify")
@click.option("--plan", "plan_path", metavar="FILE", required=True, help="The plan, as JSON.")
@click.option("--variant", "variants", metavar="NAME", multiple=True, help="A variant that must be there; repeatable.")
@click.option("--wait", metavar="SECONDS", type=float, default=0, help="Wait this long for shards that still run.")
@click.option("--allow-skips", is_flag=True, help="A skip is fine where the test has run before.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.argument("results", metavar="[RESULTS...]", nargs=-1)
def command(
    plan_path: str,
    variants: tuple[str, ...],
    wait: float,
    allow_skips: bool,
    form: str,
    results: tuple[str, ...],
) -> int:
    """Prove that every test of a plan has exactly one accepted result per suite and variant.

    RESULTS are the files that `greenline shard run` recorded, or folders with them; without any, where it records
    unless told. Make it one job that always
    runs, and require that one. The exit code is 0 for a proven green run, 1 for one that is red or not proven.
    """
    plan = plan_file.read(plan_path)
    results = results or ((usual_results(root_of(), digest(plan)),) if plan.shards else ())
    end = time.monotonic() + wait
    verdict = _verdict(plan, results, variants)
    while any(each.kind in _MAY_COME for each in verdict.problems) and time.monotonic() < end:
        time.sleep(min(wait, _PAUSE))
        verdict = _verdict(plan, results, variants)
    if allow_skips:
        verdict = verdict._replace(problems=[each for each in verdict.problems if each.kind != SKIPPED])
    print(_json(plan, verdict) if form == "json" else _text(verdict))
    total = sum(verdict.counts.values())
    told = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(verdict.counts.items())) or "no result"
    state = "green" if verdict.green else "red"
    print(
        f"greenline: {state}: {plural(total, 'accepted result')} ({told}); {plural(len(plan.shards), 'shard')}",
        file=sys.stderr,
    )
    return 0 if verdict.green else 1


def _verdict(plan: Plan, results: tuple[str, ...], variants: tuple[str, ...]) -> Verdict:
    streams, junit = result_files.find(results) if plan.shards else ([], [])
    sessions = [session for path in streams for session in result_files.read(path)]
    return verify(plan, sessions, result_files.junit_names(junit), _in_history(plan), variants)


def _in_history(plan: Plan) -> Callable[[str], bool]:
    """Does the store know a run of a test that was no skip? It is asked when the first skip is met."""

    @functools.cache
    def known() -> frozenset[str]:
        from greenline.ci.sharding.history import histories
        from greenline.ci.store import NoStore, open_store

        try:
            workspace = find()
            store = open_store(workspace, configuration.load(workspace.root, workspace.cache))
        except (NoStore, NotARepository):
            return frozenset()
        found = histories(store, variant=plan.variant or None)
        return frozenset(each.test for each in found if each.passed + each.failed + each.flaky)

    return lambda test: test in known()


def _text(verdict: Verdict) -> str:
    lines = []
    for problem in verdict.problems[:MOST_TOLD]:
        lines += [f"{problem.kind}: {problem.what}", f"  {problem.todo}"]
    if len(verdict.problems) > MOST_TOLD:
        lines.append(f"and {len(verdict.problems) - MOST_TOLD:,} more problems: --format json has all")
    lines += [f"note: {note}" for note in verdict.notes[:MOST_TOLD]]
    if len(verdict.notes) > MOST_TOLD:
        lines.append(f"and {len(verdict.notes) - MOST_TOLD:,} more notes: --format json has all")
    return "\n".join([*lines, "green" if verdict.green else "red"])


def _json(plan: Plan, verdict: Verdict) -> str:
    said = {
        "version": 1,
        "green": verdict.green,
        "commit": plan.commit,
        "shards": len(plan.shards),
        "counts": dict(sorted(verdict.counts.items())),
        "problems": [problem._asdict() for problem in verdict.problems],
        "notes": verdict.notes,
    }
    return json.dumps(said, indent=1)
