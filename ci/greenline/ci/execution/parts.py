"""A plan's shards as what pytest-greenline runs: parts of suites, and what identifies a run."""

from __future__ import annotations

import hashlib
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from greenline.ci.sharding.plan_file import Plan, PlannedAtom, dumps
from pytest_greenline.part import Names, Part


class SuitePart(NamedTuple):
    """What runs of one suite; ``root`` is its rootdir, relative to the repository."""

    suite: str
    root: str
    part: Part
    atoms: list[PlannedAtom]


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
    atoms: defaultdict[str, list[PlannedAtom]] = defaultdict(list)
    owns: defaultdict[str, list[str]] = defaultdict(list)
    other_atoms: defaultdict[str, list[PlannedAtom]] = defaultdict(list)
    other_owns: defaultdict[str, list[str]] = defaultdict(list)
    for shard in plan.shards:
        into_atoms, into_owns = (atoms, owns) if shard.index in chosen else (other_atoms, other_owns)
        for atom in shard.atoms:
            into_atoms[suites[_file(atom.tests[0])]].append(atom)
        for name in shard.owns:
            into_owns[suites[_file(name)]].append(name)
    parts = []
    for suite in sorted({*atoms, *owns}):
        mine = names_of(atoms[suite], owns[suite])
        here = {_file(name) for some in mine for name in some}
        elsewhere = names_of(other_atoms[suite], other_owns[suite])
        others = Names(*({name: None for name in some if _file(name) in here} for some in elsewhere))
        parts.append(SuitePart(suite, plan.suites.get(suite, ""), Part(top, mine, others), atoms[suite]))
    return parts
