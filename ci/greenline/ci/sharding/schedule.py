"""Jobs that share a runner: whole GPUs, parts of GPUs, slots, memory, locks.

List scheduling: whenever something becomes free, the first job of a list that fits starts (M. R. Garey and
R. L. Graham, "Bounds for Multiprocessor Scheduling with Resource Constraints", 1975). No single order is good for
tests of one, two, four and eight GPUs together, so many random ones are tried, with a fixed seed.
"""

from __future__ import annotations

import bisect
import heapq
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from greenline.ci.sharding.needs import NOTHING, RUNNER_LOCK, Needs
from greenline.ci.sharding.plan_file import Pool

TRIES = 1000
"""Orders that are tried, and the number of jobs that all tries together may place."""
PLACED = 45_000
CLOSE = 1.002
"""Makespan ÷ bound that ends the search."""


class Job(NamedTuple):
    """What runs without a break. ``devices``: whole GPUs of each of its nodes; ``share``: of one GPU."""

    seconds: float
    slots: int = 1
    memory: int = 0
    devices: int = 0
    share: float = 0.0
    exclusive: bool = False
    locks: tuple[str, ...] = ()

    def uses(self, pool: Pool) -> tuple[float, ...]:
        """The part of a runner that it takes: of the GPUs if there are any, the slots, the memory if that counts."""
        found = [(self.devices + self.share) / pool.gpus] if pool.gpus else []
        found.append(self.slots / pool.slots)
        if pool.memory:
            found.append(self.memory / pool.memory)
        return (1.0,) * len(found) if self.exclusive else tuple(found)

    def width(self, pool: Pool) -> float:
        """The part of what it takes most of."""
        return max(self.uses(pool))


class Placed(NamedTuple):
    runner: int
    start: float
    devices: tuple[int, ...]


def job_of(seconds: float, needs: Needs, pool: Pool) -> Job:
    """What these needs take of a runner of this pool; a part of a GPU whose memory is not known is all of it."""
    if needs is NOTHING:
        return Job(seconds)
    part = needs.gpus if needs.gpus < 1 else 0.0
    if needs.gpu_kinds and not needs.gpus and not needs.gpu_memory:
        part = 1.0
    if needs.gpus < 1 and needs.gpu_memory:
        part = max(part, needs.gpu_memory / pool.gpu_memory if pool.gpu_memory else 1.0)
    whole = int(needs.gpus) if needs.gpus >= 1 else 1 if part > 1 - 1e-9 else 0
    memory = needs.memory if pool.memory else 0
    alone = needs.exclusive or needs.nodes > 1
    return Job(seconds, min(needs.slots, pool.slots), memory, whole, 0.0 if whole else part, alone, needs.locks)


def fits(needs: Needs, pool: Pool) -> bool:
    """Whether an empty runner of the pool can run it. Tests without a GPU never take a runner with one."""
    if needs.gpu != (pool.gpus > 0) or needs.nodes != pool.nodes or needs.slots > pool.slots:
        return False
    if needs.memory and pool.memory and needs.memory > pool.memory:
        return False
    if not needs.gpu:
        return True
    kind = not needs.gpu_kinds or pool.gpu_kind in needs.gpu_kinds
    return kind and needs.gpus <= pool.gpus and (not pool.gpu_memory or needs.gpu_memory <= pool.gpu_memory)


