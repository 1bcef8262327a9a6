"""From what the caller wants to a run of the pipeline: commits, reports of CI, settings and store are found here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from greenline.ci.breakage import failures
from greenline.ci.breakage.investigate import Question
from greenline.ci.environment import LAST_GREEN, no_commit
from greenline.ci.forges import plain_git
from greenline.ci.repair import pipeline
from greenline.ci.repair.pipeline import Job, Outcome, Report
from greenline.ci.repair.scrub import scrub, secrets_of
from greenline.ci.repair.settings import SWITCH, settings_of
from greenline.depgraph import config as configuration
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.workspace import Workspace, find

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from greenline.ci.forges.github import Pull
    from greenline.ci.repair.agents.settings import Agent
    from greenline.ci.repair.sandbox.sandbox import Sandbox

_TIMES_MOVED = 3


class Wanted(NamedTuple):
    """What the caller asks for, as the command line gives it."""

    bad: str = "HEAD"
    good: str | None = None
    junit: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    attempts: int | None = None
    forge: str = "git"
    dry_run: bool = False


def start(
    wanted: Wanted, environment: Mapping[str, str], tell: Callable[[str], None], folder: str | None = None
) -> Report:
    """Repair; when the branch that ``bad`` names has moved meanwhile, once more at its new head.

    Raises GreenlineError for what only the user can mend.
    """
    workspace = find(folder)
    config = configuration.load(workspace.root, workspace.cache)
    settings = settings_of(config, environment)
    bad = _commit(workspace, "--bad", wanted.bad)
    if not settings.enabled:
        tell("repair is switched off")
        return Report(bad, (), None, "", 0.0)
    if workspace.git("for-each-ref", "--format=%(refname)", f"--points-at={bad}", f"refs/heads/{plain_git.PREFIX}"):
        tell("this commit is a proposal of Greenline itself: it is left to people")
        return Report(bad, (), None, "", 0.0)
    question = Question(bad, _good(workspace, wanted, bad), _tests(workspace, wanted, bad))
    if (wanted.junit or wanted.results) and not question.tests:
        tell("no test failed in these reports, so nothing is broken")
        return Report(bad, (), None, "", 0.0)
    job = Job(
        workspace,
        config,
        settings,
        question,
        wanted.dry_run,
        _store(workspace, config, environment, tell, wanted.dry_run),
        _agents(settings.rooms.get("agents", ()), wanted),
        lambda: _sandbox(settings.rooms.get("sandbox", {})),
        tell,
        environment,
    )
    forge = _forge(job, wanted.forge)
    report = pipeline.repair(job, forge)
    for _ in range(_TIMES_MOVED):
        head = workspace.resolve(wanted.bad)
        if head is None or head == report.bad or wanted.dry_run:
            break
        tell(f"{wanted.bad} has moved to {head[:12]} meanwhile: looking again there")
        job = job._replace(question=question._replace(bad=head))
        report = pipeline.repair(job, forge)
    if not wanted.dry_run:
        _afterwards(job, wanted, report)
    return report


def _commit(workspace: Workspace, option: str, ref: str) -> str:
    commit = workspace.resolve(ref)
    if commit is None:
        raise no_commit(workspace, f"{option}: ", ref)
    return commit


def _good(workspace: Workspace, wanted: Wanted, bad: str) -> str | None:
    """The commit to measure from: the caller's, else the last one recorded green if it is an ancestor."""
    if wanted.good is not None:
        good = _commit(workspace, "--good", wanted.good)
        base = workspace.merge_base(good, bad)
        if base is None:
            raise GreenlineError(f"--good: {wanted.good} shares no history with {wanted.bad}", "name an older commit")
        if base == bad:
            raise GreenlineError(f"--good: {wanted.good} is not before {wanted.bad}", "name an older commit")
        return base
    recorded = workspace.resolve(LAST_GREEN)
    return recorded if recorded and recorded != bad and workspace.merge_base(recorded, bad) == recorded else None


