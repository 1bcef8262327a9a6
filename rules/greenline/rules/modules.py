"""Expressions for modules: ``app.orders``, ``app.*`` (one name), ``app.**`` (names at any depth), ``app/orders/**``.

An expression means packages: each module that fits, with everything below it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from greenline.depgraph.globs import matcher
from greenline.depgraph.imports import Imports


class ModuleSets:
    """The modules and packages of a state by name. Names from outside the repository are among them."""

    def __init__(self, imports: Imports) -> None:
        self._imports = imports
        self._members: dict[str, list[int]] = {}
        for node, names in enumerate(imports.names):
            for name in names:
                end = len(name)
                while end > 0:
                    self._members.setdefault(name[:end], []).append(node)
                    end = name.rfind(".", 0, end)

    def package(self, name: str) -> list[int]:
        """The nodes of a module and of everything below it; [] if there is none."""
        return self._members.get(name, [])

    def names(self, expression: str) -> list[str]:
        """What fits an expression, sorted; [] if nothing does."""
        if "*" not in expression or "/" in expression:
            return [expression] if self.nodes(expression) else []
        pattern = pattern_of(expression)
        return sorted(name for name in self._members if pattern.fullmatch(name) and not self._is_outside(name))

    def packages(self, expressions: Iterable[str]) -> dict[str, list[int]]:
        """Each package that one of the expressions means, by its name."""
        return {name: self.nodes(name) for each in expressions for name in self.names(each)}

    def nodes(self, name: str) -> list[int]:
        """Like :meth:`package`, also for a glob of files."""
        if "/" not in name:
            return self.package(name)
        fits = matcher([name])
        return [node for node, path in enumerate(self._imports.paths) if path and fits(path)]

    def children(self, package: str) -> list[str]:
        """The names right below a package, sorted."""
        below = {name for node in self.package(package) for name in self._imports.names[node]}
        depth, start = package.count(".") + 2, package + "."
        return sorted({".".join(name.split(".")[:depth]) for name in below if name.startswith(start)})

    def _is_outside(self, name: str) -> bool:
        return not any(self._imports.paths[node] for node in self._members[name])


@functools.cache
def pattern_of(expression: str) -> re.Pattern[str]:
    """An expression of dotted names with ``*`` and ``**`` as a regular expression."""
    parts = (
        re.escape(part).replace(r"\*\*", r"[^.]+(?:\.[^.]+)*").replace(r"\*", r"[^.]+")
        for part in expression.split(".")
    )
    return re.compile(r"\.".join(parts))
