"""From a problem to its breakage class, the sentence that tells it, and the fix."""

from __future__ import annotations

import ast

from greenline.rules.conflicts.merge import Merge
from greenline.rules.conflicts.modules import Function
from greenline.rules.conflicts.moves import DELETED, Went, definition, where_went
from greenline.rules.conflicts.report import Found
from greenline.rules.conflicts.signatures import Signature, of_function
from greenline.rules.conflicts.uses import Problem
from greenline.rules.fixes.fix import Fix


def explain(merge: Merge, problem: Problem) -> Found:
    """The class of a problem, with its fix where there is a deterministic one."""
    return _EXPLAINERS[problem.kind](merge, problem)


def _missing(merge: Merge, problem: Problem) -> Found:
    """A name, an attribute, an import or a dotted string that leads to nothing any more."""
    path, name = problem.target
    if problem.kind == "import" and (submodule := merge.base.lookup(path, name)).kind == "module":
        return _submodule(merge, problem, submodule.path)
    went = where_went(merge, path, name)
    old = name.rpartition(".")[2]
    number, rule = {"renamed": (1, "renamed"), "moved": (2, "moved"), "deleted": (3, "deleted")}[went.kind]
    gone = definition(merge.base, path, name)
    if gone is not None and gone.kind == "value" and went.kind != "moved":
        number, rule = 10, "constant"
    if problem.kind == "string":
        number, rule = (26, "mock-target") if problem.detail == ("patched",) else (28, "dotted-string")
    told = {
        "renamed": f"is now {went.name}",
        "moved": f"is now in {merge.merged.tree.dotted(went.path)}" if went.path else "",
        "deleted": "is gone",
    }[went.kind]
    fix = None if went == DELETED else _fix_of_name(merge, problem, number, old, went)
    return Found(problem, number, rule, f"{problem.subject} {told}", fix)


def _submodule(merge: Merge, problem: Problem, path: str) -> Found:
    """``from package import module``, and the module is not there any more."""
    new = merge.moved.get(path, "")
    if new not in merge.merged.tree.files or path in merge.merged.tree.files:
        return Found(problem, 3, "deleted", f"module {problem.subject} is gone", None)
    home, _, name = merge.merged.tree.dotted(new).rpartition(".")
    old = problem.target[1]
    module = problem.subject[: -len(old)]
    module = module.rstrip(".") or module
    fix = Fix("import", 2, problem.path, problem.line, problem.column, old, name, module, home) if home else None
    return Found(problem, 2, "moved", f"module {problem.subject} is now {home}.{name}", fix)


def _fix_of_name(merge: Merge, problem: Problem, number: int, old: str, went: Went) -> Fix | None:
    new = went.name.rpartition(".")[2]
    home = merge.merged.tree.dotted(went.path)
    at = (problem.path, getattr(problem.node, "lineno", problem.line), problem.column)
    if problem.kind == "string":
        return Fix("string", number, *at, problem.subject, f"{home}.{went.name}")
    if problem.kind == "import":
        module = problem.subject.rpartition(".")[0]
        module = problem.subject[: len(problem.subject) - len(old)] if not module.strip(".") else module
        return Fix("import", number, *at, old, new, module, module if went.kind == "renamed" else home)
    if problem.kind == "name":
        if went.kind == "renamed":
            return Fix("name", number, *at, old, new)
        return Fix("add-import", number, *at, old, new, "", home)
    if went.kind == "renamed":
        node = problem.node
        if isinstance(node, ast.Subscript):
            return Fix("string", number, problem.path, node.slice.lineno, node.slice.col_offset, old, new)
        return Fix("attribute", number, *at, old, new)
    if isinstance(problem.node, ast.Attribute):  # a.b.name, where a.b is a module
        return Fix("module-attribute", number, *at, ast.unparse(problem.node), f"{home}.{went.name}")
    return None


def _module(merge: Merge, problem: Problem) -> Found:
    """A module that is not there any more."""
    for side in (merge.base, merge.ours, merge.theirs):
        files = side.tree.find(problem.subject, problem.path)
        if len(files) == 1:
            new = merge.moved.get(files[0])
            problem = problem._replace(target=(files[0], ""))
            if new is not None and new in merge.merged.tree.files and files[0] not in merge.merged.tree.files:
                home = merge.merged.tree.dotted(new)
                at = (problem.path, problem.line, problem.column)
                fix = Fix("module", 2, *at, problem.subject, home)
                return Found(problem, 2, "moved", f"module {problem.subject} is now {home}", fix)
            break
    return Found(problem, 3, "deleted", f"module {problem.subject} is gone", None)


