"""Why one file depends on another, for a person: the line that says so, or the rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from greenline.depgraph import scan
from greenline.depgraph.embedded import python_of
from greenline.depgraph.factstore import scan_version
from greenline.depgraph.graph import Graph
from greenline.depgraph.resolve import absolute, parents

_KINDS = {
    scan.RUNTIME: "imports it",
    scan.GUARDED: "imports it, if it can",
    scan.FUNCTION: "imports it inside a function",
    scan.STRING: "names it in a string",
    scan.PREFIX: "imports what is in the package by a computed name",
    scan.PATH: "names its path",
    scan.TYPE_CHECKING: "imports it for type checkers",
}


class Step(NamedTuple):
    """One edge of a chain: who depends on whom, how, and where it says so (line from 1; 0: nowhere)."""

    importer: str
    imported: str
    how: str
    line: int
    text: str


def explain_edge(graph: Graph, importer: int, imported: int, read: Callable[[str], bytes | None]) -> Step:
    """The edge between two nodes; ``read`` gives the bytes of a path."""
    path, target = graph.path(importer), graph.path(imported)
    source = read(path)
    if source is not None:
        source = python_of(path, source)
        folder = path.rpartition("/")[0]
        resolver = graph.linker().resolver
        lines = scan.import_lines(source)
        for line, kind, name in sorted(lines, key=lambda each: (each[1] == scan.TYPE_CHECKING, each[0])):
            bare = name[:-2] if name.endswith(".*") and name.strip(".*") else name.rstrip("*")
            names = absolute(bare, graph.layout.package_of(path)) if bare.startswith(".") else [bare]
            if kind == scan.PATH:
                hit = target.endswith(bare.lstrip("./"))
            elif kind == scan.PREFIX:
                hit = any(imported in resolver.below(each, folder) for each in names)
            else:
                hit = any(imported in resolver.targets(each, folder) for each in names)
            if hit and not (kind == scan.PREFIX and name.startswith(".")):  # the own package: no line says so
                text = source.splitlines()[line - 1].decode("utf-8", "replace").strip()
                return Step(path, target, _KINDS.get(kind, "names it"), line, text)
    if target.rpartition("/")[2] == "conftest.py" and path.startswith(target.removesuffix("conftest.py")):
        return Step(path, target, "pytest applies it", 0, "")
    if target in parents(path, graph.layout):
        return Step(path, target, "lies in its package", 0, "")
    linker = graph.linker()
    facts = scan_version(read(path), path)
    folder = path.rpartition("/")[0]
    for name in linker.names(path, facts):
        if name.endswith(".*") and imported in linker.resolver.below(name[:-2], folder):
            return Step(path, target, f"takes in whatever is in {name[:-2]}", 0, "")
        if not name.endswith(".*") and imported in linker.resolver.targets(name, folder):
            return Step(path, target, f"names {name}", 0, "")
    return Step(path, target, "depended on it at the base, or names its path", 0, "")


def find_node(graph: Graph, text: str) -> int:
    """The node that a path, a node id or a dotted module names; -1 if there is none."""
    path = text.partition("::")[0].removeprefix("./").rstrip("/")
    node = graph.node(path)
    if node < 0:
        node = graph.node(f"{path}/__init__.py")
    if node < 0:
        definers = graph.modules().get(text)
        node = definers[0].node if definers else -1
    return node
