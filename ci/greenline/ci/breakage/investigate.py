"""From "main is red" to breakages: reproduced, classified, several failures apart, each with its culprit.

Every number that a proposal will state is measured here: how often the tests failed at bad and at good, each probe
of the search, each posterior. Nothing is blamed without a reproduction.
"""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from greenline.ci.breakage import classify, failures, suspects
from greenline.ci.breakage.classify import Counts
from greenline.ci.breakage.probe import Outcome, Probe, Run
from greenline.ci.breakage.prober import Probed, Prober
from greenline.ci.breakage.search import NONE, Search
from greenline.ci.breakage.suspects import Suspect
from greenline.ci.repair.candidates import Failure
from greenline.depgraph.config import Config
from greenline.depgraph.wording import plural
from greenline.depgraph.workspace import Workspace

RUNS = 3
"""How often a failure is reproduced at each end."""
_MOST_HISTORY = 256
_MOST_RUNS = 96
_MOST_SCOUTS = 3  # tests that stand for their failure in the search
_EXCERPT = 4000


class Culprit(NamedTuple):
    """The suspect that is blamed, and how sure: its posterior."""

    suspect: Suspect
    certainty: float


class Breakage(NamedTuple):
    """Failures with one culprit, or one failure without.

    ``counts``: of the first failure's tests; ``suspects`` and ``posterior`` (of "none", then of each suspect);
    ``notes``: what else was seen, as sentences.
    """

    failures: tuple[Failure, ...]
    kind: str
    good: str | None
    bad: str
    counts: Counts
    culprit: Culprit | None
    suspects: tuple[Suspect, ...]
    posterior: tuple[float, ...]
    runs: int
    notes: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """That of the failure with most tests: the name of the whole breakage."""
        return max(self.failures, key=lambda each: (len(each.tests), each.fingerprint)).fingerprint

    @property
    def tests(self) -> tuple[str, ...]:
        return tuple(sorted({test for each in self.failures for test in each.tests}))


class Found(NamedTuple):
    """``breakages``: also those that are none (flakes); ``probes``: all that were made; ``trouble``: why nothing can be
    told, or ""; ``before``: what every test did at bad in CI's order."""

    breakages: tuple[Breakage, ...]
    probes: tuple[Probed, ...]
    trouble: str
    before: Run


class Question(NamedTuple):
    """``good``: a commit that was green, or None; ``tests``: node ids that failed, () if only a commit is known."""

    bad: str
    good: str | None = None
    tests: tuple[str, ...] = ()


class _Seen(NamedTuple):
    """A failure and its counts. ``company``: files that must be collected with its tests for it to show."""

    fingerprint: str
    tests: tuple[str, ...]
    outcome: Outcome
    counts: Counts
    company: tuple[str, ...] = ()


def investigate(workspace: Workspace, config: Config, prober: Prober, question: Question) -> Found:
    """Reproduce, classify, search. Raises GreenlineError for what only the user can mend."""
    scope = _scope(question)
    prober.tell(f"running {plural(len(scope), 'file') if scope else 'all tests'} at {question.bad[:12]}")
    first = prober.run(question.bad, Probe(scope), "reproduce at bad")
    if first.trouble:
        return Found((), tuple(prober.done), first.trouble, first)
    wanted = question.tests or tuple(first.outcomes)
    failing = {test: outcome for test in wanted if (outcome := first.of(test)) and outcome.bad}
    groups = failures.group(failing)
    passing = tuple(test for test in question.tests if test not in failing)
    breakages = [*_passing(prober, question, passing)]
    if groups:
        breakages += _failing(workspace, config, prober, question, groups, failing, first)
    return Found(tuple(breakages), tuple(prober.done), "", first)


def _scope(question: Question) -> tuple[str, ...] | None:
    """What to run first: the whole files of the named tests, in order, or everything."""
    return tuple(dict.fromkeys(test.partition("::")[0] for test in question.tests)) or None


# -- tests that are said to fail and do not ------------------------------------------------------------------


