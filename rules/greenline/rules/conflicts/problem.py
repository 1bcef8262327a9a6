"""What is found in one tree: something that fails there, and how a use and its definition fit."""

from __future__ import annotations

import ast
from typing import NamedTuple


class Problem(NamedTuple):
    """Something that fails when this line runs.

    ``kind``: "import", "module", "attribute", "name", "string", "call", "await" …; ``line`` from 1, ``column`` from 0;
    ``scope``: the function or class around it; ``subject``: what it is about, without positions; ``target``: file and
    qualified name of the definition that is missing or does not fit; ``detail``: why, as words; ``node``: its syntax.
    """

    kind: str
    path: str
    line: int
    column: int
    scope: str
    subject: str
    target: tuple[str, str]
    detail: tuple[str, ...] = ()
    node: ast.AST | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """What stays the same when lines move."""
        return (self.kind, self.path, self.scope, self.subject, *self.detail)


class Fact(NamedTuple):
    """How a use and its definition fit today: compared between trees, a difference is a problem.

    ``kind``: "order" (parameters that positional arguments go to), "shape" (what is returned), "property".
    """

    key: tuple[str, ...]
    value: tuple[str, ...]
    problem: Problem
