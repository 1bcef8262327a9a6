from __future__ import annotations

import pytest
from conftest import Repository
from hypothesis import given, settings
from hypothesis import strategies as st

from greenline.depgraph import reachability, workspace
from greenline.depgraph.config import Config
from greenline.depgraph.index import Opened, open_change
from greenline.rules import budgets

SIZE = 8
NODES = st.integers(0, SIZE - 1)


@given(
    st.lists(st.sets(NODES, max_size=3), min_size=SIZE, max_size=SIZE),
    st.lists(st.tuples(NODES, st.lists(NODES, min_size=1, max_size=2, unique=True).map(tuple)), max_size=4),
    st.sets(NODES),
    st.lists(st.sets(NODES, min_size=1, max_size=3), max_size=4),
    st.lists(st.integers(0, 9), min_size=SIZE, max_size=SIZE),
)
@settings(max_examples=60)
def test_a_cost_is_what_selection_says_with_and_without_the_edge(
    edges: list[set[int]],
    units: list[tuple[int, tuple[int, ...]]],
    tests: set[int],
    changes: list[set[int]],
    weights: list[int],
) -> None:
    ordered = sorted(tests)
    seconds = [float(weights[test]) for test in ordered]
    for (importer, targets), (hit, pairs, cost) in zip(
        units, budgets.costs(edges, units, ordered, seconds, changes), strict=True
    ):
        more = [own | set(targets) if node == importer else own for node, own in enumerate(edges)]
        added = [affected(more, ordered, change) - affected(edges, ordered, change) for change in changes]
        assert pairs == sum(map(len, added))
        assert pairs == reachability.selected(more, ordered, changes) - reachability.selected(edges, ordered, changes)
        assert hit == sum(map(bool, added))
        assert cost == sum(weights[test] for own in added for test in own)


def affected(edges: list[set[int]], tests: list[int], change: set[int]) -> set[int]:
    """By plain search."""
    found = set()
    for test in tests:
        seen: set[int] = set()
        front = [test]
        while front:
            node = front.pop()
            if node not in seen:
                seen.add(node)
                front += edges[node]
        if seen & change:
            found.add(test)
    return found


def opened(repository: Repository) -> Opened:
    found = workspace.find(str(repository.root))
    commit = found.resolve("HEAD")
    assert commit
    return open_change(found, Config(), commit)


def test_a_bill_has_what_comes_and_what_goes(repository: Repository) -> None:
    files = {"pack/__init__.py": "", "pack/deep.py": "", "other.py": "", "hub.py": "import other\n"}
    repository.commit({**files, "test_hub.py": "import hub\n"})
    assert budgets.bill(opened(repository), {}).total == 0
    repository.write({"hub.py": "import pack.deep\n", "new.py": "import other\n"})
    bill = budgets.bill(opened(repository), {"test_hub.py": 60.0})
    (cost,) = bill.added
    assert (cost.importer, cost.to) == ("hub.py", ("pack/__init__.py", "pack/deep.py"))
    assert (cost.changes, bill.total, bill.recent) == (2, 6, False)
    assert (cost.tests, cost.seconds) == (pytest.approx(2 / 6), pytest.approx(20.0))
    assert bill.removed == [("hub.py", "other.py")]
    assert bill.tests == pytest.approx(1 / 6)
