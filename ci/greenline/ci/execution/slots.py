"""Run atoms on this machine: workers that lease them, longest first, each with the GPUs that it needs.

A worker is one pytest process; CPU workers are kept for the next atom of their suite, GPU workers only for one on the
same devices, so that no idle process holds a GPU's memory.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from greenline.ci.execution.gpus import visible
from greenline.ci.execution.parts import SuitePart
from greenline.ci.execution.placement import Machine, Running, choose, wants_gpu, why_never
from greenline.ci.execution.queue import Ended, Job, Queue, jobs_of
from greenline.ci.execution.shard import Setting, stream_name, suite_command, waited
from greenline.ci.execution.workers import Worker, told_code
from greenline.ci.sharding.plan_file import PlannedAtom
from greenline.depgraph.errors import GreenlineError
from pytest_greenline import part as part_file


class Who(NamedTuple):
    """What runs, for the records: the shard (None: the whole plan), the attempt, the kind of runner."""

    shard: int | None
    attempt: int
    runner: str


def run_slots(
    setting: Setting, suites: Sequence[SuitePart], machine: Machine, who: Who, scratch: str,
    timeout: float | None, say: Callable[[str], object],
) -> Ended:  # fmt: skip
    """Run all atoms of these suites.

    ``timeout``: seconds of silence after which a test hangs. Raises GreenlineError for atoms that can never run here.
    """
    if os.name == "nt":
        raise GreenlineError("slots need pipes and process groups", "on Windows run --index of pools with one slot")
    jobs = jobs_of(suites)
    refuse([(job, why) for job in jobs if (why := why_never(job.atom, machine))], "this machine")
    return _Slots(setting, suites, machine, who, scratch, timeout, Queue(jobs, say)).run()


def refuse(never: Sequence[tuple[Job, str]], where: str) -> None:
    """Raise GreenlineError if there is a job that can never run."""
    if never:
        told = "\n".join(f"{', '.join(job.atom.tests)}: {why}" for job, why in never)
        raise GreenlineError(f"{where} cannot run all of it:\n{told}", "run these tests in their own pool")


_LOOK = 1.0
"""Seconds after which to look whether all processes are still there."""


class _Slots:
    def __init__(
        self, setting: Setting, suites: Sequence[SuitePart], machine: Machine, who: Who, scratch: str,
        timeout: float | None, queue: Queue,
    ) -> None:  # fmt: skip
        self._setting, self._machine, self._who, self._timeout, self._queue = setting, machine, who, timeout, queue
        self._commands = {suite.suite: self._command(suite, scratch) for suite in suites}
        self._workers: list[Worker] = []
        self._started = 0

    def _command(self, suite: SuitePart, scratch: str) -> tuple[list[str], str]:
        command, folder = suite_command(self._setting, suite)
        path = os.path.join(scratch, f"suite-{len(os.listdir(scratch))}.json")
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(part_file.dumps(suite.part))
        return [*command, f"--greenline-shard={path}", *self._setting.options], folder

    def run(self) -> Ended:
        try:
            while self._queue.waiting or self._workers:
                self._fill()
                self._listen()
        except BaseException:
            for worker in self._workers:
                worker.kill("the run was interrupted")
            raise
        return self._queue.end()

    # -- leasing -------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Lease what can start now, and close workers that nothing waits for."""
        while found := self._next():
            job, devices = found
            self._queue.waiting.remove(job)
            self._worker_for(job, devices).lease(job)
        for worker in self._workers:
            if not worker.doing and (worker.devices or not self._may_use(worker)):
                worker.close()

    def _next(self) -> tuple[Job, tuple[int, ...]] | None:
        now = time.monotonic()
        running = [
            Running(worker.doing.job.atom, worker.devices, worker.leased + worker.doing.job.atom.seconds)
            for worker in self._workers
            if worker.doing
        ]
        running += [_leaving(worker, now) for worker in self._workers if not worker.doing and worker.closing]
        found = choose((job.atom for job in self._queue.waiting), self._machine, running, now)
        if not found:
            return None
        atom, devices = found
        return next(job for job in self._queue.waiting if job.atom is atom), devices

    def _may_use(self, worker: Worker) -> bool:
        return any(
            job.suite == worker.suite and not wants_gpu(job.atom) and not job.atom.isolated
            for job in self._queue.waiting
        )

    def _worker_for(self, job: Job, devices: tuple[int, ...]) -> Worker:
        idle = [worker for worker in self._workers if not worker.doing and not worker.closing]
        for worker in idle:
            if worker.suite == job.suite and worker.devices == devices and not job.atom.isolated:
                return worker
        if len(idle) + sum(1 for worker in self._workers if worker.doing) >= self._machine.slots:
            for worker in idle[:1]:
                worker.close()
        return self._start(job.suite, devices)

    def _start(self, suite: str, devices: tuple[int, ...]) -> Worker:
        self._started += 1
        stream = stream_name(self._who.shard, self._who.attempt, suite, f".w{self._started}")
        path = os.path.join(self._setting.results, stream)
        command, folder = self._commands[suite]
        first = waited() if self._started == 1 and self._who.shard is not None else {}
        variables = visible(self._machine.gpus, devices)
        variables |= self._setting.session(suite, self._who.runner, self._who.shard, self._who.attempt, first)
        worker = Worker(suite, devices, command, folder, variables, path)
        self._workers.append(worker)
        return worker

    # -- listening -----------------------------------------------------------------------------------------

    def _listen(self) -> None:
        by_pipe = {worker.events: worker for worker in self._workers}
        left = [self._left(worker) for worker in self._workers if worker.doing]
        ready, _, _ = select.select(list(by_pipe), [], [], max(0.0, min([_LOOK, *left])))
        for pipe, worker in by_pipe.items():
            if pipe in ready or worker.process.poll() is not None:
                self._hear(worker)
        for worker in list(self._workers):
            if worker.doing and self._left(worker) <= 0:
                self._hangs(worker)

    def _left(self, worker: Worker) -> float:
        """Seconds until the worker has been silent for too long."""
        assert worker.doing
        return worker.heard + worker.doing.job.patience(self._timeout) - time.monotonic()

    def _hear(self, worker: Worker) -> None:
        events = worker.read()
        for event in events or ():
            self._queue.hear(worker.doing, event)
            worker.note(event)
        if events is None:
            self._workers.remove(worker)
            code = worker.finish()
            if worker.ended:
                self._queue.ended(worker.doing, code, worker.log)
            else:
                self._queue.died(worker.doing, told_code(code), worker.log)

    def _hangs(self, worker: Worker) -> None:
        doing, silent = worker.doing, time.monotonic() - worker.heard
        assert doing
        worker.kill("the test was silent for too long")
        for event in worker.read() or ():  # what it still said
            self._queue.hear(doing, event)
        self._workers.remove(worker)
        worker.finish()
        self._queue.hung(doing, silent, worker.log)


def _leaving(worker: Worker, now: float) -> Running:
    """A process that has not gone yet still holds memory of its GPUs."""
    return Running(PlannedAtom((), 0.0, slots=0, gpus=1.0 if worker.devices else 0.0), worker.devices, now)
