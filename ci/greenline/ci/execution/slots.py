"""Run atoms on this machine: workers that lease them, longest first, each with the GPUs that it needs.

A worker is one pytest process; CPU workers are kept for the next atom of their suite, GPU workers only for one on the
same devices, so that no idle process holds a GPU's memory. What goes wrong has an end:

* a test that runs out of GPU memory runs once more, with its GPUs to itself;
* a worker that dies: the test that it ran is tried once more, in a process of its own; the rest goes to others;
* a test that hangs is ended, with all processes that it started, and has failed; the rest goes to others.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from greenline.ci.execution.gpus import visible
from greenline.ci.execution.parts import SuitePart
from greenline.ci.execution.placement import Machine, Running, alone, choose, wants_gpu, why_never
from greenline.ci.execution.pytest_codes import NOTHING_COLLECTED, worst
from greenline.ci.execution.shard import Setting, stream_name, suite_command
from greenline.ci.execution.workers import Job, Worker
from greenline.ci.sharding.plan_file import PlannedAtom
from greenline.depgraph.errors import GreenlineError
from pytest_greenline import part as part_file

HANG = 600.0
"""A test hangs that runs longer than this and than ten times what its atom should take, unless told otherwise."""
_OOM, _LOST = "oom", "lost"


class Who(NamedTuple):
    """What runs, for the records: the shard (None: the whole plan), the attempt, the kind of runner."""

    shard: int | None
    attempt: int
    runner: str


class Ended(NamedTuple):
    """pytest's exit code for all, and the logs of workers that did not end well."""

    code: int
    logs: list[str]


def run_slots(
    setting: Setting, suites: Sequence[SuitePart], machine: Machine, who: Who, scratch: str,
    timeout: float | None = None, say: Callable[[str], object] = print,
) -> Ended:  # fmt: skip
    """Run all atoms of these suites.

    ``timeout``: seconds after which a test hangs. Raises GreenlineError for atoms that can never run here.
    """
    return _Slots(setting, suites, machine, who, scratch, timeout, say).run()


def jobs_of(suites: Sequence[SuitePart]) -> list[Job]:
    """The atoms as jobs, longest first. Each owned name goes with an atom of its file, else it is a job of its own."""
    jobs = []
    for suite in suites:
        owns = list(suite.part.mine.owns)
        for atom in sorted(suite.atoms, key=_longest_first):
            if atom.isolated:
                each = atom.seconds / len(atom.tests)
                jobs += [Job(atom._replace(tests=(test,), seconds=each), suite.suite) for test in atom.tests]
                continue
            files = {_file(test) for test in atom.tests}
            here = tuple(name for name in owns if _file(name) in files)
            owns = [name for name in owns if name not in here]
            jobs.append(Job(atom, suite.suite, here))
        jobs += [Job(PlannedAtom((), 0.0), suite.suite, (name,)) for name in owns]
    return sorted(jobs, key=lambda job: _longest_first(job.atom))


def _longest_first(atom: PlannedAtom) -> tuple[float, float, tuple[str, ...]]:
    return -(atom.longest or atom.seconds), -atom.seconds, atom.tests


def _file(name: str) -> str:
    return name.partition("::")[0]