def _passing(prober: Prober, question: Question, tests: tuple[str, ...]) -> list[Breakage]:
    """Named tests that pass here at bad: they fail in company, or now and then, or only where CI runs."""
    if not tests:
        return []
    whole = prober.run(question.bad, Probe(None), "in CI's order at bad")
    found = []
    for test in tests:
        outcome = whole.of(test)
        if outcome and outcome.bad:
            again = prober.run(question.bad, Probe(None), "in CI's order at bad, again").of(test)
            counts = Counts((0, RUNS - 1), (0, 0), (1 + bool(again and again.bad), 2))
            kind = classify.classify(counts, outcome.message)
            seen = _Seen(failures.fingerprint(test, outcome), (test,), outcome, counts)
            notes = _polluter(prober, question.bad, test, tuple(whole.outcomes)) if kind == classify.ORDER else ()
            found.append(_breakage(seen, kind, question, notes))
        else:
            runs = [prober.run(question.bad, Probe((test,)), "alone at bad") for _ in range(RUNS - 1)]
            fails = _fails(runs, (test,))
            seen = _Seen(
                failures.fingerprint(test, Outcome("failed")), (test,), Outcome("failed"), Counts((fails, RUNS), (0, 0))
            )
            note = f"it passes here at bad: {fails} of {RUNS} runs failed"
            found.append(_breakage(seen, classify.FLAKE, question, (note,)))
    return found


