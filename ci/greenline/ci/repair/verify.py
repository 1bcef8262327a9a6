"""Candidates are compared, not trusted: policy, then tests, in a clean checkout that trusted code made.

The diff is all that counts of a candidate. It is judged as bytes, imported into a clean clone, and must then be just
the tree that was judged. The failing tests must all run and pass there, twice, and whatever else the change can affect
must not have become worse. Code that an agent wrote runs in the sandbox or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from greenline.ci.breakage.checkouts import Checkouts
from greenline.ci.breakage.investigate import Breakage
from greenline.ci.breakage.probe import Probe, Run
from greenline.ci.breakage.prober import Prober
from greenline.ci.breakage.processes import Finished, Runner
from greenline.ci.repair import clones, policy
from greenline.ci.repair.candidates import STILL_RED, Candidate, Judged
from greenline.ci.repair.sandbox.interpreters import readable_of
from greenline.ci.repair.sandbox.sandbox import Sandbox
from greenline.ci.repair.scrub import secrets_of
from greenline.ci.selection.select import select
from greenline.depgraph.config import Config
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.index import open_change
from greenline.depgraph.workspace import Workspace

TIMES = 2
"""How often the failing tests must pass."""


class Bench(NamedTuple):
    """What candidates of one run are verified with. ``sandbox``: None: code of agents cannot be run here, for the
    reason in ``no_sandbox``; ``before``: what the tests did at bad."""

    workspace: Workspace
    config: Config
    checkouts: Checkouts
    prober: Prober
    before: Run
    policy: policy.Settings
    sandbox: Sandbox | None = None
    no_sandbox: str = ""
    environment: Mapping[str, str] = os.environ


def judge(bench: Bench, breakage: Breakage, candidate: Candidate) -> Judged:
    """Everything that trusted code can say of a candidate. Refused ones are kept, with the reason."""
    if not candidate.diff:
        return Judged(candidate, (f"nothing: {candidate.notes or 'there is no diff'}",))
    verdict = policy.judge(candidate.diff, _context(bench, breakage, candidate))
    if verdict.refused:
        return Judged(candidate, verdict.refused, verdict.flags)
    if candidate.maker == "agent" and bench.sandbox is None:
        return Judged(candidate, (f"no-sandbox: {bench.no_sandbox}",), verdict.flags)
    try:
        clone = clones.make(bench.workspace, breakage.bad, bench.checkouts.scratch("clone"))
        tree = clones.import_candidate(clone, candidate.diff, verdict.blobs)
    except clones.Refused as error:
        return Judged(candidate, (f"unreadable: {error}",), verdict.flags)
    commit = bench.checkouts.adopt(clone.git_dir, tree, breakage.bad)
    judged = _test(bench, breakage, candidate, commit)
    return judged._replace(flags=tuple(sorted({*verdict.flags, *judged.flags})), tree=tree)


def _context(bench: Bench, breakage: Breakage, candidate: Candidate) -> policy.Context:
    def before(path: str) -> bytes | None:
        return next(bench.workspace.read_blobs([f"{breakage.bad}:{path}"]))

    excerpt = "\n".join(failure.excerpt for failure in breakage.failures)
    secrets = secrets_of(bench.environment)
    return policy.Context(before, breakage.tests, excerpt, secrets, candidate.maker, bench.policy)


def _test(bench: Bench, breakage: Breakage, candidate: Candidate, commit: str) -> Judged:
    runner = _sandboxed(bench.sandbox, bench.workspace.root) if candidate.maker == "agent" and bench.sandbox else None
    required = _required(bench, breakage, candidate)
    affected, unknown = _affected(bench, breakage, commit)
    files = tuple(dict.fromkeys([*(test.partition("::")[0] for test in breakage.tests), *affected]))
    probes = [(commit, Probe(files))] + [(commit, Probe(breakage.tests))] * (TIMES - 1)
    runs = bench.prober.run_all(probes, f"verify {candidate.name}", runner)
    trouble = next((run.trouble for run in runs if run.trouble), "")
    if trouble:
        return Judged(candidate, (f"tests: {trouble}",))
    wide = runs[0]
    refused = []
    for test in required:
        outcomes = [run.of(test) for run in runs]
        if any(outcome is None for outcome in outcomes):
            refused.append(f"tests: {test} does not run any more")
        elif any(outcome and outcome.state != "passed" for outcome in outcomes):
            refused.append(f"tests: {test} still {'fails' if any(o and o.bad for o in outcomes) else 'is skipped'}")
    bad = {test for test, outcome in wide.outcomes.items() if outcome.bad}
    bad -= {test for test in bad if any(_covers(mine, test) for mine in required)}
    broken, still = _compare(bench, breakage, commit, sorted(bad), runner)
    refused += [f"tests: it breaks {test}" for test in broken]
    if not bad and not refused and any(run.code not in (0, _NO_TESTS) for run in runs):
        refused.append(f"tests: all pass, but pytest ended with code {next(run.code for run in runs if run.code)}")
    flags = [f"{STILL_RED}: {test}" for test in still]
    passed = sum(outcome.state == "passed" for outcome in wide.outcomes.values())
    if not passed and not refused:
        flags.append("unverified: no test is left that it can affect")
    return Judged(candidate, tuple(refused), tuple(flags), passed, len(bad), unknown)


_NO_TESTS = 5


def _covers(wanted: str, test: str) -> bool:
    return test == wanted or test.startswith((f"{wanted}::", f"{wanted}["))


def _required(bench: Bench, breakage: Breakage, candidate: Candidate) -> list[str]:
    """The failing tests that must run and pass: for a revert, those that were there before the culprit."""
    if candidate.maker != "revert" or breakage.culprit is None:
        return list(breakage.tests)
    run = bench.prober.run(breakage.culprit.suspect.parent, Probe(breakage.tests), "which tests the revert must keep")
    return [test for test in breakage.tests if (outcome := run.of(test)) and outcome.state == "passed"]


def _affected(bench: Bench, breakage: Breakage, commit: str) -> tuple[list[str], tuple[str, ...]]:
    """Test files that the change since the last good commit can break, and what is not known of them."""
    here = bench.checkouts.as_workspace(bench.workspace)
    try:
        opened = open_change(here, bench.config, breakage.good or breakage.bad, commit)
        selection = select(opened, bench.config, reasons=False)
    except GreenlineError as error:
        return [], (f"the affected tests: {error.message}",)
    return [test.path for test in selection.tests], tuple(selection.warnings)


def _compare(
    bench: Bench, breakage: Breakage, commit: str, bad: Sequence[str], runner: Runner | None
) -> tuple[list[str], list[str]]:
    """Tests that fail with the candidate: (those that it broke, those that failed before it as well)."""
    if not bad:
        return [], []
    known = {test: bench.before.of(test) for test in bad}
    unknown = tuple(test for test in bad if known[test] is None)
    if unknown:
        run = bench.prober.run(breakage.bad, Probe(unknown), "what failed before the candidate")
        known |= {test: run.of(test) for test in unknown}
    again = bench.prober.run_all([(commit, Probe(tuple(bad)))], "a second look at what fails", runner)[0]
    still = [test for test in bad if (outcome := known[test]) and outcome.bad]
    broken = [test for test in bad if test not in still and (outcome := again.of(test)) and outcome.bad]
    return broken, still


def _sandboxed(sandbox: Sandbox, home: str) -> Runner:
    """Run tests inside of the sandbox: they may write into their checkout, and read their interpreter."""

    def run(
        command: Sequence[str], folder: str, timeout: float, environment: Mapping[str, str], writable: Sequence[str]
    ) -> Finished:
        kept = {name: value for name, value in environment.items() if name in _PASSED or name.startswith("GREENLINE_")}
        readable = readable_of(command[0], home) if os.path.isabs(command[0]) else ()
        done = sandbox.run(command, folder, environment=kept, timeout=timeout, writable=writable, readable=readable)
        return Finished(done.code, done.output, done.seconds)

    return run


_PASSED = ("PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "LANG", "LC_ALL", "TZ", "VIRTUAL_ENV")


def rank(judged: Sequence[Judged], order: Sequence[str]) -> list[Judged]:
    """The best first, refused ones last: nothing else left red, then the policy's order of kinds, then what a person
    must look at, then the smallest diff."""

    def key(one: Judged) -> tuple[object, ...]:
        maker = one.candidate.maker
        place = order.index(maker) if maker in order else len(order)
        left = sum(flag.startswith(STILL_RED) for flag in one.flags)
        return bool(one.refused), left, place, len(one.flags), len(one.candidate.diff), one.candidate.name

    return sorted(judged, key=key)
