"""Definitions that follow another one's new name: an override its base (class 9), a request its fixture (class 25); and
one that stands there twice (class 12)."""

from __future__ import annotations

from typing import Any

import libcst as cst

from greenline.rules.fixes.fix import Fix, Refused
from greenline.rules.fixes.source import Source


def rename_definition(fix: Fix, data: bytes) -> bytes:
    """``def old`` of a class becomes ``def new``, with ``self.old`` in the class."""
    source = Source(data)
    function = source.at(
        fix.line, fix.column, lambda node: isinstance(node, cst.FunctionDef) and node.name.value == fix.old
    )
    owner = source.around(function, cst.ClassDef)
    if owner is None:
        raise Refused("it is no method")
    if any(isinstance(one, cst.FunctionDef) and one.name.value == fix.new for one in owner.body.body):
        raise Refused(f"the class has a {fix.new} already")
    changes: dict[Any, Any] = {function.name: lambda name: name.with_changes(value=fix.new)}
    for node in source.positions:
        if (
            isinstance(node, cst.Attribute)
            and node.attr.value == fix.old
            and source.around(node, cst.ClassDef) is owner
        ) and _is_self(node.value):
            changes[node.attr] = lambda name: name.with_changes(value=fix.new)
    return source.replaced(changes)


def drop_duplicate(fix: Fix, data: bytes) -> bytes:
    """Of two definitions of one name that are equal to the letter, the first stays."""
    source = Source(data)
    *owners, name = fix.old.split(".")
    body: Any = source.module.body
    for owner in owners:
        classes = [one for one in body if isinstance(one, cst.ClassDef) and one.name.value == owner]
        if len(classes) != 1:
            raise Refused(f"there is not exactly one {owner}")
        body = classes[0].body.body
    found = [one for one in body if _defines(one, name)]
    if len(found) != 2:
        raise Refused(f"{fix.old} does not stand there exactly twice")
    first, second = (source.module.code_for_node(one).strip() for one in found)
    if first != second:
        raise Refused("the two are not equal to the letter")
    return source.replaced({found[1]: lambda _: cst.RemoveFromParent()})


def _defines(node: Any, name: str) -> bool:
    if isinstance(node, cst.FunctionDef | cst.ClassDef):
        return bool(node.name.value == name)
    if isinstance(node, cst.SimpleStatementLine):
        targets = [
            target
            for one in node.body
            for target in (
                [each.target for each in one.targets]
                if isinstance(one, cst.Assign)
                else [one.target]
                if isinstance(one, cst.AnnAssign)
                else []
            )
        ]
        return any(isinstance(one, cst.Name) and one.value == name for one in targets)
    return False


def _is_self(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.Name) and node.value == "self"


def rename_request(fix: Fix, data: bytes) -> bytes:
    """A test's parameter ``old`` becomes ``new``, with its uses in the body; also in its ``usefixtures``."""
    source = Source(data)
    function = source.at(fix.line, fix.column, lambda node: isinstance(node, cst.FunctionDef))
    changes: dict[Any, Any] = {}
    for node in source.positions:
        if not (isinstance(node, cst.Name | cst.SimpleString) and _within(source, node, function)):
            continue
        parent = source.parents[node]
        if isinstance(node, cst.SimpleString):
            call = source.around(node, cst.Call)
            if (
                node.evaluated_value == fix.old
                and call is not None
                and _last(call.func) in ("usefixtures", "getfixturevalue")
            ):
                changes[node] = lambda one: one.with_changes(value=one.value.replace(fix.old, fix.new))
        elif node.value == fix.new:
            raise Refused(f"the test uses the name {fix.new} already")
        elif (
            node.value == fix.old
            and node is not getattr(parent, "attr", None)
            and node is not getattr(parent, "keyword", None)
        ):
            changes[node] = lambda one: one.with_changes(value=fix.new)
    return source.replaced(changes)


def _last(node: cst.BaseExpression) -> str:
    return node.attr.value if isinstance(node, cst.Attribute) else node.value if isinstance(node, cst.Name) else ""


def _within(source: Source, node: cst.CSTNode, function: cst.FunctionDef) -> bool:
    while node in source.parents:
        node = source.parents[node]
        if node is function:
            return True
    return False
