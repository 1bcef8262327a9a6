"""A pytest process that runs what it is leased, with a process group of its own and chosen GPUs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

from greenline.ci.execution.queue import Doing, Job
from greenline.depgraph.errors import GreenlineError

_LEAVE = 60
"""Seconds that a process may take from the end of its session to its own."""
_PAUSE = 2


class Worker:
    """``events``: the pipe with what the plugin's recorder says; see pytest_greenline.leases.

    ``doing``: the job that it runs, None: idle; ``leased``, ``heard``: when that began, when it last said something;
    ``ended``: pytest has finished its session.
    """

    def __init__(
        self, suite: str, devices: tuple[int, ...], command: Sequence[str], folder: str, variables: Mapping[str, str],
        stream: str,
    ) -> None:  # fmt: skip
        self.suite, self.devices, self.stream = suite, devices, stream
        self.log = stream.removesuffix(".jsonl") + ".log"
        self.doing: Doing | None = None
        self.leased = self.heard = time.monotonic()
        self.ended = False
        self.closing = False
        self._rest = b""
        leases, self._leases = os.pipe()
        self.events, back = os.pipe()
        os.set_blocking(self.events, False)
        try:
            with open(self.log, "ab") as output:
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
        self.doing = Doing(job, self.stream)
        self.leased = self.heard = time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # it is lost; its events will end, which tells
            _write(self._leases, job.line().encode("utf-8", "surrogateescape"))

    def close(self) -> None:
        """Nothing more will be leased."""
        if not self.closing:
            self.closing = True
            os.close(self._leases)

    def read(self) -> list[dict[str, Any]] | None:
        """What was said since the last call; None when the process is gone."""
        gone = self.process.poll() is not None  # asked first: nothing can come after that
        try:
            data = os.read(self.events, 1 << 20)
        except BlockingIOError:
            return None if gone else []  # a forked child may keep the pipe open
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.heard = time.monotonic()
        return [json.loads(line) for line in lines]

    def note(self, event: Mapping[str, Any]) -> None:
        """Take in an event, after the queue did."""
        if event["event"] == "leased":
            self.doing = None
        elif event["event"] == "end":
            self.ended = True

    def finish(self) -> int:
        """Wait for the end of the process, but not for ever; its exit code, -N for signal N."""
        self.close()
        os.close(self.events)
        try:
            return self.process.wait(_LEAVE)
        except subprocess.TimeoutExpired:
            self.kill(f"it did not end {_LEAVE} s after its session")
            return self.process.wait()

    def kill(self, why: str) -> None:
        """End it with all processes that it started. faulthandler, if pytest has it on, first tells where it is."""
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(f"\ngreenline: {why}\n")
        family = descendants(self.process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_PAUSE)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pid in family:  # those in sessions of their own
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def told_code(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


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