def _call(merge: Merge, problem: Problem) -> Found:
    """A call that does not fit the signature any more."""
    kind, name = problem.detail
    what = problem.subject
    at = (problem.path, problem.line, problem.column)
    before, after = _signatures(merge, problem)
    if kind == "missing":
        if before and name not in before.names:
            renamed = _renamed_parameter(merge, problem, new=name)
            if renamed:
                fix = Fix("keyword", 5, *at, renamed, name) if _passes(problem.node, renamed) else None
                return Found(problem, 5, "parameter", f"{what}() has renamed its parameter {renamed} to {name}", fix)
        return Found(problem, 4, "new-parameter", f"{what}() now needs {name!r}", None)
    if kind == "unexpected":
        new = _renamed_parameter(merge, problem, old=name)
        fix = Fix("keyword", 5, *at, name, new) if new else None
        told = f"has renamed its parameter {name} to {new}" if new else f"takes no {name!r} any more"
        return Found(problem, 5, "parameter", f"{what}() {told}", fix)
    only = after.only_keyword if after else ()
    if before and after and isinstance(problem.node, ast.Call):
        count = int(name)
        wanted = before.positional[count : len(problem.node.args)]
        if wanted and set(wanted) <= set(only):
            fix = Fix("add-keywords", 6, *at, problem.subject.rpartition(".")[2], ",".join(wanted), str(count))
            return Found(problem, 6, "keyword-only", f"{what}() takes {', '.join(wanted)} by keyword only", fix)
    return Found(problem, 5, "parameter", f"{what}() takes only {name} positional arguments now", None)


def _signatures(merge: Merge, problem: Problem) -> tuple[Signature | None, Signature | None]:
    path, name = problem.target
    found = []
    for world in (merge.base, merge.merged):
        here = path if path in world.tree.files else next((o for o, n in merge.moved.items() if n == path), path)
        bound = definition(world, here, name)
        if bound is not None and isinstance(bound.node, ast.ClassDef):
            bound = definition(world, here, f"{name}.__init__")
        is_method = "." in name or (
            bound is not None and bound.node.__class__ is not None and name != getattr(bound.node, "name", name)
        )
        found.append(of_function(bound.node, is_method) if bound and isinstance(bound.node, Function) else None)
    return found[0], found[1]


def _renamed_parameter(merge: Merge, problem: Problem, old: str = "", new: str = "") -> str:
    """The other name of a parameter that was renamed in its place, or ""."""
    before, after = _signatures(merge, problem)
    if before is None or after is None:
        return ""
    lost = [name for name in before.names if name not in after.names]
    gained = [name for name in after.names if name not in before.names]
    pairs = [
        (a, b)
        for a in lost
        for b in gained
        if (
            a in before.positional and b in after.positional and before.positional.index(a) == after.positional.index(b)
        )
        or (len(lost) == len(gained) == 1)
    ]
    matches = [b for a, b in pairs if a == old] if old else [a for a, b in pairs if b == new]
    return matches[0] if len(set(matches)) == 1 else ""


def _passes(node: ast.AST | None, keyword: str) -> bool:
    return isinstance(node, ast.Call) and any(one.arg == keyword for one in node.keywords)


def _order(merge: Merge, problem: Problem) -> Found:
    was, now = problem.detail
    return Found(problem, 6, "order", f"{problem.subject}() takes ({now}) now; this call passes ({was})", None)


def _await(merge: Merge, problem: Problem) -> Found:
    is_async = problem.detail == ("is not awaited",)
    told = "is async now, and this call is not awaited" if is_async else "is not async any more"
    at = (problem.path, problem.line, problem.column)
    fix = Fix("await", 7, *at, problem.subject.rpartition(".")[2], "") if is_async else None
    return Found(problem, 7, "async", f"{problem.subject}() {told}", fix)


def _shape(merge: Merge, problem: Problem) -> Found:
    used, shape, *_ = problem.detail
    return Found(problem, 7, "return-shape", f"{problem.subject}() returns {shape} now; here it is {used}", None)


def _property(merge: Merge, problem: Problem) -> Found:
    return Found(problem, 7, "property", f"{problem.subject} {problem.detail[0]}", None)


def _key(merge: Merge, problem: Problem) -> Found:
    return Found(problem, 27, "config-key", f"{problem.subject} is gone", None)


_EXPLAINERS = {
    "import": _missing,
    "attribute": _missing,
    "name": _missing,
    "string": _missing,
    "module": _module,
    "call": _call,
    "order": _order,
    "await": _await,
    "shape": _shape,
    "property": _property,
    "key": _key,
}
