"""Run a plan's atoms on a Ray cluster: the queue is here, its workers are actors on the nodes.

Ray gives GPU atoms their devices, an actor for each atom. CPU atoms share actors on nodes without GPUs, where there
are any, and see no GPU. An actor or a node that is lost is a worker that died: its atoms go to others, see queue.py.
The repository, its environment and greenline must be on all nodes under the same path.
"""

from __future__ import annotations

import importlib
import json
import os
import queue as queues
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from greenline.ci.execution.parts import SuitePart
from greenline.ci.execution.placement import wants_gpu
from greenline.ci.execution.queue import Doing, Ended, Job, Queue, jobs_of
from greenline.ci.execution.shard import Setting, stream_name, suite_command
from greenline.ci.execution.slots import Who, refuse
from greenline.ci.sharding.plan_file import Plan, PlannedAtom
from greenline.depgraph.errors import GreenlineError
from pytest_greenline import part as part_file

_ENVIRONMENT = {"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}}  # else an actor without GPUs sees all of them
_LOOK = 5.0
_LAST = ("leased", "end", "died", "hung")
"""Events after which an actor waits for another job, or is gone."""
_MOST_FAILURES = 3
"""Actors that a node may fail to start, and times that one job may fail to find an actor."""


class Node(NamedTuple):
    """A living node of the cluster."""

    id: str
    cpus: int
    gpus: int


def share_of(atom: PlannedAtom, plan: Plan) -> float:
    """How much of Ray's GPUs an atom takes: what it says, else its part of the memory of the plan's smallest GPU."""
    if atom.gpus or not wants_gpu(atom):
        return atom.gpus
    smallest = min((pool.gpu_memory for pool in plan.pools if pool.gpu_memory >= atom.gpu_memory), default=0)
    return min(1.0, round(atom.gpu_memory / smallest + 5e-5, 4)) if smallest else 1.0


def why_never(atom: PlannedAtom, share: float, nodes: Sequence[Node]) -> str | None:
    """Why no node can ever run this atom: Ray would wait for ever."""
    if atom.nodes > 1:
        return f"it needs {atom.nodes} machines at once"
    if share and not any(node.gpus >= share and node.cpus for node in nodes):
        return f"it needs {share:g} GPUs of one node, the largest has {max((node.gpus for node in nodes), default=0)}"
    return None if any(node.cpus for node in nodes) else "there is no node with a CPU"


def cpu_nodes(nodes: Sequence[Node]) -> list[Node]:
    """Where CPU work goes: not to nodes with GPUs, unless there are no others."""
    return [node for node in nodes if node.cpus and not node.gpus] or [node for node in nodes if node.cpus]


def run_ray(
    setting: Setting, suites: Sequence[SuitePart], address: str, who: Who, timeout: float | None,
    say: Callable[[str], object],
) -> Ended:  # fmt: skip
    """Run all atoms of these suites on the cluster at ``address``.

    Raises GreenlineError where Ray is missing, the cluster cannot be reached, or an atom can never run there.
    """
    ray = _connect(address)
    try:
        return _Cluster(ray, setting, suites, who, timeout, say).run()
    finally:
        ray.shutdown()


def _connect(address: str) -> Any:
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise GreenlineError("Ray is not installed", "pip install 'greenline[ray]'") from None
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise GreenlineError(f"--ray {address}: {first}", f"is it up? ray status --address {address}") from None
    return ray


class _Actor:
    """An actor as seen from here. ``node``: "" where Ray chooses; ``heard``: has its pytest ever said something?"""

    def __init__(self, handle: Any, suite: str, node: str, share: float, stream: str) -> None:
        self.handle, self.suite, self.node, self.share, self.stream = handle, suite, node, share, stream
        self.doing: Doing | None = None
        self.heard = self.closing = False


class _Cluster:
    def __init__(
        self, ray: Any, setting: Setting, suites: Sequence[SuitePart], who: Who, timeout: float | None,
        say: Callable[[str], object],
    ) -> None:  # fmt: skip
        from greenline.ci.execution.ray_actor import Remote

        self._ray, self._setting, self._who, self._timeout, self._say = ray, setting, who, timeout, say
        self._class = ray.remote(Remote)
        jobs = jobs_of(suites)
        never = ((job, why_never(job.atom, self._share(job), self._nodes())) for job in jobs)
        refuse([(job, why) for job, why in never if why], "the Ray cluster")
        self._suites = {suite.suite: (*suite_command(setting, suite), part_file.dumps(suite.part)) for suite in suites}
        self._queue = Queue(jobs, say)
        self._inbox: queues.Queue[tuple[_Actor, dict[str, Any]]] = queues.Queue()
        self._actors: list[_Actor] = []
        self._failures: Counter[Job | str] = Counter()  # of nodes and jobs
        self._started = 0

    def run(self) -> Ended:
        changed = True
        while self._queue.waiting or self._actors:
            if changed:
                self._fill()
            try:
                actor, event = self._inbox.get(timeout=_LOOK)
            except queues.Empty:
                self._give_up_what_cannot_run()
                changed = True  # other work may have left the cluster
                continue
            changed = event["event"] in _LAST
            if actor in self._actors:
                self._hear(actor, event)
        return self._queue.end()

    def _nodes(self) -> list[Node]:
        """Living nodes that have not failed too often."""
        listed = [
            Node(node["NodeID"], int(node["Resources"].get("CPU", 0)), int(node["Resources"].get("GPU", 0)))
            for node in self._ray.nodes()
            if node["Alive"]
        ]
        failures = getattr(self, "_failures", Counter())
        return sorted(node for node in listed if failures[node.id] < _MOST_FAILURES)

    def _share(self, job: Job) -> float:
        return share_of(job.atom, self._setting.plan)

    # -- leasing -------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        nodes = self._nodes()
        for job in list(self._queue.waiting):
            busy = [actor for actor in self._actors if actor.doing]
            if self._must_wait(job, busy):
                continue
            actor = self._gpu_actor(job, nodes) if wants_gpu(job.atom) else self._cpu_actor(job, nodes)
            if actor:
                self._queue.waiting.remove(job)
                actor.doing = Doing(job, actor.stream)
                self._follow(actor, actor.handle.run.options(num_returns="streaming").remote(job, self._timeout))
        for actor in self._actors:
            if not actor.doing and not actor.closing and not self._may_use(actor):
                actor.closing = True
                self._follow(actor, actor.handle.close.options(num_returns="streaming").remote())

    def _must_wait(self, job: Job, busy: Sequence[_Actor]) -> bool:
        running = [actor.doing.job.atom for actor in busy if actor.doing]
        held = {lock for atom in running for lock in atom.locks}
        return bool(
            held & set(job.atom.locks) or (job.atom.exclusive and running) or any(atom.exclusive for atom in running)
        )

    def _gpu_actor(self, job: Job, nodes: Sequence[Node]) -> _Actor | None:
        """A new actor if the cluster may have room; on which node and devices, Ray decides."""
        share = self._share(job)
        used = sum(actor.share for actor in self._actors)
        return self._start(job.suite, "", share) if used + share <= sum(node.gpus for node in nodes) else None

    def _cpu_actor(self, job: Job, nodes: Sequence[Node]) -> _Actor | None:
        idle = [actor for actor in self._actors if not actor.doing and not actor.closing and not actor.share]
        if not job.atom.isolated:
            for actor in idle:
                if actor.suite == job.suite:
                    return actor
        taken = Counter(actor.node for actor in self._actors)
        free = [(node.cpus - taken[node.id], node.id) for node in cpu_nodes(nodes)]
        most, node_id = max(free, default=(0, ""))
        return self._start(job.suite, node_id, 0.0) if most > 0 else None

    def _may_use(self, actor: _Actor) -> bool:
        return not actor.share and any(
            job.suite == actor.suite and not wants_gpu(job.atom) and not job.atom.isolated
            for job in self._queue.waiting
        )

    def _start(self, suite: str, node: str, share: float) -> _Actor:
        self._started += 1
        command, folder, part = self._suites[suite]
        stream = stream_name(self._who.shard, self._who.attempt, suite, f".ray{self._started}")
        variables = self._setting.session(suite, self._who.runner, self._who.shard, self._who.attempt)
        strategies = importlib.import_module("ray.util.scheduling_strategies")
        where = {"scheduling_strategy": strategies.NodeAffinitySchedulingStrategy(node, soft=False)} if node else {}
        options = self._class.options(num_cpus=1, num_gpus=share, runtime_env=_ENVIRONMENT, **where)
        handle = options.remote([*command, *self._setting.options], folder, part, variables, not share)
        actor = _Actor(handle, suite, node, share, os.path.join(self._setting.results, stream))
        self._actors.append(actor)
        return actor

    def _follow(self, actor: _Actor, events: Any) -> None:
        """Have a thread put the events of a call into the inbox."""

        def follow() -> None:
            try:
                for reference in events:
                    self._inbox.put((actor, self._ray.get(reference)))
            except self._ray.exceptions.RayError as error:
                told = str(error).strip().partition("\n")[0]
                self._inbox.put((actor, {"event": "died", "how": f"{type(error).__name__}: {told}", "log": told}))

        threading.Thread(target=follow, daemon=True).start()

    # -- listening -----------------------------------------------------------------------------------------

    def _hear(self, actor: _Actor, event: dict[str, Any]) -> None:
        kind, doing = event["event"], actor.doing
        if kind == "died":
            self._died(actor, event)
        elif kind == "hung":
            assert doing
            self._remove(actor)
            self._queue.hung(doing, event["silent"], self._keep_log(actor, event))
        else:
            log = self._keep_log(actor, event) if kind == "end" else ""
            actor.heard = True
            with open(actor.stream, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(json.dumps(event) + "\n")
            self._queue.hear(doing, event)
            if kind == "leased":
                actor.doing = None
            elif kind == "end":
                self._remove(actor)
                self._queue.ended(doing, event["exit"], log)

    def _died(self, actor: _Actor, event: dict[str, Any]) -> None:
        self._remove(actor)
        doing = actor.doing
        if doing is None or actor.heard:
            self._queue.died(doing, event["how"], self._keep_log(actor, event))
            return
        self._failures[actor.node] += bool(actor.node)
        self._failures[doing.job] += 1
        self._say(f"no worker could be started: {event['how']}")
        if self._failures[doing.job] < _MOST_FAILURES:
            self._queue.again(doing.job)
        else:
            self._queue.give_up(doing.job, "no worker could be started for it")

    def _remove(self, actor: _Actor) -> None:
        self._actors.remove(actor)
        self._ray.kill(actor.handle)

    def _keep_log(self, actor: _Actor, event: dict[str, Any]) -> str:
        path = actor.stream.removesuffix(".jsonl") + ".log"
        with open(path, "a", encoding="utf-8") as file:
            file.write(event.pop("log"))
        return path

    def _give_up_what_cannot_run(self) -> None:
        """Nodes may have been lost for good."""
        nodes = self._nodes()
        for job in list(self._queue.waiting):
            why = why_never(job.atom, self._share(job), nodes)
            if why and not any(actor.doing for actor in self._actors):
                self._queue.waiting.remove(job)
                self._queue.give_up(job, why)
