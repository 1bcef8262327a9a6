"""Tests on equal runners that work one test after the other: few files split, and next to nothing lost.

Longest first onto the least loaded runner (R. L. Graham, "Bounds on Multiprocessing Timing Anomalies", 1969), with
whole files as long as that is good enough, then with ever smaller pieces; what is left of a gap closes by moving,
swapping and shifting pieces between the fullest runner and others. Small instances are searched completely.

All functions take ``files``: the seconds of each file's atoms, in the order of the file; ``cost``: seconds that a file
takes on each runner that it is on. They give, for each runner, file → positions of its atoms there.
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_left
from collections.abc import Iterator, Sequence

Files = Sequence[Sequence[float]]
Bins = list[dict[int, list[int]]]
Piece = tuple[int, list[int], float]  # file, positions of its atoms, their seconds

CLOSE = 1.004
"""Makespan ÷ bound that is not worth more splitting."""
LADDER = ((1.0, 1.0), (3 / 4, 1 / 2), (1 / 2, 1 / 4), (1 / 4, 1 / 8), (1 / 10, 1 / 20), (1 / 30, 1 / 60), (0.0, 0.0))
"""Files longer than this share of the bound are cut into pieces of at most that share."""
KICKS = 80
"""Random restarts of the levelling while a placement is not close,"""
MORE, FAR, TOUCHED = 400, 1.01, 1_000_000
"""and so many while it is far, as long as all of them together touch no more atoms than that."""
SMALL = 14
"""Atoms up to which every placement is considered."""


def bound(files: Files, runners: int, cost: float = 0.0) -> float:
    """Seconds below which no placement on so many runners ends.

    The longest atom, the equal share of everything; a file that does not fit on one runner costs more than once.
    """
    longest = max((max(atoms) for atoms in files if atoms), default=-cost) + cost
    totals = [math.fsum(atoms) for atoms in files if atoms]
    low = max(longest, (math.fsum(totals) + cost * len(totals)) / runners)
    if not cost or not totals:
        return low
    # A file of d seconds on runners that end at T is on at least d / (T - cost) of them.
    high = low + cost * len(totals)

    def fits(end: float) -> bool:
        room = end - cost
        parts = sum(max(1, math.ceil(total / room - 1e-9)) if room > 0 else math.inf for total in totals)
        return math.fsum(totals) + cost * parts <= runners * end

    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return low


def pack(files: Files, runners: int, cost: float = 0.0) -> Bins:
    """A placement on `runners` runners, close to the bound with as few files split as that takes."""
    least = bound(files, runners, cost)
    tried: list[tuple[float, Bins]] = []
    before = -1
    for longest, size in LADDER:
        pieces = cut(files, longest * least, size * least, cost)
        if len(pieces) == before:
            continue
        before = len(pieces)
        bins = _level(files, [_merge(each) for each in _longest_first(pieces, runners, cost)], least, cost)
        tried.append((makespan(files, bins, cost), bins))
        if tried[-1][0] <= least * CLOSE:
            break
    tried.sort(key=lambda each: each[0])  # stable: of equal ones that with fewer files split
    best = tried[0]
    for _, bins in tried[:3] if runners > 1 else ():
        if best[0] <= least * CLOSE:
            break
        kicked = _kick(files, bins, least, cost)
        best = min(best, (makespan(files, kicked, cost), kicked), key=lambda each: each[0])
    if best[0] > least * (1 + 1e-9) and sum(map(len, files)) <= SMALL:
        return search(files, runners, cost, best[0] * (1 - 1e-9)) or best[1]
    return best[1]


def load_of(files: Files, content: dict[int, list[int]], cost: float) -> float:
    return math.fsum(files[file][place] for file, places in content.items() for place in places) + cost * len(content)


def makespan(files: Files, bins: Bins, cost: float = 0.0) -> float:
    return max((load_of(files, content, cost) for content in bins), default=0.0)


def cut(files: Files, longest: float, size: float, cost: float = 0.0) -> list[Piece]:
    """Files as pieces: those longer than `longest` are cut into pieces of about `size`, in order."""
    pieces: list[Piece] = []
    for file, atoms in enumerate(files):
        total = math.fsum(atoms)
        if total + cost <= longest or len(atoms) == 1:
            if atoms:
                pieces.append((file, list(range(len(atoms))), total))
            continue
        # Equal pieces leave no short rest; one below the file's cost would pay more than it carries.
        share = max(size - cost, cost, 0.0)
        share = total / math.ceil(total / share) if share and total else 0.0
        places: list[int] = []
        seconds = 0.0
        for place, atom in enumerate(atoms):
            if places and seconds + atom / 2 > share:
                pieces.append((file, places, seconds))
                places, seconds = [], 0.0
            places.append(place)
            seconds += atom
        pieces.append((file, places, seconds))
    return pieces


def _longest_first(pieces: Sequence[Piece], runners: int, cost: float) -> list[list[Piece]]:
    bins: list[list[Piece]] = [[] for _ in range(runners)]
    loads = [(0.0, place) for place in range(runners)]
    for piece in sorted(pieces, key=lambda piece: (-piece[2], piece[0], piece[1])):
        load, place = loads[0]
        known = cost and any(other[0] == piece[0] for other in bins[place])
        heapq.heapreplace(loads, (load + piece[2] + (0 if known else cost), place))
        bins[place].append(piece)
    return bins


def _kick(files: Files, best: Bins, least: float, cost: float) -> Bins:
    """Some random moves, then level again, until it is close or that was tried often."""
    end = makespan(files, best, cost)
    chance = random.Random(0)
    more = max(KICKS, min(MORE, TOUCHED // sum(map(len, files))))
    for number in range(more):
        if end <= least * (CLOSE if number < KICKS else FAR):
            break
        content = [{file: list(places) for file, places in each.items()} for each in best]
        full = max(range(len(content)), key=lambda place: load_of(files, content[place], cost))
        for source in (full, chance.randrange(len(content)), chance.randrange(len(content))):
            other = chance.randrange(len(content))
            if other != source and content[source]:
                _apply(content[source], content[other], (chance.choice(sorted(content[source])), None, None))
        content = _level(files, content, least, cost)
        if (after := makespan(files, content, cost)) <= end:
            best, end = content, after
    return best


def _level(files: Files, content: Bins, least: float, cost: float) -> Bins:
    """Level the fullest runner against the others until nothing helps."""
    loads = [load_of(files, each, cost) for each in content]
    weights = [_weights(files, each, cost) for each in content]
    for _ in range(400):
        full = max(range(len(content)), key=lambda place: (loads[place], -place))
        if loads[full] <= least * 1.0005:
            break
        found = _step(files, content, weights, loads, full, cost)
        if found is None:
            break
        other, step = found
        _apply(content[full], content[other], step)
        for place in (full, other):
            loads[place] = load_of(files, content[place], cost)
            weights[place] = _weights(files, content[place], cost)
    return content


def _step(
    files: Files,
    content: Bins,
    weights: list[list[tuple[float, int]]],
    loads: list[float],
    full: int,
    cost: float,
) -> tuple[int, _Step] | None:
    """The first step that helps, to the emptiest runners first; splitting one more file comes last."""
    others = sorted((place for place in range(len(loads)) if place != full), key=lambda place: (loads[place], place))
    for split in (False, True):
        for other in others:
            gap = loads[full] - loads[other]
            if gap <= loads[full] * 1e-6:
                break
            step = _shift(files, content[full], content[other], gap, cost, split)
            if step is None and not split:
                step = _swap(weights[full], weights[other], gap)
            if step is not None:
                return other, step
    return None


def _merge(pieces: Sequence[Piece]) -> dict[int, list[int]]:
    merged: dict[int, list[int]] = {}
    for file, places, _ in pieces:
        merged.setdefault(file, []).extend(places)
    return merged


def _weights(files: Files, content: dict[int, list[int]], cost: float) -> list[tuple[float, int]]:
    return sorted((math.fsum(files[file][place] for place in places) + cost, file) for file, places in content.items())


_Step = tuple[int, list[int] | None, int | None]  # file, its atoms that go (None: all), the file that comes back


def _swap(full: list[tuple[float, int]], other: list[tuple[float, int]], gap: float) -> _Step | None:
    """Give a file's part away, for nothing or for a smaller one, so that about half of the gap moves."""
    best: tuple[float, _Step] | None = None
    for weight, file in full:
        if weight < gap:
            miss = abs(weight - gap / 2)
            if best is None or miss < best[0]:
                best = (miss, (file, None, None))
        place = bisect_left(other, (weight - gap / 2, -1))
        for back, returned in other[max(0, place - 1) : place + 1]:
            miss = abs(weight - back - gap / 2)
            if 0 < weight - back < gap and returned != file and (best is None or miss < best[0]):
                best = (miss, (file, None, returned))
    return best[1] if best and best[0] < gap / 2 * 0.999 else None


