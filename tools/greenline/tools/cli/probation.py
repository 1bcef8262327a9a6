"""``greenline test --shadow`` and ``--sample``: run more than is selected, and keep score."""

from __future__ import annotations

import os
import sys
import tempfile

from greenline.ci import scores, shadow
from greenline.ci.affected import SWITCH, Answer, Request, affected
from greenline.ci.evidence.ingest import ingest
from greenline.ci.execution.local import call_of, execute, has_guest, runs_of
from greenline.ci.execution.pytest_codes import worst
from greenline.ci.store import NoStore, may_write, open_store
from greenline.depgraph import config as configuration
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.wording import plural
from greenline.depgraph.workspace import Workspace


def run(workspace: Workspace, answer: Answer, request: Request, pytest_args: tuple[str, ...], sample: int) -> int:
    """Run everything, or with ``sample`` the answer and so many other tests; pytest's exit code."""
    config = configuration.load(workspace.root, workspace.cache)
    before = shadow.known_tests(workspace, config)
    commit = workspace.resolve(request.head or "HEAD") or ""
    if sample:
        wanted = shadow.joined(answer, shadow.sample_of(answer, before, sample, commit))
    else:
        _say("a shadow run: every test runs")
        wanted = affected(request=request._replace(mode="static"), environment={**os.environ, SWITCH: "off"})
    with tempfile.TemporaryDirectory(prefix="greenline-") as scratch:
        records = os.path.join(scratch, "records")
        codes = []
        for each in runs_of(wanted, config):
            if not has_guest(each.command, os.path.join(wanted.root, each.root)):
                raise GreenlineError(
                    f"suite {each.suite} cannot be scored: its pytest has no pytest-greenline",
                    "install pytest-greenline where the suite's tests run",
                )
            codes.append(execute(call_of(each, wanted, [f"--greenline-record={records}", *pytest_args], scratch)))
        if os.path.isdir(records):
            _score(workspace, config, shadow.scores(records, answer, before, "sample" if sample else "shadow", commit))
            if may_write(workspace, config):
                ingest(workspace, config, records)
    return worst(codes)


def _score(workspace: Workspace, config: configuration.Config, found: list[scores.Score]) -> None:
    for each in found:
        saved = (each.seconds - each.selected_seconds) / 60
        _say(
            f"suite {each.suite}: selection takes {each.selected:,} of {plural(each.tests, 'test')}, saves"
            f" {saved:,.1f} minutes of them, and misses {len(each.missed):,} of {each.sampled:,}"
            " that it leaves out and that ran"
        )
        for test, cause in each.missed.items():
            _say(f"  missed {test}: {cause}")
    try:
        if not may_write(workspace, config):
            _say("the score is not kept: this run may not write into the store")
            return
        engine = open_store(workspace, config)
        scores.keep(engine, found)
        for each_ledger in scores.ledger(scores.kept(engine, "shadow")):
            if each_ledger.ready and any(each.source == "shadow" for each in found):
                _say(
                    f"suite {each_ledger.suite}: {each_ledger.clean} shadow runs in a row without a miss; selection can"
                    " be switched on: call greenline test without --shadow"
                )
    except NoStore as error:
        _say(f"the score is not kept: {error.message}")


def _say(text: str) -> None:
    print(f"greenline: {text}", file=sys.stderr, flush=True)
