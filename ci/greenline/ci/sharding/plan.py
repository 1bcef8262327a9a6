"""From atoms and pools to a plan: how many runners of which pool, what each runs, and how good that is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from greenline.ci.sharding import mixed, pack, placing
from greenline.ci.sharding.needs import NOTHING, Needs, function_of
from greenline.ci.sharding.placing import ROUNDING, Part, Runners
from greenline.ci.sharding.plan_file import Blocking, Bounds, Plan, PlannedAtom, Pool, Shard
from greenline.ci.sharding.pools import choices_of, default_pools, islands, locked_together
from greenline.ci.sharding.schedule import job_of, lock_groups
from greenline.ci.sharding.sticky import keep
from greenline.ci.sharding.units import Unit
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.wording import plural

MOST_BLOCKING = 20
SLICES = 32
"""Atoms of one file and runner take at most this part of the plan, if single ones allow."""


class Wanted(NamedTuple):
    """Either at most so many ``shards``, or an end after ``target`` seconds at least cost."""

    shards: int | None = None
    target: float | None = None


class _Share(NamedTuple):
    """A pool's part of the plan. ``units``: its atoms."""

    pool: Pool
    units: list[Unit]
    runners: Runners


class _Island(NamedTuple):
    """Pools that are planned together, since some atom may go to more than one of them, and all their atoms."""

    pools: list[Pool]
    units: list[Unit]
    choices: dict[Needs, list[Pool]]

    @property
    def alone(self) -> bool:
        return len(self.pools) == 1


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
    choices = choices_of(units, pools)
    own = _islands(units, pools, choices)
    _tell_split_locks(units, choices, told)
    if wanted.target is not None:
        shares = [share for island in own for share in _in_time(island, wanted.target, cost)]
    else:
        counts = _runner_counts(own, wanted.shards or 1, cost)
        shares = [share for island, count in zip(own, counts, strict=True) for share in _on(island, count, cost)]
    if previous is not None:
        shares = [
            share._replace(runners=keep(share.units, share.pool, share.runners, previous, cost)) for share in shares
        ]
    shares = [share._replace(runners=[parts for parts in share.runners if parts]) for share in shares]
    shards = _shards(shares, owned)
    makespan = _end(shares)
    declared = _bound(own, shares, cost, False)
    split = any(len(unit.tests) > 1 for unit in units)
    bounds = Bounds(declared, _bound(own, shares, cost, True) if split else declared)
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


def _islands(units: Sequence[Unit], pools: Sequence[Pool], choices: Mapping[Needs, list[Pool]]) -> list[_Island]:
    found = []
    for group in islands(choices.values()):
        own = {needs: each for needs, each in choices.items() if each[0] in group}
        ordered = [pool for pool in pools if pool in group]
        found.append(_Island(ordered, [unit for unit in units if unit.needs in own], own))
    return sorted(found, key=lambda island: pools.index(island.pools[0]))


Counts = dict[str, int]
"""Pool → runners."""


def _in_time(island: _Island, target: float, cost: float) -> list[_Share]:
    """On as few runners as end in time; where none do, on as few as end as early as any number would, or all."""
    if not island.alone:
        return _cheapest(island, target, cost)
    pool, units = island.pools[0], island.units
    found = placing.fewest(units, pool, target - pool.wait, cost)
    if found is None:
        floor = placing.bound(units, pool, len(units), cost)
        found = placing.fewest(units, pool, max(floor * 1.02, target - pool.wait), cost)
    if found is None:
        found = placing.place(units, pool, min(pool.maximum or len(units), len(units)), cost)
    return [_Share(pool, units, found)]


