"""The gate: prove from what the shards recorded that every selected test has exactly one accepted result.

Accepted is the last result of the last attempt of the shard that the test belongs to; earlier ones are kept and told.
What is not proven is a problem: a lost runner is told from a failed test, a test that ran twice from one that ran,
a skip from a run where the test is known to have run before.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from greenline.ci.execution.parts import digest, names_of, suites_of
from greenline.ci.execution.result_files import Result, Session, junit_name
from greenline.ci.sharding.plan_file import Plan
from greenline.depgraph.wording import plural
from pytest_greenline.part import Home, home

FAILED, LOST, SILENT, MISSING, TWICE, SKIPPED, ERROR, FOREIGN, UNPROVEN = (
    "failed", "lost", "silent", "missing", "twice", "skipped", "error", "foreign", "unproven",
)  # fmt: skip


class Problem(NamedTuple):
    """Why the run is not green. ``tests``: ids, [] where it is not about single tests; ``todo``: the way out."""

    kind: str
    what: str
    todo: str
    tests: tuple[str, ...] = ()
    shard: int | None = None
    suite: str = ""
    variant: str = ""


class Verdict(NamedTuple):
    """``counts``: accepted results by outcome. ``notes``: what needs nobody. Green when there is no problem."""

    problems: list[Problem]
    notes: list[str]
    counts: Counter[str]

    @property
    def green(self) -> bool:
        return not self.problems


class _Run(NamedTuple):
    """One result, and the session that it is from."""

    session: Session
    result: Result


def verify(
    plan: Plan,
    sessions: Sequence[Session],
    junit: Collection[tuple[str, str]] = (),
    ran_before: Callable[[str], bool] = lambda test: False,
    variants: Sequence[str] = (),
) -> Verdict:
    """Judge the sessions of a plan.

    ``junit``: names found in JUnit files; they prove nothing alone, since they tell neither shard nor attempt.
    ``ran_before``: does history know a run of this test that was no skip? ``variants``: those that must be there;
    () for those that are.
    """
    if not plan.shards:
        return Verdict([], ["the plan is empty: nothing was to run"], Counter())
    own = digest(plan)
    mine = [session for session in sessions if session.plan == own]
    problems = list(_foreign(plan, [session for session in sessions if session.plan != own]))
    problems += [_other_commit(plan, session) for session in mine if plan.commit not in (None, session.commit)]
    notes: list[str] = []
    counts: Counter[str] = Counter()
    wanted = variants or sorted({session.variant for session in mine}) or [plan.variant]
    for variant in wanted:
        one = [session for session in mine if session.variant == variant]
        found = _Judge(plan, variant, one, junit, ran_before)
        problems += found.problems()
        notes += found.notes
        counts += found.counts
    order = (FOREIGN, ERROR, FAILED, TWICE, LOST, SILENT, MISSING, UNPROVEN, SKIPPED)
    return Verdict(sorted(problems, key=lambda each: order.index(each.kind)), notes, counts)


def _foreign(plan: Plan, sessions: Iterable[Session]) -> Iterator[Problem]:
    for file in sorted({session.file for session in sessions}):
        yield Problem(
            FOREIGN,
            f"{file} is of another plan than this one ({digest(plan)}), or of none: its results do not count",
            "give only the results of this plan's run; clear the folder that results are collected in",
        )


def _other_commit(plan: Plan, session: Session) -> Problem:
    return Problem(
        FOREIGN,
        f"{session.file} ran commit {str(session.commit)[:12]}, the plan is of {str(plan.commit)[:12]}",
        "check out the plan's commit in every shard and run it again",
        shard=session.shard,
    )


class _Judge:
    """The sessions of one variant."""

    def __init__(
        self,
        plan: Plan,
        variant: str,
        sessions: Sequence[Session],
        junit: Collection[tuple[str, str]],
        ran_before: Callable[[str], bool],
    ) -> None:
        self.notes: list[str] = []
        self.counts: Counter[str] = Counter()
        self._plan = plan
        self._variant = variant
        self._sessions = sorted(sessions, key=lambda session: (session.attempt, session.time))
        self._junit = junit
        self._ran_before = ran_before
        self._shard_of, self._owner_of = _places(plan)
        self._suites = suites_of(plan)
        self._runs = self._runs_by_test()

    def problems(self) -> Iterator[Problem]:
        expected = self._expected()
        done: dict[str, Result] = {}
        for test in expected:
            runs = self._runs.get(test, [])
            yield from self._twice(test, runs)
            if runs:
                done[test] = self._accept(test, runs)
        yield from self._outcomes(done)
        yield from self._not_run([test for test in expected if test not in done])
        yield from self._sessions_in_error()

    # -- what ran ------------------------------------------------------------------------------------------

    def _runs_by_test(self) -> dict[str, list[_Run]]:
        """Every result, under the test's id; earliest attempt first."""
        runs: defaultdict[str, list[_Run]] = defaultdict(list)
        for session in self._sessions:
            for result in session.results:
                runs[result.id].append(_Run(session, result))
            for file, why in session.skipped_files.items():
                for test in self._planned_in(file, session):
                    runs[test].append(_Run(session, Result(test, "skipped", 0.0, {}, why)))
        return dict(runs)

    def _planned_in(self, file: str, session: Session) -> list[str]:
        """Planned tests of a file (or a class) that skips itself as a whole, of the session's shard."""
        return [test for test, shard in self._shard_of.items() if _is_in(test, file) and session.shard in (None, shard)]

    def _home(self, test: str) -> Home | None:
        return home(test, self._shard_of, self._owner_of)

    def _expected(self) -> list[str]:
        """All tests that must have a result: the planned ones, and the new ones that somebody collected.

        A planned id that stands for several (a file, a function with parameters) is replaced by those.
        """
        parts: defaultdict[str, set[str]] = defaultdict(set)
        new = set()
        seen = {test for session in self._sessions for tests in session.collected.values() for test in tests}
        for test in sorted(seen | set(self._runs)):
            found = self._home(test)
            if found is None:
                self.notes.append(f"{test} ran or was found, but was not selected")
            elif found.owned:
                new.add(test)
            elif found.name != test:
                parts[found.name].add(test)
        gone = [test for test in self._shard_of if test not in self._runs and not parts[test] and self._is_gone(test)]
        if gone:
            self.notes.append(f"{len(gone)} planned tests are no longer there: {_some(gone)}")
        away = set(gone)
        planned = (test for test in self._shard_of if test not in away)
        whole = [each for test in planned for each in (sorted(parts[test]) or [test])]
        if new:
            self.notes.append(f"{plural(len(new), 'test')} that nobody planned by name: {_some(sorted(new))}")
        return [*whole, *sorted(new.difference(whole))]

    def _is_gone(self, test: str) -> bool:
        """Did a session collect the test's file, without an error, and not find it?"""
        file = test.partition("::")[0]
        shard = self._shard_of[test]
        return any(
            file in session.collected
            and not any(_is_in(each, test) for each in session.collected[file])
            and not any(_is_in(test, broken) for broken in session.broken)
            and not any(_is_in(test, skipped) for skipped in session.skipped_files)
            and session.shard in (None, shard)
            for session in self._sessions
        )

    # -- what each test came to ----------------------------------------------------------------------------

    def _accept(self, test: str, runs: Sequence[_Run]) -> Result:
        last = runs[-1]
        before = [run.result.outcome for run in runs[:-1] if run.result.outcome != last.result.outcome]
        if before:
            tries = f"{' then '.join(before)} then {last.result.outcome}"
            self.notes.append(f"{test}: {tries} (attempt {last.session.attempt})")
        self.counts[last.result.outcome] += 1
        return last.result

    def _twice(self, test: str, runs: Sequence[_Run]) -> Iterator[Problem]:
        place = self._home(test)
        owner = None if place is None else (self._owner_of if place.owned else self._shard_of)[place.name]
        shards = sorted({run.session.shard for run in runs if run.session.shard is not None})
        wrong = [shard for shard in shards if shard != owner]
        whole = any(run.session.shard is None for run in runs)
        if wrong or (whole and shards):
            where = " and ".join([*(f"shard {shard}" for shard in shards), *["the run of the whole plan"] * whole])
            yield Problem(
                TWICE,
                f"{test} belongs to shard {owner}, but ran in {where}",
                "two jobs claimed it: see that each job has its own --index, and run those shards again",
                (test,), owner, variant=self._variant,
            )  # fmt: skip
            return
        again = Counter(run.session.attempt for run in runs if not run.result.retry)
        attempts = [attempt for attempt, times in again.items() if times > 1]
        if attempts:
            yield Problem(
                TWICE,
                f"{test} has {again[attempts[0]]} results of attempt {attempts[0]} of shard {owner}",
                "two runners ran the same shard as the same attempt: clear the results, or give one --attempt",
                (test,), owner, variant=self._variant,
            )  # fmt: skip

    def _outcomes(self, done: Mapping[str, Result]) -> Iterator[Problem]:
        for test, result in done.items():
            shard, suite = self._shard(test), self._suites.get(test.partition("::")[0], "")
            told = f": {first_line(result.message)}" if result.message else ""
            if result.outcome == "failed" and result.lost:
                yield Problem(
                    LOST,
                    f"{test}: the process that ran it was lost{told}",
                    f"it may have crashed it: run it alone, or the shard again: {again_with(shard)}",
                    (test,), shard, suite, self._variant,
                )  # fmt: skip
            elif result.outcome == "failed":
                yield Problem(
                    FAILED, f"{test}{told}", "mend it; see the shard's log", (test,), shard, suite, self._variant
                )
            elif result.outcome == "skipped" and not result.xfail and self._has_run(test):
                yield Problem(
                    SKIPPED,
                    f"{test} was skipped{told}, but has run before",
                    "give the runner what it misses, or allow it with --allow-skips",
                    (test,), shard, suite, self._variant,
                )  # fmt: skip

    def _has_run(self, test: str) -> bool:
        """In history, or in an earlier attempt?"""
        return self._ran_before(test) or any(run.result.outcome != "skipped" for run in self._runs[test])

    # -- what has no result --------------------------------------------------------------------------------

    def _not_run(self, tests: Sequence[str]) -> Iterator[Problem]:
        by_shard: defaultdict[int, list[str]] = defaultdict(list)
        for test in tests:
            by_shard[self._shard(test)].append(test)
        silent = [shard.index for shard in self._plan.shards if not self._of(shard.index)]
        for index in sorted({*by_shard, *silent}):
            missing = by_shard.get(index, [])
            xml = [test for test in missing if self._junit and junit_name(test) in self._junit]
            if xml:
                yield self._problem(
                    UNPROVEN, f"{len(xml)} tests are only in JUnit files, which tell neither shard nor attempt", xml,
                    index, "keep what `greenline shard run --results` writes, and give it to verify",
                )  # fmt: skip
            rest = sorted(set(missing).difference(xml), key=missing.index) if xml else missing
            if rest or (index in silent and not xml):
                yield self._why_not(index, rest)

    def _why_not(self, index: int, tests: Sequence[str]) -> Problem:
        sessions = self._of(index)
        count = f"{len(tests)} tests have no result" if tests else "nothing is known of its tests"
        if not sessions:
            return self._problem(
                SILENT, f"shard {index} never reported: {count}", tests, index,
                f"see why its job did not start or did not keep its results; then: {again_with(index)}",
            )  # fmt: skip
        if sessions[-1].exit is None:
            running = _some(sessions[-1].unfinished)
            while_ = f" while {running} ran" if running else ""
            return self._problem(
                LOST, f"the runner of shard {index} was lost{while_}: {count}", tests, index,
                f"no test failed: {again_with(index)}",
            )  # fmt: skip
        return self._problem(
            MISSING, f"shard {index} ended, but {count}", tests, index,
            f"see whether options (-k, -x, --deselect) or a collection error left them out; then: {again_with(index)}",
        )  # fmt: skip

    def _problem(self, kind: str, what: str, tests: Sequence[str], shard: int, todo: str) -> Problem:
        told = f": {_some(tests)}" if tests else ""
        return Problem(kind, what + told, todo, tuple(tests), shard, variant=self._variant)

    def _sessions_in_error(self) -> Iterator[Problem]:
        """A collection error, a wrong option, an internal error: of each shard's last attempt."""
        last = {(session.shard, session.suite): session.attempt for session in self._sessions}
        for session in self._sessions:
            if session.attempt < last[session.shard, session.suite]:
                continue
            for where, why in session.broken.items():
                yield Problem(
                    ERROR, f"{where} could not be collected: {first_line(why)}", "mend it; see the shard's log",
                    (), session.shard, session.suite, self._variant,
                )  # fmt: skip
            if session.exit not in (None, 0, 1, 5) and not session.broken:
                yield Problem(
                    ERROR, f"pytest ended with exit code {session.exit} ({session.file})", "see the shard's log",
                    (), session.shard, session.suite, self._variant,
                )  # fmt: skip

    def _shard(self, test: str) -> int:
        found = self._home(test)
        assert found is not None
        return (self._owner_of if found.owned else self._shard_of)[found.name]

    def _of(self, shard: int) -> list[Session]:
        return [session for session in self._sessions if session.shard in (None, shard)]


def again_with(shard: int) -> str:
    return f"run it again: greenline shard run --plan FILE --index {shard}"


def first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _places(plan: Plan) -> tuple[dict[str, int], dict[str, int]]:
    """Planned test → shard, owned part → shard."""
    names = {shard.index: names_of(shard.atoms, shard.owns) for shard in plan.shards}
    tests = {test: index for index, some in names.items() for test in some.tests}
    return tests, {part: index for index, some in names.items() for part in some.owns}


def _is_in(test: str, part: str) -> bool:
    """Is a test this one, or in this file, class or function?"""
    return test == part or test.startswith((f"{part}::", f"{part}["))


def _some(tests: Sequence[str]) -> str:
    more = f" and {len(tests) - 3:,} more" if len(tests) > 3 else ""
    return ", ".join(tests[:3]) + more