class _Runner:
    """What is free of a runner, from the time on when it is ready."""

    def __init__(self, pool: Pool, ready: float) -> None:
        self.pool = pool.name
        self.ready = ready
        self.slots = pool.slots
        self.memory = pool.memory
        self.devices = [1.0] * pool.gpus
        self.jobs = 0
        self.closed = False
        self.locks: set[str] = set()

    def room(self, job: Job) -> tuple[int, ...] | None:
        """The devices that it would get, or None."""
        if self.closed or (job.exclusive and self.jobs) or self.slots < job.slots or self.memory < job.memory:
            return None
        if job.locks and not self.locks.isdisjoint(job.locks):
            return None
        if job.devices:
            free = [device for device, left in enumerate(self.devices) if left > 1 - 1e-9]
            return tuple(free[: job.devices]) if len(free) >= job.devices else None
        if job.share:
            tight = [(left, device) for device, left in enumerate(self.devices) if left >= job.share - 1e-9]
            return (min(tight)[1],) if tight else None
        return ()

    def take(self, job: Job, devices: tuple[int, ...], sign: int) -> None:
        """Take it (1), or give it back (-1)."""
        self.slots -= sign * job.slots
        self.memory -= sign * job.memory
        self.jobs += sign
        if job.exclusive:
            self.closed = sign > 0
        for device in devices:
            self.devices[device] -= sign * (job.share or 1.0)
        if job.locks:
            (self.locks.update if sign > 0 else self.locks.difference_update)(job.locks)


Choice = Mapping[str, Job]
"""Pool → what a piece of work is there. It runs in one of these pools."""


def list_schedule(jobs: Sequence[Choice], order: Sequence[int], runners: Sequence[Pool], wait: bool) -> list[Placed]:
    """Start times when jobs start in this order as soon as they fit.

    `runners`: the pool of each; `wait`: a runner starts after its pool's wait, not at 0. Jobs with a common lock,
    unless it is local to a runner, all run where the first of them runs, in each pool.
    """
    alike: dict[tuple[object, ...], list[int]] = {}  # jobs with the same needs fit alike: only the first is asked
    rank = {index: place for place, index in enumerate(order)}
    for index in reversed(order):
        alike.setdefault(tuple((name, job[1:]) for name, job in jobs[index].items()), []).append(index)
    # By the place of its first job in the order: (place, the part of a device that it takes at least, jobs).
    queues = sorted((rank[queue[-1]], min(map(_part, jobs[queue[-1]].values())), queue) for queue in alike.values())
    state = [_Runner(pool, pool.wait if wait else 0.0) for pool in runners]
    groups = lock_groups(_locks(choice) for choice in jobs)
    home: dict[tuple[str, str], int] = {}  # group of locks and pool → runner
    placed: dict[int, Placed] = {}
    ends: list[tuple[float, int]] = [(runner.ready, -1) for runner in state if runner.ready]
    heapq.heapify(ends)
    now, first, free = 0.0, 0, _free(state)
    while len(placed) < len(jobs) or ends:
        for at in range(first, len(queues)):  # what did not fit before will not, until something ends
            _, part, queue = queues[at]
            if part > free:
                continue
            choice = jobs[queue[-1]]
            group = next((groups[lock] for lock in _locks(choice) if lock in groups), "")
            where = _where(choice, state, {pool: home[group, pool] for pool in choice if (group, pool) in home}, now)
            if where is not None:
                break
        else:
            if not ends:
                raise ValueError("a job does not fit on an empty runner")
            now = ends[0][0]
            while ends and ends[0][0] <= now:
                index = heapq.heappop(ends)[1]
                if index >= 0:
                    runner = state[placed[index].runner]
                    runner.take(jobs[index][runner.pool], placed[index].devices, -1)
            first, free = 0, _free(state)
            continue
        first = at
        del queues[at]
        index = queue.pop()
        if queue:
            bisect.insort(queues, (rank[queue[-1]], part, queue))
        number, devices = where
        job = choice[state[number].pool]
        state[number].take(job, devices, 1)
        free = _free(state)
        if group:
            home[group, state[number].pool] = number
        placed[index] = Placed(number, now, devices)
        heapq.heappush(ends, (now + job.seconds, index))
    return [placed[index] for index in range(len(jobs))]


def _part(job: Job) -> float:
    return 1.0 if job.devices else job.share


def _free(state: Sequence[_Runner]) -> float:
    """The largest part of a device that is free."""
    return max((left for runner in state for left in runner.devices), default=0.0) + 1e-9


def _locks(choice: Choice) -> tuple[str, ...]:
    return next(iter(choice.values())).locks


