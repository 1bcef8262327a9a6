"""The atoms of one pool on a number of its runners, and the bound below which no placement gets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from greenline.ci.sharding import pack
from greenline.ci.sharding.needs import NOTHING, RUNNER_LOCK, Needs
from greenline.ci.sharding.plan_file import Pool
from greenline.ci.sharding.schedule import Job, job_of, list_schedule, lock_groups, schedule
from greenline.ci.sharding.units import Unit

ROUNDING = 1 + 1e-9


class Part(NamedTuple):
    """Atoms of one file that run on one runner one after the other. ``units``: positions, in order."""

    units: tuple[int, ...]
    seconds: float
    start: float = 0.0
    devices: tuple[int, ...] = ()


Runners = list[list[Part]]


def one_at_a_time(units: Sequence[Unit], pool: Pool) -> bool:
    """Whether a runner of this pool can only ever run one of these atoms."""
    if pool.slots == 1:
        return True
    whole = all(unit.needs.gpus >= 1 or (unit.needs.gpu and not pool.gpu_memory) for unit in units)
    return pool.gpus == 1 and whole


def end_of(runners: Runners) -> float:
    return max((part.start + part.seconds for parts in runners for part in parts), default=0.0)


def failures_first(parts: Sequence[Part], units: Sequence[Unit], pool: Pool, latest: float) -> list[Part]:
    """A runner's parts in the order of their start: those likely to fail as early as ends no later than `latest`."""
    risks = {part.units: max(units[index].failing for index in part.units) for part in parts}
    order = sorted(
        range(len(parts)), key=lambda each: (-risks[parts[each].units], -parts[each].seconds, parts[each].units)
    )
    if one_at_a_time([units[index] for part in parts for index in part.units], pool):
        now = 0.0
        found = []
        for each in order:
            found.append(parts[each]._replace(start=now))
            now += parts[each].seconds
        return found
    if any(risks.values()):
        jobs = [{pool.name: job_of(part.seconds, units[part.units[0]].needs, pool)} for part in parts]
        placed = list_schedule(jobs, order, [pool], False)
        again = [part._replace(start=at.start, devices=at.devices) for part, at in zip(parts, placed, strict=True)]
        if end_of([again]) <= latest * ROUNDING:
            parts = again
    return sorted(parts, key=lambda part: (part.start, -part.seconds, part.units))


# -- bounds --------------------------------------------------------------------------------------------------


def bound(units: Sequence[Unit], pool: Pool, runners: int, cost: float = 0.0, tests: bool = False) -> float:
    """Seconds, without start-up, below which these atoms cannot end on so many runners of the pool.

    The largest of: the longest atom; each resource's area; wide jobs, of which no two fit side by side; what shares a
    lock. `tests`: as if each test were an atom.
    """
    if not units:
        return 0.0
    if one_at_a_time(units, pool):
        return pack.bound(_Bundles(units, pool, tests).files, runners, cost)
    jobs = [job_of(unit.on(pool.name), unit.needs, pool) for unit in units]
    once = {(unit.suite, unit.file, unit.needs): job for unit, job in zip(units, jobs, strict=True)}
    jobs += [job._replace(seconds=cost) for job in once.values()] if cost else []
    longest = max(unit.longest if tests else job.seconds for unit, job in zip(units, jobs, strict=False)) + cost
    uses = [job.uses(pool) for job in jobs]
    areas = _areas(jobs, uses)
    if pool.gpus:
        areas += [sum(map(_weigh(pool, cut), jobs)) for cut in _cuts(jobs)]
        areas += [runners * _one_by_one(_apart(jobs, pool, cut), runners) for cut in _cuts(jobs)]
    locks: dict[str, float] = {}
    groups = lock_groups(job.locks for job in jobs)
    for job in jobs:
        for lock in job.locks:
            locks[lock] = locks.get(lock, 0.0) + job.seconds
    tied = [seconds / (runners if lock.startswith(RUNNER_LOCK) else 1) for lock, seconds in locks.items()]
    # Locks that some test ties together hold on one runner, which also has only so much room.
    for root in set(groups.values()):
        tied += _areas(*_tied(jobs, uses, {lock for lock, each in groups.items() if each == root}))
    return max([longest, *(area / runners for area in areas), *tied])


