"""Tests that may run on runners of several pools: small linear programs for the bound, the counts and the choice.

With x the part of a kind of tests that runs in a pool of m runners: all parts of a test are one, and in each pool the
sum of width * seconds * x is at most m * (T - wait). The width is that in GPUs, or in slots where there are none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from greenline.ci.sharding.needs import Needs
from greenline.ci.sharding.plan_file import Pool
from greenline.ci.sharding.schedule import job_of
from greenline.ci.sharding.units import Unit

Choices = Mapping[Needs, Sequence[Pool]]
"""What a test needs → the pools that can run it."""


class _Kind(NamedTuple):
    """Tests whose areas are in the same proportion in all of their pools; they are one test as large as all of them."""

    pools: tuple[str, ...]
    ratios: tuple[float, ...]


class _Solved(NamedTuple):
    """``end``: T; ``runners``: in each pool."""

    end: float
    runners: dict[str, int]


def area_bound(units: Sequence[Unit], choices: Choices, runners: Mapping[str, int]) -> float:
    """The least T by which the work fits into what these runners (pool → how many) can do until T.

    Pools that are not ready by T do nothing, so the pools are taken one by one.
    """
    kinds = _kinds(units, choices)
    ready = sorted(_pools(choices, runners), key=lambda pool: (pool.wait, pool.name))
    for count in range(1, len(ready) + 1):
        solved = _solve(kinds, ready[:count], runners, None)
        if solved is not None and (count == len(ready) or solved.end <= ready[count].wait):
            return max(solved.end, 0.0)
    return 0.0


def counts(
    units: Sequence[Unit], choices: Choices, pools: Sequence[Pool], shards: int | None, target: float | None
) -> dict[str, int]:
    """Runners of each pool: at most `shards` in all, or what `target` costs least, if packing lost nothing.

    With fewer shards than pools that some atom cannot do without, one of each of these.
    """
    kinds = _kinds(units, choices)
    if target is not None:
        in_time = [pool for pool in pools if pool.wait < target]
        solved = _solve(kinds, in_time, None, target) or _solve(kinds, pools, None, None)
    else:
        solved = _grow(kinds, pools, shards or 1)
    found = {name: count for name, count in solved.runners.items() if count} if solved else {}
    return _everywhere(kinds, pools, found)


def _kinds(units: Sequence[Unit], choices: Choices) -> dict[_Kind, float]:
    """Each kind's seconds in its first pool."""
    total: dict[_Kind, float] = {}
    for unit in units:
        pools = choices[unit.needs]
        first = unit.on(pools[0].name) or 1.0
        areas = [unit.on(pool.name) * job_of(0.0, unit.needs, pool).uses(pool)[0] for pool in pools]
        kind = _Kind(tuple(pool.name for pool in pools), tuple(round(area / first, 9) for area in areas))
        total[kind] = total.get(kind, 0.0) + unit.on(pools[0].name)
    return total


def _pools(choices: Choices, runners: Mapping[str, int]) -> list[Pool]:
    named = {pool.name: pool for each in choices.values() for pool in each}
    return [pool for pool in named.values() if runners.get(pool.name)]


def _everywhere(kinds: Mapping[_Kind, float], pools: Sequence[Pool], runners: dict[str, int]) -> dict[str, int]:
    """These runners, and one for each kind of tests that has none, of its cheapest pool."""
    prices = {pool.name: pool.price for pool in pools}
    for kind in sorted(kinds, key=lambda kind: (len(kind.pools), kind)):
        if not any(runners.get(name) for name in kind.pools):
            runners[min(kind.pools, key=lambda name: (prices[name], name))] = 1
    return runners


def _grow(kinds: Mapping[_Kind, float], pools: Sequence[Pool], shards: int) -> _Solved | None:
    """One runner for each kind of tests; then one more where T falls most, the cheaper if equal."""
    runners = _everywhere(kinds, pools, {})
    solved = _solve(kinds, pools, runners, None)
    while sum(runners.values()) < shards and solved is not None:
        tried = []
        for pool in pools:
            if pool.maximum is None or runners.get(pool.name, 0) < pool.maximum:
                more = {**runners, pool.name: runners.get(pool.name, 0) + 1}
                found = _solve(kinds, pools, more, None)
                if found is not None:
                    tried.append((round(found.end, 6), pool.price, pool.name, found))
        if not tried:
            break
        solved = min(tried, key=lambda each: each[:3])[3]
        runners = solved.runners
    return solved


def _solve(
    kinds: Mapping[_Kind, float], pools: Sequence[Pool], runners: Mapping[str, int] | None, target: float | None
) -> _Solved | None:
    """The least T for these runners, or the cheapest runners for this T (neither: any number). None: not possible."""
    import highspy

    solver: Any = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    working = [pool for pool in pools if runners is None or runners.get(pool.name)]
    names = {pool.name for pool in working}
    if any(names.isdisjoint(kind.pools) for kind in kinds):
        return None
    end: Any = solver.addVariable(lb=0.0, obj=1.0) if runners is not None else None
    counted = {}
    for pool in working if runners is None else ():
        most = pool.maximum if pool.maximum is not None and target is not None else highspy.kHighsInf
        counted[pool.name] = solver.addIntegral(lb=0, ub=most, obj=pool.price or 1e-6)
    work: dict[str, list[Any]] = {pool.name: [] for pool in working}
    for kind in sorted(kinds):
        parts = []
        for name, ratio in zip(kind.pools, kind.ratios, strict=True):
            if name in names:
                parts.append(solver.addVariable(lb=0.0, ub=1.0))
                if kinds[kind] * ratio > 1e-6:  # less is nothing, also to the solver
                    work[name].append(kinds[kind] * ratio * parts[-1])
        solver.addConstr(sum(parts) == 1)
    for pool in working:
        if not work[pool.name]:
            continue
        if runners is not None:
            solver.addConstr(sum(work[pool.name]) <= runners[pool.name] * (end - pool.wait))
        else:
            room = max(target - pool.wait, 1e-6) if target is not None else 1e9
            solver.addConstr(sum(work[pool.name]) <= room * counted[pool.name])
    solver.minimize()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    if runners is not None:
        return _Solved(float(solver.val(end)), dict(runners))
    return _Solved(target or 0.0, {name: round(solver.val(count)) for name, count in counted.items()})
