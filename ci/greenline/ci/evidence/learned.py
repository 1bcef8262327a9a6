"""Imports that only run time shows: a module by a string, a plugin by a table. Static selection follows them too.

An edge says that what ran for file A, its module body, its fixtures or its tests, imported module B, while no chain of
import statements leads from A to B. Edges only add to what is selected, so it does no harm that one may be old: they
go when no record that counts has them any more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from greenline.ci.evidence import forms
from greenline.ci.evidence.reading import open_query
from greenline.ci.evidence.records import Used
from greenline.depgraph.config import Config
from greenline.depgraph.graph import Graph
from greenline.depgraph.workspace import Workspace


class Edge(NamedTuple):
    """Two paths: what ran for the first imported the second."""

    importer: str
    imported: str


class Learner:
    """Tells which of the imports that were seen no import statement shows."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._dependents: dict[int, set[int]] = {}

    def edges(self, id: str, used: Used, modules: Mapping[str, str]) -> Iterator[Edge]:
        """Of one test or unit. ``modules``: dotted name → unit."""
        kind, colon, rest = id.partition(":")
        path = rest if colon and kind in ("module", "collect", "fixture") else id
        importer = path.partition("::")[0]
        units = {*used.lists["units"], *(modules[name] for name in used.lists["modules"] if name in modules)}
        for unit in sorted(units):
            imported = unit.removeprefix("module:")
            if imported not in (unit, importer) and not self._is_known(importer, imported):
                yield Edge(importer, imported)

    def _is_known(self, importer: str, imported: str) -> bool:
        start, end = self._graph.node(importer), self._graph.node(imported)
        if start < 0 or end < 0 or start in self._graph.importers(end):
            return True
        if end not in self._dependents:
            self._dependents[end] = self._graph.dependents([end])
        return start in self._dependents[end]


def read(workspace: Workspace, config: Config, environment: Mapping[str, str] = os.environ) -> list[Edge]:
    """What all suites and variants have learned; [] without a store. Raises what a store that cannot be read raises."""
    query = open_query(workspace, config, environment)
    if query is None:
        return []
    rows = query(
        "SELECT DISTINCT path, name FROM evidence_fact"
        " WHERE suite_id IN (SELECT id FROM evidence_suite) AND kind = :kind",  # so that the index is used
        {"kind": forms.LEARNED},
    )
    return sorted(Edge(*row) for row in rows)
