"""Whether a decorator of the repository touches nothing but what it decorates, so that nobody else can notice it.

One that keeps functions in a table, as a web framework does for its routes, is felt by whoever reads the table.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from greenline.ci.evidence.decorators import MOST_HOPS, File, Find, is_harmless_module, own_values
from greenline.depgraph.blocks import Function, leaf
from greenline.depgraph.changes import is_plain_decorator, makes_only_a_value

_LOOKS = frozenset(
    """isinstance issubclass callable getattr hasattr id type super wraps update_wrapper iscoroutinefunction
    isgeneratorfunction isasyncgenfunction isfunction isclass ismethod signature""".split()  # noqa: SIM905
)
_NEVER = (
    *(ast.Global, ast.Nonlocal, ast.Import, ast.ImportFrom, ast.With, ast.AsyncWith, ast.Delete, ast.ClassDef),
    *(ast.Yield, ast.YieldFrom, ast.Await, ast.NamedExpr, ast.AugAssign),
)


def is_quiet(decorator: ast.expr, file: File, find: Find) -> bool:
    """Whether it is plain, or `@f`, `@f(values)` or a lambda, and all that it calls is known to be quiet."""
    if is_plain_decorator(decorator):
        return True
    if isinstance(decorator, ast.Lambda):
        return not any(isinstance(part, (ast.Call, *_NEVER)) for part in ast.walk(decorator))
    if isinstance(decorator, ast.Name):
        return _is_quiet_name(decorator.id, 1, file, find, MOST_HOPS)
    if not isinstance(decorator, ast.Call) or not isinstance(decorator.func, ast.Name):
        return False
    given = [*decorator.args, *(each.value for each in decorator.keywords)]
    values = all(
        isinstance(part, ast.Constant | ast.Name | ast.expr_context) for each in given for part in ast.walk(each)
    )
    return values and _is_quiet_name(decorator.func.id, 2, file, find, MOST_HOPS)


def _is_quiet_name(name: str, calls: int, file: File, find: Find, hops: int, marks: bool = True) -> bool:
    """``calls``: how often what the name stands for is called: 2 for one that returns the decorator.

    ``marks``: whether its first argument is what is decorated, which may be given attributes.
    """
    found = own_values(name, file, find, hops)
    return bool(found) and all(_is_quiet_function(value, calls, where, find, hops, marks) for value, where in found)


def _is_quiet_function(node: object, calls: int, file: File, find: Find, hops: int, marks: bool = True) -> bool:
    if not isinstance(node, Function) or not hops or not all(map(is_plain_decorator, node.decorator_list)):
        return False
    own = list(_own_nodes(node))
    inner = [part for part in own if isinstance(part, Function)]
    arguments = {each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)}
    local = arguments | {each.name for each in inner}
    bound = {part.id for part in own if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    local |= bound
    first = {each.arg for each in [*node.args.posonlyargs, *node.args.args][:1]}
    decorated = first - bound if calls == 1 and marks else set[str]()
    if not all(_leaves_alone(part, decorated, local, file, find, hops) for part in own):
        return False
    if calls == 1:
        return True
    returned = [part.value for part in own if isinstance(part, ast.Return)]
    names = {each.name for each in inner}
    only_inner = all(isinstance(value, ast.Name) and value.id in names for value in returned)
    return only_inner and all(_is_quiet_function(each, 1, file, find, hops - 1) for each in inner)


def _leaves_alone(part: ast.AST, decorated: set[str], local: set[str], file: File, find: Find, hops: int) -> bool:
    """Whether one node does nothing but look, bind a local name, or give the decorated function an attribute."""
    if isinstance(part, _NEVER):
        return False
    if isinstance(part, ast.Subscript):
        return isinstance(part.ctx, ast.Load)
    if isinstance(part, ast.Attribute):
        of = part.value.id if isinstance(part.value, ast.Name) else ""
        return isinstance(part.ctx, ast.Load) or of in decorated
    if not isinstance(part, ast.Call):
        return True
    if isinstance(part.func, ast.Call):
        return leaf(part) == "wraps"  # wraps(f)(g); what it calls inside is asked for itself
    known = leaf(part) in _LOOKS or makes_only_a_value(part)
    if isinstance(part.func, ast.Attribute):
        return known and is_harmless_module(part.func.value, file)
    if not isinstance(part.func, ast.Name) or part.func.id in local:
        return False
    given = [*part.args, *(each.value for each in part.keywords)]
    own = all(isinstance(each, ast.Constant) or (isinstance(each, ast.Name) and each.id in local) for each in given)
    marks = bool(part.args) and isinstance(part.args[0], ast.Name) and part.args[0].id in decorated
    return known or (own and _is_quiet_name(part.func.id, 1, file, find, hops - 1, marks))


def _own_nodes(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """The nodes that a call evaluates: of functions inside, decorators and defaults only."""
    waiting: list[ast.AST] = [*node.body]
    while waiting:
        part = waiting.pop()
        yield part
        if isinstance(part, Function):
            defaults = [*part.args.defaults, *filter(None, part.args.kw_defaults)]
            waiting += [*part.decorator_list, *defaults]
        elif not isinstance(part, ast.Lambda):
            waiting += ast.iter_child_nodes(part)
