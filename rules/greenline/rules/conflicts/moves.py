"""Where a definition that is gone went: renamed in its place, moved to another module, or deleted."""

from __future__ import annotations

import ast
import difflib
from typing import NamedTuple

from greenline.rules.conflicts.infer import World
from greenline.rules.conflicts.merge import Merge, differing
from greenline.rules.conflicts.modules import Binding, members

ALIKE = 0.6
"""Share of a definition that must be the same under another name, from 0 to 1."""
CLEARLY = 0.1
"""How much more alike the best candidate must be than the next."""


class Went(NamedTuple):
    """``kind``: "renamed", "moved" or "deleted"; then the new file and qualified name. Names are as in `Value`."""

    kind: str
    path: str = ""
    name: str = ""


DELETED = Went("deleted")


def where_went(merge: Merge, path: str, name: str) -> Went:
    """Where the merged state has what the base had as ``name`` in ``path``."""
    base, merged = merge.base, merge.merged
    old = definition(base, path, name)
    if old is None:
        return DELETED
    new_path = merge.moved.get(path, path)
    if path not in merged.tree.files and new_path in merged.tree.files and definition(merged, new_path, name):
        return Went("moved", new_path, name)
    owner, _, last = name.rpartition(".")
    if owner and definition(merged, path, owner) is None:
        up = where_went(merge, path, owner)  # the class itself was renamed or moved
        inner = f"{up.name}.{last}"
        return up._replace(name=inner) if up.kind != "deleted" and definition(merged, up.path, inner) else DELETED
    candidates = _new_names(merge, path, owner)
    if best := _most_alike(old, last, candidates):
        return Went("renamed", path, f"{owner}.{best}" if owner else best)
    if not owner:
        homes = []
        for other in sorted(differing(base.tree, merged.tree)):
            if other != path and other.endswith(".py") and definition(base, other, name) is None:
                found = definition(merged, other, name)
                if found is not None and found.kind == old.kind and _ratio(old, name, found, name) >= ALIKE:
                    homes.append(other)
        if len(homes) == 1:
            return Went("moved", homes[0], name)
    return DELETED


def definition(world: World, path: str, name: str) -> Binding | None:
    """The binding of a qualified name, if it is a definition or a value and no import."""
    module = world.tree.module(path)
    if module is None:
        return None
    names = module.names
    *owners, last = name.split(".")
    for owner in owners:
        bound = names.get(owner, [])
        if not bound or not isinstance(bound[-1].node, ast.ClassDef):
            return None
        names = members(bound[-1].node).names
    found = [one for one in names.get(last, []) if one.kind in ("function", "class", "value")]
    return found[-1] if found else None


def _new_names(merge: Merge, path: str, owner: str) -> dict[str, Binding]:
    """What a module or class binds in the merged state and did not in the base."""
    sides = []
    for world in (merge.base, merge.merged):
        module = world.tree.module(path)
        if module is None:
            return {}
        if not owner:
            sides.append(module.names)
            continue
        bound = definition(world, path, owner)
        if bound is None or not isinstance(bound.node, ast.ClassDef):
            return {}
        sides.append(members(bound.node).names)
    before, after = sides
    return {name: bound[-1] for name, bound in after.items() if name not in before and bound[-1].kind != "import"}


def _most_alike(old: Binding, name: str, candidates: dict[str, Binding]) -> str | None:
    rated = [
        (_ratio(old, name, candidate, other), other)
        for other, candidate in candidates.items()
        if candidate.kind == old.kind
    ]
    rated.sort(key=lambda one: (-one[0], one[1]))
    if not rated or rated[0][0] < ALIKE:
        return None
    return rated[0][1] if len(rated) == 1 or rated[0][0] - rated[1][0] >= CLEARLY else None


def _ratio(one: Binding, one_name: str, other: Binding, other_name: str) -> float:
    """How alike two definitions are apart from their names."""
    a, b = _tokens(one.node, one_name), _tokens(other.node, other_name)
    if a == b:
        return 1.0
    return difflib.SequenceMatcher(None, a, b, autojunk=False).ratio() if len(a) + len(b) < 20_000 else 0.0


def _tokens(node: ast.AST, name: str) -> list[str]:
    found = []
    for part in ast.walk(node):
        text = type(part).__name__
        for field in ("id", "attr", "arg", "name", "value"):
            value = getattr(part, field, None)
            if isinstance(value, str | int | float | bytes | None) and field in part._fields:
                text += f" {value!r}" if value != name else " self"
        found.append(text)
    return found
