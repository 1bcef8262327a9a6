"""A pytest process that runs what it is leased, with a process group of its own and chosen GPUs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from greenline.ci.sharding.plan_file import PlannedAtom
from greenline.depgraph.errors import GreenlineError


class Job(NamedTuple):
    """An atom to lease; ``owns``: names whose new tests run with it; ``retry``: why it runs again, or None."""

    atom: PlannedAtom
    suite: str
    owns: tuple[str, ...] = ()
    retry: str | None = None


class Worker:
    """``events`` gives what the plugin's recorder says; see pytest_greenline.leases."""

    def __init__(
        self, name: str, suite: str, devices: tuple[int, ...], command: Sequence[str], folder: str,
        variables: Mapping[str, str], stream: str, log: str,
    ) -> None:  # fmt: skip
        self.name, self.suite, self.devices, self.stream, self.log = name, suite, devices, stream, log
        self.job: Job | None = None
        self.test: str | None = None  # the one that runs now
        self.done: set[str] = set()  # of the job
        self.leased = self.since = time.monotonic()  # when the job began; since when nothing was heard
        self.ended = False  # has pytest finished its session?
        self.closing = False
        self._rest = b""
        leases, self._leases = os.pipe()
        self.events, back = os.pipe()
        os.set_blocking(self.events, False)
        try:
            with open(log, "ab") as output:
                self.process = subprocess.Popen(
                    [*command, f"--greenline-leases={leases},{back}", f"--greenline-results={stream}"],
                    cwd=folder,
                    env={**os.environ, **variables},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(leases, back),
                    start_new_session=True,
                )
        except OSError as error:
            raise GreenlineError(
                f"cannot start {command[0]}: {error.strerror}", "see suites[].command in greenline.yaml"
            ) from None
        finally:
            os.close(leases)
            os.close(back)

    def lease(self, job: Job) -> None:
        self.job, self.test = job, None
        self.leased = self.since = time.monotonic()
        self.done = set()
        line = json.dumps({"tests": job.atom.tests, "owns": job.owns, "retry": job.retry}) + "\n"
        with contextlib.suppress(BrokenPipeError):  # it is lost; its events will end, which tells
            _write(self._leases, line.encode("utf-8", "surrogateescape"))

    def close(self) -> None:
        """Nothing more will be leased."""
        if not self.closing:
            self.closing = True
            os.close(self._leases)

    def read(self) -> list[dict[str, Any]] | None:
        """What was said since the last call; None when the process is gone."""
        try:
            data = os.read(self.events, 1 << 20)
        except BlockingIOError:
            return []
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def finish(self) -> int:
        """Wait for the end of the process; its exit code, -N for signal N."""
        self.close()
        os.close(self.events)
        return self.process.wait()

    def kill(self, why: str) -> None:
        """End it with all processes that it started. faulthandler, if pytest has it on, first tells where it is."""
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(f"\ngreenline: {why}\n")
        family = descendants(self.process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pid in family:  # those in sessions of their own
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def record(self, test: str, when: str, message: str) -> None:
        """Write a result that the dead process could not; its last line may be cut off."""
        line = {"event": "test", "id": test, "when": when, "outcome": "failed", "seconds": 0.0, "message": message}
        with open(self.stream, "r+b") as file:
            data = file.read()
            file.seek(data.rfind(b"\n") + 1)
            file.truncate()
            file.write((json.dumps(line) + "\n").encode())


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def descendants(pid: int) -> list[int]:
    """All processes below this one; [] where `ps` is missing."""
    try:
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
    except OSError:
        return []
    parents = {int(child): int(parent) for child, parent in map(str.split, listed.splitlines())}
    found = [pid]
    for each in found:
        found.extend(child for child, parent in parents.items() if parent == each)
    return found[1:]