def _cheapest(island: _Island, target: float, cost: float) -> list[_Share]:
    """The cheapest runners if packing lost nothing, and then the cheapest one more until all ends in time."""
    counts = mixed.counts(island.units, island.choices, island.pools, None, target)
    best: list[_Share] | None = None
    for _ in range(max(8, sum(counts.values()) // 4)):
        shares = _on(island, counts, cost)
        if best is None or _end(shares) < _end(best) * 0.999:
            best = shares
        if _end(best) <= target * ROUNDING:
            break
        more = [pool for pool in island.pools if pool.maximum is None or counts.get(pool.name, 0) < pool.maximum]
        if not more:
            break
        # The price per GPU or slot: a wide runner is not a dear one.
        pool = min(more, key=lambda pool: (pool.wait >= target, pool.price / max(pool.gpus, 1), pool.name))
        counts = {**counts, pool.name: counts.get(pool.name, 0) + 1}
    assert best is not None
    return best


def _on(island: _Island, counts: Counts, cost: float) -> list[_Share]:
    """The island's atoms on these runners."""
    if island.alone:
        pool = island.pools[0]
        return [_Share(pool, island.units, placing.place(island.units, pool, counts[pool.name], cost))]
    runners = [pool for pool in island.pools for _ in range(counts.get(pool.name, 0))]
    least = _least(island, counts, cost, False)
    found = min(
        placing.jointly(island.units, island.choices, runners, cost, least, least * pack.CLOSE), key=placing.end_of
    )
    shares = []
    for pool in island.pools:
        mine = [parts for parts, where in zip(found, runners, strict=True) if where is pool and parts]
        indices = sorted(index for parts in mine for part in parts for index in part.units)
        place = {index: position for position, index in enumerate(indices)}
        moved = [
            [
                part._replace(units=tuple(place[index] for index in part.units), start=part.start - pool.wait)
                for part in parts
            ]
            for parts in mine
        ]
        if moved:
            shares.append(_Share(pool, [island.units[index] for index in indices], moved))
    return shares


def _end(shares: Sequence[_Share]) -> float:
    return max((share.pool.wait + placing.end_of(share.runners) for share in shares), default=0.0)


def _runner_counts(islands: Sequence[_Island], shards: int, cost: float) -> list[Counts]:
    """As few runners as each island needs, then one more for the island that ends last, as long as it has work."""
    counts = [_counts(island, 1) for island in islands]
    if sum(sum(each.values()) for each in counts) > shards:
        names = [name for each in counts for name in each]
        raise GreenlineError(
            f"--shards {shards}: these tests need runners of {len(names)} pools: {', '.join(names)}",
            f"give at least --shards {len(names)}, or a --target",
        )
    most = [_most(island) for island in islands]
    if len(islands) == 1:  # without the bounds below
        return [_counts(islands[0], min(shards, most[0]))]
    ends = [_least(island, each, cost, False) for island, each in zip(islands, counts, strict=True)]
    for _ in range(shards - sum(sum(each.values()) for each in counts)):
        open_ones = [place for place in range(len(islands)) if sum(counts[place].values()) < most[place]]
        if not open_ones:
            break
        place = max(open_ones, key=lambda place: (ends[place], -place))
        counts[place] = _counts(islands[place], sum(counts[place].values()) + 1)
        ends[place] = _least(islands[place], counts[place], cost, False)
    return counts


def _counts(island: _Island, shards: int) -> Counts:
    if island.alone:
        return {island.pools[0].name: shards}
    return mixed.counts(island.units, island.choices, island.pools, shards, None)


def _most(island: _Island) -> int:
    """Runners that have work: an atom each, and at least as long as they take to start."""
    startup = min(pool.startup for pool in island.pools)
    most = len(island.units)
    if startup:
        most = min(most, math.ceil(math.fsum(unit.seconds for unit in island.units) / startup))
    limits = [pool.maximum for pool in island.pools]
    known = [limit for limit in limits if limit is not None]
    return max(1, min(most, sum(known)) if len(known) == len(limits) else most)


# -- how good it is ------------------------------------------------------------------------------------------


def _least(island: _Island, counts: Counts, cost: float, tests: bool) -> float:
    """Seconds from asking for these runners below which the island's atoms cannot end. `tests`: each an atom."""
    pools = [pool for pool in island.pools if counts.get(pool.name)]
    if island.alone:
        return pools[0].wait + placing.bound(island.units, pools[0], counts[pools[0].name], cost, tests)
    atom = max(
        min(
            pool.wait + (unit.longest if tests else unit.on(pool.name))
            for pool in island.choices[unit.needs]
            if pool in pools
        )
        + cost
        for unit in island.units
    )
    ends = [atom, mixed.area_bound(island.units, island.choices, counts)]
    for pool in pools:
        bound_to = [
            unit for unit in island.units if [each for each in island.choices[unit.needs] if each in pools] == [pool]
        ]
        if bound_to:
            ends.append(pool.wait + placing.bound(bound_to, pool, counts[pool.name], cost, tests))
    return max(ends)


def _bound(islands: Sequence[_Island], shares: Sequence[_Share], cost: float, tests: bool) -> float:
    """Seconds below which no plan with the runners of this one ends."""
    counts = {share.pool.name: len(share.runners) for share in shares}
    return max((_least(island, counts, cost, tests) for island in islands), default=0.0)


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
                why = f"pool {share.pool.name} has {plural(share.pool.maximum, 'runner')} at most{why_wait}"
                found.append(Blocking(tests, max(seconds, wait + placing.end_of(share.runners)), why))
    return tuple(sorted(found, key=lambda each: (-each.seconds, each.tests))[:MOST_BLOCKING])


def _tell_split_locks(units: Sequence[Unit], choices: Mapping[Needs, Sequence[Pool]], warnings: list[str]) -> None:
    for members in locked_together(choices):
        where = sorted({pool.name for needs in members for pool in choices[needs]})
        if len(where) > 1:
            locks = ", ".join(sorted({lock for needs in members for lock in needs.locks}))
            tests = next(unit.tests[0] for unit in units if unit.needs == members[0])
            warnings.append(
                f"no one pool can run all that shares the lock {locks} ({tests} …): between runners of"
                f" {' and '.join(where)} it does not hold"
            )


# -- the shards ----------------------------------------------------------------------------------------------


def _shards(shares: Sequence[_Share], owned: Sequence[str]) -> tuple[Shard, ...]:
    shards: list[Shard] = []
    for share in shares:
        latest = placing.end_of(share.runners)
        for parts in share.runners:
            ordered = placing.failures_first(parts, share.units, share.pool, latest)
            atoms = tuple(_atom(slice, share) for part in ordered for slice in _slices(part, share, latest / SLICES))
            tests = tuple(test for atom in atoms for test in atom.tests)
            suites = {atom.suite for atom in atoms}
            suite = suites.pop() if len(suites) == 1 else ""
            shards.append(Shard(len(shards), share.pool.name, placing.end_of([ordered]), tests, atoms, (), suite))
    owns = _owners(shares, owned)
    return tuple(shard._replace(owns=tuple(owns[shard.index])) for shard in shards)


def _slices(part: Part, share: _Share, longest: float) -> Iterator[Part]:
    """A part in pieces that follow each other: whoever leases atoms at run time can level what was misjudged."""
    if part.seconds <= longest:
        yield part
        return
    own = [share.units[index].on(share.pool.name) for index in part.units]
    start, first = part.start, 0
    seconds = part.seconds - math.fsum(own)  # what the file costs
    for place, each in enumerate(own):
        if place > first and seconds + each > longest:
            yield Part(part.units[first:place], seconds, start, part.devices)
            start, first, seconds = start + seconds, place, 0.0
        seconds += each
    yield Part(part.units[first:], max(seconds, 0.0), start, part.devices)


def _atom(part: Part, share: _Share) -> PlannedAtom:
    first = share.units[part.units[0]]
    needs = first.needs
    tests = tuple(test for index in part.units for test in share.units[index].tests)
    longest = max(max(unit.worst, unit.seconds) for unit in (share.units[index] for index in part.units))
    if needs is NOTHING:
        return PlannedAtom(tests, part.seconds, part.start, first.suite, longest=longest)
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
        longest,
    )


def _owners(shares: Sequence[_Share], owned: Sequence[str]) -> list[list[str]]:
    """What each shard owns: an item belongs to the one that runs most of it, by time.

    Of a file that runs in several pools, each function has its owner, and the rest goes where GPUs are: there it runs.
    A planned name, such as that of a file whose tests nobody knows, stands for all in it without being owned.
    """
    wanted = set(owned) - {test for share in shares for unit in share.units for test in unit.tests}
    held: dict[str, dict[tuple[int, int], float]] = {}  # item → (GPUs, shard) → seconds
    files = [{unit.file for unit in share.units} for share in shares]
    in_several = {file for number, each in enumerate(files) for other in files[:number] for file in each & other}
    partial = any("::" in item for item in owned)
    shard = 0
    for share in shares:
        simple = not partial and not any(unit.why for unit in share.units)
        for parts in share.runners:
            for part in parts:
                own = [share.units[index] for index in part.units]
                if simple and own[0].file not in in_several:  # all of a part is of one file
                    names = {own[0].file} & wanted
                    pairs = [(name, part.seconds) for name in names]
                else:
                    pairs = [
                        (name, unit.seconds)
                        for unit in own
                        for name in {name for test in unit.tests for name in _prefixes(test, wanted, in_several)}
                    ]
                for name, seconds in pairs:
                    of_item = held.setdefault(name, {})
                    of_item[share.pool.gpus, shard] = of_item.get((share.pool.gpus, shard), 0.0) + seconds
            shard += 1
    found: list[list[str]] = [[] for _ in range(shard)]
    for item in sorted(held):
        best = min(held[item], key=lambda place: (-place[0], -held[item][place], place[1]))
        found[best[1]].append(item)
    return found


def _prefixes(test: str, wanted: set[str], in_several: set[str]) -> list[str]:
    """The owned items that a test belongs to."""
    parts = function_of(test).split("::")
    names = [name for end in range(1, len(parts) + 1) if (name := "::".join(parts[:end])) in wanted]
    if names and parts[0] in in_several and len(parts) > 1:
        names.append("::".join(parts))
    return names
