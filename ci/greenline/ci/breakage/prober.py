"""Several probes at once, each in a checkout of its own, within a budget; every one of them is kept for the report."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from greenline.ci.breakage import environments
from greenline.ci.breakage.checkouts import Checkout, Checkouts
from greenline.ci.breakage.probe import Probe, Run, Settings, run
from greenline.ci.breakage.processes import Runner

Tell = Callable[[str], None]


class Probed(NamedTuple):
    """One probe that was made. ``failed``: the node ids that failed; ``why``: what it was for."""

    commit: str
    why: str
    tests: int
    failed: tuple[str, ...]
    seconds: float
    trouble: str


class Prober:
    """Runs probes; ``deadline`` is a time of :func:`time.monotonic`."""

    def __init__(
        self, checkouts: Checkouts, settings: Settings, cache: str, deadline: float, slots: int = 0, tell: Tell = print
    ) -> None:
        self.checkouts, self.settings, self.deadline, self.tell = checkouts, settings, deadline, tell
        self.slots = slots or min(4, os.cpu_count() or 1)
        self.done: list[Probed] = []
        self._cache = cache
        self._recipe = environments.recipe_of(settings.config)
        self._free: queue.SimpleQueue[Checkout] = queue.SimpleQueue()
        self._opened = 0
        self._lock = threading.Lock()
        self._making = threading.Lock()

    @property
    def out_of_time(self) -> bool:
        return time.monotonic() >= self.deadline

    def run(self, commit: str, probe: Probe, why: str) -> Run:
        """One probe."""
        return self.run_all([(commit, probe)], why)[0]

    def run_all(self, wanted: Sequence[tuple[str, Probe]], why: str, runner: Runner | None = None) -> list[Run]:
        """Probes side by side; the results are in the order of what was wanted. ``runner``: another way to run."""
        with ThreadPoolExecutor(self.slots) as pool:
            runs = list(pool.map(lambda one: self._one(one[0], one[1], runner), wanted))
        for (commit, probe), found in zip(wanted, runs, strict=True):
            failed = tuple(sorted(name for name, each in found.outcomes.items() if each.bad))
            count = len(found.outcomes) if probe.tests is None else len(probe.tests)
            self.done.append(Probed(commit, why, count, failed, round(found.seconds, 3), found.trouble))
        return runs

    def _one(self, commit: str, probe: Probe, runner: Runner | None) -> Run:
        checkout = self._take(commit)
        try:
            with self._making:
                python = environments.python_for(checkout, self._recipe, self._cache, self.settings.environment)
            left = max(1.0, self.deadline - time.monotonic())
            limit = min(self.settings.timeout, left)
            settings = self.settings._replace(python=python, timeout=limit, runner=runner or self.settings.runner)
            return run(checkout, settings, probe)
        finally:
            self._free.put(checkout)

    def _take(self, commit: str) -> Checkout:
        with self._lock:
            more = self._free.empty() and self._opened < self.slots
            self._opened += more
        if more:
            return self.checkouts.open(commit)
        checkout = self._free.get()
        checkout.go(commit)
        return checkout
