"""Import cycles that two sides close together, told where the import fails: a name is asked for before it is there.

First what is cheap: each side must have imports that it added, and the import graph must lead from them to those of the
other side and back. Then the modules of the circle are imported in the order in which pytest does it, see
:mod:`.loading`.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from greenline.depgraph.scan import Facts
from greenline.rules.conflicts.infer import World
from greenline.rules.conflicts.loading import Failed, Session, packages_of
from greenline.rules.conflicts.merge import Merge
from greenline.rules.conflicts.modules import Module
from greenline.rules.conflicts.problem import Problem
from greenline.rules.conflicts.report import Found
from greenline.rules.conflicts.tree import Tree
from greenline.rules.fixes.fix import Fix, Refused


class Edge(NamedTuple):
    """An import at the top of a file: ``imported`` is the file of a module, or of a package on the way to it."""

    importer: str
    imported: str
    name: str
    line: int

    @property
    def key(self) -> tuple[str, str, str]:
        return self.importer, self.imported, self.name


def import_cycles(merge: Merge) -> list[Found]:
    """The circles that fail in the merged state and on neither side."""
    ours, theirs = (_added(merge, side) for side in (merge.ours, merge.theirs))
    if not _meet(merge, ours, theirs):
        return []
    found = []
    for circle in _circles(merge, ours, theirs):
        failure = _failure(merge, circle)
        if failure is not None:
            found.append(_told(merge, failure, ours, theirs))
    return found


def _added(merge: Merge, side: World) -> list[Edge]:
    """The imports at the top of files that a side has and the base has not."""
    found: list[Edge] = []
    for path in sorted(path for path in merge.changed(side) if path.endswith(".py")):
        before, after = (
            {name for name, *_ in tree.kept("imports", path, _imports)} for tree in (merge.base.tree, side.tree)
        )
        if not after <= before:
            known = {edge.key for edge in _edges(merge.base.tree, path)}
            found += [edge for edge in _edges(side.tree, path) if edge.key not in known]
    return found


def _edges(tree: Tree, path: str) -> Iterator[Edge]:
    for name, last, line in tree.kept("imports", path, _imports):
        for target in _targets(tree, path, name):
            yield Edge(path, target, last, line)


def _imports(module: Module) -> Iterator[tuple[str, str, int]]:
    """What is imported at the top of a file: the dotted name, its last part as it is written, and the line."""
    for node in _at_import(module.tree.body):
        for alias in node.names:
            name = alias.name
            if isinstance(node, ast.ImportFrom):
                start = "." * node.level + (node.module or "")
                name = f"{start}{alias.name}" if start.endswith(".") else f"{start}.{alias.name}"
            yield name, alias.name, node.lineno


def _at_import(body: Iterable[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    """The import statements that run with a module: none in functions, none for type checkers only."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _at_import(node.orelse)
        elif isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case) and not isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef
        ):
            yield from _at_import(ast.iter_child_nodes(node))


def _targets(tree: Tree, path: str, name: str) -> list[str]:
    """The module that a dotted name means, or holds what it means, and the packages around it that run before it."""
    while name.strip("."):
        files = tree.find(name, path)
        if len(files) == 1:
            around = packages_of(tree, path)
            return [each for each in (*packages_of(tree, files[0]), files[0]) if each not in around or each == files[0]]
        shorter = name.rpartition(".")[0]
        name = shorter if shorter.strip(".") else "." * (len(name) - len(name.lstrip(".")))
    files = tree.find(name, path) if name else ()
    return list(files) if len(files) == 1 else []


def _meet(merge: Merge, ours: list[Edge], theirs: list[Edge]) -> bool:
    """Whether imports of each side lead to files whose imports the other side added."""
    return _leads(merge, ours, theirs) and _leads(merge, theirs, ours)


def _leads(merge: Merge, edges: list[Edge], to: list[Edge]) -> bool:
    reach = _reaching(merge, {edge.importer for edge in to}) if edges and to else ()
    return any(edge.imported in reach for edge in edges)


def _reaching(merge: Merge, paths: Collection[str]) -> set[str]:
    """The files that depend on one of these, in the graph of base and ours, and these."""
    graph = merge.graph
    nodes = [node for node in map(graph.node, paths) if node >= 0]
    return {graph.path(node) for node in graph.dependents(nodes)} | set(paths)


def _circles(merge: Merge, ours: list[Edge], theirs: list[Edge]) -> list[frozenset[str]]:
    """The strongly connected parts of what the merged state imports that hold edges of both sides."""
    import networkx

    tree = merge.merged.tree
    both = (*ours, *theirs)  # a circle leads from imports of one side over files that reach one of the other
    near = {path for path in _reaching(merge, {edge.importer for edge in both}) if path in tree.files}
    facts = tree.blobs.scanned({path: tree.files[path] for path in sorted(near) if path.endswith(".py")})
    graph = networkx.DiGraph()
    todo = {edge.imported for edge in both} & facts.keys()
    seen = set(todo)
    while todo:
        path = todo.pop()
        targets = _imported(tree, path, facts[path]) & facts.keys()
        graph.add_edges_from((path, target) for target in targets)
        todo |= targets - seen
        seen |= targets
    return [
        frozenset(part)
        for part in networkx.strongly_connected_components(graph)
        if len(part) > 1
        and all(any({edge.importer, edge.imported} <= part for edge in side) for side in (ours, theirs))
    ]