def _where(
    choice: Choice, state: list[_Runner], homes: Mapping[str, int], now: float
) -> tuple[int, tuple[int, ...]] | None:
    """The fullest runner with room; of a pool in `homes` only that one."""
    best: tuple[float, int, int, tuple[int, ...]] | None = None
    for number, runner in enumerate(state):
        if runner.ready > now or runner.pool not in choice or homes.get(runner.pool, number) != number:
            continue
        devices = runner.room(choice[runner.pool])
        if devices is not None:
            key = (sum(runner.devices), runner.slots, number, devices)
            best = key if best is None or key < best else best
    return (best[2], best[3]) if best else None


def lock_groups(locks: Iterable[tuple[str, ...]]) -> dict[str, str]:
    """Each lock that holds across runners → the name of the group of locks that some jobs tie together."""
    group: dict[str, str] = {}
    for each in locks:
        names = [lock for lock in each if not lock.startswith(RUNNER_LOCK)]
        for name in names:
            group.setdefault(name, name)
        roots = sorted({group[name] for name in names})
        for name, root in group.items() if len(roots) > 1 else ():
            if root in roots:
                group[name] = roots[0]
    return group


def end_of(jobs: Sequence[Choice], placed: Sequence[Placed], runners: Sequence[Pool]) -> float:
    return max(
        (at.start + choice[runners[at.runner].name].seconds for choice, at in zip(jobs, placed, strict=True)),
        default=0.0,
    )


def schedule(
    jobs: Sequence[Choice], runners: Sequence[Pool], least: float, enough: float = 0.0, wait: bool = False
) -> list[Placed]:
    """The best of many list schedules; `least`: a lower bound; one that ends by `enough` will do."""
    chance = random.Random(0)
    best: tuple[float, list[Placed], list[int]] | None = None
    everything = range(len(jobs))
    pools = {pool.name: pool for pool in runners}
    seconds = [min(job.seconds for job in choice.values()) for choice in jobs]
    widths = [max(job.width(pools[name]) for name, job in choice.items() if name in pools) for choice in jobs]
    areas = [width * each for width, each in zip(widths, seconds, strict=True)]
    # What can go to few runners only goes first: others can take the rest.
    scarce = [sum(pool.name in choice for pool in runners) for choice in jobs]
    keys: list[Callable[[int], tuple[float, ...]]] = [
        lambda job: (-areas[job], job),
        lambda job: (-seconds[job], job),
        lambda job: (scarce[job], -widths[job], -seconds[job], job),
    ]
    order: list[int] = []
    tries = max(len(keys), min(TRIES, 10 * len(jobs), PLACED // max(1, len(jobs))))
    for attempt in range(tries):
        if attempt < len(keys):
            order = sorted(everything, key=keys[attempt])
        elif attempt % 4 or best is None:  # what ends last is moved to the front of the best order so far
            order = _nudge(best, jobs, runners, chance) if best else order
        else:
            noise = (0.1, 0.3, 1.0)[attempt % 3]
            base = areas if attempt % 8 else seconds
            drawn = [-each * (1 + noise * chance.random()) for each in base]
            order = sorted(everything, key=lambda job: (scarce[job] if attempt % 16 < 8 else 0, drawn[job], job))
        placed = list_schedule(jobs, order, runners, wait)
        end = end_of(jobs, placed, runners)
        if best is None or end <= best[0]:
            best = (end, placed, order)
        if best[0] <= max(least * CLOSE, enough):
            break
    assert best is not None
    return best[1]


def _nudge(
    best: tuple[float, list[Placed], list[int]], jobs: Sequence[Choice], runners: Sequence[Pool], chance: random.Random
) -> list[int]:
    """The best order, with a job that ends last somewhere earlier, and two others somewhere else."""
    end, placed, order = best
    found = list(order)
    last = [
        index
        for index, (choice, at) in enumerate(zip(jobs, placed, strict=True))
        if at.start + choice[runners[at.runner].name].seconds >= end * 0.995
    ]
    late = chance.choice(last)
    found.remove(late)
    found.insert(chance.randrange(order.index(late) + 1), late)
    for _ in range(2):
        found.insert(chance.randrange(len(found)), found.pop(chance.randrange(len(found))))
    return found
