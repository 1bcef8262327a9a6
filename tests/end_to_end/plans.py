"""Plans made by hand for repositories of tests, run with the real commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from calls import GREENLINE, Call, call
from guests import guest

from greenline.ci.sharding.plan_file import Bounds, Plan, PlannedAtom, Pool, Shard, write

CPU = Pool("cpu")


def plan_of(
    shards: Sequence[Sequence[PlannedAtom | str]],
    owns: Sequence[Sequence[str]] = (),
    pools: Sequence[Pool] = (CPU,),
    pool_of: Sequence[str] = (),
    commit: str | None = None,
    suites: dict[str, str] | None = None,
) -> Plan:
    """A plan with these atoms on each shard; a plain id is an atom of its own that takes a second."""
    made = []
    for index, given in enumerate(shards):
        atoms = tuple(PlannedAtom((each,), 1.0) if isinstance(each, str) else each for each in given)
        tests = tuple(test for atom in atoms for test in atom.tests)
        seconds = sum(atom.seconds for atom in atoms)
        owned = tuple(owns[index]) if owns else ()
        pool = pool_of[index] if pool_of else pools[0].name
        made.append(Shard(index, pool, seconds, tests, atoms, owned))
    longest = max((shard.seconds for shard in made), default=0.0)
    even = Bounds(longest, longest)
    return Plan(
        commit, None, "", None, longest, longest, even, Bounds(1.0, 1.0), 0.0, True, (), tuple(pools), tuple(made),
        {".": ""} if suites is None else suites,
    )  # fmt: skip


def save(plan: Plan, path: Path) -> Path:
    write(plan, str(path))
    return path


def shard(folder: Path, *arguments: object, **environment: str) -> Call:
    """`greenline shard ...` with an active environment that has pytest and pytest-greenline."""
    home = {"VIRTUAL_ENV": str(guest().parents[1])}
    return call(folder, GREENLINE, "shard", *arguments, **{**home, **environment})
