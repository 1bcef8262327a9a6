"""Which waiting atom may start now, and on which GPUs: data in, data out, no processes.

Atoms start longest first. One that needs several GPUs is not passed by for ever: the GPUs that it will get first are
kept for it, and only atoms that are expected to end before then may use them (EASY backfilling: Lifka 1995).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from greenline.ci.sharding.plan_file import PlannedAtom


class Gpu(NamedTuple):
    """``name``: what CUDA_VISIBLE_DEVICES calls it; ``memory``: bytes, 0 where it is not known."""

    name: str
    memory: int = 0


class Machine(NamedTuple):
    """``slots``: atoms at a time; ``memory``: bytes, 0 where it is not counted."""

    slots: int
    gpus: tuple[Gpu, ...] = ()
    memory: int = 0


class Running(NamedTuple):
    """An atom at work on devices (numbers of the machine's GPUs); ``end``: when it should be done, in seconds."""

    atom: PlannedAtom
    devices: tuple[int, ...]
    end: float


def wants_gpu(atom: PlannedAtom) -> bool:
    return atom.gpus > 0 or atom.gpu_memory > 0


def alone(atom: PlannedAtom) -> PlannedAtom:
    """The same, with its GPUs to itself."""
    return atom._replace(gpus=max(1.0, float(math.ceil(atom.gpus)))) if wants_gpu(atom) else atom


def why_never(atom: PlannedAtom, machine: Machine) -> str | None:
    """Why this atom can never run on the machine, or None."""
    if atom.nodes > 1:
        return f"it needs {atom.nodes} machines at once"
    if wants_gpu(atom):
        large = [gpu for gpu in machine.gpus if not gpu.memory or gpu.memory >= atom.gpu_memory]
        count = max(1, math.ceil(atom.gpus))
        if len(large) < count:
            size = f" of {atom.gpu_memory / 2**30:.1f} GiB" if atom.gpu_memory else ""
            return f"it needs {count} GPUs{size}, {len(large)} such are here"
    if machine.memory and atom.memory > machine.memory:
        return f"it needs {atom.memory / 2**30:.1f} GiB of memory, {machine.memory / 2**30:.1f} are here"
    return None


def devices_for(
    atom: PlannedAtom, machine: Machine, running: Iterable[Running], kept: frozenset[int] = frozenset()
) -> tuple[int, ...] | None:
    """The GPUs on which the atom may start now beside what runs, none of them kept; () if it needs no GPU.

    None if it must wait. Of shared GPUs the fullest that has room, so that others stay free for whole ones.
    """
    running = list(running)
    slots = min(atom.slots, machine.slots)
    if (atom.exclusive and running) or any(each.atom.exclusive for each in running):
        return None
    if sum(min(each.atom.slots, machine.slots) for each in running) + slots > machine.slots:
        return None
    if machine.memory and sum(each.atom.memory for each in running) + atom.memory > machine.memory:
        return None
    if set(atom.locks) & {lock for each in running for lock in each.atom.locks}:
        return None
    if not wants_gpu(atom):
        return ()
    free = []
    for number, gpu in enumerate(machine.gpus):
        here = [each.atom for each in running if number in each.devices]
        share = sum(min(other.gpus, 1.0) for other in here)
        memory = sum(other.gpu_memory for other in here)
        whole = atom.gpus >= 1
        fits = not here if whole else share + atom.gpus <= 1 + 1e-9 and all(other.gpus < 1 for other in here)
        if fits and (not gpu.memory or memory + atom.gpu_memory <= gpu.memory) and number not in kept:
            free.append((-memory, -share, number))
    count = max(1, math.ceil(atom.gpus))
    return tuple(number for *_, number in sorted(free)[:count]) if len(free) >= count else None


def choose(
    waiting: Iterable[PlannedAtom], machine: Machine, running: Iterable[Running], now: float
) -> tuple[PlannedAtom, tuple[int, ...]] | None:
    """The first of the waiting atoms (longest first) that may start now, and its GPUs."""
    running = list(running)
    if sum(min(each.atom.slots, machine.slots) for each in running) >= machine.slots:
        return None
    kept: frozenset[int] = frozenset()
    until = math.inf
    for atom in waiting:
        devices = devices_for(atom, machine, running)
        if devices is not None and (not kept & set(devices) or now + atom.seconds <= until):
            return atom, devices
        if devices is not None and (elsewhere := devices_for(atom, machine, running, kept)) is not None:
            return atom, elsewhere
        if devices is None and atom.gpus >= 1 and not kept:
            kept, until = _reserve(atom, machine, running)
    return None


def _reserve(atom: PlannedAtom, machine: Machine, running: list[Running]) -> tuple[frozenset[int], float]:
    """The GPUs that will be free first for this atom, and when."""
    ends = sorted(
        (max((each.end for each in running if number in each.devices), default=0.0), number)
        for number, gpu in enumerate(machine.gpus)
        if not gpu.memory or gpu.memory >= atom.gpu_memory
    )[: math.ceil(atom.gpus)]
    return frozenset(number for _, number in ends), max((end for end, _ in ends), default=math.inf)
