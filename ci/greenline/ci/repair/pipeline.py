"""Repair, from end to end: investigate, make candidates, judge them, propose the best, or hand off with the evidence.

Each step can be killed and the whole started again: until the proposal is pushed nothing outside of a temporary folder
has changed, and the push is one compare-and-swap of a branch whose name follows from the failure.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from greenline.ci import main_health
from greenline.ci.breakage import classify, probe
from greenline.ci.breakage.checkouts import EMAIL, Checkouts
from greenline.ci.breakage.investigate import Breakage, Found, Question, investigate
from greenline.ci.breakage.prober import Prober
from greenline.ci.execution.local import interpreter
from greenline.ci.forges import plain_git
from greenline.ci.repair import fixing, policy, proposal, records, verify
from greenline.ci.repair.candidates import STILL_RED, Brief, Candidate, Judged
from greenline.ci.repair.fixing import Cause
from greenline.ci.repair.proposal import Proposal
from greenline.ci.repair.sandbox.interpreters import readable_of
from greenline.ci.repair.scrub import scrub, secrets_of
from greenline.ci.repair.settings import Settings
from greenline.depgraph.config import Config
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.wording import plural
from greenline.depgraph.workspace import Workspace

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from greenline.ci.repair.agents.settings import Agent
    from greenline.ci.repair.sandbox.sandbox import Sandbox

PROPOSED, ALREADY, HANDED_OFF, NO_BREAK = "proposed", "already proposed", "handed off", "no break"
FINE = (PROPOSED, ALREADY, NO_BREAK)


class Outcome(NamedTuple):
    """What became of one breakage. ``judged``: its candidates, the best first; ``branch``, ``commit``: the proposal;
    ``why``: for a hand-off, as a sentence."""

    breakage: Breakage
    status: str
    why: str = ""
    cause: Cause = Cause()
    judged: tuple[Judged, ...] = ()
    branch: str = ""
    commit: str = ""
    url: str = ""


class Report(NamedTuple):
    """``trouble``: why nothing could be told, or ""; ``seconds``: the whole took."""

    bad: str
    outcomes: tuple[Outcome, ...]
    found: Found | None
    trouble: str
    seconds: float

    @property
    def fine(self) -> bool:
        """A proposal was made for all that is broken, or nothing is."""
        return not self.trouble and all(outcome.status in FINE for outcome in self.outcomes)


class Job(NamedTuple):
    """What one run is to do. ``store``: None keeps no records; ``agents``: () for none; ``sandbox``: opens one."""

    workspace: Workspace
    config: Config
    settings: Settings
    question: Question
    dry_run: bool
    store: Engine | None
    agents: tuple[Agent, ...]
    sandbox: Callable[[], Sandbox]
    tell: Callable[[str], None]
    environment: Mapping[str, str] = os.environ


Announce = Callable[[Outcome], Outcome]
"""Told of each outcome that has a branch; a forge opens its pull request here, and may be asked again for the same."""


def repair(job: Job, announce: Announce = lambda outcome: outcome) -> Report:
    """Repair what is broken at a commit."""
    start, detected = time.monotonic(), time.time()
    deadline = start + job.settings.minutes * 60
    with Checkouts(job.workspace) as checkouts:
        settings = probe.Settings(
            job.workspace.root, job.config, job.environment, timeout=job.settings.test_minutes * 60
        )
        prober = Prober(checkouts, settings, job.workspace.cache, deadline, tell=job.tell)
        found = investigate(job.workspace, job.config, prober, job.question)
        known = time.time()
        outcomes = []
        for breakage in found.breakages:
            outcomes.append(_handle(job, checkouts, prober, found, breakage, announce))
            if job.store is not None and not job.dry_run:
                main_health.record_event(job.store, _event(job, outcomes[-1], detected, known))
        found = found._replace(probes=tuple(prober.done))
    return Report(job.question.bad, tuple(outcomes), found, found.trouble, time.monotonic() - start)


def _event(job: Job, outcome: Outcome, detected: float, known: float) -> main_health.Event:
    """The breakage for the record of main's health."""
    breakage = outcome.breakage
    culprit = breakage.culprit.suspect.commit if breakage.culprit else ""
    return main_health.Event(
        breakage.fingerprint,
        breakage.kind,
        breakage.tests,
        breakage.bad,
        culprit,
        float(job.workspace.git("log", "-1", "--format=%ct", culprit)) if culprit else None,
        detected,
        known if culprit else None,
        time.time() if outcome.status == PROPOSED else None,
        None,
        outcome.branch,
    )


