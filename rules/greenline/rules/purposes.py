"""One library for each purpose: uses of another one, and, without a rule, the first use of a second one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple

from greenline.depgraph.imports import LAZY, Imports
from greenline.rules.known_libraries import LIBRARIES, WATCHED
from greenline.rules.settings import Purpose


class Use(NamedTuple):
    """A module that imports a library: nodes and the library's import name."""

    importer: int
    imported: int
    library: str


def others(imports: Imports, purpose: Purpose) -> Iterator[Use]:
    """Uses of libraries for a purpose that are not the one of the house."""
    known = (*LIBRARIES.get(purpose.name, ()), *purpose.libraries)
    for use in uses(imports, known, purpose.latest):
        if not any(within(use.library, own) or within(own, use.library) for own in purpose.use):
            yield use


def seconds(now: Imports, changed: Collection[str], before: Callable[[], Imports]) -> Iterator[tuple[str, str, Use]]:
    """(purpose, library of before, use now), where changed files bring another library for a watched purpose."""
    for purpose in WATCHED:
        found = [use for use in uses(now, LIBRARIES[purpose], LAZY) if now.paths[use.importer] in changed]
        if not found:
            continue
        old = Counter(use.library for use in uses(before(), LIBRARIES[purpose], LAZY))
        if old:
            house = min(old, key=lambda library: (-old[library], library))
            yield from ((purpose, house, use) for use in found if use.library not in old)


def uses(imports: Imports, libraries: Iterable[str], latest: int) -> Iterator[Use]:
    """Each module once for each of these libraries that it imports, in the order of modules."""
    wanted = sorted(set(libraries), key=len, reverse=True)
    outside = {}
    for node, path in enumerate(imports.paths):
        if not path:
            library = next((each for each in wanted if within(imports.names[node][0], each)), None)
            if library:
                outside[node] = library
    for node, own in enumerate(imports.edges):
        seen = set()
        for to in sorted(own.keys() & outside.keys()):
            if own[to] <= latest and outside[to] not in seen:
                seen.add(outside[to])
                yield Use(node, to, outside[to])


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")
