from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random
from unittest import mock

import networkx
import pytest
from conftest import Repository
from hypothesis import given
from hypothesis import strategies as st

from greenline.depgraph import code_graph, cycles, edge_cost, import_advice, reachability, workspace
from greenline.depgraph.code_graph import IMPORT, LAZY, CodeGraph
from greenline.depgraph.config import load
from greenline.depgraph.index import open_change

Edges = list[set[int]]


@st.composite
def graphs(draw: st.DrawFn, most: int = 9) -> Edges:
    """For each node the nodes that it depends on; sparse, so that single edges matter."""
    size = draw(st.integers(1, most))
    pairs = st.tuples(st.integers(0, size - 1), st.integers(0, size - 1))
    edges: Edges = [set() for _ in range(size)]
    for one, two in draw(st.lists(pairs, max_size=2 * size)):
        if one != two:
            edges[one].add(two)
    return edges


def some_nodes(edges: Edges, **limits: int) -> st.SearchStrategy[set[int]]:
    return st.sets(st.integers(0, len(edges) - 1), **limits)


def oracle(edges: Sequence[set[int]]) -> networkx.DiGraph:
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(len(edges)))
    graph.add_edges_from((one, two) for one, targets in enumerate(edges) for two in targets)
    return graph


def reached_from(edges: Sequence[set[int]]) -> dict[int, set[int]]:
    graph = oracle(edges)
    return {node: networkx.descendants(graph, node) | {node} for node in graph}


def count_selected(edges: Sequence[set[int]], tests: set[int], changes: Sequence[set[int]]) -> int:
    reached = reached_from(edges)
    return sum(bool(reached[test] & change) for test in tests for change in changes)


@given(graphs())
def test_components_are_numbered_against_the_edges(edges: Edges) -> None:
    component, below = reachability.condense(edges)
    found = [{node for node in range(len(edges)) if component[node] == number} for number in range(len(below))]
    want = list(networkx.strongly_connected_components(oracle(edges)))
    assert sorted(map(sorted, found)) == sorted(map(sorted, want))
    for number, others in enumerate(below):
        outside = {component[two] for one in found[number] for two in edges[one]} - {number}
        assert others == outside
        assert all(other < number for other in others)


def test_a_long_chain_needs_no_recursion() -> None:
    size = 20_000
    shape = reachability.condense([[node + 1] for node in range(size - 1)] + [[0]])
    assert len(shape.below) == 1
    shape = reachability.condense([[node + 1] for node in range(size - 1)] + [[]])
    assert reachability.counts(shape, [(0,)])[-1] == 1


@given(graphs(), st.data(), st.integers(1, 3))
def test_counts_are_those_of_plain_reachability(edges: Edges, data: st.DataObject, block: int) -> None:
    groups = data.draw(st.lists(some_nodes(edges), max_size=5))
    reached = reached_from(edges)
    with mock.patch.object(reachability, "BLOCK", block):
        shape = reachability.condense(edges)
        down, up = reachability.counts(shape, groups), reachability.counts(shape, groups, up=True)
    for node in range(len(edges)):
        assert down[node] == sum(any(node in reached[each] for each in group) for group in groups)
        assert up[node] == sum(bool(reached[node] & group) for group in groups)


@given(graphs(), st.data(), st.integers(1, 3))
def test_selected_counts_each_test_once_for_a_change(edges: Edges, data: st.DataObject, block: int) -> None:
    tests = data.draw(some_nodes(edges))
    changes = data.draw(st.lists(some_nodes(edges), max_size=5))
    with mock.patch.object(reachability, "BLOCK", block):
        assert reachability.selected(edges, sorted(tests), changes) == count_selected(edges, tests, changes)


@given(graphs(), st.data(), st.integers(1, 4), st.integers(0, 4))
def test_cost_is_what_removing_each_edge_spares(edges: Edges, data: st.DataObject, top: int, most: int) -> None:
    """Against brute force: every cut removed, everything counted again."""
    tests = data.draw(some_nodes(edges))
    changes = data.draw(st.lists(some_nodes(edges, min_size=1, max_size=3), max_size=6))
    cuts = [(node, group) for node, own in enumerate(edges) for group in data.draw(partitions(own))]
    before = count_selected(edges, tests, changes)
    spares = []
    for node, gone in cuts:
        without = [own - set(gone) if each == node else own for each, own in enumerate(edges)]
        spares.append(before - count_selected(without, tests, changes))

    found = edge_cost.cost(edges, cuts, sorted(tests), changes, top)
    assert found.total == before
    assert found.limit == 0
    assert [spared for spared, _ in found.ranked] == sorted((each for each in spares if each), reverse=True)[:top]
    assert all(spares[cut] == spared for spared, cut in found.ranked)

    few = edge_cost.cost(edges, cuts, sorted(tests), changes, top, most)
    assert few.tried <= most
    assert all(spares[cut] == spared for spared, cut in few.ranked)
    least = few.ranked[-1][0] if len(few.ranked) == top else 0
    ranked = {cut for _, cut in few.ranked}
    assert all(each <= max(few.limit, least) for cut, each in enumerate(spares) if cut not in ranked)


