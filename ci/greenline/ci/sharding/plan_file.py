"""The plan: which runners of which pools, and what each runs. One JSON file that every later step reads.

docs/plan.schema.json describes the file; :func:`read` and :func:`write` are the only code that knows its form.
Times are seconds, memory is bytes, a price is per runner and hour.
"""

from __future__ import annotations

import json
import math
import types
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from greenline.depgraph.errors import GreenlineError

VERSION = 1


class Pool(NamedTuple):
    """Runners of one kind.

    A runner is ``nodes`` machines, taken all or none, each with ``slots`` tests at a time, ``memory`` bytes (0: not
    counted) and ``gpus`` devices of ``gpu_memory`` bytes (0: not known). ``startup`` and ``queue`` are seconds
    before the first test runs; ``maximum``: runners there are at most; ``billing``: seconds that are paid for at
    least and in steps of; ``labels``: what the CI system calls such runners.
    """

    name: str
    slots: int = 1
    memory: int = 0
    gpus: int = 0
    gpu_kind: str = ""
    gpu_memory: int = 0
    nodes: int = 1
    price: float = 1.0
    startup: float = 0.0
    queue: float = 0.0
    maximum: int | None = None
    billing: float = 1.0
    labels: tuple[str, ...] = ()

    @property
    def wait(self) -> float:
        """Seconds from asking for a runner to its first test."""
        return self.startup + self.queue


class PlannedAtom(NamedTuple):
    """Tests that run on one runner one after the other, in this order, and what they need meanwhile.

    ``seconds``: expected, with what the file costs on this shard; ``start``: after the shard's first test may
    start. ``gpus``: whole devices, or a fraction of one; ``devices``: which of the runner's (0…); ``locks``: names
    that one atom on the runner's machine holds at a time; ``exclusive``: nothing else runs on the runner meanwhile;
    ``isolated``: each test in a process of its own. ``longest``: seconds that what is
    never split in it may well take, at most; a queue starts with the longest, for a late surprise makes a run long.
    """

    tests: tuple[str, ...]
    seconds: float
    start: float = 0.0
    suite: str = ""
    slots: int = 1
    memory: int = 0
    gpus: float = 0.0
    gpu_memory: int = 0
    nodes: int = 1
    devices: tuple[int, ...] = ()
    locks: tuple[str, ...] = ()
    exclusive: bool = False
    isolated: bool = False
    longest: float = 0.0


class Shard(NamedTuple):
    """One runner's part.

    ``seconds``: from the first test to the last; ``tests``: of all atoms, in the order of their start; ``owns``:
    files, classes and functions whose tests that no atom names run here as well. A test that is in no atom belongs
    to the shard that owns the longest part of its id; one that nobody owns was not selected. ``suite``: the one
    suite of all tests, or "" when there are several or it is not known (each atom has its own).
    """

    index: int  # type: ignore[assignment]  # tuples have a method of this name
    pool: str
    seconds: float
    tests: tuple[str, ...]
    atoms: tuple[PlannedAtom, ...]
    owns: tuple[str, ...] = ()
    suite: str = ""


class Blocking(NamedTuple):
    """What keeps the makespan from being lower: tests that are not split, or that exclude each other."""

    tests: tuple[str, ...]
    seconds: float
    why: str


class Bounds(NamedTuple):
    """A number for the atoms as declared, and one for single tests as atoms."""

    declared: float
    tests: float


class Plan(NamedTuple):
    """Atoms on runners.

    ``makespan``: seconds from asking for the runners to the last test; ``bound``: no plan with these runners and
    declared atoms has a lower one; ``ratios``: makespan ÷ bound; ``cost``: of all runners, in the unit of the
    prices; ``feasible``: the target is met; ``suites``: name → rootdir, relative to the repository.
    """

    commit: str | None
    base: str | None
    variant: str
    target: float | None
    makespan: float
    bound: float
    bounds: Bounds
    ratios: Bounds
    cost: float
    feasible: bool
    blocking: tuple[Blocking, ...]
    pools: tuple[Pool, ...]
    shards: tuple[Shard, ...]
    suites: dict[str, str]
    warnings: tuple[str, ...] = ()
    version: int = VERSION

    def pool(self, shard: Shard) -> Pool:
        return next(pool for pool in self.pools if pool.name == shard.pool)


