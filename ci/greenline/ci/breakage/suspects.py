"""Who may have broken a test: the steps of main between good and bad, each with a prior from the import graph."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

from greenline.ci.selection.select import Selection, select
from greenline.depgraph.config import Config
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.index import Opened, open_change
from greenline.depgraph.workspace import Workspace


class Suspect(NamedTuple):
    """A commit of main's first-parent history: what was merged or pushed as one.

    ``prior``: its weight, 0 if it cannot affect the failing tests; ``why``: what the weight rests on.
    """

    commit: str
    parent: str
    title: str
    prior: float
    why: str


def steps(workspace: Workspace, good: str, bad: str) -> list[tuple[str, str, str]]:
    """(commit, its first parent, title) of main from after ``good`` to ``bad``, oldest first."""
    listed = workspace.git("log", "--first-parent", "--reverse", "--format=%H%x00%P%x00%s", f"{good}..{bad}")
    found = []
    for line in listed.splitlines():
        commit, parents, title = line.split("\0")
        found.append((commit, parents.split(" ")[0], title))
    return found


def find(
    workspace: Workspace, config: Config, good: str, bad: str, tests: Collection[str], deadline: float = math.inf
) -> list[Suspect]:
    """The suspects for these failing tests, oldest first. A commit that cannot affect them has the prior 0.

    When the graph acquits everybody, it is the graph that is wrong: then all are suspects. ``deadline``: a time of
    :func:`time.monotonic` from which commits are not looked at any more, and stay suspects.
    """
    found = []
    for commit, parent, title in steps(workspace, good, bad):
        late = time.monotonic() > deadline
        prior = (1.0, _LATE) if late else _prior(workspace, config, parent, commit, tests)
        found.append(Suspect(commit, parent, title, *prior))
    if found and not any(each.prior for each in found):
        found = [each._replace(prior=1.0, why="the graph acquits every commit, so all are suspects") for each in found]
    return found


def _prior(workspace: Workspace, config: Config, parent: str, commit: str, tests: Collection[str]) -> tuple[float, str]:
    if not parent:
        return 1.0, "the first commit"
    try:
        opened = open_change(workspace, config, parent, commit)
        selection = select(opened, config)
    except GreenlineError as error:
        return 1.0, f"not known: {error.message}"
    if selection.everything:
        return 1.0, selection.everything
    return max((_weight(opened, selection, test) for test in tests), default=(0.0, _ACQUITTED))


_ACQUITTED = "cannot affect the failing tests"
_LATE = "not looked at: the range is long"


def _weight(opened: Opened, selection: Selection, test: str) -> tuple[float, str]:
    """The closer a change is to the test in the graph, the likelier it broke it."""
    path, _, name = test.partition("::")
    chosen = next((each for each in selection.tests if each.path == path), None)
    if chosen is None:
        return 0.0, _ACQUITTED
    bare = name.partition("[")[0]
    if bare and chosen.node_ids is not None and not _among(bare, chosen.node_ids):
        return 0.0, _ACQUITTED
    return 4.0 / (1 + _distance(opened, selection, path)), chosen.reason


def _among(name: str, node_ids: Sequence[str]) -> bool:
    names = {each.partition("[")[0] for each in node_ids}
    return name in names or any(name.startswith(f"{each}::") or each.startswith(f"{name}::") for each in names)


def _distance(opened: Opened, selection: Selection, path: str) -> int:
    """Edges between the test file and the nearest changed file."""
    node, edges = opened.graph.node(path), 0
    while node in selection.through and selection.through[node] != node:
        node, edges = selection.through[node], edges + 1
    return edges
