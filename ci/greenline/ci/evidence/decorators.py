"""Whether a body runs as Python whenever the decorated function is called, under decorators of the repository.

One that is defined in the repository, and hands the function to nothing foreign, cannot compile or trace it. What it
caches is learned like any cache.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from greenline.depgraph.blocks import Function, items, leaf
from greenline.depgraph.changes import is_plain_decorator


class File(NamedTuple):
    path: str
    tree: ast.Module


Find = Callable[[str, tuple[Any, ...]], Iterable[File]]
"""From a file and what an import statement in it imports (``value`` of :class:`.blocks.Item`) to the files meant."""

HARMLESS_MODULES = frozenset(
    ("abc", "asyncio", "collections.abc", "contextlib", "enum", "functools", "inspect", "logging", "typing", "warnings")
)
COMPILERS = frozenset(("compile", "exec", "eval", "__import__", "globals", "vars"))
MOST_HOPS = 6


def run_as_python(node: ast.AST | None, file: File, find: Find) -> bool:
    """Whether all decorators of a function in a file are plain, or known as the above."""
    if not isinstance(node, Function):
        return False
    unknown = [each for each in node.decorator_list if not is_plain_decorator(each)]
    names = [part.func if isinstance(part, ast.Call) else part for part in unknown]
    return all(isinstance(name, ast.Name) and _is_own(name.id, file, find, MOST_HOPS) for name in names)


def _is_own(name: str, file: File, find: Find, hops: int) -> bool:
    """Whether a name of a file means a function or class of the repository that uses nothing foreign."""
    values = _values(name, file)
    return bool(values) and all(_is_own_value(value, file, find, hops) for value in values)


def _is_own_value(value: Any, file: File, find: Find, hops: int) -> bool:
    if isinstance(value, Function | ast.ClassDef):
        return hops > 0 and all(_is_harmless(name, file, find, hops) for name in _names(value))
    if isinstance(value, tuple) and len(value) == 4:  # from MODULE import NAME
        return hops > 0 and any(_is_own(value[2], each, find, hops - 1) for each in find(file.path, value))
    return False


def own_values(name: str, file: File, find: Find, hops: int) -> list[tuple[Any, File]]:
    """What a name of a file stands for, followed through imports, each with its file; [] where that is not known."""
    found: list[tuple[Any, File]] = []
    for value in _values(name, file):
        if not isinstance(value, tuple):
            found.append((value, file))
            continue
        files = find(file.path, value) if len(value) == 4 and hops > 0 else ()
        meant = [each for where in files for each in own_values(value[2], where, find, hops - 1)]
        if not meant:
            return []
        found += meant
    return found


def is_harmless_module(node: ast.expr, file: File) -> bool:
    values = _values(node.id, file) if isinstance(node, ast.Name) else []
    return bool(values) and all(isinstance(value, tuple) and value[0] in HARMLESS_MODULES for value in values)


def _values(name: str, file: File) -> list[Any]:
    return [item.value for item in items(file.tree.body) if name in item.names]


def _is_harmless(name: str, file: File, find: Find, hops: int) -> bool:
    values = _values(name, file)
    if not values:
        return hasattr(builtins, name) and name not in COMPILERS
    return all(
        (isinstance(value, tuple) and value[0] in HARMLESS_MODULES)
        or (isinstance(value, ast.Assign | ast.AnnAssign) and _is_collection(value.value))
        or _is_own_value(value, file, find, hops - 1)
        for value in values
    )


def _is_collection(value: ast.expr | None) -> bool:
    displayed = isinstance(value, ast.Constant | ast.Set | ast.Dict | ast.List | ast.Tuple)
    return displayed or leaf(value or ast.Pass()) in ("set", "dict", "list", "ContextVar")


def _names(node: Function | ast.ClassDef) -> set[str]:
    """The names from outside that a function or class uses, annotations apart; "exec" for what is not looked into."""
    found: set[str] = set()
    local = {node.name}
    waiting: list[ast.AST] = [*node.body]
    waiting += [*node.bases, *node.keywords] if isinstance(node, ast.ClassDef) else [node.args]
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.Name):
            (local if isinstance(part.ctx, ast.Store) else found).add(part.id)
        elif isinstance(part, ast.arg):
            local.add(part.arg)
        elif isinstance(part, ast.AnnAssign):
            waiting += [part.target, *filter(None, [part.value])]
        elif isinstance(part, Function):
            local.add(part.name)
            waiting += [*part.body, part.args, *part.decorator_list]
        elif isinstance(part, ast.Import | ast.ImportFrom | ast.Global | ast.ClassDef):
            found.add("exec")
        else:
            waiting += ast.iter_child_nodes(part)
    return found - local
