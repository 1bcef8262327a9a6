"""What runs on the nodes of a Ray cluster: an actor that keeps one pytest process and streams what it says."""

from __future__ import annotations

import os
import select
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from greenline.ci.execution.gpus import VISIBLE
from greenline.ci.execution.queue import Job
from greenline.ci.execution.workers import Worker, told_code

_LOOK = 1.0
_CLOSING = 60.0


class Remote:
    """Its methods are generators, which Ray streams.

    ``hide``: the process sees no GPU; else it sees those that Ray gave to the actor.
    """

    def __init__(self, command: list[str], folder: str, part: str, variables: dict[str, str], hide: bool) -> None:
        scratch = tempfile.mkdtemp(prefix="greenline-")
        path = os.path.join(scratch, "shard.json")
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(part)
        stream = os.path.join(scratch, "results.jsonl")
        variables = {**variables, VISIBLE: ""} if hide else variables
        self._worker = Worker("", (), [*command, f"--greenline-shard={path}"], folder, variables, stream)

    def run(self, job: Job, timeout: float | None) -> Iterator[dict[str, Any]]:
        """The events of a job as they happen; the last is "leased", "end", "died" or "hung"."""
        self._worker.lease(job)
        yield from self._follow(job.patience(timeout))

    def close(self) -> Iterator[dict[str, Any]]:
        """Let the session end; its last events."""
        self._worker.close()
        yield from self._follow(_CLOSING)

    def _follow(self, patience: float) -> Iterator[dict[str, Any]]:
        worker = self._worker
        while True:
            select.select([worker.events], [], [], _LOOK)
            events = worker.read()
            for event in events or ():
                worker.note(event)
                yield {**event, "log": self._log()} if event["event"] == "end" else event
                if event["event"] in ("leased", "end"):
                    return
            silent = time.monotonic() - worker.heard
            if events is None:
                yield {"event": "died", "how": told_code(worker.finish()), "log": self._log()}
                return
            if silent > patience:
                worker.kill("the test was silent for too long")
                yield from worker.read() or ()
                worker.finish()
                yield {"event": "hung", "silent": silent, "log": self._log()}
                return

    def _log(self) -> str:
        with open(self._worker.log, encoding="utf-8", errors="replace") as file:
            return file.read()
