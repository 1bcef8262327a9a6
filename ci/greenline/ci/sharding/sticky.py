"""Keep tests on the shard of an earlier plan, and move only as many as the makespan asks for.

A test that stays finds warm caches, and a developer finds it where it was.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from greenline.ci.sharding import placing
from greenline.ci.sharding.needs import NOTHING, file_of
from greenline.ci.sharding.placing import Part, Runners
from greenline.ci.sharding.plan_file import Plan, Pool
from greenline.ci.sharding.schedule import lock_groups
from greenline.ci.sharding.units import Unit

ENOUGH = 1.03
"""Makespan ÷ bound up to which nothing moves."""


def keep(units: Sequence[Unit], pool: Pool, fresh: Runners, previous: Plan, cost: float) -> Runners:
    """The earlier placement, repaired; `fresh` where that is not possible: other runners, several tests at a time."""
    before = [shard for shard in previous.shards if shard.pool == pool.name]
    if lock_groups(unit.needs.locks for unit in units if unit.needs is not NOTHING):
        return fresh  # where one goes, the others must
    if not placing.one_at_a_time(units, pool) or not before or len(before) != len(fresh):
        return fresh
    home = {test: place for place, shard in enumerate(before) for test in shard.tests}
    files = {item: place for place, shard in enumerate(before) for item in shard.owns}
    bins: list[list[int]] = [[] for _ in before]
    loads = [0.0] * len(before)
    new = []
    for index, unit in enumerate(units):
        places = [home[test] for test in unit.tests if test in home]
        if places:
            bins[places[0]].append(index)
            loads[places[0]] += unit.on(pool.name)
        else:
            new.append(index)
    least = placing.bound(units, pool, len(bins), cost)
    for index in sorted(new, key=lambda index: (-units[index].on(pool.name), index)):
        own = files.get(file_of(units[index].tests[0]))
        emptiest = min(range(len(bins)), key=lambda place: (loads[place], place))
        fits = own is not None and loads[own] + units[index].on(pool.name) <= least * ENOUGH
        place = own if fits and own is not None else emptiest
        bins[place].append(index)
        loads[place] += units[index].on(pool.name)
    return _repair(units, pool, bins, max(least * ENOUGH, placing.end_of(fresh)), cost) or fresh


def _repair(units: Sequence[Unit], pool: Pool, bins: list[list[int]], enough: float, cost: float) -> Runners | None:
    """Move single atoms off the fullest runner until all end by `enough`; None when that does not work."""
    members = [frozenset(index for index in each) for each in bins]
    for _ in range(len(units)):
        runners = [_parts(units, pool, sorted(each), cost) for each in members]
        loads = [placing.end_of([parts]) for parts in runners]
        full = max(range(len(loads)), key=lambda place: (loads[place], -place))
        if loads[full] <= enough * placing.ROUNDING:
            return runners
        step = _move(units, pool, members, loads, full, cost) or _swap(units, pool, members, loads, full)
        if step is None:
            return None
        other, given, taken = step
        members[full] = members[full] - {given} | ({taken} if taken is not None else set())
        members[other] = members[other] - {taken} | {given}
    return None


_Step = tuple[int, int, int | None]  # other runner, atom that goes there, atom that comes back


def _move(
    units: Sequence[Unit], pool: Pool, members: list[frozenset[int]], loads: list[float], full: int, cost: float
) -> _Step | None:
    """The atom that best levels the fullest runner and the emptiest."""
    empty = min(range(len(loads)), key=lambda place: (loads[place], place))
    gap = loads[full] - loads[empty]
    there = {units[index].file for index in members[empty]}
    moving = [
        (abs(seconds - gap / 2), index)
        for index in members[full]
        if (own := units[index].on(pool.name)) > 0
        and (seconds := own + (0 if units[index].file in there else cost)) < gap
    ]
    return (empty, min(moving)[1], None) if moving else None


def _swap(
    units: Sequence[Unit], pool: Pool, members: list[frozenset[int]], loads: list[float], full: int
) -> _Step | None:
    """The two atoms of the fullest runner and another that best level these; for atoms larger than the gap."""
    best: tuple[float, _Step] | None = None
    for other in range(len(loads)):
        gap = loads[full] - loads[other]
        small = sorted((units[index].on(pool.name), index) for index in members[other])
        for index in sorted(members[full]):
            place = bisect_left(small, (units[index].on(pool.name) - gap / 2, -1))
            for seconds, taken in small[max(0, place - 1) : place + 1]:
                moved = units[index].on(pool.name) - seconds
                # What the fuller of the two then has.
                after = max(loads[full] - moved, loads[other] + moved)
                if 0 < moved < gap and (best is None or after < best[0]):
                    best = (after, (other, index, taken))
    return best[1] if best else None


def _parts(units: Sequence[Unit], pool: Pool, indices: Sequence[int], cost: float) -> list[Part]:
    """A runner's atoms by file, one after the other."""
    files: dict[tuple[object, ...], list[int]] = {}
    for index in indices:
        unit = units[index]
        files.setdefault((unit.suite, unit.file, unit.needs), []).append(index)
    paid: set[tuple[object, ...]] = set()
    parts = []
    now = 0.0
    for key, own in files.items():
        seconds = sum(units[index].on(pool.name) for index in own) + (0.0 if key[:2] in paid else cost)
        paid.add(key[:2])
        parts.append(Part(tuple(own), seconds, now))
        now += seconds
    return parts
