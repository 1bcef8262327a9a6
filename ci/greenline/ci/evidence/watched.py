"""Whether something looks at the members of a class as it is made, and may act on them or refuse them.

Then a changed member is felt by everyone who imports the module. An enumeration or a dataclass alone is not enough:
they only collect members, and what they refuse is seen here.
"""

from __future__ import annotations

import ast

from greenline.ci.evidence.names import Names
from greenline.depgraph.blocks import Function, bound_names, leaf
from greenline.depgraph.changes import is_plain_decorator
from greenline.depgraph.layout import is_code

MOST_CLASSES = 30
ENUMERATIONS = {"Enum": None, "IntEnum": int, "StrEnum": str, "Flag": int, "IntFlag": int}
"""Base → the type that its values need, or None."""


def is_watched(names: Names, path: str, name: str) -> bool:
    """``name``: the qualified name of a class in a file."""
    waiting, seen = [(path, name)], set()
    heritage: set[str] = set()
    while waiting:
        place = waiting.pop()
        node = dict(names.classes(place[0])).get(place[1])
        if node is None or place in seen:
            continue
        seen.add(place)
        if place == (path, name):
            heritage.update(map(leaf, node.decorator_list))
        own = {each.name for each in node.body if isinstance(each, Function)}
        if node.keywords or "__init_subclass__" in own or len(seen) > MOST_CLASSES:
            return True
        if not all(map(is_plain_decorator, node.decorator_list)):
            return True
        bases = [leaf(each) for each in node.bases if leaf(each)]
        heritage.update(bases)
        for base in bases:
            files = filter(is_code, names.files(base))
            waiting += [(each, whole) for each in files for whole, other in names.classes(each) if other.name == base]
    top = dict(names.classes(path)).get(name)
    return top is None or _may_be_refused(top, heritage)


def _may_be_refused(node: ast.ClassDef, heritage: set[str]) -> bool:
    """By an enumeration, a named tuple or a dataclass, which may fail over values or their order."""
    kinds = heritage & ENUMERATIONS.keys()
    if kinds:
        values = [each.value for each in node.body if isinstance(each, ast.Assign) and not _is_private(each)]
        given = {
            type(each.value) if isinstance(each, ast.Constant) else None for each in values if leaf(each) != "auto"
        }
        wanted = {ENUMERATIONS[kind] for kind in kinds} - {None}
        if any(leaf(each) == "auto" for each in values) and not wanted:
            wanted = {int}
        return bool(node.decorator_list) or bool(wanted and given - wanted)
    if heritage & {"NamedTuple", "dataclass"}:
        defaults = [each.value for each in node.body if isinstance(each, ast.AnnAssign)]
        given_at = [at for at, default in enumerate(defaults) if default is not None]
        missing_at = [at for at, default in enumerate(defaults) if default is None]
        mutable = any(isinstance(default, ast.List | ast.Dict | ast.Set) for default in defaults)
        return mutable or bool(given_at and missing_at and min(given_at) < max(missing_at))
    return False


def _is_private(node: ast.Assign) -> bool:
    return any(name.startswith("_") for name in bound_names(node))
