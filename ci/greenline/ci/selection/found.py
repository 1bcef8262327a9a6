"""What a change was found to affect, while it is being collected. The rules write here, :mod:`.select` reads it."""

from __future__ import annotations

from greenline.ci.selection.spellings import Spellings
from greenline.depgraph.index import Opened


class Found:
    """Everything the rules say of one change.

    seeds:      node → why it may behave differently; its dependents follow from the graph
    direct:     test file → (node ids, or None for the whole file; why)
    suites:     root of a suite → why all of its tests are affected; "" and reason for the whole repository
    targets_by_line: test file or conftest.py → line → nodes that it names there, as far as it was looked up
    spellings:  which files spell a name, as far as it was looked up
    warnings:   why the answer is only a superset, each with the way to a better one
    """

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.graph = opened.graph
        self.seeds: dict[int, str] = {}
        self.direct: dict[str, tuple[tuple[str, ...] | None, str]] = {}
        self.suites: dict[str, str] = {}
        self.everything: str | None = None
        self.warnings: list[str] = []
        self.targets_by_line: dict[str, dict[int, set[int]]] = {}
        self.spellings = Spellings(opened.workspace)

    def seed(self, node: int, why: str) -> None:
        if node >= 0:
            self.seeds.setdefault(node, why)

    def test(self, path: str, node_ids: tuple[str, ...] | None, why: str) -> None:
        """A test file is affected itself; several reasons add up."""
        known = self.direct.get(path)
        if known is None:
            self.direct[path] = node_ids, why
        elif known[0] is not None:
            both = None if node_ids is None else tuple(dict.fromkeys((*known[0], *node_ids)))
            self.direct[path] = both, known[1] if node_ids is not None else why

    def all(self, why: str) -> None:
        """Everything is affected. The first reason is kept."""
        self.everything = self.everything or why

    def superset(self, why: str, way_out: str) -> None:
        """Everything, because it cannot be told; with what the user can do about it."""
        self.all(why)
        self.warnings.append(f"{why}: every test is selected; {way_out}")
