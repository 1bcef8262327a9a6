"""Why a test is where a plan has it: its pool, its shard, its company, its turn. Read from the plan alone."""

from __future__ import annotations

from collections.abc import Iterator

from greenline.ci.sharding.needs import Needs, file_of
from greenline.ci.sharding.plan_file import Plan, PlannedAtom, Pool, Shard
from greenline.ci.sharding.schedule import fits
from greenline.depgraph.wording import plural


def why_placed(plan: Plan, test: str) -> list[str]:
    """Sentences; for a test that is in no atom, who runs it if collection shows it."""
    homes = [
        (shard, atom) for shard in plan.shards for atom in shard.atoms for each in atom.tests if within(each, test)
    ]
    if not homes:
        return [_unplanned(plan, test)]
    if len({shard.index for shard, _ in homes}) > 1:  # a file or a function in several pieces
        return [f"{test} is on several shards", *_spread(plan, test, homes)]
    (shard, atom) = homes[0]
    pool = plan.pool(shard)
    end = pool.wait + atom.start + atom.seconds
    return [
        f"{test} runs on shard {shard.index}, a runner of {pool.name}",
        *_pool(plan, atom, pool),
        *_company(plan, shard, atom, test),
        f"from second {pool.wait + atom.start:.1f} to {end:.1f}: expected are {atom.seconds:.1f} s; the shard ends at "
        f"{pool.wait + shard.seconds:.1f}, the plan at {plan.makespan:.1f}, and none with these runners before "
        f"{plan.bound:.1f}",
        *_blocking(plan, test),
    ]


def within(test: str, wanted: str) -> bool:
    """Is it this test, or a test of this class, function or file?"""
    return test == wanted or test.startswith((f"{wanted}::", f"{wanted}["))


def _unplanned(plan: Plan, test: str) -> str:
    """The owner of the longest part of the id runs what only collection shows."""
    owners = [(name, shard.index) for shard in plan.shards for name in shard.owns if within(test, name)]
    whole = [(each, shard.index) for shard in plan.shards for each in shard.tests if within(test, each)]
    for name, index in sorted([*owners, *whole], key=lambda pair: -len(pair[0]))[:1]:
        return f"{test} is not planned; if it is collected, shard {index} runs it, which has {name}"
    return f"{test} is not in the plan, and nobody owns its file: it was not selected"


def _pool(plan: Plan, atom: PlannedAtom, pool: Pool) -> Iterator[str]:
    """What it needs, and why the other pools do not have it, or were not taken."""
    needs = Needs(atom.slots, atom.memory, atom.gpus, atom.gpu_memory, (), atom.nodes, atom.locks)
    said = [
        f"{atom.gpus:g} GPU" if atom.gpus else "",
        f"{atom.gpu_memory / 2**30:.3g} GiB of GPU memory" if atom.gpu_memory else "",
        f"{atom.nodes} nodes at once" if atom.nodes > 1 else "",
        f"{atom.slots} slots" if atom.slots > 1 else "",
        f"{atom.memory / 2**30:.3g} GiB of memory" if atom.memory else "",
        f"the lock {', '.join(atom.locks)}" if atom.locks else "",
        "the runner for itself" if atom.exclusive else "",
        "a process for each test" if atom.isolated else "",
    ]
    wanted = ", ".join(filter(None, said)) or "no GPU"
    yield f"it needs {wanted}"
    if atom.devices and (atom.gpus or atom.gpu_memory):
        yield f"device {', '.join(map(str, atom.devices))} is planned for it"
    for other in plan.pools:
        if other == pool:
            continue
        if not needs.gpu and needs.nodes == 1 and other.gpus:
            yield f"{other.name} is for tests that need a GPU"
        elif not fits(needs, other):
            yield f"{other.name} has too little for it"
        else:
            used = "" if any(shard.pool == other.name for shard in plan.shards) else " (the plan has none)"
            yield f"a runner of {other.name}{used} could run it too, unless it asks for a kind of GPU"


def _company(plan: Plan, shard: Shard, atom: PlannedAtom, test: str) -> Iterator[str]:
    """What runs with it, and where the rest of its file is."""
    file = file_of(test)
    pieces = {
        each.index: sum(file_of(other) == file for other in each.tests)
        for each in plan.shards
        if any(file_of(other) == file for other in each.tests)
    }
    if len(pieces) == 1:
        yield f"all {pieces[shard.index]} planned tests of {file} are on this shard: it pays for the file once"
    else:
        others = ", ".join(f"{count} on shard {index}" for index, count in pieces.items() if index != shard.index)
        whole = sum(each.seconds for one in plan.shards for each in one.atoms if file_of(each.tests[0]) == file)
        here = f"{pieces[shard.index]} of its tests here"
        yield f"{file} ({whole:.1f} s) is split so that the shards end together: {here}, {others}"
    if len(atom.tests) > 1:
        yield f"its atom has {plural(len(atom.tests), 'test')}, which follow each other"


def _spread(plan: Plan, test: str, homes: list[tuple[Shard, PlannedAtom]]) -> Iterator[str]:
    for index in sorted({shard.index for shard, _ in homes}):
        count = sum(within(each, test) for each in plan.shards[index].tests)
        yield f"{plural(count, 'test')} on shard {index}, a runner of {plan.shards[index].pool}"


def _blocking(plan: Plan, test: str) -> Iterator[str]:
    for each in plan.blocking:
        if test in each.tests:
            yield f"no number of runners makes the plan shorter than {each.seconds:.1f} s because of it: {each.why}"