@st.composite
def partitions(draw: st.DrawFn, nodes: set[int]) -> list[tuple[int, ...]]:
    """Some of these nodes in disjoint groups: what single imports bring along."""
    of_group = {node: draw(st.integers(0, 3)) for node in sorted(nodes)}
    groups = [tuple(node for node in of_group if of_group[node] == group) for group in range(3)]
    return [group for group in groups if group]


@st.composite
def imports(draw: st.DrawFn) -> list[dict[int, str]]:
    return [{two: draw(st.sampled_from((IMPORT, LAZY))) for two in sorted(own)} for own in draw(graphs(7))]


@given(imports())
def test_cycles_are_the_strongly_connected_components(edges: list[dict[int, str]]) -> None:
    found = cycles.find_cycles(edges)
    eager = oracle([{two for two, kind in own.items() if kind == IMPORT} for own in edges])
    both = oracle([set(own) for own in edges])
    at_import = [sorted(each) for each in networkx.strongly_connected_components(eager) if len(each) > 1]
    every = [sorted(each) for each in networkx.strongly_connected_components(both) if len(each) > 1]
    assert sorted(cycle.modules for cycle in found if cycle.at_import) == sorted(at_import)
    lazy = sorted(each for each in every if each not in at_import)
    assert sorted(cycle.modules for cycle in found if not cycle.at_import) == lazy
    order = [(not cycle.at_import, -len(cycle.modules)) for cycle in found]
    assert order == sorted(order)

    for cycle in found:
        inner = (eager if cycle.at_import else both).subgraph(cycle.modules).copy()
        assert cycle.imports == inner.size()
        steps = list(itertools.pairwise(cycle.chain))
        assert cycle.chain[0] == cycle.chain[-1]
        assert all(inner.has_edge(*step) for step in steps)
        assert any(edges[one][two] == LAZY for one, two in steps) or cycle.at_import
        ways = [[*way, way[0]] for way in networkx.simple_cycles(inner)]
        if not cycle.at_import:
            ways = [way for way in ways if any(edges[one][two] == LAZY for one, two in itertools.pairwise(way))]
        assert len(cycle.chain) == min(map(len, ways))

        inner.remove_edges_from(cycle.breaks)
        assert networkx.is_directed_acyclic_graph(inner)
        for one, two in cycle.breaks:
            assert networkx.has_path(inner, two, one), "this one could have stayed"


@pytest.mark.parametrize("size", [2, 5, 9])
def test_a_ring_needs_one_break(size: int) -> None:
    (cycle,) = cycles.find_cycles([{(node + 1) % size: IMPORT} for node in range(size)])
    assert len(cycle.breaks) == 1
    assert cycle.chain == [*range(size), 0]


def test_a_star_of_two_way_imports_breaks_at_each_ray() -> None:
    rays = range(1, 6)
    (cycle,) = cycles.find_cycles([dict.fromkeys(rays, IMPORT), *({0: IMPORT} for _ in rays)])
    assert len(cycle.breaks) == len(rays)


def test_breaks_are_nearly_always_the_fewest() -> None:
    """Against all choices of edges, on the cyclic ones of 300 random graphs."""
    found = fewest = 0
    for seed in range(300):
        random = Random(seed)
        edges: Edges = [set() for _ in range(6)]
        for _ in range(random.randint(6, 10)):
            one, two = random.sample(range(6), 2)
            edges[one].add(two)
        inner = dict(enumerate(edges))
        found += len(cycles.feedback(inner))
        pairs = list(oracle(edges).edges)
        choices = (choice for size in range(len(pairs)) for choice in itertools.combinations(pairs, size))
        fewest += len(next(choice for choice in choices if _breaks(edges, choice)))
    assert fewest > 200
    assert found <= 1.01 * fewest


def _breaks(edges: Edges, choice: Sequence[tuple[int, int]]) -> bool:
    graph = oracle(edges)
    graph.remove_edges_from(choice)
    return bool(networkx.is_directed_acyclic_graph(graph))


