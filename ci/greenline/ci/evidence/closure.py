"""From what was recorded piece by piece to all that each test used: its units, what those import, and full caches."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator

import networkx
from pyroaring import BitMap

from greenline.ci.evidence import forms, variables
from greenline.ci.evidence.learned import Learner
from greenline.ci.evidence.records import Block, Recorded, Used
from greenline.depgraph import blocks as file_blocks
from greenline.depgraph.changes import imported_modules

Fact = tuple[str, str, str]  # kind, path, name


class Facts:
    """Facts by number, and for each test the numbers of its facts."""

    def __init__(self) -> None:
        self.numbers: dict[Fact, int] = {}
        self.of_test: dict[str, BitMap] = {}

    def number(self, fact: Fact) -> int:
        return self.numbers.setdefault(fact, len(self.numbers))

    def fingerprints(self) -> dict[str, str]:
        """A digest of each test's facts that does not depend on their numbers."""
        by_number = {number: repr(fact).encode("utf-8", "surrogatepass") for fact, number in self.numbers.items()}
        return {
            test: hashlib.sha1(b"\n".join(sorted(by_number[number] for number in used))).hexdigest()[:16]
            for test, used in self.of_test.items()
        }


def close(
    recorded: Recorded,
    read: Callable[[str], bytes | None],
    names_of: Callable[[str], list[tuple[str, str]]],
    learner: Learner,
) -> Facts:
    """All facts of each test.

    ``read`` gives a file as the recorded processes saw it; ``names_of`` the (module name, package) pairs of a file.
    Units, and blocks that import or that fill a cache, are the nodes of a graph with circles: what one node of a
    circle used, all of them did.
    """
    facts = Facts()
    files = {unit: unit.removeprefix("module:") for unit in recorded.units if unit.startswith("module:")}
    modules = {name: unit for unit, path in files.items() for name, _ in names_of(path)}
    links = _Links(read, names_of, modules)
    graph: networkx.DiGraph[object] = networkx.DiGraph()
    own: dict[object, BitMap] = {}
    waiting: list[tuple[object, Used, bool]] = [(unit, used, True) for unit, used in recorded.units.items()]
    waiting += [(("cache", *block), used, False) for block, used in recorded.caches.items()]
    for node, used, at_import in waiting:
        graph.add_node(node)
        own[node] = _own(used, facts, at_import and _is_import(str(node)))
        if isinstance(node, str):
            if used.early:
                own[node].add(facts.number((forms.EARLY, node.partition(":")[2], "")))
            own[node].update(facts.number((forms.LEARNED, *edge)) for edge in learner.edges(node, used, modules))
        graph.add_edges_from((node, target) for target in _targets(used, links, recorded, own, graph, modules))
    for test, each in recorded.tests.items():
        graph.add_node(("test", test))
        own["test", test] = numbers = _own(each.used, facts, False)
        numbers.update(facts.number((forms.LEARNED, *edge)) for edge in learner.edges(test, each.used, modules))
        targets = _targets(each.used, links, recorded, own, graph, modules)
        graph.add_edges_from((("test", test), target) for target in targets)
    closed = _closures(graph, own)
    facts.of_test = {test: closed["test", test] for test in recorded.tests}
    return facts


def _is_import(unit: str) -> bool:
    return unit.startswith(("module:", "collect:"))


def _own(used: Used, facts: Facts, at_import: bool) -> BitMap:
    numbers = BitMap()
    for path, name in used.blocks:
        numbers.add(facts.number((forms.BLOCK, path, name)))
        if at_import and name:
            numbers.add(facts.number((forms.IMPORTED, path, name)))
    lists = used.lists
    for kind, name in ((forms.OPENED, "opened"), (forms.LISTED, "listed"), (forms.QUERIED, "queried")):
        numbers.update(facts.number((kind, path, "")) for path in lists[name])
    numbers.update(facts.number((forms.VARIABLE, *each)) for each in used.variables if variables.counts(each[0]))
    numbers.update(facts.number((forms.SOUGHT, "", name)) for name in lists["modules"])
    return numbers


def _targets(
    used: Used,
    links: _Links,
    recorded: Recorded,
    own: dict[object, BitMap],
    graph: networkx.DiGraph[object],
    modules: dict[str, str],
) -> Iterator[object]:
    """The nodes whose facts belong to this one's: its units, the modules that it imports, blocks with links."""
    yield from used.lists["units"]
    for name in used.lists["modules"]:
        if name in modules:
            yield modules[name]
    for block in used.blocks:
        if block in recorded.caches:
            yield ("cache", *block)
        node = ("block", *block)
        if node in graph:
            yield node
        elif units := links.of(block):
            graph.add_edges_from((node, unit) for unit in units)
            yield node


def _closures(graph: networkx.DiGraph[object], own: dict[object, BitMap]) -> dict[object, BitMap]:
    parts = networkx.condensation(graph)
    total: dict[int, BitMap] = {}
    for part in reversed(list(networkx.topological_sort(parts))):
        members = parts.nodes[part]["members"]
        total[part] = BitMap().union(
            *(own[node] for node in members if node in own), *(total[each] for each in parts[part])
        )
    return {node: total[part] for node, part in parts.graph["mapping"].items()}


class _Links:
    """The module units that the import statements of a block lead to, with the packages around them."""

    def __init__(
        self,
        read: Callable[[str], bytes | None],
        names_of: Callable[[str], list[tuple[str, str]]],
        modules: dict[str, str],
    ) -> None:
        self._read, self._names_of, self._modules = read, names_of, modules
        self._files: dict[str, dict[str, list[str]]] = {}

    def of(self, block: Block) -> list[str]:
        path, name = block
        if path not in self._files:
            source = self._read(path)
            tree = file_blocks.parse(source) if source and b"import" in source else None
            self._files[path] = dict(self._of_file(path, tree)) if tree else {}
        return self._files[path].get(name, [])

    def _of_file(self, path: str, tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
        statements: dict[str, list[ast.AST]] = {}
        for block, node in import_statements(tree):
            statements.setdefault(block, []).append(node)
        for block, nodes in statements.items():
            found = {}
            for _, package in self._names_of(path) or [("", "")]:
                for name in imported_modules(nodes, package):
                    parts = name.split(".")
                    for upto in range(1, len(parts) + 1):
                        unit = self._modules.get(".".join(parts[:upto]))
                        if unit:
                            found[unit] = True
            if found:
                yield block, list(found)


def import_statements(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Import statements with the block that runs them; those for type checkers only are none."""

    def walk(nodes: Iterable[ast.AST], block: str, inside: str, in_function: bool) -> Iterator[tuple[str, ast.AST]]:
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield block, node
            elif isinstance(node, ast.If) and file_blocks.leaf(node.test) == "TYPE_CHECKING":
                yield from walk(node.orelse, block, inside, in_function)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                name = block if in_function else inside + node.name
                yield from walk(node.body, name, inside, True)
            elif isinstance(node, ast.ClassDef):
                yield from walk(node.body, block, inside if in_function else f"{inside}{node.name}.", in_function)
            elif isinstance(node, ast.stmt | ast.excepthandler | ast.match_case):
                yield from walk(ast.iter_child_nodes(node), block, inside, in_function)

    return walk(tree.body, "", "", False)
