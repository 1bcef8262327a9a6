"""What all codemods share: a parsed file with positions, and a rewriter of single nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import libcst as cst
from libcst import metadata

from greenline.rules.fixes.fix import Refused


class Source:
    """A file's concrete tree with the place of each node."""

    def __init__(self, data: bytes) -> None:
        try:
            self.wrapper = metadata.MetadataWrapper(cst.parse_module(data), unsafe_skip_copy=True)
        except cst.ParserSyntaxError as error:
            raise Refused(f"it does not parse: {error.message}") from None
        self.module = self.wrapper.module
        self._lines = data.splitlines()
        self.positions = self.wrapper.resolve(metadata.PositionProvider)
        self.parents = self.wrapper.resolve(metadata.ParentNodeProvider)

    def at(self, line: int, column: int, wanted: Callable[[Any], bool]) -> Any:
        """The one node that starts there and is wanted; ``column`` counts bytes. Raises :class:`.fix.Refused`."""
        text = self._lines[line - 1] if 0 < line <= len(self._lines) else b""
        place = (line, len(text[:column].decode("utf-8", "replace")))
        found = [
            node
            for node, span in self.positions.items()
            if (span.start.line, span.start.column) == place and wanted(node)
        ]
        if len(found) != 1:
            raise Refused("the line does not hold what was expected")
        return found[0]

    def around(self, node: cst.CSTNode, kind: Any) -> Any:
        """The nearest node of a kind around this one, or None."""
        while node in self.parents:
            node = self.parents[node]
            if isinstance(node, kind):
                return node
        return None

    def scopes(self) -> Mapping[Any, Any]:
        return self.wrapper.resolve(metadata.ScopeProvider)

    def replaced(self, nodes: Mapping[Any, Callable[[Any], Any]]) -> bytes:
        """The file after each of these nodes was given to its function, innermost first."""
        return self.module.visit(_Replace(nodes)).bytes


class _Replace(cst.CSTTransformer):
    def __init__(self, nodes: Mapping[Any, Callable[[Any], Any]]) -> None:
        super().__init__()
        self.nodes = nodes

    def on_leave(self, original_node: Any, updated_node: Any) -> Any:
        change = self.nodes.get(original_node)
        return change(updated_node) if change else updated_node


def dotted(node: cst.BaseExpression | None) -> str:
    """``a.b.c`` as text; "" for anything else."""
    if isinstance(node, cst.Name):
        return node.value
    if isinstance(node, cst.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr.value}" if base else ""
    return ""


def expression(name: str) -> cst.Attribute | cst.Name:
    """A dotted name as an expression."""
    first, *rest = name.split(".")
    found: cst.Attribute | cst.Name = cst.Name(first)
    for part in rest:
        found = cst.Attribute(found, cst.Name(part))
    return found
