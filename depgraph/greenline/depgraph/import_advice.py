"""How a file uses what it imports, and what could be done about an import that costs much."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable
from typing import NamedTuple


class Uses(NamedTuple):
    """The names that a file uses of an import, by where: in what runs at import, in functions, in annotations."""

    at_import: set[str]
    in_functions: set[str]
    in_annotations: set[str]


def uses(source: bytes, spots: Collection[tuple[int, str]]) -> Uses | None:
    """How a file uses what its import statements at ``spots``, (line, name), bind.

    None where that cannot be told: a star import, or a file that this Python cannot parse.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    bound = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            base = ""
            if isinstance(node, ast.ImportFrom):
                base = "." * node.level + (f"{node.module}." if node.module else "")
            names = [alias for alias in node.names if (node.lineno, base + alias.name) in spots]
            bound |= {alias.asname or alias.name.partition(".")[0] for alias in names}
    if not bound or "*" in bound:
        return None
    found = Uses(set(), set(), set())
    todo: list[tuple[ast.AST, set[str]]] = [(tree, found.at_import)]
    while todo:
        node, where = todo.pop()
        if isinstance(node, ast.Name):
            where |= bound & {node.id}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if where is found.in_annotations:
                where |= bound.intersection(re.findall(r"\w+", node.value))
            elif where is found.at_import:
                where |= bound & {node.value}  # __all__
        for field, value in ast.iter_fields(node):
            inside = where
            if field in ("annotation", "returns"):
                inside = found.in_annotations
            elif field == "body" and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                inside = found.in_functions
            children = value if isinstance(value, list) else [value]
            todo += [(child, inside) for child in children if isinstance(child, ast.AST)]
    return found


def advice(used: Uses | None, path: str, at_import: bool, is_test: bool) -> str:
    """What could be done about an import in the file at ``path``, as far as that file tells; "" if nothing is known.

    ``at_import``: the statement runs as the file is imported.
    """
    if used is None:
        return ""
    if not any(used):
        if path.endswith("__init__.py"):
            return "only passed on from here: who needs it could import it where it is defined"
        return "not used here: remove it, unless it is there for what importing it does"
    if not used.at_import and not used.in_functions:
        names = _few(used.in_annotations)
        return f"only annotations use {names}: import it under 'if TYPE_CHECKING:', unless they are read at run time"
    names = _few(used.at_import or used.in_functions)
    if at_import and not used.at_import and (is_test or path.endswith("conftest.py")):
        return f"only functions use {names}: import it there, and only the tests that run them depend on it"
    return f"move what it takes ({names}), or what uses that, to a module that fewer tests reach"


def _few(names: Iterable[str]) -> str:
    first, *rest = sorted(names)
    return first if not rest else f"{first}, {rest[0]}" if len(rest) == 1 else f"{first} and {len(rest)} more names"