def _handle(
    job: Job,
    checkouts: Checkouts,
    prober: Prober,
    found: Found,
    breakage: Breakage,
    announce: Announce,
) -> Outcome:
    breakage = _scrubbed(breakage, secrets_of(job.environment))
    early = _not_to_repair(job, breakage)
    if early:
        return early
    prints = [failure.fingerprint for failure in breakage.failures]
    try:
        with records.Lease(None if job.dry_run else job.store, breakage.fingerprint) as lease:
            waiting = _open_proposal(job, breakage)
            if waiting:
                return waiting if job.dry_run else announce(waiting)
            tried = {attempt.bad for attempt in records.attempts(job.store, prints)}
            if len(tried - {breakage.bad}) >= job.settings.attempts:
                return Outcome(
                    breakage, HANDED_OFF, f"{plural(len(tried), 'run')} tried to repair this failure already"
                )
            outcome = _attempt(job, checkouts, prober, found, breakage)
            if outcome.status == PROPOSED and not job.dry_run:
                lease.check()
                outcome = announce(_to_branch(job, checkouts, _proposal(job, outcome), outcome))
            if not job.dry_run:
                attempt = records.Attempt("", time.time(), breakage.bad, outcome.branch, outcome.status)
                records.remember(job.store, attempt, prints, json.dumps(as_json(outcome)))
            return outcome
    except records.Leased as error:
        return Outcome(breakage, HANDED_OFF, f"another run repairs this failure: {error}")
    except plain_git.Lost as error:
        return _open_proposal(job, breakage) or Outcome(breakage, HANDED_OFF, f"not proposed: {error.message}")


def _scrubbed(breakage: Breakage, secrets: tuple[str, ...]) -> Breakage:
    clean = [each._replace(excerpt=scrub(each.excerpt, secrets, 4000)) for each in breakage.failures]
    return breakage._replace(failures=tuple(clean), notes=tuple(scrub(note, secrets, 1000) for note in breakage.notes))


def _not_to_repair(job: Job, breakage: Breakage) -> Outcome | None:
    """What no candidate can mend: failures that no commit is guilty of, and those without a certain culprit."""
    note = "; ".join(breakage.notes)
    if breakage.kind in (classify.FLAKE, classify.INFRASTRUCTURE):
        return Outcome(breakage, NO_BREAK, note or f"this is no break: {breakage.kind}")
    if breakage.kind != classify.BREAK:
        return Outcome(breakage, HANDED_OFF, note or f"no commit is guilty: {breakage.kind}")
    if breakage.culprit is None:
        return Outcome(breakage, HANDED_OFF, note or "no culprit is certain enough")
    again = fixing.reverted_since(job.workspace, breakage.culprit.suspect.commit, breakage.bad)
    if again:
        return Outcome(breakage, HANDED_OFF, f"the culprit was taken back by {again[:12]} already, and it still fails")
    return None


def _open_proposal(job: Job, breakage: Breakage) -> Outcome | None:
    """The proposal that is there for one of these failures, unless it is ours for an older head: that is updated."""
    for failure in breakage.failures:
        branch = plain_git.branch_of(failure.fingerprint)
        tip = plain_git.tip_anywhere(job.workspace, branch, job.config.base.remote or "origin")
        if tip is None:
            continue
        parent, email = job.workspace.git("log", "-1", "--format=%P%x00%ae", tip).strip().split("\0")
        if parent == breakage.bad or email != EMAIL:
            why = "" if email == EMAIL else "somebody works on the branch: it is left alone"
            return Outcome(breakage, ALREADY, why, branch=branch, commit=tip)
    return None