def _areas(jobs: Sequence[Job], uses: Sequence[tuple[float, ...]]) -> list[float]:
    """Runner-seconds of each resource."""
    weighted = ([job.seconds * use for use in each] for job, each in zip(jobs, uses, strict=True))
    return [math.fsum(column) for column in zip(*weighted, strict=True)]


def _tied(
    jobs: Sequence[Job], uses: Sequence[tuple[float, ...]], locks: set[str]
) -> tuple[list[Job], list[tuple[float, ...]]]:
    pairs = [(job, use) for job, use in zip(jobs, uses, strict=True) if not locks.isdisjoint(job.locks)]
    return [job for job, _ in pairs], [use for _, use in pairs]


def _cuts(jobs: Sequence[Job]) -> list[int]:
    return sorted({job.devices for job in jobs if job.devices})


def _weigh(pool: Pool, cut: int) -> Callable[[Job], float]:
    """Runner-seconds by a dual feasible function of wide jobs (S. P. Fekete and J. Schepers, 2001).

    What is wider than the runner less `cut` leaves no room for what is at least `cut` wide, and counts as all of it;
    what is narrower than `cut` counts as nothing. A cut over half of the runner: no two of that width fit.
    """
    gpus = pool.gpus

    def weigh(job: Job) -> float:
        width = float(gpus) if job.exclusive else job.devices + job.share
        if cut > gpus / 2:
            return job.seconds if width > gpus / 2 else 0.0
        return job.seconds if width > gpus - cut else job.seconds * width / gpus if width >= cut else 0.0

    return weigh


def _apart(jobs: Sequence[Job], pool: Pool, cut: int) -> list[float]:
    """Seconds of jobs of which no two run on one runner at a time, the longest first.

    Those too wide to leave `cut` devices, and the longest that takes at least these.
    """
    wide, narrow = [], [0.0]
    for job in jobs:
        width = pool.gpus if job.exclusive else job.devices
        if width > pool.gpus - cut and width > pool.gpus / 2:
            wide.append(job.seconds)
        elif width >= cut:
            narrow.append(job.seconds)
    return sorted([*wide, max(narrow)], reverse=True)


def _one_by_one(seconds: Sequence[float], runners: int) -> float:
    """The end of jobs that run one after the other: of the longest q m + 1 on m runners, q + 1 are on one of them."""
    found = [math.fsum(seconds[number * runners - number : number * runners + 1]) for number in range(1, len(seconds))]
    return max(
        [
            math.fsum(seconds) / runners,
            *(each for number, each in enumerate(found, 1) if number * runners < len(seconds)),
        ]
    )


# -- placements ----------------------------------------------------------------------------------------------


def place(units: Sequence[Unit], pool: Pool, runners: int, cost: float = 0.0) -> Runners:
    """These atoms on so many runners, close to the bound, with few files split."""
    if one_at_a_time(units, pool):
        bundles = _Bundles(units, pool)
        return bundles.runners(pack.pack(bundles.files, runners, cost), cost)
    least = bound(units, pool, runners, cost)
    best = min(_schedules(units, pool, runners, cost, least, least * pack.CLOSE), key=end_of)
    return best


def fewest(units: Sequence[Unit], pool: Pool, end: float, cost: float = 0.0) -> Runners | None:
    """These atoms on as few runners as end by `end` seconds; None when the pool's maximum, or any number, cannot."""
    most = len(units) if pool.maximum is None else min(pool.maximum, len(units))
    if one_at_a_time(units, pool):
        bundles = _Bundles(units, pool)
        found = pack.fewest(bundles.files, end, cost, most)
        return bundles.runners(found[1], cost) if found else None
    if bound(units, pool, len(units), cost) > end * ROUNDING:
        return None
    for runners in range(1, most + 1):
        least = bound(units, pool, runners, cost)
        if least > end * ROUNDING:
            continue
        for placed in _schedules(units, pool, runners, cost, least, end):
            if end_of(placed) <= end * ROUNDING:
                # So many it takes; without gaps they are also paid for less long.
                return min(placed, place(units, pool, runners, cost), key=end_of)
    return None


def _schedules(
    units: Sequence[Unit], pool: Pool, runners: int, cost: float, least: float, enough: float
) -> Iterator[Runners]:
    """Schedules on one pool with ever more files split, until one ends by `enough`."""
    choices = {unit.needs: [pool] for unit in units}
    return jointly(units, choices, [pool] * runners, cost, least, enough, wait=False)