class _Slots:
    def __init__(
        self, setting: Setting, suites: Sequence[SuitePart], machine: Machine, who: Who, scratch: str,
        timeout: float | None, say: Callable[[str], object],
    ) -> None:  # fmt: skip
        self._setting, self._machine, self._who, self._say = setting, machine, who, say
        self._timeout = timeout
        self._suites = {suite.suite: suite for suite in suites}
        self._waiting = jobs_of(suites)
        never = {job.atom.tests: why for job in self._waiting if (why := why_never(job.atom, machine))}
        if never:
            told = "\n".join(f"{', '.join(tests)}: {why}" for tests, why in sorted(never.items()))
            raise GreenlineError(f"this machine cannot run all of it:\n{told}", "run these tests in their own pool")
        self._commands = {suite.suite: self._command(suite, scratch) for suite in suites}
        self._workers: list[Worker] = []
        self._started = 0
        self._outcomes: dict[str, str] = {}
        self._codes: list[int] = []
        self._tried: set[tuple[str, ...]] = set()  # tests and jobs whose worker died
        self._logs: list[str] = []
        self._stopped = False

    def _command(self, suite: SuitePart, scratch: str) -> tuple[list[str], str]:
        command, folder = suite_command(self._setting, suite)
        path = os.path.join(scratch, f"suite-{len(os.listdir(scratch))}.json")
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(part_file.dumps(suite.part))
        return [*command, f"--greenline-shard={path}", *self._setting.options], folder

    def run(self) -> Ended:
        try:
            while self._waiting or self._workers:
                self._fill()
                self._listen()
        except BaseException:
            for worker in self._workers:
                worker.kill("the run was interrupted")
            raise
        failed = [1] if "failed" in self._outcomes.values() else []
        codes = [*failed, *(code for code in self._codes if code not in (1, NOTHING_COLLECTED))]
        return Ended(worst(codes), self._logs)

    # -- leasing -------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Lease what can start now, and close workers that nothing waits for."""
        while not self._stopped and (found := self._next()):
            job, devices = found
            self._waiting.remove(job)
            self._worker_for(job, devices).lease(job)
        for worker in self._workers:
            if not worker.job and (worker.devices or not self._may_use(worker)):
                worker.close()

    def _next(self) -> tuple[Job, tuple[int, ...]] | None:
        running = [
            Running(worker.job.atom, worker.devices, worker.leased + worker.job.atom.seconds)
            for worker in self._workers
            if worker.job
        ]
        running += [self._leaving(worker) for worker in self._workers if not worker.job and worker.closing]
        atoms = [job.atom for job in self._waiting]
        found = choose(atoms, self._machine, running, time.monotonic())
        if not found:
            return None
        atom, devices = found
        return next(job for job in self._waiting if job.atom is atom), devices

    def _leaving(self, worker: Worker) -> Running:
        """A process that has not gone yet still holds memory of its GPUs."""
        whole = 1.0 if worker.devices else 0.0
        return Running(PlannedAtom((), 0.0, slots=0, gpus=whole), worker.devices, time.monotonic())

    def _may_use(self, worker: Worker) -> bool:
        return not self._stopped and any(
            job.suite == worker.suite and not wants_gpu(job.atom) and not job.atom.isolated for job in self._waiting
        )

    def _worker_for(self, job: Job, devices: tuple[int, ...]) -> Worker:
        idle = [worker for worker in self._workers if not worker.job and not worker.closing]
        for worker in idle:
            if worker.suite == job.suite and worker.devices == devices and not job.atom.isolated:
                return worker
        if len(idle) + sum(1 for worker in self._workers if worker.job) >= self._machine.slots:
            for worker in idle[:1]:
                worker.close()
        return self._start(job, devices)

    def _start(self, job: Job, devices: tuple[int, ...]) -> Worker:
        self._started += 1
        name = f"w{self._started}"
        stream = stream_name(self._who.shard, self._who.attempt, job.suite, f".{name}")
        path = os.path.join(self._setting.results, stream)
        command, folder = self._commands[job.suite]
        variables = visible(self._machine.gpus, devices)
        variables |= self._setting.session(job.suite, self._who.runner, self._who.shard, self._who.attempt)
        log = path.removesuffix(".jsonl") + ".log"
        worker = Worker(name, job.suite, devices, command, folder, variables, path, log)
        self._workers.append(worker)
        return worker

    # -- listening -----------------------------------------------------------------------------------------

    def _listen(self) -> None:
        by_pipe = {worker.events: worker for worker in self._workers}
        ready, _, _ = select.select(list(by_pipe), [], [], self._patience())
        for pipe in ready:
            worker = by_pipe[pipe]
            events = worker.read()
            if events is None:
                self._gone(worker)
                continue
            worker.since = time.monotonic()
            for event in events:
                self._hear(worker, event)
        for worker in list(self._workers):
            if worker.job and self._left(worker) <= 0:
                self._hangs(worker)

    def _patience(self) -> float | None:
        left = [self._left(worker) for worker in self._workers if worker.job]
        return max(0.0, min(left)) if left else None

    def _left(self, worker: Worker) -> float:
        """Seconds until the worker has been silent for too long."""
        assert worker.job
        limit = self._timeout or max(HANG, 10 * worker.job.atom.seconds)
        return worker.since + limit - time.monotonic()

    def _hear(self, worker: Worker, event: dict[str, Any]) -> None:
        if event["event"] == "start":
            worker.test = event["id"]
        elif event["event"] == "test":
            self._result(worker, event)
        elif event["event"] == "collect" and event["outcome"] == "failed":
            self._outcomes[event["id"]] = "failed"
            self._say(f"{event['id']} cannot be collected: {event['message'].strip().splitlines()[-1]}")
        elif event["event"] == "leased":
            worker.job = worker.test = None
        elif event["event"] == "end":
            worker.ended = True

    def _result(self, worker: Worker, event: dict[str, Any]) -> None:
        test, failed = event["id"], event["outcome"] == "failed"
        if event["when"] == "setup":
            self._outcomes.pop(test, None)
        if failed:
            self._outcomes[test] = "failed"
        else:
            self._outcomes.setdefault(test, event["outcome"])
        if event.get("oom") and worker.job and worker.job.retry != _OOM:
            atom = alone(worker.job.atom._replace(tests=(test,)))
            self._again(Job(atom, worker.suite, (), _OOM))
            self._say(f"{test} ran out of GPU memory: it runs once more, alone")
        elif failed:
            self._say(f"failed: {test}: {event.get('message', '').partition(chr(10))[0]}")
        if event["when"] == "teardown":
            worker.done.add(test)
            worker.test = None

    def _again(self, job: Job) -> None:
        if job not in self._waiting and not self._stopped:  # setup and teardown of one test may both fail
            self._waiting.append(job)
            self._waiting.sort(key=lambda each: _longest_first(each.atom))

    # -- what goes wrong -----------------------------------------------------------------------------------

    def _gone(self, worker: Worker) -> None:
        """The process has closed its pipe: it is done, or dead."""
        self._workers.remove(worker)
        code = worker.finish()
        if worker.ended:
            self._codes.append(code)
            self._stopped = self._stopped or worker.job is not None  # -x, --maxfail, pytest.exit()
            if self._stopped:
                self._waiting.clear()
        elif worker.job:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            self._died(worker, worker.job, f"the process of {worker.test or 'a worker'} died ({how})", code)
        if code:
            self._logs.append(worker.log)

    def _died(self, worker: Worker, job: Job, what: str, code: int) -> None:
        self._say(what)
        if worker.test and (worker.test,) not in self._tried:
            self._tried.add((worker.test,))
            self._again(Job(job.atom._replace(tests=(worker.test,), isolated=True), job.suite, (), _LOST))
        elif worker.test:
            worker.record(worker.test, _LOST, what)
            self._outcomes[worker.test] = "failed"
        elif job.atom.tests in self._tried:
            self._codes.append(code if code > 1 else 3)
            return
        else:
            self._tried.add(job.atom.tests)
        self._rest(worker, job)

    def _hangs(self, worker: Worker) -> None:
        job, test = worker.job, worker.test
        assert job
        what = f"{test or 'collection'} hangs: nothing was heard for {time.monotonic() - worker.since:.0f} s"
        self._say(f"{what}; it is ended with all that it started")
        worker.kill(what)
        while worker.read():  # what it still said
            pass
        self._workers.remove(worker)
        worker.finish()
        self._logs.append(worker.log)
        if test:
            worker.record(test, "timeout", what)
            self._outcomes[test] = "failed"
        elif job.atom.tests in self._tried:
            self._codes.append(3)
            return
        else:
            self._tried.add(job.atom.tests)
        self._rest(worker, job)

    def _rest(self, worker: Worker, job: Job) -> None:
        """Lease again what the dead worker had not begun."""
        done = {*worker.done, worker.test}
        rest = tuple(test for test in job.atom.tests if test not in done)
        if rest or job.owns:
            self._again(job._replace(atom=job.atom._replace(tests=rest), retry=_LOST))
