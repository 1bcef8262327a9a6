"""What a test needs of a machine, and how people write sizes and times."""

from __future__ import annotations

import math
import re
from typing import NamedTuple


class Needs(NamedTuple):
    """Of one test while it runs.

    ``slots``: of a runner's; ``memory``: bytes. ``gpus``: whole devices of one machine, a fraction of one, or 0;
    ``gpu_memory``: bytes on each; with ``gpus`` 0 the test shares a device that has so much left. ``gpu_kinds``: the
    acceptable ones, none: any. ``nodes``: machines, all at once, each with ``gpus``. ``locks``: names that one test
    holds at a time; those that start with "runner/" are local to a machine. ``exclusive``: alone on its runner.
    ``isolated``: in a process of its own. ``group``: tests of one group are one atom ("": none).
    """

    slots: int = 1
    memory: int = 0
    gpus: float = 0.0
    gpu_memory: int = 0
    gpu_kinds: tuple[str, ...] = ()
    nodes: int = 1
    locks: tuple[str, ...] = ()
    exclusive: bool = False
    isolated: bool = False
    group: str = ""

    @property
    def gpu(self) -> bool:
        return self.gpus > 0 or self.gpu_memory > 0 or bool(self.gpu_kinds)


NOTHING = Needs()
RUNNER_LOCK = "runner/"
"""How the name of a lock starts that is local to a machine."""


def both(first: Needs, second: Needs) -> Needs:
    """What serves both: the larger of each, all locks, the kinds that both accept (none in common: the second's)."""
    if second == NOTHING:
        return first
    if first == NOTHING:
        return second
    kinds = first.gpu_kinds or second.gpu_kinds
    if first.gpu_kinds and second.gpu_kinds:
        kinds = tuple(kind for kind in first.gpu_kinds if kind in second.gpu_kinds) or second.gpu_kinds
    return Needs(
        max(first.slots, second.slots),
        max(first.memory, second.memory),
        max(first.gpus, second.gpus),
        max(first.gpu_memory, second.gpu_memory),
        kinds,
        max(first.nodes, second.nodes),
        tuple(sorted({*first.locks, *second.locks})),
        first.exclusive or second.exclusive,
        first.isolated or second.isolated,
        second.group or first.group,
    )


_UNITS = {"": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "ms": 0.001}
_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def seconds_of(text: str) -> float:
    """ "10m", "90", "1h30m", "2.5s" in seconds. Raises ValueError."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?) *([a-z]*)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
        raise ValueError(f"{text!r} is no time such as 10m, 90s or 1h30m")
    if len(parts) > 1 and not all(unit for _, unit in parts):
        raise ValueError(f"{text!r} is no time: a number without a unit")
    try:
        total = math.fsum(float(number) * _UNITS[unit] for number, unit in parts)
    except KeyError as error:
        raise ValueError(f"{text!r} is no time: {error.args[0]!r} is not one of s, m, h, ms") from None
    return total


def bytes_of(value: object) -> int:
    """ "8GiB", "500 MB", 1024 in bytes. Raises ValueError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([a-zA-Z]*)", str(value).strip())
    unit = match[2].lower().removesuffix("b") if match else "?"
    if not match or unit not in _SIZES:
        raise ValueError(f"{value!r} is no size such as 8GiB or 500MB")
    return round(float(match[1]) * _SIZES[unit])


def file_of(test: str) -> str:
    """The file of a node id; an id without one is its own file."""
    return test.partition("::")[0]


def function_of(test: str) -> str:
    """A node id without its parameters, which may hold anything."""
    path, colons, name = test.partition("::")
    return path + colons + name.partition("[")[0]
