"""The atoms of a run as a queue, and what becomes of them; where their processes are is the caller's business.

What goes wrong has an end:

* a test that runs out of GPU memory runs once more, with its GPUs to itself;
* a worker that dies: the test that it ran is tried once more, in a process of its own; the rest goes to others;
* a test that hangs was ended, and has failed; the rest goes to others.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from greenline.ci.execution.parts import Piece, SuitePart
from greenline.ci.execution.placement import alone, wants_gpu
from greenline.ci.execution.pytest_codes import NOTHING_COLLECTED, worst
from greenline.ci.sharding.plan_file import PlannedAtom

HANG = 600.0
"""A test hangs that is silent for longer than this and than ten times what its atom should take."""
_OOM, _LOST = "oom", "lost"
_INTERNAL_ERROR = 3


class Job(NamedTuple):
    """An atom to lease; ``owns``: names whose new tests run with it; ``retry``: why it runs again, or None."""

    atom: PlannedAtom
    suite: str
    owns: tuple[str, ...] = ()
    retry: str | None = None

    def line(self) -> str:
        """What the plugin is told: see pytest_greenline.leases."""
        return json.dumps({"tests": self.atom.tests, "owns": self.owns, "retry": self.retry}) + "\n"

    def patience(self, timeout: float | None) -> float:
        """Seconds of silence after which it hangs."""
        return timeout or max(HANG, 10 * self.atom.seconds)


class Doing:
    """A job at work: the test that runs now, those that are done, the stream that records it."""

    def __init__(self, job: Job, stream: str) -> None:
        self.job, self.stream = job, stream
        self.test: str | None = None
        self.done: set[str] = set()


class Ended(NamedTuple):
    """pytest's exit code for all, and the logs of workers that did not end well."""

    code: int
    logs: list[str]


def jobs_of(suites: Sequence[SuitePart]) -> list[Job]:
    """The atoms as jobs, longest first."""
    jobs = (job for suite in suites for piece in suite.pieces for job in _jobs_of(piece, suite.suite))
    return sorted(jobs, key=lambda job: longest_first(job.atom))


def _jobs_of(piece: Piece, suite: str) -> Iterator[Job]:
    """Each owned name goes with an atom of its file, else it is a job of its own, with a GPU if all others have one."""
    owns = piece.owns
    for atom in sorted(piece.atoms, key=longest_first):
        if atom.isolated:
            each = atom.seconds / len(atom.tests)
            yield from (Job(atom._replace(tests=(test,), seconds=each), suite) for test in atom.tests)
            continue
        files = {_file(test) for test in atom.tests}
        yield Job(atom, suite, tuple(name for name in owns if _file(name) in files))
        owns = [name for name in owns if _file(name) not in files]
    gpus = 1.0 if piece.atoms and all(map(wants_gpu, piece.atoms)) else 0.0
    yield from (Job(PlannedAtom((), 0.0, gpus=gpus), suite, (name,)) for name in owns)


def longest_first(atom: PlannedAtom) -> tuple[float, float, tuple[str, ...]]:
    return -(atom.longest or atom.seconds), -atom.seconds, atom.tests


def _file(name: str) -> str:
    return name.partition("::")[0]


