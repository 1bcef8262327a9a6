"""What a function returns and what callers do with it, as far as syntax shows both."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from greenline.depgraph.blocks import leaf
from greenline.rules.conflicts.infer import own_nodes
from greenline.rules.conflicts.modules import Function

_TAKES_AWAITABLE = frozenset(
    """run create_task ensure_future gather wait wait_for run_until_complete shield as_completed async_to_sync
    run_coroutine_threadsafe start_soon isawaitable iscoroutine Task append add put submit run_in_loop""".split()  # noqa: SIM905
)


def is_handed_on(parents: Sequence[ast.AST]) -> bool:
    """Whether a call's result is awaited, or given to what awaits it."""
    node = parents[-1]
    for parent in reversed(parents[:-1]):
        if isinstance(parent, ast.Await | ast.YieldFrom):
            return True
        if isinstance(parent, ast.Call) and node is not parent.func:
            return leaf(parent.func) in _TAKES_AWAITABLE
        if isinstance(parent, ast.stmt):
            return isinstance(parent, ast.AsyncFor | ast.AsyncWith)
        if isinstance(parent, ast.Attribute | ast.Subscript | ast.Compare | ast.BinOp):
            return False
        node = parent
    return False


def shape_of(function: Function, generator: bool) -> str:
    """What every return statement of a function gives, as a word; "" where they differ or cannot be told."""
    if generator:
        return "a generator" if not {leaf(one) for one in function.decorator_list} else ""
    shapes = set()
    for node in own_nodes(function):
        if isinstance(node, ast.Return):
            match node.value:
                case ast.Tuple(elts=parts) if not any(isinstance(part, ast.Starred) for part in parts):
                    shapes.add(f"a tuple of {len(parts)}")
                case ast.Dict(keys=keys) if all(isinstance(key, ast.Constant) for key in keys):
                    shapes.add(
                        "a dict of "
                        + ", ".join(sorted(repr(key.value) for key in keys if isinstance(key, ast.Constant)))
                    )
                case ast.List() | ast.ListComp():
                    shapes.add("a list")
                case ast.Constant(value=None) | None:
                    shapes.add("None")
                case _:
                    shapes.add("another value")
    return shapes.pop() if len(shapes) == 1 else ""


def used_as(parents: Sequence[ast.AST]) -> str:
    """What a call's result must be for what is done with it; "" when nearly everything will do."""
    call, parent = parents[-1], parents[-2] if len(parents) > 1 else None
    if isinstance(parent, ast.Await) and len(parents) > 2:
        call, parent = parent, parents[-3]
    match parent:
        case ast.Assign(targets=[ast.Tuple(elts=parts)]) if parent.value is call:
            if not any(isinstance(part, ast.Starred) for part in parts):
                return f"unpacked into {len(parts)}"
        case ast.Subscript(slice=ast.Constant(value=key)) if parent.value is call:
            return f"indexed with {key!r}"
        case ast.Attribute(attr=name) if parent.value is call:
            return f"used for its .{name}"
        case ast.Call(func=ast.Name(id="len")):
            return "measured with len()"
        case ast.Compare():
            return "compared"
    return ""


def fits(used: str, shape: str) -> bool:
    """Whether a value of this shape can be used so."""
    if shape == "None":
        return used == "compared"
    if shape == "another value":
        return True
    if used.startswith("unpacked into"):
        return shape == f"a tuple of {used.rpartition(' ')[2]}" or shape in ("a list", "a generator")
    if used.startswith("indexed with"):
        key = used.removeprefix("indexed with ")
        if shape.startswith("a tuple"):
            return key.lstrip("-").isdigit() and int(key) < int(shape.rpartition(" ")[2])
        if shape.startswith("a dict"):
            return key in shape.removeprefix("a dict of ").split(", ")
        return shape == "a list" and key.lstrip("-").isdigit()
    if used.startswith("used for its ."):
        kind = {"a tuple": tuple, "a dict": dict, "a list": list}.get(" ".join(shape.split()[:2]))
        return hasattr(kind, used.removeprefix("used for its .")) if kind else True
    if used == "measured with len()":
        return shape != "a generator"
    return not (used == "compared" and shape == "a generator")


def dict_keys(node: ast.expr | None) -> set[str] | None:
    """The keys of a dict literal whose keys are all strings."""
    if not isinstance(node, ast.Dict) or not node.keys:
        return None
    keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
    texts = {key for key in keys if isinstance(key, str)}
    return texts if len(texts) == len(keys) else None
