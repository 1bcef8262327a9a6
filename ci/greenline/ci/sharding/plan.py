"""From atoms and pools to a plan: how many runners of which pool, what each runs, and how good that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from greenline.ci.sharding import placing
from greenline.ci.sharding.mixed import area_bound
from greenline.ci.sharding.needs import NOTHING, file_of, function_of
from greenline.ci.sharding.placing import ROUNDING, Part, Runners
from greenline.ci.sharding.plan_file import Blocking, Bounds, Plan, PlannedAtom, Pool, Shard
from greenline.ci.sharding.pools import assign, default_pools, eligible
from greenline.ci.sharding.schedule import job_of, lock_groups
from greenline.ci.sharding.sticky import keep
from greenline.ci.sharding.units import Unit
from greenline.depgraph.errors import GreenlineError

MOST_BLOCKING = 20


class Wanted(NamedTuple):
    """Either at most so many ``shards``, or an end after ``target`` seconds at least cost."""

    shards: int | None = None
    target: float | None = None


class _Share(NamedTuple):
    """A pool's part of the plan. ``units``: its atoms."""

    pool: Pool
    units: list[Unit]
    runners: Runners


def make_plan(
    units: Sequence[Unit],
    wanted: Wanted,
    configured: Sequence[Pool] = (),
    cost: float = 0.0,
    owned: Sequence[str] = (),
    previous: Plan | None = None,
    warnings: Sequence[str] = (),
) -> Plan:
    """The plan for these atoms; none at all for no atom. Raises GreenlineError for what no runner can do.

    `cost`: seconds of a file on each runner; `owned`: what else may turn up, and is then run by one shard; `previous`:
    a plan to stay close to.
    """
    told = list(warnings)
    pools = default_pools(units, configured, told)
    chosen = assign(units, pools, wanted.target)
    used = [(pool, [units[index] for index in chosen[pool.name]]) for pool in pools if chosen[pool.name]]
    _tell_split_locks(used, told)
    if wanted.target is not None:
        shares = [_Share(pool, own, _in_time(pool, own, wanted.target, cost)) for pool, own in used]
    else:
        counts = _runner_counts(used, wanted.shards or 1, cost)
        shares = [
            _Share(pool, own, placing.place(own, pool, count, cost))
            for (pool, own), count in zip(used, counts, strict=True)
        ]
    if previous is not None:
        shares = [
            share._replace(runners=keep(share.units, share.pool, share.runners, previous, cost)) for share in shares
        ]
    shares = [share._replace(runners=[parts for parts in share.runners if parts]) for share in shares]
    shards = _shards(shares, owned)
    makespan = max((share.pool.wait + placing.end_of(share.runners) for share in shares), default=0.0)
    bounds = Bounds(_bound(shares, cost, False), _bound(shares, cost, True))
    feasible = wanted.target is None or makespan <= wanted.target * ROUNDING
    return Plan(
        commit=None,
        base=None,
        variant="",
        target=wanted.target,
        makespan=makespan,
        bound=bounds.declared,
        bounds=bounds,
        ratios=Bounds(*(makespan / each if each else 1.0 for each in bounds)),
        cost=sum(_price(share) for share in shares),
        feasible=feasible,
        blocking=_blocking(shares, cost, wanted.target if not feasible else None, makespan),
        pools=pools,
        shards=shards,
        suites={},
        warnings=tuple(told),
    )


# -- how many runners ----------------------------------------------------------------------------------------


def _in_time(pool: Pool, units: list[Unit], target: float, cost: float) -> Runners:
    """On as few runners as end in time; where none do, on as few as end as early as any number would, or all."""
    found = placing.fewest(units, pool, target - pool.wait, cost)
    if found is None:
        floor = placing.bound(units, pool, len(units), cost)
        found = placing.fewest(units, pool, max(floor * 1.02, target - pool.wait), cost)
    if found is None:
        found = placing.place(units, pool, min(pool.maximum or len(units), len(units)), cost)
    return found