A, F, N = "at_import", "in_functions", "in_annotations"


@pytest.mark.parametrize(
    ("code", "want"),
    [
        ("class B(X): pass", {A: {"X"}}),
        ("@X\ndef f(): pass", {A: {"X"}}),
        ("def f(a=X): pass", {A: {"X"}}),
        ("y = [X for _ in ()]", {A: {"X"}}),
        ("__all__ = ['X']", {A: {"X"}}),
        ("class B:\n    y = X", {A: {"X"}}),
        ("def f():\n    return X", {F: {"X"}}),
        ("async def f():\n    return X", {F: {"X"}}),
        ("f = lambda: X", {F: {"X"}}),
        ("class B:\n    def m(self): X()", {F: {"X"}}),
        ("def f(a: X) -> X: pass", {N: {"X"}}),
        ("a: X = 1", {N: {"X"}}),
        ("a: 'list[X]' = 1", {N: {"X"}}),
        ("def f(*a: X, **b: X): pass", {N: {"X"}}),
        ("class B:\n    a: X", {N: {"X"}}),
        ("def f(a: X):\n    return X", {N: {"X"}, F: {"X"}}),
        ("'X is a word of this text'", {}),
        ("def f():\n    return 'X'", {}),
        ("Y()", {}),
    ],
)
def test_where_an_import_is_used(code: str, want: dict[str, set[str]]) -> None:
    for statement, name in (
        ("from a import X", "a.X"),
        ("from a import Z as X", "a.Z"),
        ("import X.b", "X.b"),
        ("from . import X, Y", ".X"),
        ("from .a import (\n    Y,\n    X,\n)", ".a.X"),
    ):
        found = import_advice.uses(f"{statement}\n{code}\n".encode(), {(1, name)})
        assert found is not None
        assert {field: names for field, names in found._asdict().items() if names} == want


@pytest.mark.parametrize("code", [b"from a import *\n", b"def f(:\n", b"import b\n", b"\0"])
def test_uses_that_cannot_be_told(code: bytes) -> None:
    assert import_advice.uses(code, {(1, "a.*"), (1, "a.X")}) is None


# -- reading a repository ------------------------------------------------------------------------------------


def read(repository: Repository, imports_only: bool = False) -> CodeGraph:
    space = workspace.find(str(repository.root))
    opened = open_change(space, load(space.root), repository.git("rev-parse", "HEAD").strip())
    return code_graph.read(opened, imports_only)


def edges_of(graph: CodeGraph) -> dict[str, set[str]]:
    return {path: {graph.paths[two] for two in own} for path, own in zip(graph.paths, graph.edges, strict=True)}


def references_of(graph: CodeGraph, path: str) -> dict[tuple[str, ...], tuple[str, set[str]]]:
    return {
        tuple(graph.paths[each] for each in modules): (kind, {graph.paths[each] for each in only})
        for modules, kind, only in graph.references[graph.paths.index(path)]
    }


FILES = {
    "a/__init__.py": "",
    "a/b/__init__.py": "",
    "a/b/x.py": "def f(): pass\n",
    "a/b/y.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a.z\n",
    "a/z.py": "from a.b.x import f, g\nfrom .b import y\nimport os\n",
    "m.py": "import a.b.x\nimport a.b.y\nimport a.z\nimport a.z as also\n",
    "lazy.py": "def go():\n    from a.b import x\n    return x\n",
    "strings.py": "import importlib\nimportlib.import_module('a.b.x')\n",
    "computed.py": "import importlib\n\ndef load(name):\n    return importlib.import_module(f'a.b.{name}')\n",
    "conftest.py": "import a\n",
    "test_m.py": "import m\n",
}


def test_references_bring_the_packages_that_nothing_else_in_the_file_needs(repository: Repository) -> None:
    repository.commit(FILES)
    graph = read(repository)
    assert references_of(graph, "a/z.py") == {  # the package a is around the file itself
        ("a/b/x.py",): (code_graph.IMPORT, {"a/b/x.py"}),
        ("a/b/y.py",): (code_graph.IMPORT, {"a/b/y.py"}),
    }
    assert references_of(graph, "m.py") == {  # a and a.b are needed by more than one
        ("a/b/x.py",): (code_graph.IMPORT, {"a/b/x.py"}),
        ("a/b/y.py",): (code_graph.IMPORT, {"a/b/y.py"}),
        ("a/z.py",): (code_graph.IMPORT, {"a/z.py"}),
    }
    way = {"a/__init__.py", "a/b/__init__.py", "a/b/x.py"}
    assert references_of(graph, "lazy.py") == {("a/b/x.py",): (code_graph.LAZY, way)}
    assert references_of(graph, "strings.py") == {("a/b/x.py",): (code_graph.NAMED, way)}
    assert references_of(graph, "a/b/y.py") == {}
    computed = references_of(graph, "computed.py")
    assert {kind for kind, _ in computed.values()} == {code_graph.NAMED}
    assert way | {"a/b/y.py"} in [only for _, only in computed.values()]
    assert references_of(graph, "test_m.py") == {("m.py",): (code_graph.IMPORT, {"m.py"})}
    assert edges_of(graph)["test_m.py"] == {"m.py", "conftest.py"}
    assert [graph.paths[node] for node in graph.tests] == ["test_m.py"]


