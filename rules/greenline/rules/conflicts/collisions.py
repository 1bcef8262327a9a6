"""Two of one: definitions, routes and keys that each side added once, and test files that pytest takes for one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from greenline.depgraph.blocks import leaf, same
from greenline.rules.conflicts.infer import UNKNOWN, Scope, Value, World
from greenline.rules.conflicts.merge import Merge
from greenline.rules.conflicts.modules import Function, Module
from greenline.rules.conflicts.problem import Problem
from greenline.rules.conflicts.report import Found
from greenline.rules.fixes.assertions import is_test
from greenline.rules.fixes.fix import Fix

_REPEATING = frozenset(("overload", "setter", "getter", "deleter", "register", "dispatch", "when", "given", "then"))
_ROUTES = frozenset(
    """route get post put delete patch head options websocket command group task add_url_rule add_route""".split()  # noqa: SIM905
)
_URLS = frozenset(("path", "re_path", "url"))


class Claim(NamedTuple):
    """Something that only one may have: ``key`` says what, ``words`` says it to people, ``test``: of a test file."""

    key: tuple[str, ...]
    words: str
    path: str
    node: ast.AST
    scope: str = ""
    quiet: bool = False


def collisions(merge: Merge) -> list[Found]:
    """What ours and theirs both claim, and the base does not."""
    if merge.linear:
        return []
    both = merge.changed(merge.ours) & merge.changed(merge.theirs)
    registered = [_registered(merge, side) for side in (merge.ours, merge.theirs)]
    shared = set().union(*registered[0].values()) & set().union(*registered[1].values())
    sides = []
    for side, names in zip((merge.ours, merge.theirs), registered, strict=True):
        claims: dict[tuple[str, ...], Claim] = {}
        for path in sorted(both | {path for path in names if not names[path].isdisjoint(shared)}):
            if path.endswith(".py") and path in side.tree.files:
                before = {claim.key for claim in claims_of(merge.base, path)}
                claims.update({one.key: one for one in claims_of(side, path) if one.key not in before})
        sides.append(claims)
    ours, theirs = sides
    found: list[Found] = []
    for key in sorted(ours.keys() & theirs.keys()):
        mine, other = ours[key], theirs[key]
        if mine.path == other.path and same(mine.node, other.node):
            found += _duplicate(merge, mine)
            continue
        if not _both_live(merge, key, mine, other):
            continue
        place = getattr(other.node, "lineno", 0)
        problem = Problem(
            "collision", mine.path, getattr(mine.node, "lineno", 0), 0, mine.scope, mine.words, (other.path, ""), key
        )
        message = f"both sides add {mine.words}"
        found.append(Found(problem, 12, "collision", message, None, (other.path, place), mine.quiet))
    return [*found, *_module_and_package(merge)]


def _registered(merge: Merge, side: World) -> dict[str, set[tuple[str, ...]]]:
    """What a side registers anew in which files, not told apart by whom with."""
    found = {}
    for path in merge.changed(side):
        if path.endswith(".py"):
            before, after = (set(world.tree.kept("registered", path, _names)) for world in (merge.base, side))
            found[path] = after - before
    return found


def _names(module: Module) -> set[tuple[str, str]]:
    """What the decorators and calls of a module register, wherever they are."""
    found = set()
    for node in ast.walk(module.tree):
        for one in getattr(node, "decorator_list", ()):
            found.add(_what(one, getattr(node, "name", "")))
        if isinstance(node, ast.Expr):
            found.add(_what(node.value, ""))
    return {one for one in found if one is not None}


def _what(node: ast.expr, function: str) -> tuple[str, str] | None:
    """The name by which something is registered, and what: a constant in source form, or the decorated function."""
    name = leaf(node.func) if isinstance(node, ast.Call) else ""
    if not isinstance(node, ast.Call) or not (
        "register" in name or (name in _ROUTES and isinstance(node.func, ast.Attribute))
    ):
        return None
    for first in node.args[:1]:
        if isinstance(first, ast.Constant):
            return name, repr(first.value)
    return (name, function) if function and "register" not in name else None


def _duplicate(merge: Merge, claim: Claim) -> list[Found]:
    """A definition that the merged file has twice, alike: that does no harm unless it registers itself."""
    module = merge.merged.tree.module(claim.path)
    claims = claims_of(merge.merged, claim.path)
    again = [one.node for one in claims if one.key == claim.key and same(one.node, claim.node)]
    if module is None or len(again) != 2 or claim.key[0] not in ("definition", "registration"):
        return []  # git merged equal lines
    registers = claim.key[0] == "registration"
    if registers:
        again = [one for one in ast.walk(module.tree) if set(again) & set(getattr(one, "decorator_list", ()))]
    elif any(one.key[0] == "registration" and one.node in getattr(again[1], "decorator_list", ()) for one in claims):
        return []  # told as a registration
    if len(again) != 2 or not same(*again) or not (registers or _is_plain(again[1])):
        return []
    first, second = sorted(getattr(one, "lineno", 0) for one in again)
    name = (
        claim.key[2] if not registers else getattr(again[1], "name", "")
    )  # a method's is not found at the top: refused
    problem = Problem("collision", claim.path, second, 0, claim.scope, claim.words, (claim.path, ""), claim.key)
    fix = None if is_test(claim.path) else Fix("duplicate", 12, claim.path, second, 0, name, "")
    message = f"both sides add {claim.words}, the same"
    return [Found(problem, 12, "collision", message, fix, (claim.path, first), not registers)]


def _is_plain(node: ast.AST) -> bool:
    """Whether a second definition does what the first did: one with a computed value may not."""
    return isinstance(node, Function | ast.ClassDef) or isinstance(getattr(node, "value", None), ast.Constant)


def _both_live(merge: Merge, key: tuple[str, ...], mine: Claim, other: Claim) -> bool:
    if mine.path != other.path:
        return True
    return sum(claim.key == key for claim in claims_of(merge.merged, mine.path)) > 1


def claims_of(world: World, path: str) -> list[Claim]:
    """What the definitions, calls and literals of a file claim."""
    module = world.tree.module(path)
    if module is None:
        return []
    return list(_of_body(world, path, module.tree.body, "", world.tree.suites.is_test_file(path)))


def _of_body(world: World, path: str, body: list[ast.stmt], inside: str, test: bool) -> Iterator[Claim]:
    for node in body:
        if isinstance(node, Function | ast.ClassDef):
            marks = {leaf(one) for one in node.decorator_list}
            name = f"{inside}{node.name}"
            if not marks & _REPEATING and node.name != "_":
                quiet = test and node.name.startswith(("test", "Test"))
                yield Claim(("definition", path, name), f"a definition of {name}", path, node, inside, quiet)
            for decorator in node.decorator_list:
                yield from _registration(world, path, decorator, node.name)
            if isinstance(node, ast.ClassDef):
                yield from _of_body(world, path, node.body, f"{name}.", test)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name) and node.value is not None:
                    name = f"{inside}{target.id}"
                    yield Claim(("definition", path, name), f"a value of {name}", path, node, inside)
                    yield from _entries(path, name, node.value)
                    if target.id == "urlpatterns":
                        yield from _urls(path, node.value)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield from _registration(world, path, node.value, "")


def _entries(path: str, name: str, value: ast.expr) -> Iterator[Claim]:
    """The keys of a dict literal."""
    if isinstance(value, ast.Dict):
        for key, entry in zip(value.keys, value.values, strict=True):
            if key is not None and isinstance(key, ast.Constant | ast.Attribute):
                text = ast.unparse(key)
                yield Claim(("entry", path, name, text), f"the key {text} of {name}", path, entry)


def _urls(path: str, value: ast.expr) -> Iterator[Claim]:
    for call in ast.walk(value):
        if isinstance(call, ast.Call) and leaf(call.func) in _URLS and call.args:
            if isinstance(call.args[0], ast.Constant):
                yield Claim(("url", path, repr(call.args[0].value)), f"the route {call.args[0].value!r}", path, call)
            for keyword in call.keywords:
                if keyword.arg == "name" and isinstance(keyword.value, ast.Constant):
                    yield Claim(
                        ("url name", path, repr(keyword.value.value)),
                        f"the route name {keyword.value.value!r}",
                        path,
                        call,
                    )


def _registration(world: World, path: str, node: ast.expr, function: str) -> Iterator[Claim]:
    """``@app.route("/x")``, ``@cli.command()``, ``@register("csv")``, ``register("csv", …)``."""
    registered = _what(node, function)
    if registered is None or not isinstance(node, ast.Call):
        return
    scope = Scope(world, path)
    function_there = _origin(scope, node.func)
    target = node.func.value if isinstance(node.func, ast.Attribute) else node.func
    owner = function_there if function_there.path else _origin(scope, target)
    where = f"{owner.path}:{owner.name}" if owner.path else f"{path}:{ast.unparse(target)}"
    methods = sorted(ast.unparse(one.value) for one in node.keywords if one.arg in ("methods", "method"))
    words = f"{registered[1]} in {ast.unparse(node.func)}()"
    yield Claim(("registration", where, *registered, *methods), words, path, node)


def _origin(scope: Scope, node: ast.expr) -> Value:
    """The definition or variable that an expression names, whatever type it has."""
    if isinstance(node, ast.Name):
        return scope.name(node.id)
    if isinstance(node, ast.Attribute):
        base = scope.evaluate(node.value)
        return scope.world.attribute(base, node.attr) if base.kind == "module" else UNKNOWN
    return UNKNOWN


def _module_and_package(merge: Merge) -> list[Found]:
    """``app/util.py`` of one side and ``app/util/__init__.py`` of the other: the package hides the module."""
    found = []
    files = merge.merged.tree.files
    for path in sorted(files):
        module = path.removesuffix("/__init__.py") + ".py"
        if module == path + ".py" or module not in files or path in merge.base.tree.files:
            continue
        if not any(path in side.tree.files and module in side.tree.files for side in (merge.ours, merge.theirs)):
            problem = Problem("collision", path, 1, 0, "", merge.merged.tree.dotted(path), (module, ""))
            found.append(Found(problem, 12, "collision", f"{path} hides {module}", None, (module, 1)))
    return found


def same_basename(merge: Merge) -> list[Found]:
    """Test files that pytest imports under one module name: the second is an error."""
    if merge.linear:
        return []
    tree = merge.merged.tree
    added = [
        sorted(path for path in merge.changed(side) if path not in merge.base.tree.files)
        for side in (merge.ours, merge.theirs)
    ]
    found = []
    for mine in added[0]:
        for other in added[1]:
            if (
                (
                    mine != other
                    and _pytest_name(merge.merged, mine)
                    and _pytest_name(merge.merged, mine) == _pytest_name(merge.merged, other)
                )
                and mine in tree.files
                and other in tree.files
            ):
                found.append(_same(merge, mine, other))
    return found


def _pytest_name(world: World, path: str) -> tuple[str, str] | None:
    """The suite and the module name under which pytest imports a test file; None where that does not matter."""
    tree = world.tree
    suite = tree.suites.suite_of(path)
    if (
        not path.endswith(".py")
        or not tree.suites.is_test_file(path)
        or suite is None
        or suite.import_mode == "importlib"
    ):
        return None
    folder, _, name = path.rpartition("/")
    while folder and f"{folder}/__init__.py" in tree.files:
        folder, _, package = folder.rpartition("/")
        name = f"{package}.{name}"
    return suite.name, name


def _same(merge: Merge, mine: str, other: str) -> Found:
    newer = max(mine, other)
    folder, _, name = newer.rpartition("/")
    parent = folder.rpartition("/")[2]
    stem = name.removesuffix(".py")
    fresh = f"{folder}/{stem}_{parent}.py" if stem.startswith("test_") else f"{folder}/{parent}_{stem}.py"
    files = merge.merged.tree.files  # in a package, its name is taken as well
    alone = bool(parent) and fresh not in files and f"{folder}/__init__.py" not in files
    fix = Fix("file", 13, newer, 0, 0, newer, fresh) if alone else None
    problem = Problem("basename", mine, 1, 0, "", f"{mine} {other}", (other, ""))
    return Found(problem, 13, "basename", f"pytest takes {mine} and {other} for one module", fix, (other, 1))