# -- the file ------------------------------------------------------------------------------------------------


def dumps(plan: Plan) -> str:
    """The plan as JSON, a shard a line."""
    values = _plain(plan)
    shards = ",\n".join(f"  {json.dumps(shard, ensure_ascii=False)}" for shard in values.pop("shards"))
    head = json.dumps({"version": values.pop("version"), **values}, ensure_ascii=False)
    return head[:-1] + (f', "shards": [\n{shards}\n]}}' if shards else ', "shards": []}')


def write(plan: Plan, path: str) -> None:
    """Write the plan into a file. Raises GreenlineError when that is not possible."""
    try:
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(dumps(plan) + "\n")
    except OSError as error:
        raise GreenlineError(f"{path}: the plan cannot be written: {error.strerror}") from None


def read(path: str) -> Plan:
    """The plan in a file. Raises GreenlineError for anything that is not a valid plan."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    except OSError as error:
        raise GreenlineError(f"{path}: the plan cannot be read: {error.strerror}", _MAKE_ONE) from None
    return loads(text, path)


_MAKE_ONE = "make one with: greenline shard plan --format json --output FILE"


def loads(text: str, name: str = "plan") -> Plan:
    """The plan in a JSON text; `name` stands in errors. Raises GreenlineError."""
    try:
        values = json.loads(text)
        if isinstance(values, dict) and values.get("version") != VERSION:
            raise ValueError(f"version: {values.get('version')!r} is not {VERSION}")
        plan: Plan = _typed(Plan, values, "")
        _check(plan)
    except (ValueError, RecursionError) as error:
        raise GreenlineError(f"{name} is not a plan: {error}", _MAKE_ONE) from None
    return plan


def _check(plan: Plan) -> None:
    """What types do not say. Raises ValueError."""
    pools = {pool.name for pool in plan.pools}
    if len(pools) < len(plan.pools):
        raise ValueError("pools: two have the same name")
    seen: set[str] = set()
    for place, shard in enumerate(plan.shards):
        if shard.index != place:
            raise ValueError(f"shards[{place}].index: {shard.index}, not {place}")
        if shard.pool not in pools:
            raise ValueError(f"shards[{place}].pool: no pool is called {shard.pool!r}")
        if sorted(shard.tests) != sorted(test for atom in shard.atoms for test in atom.tests):
            raise ValueError(f"shards[{place}].tests: not those of its atoms")
        for test in shard.tests:
            if test in seen:
                raise ValueError(f"shards[{place}].tests: {test} is planned twice")
            seen.add(test)


def _plain(value: Any) -> Any:
    """NamedTuples as dicts, tuples as lists, seconds to the millisecond and money to six digits."""
    if hasattr(value, "_asdict"):
        return {key: _plain(item) for key, item in value._asdict().items()}
    if isinstance(value, tuple):  # of many ids mostly, which are plain
        return [item if isinstance(item, str) else _plain(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value


def _typed(wanted: Any, value: Any, where: str) -> Any:
    """A JSON value as what an annotation of the NamedTuples above wants. Raises ValueError."""
    origin = get_origin(wanted)
    if isinstance(wanted, type) and hasattr(wanted, "_fields"):
        if not isinstance(value, dict):
            raise ValueError(f"{where or 'the file'}: not an object")
        hints = get_type_hints(wanted)
        missing = [key for key in wanted._fields if key not in value and key not in wanted._field_defaults]  # type: ignore[attr-defined]
        unknown = [key for key in value if key not in hints]
        if missing or unknown:
            raise ValueError(
                f"{where or 'the file'}: {'missing' if missing else 'unknown'} key {(missing or unknown)[0]!r}"
            )
        return wanted(**{key: _typed(hints[key], item, f"{where}.{key}".strip(".")) for key, item in value.items()})
    if origin is tuple and isinstance(value, list):
        inner = get_args(wanted)[0]
        return tuple(_typed(inner, item, f"{where}[{place}]") for place, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: _typed(get_args(wanted)[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is types.UnionType:
        return None if value is None else _typed(get_args(wanted)[0], value, where)
    if wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"{where}: {value} is no number of this kind")
        return float(value)
    if isinstance(wanted, type) and type(value) is wanted:
        return value
    raise ValueError(f"{where}: {json.dumps(value)[:60]} is of the wrong type")