# -- candidates ----------------------------------------------------------------------------------------------


def _attempt(job: Job, checkouts: Checkouts, prober: Prober, found: Found, breakage: Breakage) -> Outcome:
    """Make candidates, cheapest first, judge them, and choose."""
    order = job.settings.order
    bench = verify.Bench(
        job.workspace,
        job.config,
        checkouts,
        prober,
        found.before,
        policy.settings_of(job.settings.rooms.get("policy", {})),
        environment=job.environment,
    )
    judged: list[Judged] = []
    cause = Cause()
    job.tell("looking for a deterministic fix")
    fixed = fixing.fix(job.workspace, job.config, checkouts, breakage)
    cause = fixed.cause
    if fixed.candidate and "fix" in order:
        judged.append(verify.judge(bench, breakage, fixed.candidate))
    if not _settled(judged, "fix", order):
        judged += _agents_and_revert(job, checkouts, bench, breakage)
    ranked = tuple(verify.rank(judged, order))
    if ranked and not ranked[0].refused:
        return Outcome(breakage, PROPOSED, "", cause, ranked)
    why = "no candidate could be verified" if ranked else "there is no deterministic fix, no agent and no revert"
    return Outcome(breakage, HANDED_OFF, why, cause, ranked)


def _settled(judged: Sequence[Judged], maker: str, order: Sequence[str]) -> bool:
    """Whether a candidate of the first kind passed with nothing left red: no need to look further."""
    return order[:1] == (maker,) and any(
        not one.refused and not any(flag.startswith(STILL_RED) for flag in one.flags) for one in judged
    )


def _agents_and_revert(job: Job, checkouts: Checkouts, bench: verify.Bench, breakage: Breakage) -> list[Judged]:
    """The agents' attempts, and meanwhile the revert."""
    agents = job.agents if "agent" in job.settings.order else ()
    with ThreadPoolExecutor(1) as pool:
        attempts = pool.submit(_agents, job, breakage, agents) if agents else None
        judged = []
        back = fixing.revert(job.workspace, checkouts, breakage) if "revert" in job.settings.order else None
        if back:
            job.tell("verifying a revert of the culprit")
            judged.append(verify.judge(bench, breakage, back))
        if attempts:
            candidates, sandbox, problem = attempts.result()
            bench = bench._replace(sandbox=sandbox, no_sandbox=problem)
            for candidate in candidates:
                job.tell(f"verifying {candidate.name}")
                judged.append(verify.judge(bench, breakage, candidate))
    return judged


def _agents(job: Job, breakage: Breakage, agents: Sequence[Agent]) -> tuple[list[Candidate], Sandbox | None, str]:
    """The agents' candidates. Without isolation none is started: there is no weaker mode."""
    from greenline.ci.repair.agents.attempts import Surroundings, attempt_all

    job.tell(f"{plural(sum(agent.attempts for agent in agents), 'attempt')} by agents")
    try:
        sandbox = job.sandbox()
        python = interpreter(job.workspace.root, "", job.environment)
        path = os.pathsep.join([os.path.dirname(python), "/usr/local/bin", "/usr/bin", "/bin"])
        around = Surroundings(readable_of(python, job.workspace.root), {"PATH": path})
        made = attempt_all(brief_of(job, breakage), job.workspace, agents, sandbox, around, job.environment)
        return made, sandbox, ""
    except GreenlineError as error:
        notes = error.message + (f" ({error.hint})" if error.hint else "")
        return [Candidate(f"agent:{agent.name}#1", b"", notes=notes) for agent in agents], None, notes


def brief_of(job: Job, breakage: Breakage) -> Brief:
    """What agents are told: bounded, scrubbed."""
    assert breakage.culprit and breakage.good
    secrets = secrets_of(job.environment)
    suspect = breakage.culprit.suspect
    diff = job.workspace.git("diff", "--no-color", "--no-ext-diff", f"{suspect.parent}..{suspect.commit}")
    return Brief(
        breakage.good,
        breakage.bad,
        (suspect.commit,),
        breakage.failures,
        scrub(diff, secrets, 24_000),
        tuple(sorted({test.partition("::")[0] for test in breakage.tests})),
        proposal.reproduce(breakage),
    )


