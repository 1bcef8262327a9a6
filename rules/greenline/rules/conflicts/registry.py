"""Lists that must be complete: a table over all members of an enum, a test that counts or spells out what is there."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from greenline.depgraph.blocks import leaf
from greenline.rules.conflicts.infer import Scope, Value, World
from greenline.rules.conflicts.modules import Module, members, nodes_near
from greenline.rules.conflicts.problem import Problem

Elements = tuple[object, ...]
_WRAPPERS = frozenset(("set", "sorted", "list", "tuple", "frozenset", "keys", "values"))


def registry_problems(world: World, path: str, words: frozenset[str]) -> list[Problem]:
    """Tables that miss members of their enum, and comparisons that are false as the literals are now, in statements
    that spell one of these words."""
    module = world.tree.module(path)
    if module is None:
        return []
    scope = Scope(world, path)
    nodes = list(nodes_near(module.tree, module.lines_with(words)))
    return [*_tables(world, scope, module, nodes), *_comparisons(world, scope, module, nodes)]


def _tables(world: World, scope: Scope, module: Module, nodes: list[ast.AST]) -> Iterator[Problem]:
    for node in nodes:
        if isinstance(node, ast.Dict) and len(node.keys) > 1:
            parts = [key for key in node.keys if key is not None]
        elif isinstance(node, ast.Match) and len(node.cases) > 1:
            last = node.cases[-1]
            if isinstance(last.pattern, ast.MatchAs) and last.pattern.name is None and not _raises(last.body):
                continue  # the rest has an answer
            parts = [case.pattern.value for case in node.cases if isinstance(case.pattern, ast.MatchValue)]
        else:
            continue
        owner, names = _members(scope, parts)
        if owner is None:
            continue
        if isinstance(node, ast.Dict) and (len(parts) != len(node.keys) or _only_get(module, node)):
            continue
        missing = [name for name in enum_members(world, owner) or () if name not in names]
        for name in missing:
            detail = (f"it has no {owner.name}.{name}",)
            yield _problem(module.path, node, f"the table of {owner.name}", owner, str(name), detail)


def _problem(path: str, node: ast.AST, subject: str, owner: Value, name: str, detail: tuple[str, ...]) -> Problem:
    line, column = getattr(node, "lineno", 0), getattr(node, "col_offset", 0)
    target = f"{owner.name}.{name}" if name else owner.name
    return Problem("registry", path, line, column, "", subject, (owner.path, target), detail, node)


def _members(scope: Scope, parts: list[ast.expr]) -> tuple[Value | None, set[str]]:
    """The one enum whose members all these expressions are, and their names."""
    owner: Value | None = None
    names = set()
    for part in parts:
        if not isinstance(part, ast.Attribute):
            return None, set()
        base = scope.evaluate(part.value)
        if base.kind != "class" or not scope.world.is_enum(base) or (owner is not None and base.node is not owner.node):
            return None, set()
        owner = base
        names.add(part.attr)
    return owner, names


def enum_members(world: World, owner: Value) -> Elements | None:
    """The names of an enum's members in order."""
    if not isinstance(owner.node, ast.ClassDef):
        return None
    found = []
    for name, bound in members(owner.node).names.items():
        if bound[-1].kind == "value" and not name.startswith("_") and isinstance(bound[-1].node, ast.Assign):
            found.append(name)
    return tuple(found)


def _raises(body: list[ast.stmt]) -> bool:
    return any(isinstance(node, ast.Raise) or "assert_never" in ast.unparse(node) for node in body)


def _only_get(module: Module, table: ast.Dict) -> bool:
    """Whether the file asks a table only with ``.get()`` or ``in``, which take a missing key."""
    names = [
        target.id
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Assign) and node.value is table
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    uses = [
        node
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute | ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id in names
    ]
    return bool(uses) and all(isinstance(node, ast.Attribute) and node.attr == "get" for node in uses)


def _comparisons(world: World, scope: Scope, module: Module, nodes: list[ast.AST]) -> Iterator[Problem]:
    """``assert set(A) == {…}``, ``assert len(A) == 3``, ``assert set(A) == set(B)``."""
    for node in nodes:
        test = node.test if isinstance(node, ast.Assert | ast.If) else None
        if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq | ast.NotEq):
            left, owner = _elements(scope, test.left)
            right, other = _elements(scope, test.comparators[0])
            owner = owner or other
            if left is None or right is None or owner is None:
                continue
            if (left == right) is isinstance(test.ops[0], ast.NotEq):
                detail = (f"{ast.unparse(test)} does not hold any more",)
                yield _problem(module.path, test, owner.name, owner, "", detail)


def _elements(scope: Scope, node: ast.expr) -> tuple[object, Value | None]:
    """What an expression over a literal or an enum is, and the definition it reads; None where it cannot be told."""
    if isinstance(node, ast.Constant):
        return node.value, None
    if isinstance(node, ast.Call) and leaf(node.func) == "len" and len(node.args) == 1:
        inner, owner = _elements(scope, node.args[0])
        return (len(inner), owner) if isinstance(inner, tuple | frozenset) else (None, None)
    if isinstance(node, ast.Call) and leaf(node.func) in _WRAPPERS:
        name = leaf(node.func)
        argument = (
            node.func.value if isinstance(node.func, ast.Attribute) else node.args[0] if len(node.args) == 1 else None
        )
        if argument is None or (isinstance(node.func, ast.Attribute) and name == "values"):
            return None, None
        inner, owner = _elements(scope, argument)
        if not isinstance(inner, tuple | frozenset):
            return None, None
        if name == "sorted":
            return tuple(sorted(inner, key=repr)), owner
        return (frozenset(inner) if name in ("set", "frozenset", "keys") else tuple(inner)), owner
    literal = _literal(scope, node)
    if literal is not None:
        return literal, None
    if isinstance(node, ast.Name | ast.Attribute):
        value = scope.evaluate(node)
        if value.kind == "class" and scope.world.is_enum(value):
            members = enum_members(scope.world, value)
            return tuple((value.path, value.name, name) for name in members or ()), value
        if value.kind == "value" and isinstance(value.node, ast.Assign | ast.AnnAssign) and "." not in value.name:
            module = scope.world.tree.module(value.path)
            if value.node.value is not None and module is not None and not _is_filled_later(module, value.name):
                return _literal(Scope(scope.world, value.path), value.node.value), value
    return None, None


def _is_filled_later(module: Module, name: str) -> bool:
    """Whether code adds to a module's list or dict after its literal."""
    for node in ast.walk(module.tree):
        if (
            isinstance(node, ast.Attribute | ast.Subscript)
            and isinstance(node.value, ast.Name)
            and node.value.id == name
        ):
            if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
                return True
            if isinstance(node, ast.Attribute) and node.attr in (
                "append",
                "add",
                "update",
                "extend",
                "setdefault",
                "insert",
            ):
                return True
    return False


def _literal(scope: Scope, node: ast.expr) -> object:
    """A tuple or set of constants and enum members from a literal; a dict gives its keys."""
    if isinstance(node, ast.Dict):
        parts = [_element(scope, key) for key in node.keys if key is not None]
        return tuple(parts) if len(parts) == len(node.keys) and None not in parts else None
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        parts = [_element(scope, one) for one in node.elts]
        if None in parts:
            return None
        return frozenset(parts) if isinstance(node, ast.Set) else tuple(parts)
    return None


def _element(scope: Scope, node: ast.expr) -> object:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Attribute):
        base = scope.evaluate(node.value)
        if base.kind == "class" and scope.world.is_enum(base):
            return (base.path, base.name, node.attr)
    return None
