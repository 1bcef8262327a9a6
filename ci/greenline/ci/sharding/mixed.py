"""The area bound where some tests may run on runners of several pools: a small linear program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from greenline.ci.sharding.needs import Needs
from greenline.ci.sharding.plan_file import Pool
from greenline.ci.sharding.schedule import job_of
from greenline.ci.sharding.units import Unit


def area_bound(units: Sequence[Unit], choices: Mapping[Needs, Sequence[Pool]], runners: Mapping[str, int]) -> float:
    """The least T for which the work fits into what all runners can do until T.

    With x the part of a test that runs in a pool, m runners each: all parts of a test are one; in each pool
    the sum of width * seconds * x is at most m * (T - wait). Pools that are not ready by T
    do nothing, so the pools are taken one by one. The width is that in GPUs, or in slots where there are none.
    """
    classes: dict[tuple[tuple[str, ...], tuple[float, ...]], float] = {}
    for unit in units:
        pools = choices[unit.needs]
        areas = [unit.on(pool.name) * job_of(0.0, unit.needs, pool).uses(pool)[0] for pool in pools]
        # Tests whose areas are in the same proportion everywhere are one test as large as all of them.
        key = (
            tuple(pool.name for pool in pools),
            tuple(round(area / areas[0], 9) if areas[0] else 1.0 for area in areas),
        )
        classes[key] = classes.get(key, 0.0) + areas[0]
    ready = sorted({pool.name: pool for each in choices.values() for pool in each}.values(), key=lambda pool: pool.wait)
    for count in range(1, len(ready) + 1):
        working = ready[:count]
        end = _least_end(classes, working, runners)
        if end is not None and (count == len(ready) or end <= ready[count].wait):
            return max(end, 0.0)
    return 0.0


def _least_end(
    classes: Mapping[tuple[tuple[str, ...], tuple[float, ...]], float],
    pools: Sequence[Pool],
    runners: Mapping[str, int],
) -> float | None:
    """T with exactly these pools at work; None when some test can run in none of them."""
    import highspy

    names = {pool.name for pool in pools}
    if any(names.isdisjoint(where) for where, _ in classes):
        return None
    solver: Any = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.setOptionValue("output_flag", False)
    end = solver.addVariable(lb=0.0, obj=1.0)
    used: dict[str, list[tuple[float, Any]]] = {pool.name: [] for pool in pools}
    for (where, ratios), area in sorted(classes.items()):
        parts = []
        for name, ratio in zip(where, ratios, strict=True):
            if name in names:
                part = solver.addVariable(lb=0.0, ub=1.0)
                parts.append(part)
                used[name].append((area * ratio, part))
        solver.addConstr(sum(parts) == 1)
    for pool in pools:
        if used[pool.name]:
            work = sum(area * part for area, part in used[pool.name])
            solver.addConstr(work <= runners[pool.name] * (end - pool.wait))
    solver.minimize()
    return float(solver.val(end))