def _polluter(prober: Prober, commit: str, victim: str, order: Sequence[str]) -> tuple[str, ...]:
    """Bisect the tests that ran before the victim: one that makes it fail when only the two run."""
    before = [test for test in order[: order.index(victim)] if test != victim] if victim in order else list(order)
    while len(before) > 1 and not prober.out_of_time:
        half = before[: len(before) // 2]
        other = before[len(before) // 2 :]
        runs = prober.run_all([(commit, Probe((*part, victim))) for part in (half, other)], "find the polluter")
        bad = [part for part, run in zip((half, other), runs, strict=True) if _fails([run], (victim,))]
        if not bad:
            return (f"{victim} fails only after several other tests together",)
        before = bad[0]
    if not before:
        return ()
    return (f"{victim} fails when it runs after {before[0]}, which leaves state behind",)


# -- tests that fail -----------------------------------------------------------------------------------------


def _failing(
    workspace: Workspace,
    config: Config,
    prober: Prober,
    question: Question,
    groups: Mapping[str, tuple[str, ...]],
    failing: Mapping[str, Outcome],
    first: Run,
) -> list[Breakage]:
    tests = {key: each[:_MOST_SCOUTS] for key, each in groups.items()}
    company = {key: _company(failing[groups[key][0]]) for key in groups}
    scouts = tuple(dict.fromkeys([*chain(*company.values()), *sorted(chain(*tests.values()))]))
    good = question.good or _walk_back(workspace, prober, question.bad, scouts, tuple(chain(*tests.values())))
    prober.tell(f"failures: {len(groups)}; reproducing at bad {question.bad[:12]} and good {(good or 'none')[:12]}")
    at = [(question.bad, Probe(scouts))] * (RUNS - 1) + ([(good, Probe(scouts))] * RUNS if good else [])
    runs = prober.run_all(at, "reproduce")
    bad_runs, good_runs = runs[: RUNS - 1], runs[RUNS - 1 :]
    trouble = next((run.trouble for run in runs if run.trouble), "")
    question = question._replace(good=good)
    found: list[Breakage] = []
    breaks: list[_Seen] = []
    for key, scouting in tests.items():
        outcome = failing[groups[key][0]]
        in_order = (1, 1)
        counts = Counts(
            (_fails(bad_runs, scouting), len(bad_runs)), (_fails(good_runs, scouting), len(good_runs)), in_order
        )
        counts = _settle(prober, question, (*company[key], *scouting), scouting, counts)
        if counts.bad[0]:  # it fails alone, so the first run of all is one more reproduction
            counts = counts._replace(bad=(counts.bad[0] + 1, counts.bad[1] + 1))
        seen = _Seen(key, groups[key], outcome, counts, company[key])
        kind, notes = _kind_of(workspace, prober, question, seen, first)
        if kind == classify.BREAK and not trouble and good:
            breaks.append(seen)
            continue
        if trouble:
            kind, notes = classify.ENVIRONMENT, (*notes, trouble)
        elif not good:
            notes = (*notes, "no commit of the last ones is green for these tests")
        found.append(_breakage(seen, kind, question, notes))
    return found + _search(workspace, config, prober, question, breaks)


_MISMATCH = re.compile(r"import file mismatch[\s\S]*has this __file__ attribute:\s+(\S+\.py)")


def _company(outcome: Outcome) -> tuple[str, ...]:
    """The file whose module has the same name: pytest cannot collect both."""
    match = _MISMATCH.search(outcome.text)
    return (match[1],) if match else ()


def _settle(prober: Prober, question: Question, run: tuple[str, ...], tests: tuple[str, ...], counts: Counts) -> Counts:
    """More runs where the first ones disagree: they must tell a flaky test from one that breaks now and then."""
    fails, runs = counts.bad
    if fails in (0, runs) and counts.good[0] in (0, counts.good[1]):
        return counts
    ends = [question.bad] * 4 + ([question.good] * 6 if question.good else [])
    more = prober.run_all([(commit, Probe(run)) for commit in ends], "reproduce, the runs disagree")
    bad, good = more[:4], more[4:]
    return counts._replace(
        bad=(fails + _fails(bad, tests), runs + len(bad)),
        good=(counts.good[0] + _fails(good, tests), counts.good[1] + len(good)),
    )


def _kind_of(
    workspace: Workspace, prober: Prober, question: Question, seen: _Seen, first: Run
) -> tuple[str, tuple[str, ...]]:
    if seen.counts.bad[0] == 0:  # it failed among all tests, and never alone
        again = prober.run(question.bad, Probe(_scope(question)), "in CI's order at bad, again")
        in_order = (1 + bool(_fails([again], seen.tests)), 2)
        kind = classify.classify(seen.counts._replace(in_order=in_order), seen.outcome.message)
        notes = _polluter(prober, question.bad, seen.tests[0], tuple(first.outcomes)) if kind == classify.ORDER else ()
        return kind, notes
    bomb = _time_bomb(workspace, prober, question, seen)
    if bomb:
        return classify.TIME_BOMB, bomb
    module = classify.missing_module(seen.outcome.message)
    missing = bool(module) and not _was_ever_ours(workspace, question.bad, module)
    kind = classify.classify(seen.counts, seen.outcome.message, missing)
    if kind == classify.ENVIRONMENT and missing:
        return kind, (f"a distribution is not installed here: {seen.outcome.message}",)
    if kind == classify.ENVIRONMENT:
        return kind, ("it fails at good as well: is that commit green, and is this machine like CI's?",)
    return kind, ()


def _was_ever_ours(workspace: Workspace, bad: str, module: str) -> bool:
    """Whether the history of a commit has a module or package of this name, in whatever folder."""
    paths = (f":(glob)**/{module}.py", f":(glob)**/{module}/**/*.py")
    return bool(workspace.git("log", "--max-count=1", "--format=%H", bad, "--", *paths).strip())


def _time_bomb(workspace: Workspace, prober: Prober, question: Question, seen: _Seen) -> tuple[str, ...]:
    """A literal date near now in a failing test, and an experiment: does it pass on the day when it was committed?"""
    if seen.counts.bad[0] < seen.counts.bad[1]:
        return ()
    paths = sorted({test.partition("::")[0] for test in seen.tests})
    paths += [seen.outcome.where] if seen.outcome.where and seen.outcome.where not in paths else []
    names = [f"{question.bad}:{path}" for path in paths if not path.startswith(("/", ".."))]
    blobs = workspace.read_blobs(names)
    texts = {
        name.partition(":")[2]: (blob or b"").decode("utf-8", "replace")
        for name, blob in zip(names, blobs, strict=True)
    }
    dates = classify.near_dates(texts, datetime.datetime.now(datetime.UTC).date())
    if not dates:
        return ()
    stamp = workspace.git("log", "-1", "--format=%ct", question.bad, "--", *paths).strip()
    written = int(stamp) if stamp else int(workspace.git("log", "-1", "--format=%ct", question.bad).strip())
    shift = float(written - int(time.time()))
    if shift > -3600:
        return ()
    run = prober.run(question.bad, Probe(seen.tests[:_MOST_SCOUTS], shift), "with the clock of the commit")
    if run.trouble or _fails([run], seen.tests[:_MOST_SCOUTS]):
        return ()
    path, line, date = dates[0]
    when = datetime.datetime.fromtimestamp(written, datetime.UTC).date()
    return (
        f"{path}:{line} holds the date {date}; with the clock set to {when} the tests pass, so no commit is guilty",
    )


def _fails(runs: Sequence[Run], tests: tuple[str, ...]) -> int:
    """In how many runs one of these tests failed."""
    return sum(any((outcome := run.of(test)) is not None and outcome.bad for test in tests) for run in runs)


def _walk_back(
    workspace: Workspace, prober: Prober, bad: str, scope: tuple[str, ...], tests: tuple[str, ...]
) -> str | None:
    """The nearest of main's last commits (1, 2, 4 … back) at which these tests do not fail."""
    listed = workspace.git("rev-list", "--first-parent", f"--max-count={_MOST_HISTORY + 1}", bad).split()
    back = 1
    while back < len(listed) and not prober.out_of_time:
        run = prober.run(listed[back], Probe(scope), f"look for a green commit, {back} before bad")
        if not run.trouble and not _fails([run], tests):
            return listed[back]
        if back == len(listed) - 1:
            break
        back = min(2 * back, len(listed) - 1)
    return None


# -- the culprit ---------------------------------------------------------------------------------------------


def _search(
    workspace: Workspace, config: Config, prober: Prober, question: Question, breaks: Sequence[_Seen]
) -> list[Breakage]:
    """The culprit of each break; breaks with one culprit become one breakage."""
    found = [_search_one(workspace, config, prober, question, seen) for seen in breaks]
    merged: dict[str, Breakage] = {}
    for each in found:
        key = each.culprit.suspect.commit if each.culprit else each.fingerprint
        if key in merged:
            each = merged[key]._replace(failures=(*merged[key].failures, *each.failures))
        merged[key] = each
    return list(merged.values())


def _search_one(workspace: Workspace, config: Config, prober: Prober, question: Question, seen: _Seen) -> Breakage:
    assert question.good
    now = time.monotonic()
    looking = now + (prober.deadline - now) / 4
    prober.tell(f"looking at the commits after {question.good[:12]}")
    found = suspects.find(workspace, config, question.good, question.bad, seen.tests, looking)
    able = [suspect for suspect in found if suspect.prior]
    states = [question.good, *(suspect.commit for suspect in able)]  # the innocent ones change nothing for these tests
    states[-1] = question.bad if able else states[-1]
    tests = seen.tests[:_MOST_SCOUTS]
    search = Search([suspect.prior for suspect in able])
    _take_up(search, 0, seen.counts.good)
    _take_up(search, len(able), seen.counts.bad)
    prober.tell(f"{len(able)} of {plural(len(found), 'commit')} may have broken {tests[0]}")
    while search.verdict().culprit is None and search.runs < _MOST_RUNS and not prober.out_of_time:
        positions = search.next(1 if len(able) == 1 else prober.slots)
        if not positions:
            break
        probe = Probe((*seen.company, *tests))
        runs = prober.run_all([(states[each], probe) for each in positions], f"search for {seen.fingerprint}")
        for position, run in zip(positions, runs, strict=True):
            if run.trouble or _other_reason(run, tests, seen):
                search.close(position)
            else:
                search.see(position, bool(_fails([run], tests)))
    verdict = search.verdict()
    culprit = Culprit(able[verdict.culprit - 1], verdict.certainty) if verdict.culprit else None
    notes = []
    if verdict.culprit == NONE:
        notes.append("no commit of the range is guilty: the test fails for a reason outside of it")
    elif verdict.culprit is None:
        notes.append(
            f"no culprit is certain enough after {plural(search.runs, 'run')};"
            f" the likeliest has {verdict.certainty:.1%}"
        )
    posterior = dict(zip((suspect.commit for suspect in able), search.posterior[1:], strict=True))
    kind = classify.FLAKE if verdict.culprit == NONE else classify.BREAK
    return _breakage(seen, kind, question, tuple(notes))._replace(
        culprit=culprit,
        suspects=tuple(found),
        posterior=(search.posterior[NONE], *(posterior.get(each.commit, 0.0) for each in found)),
        runs=search.runs,
    )


def _take_up(search: Search, position: int, counts: tuple[int, int]) -> None:
    fails, runs = counts
    for number in range(runs):
        search.see(position, number < fails)


def _other_reason(run: Run, tests: tuple[str, ...], seen: _Seen) -> bool:
    """The test fails, but not as it does at bad: this state says nothing about the failure."""
    outcomes = [(test, run.of(test)) for test in tests]
    bad = [(test, outcome) for test, outcome in outcomes if outcome and outcome.bad]
    return bool(bad) and all(failures.fingerprint(test, outcome) != seen.fingerprint for test, outcome in bad)


def _breakage(seen: _Seen, kind: str, question: Question, notes: tuple[str, ...]) -> Breakage:
    failure = Failure(seen.fingerprint, seen.tests, excerpt_of(seen.outcome), kind)
    return Breakage((failure,), kind, question.good, question.bad, seen.counts, None, (), (), 0, notes)


def excerpt_of(outcome: Outcome) -> str:
    """The end of what pytest said, scrubbed and bounded."""
    return outcome.text[-_EXCERPT:]