def _tests(workspace: Workspace, wanted: Wanted, bad: str) -> tuple[str, ...]:
    """The failing tests that the caller and the reports name."""
    paths = [entry.path for entry in workspace.entries(bad)]
    told = [*wanted.tests]
    for test in told:
        if test.partition("::")[0] not in paths:
            raise GreenlineError(
                f"--test: {test}: there is no such file at {wanted.bad}", "write path/to/test.py::test"
            )
    if wanted.junit:
        told += failures.read_junit(wanted.junit, paths).failed
    if wanted.results:
        told += failures.read_stream(wanted.results).failed
    return tuple(sorted(set(told)))


def _store(
    workspace: Workspace,
    config: configuration.Config,
    environment: Mapping[str, str],
    tell: Callable[[str], None],
    dry: bool,
) -> Engine | None:
    from greenline.ci import store

    if dry:
        return None
    try:
        if not store.may_write(workspace, config, environment):
            tell("this run may not write into the store, so it takes no lease and keeps no record")
            return None
        return store.open_store(workspace, config, environment)
    except store.NoStore as error:
        tell(f"no records, and no lease against a second run: {error.message}")
        return None


def _agents(declared: tuple[Mapping[str, object], ...], wanted: Wanted) -> tuple[Agent, ...]:
    """The agents that the caller names: of greenline.yaml, or one of the known kinds with its defaults."""
    from greenline.ci.repair.agents.settings import agents_of

    if not wanted.agents:
        chosen = agents_of(declared)
    else:
        named = {str(item["name"]): item for item in declared}
        unknown = [name for name in wanted.agents if name not in named and name not in ("codex", "claude")]
        if unknown:
            raise GreenlineError(
                f"--agent: there is no agent {unknown[0]!r}",
                "codex and claude are built in; name others under repair.agents in greenline.yaml",
            )
        chosen = agents_of([named.get(name, {"name": name, "kind": name}) for name in wanted.agents])
    return tuple(agent._replace(attempts=wanted.attempts or agent.attempts) for agent in chosen)


def _sandbox(values: Mapping[str, object]) -> Sandbox:
    from greenline.ci.repair.sandbox.sandbox import open_sandbox, settings_of

    return open_sandbox(settings_of(values))


def _forge(job: Job, name: str) -> pipeline.Announce:
    """What becomes of a branch: nothing more, or a pull request."""
    if name == "git":
        return lambda outcome: outcome
    from greenline.ci.repair.publish import publish

    if not job.dry_run:
        plain_git.fetch(job.workspace, job.config.base.remote or "origin")

    def announce(outcome: Outcome) -> Outcome:
        pull = publish(job.workspace, job.config, outcome.branch, job.environment).pull
        job.tell(f"pull request {pull.number} {pull.state}")
        if pull.state == "declined":
            return outcome._replace(url=pull.url, status=pipeline.ALREADY, why="a person closed its pull request")
        return outcome._replace(url=pull.url)

    return announce


def _afterwards(job: Job, wanted: Wanted, report: Report) -> None:
    """Close what main does not need any more, and tell the team."""
    if wanted.forge == "github" and report.found and not report.trouble and not job.question.tests:
        from greenline.ci.repair.publish import close_recovered

        broken = [outcome for outcome in report.outcomes if outcome.status != pipeline.NO_BREAK]
        prints = {failure.fingerprint for outcome in broken for failure in outcome.breakage.failures}
        for number in close_recovered(job.environment, {plain_git.branch_of(each) for each in prints}):
            job.tell(f"pull request {number} closed: main passes without it")
    url = job.environment.get(job.settings.rooms.get("slack_url", ""), "")
    if url and report.outcomes:
        from greenline.ci.forges.slack import send

        problem = send(url, scrub("\n".join(map(_line, report.outcomes)), secrets_of(job.environment), 3000))
        if problem:
            job.tell(problem)


def _line(outcome: Outcome) -> str:
    where = outcome.url or outcome.branch
    return f"main: {outcome.status}: {outcome.breakage.tests[0]}" + (f" ({where})" if where else f" ({outcome.why})")


def publish_only(branch: str, environment: Mapping[str, str], folder: str | None = None) -> Pull:
    """Push a branch that an earlier job made, and open its pull request."""
    from greenline.ci.repair.publish import publish

    workspace = find(folder)
    config = configuration.load(workspace.root, workspace.cache)
    if not settings_of(config, environment).enabled:
        raise GreenlineError("repair is switched off, so nothing is published", f"see {SWITCH}, or repair.enabled")
    return publish(workspace, config, branch, environment).pull