class Queue:
    """``waiting``: jobs, longest first; ``stopped``: nothing more is to run (-x, --maxfail)."""

    def __init__(self, jobs: Sequence[Job], say: Callable[[str], object]) -> None:
        self.waiting = list(jobs)
        self.stopped = False
        self._say = say
        self._outcomes: dict[str, str] = {}
        self._codes: list[int] = []
        self._logs: list[str] = []
        self._tried: set[tuple[str, ...]] = set()  # tests and jobs whose worker died

    def hear(self, doing: Doing | None, event: dict[str, Any]) -> None:
        """Take in a line of a worker's record."""
        if event["event"] == "collect" and event["outcome"] == "failed":
            self._outcomes[event["id"]] = "failed"
            self._say(f"{event['id']} cannot be collected: {event['message'].strip().rpartition(chr(10))[2]}")
        elif event["event"] == "start" and doing:
            doing.test = event["id"]
        elif event["event"] == "test" and doing:
            self._result(doing, event)

    def _result(self, doing: Doing, event: dict[str, Any]) -> None:
        test, failed = event["id"], event["outcome"] == "failed"
        if event["when"] == "setup":
            self._outcomes.pop(test, None)
        if failed:
            self._outcomes[test] = "failed"
        else:
            self._outcomes.setdefault(test, event["outcome"])
        if event.get("oom") and doing.job.retry != _OOM:
            self.again(Job(alone(doing.job.atom._replace(tests=(test,))), doing.job.suite, (), _OOM))
            self._say(f"{test} ran out of GPU memory: it runs once more, alone")
        elif failed:
            self._say(f"failed: {test}: {event.get('message', '').partition(chr(10))[0]}")
        if event["when"] == "teardown":
            doing.done.add(test)
            doing.test = None

    def ended(self, doing: Doing | None, code: int, log: str) -> None:
        """A worker has finished its session; in the middle of a job only because it was to stop."""
        self._codes.append(code)
        if code:
            self._logs.append(log)
        if doing:
            self.stopped = True
            self.waiting.clear()

    def died(self, doing: Doing | None, how: str, log: str) -> None:
        """A worker is gone before its session ended."""
        self._logs.append(log)
        if not doing:
            return
        test = doing.test
        self._say(f"the process of {test or 'a worker'} died ({how})")
        if test and (test,) not in self._tried:
            self._tried.add((test,))
            self.again(Job(doing.job.atom._replace(tests=(test,), isolated=True), doing.job.suite, (), _LOST))
        elif test:
            self._fail(doing, test, _LOST, f"its process died ({how})")
        elif self._is_hopeless(doing):
            return
        self._rest(doing)

    def hung(self, doing: Doing, seconds: float, log: str) -> None:
        """A worker was silent for too long, and was ended."""
        self._logs.append(log)
        what = f"{doing.test or 'collection'} hangs: nothing was heard for {seconds:.0f} s"
        self._say(f"{what}; it was ended with all that it started")
        if doing.test:
            self._fail(doing, doing.test, "timeout", what)
        elif self._is_hopeless(doing):
            return
        self._rest(doing)

    def end(self) -> Ended:
        counts = Counter(self._outcomes.values())
        self._say(", ".join(f"{count:,} {outcome}" for outcome, count in sorted(counts.items())) or "no test ran")
        failed = [1] if counts["failed"] else []
        return Ended(
            worst([*failed, *(each for each in self._codes if each not in (1, NOTHING_COLLECTED))]), self._logs
        )

    def _fail(self, doing: Doing, test: str, when: str, message: str) -> None:
        record(doing.stream, test, when, message)
        self._outcomes[test] = "failed"

    def _is_hopeless(self, doing: Doing) -> bool:
        """Has a worker been lost with this job, before any test began, for the second time?"""
        key = (*doing.job.atom.tests, *doing.job.owns)
        if key not in self._tried:
            self._tried.add(key)
            return False
        self._codes.append(_INTERNAL_ERROR)
        return True

    def _rest(self, doing: Doing) -> None:
        """Queue again what the dead worker had not begun."""
        job = doing.job
        rest = tuple(test for test in job.atom.tests if test not in doing.done and test != doing.test)
        if rest or job.owns:
            self.again(job._replace(atom=job.atom._replace(tests=rest), retry=_LOST))

    def give_up(self, job: Job, why: str) -> None:
        """It cannot run any more; the run is red, and its tests have no result."""
        self._codes.append(_INTERNAL_ERROR)
        self._say(f"not run: {', '.join(job.atom.tests or job.owns)}: {why}")

    def again(self, job: Job) -> None:
        """Queue it, unless it is there already or nothing more is to run."""
        if job not in self.waiting and not self.stopped:  # setup and teardown of one test may both fail
            self.waiting.append(job)
            self.waiting.sort(key=lambda each: longest_first(each.atom))


def record(stream: str, test: str, when: str, message: str) -> None:
    """Write a result that a dead process could not; the last line of its record may be cut off."""
    line = {"event": "test", "id": test, "when": when, "outcome": "failed", "seconds": 0.0, "message": message}
    with open(stream, "r+b") as file:
        data = file.read()
        file.seek(data.rfind(b"\n") + 1)
        file.truncate()
        file.write((json.dumps(line) + "\n").encode())
