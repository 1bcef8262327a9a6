"""Replay past commits: what would selection have missed, and what would it have saved?

A clone starts at the oldest commit with all tests recorded. At each later commit it runs what is selected and records
that, nothing else, so that records age as they would. Green history alone would make "select nothing" perfect:
therefore the commit's own test files are also run on the source before it. A test that fails there and passes at the
commit *flips*: from that state to the commit it must be selected. A sample of the unselected tests runs too.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from greenline.ci.affected import SWITCH, Answer, Request, Test, affected
from greenline.ci.environment import no_commit
from greenline.ci.evidence.ingest import ingest
from greenline.ci.execution.local import call_of, runs_of
from greenline.ci.shadow import BAD, Selected, as_tests, known_tests, outcomes
from greenline.depgraph import config as configuration
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.workspace import Workspace, find

FAILURES_TO_COUNT = 3


class Step(NamedTuple):
    """One replayed commit. Counts are tests. ``share``: of the tests, how much evidence decided about (0 to 1)."""

    commit: str
    tests: int
    selected: int
    static: int  # what the static rule would have selected
    share: float
    seconds: float  # of all tests, as last measured
    selected_seconds: float
    flipped: list[str]
    sampled: int
    missed: dict[str, str]  # test → cause
    wall: float = 0.0  # seconds to select, and to run and record that
    answer: Answer | None = None  # what was selected
    mixed: str | None = None  # the commit's own tests on the source before it, as a commit of the clone


class Replay:
    """A clone of a repository, in which commits are replayed: in a scratch folder, or in ``home``, which is kept, so
    that a later replay goes on there."""

    def __init__(
        self, workspace: Workspace, python: str | None = None, sample: int = 0, home: str | None = None
    ) -> None:
        self._kept = home is not None
        self._home = home or tempfile.mkdtemp(prefix="greenline-audit-")
        self.root = os.path.join(self._home, "repository")
        self._sample = sample
        os.makedirs(self._home, exist_ok=True)
        self._log = open(os.path.join(self._home, "pytest.log"), "wb")  # noqa: SIM115 closed in close()
        if not os.path.exists(self.root):
            self._clone(workspace)
        self.environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        for name in ("GREENLINE_STORE", "GREENLINE_CACHE_DIR", "GREENLINE_BASE"):
            self.environment.pop(name, None)
        # An editable install of the repository would import its files instead of the clone's.
        roots = [self.root, os.path.join(self.root, "src"), self.environment.get("PYTHONPATH", "")]
        self.environment["PYTHONPATH"] = os.pathsep.join(filter(None, roots))
        if python:
            self.environment["VIRTUAL_ENV"] = os.path.dirname(os.path.dirname(os.path.abspath(python)))

    def close(self) -> None:
        self._log.close()
        if not self._kept:
            shutil.rmtree(self._home, ignore_errors=True)

    def _clone(self, workspace: Workspace) -> None:
        done = subprocess.run(
            ["git", "clone", "--quiet", "--shared", "--no-checkout", workspace.root, self.root],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            self.close()
            raise GreenlineError(f"the repository cannot be cloned: {done.stderr.strip()}")

    def steps(self, commits: Sequence[str], tell: Callable[[str], None] = lambda what: None) -> Iterator[Step]:
        """Replay these commits, the oldest first; the first is where records start, or stand, and gives no step.

        ``tell``: hears what is being done.
        """
        self._checkout(commits[0])
        if not (self._kept and self._known()):
            tell(f"recording every test at {commits[0][:10]}")
            everything = affected(self.root, Request(), environment={**self.environment, SWITCH: "off"})
            self._keep(self._run(everything, "start"))
        if not self._known():
            raise GreenlineError(f"no test could be recorded at {commits[0][:10]}; pytest said: {self._last_words()}",
                                 "name the interpreter that has the suite's requirements: --python PATH")  # fmt: skip
        for number, (before, commit) in enumerate(itertools.pairwise(commits), 1):
            tell(f"replaying {commit[:10]}, {number} of {len(commits) - 1}")
            yield self._step(before, commit)

    def _step(self, before: str, commit: str) -> Step:
        broken, selected_there, mixed = self._with_new_tests(before, commit)
        self._checkout(commit)
        started = time.perf_counter()
        answer = affected(self.root, Request(base=before, base_exact=True), environment=self.environment)
        records = self._run(answer, "selected")
        wall = time.perf_counter() - started
        selected = Selected(answer.tests)
        static = Selected(self._static(before))
        seen = outcomes(records)
        known = self._known()
        flipped = sorted(test for test in broken if seen.get(test) == "passed")
        missed = {test: "flips with the commit's source" for test in flipped if test not in selected_there}
        others = sorted(test for test in known if test not in selected and known[test][0] == "passed")
        sample = random.Random(commit).sample(others, min(self._sample, len(others)))
        for test in self._fail_again(answer, sample):
            missed[test] = "fails at the commit, passed before"
        self._keep(records)
        known = self._known()
        return Step(
            commit,
            len(known),
            sum(test in selected for test in known),
            sum(test in static for test in known),
            answer.share or 0.0,
            sum(seconds for _, seconds in known.values()),
            sum(seconds for test, (_, seconds) in known.items() if test in selected),
            flipped,
            len(sample),
            missed,
            wall,
            answer,
            mixed,
        )

    def _fail_again(self, answer: Answer, tests: Sequence[str]) -> list[str]:
        """Which of these tests fail, and fail again: once may be chance."""
        for attempt in range(FAILURES_TO_COUNT):
            if not tests:
                break
            seen = outcomes(self._run(_just(answer, as_tests(answer, tests)), f"sample-{attempt}"))
            tests = [test for test in tests if seen.get(test) in BAD]
        return list(tests)

    def _with_new_tests(self, before: str, commit: str) -> tuple[set[str], Selected, str | None]:
        """The tests of the commit that fail on the source before it, what is selected from there to the commit, and
        that state."""
        self._checkout(before)
        change = affected(
            self.root, Request(base=before, base_exact=True, head=commit, mode="static"), environment=self.environment
        )
        changed = set(self._git("diff", "--name-only", "--no-renames", "--diff-filter=AM", before, commit).split("\n"))
        files = [test for test in change.tests if test.path in changed]
        if not files:
            return set(), Selected([]), None
        self._git("checkout", "--quiet", commit, "--", *(test.path for test in files))
        self._git("-c", "user.name=audit", "-c", "user.email=audit@localhost", "commit", "--quiet", "--no-verify",
                  "--allow-empty", "--message=tests of the next commit")  # fmt: skip
        mixed = self._git("rev-parse", "HEAD").strip()
        whole = _just(change, [test._replace(node_ids=None) for test in files])
        seen = outcomes(self._run(whole, "new-tests"))
        selected = affected(
            self.root, Request(base=mixed, base_exact=True, head=commit), environment=self.environment
        ).tests
        return {test for test, outcome in seen.items() if outcome in BAD}, Selected(selected), mixed

    def _static(self, base: str) -> list[Test]:
        """What the static rule alone selects."""
        request = Request(base=base, base_exact=True, mode="static")
        return affected(self.root, request, environment=self.environment).tests

    def _last_words(self) -> str:
        self._log.flush()
        with open(self._log.name, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file if line.strip()]
        return next((line for line in reversed(lines) if line.startswith(("E ", "ERROR"))), (lines or ["nothing"])[-1])

    # -- running -------------------------------------------------------------------------------------------

    def _run(self, answer: Answer, name: str) -> str:
        """Run the tests of an answer and record them; the folder of the records."""
        records = os.path.join(self._home, name)
        shutil.rmtree(records, ignore_errors=True)
        if answer.total and not answer.tests:
            return records
        config = configuration.load(self.root)
        environment: Mapping[str, str] = self.environment
        for run in runs_of(answer, config, environment):
            with tempfile.TemporaryDirectory(prefix="greenline-") as scratch:
                call = call_of(run, answer, [f"--greenline-record={records}", "-q", "-p", "no:cacheprovider"], scratch)
                variables = {**environment, **call.variables}
                subprocess.run(
                    call.command, cwd=call.folder, env=variables, stdout=self._log, stderr=self._log, check=False
                )
        return records

    def _keep(self, records: str) -> None:
        if os.path.isdir(records):
            workspace = find(self.root)
            ingest(workspace, configuration.load(self.root), records, self.environment)
            shutil.rmtree(records)

    def _known(self) -> dict[str, tuple[str, float]]:
        return known_tests(find(self.root), configuration.load(self.root), self.environment)

    def _checkout(self, commit: str) -> None:
        self._git("checkout", "--quiet", "--force", "--detach", commit)
        self._git("clean", "-fdxq", "-e", ".greenline")

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.root, capture_output=True, text=True, check=False)
        if done.returncode:
            raise GreenlineError(f"git {arguments[0]}: {done.stderr.strip()}")
        return done.stdout


def _just(answer: Answer, tests: list[Test]) -> Answer:
    """An answer with these tests and no others."""
    paths = {test.path for test in tests}
    others = {*answer.unaffected, *(test.path for test in answer.tests)} - paths
    return answer._replace(tests=tests, everything=None, unaffected=tuple(sorted(others)))


def history(workspace: Workspace, count: int, until: str = "HEAD") -> list[str]:
    """The last commits of the main line, the oldest first, with the one before them. Raises GreenlineError."""
    if workspace.resolve(until) is None:
        raise no_commit(workspace, "--until: ", until)
    commits = workspace.git("rev-list", "--first-parent", f"--max-count={count + 1}", until).split()
    if len(commits) < 2:
        deeper = "this clone is shallow: git fetch --unshallow origin"
        later = f"{until} is the first commit, and a replay needs one before it: audit again after the next"
        raise GreenlineError("there is no history to replay", deeper if workspace.is_shallow() else later)
    return commits[::-1]