def _shift(
    files: Files, full: dict[int, list[int]], other: dict[int, list[int]], gap: float, cost: float, split: bool
) -> _Step | None:
    """Move some atoms of a file that both have: that costs nothing. `split`: of a file that only one has."""
    room = (gap - (cost if split else 0)) / 2
    for file in sorted(full.keys() - other.keys() if split else full.keys() & other.keys()):
        moved: list[int] = []
        seconds = 0.0
        for place in sorted(full[file], key=lambda place: (-files[file][place], place)):
            if seconds + files[file][place] <= room:
                moved.append(place)
                seconds += files[file][place]
        if moved and seconds > gap * 0.05 and len(moved) < len(full[file]):
            return file, moved, None
    return None


def _apply(full: dict[int, list[int]], other: dict[int, list[int]], step: _Step) -> None:
    file, moved, back = step
    gone = set(full[file] if moved is None else moved)
    other[file] = sorted([*other.get(file, ()), *gone])
    left = [place for place in full.pop(file) if place not in gone]
    if left:
        full[file] = left
    if back is not None:
        full[back] = sorted([*full.get(back, ()), *other.pop(back)])


def search(files: Files, runners: int, cost: float, below: float, nodes: int = 20_000) -> Bins | None:
    """The best placement that ends before `below`, or None; depth first over all, as far as `nodes` steps go."""
    atoms = sorted(
        ((seconds, file, place) for file, each in enumerate(files) for place, seconds in enumerate(each)),
        key=lambda atom: (-atom[0], atom[1:]),
    )
    rests = [math.fsum(atom[0] for atom in atoms[start:]) for start in range(len(atoms) + 1)]
    least = bound(files, runners, cost)
    loads = [0.0] * runners
    content: Bins = [{} for _ in range(runners)]
    best: Bins | None = None
    left = nodes

    def place(depth: int) -> None:
        nonlocal best, below, left
        left -= 1
        if left < 0 or below <= least * (1 + 1e-9) or (math.fsum(loads) + rests[depth]) / runners >= below:
            return
        if depth == len(atoms):
            below = max(loads) * (1 - 1e-9)
            best = [{file: sorted(places) for file, places in each.items()} for each in content]
            return
        seconds, file, position = atoms[depth]
        seen = set()
        for runner in sorted(range(runners), key=lambda runner: (-loads[runner], runner)):
            new = file not in content[runner]
            state = (loads[runner], tuple(content[runner]) if cost else ())
            after = loads[runner] + seconds + (cost if new else 0.0)
            if state in seen or after >= below:
                continue
            seen.add(state)
            before, loads[runner] = loads[runner], after
            content[runner].setdefault(file, []).append(position)
            place(depth + 1)
            loads[runner] = before
            content[runner][file].pop()
            if new:
                del content[runner][file]

    place(0)
    return best


