"""Which pool runs what: eligibility, the pools that there are without configuration, and the choice by price."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from greenline.ci.sharding.needs import NOTHING, Needs
from greenline.ci.sharding.plan_file import Pool
from greenline.ci.sharding.schedule import fits, lock_groups
from greenline.ci.sharding.units import Unit
from greenline.depgraph.errors import GreenlineError

CPU = Pool("cpu")


def default_pools(units: Iterable[Unit], configured: Sequence[Pool], warnings: list[str]) -> tuple[Pool, ...]:
    """The configured pools; without any, what these tests need: CPU runners, and GPU runners of each kind."""
    if configured:
        return tuple(configured)
    needs = {unit.needs for unit in units}
    pools = [CPU._replace(slots=max((each.slots for each in needs if not each.gpu), default=1))]
    wanted: dict[tuple[str, int], float] = {}
    for each in needs:
        if each.gpu or each.nodes > 1:
            key = (each.gpu_kinds[0] if each.gpu_kinds else "", each.nodes)
            wanted[key] = max(wanted.get(key, 0.0), each.gpus or 1.0)
    for (kind, nodes), gpus in sorted(wanted.items()):
        several = f"{nodes}-nodes" if nodes > 1 else ""
        name = "-".join(filter(None, ("gpu", kind, several)))
        count = max(1, round(gpus))
        pools.append(Pool(name, 8 * count, 0, count, kind, 0, nodes, float(count * nodes)))
    if len(pools) > 1:
        told = ", ".join(f"{pool.name} with {pool.gpus} GPUs" for pool in pools[1:])
        warnings.append(f"greenline.yaml has no sharding.pools: taken are runners as wide as the widest test: {told}")
    return tuple(pools)


def eligible(needs: Needs, pools: Sequence[Pool]) -> list[Pool]:
    if needs is NOTHING:
        return [pool for pool in pools if pool.gpus == 0 and pool.nodes == 1]
    return [pool for pool in pools if fits(needs, pool)]


def choices_of(units: Sequence[Unit], pools: Sequence[Pool]) -> dict[Needs, list[Pool]]:
    """The pools that can run what needs so much; for all that shares a lock, one. Raises GreenlineError for none."""
    choices: dict[Needs, list[Pool]] = {}
    for unit in units:
        if unit.needs not in choices:
            choices[unit.needs] = eligible(unit.needs, pools) or _nowhere(unit, pools)
    for members in locked_together(choices):
        common = [pool for pool in choices[members[0]] if all(pool in choices[needs] for needs in members)]
        if common:  # what shares a lock runs on one runner
            cheapest = min(common, key=lambda pool: (pool.price, pool.name))
            choices.update({needs: [cheapest] for needs in members})
    return choices


def locked_together(choices: Iterable[Needs]) -> list[list[Needs]]:
    """Needs that locks tie together."""
    groups = lock_groups(needs.locks for needs in choices)
    found: dict[str, list[Needs]] = {}
    for needs in choices if groups else ():
        for root in {groups[lock] for lock in needs.locks if lock in groups}:
            found.setdefault(root, []).append(needs)
    return list(found.values())


def islands(choices: Iterable[Sequence[Pool]]) -> list[list[Pool]]:
    """Pools that some test may choose between belong together; each group is planned on its own."""
    found: list[list[Pool]] = []
    for each in choices:
        touching = [group for group in found if any(pool in group for pool in each)]
        merged = list(dict.fromkeys(pool for group in [*touching, list(each)] for pool in group))
        found = [group for group in found if group not in touching] + [merged]
    return found


def _nowhere(unit: Unit, pools: Sequence[Pool]) -> list[Pool]:
    needs = unit.needs
    parts = [
        f"{needs.gpus:g} GPU{'s' * (needs.gpus > 1)}" if needs.gpus else "",
        f"{needs.slots} slots" * (needs.slots > 1),
    ]
    parts += [f"{needs.gpu_memory / 2**30:.3g} GiB of GPU memory" if needs.gpu_memory else ""]
    parts += [f"of kind {' or '.join(needs.gpu_kinds)}" if needs.gpu_kinds else ""]
    parts += [f"{needs.memory / 2**30:.3g} GiB of memory" if needs.memory else ""]
    parts += [f"on {needs.nodes} nodes" if needs.nodes > 1 else ""]
    wanted = " ".join(filter(None, parts)) or "a runner without GPUs"
    there = ", ".join(
        f"{pool.name} ({pool.gpus} {pool.gpu_kind or 'GPU'}{' x ' + str(pool.nodes) if pool.nodes > 1 else ''})"
        if pool.gpus
        else f"{pool.name} (CPU)"
        for pool in pools
    )
    raise GreenlineError(
        f"no pool can run {unit.tests[0]}: it needs {wanted}; the pools are {there}",
        "add a pool to sharding.pools in greenline.yaml, or change what the test needs",
    )