def _runner_counts(used: Sequence[tuple[Pool, list[Unit]]], shards: int, cost: float) -> list[int]:
    """One runner for each pool, then one more for the pool that ends last, as long as that helps it."""
    if len(used) > shards:
        names = ", ".join(pool.name for pool, _ in used)
        raise GreenlineError(
            f"--shards {shards}: these tests need runners of {len(used)} pools: {names}",
            f"give at least --shards {len(used)}, or a --target",
        )
    counts = [1] * len(used)
    most = [
        min(len(units), pool.maximum or len(units), math.ceil(sum(unit.seconds for unit in units) / pool.startup))
        if pool.startup
        else min(len(units), pool.maximum or len(units))
        for pool, units in used
    ]
    if len(used) == 1:  # without the bounds below
        return [max(1, min(shards, most[0]))]
    ends = [pool.wait + placing.bound(units, pool, 1, cost) for pool, units in used]
    for _ in range(shards - len(used)):
        open_ones = [place for place in range(len(used)) if counts[place] < most[place]]
        if not open_ones:
            break
        place = max(open_ones, key=lambda place: (ends[place], -place))
        counts[place] += 1
        pool, units = used[place]
        ends[place] = pool.wait + placing.bound(units, pool, counts[place], cost)
    return counts


# -- how good it is ------------------------------------------------------------------------------------------


def _bound(shares: Sequence[_Share], cost: float, tests: bool) -> float:
    """Seconds below which no plan with these runners ends."""
    pools = [share.pool for share in shares]
    units = [(share.pool, unit) for share in shares for unit in share.units]
    choices = {unit.needs: eligible(unit.needs, pools) for _, unit in units}
    if all(len(each) == 1 for each in choices.values()):
        return max(
            (
                share.pool.wait + placing.bound(share.units, share.pool, len(share.runners), cost, tests)
                for share in shares
            ),
            default=0.0,
        )
    atom = max(
        min(pool.wait + (unit.longest if tests else unit.on(pool.name)) for pool in choices[unit.needs]) + cost
        for _, unit in units
    )
    fixed = [
        share.pool.wait
        + placing.bound(
            [unit for unit in share.units if len(choices[unit.needs]) == 1], share.pool, len(share.runners), cost, tests
        )
        for share in shares
    ]
    runners = {share.pool.name: len(share.runners) for share in shares}
    return max(atom, *fixed, area_bound([unit for _, unit in units], choices, runners))


def _price(share: _Share) -> float:
    """Of the runners' hours; waiting in the queue is free."""
    total = 0.0
    for parts in share.runners:
        seconds = share.pool.startup + placing.end_of([parts])
        steps = math.ceil(seconds / share.pool.billing - 1e-9) if share.pool.billing else seconds
        total += share.pool.price * max(steps, 1) * (share.pool.billing or 1) / 3600
    return total


def _blocking(shares: Sequence[_Share], cost: float, target: float | None, makespan: float) -> tuple[Blocking, ...]:
    """What no number of runners makes shorter: all that is over the target, else what ends as late as the plan."""
    limit = target * ROUNDING if target is not None else makespan * 0.995
    found = []
    for share in shares:
        wait = share.pool.wait
        why_wait = f", {wait:g} s of them until a {share.pool.name} runner is ready" if wait else ""
        for unit in share.units:
            seconds = wait + unit.on(share.pool.name) + cost
            if seconds > limit:
                why = unit.why or ("one test" if "::" in unit.tests[0] else "one item, of which no tests are known")
                found.append(Blocking(unit.tests, seconds, why + why_wait))
        groups = lock_groups(unit.needs.locks for unit in share.units if unit.needs is not NOTHING)
        for root in sorted(set(groups.values())):
            tied = [unit for unit in share.units if any(groups.get(lock) == root for lock in unit.needs.locks)]
            seconds = wait + placing.bound(tied, share.pool, len(tied), cost)
            if seconds > limit and len(tied) > 1:
                names = ", ".join(sorted(lock for lock, each in groups.items() if each == root))
                tests = tuple(test for unit in tied for test in unit.tests)
                found.append(Blocking(tests, seconds, f"one at a time: lock {names}{why_wait}"))
        if target is not None and share.pool.maximum is not None and not found:
            seconds = wait + placing.bound(share.units, share.pool, share.pool.maximum, cost)
            if seconds > limit or wait + placing.end_of(share.runners) > limit:
                tests = tuple(test for unit in share.units for test in unit.tests)
                why = f"pool {share.pool.name} has {share.pool.maximum} runners at most{why_wait}"
                found.append(Blocking(tests, max(seconds, wait + placing.end_of(share.runners)), why))
    return tuple(sorted(found, key=lambda each: (-each.seconds, each.tests))[:MOST_BLOCKING])