def fewest(files: Files, end: float, cost: float = 0.0, most: int | None = None) -> tuple[int, Bins] | None:
    """The fewest runners with which everything ends by `end`, and how; None when `most` are too few."""
    atoms = sum(map(len, files))
    if not atoms:
        return 0, []
    if max(map(max, filter(None, files))) + cost > end * (1 + 1e-9):
        return None
    low = 1
    while bound(files, low, cost) > end * (1 + 1e-9):
        low += 1
    for runners in range(low, min(atoms, atoms if most is None else most) + 1):
        for bins in _attempts(files, runners, cost, end):
            if bins is not None and makespan(files, bins, cost) <= end * (1 + 1e-9):
                return runners, bins
    return None


def _attempts(files: Files, runners: int, cost: float, end: float) -> Iterator[Bins | None]:
    """Ways to end by `end`, the cheap ones first."""
    yield pack(files, runners, cost)
    for longest, size in LADDER:
        yield _best_fit(cut(files, longest * end, size * end, cost), runners, cost, end)
    if sum(map(len, files)) <= SMALL:
        yield search(files, runners, cost, end * (1 + 1e-9))


def _best_fit(pieces: Sequence[Piece], runners: int, cost: float, end: float) -> Bins | None:
    """Longest first into the fullest runner with room; None when one finds no room."""
    free = [end * (1 + 1e-9)] * runners
    bins: Bins = [{} for _ in range(runners)]
    for file, places, seconds in sorted(pieces, key=lambda piece: (-piece[2], piece[0], piece[1])):
        fitting = [
            (left - seconds - (0 if file in bins[place] else cost), place)
            for place, left in enumerate(free)
            if left >= seconds + (0 if file in bins[place] else cost)
        ]
        if not fitting:
            return None
        free_after, place = min(fitting)
        free[place] = free_after
        bins[place].setdefault(file, []).extend(places)
    return bins