# -- the proposal --------------------------------------------------------------------------------------------


def _proposal(job: Job, outcome: Outcome) -> Proposal:
    breakage = outcome.breakage
    assert breakage.culprit
    changed = _paths(outcome.judged[0].candidate.diff)
    return Proposal(
        breakage,
        outcome.cause,
        outcome.judged,
        secrets_of(job.environment),
        proposal.owners(job.workspace, breakage.bad, changed),
        fixing.revert_command(job.workspace, breakage.culprit.suspect.commit),
        job.settings.opt_out,
    )


def _paths(diff: bytes) -> list[str]:
    found = {line[6:].decode("utf-8", "replace") for line in diff.split(b"\n") if line[:6] in (b"+++ b/", b"--- a/")}
    return sorted(found)


def _build(checkouts: Checkouts, made: Proposal) -> str:
    """The proposal's commit on top of the broken head: the verified tree and the text, nothing else."""
    candidate = checkouts.commit(made.chosen.tree, made.breakage.bad, "candidate")
    checkout = checkouts.open(candidate)
    path = proposal.path_of(made.breakage.fingerprint)
    target = os.path.join(checkout.folder, path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "w", encoding="utf-8", errors="replace") as file:
        file.write(proposal.body(made))
    checkout.repo.git.add("--force", "--", path)
    tree = str(checkout.repo.git.write_tree())
    return checkouts.commit(tree, made.breakage.bad, proposal.commit_message(made))


def _to_branch(job: Job, checkouts: Checkouts, made: Proposal, outcome: Outcome) -> Outcome:
    """Propose as a branch of the repository itself."""
    branch = plain_git.branch_of(made.breakage.fingerprint)
    commit = _build(checkouts, made)
    expected = plain_git.tip(job.workspace, branch)
    job.tell(f"writing the branch {branch}")
    plain_git.push(checkouts.repo, job.workspace.root, branch, commit, expected)
    return outcome._replace(branch=branch, commit=commit)


# -- the report ----------------------------------------------------------------------------------------------


def as_json(outcome: Outcome) -> dict[str, Any]:
    """One breakage as docs/repair.schema.json describes it."""
    breakage = outcome.breakage
    culprit = breakage.culprit
    return {
        "fingerprint": breakage.fingerprint,
        "kind": breakage.kind,
        "status": outcome.status,
        "why": outcome.why,
        "good": breakage.good,
        "bad": breakage.bad,
        "tests": list(breakage.tests),
        "failures": [each._asdict() for each in breakage.failures],
        "counts": {"bad": breakage.counts.bad, "good": breakage.counts.good, "in_order": breakage.counts.in_order},
        "culprit": culprit
        and {"commit": culprit.suspect.commit, "title": culprit.suspect.title, "certainty": culprit.certainty},
        "no_culprit": breakage.posterior[0] if breakage.posterior else None,
        "suspects": [
            {**suspect._asdict(), "posterior": share}
            for suspect, share in zip(breakage.suspects, breakage.posterior[1:], strict=True)
        ],
        "runs": breakage.runs,
        "notes": list(breakage.notes),
        "cause": {"sentence": outcome.cause.sentence, "commits": [commit for commit, _ in outcome.cause.commits]},
        "candidates": [proposal.as_json(each) for each in outcome.judged],
        "chosen": outcome.judged[0].candidate.name if outcome.status == PROPOSED else None,
        "branch": outcome.branch or None,
        "commit": outcome.commit or None,
        "url": outcome.url or None,
    }


def report_json(report: Report) -> dict[str, Any]:
    return {
        "version": 1,
        "bad": report.bad,
        "fine": report.fine,
        "trouble": report.trouble,
        "seconds": round(report.seconds, 2),
        "breakages": [as_json(outcome) for outcome in report.outcomes],
        "probes": [each._asdict() for each in report.found.probes] if report.found else [],
    }