def _tell_split_locks(used: Sequence[tuple[Pool, list[Unit]]], warnings: list[str]) -> None:
    homes: dict[str, set[str]] = {}
    for pool, units in used:
        for lock in lock_groups(unit.needs.locks for unit in units if unit.needs is not NOTHING):
            homes.setdefault(lock, set()).add(pool.name)
    for lock, names in sorted(homes.items()):
        if len(names) > 1:
            warnings.append(
                f"tests of pools {' and '.join(sorted(names))} share the lock {lock!r}: it holds in each pool only"
            )


# -- the shards ----------------------------------------------------------------------------------------------


def _shards(shares: Sequence[_Share], owned: Sequence[str]) -> tuple[Shard, ...]:
    shards: list[Shard] = []
    for share in shares:
        latest = placing.end_of(share.runners)
        for parts in share.runners:
            ordered = placing.failures_first(parts, share.units, share.pool, latest)
            atoms = tuple(_atom(part, share) for part in ordered)
            tests = tuple(test for atom in atoms for test in atom.tests)
            suites = {atom.suite for atom in atoms}
            suite = suites.pop() if len(suites) == 1 else ""
            shards.append(Shard(len(shards), share.pool.name, placing.end_of([ordered]), tests, atoms, (), suite))
    owns = _owners(
        shards, {test: unit.seconds for share in shares for unit in share.units for test in unit.tests}, owned
    )
    return tuple(shard._replace(owns=tuple(owns[shard.index])) for shard in shards)


def _atom(part: Part, share: _Share) -> PlannedAtom:
    first = share.units[part.units[0]]
    needs = first.needs
    tests = tuple(test for index in part.units for test in share.units[index].tests)
    if needs is NOTHING:
        return PlannedAtom(tests, part.seconds, part.start, first.suite)
    job = job_of(part.seconds, needs, share.pool)
    return PlannedAtom(
        tests,
        part.seconds,
        part.start,
        first.suite,
        needs.slots,
        needs.memory,
        job.devices + job.share,
        needs.gpu_memory,
        needs.nodes,
        part.devices or tuple(range(job.devices or math.ceil(job.share))),
        needs.locks,
        needs.exclusive,
        needs.isolated,
    )


def _owners(shards: Sequence[Shard], seconds: dict[str, float], owned: Sequence[str]) -> list[list[str]]:
    """Each item belongs to the shard that runs most of it, by time."""
    wanted = set(owned)
    partial = any("::" in item for item in owned)
    held: dict[str, dict[int, float]] = {}
    for shard in shards:
        for test in shard.tests:
            names = {file_of(test)}
            if partial:
                parts = function_of(test).split("::")
                names.update("::".join(parts[:end]) for end in range(2, len(parts) + 1))
            for name in names & wanted:
                of_item = held.setdefault(name, {})
                of_item[shard.index] = of_item.get(shard.index, 0.0) + seconds[test]
    found: list[list[str]] = [[] for _ in shards]
    for item in sorted(held):
        found[min(held[item], key=lambda index: (-held[item][index], index))].append(item)
    return found
