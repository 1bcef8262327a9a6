"""The classes around a class, and by what a test is seen to have one of its instances.

A changed member is felt through the name of the class or of a descendant, or through an instance. Whoever has an
instance ran what makes it. So where the functions that make one are known, those who only ran an ancestor's methods, as
they do with any other of its descendants, do not count.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import NamedTuple

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
    """The classes of one name and their descendants, and the ancestors of the former.

    ``makers``: (path, function), of which everyone ran one who has an instance of the former, or has one of them as
    ``cls`` in an ancestor; None where that is not known.
    """

    own: list[Place]
    above: list[Place]
    makers: set[Block] | None


def family_of(names: Names, was: Was, path: str, owner: str) -> Family | None:
    """The family of a class of a file, and of all that have its last name.

    None where something foreign is above a class, or where there are too many to follow.
    """
    start = owner.rpartition(".")[2]
    own: list[Place] = []
    above: list[Place] = []
    seen: set[str] = set()
    waiting = [(start, True, True)]
    while waiting:
        name, up, down = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        files = names.files(name)
        if len(seen) > MOST_CLASSES or len(files) > MOST_FILES:
            return None
        defined = False
        for each in filter(is_code, files):
            for qualified, node in names.classes(each):
                bases = [leaf(base) for base in node.bases]
                if node.name == name:
                    defined = True
                    (own if down else above).append(Place(each, qualified, node))
                    waiting += [(base, True, False) for base in bases if up and not is_plain_base(base)]
                if down and name in bases:
                    waiting.append((node.name, False, True))
        if not defined and name != start:
            return None
    found = any(
        (place.path, place.name) == (path, owner) for place in own
    )  # not where it is made in a function, or by if
    return Family(own, above, _makers(names, was, own, above) if found else None)


def _makers(names: Names, was: Was, own: list[Place], above: list[Place]) -> set[Block] | None:
    if any(place.node.keywords for place in above):  # a metaclass may make them
        return None
    found = set[Block]()
    for place in own:
        nearest = _constructors(names, was, place)
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


def _constructors(names: Names, was: Was, place: Place, hops: int = MOST_CLASSES) -> _Constructors | None:
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
    for base in map(leaf, node.bases):
        if base in _MAKES_NOTHING:
            continue
        found = [Place(each, *pair) for each in filter(is_code, names.files(base)) for pair in names.classes(each)]
        nearest = [_constructors(names, was, each, hops - 1) for each in found if each.node.name == base]
        known = [each for each in nearest if each is not None]
        if is_plain_base(base) or not nearest or len(known) < len(nearest):
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
