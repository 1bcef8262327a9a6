"""What to pass for a parameter that a function needs now, where that is certain (class 4).

Either the parameter had a default, then that is what the old call meant; or the side that added it passes one and the
same literal in all its calls, of which there are at least two.
"""

from __future__ import annotations

import ast

from greenline.depgraph.blocks import leaf
from greenline.rules.conflicts.infer import World
from greenline.rules.conflicts.merge import Merge
from greenline.rules.conflicts.modules import Function
from greenline.rules.conflicts.moves import definition
from greenline.rules.conflicts.signatures import Signature

ENOUGH = 2
"""Calls that must agree: one alone says nothing about others."""


def value_for(merge: Merge, target: tuple[str, str], name: str, after: Signature) -> str:
    """The argument for a parameter as source text, or ""; ``target``: file and qualified name of what is called."""
    if name in after.only_positional:
        return ""
    return _old_default(merge.base, target, name) or _what_all_pass(merge, target, name, after)


def _old_default(base: World, target: tuple[str, str], name: str) -> str:
    function = _function(base, target)
    if function is None:
        return ""
    arguments = function.args
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults: dict[str, ast.expr | None] = dict(
        zip([one.arg for one in plain[len(plain) - len(arguments.defaults) :]], arguments.defaults, strict=True)
    )
    defaults |= zip([one.arg for one in arguments.kwonlyargs], arguments.kw_defaults, strict=True)
    return _literal(defaults.get(name))


def _what_all_pass(merge: Merge, target: tuple[str, str], name: str, after: Signature) -> str:
    called = target[1].removesuffix(".__init__").rpartition(".")[2]
    given = set()
    count = 0
    for side in () if merge.linear else (merge.ours, merge.theirs):
        function = _function(side, target)
        if function is None or name not in {one.arg for one in ast.walk(function.args) if isinstance(one, ast.arg)}:
            continue
        for path in merge.changed(side):
            module = side.tree.module(path)
            for node in ast.walk(module.tree) if module else ():
                if isinstance(node, ast.Call) and leaf(node.func) == called:
                    given.add(_literal(_passed(node, name, after)))
                    count += 1
    return given.pop() if len(given) == 1 and count >= ENOUGH else ""


def _function(world: World, target: tuple[str, str]) -> Function | None:
    for name in (target[1], f"{target[1]}.__init__"):
        bound = definition(world, target[0], name)
        if bound is not None and isinstance(bound.node, Function):
            return bound.node
    return None


def _passed(call: ast.Call, name: str, signature: Signature) -> ast.expr | None:
    """What a call passes for a parameter; None where it does not, or unpacks something."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    at = signature.positional.index(name) if name in signature.positional else len(call.args)
    spelled = not any(isinstance(one, ast.Starred) for one in call.args)
    return call.args[at] if spelled and at < len(call.args) else None


def _literal(node: ast.expr | None) -> str:
    """A literal's text; "" for anything else, and for what must not be shared."""
    if node is None:
        return ""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError):
        return ""
    return "" if isinstance(value, list | dict | set) else ast.unparse(node)
