"""The classes around a class, and by what a test is seen to have one of its instances.

A changed member is felt through the name of the class or of a descendant, or through an instance. Whoever has an
instance ran what makes it. So where the functions that make one are known, those who only ran an ancestor's methods, as
they do with any other of its descendants, do not count.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import NamedTuple

from greenline.ci.evidence.meaning import Meaning
from greenline.ci.evidence.names import Names
from greenline.depgraph.blocks import Function, class_head, leaf, same
from greenline.depgraph.changes import is_plain_base, is_plain_decorator
from greenline.depgraph.layout import is_code

MOST_CLASSES = 30
MOST_FILES = 300
"""Of classes to follow, and of files that contain the name of one."""

MAKERS = ("__init__", "__new__")
MADE_OTHERWISE = (
    *("__new__", "__reduce__", "__reduce_ex__", "__setstate__", "__subclasses__", "copyreg", "pickle", "cPickle"),
    *("cloudpickle", "dill", "jsonpickle", "joblib", "shelve", "marshal"),
)
"""What code names that gets at a class without its name, or makes an instance without calling the class."""
_MAKES_NOTHING = ("object", "ABC", "Generic")
_OF_THE_CLASS = ("__init_subclass__", "__class_getitem__")
_WITHOUT_INSTANCE = {"classmethod", "staticmethod"}

Block = tuple[str, str]
"""Path, qualified name of a function."""
Was = Callable[[str], dict[str, ast.ClassDef] | None]
"""The classes of a changed file as the tests ran it; None for any other file."""


class Place(NamedTuple):
    """A class: its file, its qualified name, and its definition as it is now."""

    path: str
    name: str
    node: ast.ClassDef


class Family(NamedTuple):
    """A class and its descendants, and its ancestors.

    ``makers``: (path, function), of which everyone ran one who has an instance of the former, or has one of them as
    ``cls`` in an ancestor; None where that is not known.
    """

    own: list[Place]
    above: list[Place]
    makers: set[Block] | None


def family_of(names: Names, meaning: Meaning, was: Was, path: str, owner: str) -> Family | None:
    """None where a class is not found, something foreign is above one, or there are too many to follow."""
    start = [Place(path, name, node) for name, node in names.classes(path) if name == owner]
    own: list[Place] = []
    above: list[Place] = []
    waiting = [(each, True) for each in start]
    if not start:
        return None
    while waiting:
        place, down = waiting.pop()
        if any(place[:2] == each[:2] for each in (*own, *above)):
            continue
        (own if down else above).append(place)
        if len(own) + len(above) > MOST_CLASSES or len(names.files(place.node.name)) > MOST_FILES:
            return None
        if down:
            waiting += [(each, True) for each in _children(names, meaning, place)]
        if place in start or not down:
            for base in place.node.bases:
                found = [] if is_plain_base(leaf(base)) else parents(names, meaning, place.path, base)
                if not found and not is_plain_base(leaf(base)):
                    return None
                waiting += [(each, False) for each in found]
    return Family(own, above, _makers(names, meaning, was, own, above))


def _children(names: Names, meaning: Meaning, place: Place) -> list[Place]:
    name = place.node.name
    found = []
    for path in filter(is_code, names.files(name)):
        for whole, node in names.classes(path):
            bases = [base for base in node.bases if leaf(base) == name]
            if any(_may_mean(meaning, path, base, place.path) for base in bases):
                found.append(Place(path, whole, node))
    return found


def parents(names: Names, meaning: Meaning, path: str, base: ast.expr) -> list[Place]:
    """The classes of the repository that a base may be, which a class of this file names."""
    name = leaf(base)
    files = [each for each in names.files(name) if is_code(each)] if name else []
    classes = [Place(each, *pair) for each in files for pair in names.classes(each) if pair[1].name == name]
    return [each for each in classes if _may_mean(meaning, path, base, each.path)]


def _may_mean(meaning: Meaning, path: str, base: ast.expr, of: str) -> bool:
    """Whether a base that a class of one file names may be one of that name in another."""
    while isinstance(base, ast.Subscript):
        base = base.value
    return not isinstance(base, ast.Name) or meaning.may_have(path, base.id, of)


def _makers(names: Names, meaning: Meaning, was: Was, own: list[Place], above: list[Place]) -> set[Block] | None:
    if any(place.node.keywords for place in above):  # a metaclass may make them
        return None
    found = set[Block]()
    for place in own:
        nearest = _constructors(names, meaning, was, place)
        if nearest is None or not nearest.runs:
            return None
        found |= nearest.functions
    for path, name, node in above:
        functions = [each for each in node.body if isinstance(each, Function)]
        with_class = [each for each in functions if each.name in _OF_THE_CLASS or _decorators(each) & _WITHOUT_INSTANCE]
        found.update((path, f"{name}.{each.name}") for each in with_class)
    return found


class _Constructors(NamedTuple):
    """Functions of the repository, and whether one of them runs in any case."""

    functions: set[Block]
    runs: bool


def _constructors(
    names: Names, meaning: Meaning, was: Was, place: Place, hops: int = MOST_CLASSES
) -> _Constructors | None:
    """The nearest constructors of a class; None where something else may make its instances."""
    path, name, node = place
    before = was(path)
    own = _own_constructors(node)
    if own is None or node.keywords or node.decorator_list or not hops:
        return None
    if before is not None and (name not in before or not _is_made_alike(node, before[name])):
        return None
    if own:
        return _Constructors({(path, f"{name}.{each}") for each in own}, True)
    functions, runs = set[Block](), False
    for base in node.bases:
        if leaf(base) in _MAKES_NOTHING:
            continue
        found = parents(names, meaning, path, base)
        nearest = [_constructors(names, meaning, was, each, hops - 1) for each in found]
        known = [each for each in nearest if each is not None]
        if is_plain_base(leaf(base)) or not nearest or len(known) < len(nearest):
            return None
        functions = functions.union(*(each.functions for each in known))
        runs |= all(each.runs for each in known)
    return _Constructors(functions, runs)


def _own_constructors(node: ast.ClassDef) -> list[str] | None:
    """The names of those that a class defines; None where they are bound in an unusual way."""
    own = [each for each in node.body if isinstance(each, Function) and each.name in MAKERS]
    bound = [part for part in ast.walk(node) if isinstance(part, Function) and part.name in MAKERS]
    assigned = any(isinstance(part, ast.Name) and part.id in MAKERS for part in ast.walk(node))
    plain = all(is_plain_decorator(each) for function in own for each in function.decorator_list)
    return [each.name for each in own] if plain and len(bound) == len(own) and not assigned else None


def _is_made_alike(node: ast.ClassDef, old: ast.ClassDef) -> bool:
    return same(class_head(node), class_head(old)) and _own_constructors(node) == _own_constructors(old)


def _decorators(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    return {leaf(each) for each in node.decorator_list}


def is_plain_class(names: Names, path: str, name: str) -> bool:
    """Whether a class, and all above it, are of the repository and have nothing that looks at their members."""
    waiting, seen = [(path, name)], set()
    while waiting:
        place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        node = dict(names.classes(place[0])).get(place[1])
        if node is None or node.decorator_list or node.keywords or len(seen) > MOST_CLASSES:
            return False
        for base in map(leaf, node.bases):
            files = filter(is_code, names.files(base)) if base else ()
            found = [(each, whole) for each in files for whole, n in names.classes(each) if n.name == base]
            if not found and base != "object":
                return False
            waiting += found
    return True
