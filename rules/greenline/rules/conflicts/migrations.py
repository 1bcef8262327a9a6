"""Two migration heads: each side added a migration after the same one (Django, Alembic)."""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

from greenline.depgraph.blocks import leaf
from greenline.rules.conflicts.infer import World
from greenline.rules.conflicts.merge import Merge
from greenline.rules.conflicts.modules import Module
from greenline.rules.conflicts.problem import Problem
from greenline.rules.conflicts.report import Found
from greenline.rules.fixes.fix import Fix

_DJANGO = re.compile(r"(?:.*/)?migrations/(\w+)\.py")


class Migration(NamedTuple):
    """``chain``: the application or folder; ``name``: within it; ``after``: names in the same chain; ``touches``: the
    tables or models that it changes, None where that cannot be told; ``merges``: it joins heads."""

    kind: str
    path: str
    chain: str
    name: str
    after: tuple[str, ...]
    touches: frozenset[str] | None


def migration_heads(merge: Merge) -> list[Found]:
    """Chains with several heads in the merged state and one on each side."""
    sides = [merge.base] if merge.linear else [merge.ours, merge.theirs]
    changed = [{path.rpartition("/")[0] for path in merge.changed(side)} for side in (merge.ours, merge.theirs)]
    folders = changed[0] & changed[1]  # a chain that only one side touched is as that side has it
    chains = _chains(merge.merged, folders)
    found = []
    for chain, migrations in sorted(chains.items()):
        heads = _heads(migrations)
        if len(heads) < 2 or any(len(_heads(_chains(side, folders).get(chain, []))) > 1 for side in sides):
            continue
        first, *others = sorted(heads, key=lambda one: (one.path not in merge.ours.tree.files, one.path))
        for other in others:
            problem = Problem("migration", first.path, 1, 0, "", f"{first.name} {other.name}", (other.path, ""))
            message = f"{first.name} and {other.name} are both heads of {chain or 'the migrations'}"
            found.append(Found(problem, 19, "migration-heads", message, _fix(merge, first, other), (other.path, 1)))
    return found


def _chains(world: World, folders: set[str]) -> dict[str, list[Migration]]:
    """The migrations in these folders, each of which holds one chain."""
    chains: dict[str, list[Migration]] = {}
    wanted = {folder for folder in folders if "migrations/" in f"{folder}/" or "versions/" in f"{folder}/"}
    for path in sorted(world.tree.files) if wanted else ():
        if path.endswith(".py") and path.rpartition("/")[0] in wanted:
            for fields in world.tree.kept("migration", path, _read):
                migration = Migration(*fields)
                chains.setdefault(migration.chain, []).append(migration)
    return chains


def _heads(migrations: list[Migration]) -> list[Migration]:
    followed = {name for one in migrations for name in one.after}
    return [one for one in migrations if one.name not in followed]


def _read(module: Module) -> tuple[Migration, ...]:
    """The migration that a file is, if it is one."""
    path = module.path
    folder, _, file = path.rpartition("/")
    values = {name: bound[-1].node for name, bound in module.names.items() if bound[-1].kind == "value"}
    if "revision" in values and "down_revision" in values:
        name, after = _literal(values["revision"]), _literal(values["down_revision"])
        names = (after,) if isinstance(after, str) else tuple(after or ()) if isinstance(after, list | tuple) else ()
        if isinstance(name, str):
            return (Migration("alembic", path, folder, name, tuple(map(str, names)), _tables(module.tree)),)
    if not _DJANGO.fullmatch(path) or "Migration" not in module.names:
        return ()
    app = folder.rpartition("/")[0].rpartition("/")[2]
    node = module.names["Migration"][-1].node
    if not isinstance(node, ast.ClassDef):
        return ()
    inner = {
        target.id: one
        for one in node.body
        if isinstance(one, ast.Assign)
        for target in one.targets
        if isinstance(target, ast.Name)
    }
    pairs = _literal(inner["dependencies"]) if "dependencies" in inner else []
    own = (
        tuple(pair[1] for pair in pairs if len(pair) == 2 and pair[0] == app) if isinstance(pairs, list | tuple) else ()
    )
    return (Migration("django", path, folder, file.removesuffix(".py"), own, _models(inner.get("operations"))),)


def _literal(node: ast.AST) -> object:
    value = getattr(node, "value", None)
    if not isinstance(value, ast.expr):
        return None
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError):
        if isinstance(value, ast.List | ast.Tuple):  # with swappable_dependency(…) among them
            return [ast.literal_eval(one) for one in value.elts if _is_literal(one)]
        return None


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError):
        return False
    return True


def _models(operations: ast.Assign | None) -> frozenset[str] | None:
    """The models that Django operations touch."""
    if operations is None or not isinstance(operations.value, ast.List):
        return frozenset() if operations is None else None
    found = set()
    for call in operations.value.elts:
        if not isinstance(call, ast.Call) or leaf(call.func) in ("RunPython", "RunSQL", "SeparateDatabaseAndState"):
            return None
        named = {one.arg: one.value for one in call.keywords}
        name = named.get("model_name") or (named.get("name") if leaf(call.func).endswith("Model") else None)
        name = name or (call.args[0] if call.args else None)
        if not isinstance(name, ast.Constant):
            return None
        found.add(str(name.value).lower())
    return frozenset(found)


def _tables(tree: ast.Module) -> frozenset[str] | None:
    """The tables that Alembic operations of ``upgrade`` touch."""
    upgrade = next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "upgrade"), None)
    found = set()
    for call in ast.walk(upgrade) if upgrade else ():
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "op":
            index = 1 if "index" in call.func.attr or "constraint" in call.func.attr else 0
            if call.func.attr == "execute" or len(call.args) <= index or not isinstance(call.args[index], ast.Constant):
                return None
            found.add(str(ast.literal_eval(call.args[index])))
    return frozenset(found)


def _fix(merge: Merge, one: Migration, other: Migration) -> Fix | None:
    """A merge revision, where the two touch different tables; a published migration is never changed."""
    if one.touches is None or other.touches is None or one.touches & other.touches:
        return None
    folder = one.chain
    if one.kind == "alembic":
        name = f"{one.name[:6]}_{other.name[:6]}"
        path = f"{folder}/{name}_merge.py"
    else:
        numbers = [int(match[1]) for each in (one, other) if (match := re.match(r"(\d+)", each.name))]
        if len(numbers) != 2:
            return None
        name = f"{max(numbers) + 1:04}_merge_{one.name}_{other.name}"
        path = f"{folder}/{name}.py"
    if path in merge.merged.tree.files:
        return None
    return Fix("new-file", 19, path, 0, 0, one.kind, path, one.name, other.name)