def test_imports_only_leaves_out_strings(repository: Repository) -> None:
    repository.commit(FILES)
    every, graph = read(repository), read(repository, imports_only=True)
    assert graph.paths == every.paths
    for path, edges in edges_of(every).items():
        assert edges_of(graph)[path] == (set() if path in ("strings.py", "computed.py") else edges)
    assert references_of(graph, "strings.py") == {}
    assert references_of(graph, "m.py") == references_of(every, "m.py")


def test_the_graph_is_that_of_the_work_tree_alone(repository: Repository) -> None:
    repository.commit(FILES)
    (repository.root / "a/z.py").unlink()
    repository.write({"m.py": "import a.b.y\nimport new\n", "new.py": "import lazy\n"})
    graph = read(repository)
    edges = edges_of(graph)
    assert "a/z.py" not in edges
    assert edges["m.py"] == {"a/__init__.py", "a/b/__init__.py", "a/b/y.py", "new.py"}
    assert edges["new.py"] == {"lazy.py"}
    assert references_of(graph, "m.py")["new.py",] == (code_graph.IMPORT, {"new.py"})
    repository.git("add", "--all")
    repository.commit()
    committed = read(repository)
    assert edges_of(committed) == edges
    assert committed.references == graph.references


def test_what_configuration_cuts_is_no_edge(repository: Repository) -> None:
    cut = "cut:\n  - from: m.py\n    to: a/z.py\n    reason: told so\n"
    repository.commit({**FILES, "greenline.yaml": cut})
    for _ in range(2):
        graph = read(repository)
        assert "a/z.py" not in edges_of(graph)["m.py"]
        assert ("a/z.py",) not in references_of(graph, "m.py")
        repository.write({"m.py": FILES["m.py"] + "import lazy\n"})


def test_spots_are_where_the_reference_stands(repository: Repository) -> None:
    text = "import a.b.y\n\ndef go():\n    from a.b import x\n    return 'a.b.x.f', x\n\nfrom a.b.x import f\n"
    repository.commit({**FILES, "m.py": text})
    graph = read(repository)
    node = graph.paths.index("m.py")
    (reference,) = [each for each in graph.references[node] if graph.paths[each.modules[0]] == "a/b/x.py"]
    assert reference.kind == code_graph.IMPORT
    found = graph.spots(node, reference)
    assert found[0] == (7, "a.b.x.f", code_graph.IMPORT)
    assert (4, "a.b.x", code_graph.LAZY) in found


def test_recent_changes_are_those_of_the_first_parents(repository: Repository) -> None:
    def edit(path: str) -> str:
        return repository.commit({path: (repository.root / path).read_text() + "# edited\n"})

    first = repository.commit({**FILES, "notes.txt": ""})
    repository.git("switch", "--quiet", "-c", "side")
    edit("a/b/x.py")
    edit("a/b/y.py")
    repository.git("switch", "--quiet", "main")
    middle = edit("m.py")
    repository.git("merge", "--quiet", "--no-ff", "--message=merge", "side")
    edit("notes.txt")
    repository.commit({"gone.py": ""})
    (repository.root / "gone.py").unlink()
    edit("lazy.py")
    graph = read(repository)

    def changes(since: str | None, commits: int) -> list[set[str]]:
        found = code_graph.recent_changes(graph.names.opened.workspace, graph.paths, since, commits)
        return [{graph.paths[node] for node in own} for own in found]

    assert changes(None, 100) == [{"lazy.py"}, {"a/b/x.py", "a/b/y.py"}, {"m.py"}]
    assert changes(first, -1) == changes(None, 100)
    assert changes(middle, -1) == [{"lazy.py"}, {"a/b/x.py", "a/b/y.py"}]
    assert changes(None, 1) == [{"lazy.py"}]
    assert changes("HEAD", 100) == []
