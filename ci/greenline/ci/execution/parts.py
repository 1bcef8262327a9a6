"""A plan's shards as what pytest-greenline runs: parts of suites, and what identifies a run."""

from __future__ import annotations

import hashlib
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from greenline.ci.sharding.plan_file import Plan, PlannedAtom, dumps
from pytest_greenline.part import Names, Part


class Piece(NamedTuple):
    """What one shard runs of a suite: its atoms, and the names whose new tests it runs."""

    atoms: list[PlannedAtom]
    owns: list[str]


class SuitePart(NamedTuple):
    """What runs of one suite; ``root`` is its rootdir, relative to the repository. ``pieces``: shard by shard."""

    suite: str
    root: str
    part: Part
    pieces: list[Piece]

    @property
    def atoms(self) -> list[PlannedAtom]:
        return [atom for piece in self.pieces for atom in piece.atoms]


def digest(plan: Plan) -> str:
    """What a plan is recognised by in results."""
    return hashlib.sha256(dumps(plan).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def names_of(atoms: Iterable[PlannedAtom], owns: Iterable[str]) -> Names:
    tests = (test for atom in atoms for test in atom.tests)
    return Names(dict.fromkeys(tests), dict.fromkeys(owns))


def suites_of(plan: Plan) -> dict[str, str]:
    """File → suite: the one that an atom says, else the one whose root is nearest."""
    roots = {root: suite for suite, root in sorted(plan.suites.items(), reverse=True)}
    said = {_file(test): atom.suite for shard in plan.shards for atom in shard.atoms for test in atom.tests}
    files = [*said, *(_file(name) for shard in plan.shards for name in shard.owns)]
    return {file: said.get(file) or _nearest(file, roots) for file in files}


def _nearest(file: str, roots: Mapping[str, str]) -> str:
    folder = posixpath.dirname(file)
    while folder and folder not in roots:
        folder = posixpath.dirname(folder)
    return roots.get(folder, ".")


def _file(name: str) -> str:
    return name.partition("::")[0]


def parts_of(plan: Plan, top: str, indexes: Iterable[int]) -> list[SuitePart]:
    """What these shards run, suite by suite. ``top``: the repository."""
    chosen = set(indexes)
    suites = suites_of(plan)
    pieces: defaultdict[str, list[Piece]] = defaultdict(list)
    others: defaultdict[str, list[Piece]] = defaultdict(list)
    for shard in plan.shards:
        own: defaultdict[str, Piece] = defaultdict(lambda: Piece([], []))
        for atom in shard.atoms:
            own[suites[_file(atom.tests[0])]].atoms.append(atom)
        for name in shard.owns:
            own[suites[_file(name)]].owns.append(name)
        for suite, piece in own.items():
            (pieces if shard.index in chosen else others)[suite].append(piece)
    return [
        SuitePart(suite, plan.suites.get(suite, ""), Part(top, *_names(pieces[suite], others[suite])), pieces[suite])
        for suite in sorted(pieces)
    ]


def _names(mine: Iterable[Piece], others: Iterable[Piece]) -> tuple[Names, Names]:
    """The names of these pieces, and those of the others that are in the same files."""
    own, elsewhere = (
        names_of((atom for piece in some for atom in piece.atoms), (name for piece in some for name in piece.owns))
        for some in map(list, (mine, others))
    )
    here = {_file(name) for names in own for name in names}
    return own, Names(*({name: None for name in names if _file(name) in here} for names in elsewhere))
