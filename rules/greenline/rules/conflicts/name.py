"""From a problem to its breakage class, the sentence that tells it, and the fix."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable

from greenline.rules.conflicts.arguments import value_for
from greenline.rules.conflicts.dotted import resolve_dotted
from greenline.rules.conflicts.infer import UNKNOWN, World
from greenline.rules.conflicts.merge import Merge, differing
from greenline.rules.conflicts.modules import Binding, Function
from greenline.rules.conflicts.moves import DELETED, Went, definition, where_went
from greenline.rules.conflicts.problem import Problem
from greenline.rules.conflicts.report import Found
from greenline.rules.conflicts.signatures import Signature, of_function
from greenline.rules.fixes.assertions import is_test
from greenline.rules.fixes.fix import Fix


def explain(merge: Merge, problem: Problem) -> Found | None:
    """The class of a problem, with its fix where there is a deterministic one; None: it is no conflict after all."""
    return _EXPLAINERS[problem.kind](merge, problem)


def _missing(merge: Merge, problem: Problem) -> Found | None:
    """A name, an attribute, an import or a dotted string that leads to nothing any more."""
    path, name = problem.target
    if problem.kind == "import" and (submodule := merge.base.lookup(path, name)).kind == "module":
        return _submodule(merge, problem, submodule.path)
    if problem.kind == "string":
        return _string(merge, problem)
    if problem.kind == "attribute" and (submodule := merge.base.lookup(path, name)).kind == "module":
        return _attribute_module(merge, problem, submodule.path)
    if problem.kind == "attribute" and definition(merge.base, path, name) is None:
        problem = problem._replace(target=_inherited(merge, path, name))
        path, name = problem.target
    went = where_went(merge, path, name)
    if problem.detail == ("perhaps",) and went.kind != "renamed":
        return None
    old = name.rpartition(".")[2]
    number, rule = {"renamed": (1, "renamed"), "moved": (2, "moved"), "deleted": (3, "deleted")}[went.kind]
    gone = definition(merge.base, path, name)
    if gone is not None and gone.kind == "value" and went.kind != "moved":
        number, rule = 10, "constant"
    told = {
        "renamed": f"is now {went.name}",
        "moved": f"is now in {merge.merged.tree.dotted(went.path)}" if went.path else "",
        "deleted": "is gone",
    }[went.kind]
    fix = None if went == DELETED else _fix_of_name(merge, problem, number, old, went)
    return Found(problem, number, rule, f"{problem.subject} {told}", fix)


def _string(merge: Merge, problem: Problem) -> Found:
    """A mock target, or another string that names a definition."""
    number, rule = (26, "mock-target") if problem.detail == ("patched",) else (28, "dotted-string")
    old = resolve_dotted(merge.base, problem.subject, problem.path)
    if not old.path:
        for side in (merge.ours, merge.theirs):
            old = old if old.path else resolve_dotted(side, problem.subject, problem.path)
    path, name = (old.path, "" if old.kind == "module" else old.name) if old.path else problem.target
    problem = problem._replace(target=(path, name))
    if name:
        went = where_went(merge, path, name)
    else:
        new = merge.moved.get(path, "")
        went = Went("moved", new) if new in merge.merged.tree.files else DELETED
    if went.kind == "deleted":
        return Found(problem, number, rule, f"{problem.subject} is gone", None)
    module = merge.merged.tree.dotted(went.path)
    spelled = f"{module}.{went.name}" if went.name else module
    node = problem.node
    text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else problem.subject
    at = (problem.path, problem.line, problem.column)
    if "." not in text:  # patch.object(module, "name")
        fix = Fix("string", number, *at, text, went.name.rpartition(".")[2]) if went.kind == "renamed" else None
    elif ":" in text:
        fix = Fix("string", number, *at, text, f"{module}:{went.name}" if went.name else module)
    else:
        fix = Fix("string", number, *at, text, spelled)
    return Found(problem, number, rule, f"{problem.subject} is now {spelled}", fix)


def _inherited(merge: Merge, path: str, name: str) -> tuple[str, str]:
    """Where an attribute of a class was defined, by a side that has the class: perhaps in a base."""
    owner, _, attribute = name.rpartition(".")
    for world in (merge.base, merge.ours, merge.theirs):
        value = world.lookup(path, owner) if owner else UNKNOWN
        found = world.class_member(value, attribute, after=0) if value.kind == "class" else ""
        for one in world.ancestry(value).classes if isinstance(found, tuple) else ():
            if attribute in one.members.names and definition(merge.base, one.path, f"{one.name}.{attribute}"):
                return one.path, f"{one.name}.{attribute}"
    return path, name


def _attribute_module(merge: Merge, problem: Problem, path: str) -> Found | None:
    """``package.module``, and the module is not there any more; an import of it in this file tells that itself."""
    spelled = ast.unparse(problem.node) if isinstance(problem.node, ast.Attribute) else problem.subject
    module = merge.merged.tree.module(problem.path)
    for node in ast.walk(module.tree) if module else ():
        if isinstance(node, ast.Import) and spelled in (alias.name for alias in node.names):
            return None
    new = merge.moved.get(path, "")
    if new not in merge.merged.tree.files or path in merge.merged.tree.files:
        return Found(problem, 3, "deleted", f"module {problem.subject} is gone", None)
    home = merge.merged.tree.dotted(new)
    fix = Fix("module-attribute", 2, problem.path, problem.line, problem.column, spelled, home, "", home)
    return Found(problem, 2, "moved", f"module {problem.subject} is now {home}", fix)


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


def _call(merge: Merge, problem: Problem) -> Found | None:
    """A call that does not fit the signature any more."""
    was, now = (definition(world, *problem.target) for world in (merge.base, merge.merged))
    if was and now and _decorators(was.node) != _decorators(now.node):
        return None  # a decorator may give it another signature
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
        value = value_for(merge, problem.target, name, after) if after and not is_test(problem.path) else ""
        fix = Fix("add-argument", 4, *at, what.rpartition(".")[2], f"{name}={value}") if value else None
        return Found(problem, 4, "new-parameter", f"{what}() now needs {name!r}", fix)
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


def _decorators(node: ast.AST) -> list[str]:
    return [ast.dump(one) for one in getattr(node, "decorator_list", [])]


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
    """A key of a dict literal; where another has come with the same value, it was renamed."""
    path, name = problem.target
    owner = name.partition("[")[0]
    before, after = (_entries(definition(world, path, owner)) for world in (merge.base, merge.merged))
    node = problem.node
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        old = str(node.slice.value)
        new = [key for key, value in after.items() if key not in before and value == before.get(old)]
        if len(new) == 1:
            fix = Fix("string", 27, problem.path, node.slice.lineno, node.slice.col_offset, old, new[0])
            return Found(problem, 27, "config-key", f"the key {old} of {owner} is now {new[0]}", fix)
    return Found(problem, 27, "config-key", f"{problem.subject} is gone", None)


def _entries(bound: Binding | None) -> dict[str, str]:
    """The string keys of a dict literal, with their values as text."""
    table = getattr(bound.node, "value", None) if bound else None
    pairs = zip(table.keys, table.values, strict=True) if isinstance(table, ast.Dict) else ()
    return {str(key.value): ast.unparse(value) for key, value in pairs if isinstance(key, ast.Constant)}


def _abstract(merge: Merge, problem: Problem) -> Found | None:
    """A class that cannot be instantiated any more; none that only others derive from."""
    name = problem.subject
    lines = [line.strip() for line in merge.merged.tree.grep_lines(rf"\b{name}\b")]
    derived = any(re.match(rf"class \w+\(.*\b{name}\b", line) for line in lines)
    made = any(re.search(rf"\b{name}\(", line) and not line.startswith("class ") for line in lines)
    if derived and not made:
        return None
    return Found(
        problem, 8, "abstract", f"{problem.subject} does not implement {problem.target[1]}, now abstract", None
    )


def _override(merge: Merge, problem: Problem) -> Found:
    kind, name = problem.detail
    base, _, method = problem.target[1].rpartition(".")
    if kind == "missing":
        told = f"needs {name!r}, which callers of {base}.{method}() do not pass"
    elif kind == "unexpected":
        told = f"takes no {name!r}, which callers of {base}.{method}() pass now"
    else:
        told = f"takes only {name} positional arguments; callers of {base}.{method}() pass more now"
    return Found(problem, 9, "override", f"{problem.subject}() {told}", None)


def _orphan(merge: Merge, problem: Problem) -> Found | None:
    """A method that overrode something; only where that has got another name."""
    name = problem.target[1].rpartition(".")[2]
    for side in (merge.base, merge.ours, merge.theirs):
        for path, owner in _bases(side, problem):
            went = where_went(merge, path, f"{owner}.{name}")
            if definition(side, path, f"{owner}.{name}") is not None and went.kind == "renamed":
                new = went.name.rpartition(".")[2]
                if not _is_called_on_any(merge, new, problem.path):
                    return None
                problem = problem._replace(target=(path, f"{owner}.{name}"))
                fix = Fix("definition", 9, problem.path, problem.line, problem.column, name, new)
                told = f"{problem.subject} overrides {owner}.{name}, which is now {new}"
                return Found(problem, 9, "override", told, fix)
    return None


def _is_called_on_any(merge: Merge, method: str, apart: str) -> bool:
    """Whether a changed file calls a method on ``self`` or on what it was given: overrides are meant as well."""
    for path in sorted(differing(merge.base.tree, merge.merged.tree) - {apart}):
        module = merge.merged.tree.module(path)
        for function in ast.walk(module.tree) if module else ():
            if isinstance(function, Function):
                given = {one.arg for one in ast.walk(function.args) if isinstance(one, ast.arg)}
                loops = (one.target for one in ast.walk(function) if isinstance(one, ast.For))
                given |= {one.id for one in loops if isinstance(one, ast.Name)}
                uses = (one for one in ast.walk(function) if isinstance(one, ast.Attribute) and one.attr == method)
                if any(isinstance(one.value, ast.Name) and one.value.id in given for one in uses):
                    return True
    return False


def _bases(world: World, problem: Problem) -> list[tuple[str, str]]:
    value = world.lookup(problem.path, problem.scope)
    if value.kind != "class":
        value = world.lookup(*problem.target[:1], problem.target[1].rpartition(".")[0])
        return [(one.path, one.name) for one in world.ancestry(value).classes] if value.kind == "class" else []
    return [(one.path, one.name) for one in world.ancestry(value).classes[1:]]


def _request(merge: Merge, problem: Problem) -> Found:
    """A fixture that is not there any more."""
    name = problem.subject
    for side in (merge.base, merge.ours, merge.theirs):
        for path in side.tree.suites.conftest_chain(problem.path, side.tree.files.__contains__):
            if definition(side, path, name) is not None:
                problem = problem._replace(target=(path, name))
                went = where_went(merge, path, name)
                if went.kind == "renamed":
                    at = (problem.path, problem.line, problem.column)
                    fix = Fix("request", 25, *at, name, went.name)
                    return Found(problem, 25, "fixture", f"fixture {name} is now {went.name}", fix)
                return Found(problem, 25, "fixture", f"fixture {name} is gone", None)
    return Found(problem, 25, "fixture", f"fixture {name} is gone", None)


def _registry(merge: Merge, problem: Problem) -> Found:
    return Found(problem, 11, "registry", f"{problem.subject}: {problem.detail[0]}", None)


_EXPLAINERS: dict[str, Callable[[Merge, Problem], Found | None]] = {
    "abstract": _abstract,
    "override": _override,
    "orphan": _orphan,
    "request": _request,
    "registry": _registry,
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
