from __future__ import annotations

from conftest import Repository

from greenline.depgraph.config import Config
from greenline.depgraph.explain import explain_edge
from greenline.depgraph.index import open_change
from greenline.depgraph.workspace import find


def test_pytest_applies_a_conftest_to_what_lies_below_it_only(repository: Repository) -> None:
    repository.commit(
        {
            "tests/conftest.py": "def pytest_itemcollected(item):\n    assert item.nodeid.startswith('tests/sub/')\n",
            "tests/sub/conftest.py": "",
            "tests/sub/test_a.py": "def test_a(): pass\n",
        }
    )
    opened = open_change(find(str(repository.root)), Config(), repository.git("rev-parse", "HEAD").strip())
    graph = opened.graph
    outer, inner, test = map(graph.node, ("tests/conftest.py", "tests/sub/conftest.py", "tests/sub/test_a.py"))
    assert explain_edge(graph, test, inner, opened.read_head).how == "pytest applies it"
    assert explain_edge(graph, inner, outer, opened.read_head).how == "pytest applies it"
    assert explain_edge(graph, outer, inner, opened.read_head).how != "pytest applies it"
