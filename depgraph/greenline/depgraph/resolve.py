"""From the names that a file mentions to the files that they mean.

Importing ``a.b.c`` runs ``a``, ``a.b`` and ``a.b.c``: a name means every module on its way. Where several files
have one name (two projects with a package ``app``, a helper beside each test folder), Python would take the first
on ``sys.path``, which only a running program knows. The rule here:

1. Of the files in source roots, those whose root shares the longest folder with the importer; ties: all.
2. Files in loose folders (see :class:`.layout.ModuleName`) count in addition, for importers at or below the folder.
3. If that leaves none: every loose file of the name, unless it is a module of the standard library.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from greenline.depgraph.layout import Layout


class Definer(NamedTuple):
    """A file that has a module name: its node id, the folder the name is relative to, and whether it is loose."""

    node: int
    root: str
    loose: bool


class Modules(Protocol):
    """Module names and who defines them."""

    def get(self, name: str) -> Sequence[Definer]: ...

    def below(self, package: str) -> Sequence[str]:
        """The module names below a package, in order."""
        ...


class Resolver:
    """Resolves absolute names for importers; answers are cached, per folder only where it matters."""

    def __init__(self, modules: Modules) -> None:
        self.modules = modules
        self._plain: dict[str, tuple[int, ...] | None] = {"": ()}
        self._below: dict[str, tuple[list[int], list[str]]] = {}
        self._by_folder: dict[tuple[str, str], tuple[int, ...]] = {}

    def targets(self, name: str, folder: str) -> tuple[int, ...]:
        """Node ids of the modules that importing ``name`` from a file in ``folder`` runs, packages first."""
        plain = self._plain.get(name, _UNSEEN)
        if plain is _UNSEEN:
            plain = self._resolve_plain(name)
        if plain is not None:
            return plain
        key = (folder, name)
        found = self._by_folder.get(key)
        if found is None:
            parent = name.rpartition(".")[0]
            above = self.targets(parent, folder) if parent else ()
            found = self._by_folder[key] = above + self.visible(name, folder)
        return found

    def is_plain(self, name: str) -> bool:
        """Whether a name means the same for every importer."""
        known = self._plain.get(name, _UNSEEN)
        return (self._resolve_plain(name) if known is _UNSEEN else known) is not None

    def below(self, package: str, folder: str) -> tuple[int, ...]:
        """Node ids of every module in a package, itself and its parents included."""
        known = self._below.get(package)
        if known is None:
            plain, ambiguous = [], []
            for name in self.modules.below(package):
                definers = self.modules.get(name)
                if len(definers) == 1 and not definers[0].loose:
                    plain.append(definers[0].node)
                else:
                    ambiguous.append(name)
            known = self._below[package] = plain, ambiguous
        found = [*self.targets(package, folder), *known[0]]
        for name in known[1]:
            found += self.visible(name, folder)
        return tuple(found)

    def _resolve_plain(self, name: str) -> tuple[int, ...] | None:
        """The answer where it is the same for every importer, else None."""
        definers = self.modules.get(name)
        parent, _, _ = name.rpartition(".")
        above = self._plain.get(parent, _UNSEEN)
        if above is _UNSEEN:
            above = self._resolve_plain(parent)
        plain: tuple[int, ...] | None
        if above is None or (definers and (len(definers) > 1 or definers[0].loose)):
            plain = None
        else:
            plain = (*above, definers[0].node) if definers else above
        self._plain[name] = plain
        return plain

    def visible(self, name: str, folder: str) -> tuple[int, ...]:
        """Node ids of the files with this very name that a file in ``folder`` may mean."""
        definers = self.modules.get(name)
        near: list[int] = []
        nearest = -1
        loose = []
        for node, root, is_loose in definers:
            if is_loose:
                if _within(folder, root):
                    loose.append(node)
                continue
            shared = _shared(folder, root)
            if shared > nearest:
                near, nearest = [node], shared
            elif shared == nearest:
                near.append(node)
        if not near and not loose and name.partition(".")[0] not in sys.stdlib_module_names:
            return tuple(node for node, _, _ in definers)
        return tuple(near + loose)


_UNSEEN: tuple[int, ...] = (-1,)


def absolute(name: str, packages: Iterable[str]) -> list[str]:
    """A relative name ("..x.y") as absolute names, one for each package that the file may be in.

    A relative import that leaves the top-level package is an error at run time: it means nothing here.
    """
    stripped = name.lstrip(".")
    level = len(name) - len(stripped)
    if level == 0:
        return [name]
    found = []
    for package in packages:
        for _ in range(level - 1):
            package = package.rpartition(".")[0]
        if package:
            found.append(f"{package}.{stripped}" if stripped else package)
        elif stripped:
            found.append(stripped)
    return found


def parents(path: str, layout: Layout) -> list[str]:
    """The ``__init__.py`` files that run before this file's module does, innermost first (itself excluded)."""
    folder = path.rpartition("/")[0]
    if path.endswith("/__init__.py"):
        folder = folder.rpartition("/")[0]
    found = []
    while folder and folder in layout.packages:
        found.append(folder + "/__init__.py")
        folder = folder.rpartition("/")[0]
    return found


def _within(folder: str, root: str) -> bool:
    return folder == root or not root or folder.startswith(root + "/")


def _shared(folder: str, root: str) -> int:
    """How many folders two paths share from the top."""
    count = 0
    for mine, theirs in zip(folder.split("/"), root.split("/"), strict=False):
        if mine != theirs or not mine:
            break
        count += 1
    return count
