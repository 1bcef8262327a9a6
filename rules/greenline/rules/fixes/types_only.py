"""Imports that only type checkers need: they leave a circle of imports (class 14)."""

from __future__ import annotations

from typing import Any

import libcst as cst
from libcst.codemod import CodemodContext
from libcst.codemod.visitors import AddImportsVisitor

from greenline.rules.fixes.fix import Fix, Refused
from greenline.rules.fixes.source import Source, dotted

_HARMLESS = frozenset(("staticmethod", "classmethod", "property"))


def import_for_types(fix: Fix, data: bytes) -> bytes:
    """``from module import old`` moves below ``if TYPE_CHECKING:``."""
    source = Source(data)
    alias = source.at(
        fix.line, fix.column, lambda node: isinstance(node, cst.ImportAlias) and dotted(node.name) == fix.old
    )
    statement, line = source.around(alias, cst.ImportFrom), source.around(alias, cst.SimpleStatementLine)
    if statement is None or line not in source.module.body or len(line.body) != 1 or len(statement.names) != 1:
        raise Refused("the import does not stand alone")
    if any(each.comment for each in line.leading_lines) or line.trailing_whitespace.comment:
        raise Refused("a comment belongs to it")
    if not any(_is_lazy(each) for each in source.module.body):
        raise Refused("the file's annotations are evaluated")
    if not _only_annotates(source, statement, alias.asname.name.value if alias.asname else fix.old):
        raise Refused("it is used as the program runs")
    moved = line.with_changes(leading_lines=[])
    after = cst.parse_module(source.replaced({line: lambda _: cst.RemoveFromParent()}))
    context = CodemodContext()
    AddImportsVisitor.add_needed_import(context, "typing", "TYPE_CHECKING")
    return _below_type_checking(AddImportsVisitor(context).transform_module(after), moved).bytes


def _is_lazy(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.SimpleStatementLine) and any(
        isinstance(one, cst.ImportFrom)
        and dotted(one.module) == "__future__"
        and not isinstance(one.names, cst.ImportStar)
        and any(each.evaluated_name == "annotations" for each in one.names)
        for one in node.body
    )


def _only_annotates(source: Source, statement: cst.ImportFrom, name: str) -> bool:
    """Whether all uses of an import are in annotations of plain functions: frameworks read those of classes and of
    what they decorate."""
    for scope in {one for one in source.scopes().values() if one is not None}:
        for assignment in list(scope.assignments[name]):
            if getattr(assignment, "node", None) is statement:
                for access in assignment.references:
                    annotation = source.around(access.node, cst.Annotation)
                    function = source.around(annotation, cst.FunctionDef) if annotation else None
                    if function is None or isinstance(source.parents[annotation], cst.AnnAssign):
                        return False
                    if any(dotted(one.decorator) not in _HARMLESS for one in function.decorators):
                        return False
    return not any(
        isinstance(node, cst.SimpleString) and node.evaluated_value == name for node in source.positions
    )  # __all__


def _below_type_checking(module: cst.Module, line: Any) -> cst.Module:
    """The module with a statement in its block for type checkers, or in a new one after its imports."""
    body = list(module.body)
    for at, node in enumerate(body):
        if isinstance(node, cst.If) and dotted(node.test).endswith("TYPE_CHECKING") and _is_block(node):
            block = node.body.with_changes(body=[*node.body.body, line])
            body[at] = node.with_changes(body=block)
            return module.with_changes(body=body)
    imports = [
        at
        for at, node in enumerate(body)
        if isinstance(node, cst.SimpleStatementLine) and isinstance(node.body[0], cst.Import | cst.ImportFrom)
    ]
    new = cst.If(cst.Name("TYPE_CHECKING"), cst.IndentedBlock([line]), leading_lines=[cst.EmptyLine(indent=False)])
    body.insert(imports[-1] + 1, new)
    return module.with_changes(body=body)


def _is_block(node: cst.If) -> bool:
    return isinstance(node.body, cst.IndentedBlock)