def jointly(
    units: Sequence[Unit],
    choices: Mapping[Needs, Sequence[Pool]],
    runners: Sequence[Pool],
    cost: float,
    least: float,
    enough: float,
    wait: bool = True,
) -> Iterator[Runners]:
    """Schedules on these runners (the pool of each) with ever more files split, until one ends by `enough`.

    `wait`: ends, bounds and starts count from asking for the runners; without it, from the first test.
    """
    groups: dict[tuple[str, str, Needs], list[int]] = {}
    for index, unit in enumerate(units):
        groups.setdefault((unit.suite, unit.file, unit.needs), []).append(index)
    members = list(groups.values())
    there = {pool.name for pool in runners}
    pools = [[pool for pool in choices[key[2]] if pool.name in there] for key in groups]
    files = [[units[index].on(own[0].name) for index in each] for each, own in zip(members, pools, strict=True)]
    before = -1
    for longest, size in pack.LADDER:
        pieces = pack.cut(files, longest * least, size * least, cost)
        if len(pieces) == before:
            continue
        before = len(pieces)
        jobs = []
        for file, places, _ in pieces:
            own = [units[members[file][each]] for each in places]
            jobs.append(
                {
                    pool.name: job_of(math.fsum(unit.on(pool.name) for unit in own) + cost, own[0].needs, pool)
                    for pool in pools[file]
                }
            )
        placed = schedule(jobs, runners, least, enough, wait)
        found: Runners = [[] for _ in runners]
        for (file, places, _), choice, at in zip(pieces, jobs, placed, strict=True):
            pool = runners[at.runner]
            indices = tuple(members[file][each] for each in places)
            found[at.runner].append(Part(indices, choice[pool.name].seconds, at.start, at.devices))
        yield found
        if end_of(found) <= enough * ROUNDING:
            return


class _Bundles:
    """Atoms by file, as :mod:`pack` wants them; those that share a lock are one, on runners that do one at a time."""

    def __init__(self, units: Sequence[Unit], pool: Pool, tests: bool = False) -> None:
        self._units = units
        self._pool = pool
        groups = lock_groups(unit.needs.locks for unit in units if unit.needs is not NOTHING)
        files: dict[tuple[str, str], list[list[int]]] = {}
        tied: dict[str, list[int]] = {}
        for index, unit in enumerate(units):
            locks = unit.needs.locks
            group = next((groups[lock] for lock in locks if lock in groups), "") if locks else ""
            if group in tied:
                tied[group].append(index)
                continue
            members = [index]
            if group:
                tied[group] = members
            key = unit.suite, unit.file
            if key in files:
                files[key].append(members)
            else:
                files[key] = [members]
        self._members = list(files.values())
        self._alike = all(unit.needs is NOTHING for unit in units)
        if tests and any(unit.why for unit in units):
            self.files = [self._tests(each) for each in self._members]
        else:
            seconds = [unit.on(pool.name) for unit in units]
            self.files = [
                [seconds[atom[0]] if len(atom) == 1 else math.fsum(seconds[unit] for unit in atom) for atom in each]
                for each in self._members
            ]

    def _tests(self, atoms: list[list[int]]) -> list[float]:
        """As many atoms as there are tests; of an atom only its longest test and its sum are known, which do."""
        found = []
        for unit in (self._units[index] for atom in atoms for index in atom):
            rest = unit.on(self._pool.name)
            while rest > unit.longest * 1.000001 and unit.longest:
                found.append(unit.longest)
                rest -= unit.longest
            found.append(max(rest, 0.0))
        return found

    def runners(self, bins: pack.Bins, cost: float) -> Runners:
        found: Runners = []
        for content in bins:
            parts = []
            now = 0.0
            for file, places in content.items():
                # A file's atoms stay together; what needs another process or lock is a part of its own.
                indices = [index for place in places for index in self._members[file][place]]
                first = self._units[indices[0]]
                by_needs: dict[tuple[str, str, Needs], list[int]] = {}
                if self._alike:
                    by_needs[first.suite, first.file, first.needs] = indices
                else:
                    for index in indices:
                        unit = self._units[index]
                        by_needs.setdefault((unit.suite, unit.file, unit.needs), []).append(index)
                for number, own in enumerate(by_needs.values()):
                    seconds = math.fsum(self._units[index].on(self._pool.name) for index in own)
                    seconds += cost if number == 0 else 0.0
                    parts.append(Part(tuple(own), seconds, now))
                    now += seconds
            found.append(parts)
        return found