def _imported(tree: Tree, path: str, facts: Facts) -> set[str]:
    names = (name.removesuffix("*") for name in f"{facts.runtime}\n{facts.guarded}".split())
    return {
        target for name in names for target in _targets(tree, path, name if not name.strip(".") else name.rstrip("."))
    }


# -- whether it fails ----------------------------------------------------------------------------------------


def _failure(merge: Merge, circle: frozenset[str]) -> Failed | None:
    """Why importing a circle fails in the merged state and did not before: with every module of it that may come first,
    or with the one that the tests import first."""
    worlds = [merge.base] if merge.linear else [merge.ours, merge.theirs]
    first = _each_first(merge.merged, circle)
    known = [_each_first(world, circle) for world in worlds]
    fresh = {path: one for path, one in first.items() if not any(path in each for each in known)}
    if not fresh:
        return None
    if len(fresh) == len(circle):
        return fresh[min(fresh)]
    failure = _in_tests(merge, merge.merged, circle)
    if failure is None or any(_in_tests(merge, world, circle) for world in worlds):
        return None
    return failure


def _each_first(world: World, circle: frozenset[str]) -> dict[str, Failed]:
    """Modules of a circle whose import fails in a fresh Python."""
    found = {}
    for path in sorted(circle):
        try:
            Session(world.tree, circle).load(path)
        except Failed as failure:
            found[path] = failure
    return found


def _in_tests(merge: Merge, world: World, circle: frozenset[str]) -> Failed | None:
    """The first failure as pytest imports the test files of a suite in their order, with their conftest files."""
    tree = world.tree
    changed = {path for path in merge.changed(world) if path.endswith(".py")}
    within = {path for path in _reaching(merge, circle) | changed if path in tree.files and path.endswith(".py")}
    suites: dict[str, list[str]] = {}
    for path in sorted(within, key=lambda each: each.split("/")):
        suite = tree.suites.suite_of(path)
        if suite is not None and tree.suites.is_test_file(path):
            suites.setdefault(suite.name, []).append(path)
    for _, tests in sorted(suites.items()):
        session = Session(tree, within)
        for test in tests:
            try:
                for path in (*reversed(tree.suites.conftest_chain(test, tree.files.__contains__)), test):
                    session.load(path)
            except Failed as failure:
                if failure.path in circle:
                    return failure
            if circle <= session.names.keys():
                break
    return None


# -- telling it ----------------------------------------------------------------------------------------------


def _told(merge: Merge, failure: Failed, ours: list[Edge], theirs: list[Edge]) -> Found:
    """The failure with the import of each side that closes the circle, those that take part in it before others."""
    pairs = set(zip(failure.circle, (*failure.circle[1:], failure.circle[0]), strict=True))
    mine, other = (_closing(side, pairs, failure.circle) for side in (ours, theirs))
    if mine == other:  # without sides: another import of the circle
        mine = _closing([edge for edge in ours if edge.importer != other.importer] or ours, pairs, failure.circle)
    dotted = merge.merged.tree.dotted
    way = " -> ".join(map(dotted, (*failure.circle, failure.circle[0])))
    target = dotted(failure.target)
    asked = target if target.endswith(f".{failure.name}") else f"{failure.name} of {target}"
    message = f"import cycle {way}: {failure.path}:{failure.line} asks for {asked}, which is not there yet"
    problem = Problem("cycle", mine.importer, mine.line, 0, "", way, (other.importer, ""))
    fix = _types_only(merge, pairs, mine) or _types_only(merge, pairs, other)
    return Found(problem, 14, "import-cycle", message, fix, (other.importer, other.line))


def _types_only(merge: Merge, pairs: Collection[tuple[str, str]], edge: Edge) -> Fix | None:
    """Import it for type checkers only, where nothing else needs it: then this step of the circle is gone."""
    from greenline.rules.fixes.apply import apply  # with libcst, which takes its time

    tree = merge.merged.tree
    module = tree.module(edge.importer)
    steps = [each for each in _edges(tree, edge.importer) if each.imported == edge.imported]
    if module is None or len(steps) != 1 or (edge.importer, edge.imported) not in pairs:
        return None
    for node in _at_import(module.tree.body):
        for alias in node.names:
            if isinstance(node, ast.ImportFrom) and (node.lineno, alias.name) == (steps[0].line, steps[0].name):
                fix = Fix("type-checking", 14, edge.importer, alias.lineno, alias.col_offset, alias.name, "")
                with contextlib.suppress(Refused):
                    apply(fix, {edge.importer: module.source})
                    return fix
    return None


def _closing(edges: list[Edge], pairs: Collection[tuple[str, str]], circle: tuple[str, ...]) -> Edge:
    return min(
        edges,
        key=lambda edge: (
            (edge.importer, edge.imported) not in pairs,
            edge.importer not in circle or edge.imported not in circle,
            edge.key,
        ),
    )
