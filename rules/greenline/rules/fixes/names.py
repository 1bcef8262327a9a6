"""Renames and moves: imports, the names that they bind, attributes, modules (classes 1, 2 and 10)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import libcst as cst
from libcst.codemod import CodemodContext
from libcst.codemod.visitors import AddImportsVisitor

from greenline.rules.fixes.fix import Fix, Refused
from greenline.rules.fixes.source import Source, dotted, expression

Changes = dict[Any, Callable[[Any], Any]]


def rename_import(fix: Fix, data: bytes) -> bytes:
    """``from module import old`` becomes ``from new_module import new``, with the uses of the name in the file."""
    source = Source(data)
    alias = source.at(
        fix.line, fix.column, lambda node: isinstance(node, cst.ImportAlias) and dotted(node.name) == fix.old
    )
    statement = source.around(alias, cst.ImportFrom)
    if statement is None:
        raise Refused("it is not imported with from")
    changes: Changes = {}
    if alias.asname is None and fix.old != fix.new:
        uses = _uses(source, statement, fix.old)
        if _is_taken(source, fix.new) or _is_text(source, fix.old):
            alias_to = cst.AsName(cst.Name(fix.old), cst.SimpleWhitespace(" "), cst.SimpleWhitespace(" "))
            renamed = alias.with_changes(name=cst.Name(fix.new), asname=alias_to)
        else:
            renamed = alias.with_changes(name=cst.Name(fix.new))
            changes = {use: lambda node: node.with_changes(value=fix.new) for use in uses}
    else:
        renamed = alias.with_changes(name=cst.Name(fix.new))
    if fix.module == fix.new_module:
        changes[alias] = lambda _: renamed
    else:
        changes |= _to_other_module(source, statement, alias, renamed, fix.new_module)
    return source.replaced(changes)


def _to_other_module(source: Source, statement: Any, alias: Any, renamed: Any, module: str) -> Changes:
    target = expression(module)
    if len(statement.names) == 1:

        def moved(node: Any) -> Any:
            return node.with_changes(module=target, relative=(), names=[renamed])

        return {statement: moved}
    line = source.around(statement, cst.SimpleStatementLine)
    if len(line.body) > 1:
        raise Refused("several statements share the line")

    def split(node: Any) -> Any:
        kept = [one for old, one in zip(statement.names, node.body[0].names, strict=True) if old is not alias]
        kept[-1] = kept[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT) if not node.body[0].lpar else kept[-1]
        first = node.with_changes(body=[node.body[0].with_changes(names=kept)])
        single = renamed.with_changes(comma=cst.MaybeSentinel.DEFAULT)
        added = cst.SimpleStatementLine([cst.ImportFrom(target, [single])])
        return cst.FlattenSentinel([first, added])

    return {line: split}


def _uses(source: Source, statement: Any, name: str) -> list[Any]:
    """The names in the file that mean this import."""
    found = []
    for scope in {one for one in source.scopes().values() if one is not None}:
        for assignment in list(scope.assignments[name]):
            if getattr(assignment, "node", None) is statement:
                for access in assignment.references:
                    if not isinstance(access.node, cst.Name):
                        raise Refused(f"{name} is used in a way that cannot be rewritten")
                    found.append(access.node)
    return found


def _is_taken(source: Source, name: str) -> bool:
    """Whether a scope of the file binds this name already."""
    return any(name in one.assignments for one in set(source.scopes().values()) if one is not None)


def _is_text(source: Source, name: str) -> bool:
    """Whether ``__all__`` or the like spells the name: the old one must stay."""
    return any(
        isinstance(node, cst.SimpleString)
        and node.evaluated_value == name
        and source.around(node, cst.List | cst.Tuple)
        for node in source.positions
    )


def rename_attribute(fix: Fix, data: bytes) -> bytes:
    """``x.old`` becomes ``x.new``."""
    source = Source(data)
    node = source.at(fix.line, fix.column, lambda one: isinstance(one, cst.Attribute) and one.attr.value == fix.old)
    return source.replaced({node.attr: lambda name: name.with_changes(value=fix.new)})


def rename_name(fix: Fix, data: bytes) -> bytes:
    """The uses of a name of the module that nothing in the file binds any more."""
    source = Source(data)
    if not fix.new.isidentifier():
        raise Refused(f"{fix.new} is no plain name")
    changes: Changes = {}
    for scope in {one for one in source.scopes().values() if one is not None}:
        for access in list(scope.accesses[fix.old]):
            if isinstance(access.node, cst.Name) and not access.referents:
                changes[access.node] = lambda node: node.with_changes(value=fix.new)
    return source.replaced(changes)


def rename_module(fix: Fix, data: bytes) -> bytes:
    """``import old`` and ``from old import x`` mean the new module, with all uses of the dotted name."""
    source = Source(data)
    changes: Changes = {}
    for node in source.positions:
        if isinstance(node, cst.ImportFrom) and _spelled(node) == fix.old:
            changes[node] = lambda one: one.with_changes(module=expression(fix.new), relative=())
        elif isinstance(node, cst.ImportAlias) and dotted(node.name) == fix.old:
            if not isinstance(source.parents[node], cst.Import):
                continue
            changes[node] = lambda one: one.with_changes(name=expression(fix.new))
            if node.asname is None:
                changes |= _dotted_uses(source, fix)
    return source.replaced(changes)


def _spelled(node: cst.ImportFrom) -> str:
    return "." * len(node.relative) + dotted(node.module)


def _dotted_uses(source: Source, fix: Fix) -> Changes:
    kinds = (cst.Attribute, cst.Name)
    return {
        node: lambda _: expression(fix.new)
        for node in source.positions
        if isinstance(node, kinds)
        and dotted(node) == fix.old
        and not isinstance(source.parents[node], cst.ImportAlias | cst.ImportFrom)
        and node is not getattr(source.parents[node], "attr", None)
    }


def move_attribute(fix: Fix, data: bytes) -> bytes:
    """``a.b.name`` becomes ``a.c.name``, with an import of ``a.c``."""
    source = Source(data)
    node = source.at(fix.line, fix.column, lambda one: isinstance(one, cst.Attribute) and dotted(one) == fix.old)
    after = source.replaced({node: lambda _: expression(fix.new)})
    return _with_import(after, fix.new_module or fix.new.rpartition(".")[0], None)


def add_import(fix: Fix, data: bytes) -> bytes:
    """A name of the module that lives elsewhere now is imported from there."""
    if _is_taken(Source(data), fix.old):
        raise Refused(f"the file binds {fix.old} itself")
    return _with_import(data, fix.new_module, fix.new)


def _with_import(data: bytes, module: str, name: str | None) -> bytes:
    context = CodemodContext()
    AddImportsVisitor.add_needed_import(context, module, name)
    return AddImportsVisitor(context).transform_module(cst.parse_module(data)).bytes
