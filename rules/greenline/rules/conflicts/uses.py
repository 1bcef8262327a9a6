"""What in one file cannot work in one tree: imports, names, attributes and calls whose definition is not (as) there.

A problem alone means little: a file may have had it for years behind a condition that syntax does not show. Only a
problem of the merged tree that neither side has is a conflict; :mod:`.find` compares.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from greenline.depgraph.blocks import leaf
from greenline.rules.conflicts.dotted import DOTTED, PATCHING, resolve_dotted
from greenline.rules.conflicts.infer import Scope, Value, World, is_generator
from greenline.rules.conflicts.modules import Function, bindings, is_near
from greenline.rules.conflicts.problem import Fact, Problem
from greenline.rules.conflicts.results import dict_keys, is_handed_on, shape_of, used_as
from greenline.rules.conflicts.signatures import mismatches, of_value, positional_names

_BUILTINS = frozenset(dir(builtins)) | {"__file__", "__name__", "__doc__", "__path__", "__class__", "__builtins__"}
_FAILURES = {
    "import": {"ImportError", "ModuleNotFoundError"},
    "module": {"ImportError", "ModuleNotFoundError"},
    "attribute": {"AttributeError"},
    "name": {"NameError"},
    "call": {"TypeError"},
    "string": {"ImportError", "ModuleNotFoundError", "AttributeError"},
}
_NOT_RUN = frozenset(("skip", "skipif", "skipIf", "skipUnless", "xfail", "expectedFailure"))
ALWAYS = frozenset(("import", "object", "setattr", "delattr", "spy", "partial", "partialmethod"))
"""Words of lines that are read whether they spell a changed name or not."""
_PLATFORM = frozenset(("platform", "version_info", "PY2", "PY3", "TYPE_CHECKING", "implementation"))


def read_uses(
    world: World, path: str, words: frozenset[str], lines: Sequence[int] | None = None
) -> tuple[list[Problem], list[Fact]]:
    """What fails in a file of the world's tree, and how its calls fit, as far as it spells one of these words; and in
    statements that have one of these lines, where they are given."""
    module = world.tree.module(path)
    if module is None:
        return [], []
    lines = module.lines_with(words | ALWAYS) if lines is None else lines
    finder = _Finder(world, path, module.tree, words, lines)
    finder.body(module.tree.body)
    return finder.problems, finder.facts


class _Finder:
    def __init__(self, world: World, path: str, tree: ast.Module, words: frozenset[str], lines: Sequence[int]) -> None:
        self.world, self.path, self.words, self.lines = world, path, words, lines
        self.problems: list[Problem] = []
        self.facts: list[Fact] = []
        self.scope = Scope(world, path)
        self.owner: Value | None = None
        self.around: list[str] = []
        self.class_names: set[str] = set()
        self.caught: list[str] = []
        self.asked: list[str] = []
        self.parents: list[ast.AST] = []
        self.lazy_annotations = any(
            isinstance(node, ast.ImportFrom) and node.module == "__future__" and node.names[0].name == "annotations"
            for node in tree.body
        )

    # -- statements --------------------------------------------------------------------------------------

    def body(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            if is_near(statement, self.lines):
                self.visit(statement)
            if isinstance(statement, ast.Return | ast.Raise | ast.Continue | ast.Break):
                return  # what follows never runs

    def visit(self, node: ast.AST) -> None:
        self.parents.append(node)
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._function(node)
            case ast.ClassDef():
                self._class(node)
            case ast.If():
                self._if(node)
            case ast.Try() | ast.TryStar():
                self._try(node)
            case ast.With() | ast.AsyncWith():
                self._with(node)
            case ast.ImportFrom():
                self._import_from(node)
            case ast.Import():
                self._import(node)
            case ast.AnnAssign():
                self._children([node.target, *([node.value] if node.value else [])])
                self._annotation(node.annotation)
            case ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                with self._inner_names(node):
                    self._children(ast.iter_child_nodes(node))
            case ast.BoolOp():
                with self._asking(node):
                    self._children(node.values)
            case ast.IfExp():
                with self._asking(node.test):
                    self._children([node.test, node.body, node.orelse])
            case _:
                self._expression(node)
                for field, value in ast.iter_fields(node):
                    if field in ("body", "orelse", "finalbody") and isinstance(value, list):
                        self.body(value)
                    else:
                        self._children(value if isinstance(value, list) else [value])
        self.parents.pop()

    def _children(self, nodes: Iterable[object]) -> None:
        for node in nodes:
            if isinstance(node, ast.AST):
                self.visit(node)

    @contextmanager
    def _inner_names(self, node: ast.AST) -> Iterator[None]:
        """The names that a lambda or comprehension binds for itself: unknown values."""
        outer = self.scope
        function = ast.FunctionDef(
            name="", args=ast.arguments([], [], None, [], [], None, []), body=[], decorator_list=[]
        )
        inner = Scope(self.world, self.path, function, None, outer)
        if isinstance(node, ast.Lambda):
            arguments = node.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
            inner.closed = {one.arg for one in every if one is not None}
        else:
            inner.closed = {
                part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
            }
        self.scope = inner
        yield
        self.scope = outer

    @contextmanager
    def _asking(self, test: ast.AST) -> Iterator[None]:
        """Inside, names for which ``test`` asks with hasattr, or looks into globals() or __dict__, may be missing."""
        names = [
            part.value
            for call in ast.walk(test)
            if isinstance(call, ast.Call | ast.Compare) and (isinstance(call, ast.Compare) or leaf(call) == "hasattr")
            for part in ast.walk(call)
            if isinstance(part, ast.Constant) and isinstance(part.value, str)
        ]
        self.asked += names
        yield
        del self.asked[len(self.asked) - len(names) :]

    def _function(self, node: Function) -> None:
        marks = {leaf(one) for one in node.decorator_list}
        self._children(node.decorator_list)
        self._children([*node.args.defaults, *node.args.kw_defaults])
        arguments = node.args
        for one in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]:
            if one is not None and one.annotation is not None:
                self._annotation(one.annotation)
        if node.returns is not None:
            self._annotation(node.returns)
        if marks & _NOT_RUN or "overload" in marks:
            return
        outer = self.scope, self.owner, self.class_names
        owner = self.owner if self.parents[-2:-1] and isinstance(self.parents[-2], ast.ClassDef) else None
        self.scope = Scope(self.world, self.path, node, owner or self._method_owner(), self.scope)
        self.class_names = set()
        self.around.append(node.name)
        self.body(node.body)
        self.around.pop()
        self.scope, self.owner, self.class_names = outer

    def _method_owner(self) -> Value | None:
        """For a function in a method: super() works there as well, but its first parameter is its own."""
        return None

    def _class(self, node: ast.ClassDef) -> None:
        self._children([*node.decorator_list, *node.bases, *(one.value for one in node.keywords)])
        if {leaf(one) for one in node.decorator_list} & _NOT_RUN:
            return
        outer = self.owner, self.class_names
        name = ".".join([*self.around, node.name])
        self.owner = Value("class", self.path, name, node) if self.scope.function is None else None
        self.class_names = {name for name, _ in bindings(node.body)}
        self.around.append(node.name)
        self.body(node.body)
        self.around.pop()
        self.owner, self.class_names = outer

    def _if(self, node: ast.If) -> None:
        names = {getattr(part, "id", getattr(part, "attr", "")) for part in ast.walk(node.test)}
        if names & _PLATFORM or (isinstance(node.test, ast.Constant) and not node.test.value):
            if "TYPE_CHECKING" in names or isinstance(node.test, ast.Constant):
                self.body(node.orelse)
            return
        self.visit(node.test)
        with self._asking(node.test):
            self.body(node.body)
            self.body(node.orelse)

    def _try(self, node: ast.Try | ast.TryStar) -> None:
        caught = [name for handler in node.handlers for name in _caught(handler)]
        self.caught += caught
        self.body(node.body)
        del self.caught[len(self.caught) - len(caught) :]
        importing = {"ImportError", "ModuleNotFoundError", "AttributeError"}.intersection(caught)
        self.caught += sorted(importing)  # the fallback is for another world
        for handler in node.handlers:
            self._children([handler.type])
            self.body(handler.body)
        del self.caught[len(self.caught) - len(importing) :]
        self.body(node.orelse)
        self.body(node.finalbody)

    def _with(self, node: ast.With | ast.AsyncWith) -> None:
        caught = []
        for item in node.items:
            self.visit(item.context_expr)
            if item.optional_vars is not None:
                self.visit(item.optional_vars)
            if isinstance(item.context_expr, ast.Call) and leaf(item.context_expr) in (
                "suppress", "raises", "assertRaises", "assertRaisesRegex", "deprecated_call",
            ):  # fmt: skip
                caught += [
                    leaf(part) for part in ast.walk(item.context_expr) if isinstance(part, ast.Name | ast.Attribute)
                ]
        self.caught += caught
        self.body(node.body)
        del self.caught[len(self.caught) - len(caught) :]

    def _annotation(self, node: ast.expr) -> None:
        if not self.lazy_annotations:
            self.visit(node)

    # -- imports -----------------------------------------------------------------------------------------

    def _import_from(self, node: ast.ImportFrom) -> None:
        module = "." * node.level + (node.module or "")
        files = self.world.tree.find(module, self.path)
        if not files and not self.world.tree.is_package(module, self.path):
            self._missing_module(module, node)
            return
        for alias in node.names:
            if alias.name == "*":
                continue
            value = self.world.imported(self.path, module, alias.name)
            if value.kind == "missing":
                self._add("import", alias, _joined(module, alias.name), value)
            elif not files and value.kind == "unknown":
                name = _joined(module, alias.name)
                if not self.world.tree.is_package(name, self.path):
                    self._missing_module(name, alias)

    def _import(self, node: ast.Import) -> None:
        for alias in node.names:
            if not self.world.tree.find(alias.name, self.path) and not self.world.tree.is_package(
                alias.name, self.path
            ):
                self._missing_module(alias.name, alias)

    def _missing_module(self, module: str, node: ast.AST) -> None:
        """Another library, perhaps: a conflict only where a side finds the module in the repository."""
        self._add("module", node, module, Value("missing", "", module))

    # -- expressions -------------------------------------------------------------------------------------

    def _expression(self, node: ast.AST) -> None:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            if node.id in self.words:
                self._name(node)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            if node.attr in self.words:
                self._attribute(node)
        elif isinstance(node, ast.Call):
            if leaf(node.func) in self.words:
                self._call(node)
            else:
                self._patched_attribute(node)
                self._partial(node)
        elif isinstance(node, ast.Subscript):
            self._subscript(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            self._dotted(node, node.value)

    def _dotted(self, node: ast.Constant, text: str) -> None:
        """A string that spells a module, or something in one: a mock target, a setting."""
        parent = self.parents[-2] if len(self.parents) > 1 else None
        called = leaf(parent.func) if isinstance(parent, ast.Call) else ""
        if called in ("importorskip", "getLogger") or not DOTTED.fullmatch(text):
            return
        if self.words.isdisjoint(text.replace(":", ".").split(".")):
            return
        if isinstance(parent, ast.Expr) or (isinstance(parent, ast.keyword) and parent.arg == "logger"):
            return
        value = resolve_dotted(self.world, text.replace(":", "."), self.path)
        if value.kind == "missing" and not _is_lenient(parent):
            detail = ("patched",) if called in PATCHING else ("named",)
            self._add("string", node, text.replace(":", "."), value, detail)

    def _patched_attribute(self, node: ast.Call) -> None:
        """``patch.object(thing, "name")`` and ``monkeypatch.setattr(thing, "name", …)``."""
        if len(node.args) < 2 or _is_lenient(node) or leaf(node.func) not in ("object", "setattr", "delattr", "spy"):
            return
        name = node.args[1]
        base = self.scope.evaluate(node.args[0])
        if (
            isinstance(name, ast.Constant)
            and isinstance(name.value, str)
            and base.kind in ("module", "class", "instance")
        ):
            value = self.world.attribute(base, name.value)
            if value.kind == "missing" and not self._is_builtin_setattr(node):
                self._add("string", name, f"{base.name}.{name.value}", value, ("patched",))

    def _is_builtin_setattr(self, node: ast.Call) -> bool:
        return isinstance(node.func, ast.Name)

    def _name(self, node: ast.Name) -> None:
        if node.id in _BUILTINS or node.id in self.class_names:
            return
        scope: Scope | None = self.scope
        while scope is not None and scope.function is not None:
            if node.id in scope.arguments or node.id in scope.closed or node.id in scope.names:
                return
            scope = scope.parent
        module = self.world.tree.module(self.path)
        if module is None or node.id in module.names:
            return
        value = self.world.lookup(self.path, node.id)
        if value.kind == "missing":
            self._add("name", node, node.id, value)

    def _attribute(self, node: ast.Attribute) -> None:
        base = self.scope.evaluate(node.value)
        if base.kind not in ("module", "class", "instance", "super"):
            return
        value = self.world.attribute(base, node.attr)
        if value.kind in ("missing", "weak"):
            perhaps = ("perhaps",) if value.kind == "weak" else ()
            self._add("attribute", node, f"{base.name}.{node.attr}", value, perhaps)
            return
        self._property(node, value)

    def _property(self, node: ast.Attribute, value: Value) -> None:
        """A method that became a property, or the reverse, is used in the old way."""
        if value.kind not in ("function", "property") or "." not in value.name:
            return
        parent = self.parents[-2] if len(self.parents) > 1 else None
        called = isinstance(parent, ast.Call) and parent.func is node
        problem = self._problem("property", node, value.name, value, (f"is now a {value.kind}",))
        self._fact(("property", *self.around, value.name, str(called)), (value.kind,), problem)

    def _call(self, node: ast.Call) -> None:
        self._patched_attribute(node)
        self._partial(node)
        callee = self.scope.evaluate(node.func)
        if callee.kind not in ("function", "class"):
            return
        signature = of_value(self.world, callee)
        if signature is not None and not self._is_shadowed(callee):
            for kind, name in mismatches(node, signature):
                self._add("call", node, callee.name, callee, (kind, name))
            names = positional_names(node, signature)
            if len(names) > 0 and callee.kind == "function":
                problem = self._problem("order", node, callee.name, callee)
                self._fact(("order", *self.around, callee.name, ast.unparse(node)), names, problem)
        if isinstance(callee.node, Function):
            self._result(node, callee)

    def _is_shadowed(self, callee: Value) -> bool:
        """Whether a decorator may give the function another signature: told apart by comparing, see `find`."""
        return isinstance(callee.node, Function) and bool(
            {leaf(one) for one in callee.node.decorator_list} & {"fixture", "singledispatch", "overload", "setter"}
        )

    def _partial(self, node: ast.Call) -> None:
        if leaf(node.func) in ("partial", "partialmethod") and node.args:
            callee = self.scope.evaluate(node.args[0])
            signature = of_value(self.world, callee) if callee.kind in ("function", "class") else None
            if signature is not None:
                rest = ast.Call(node.func, node.args[1:], node.keywords)
                for kind, name in mismatches(rest, signature, partial=True):
                    self._add("call", node, callee.name, callee, (kind, name))

    def _result(self, node: ast.Call, callee: Value) -> None:
        """What is done with the result: awaited, unpacked, indexed."""
        assert isinstance(callee.node, Function)
        parent = self.parents[-2] if len(self.parents) > 1 else None
        generator = is_generator(callee.node)
        if isinstance(callee.node, ast.AsyncFunctionDef) and not generator:
            if not is_handed_on(self.parents):
                self._add("await", node, callee.name, callee, ("is not awaited",))
        elif isinstance(parent, ast.Await) and not isinstance(callee.node, ast.AsyncFunctionDef):
            returns = ast.unparse(callee.node.returns) if callee.node.returns else ""
            if not any(word in returns for word in ("Await", "Corout", "Future", "Task", "Any")):
                self._add("await", node, callee.name, callee, ("is awaited, but not async",))
        if shape := shape_of(callee.node, generator):
            used = used_as(self.parents)
            if used:
                problem = self._problem("shape", node, callee.name, callee, (used, shape))
                self._fact(("shape", *self.around, callee.name, used), (shape,), problem)

    def _subscript(self, node: ast.Subscript) -> None:
        """``Color["RED"]``, and a constant key of a module's dict literal."""
        if (
            leaf(node.value) not in self.words
            or not isinstance(node.ctx, ast.Load)
            or not isinstance(node.slice, ast.Constant)
        ):
            return
        key = node.slice.value
        base = self.scope.evaluate(node.value)
        if not isinstance(key, str):
            return
        if base.kind == "class" and self.world.is_enum(base):
            if self.world.class_member(base, key) == "missing":
                value = Value("missing", base.path, f"{base.name}.{key}")
                self._add("attribute", node, f"{base.name}.{key}", value)
        elif base.kind == "value" and isinstance(base.node, ast.Assign | ast.AnnAssign):
            keys = dict_keys(base.node.value)
            if keys is not None and key not in keys:
                value = Value("missing", base.path, f"{base.name}[{key!r}]")
                self._add("key", node, f"{base.name}[{key!r}]", value)

    # -- results -----------------------------------------------------------------------------------------

    def _problem(self, kind: str, node: ast.AST, subject: str, value: Value, detail: tuple[str, ...] = ()) -> Problem:
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Attribute):
            line = node.end_lineno or line
        column = getattr(node, "col_offset", 0)
        scope = ".".join(self.around)
        return Problem(kind, self.path, line, column, scope, subject, (value.path, value.name), detail, node)

    def _is_guarded(self, kind: str, name: str) -> bool:
        expected = _FAILURES.get(kind, set())
        return name in self.asked or any(
            one in expected or one in ("Exception", "BaseException", "") for one in self.caught
        )

    def _add(self, kind: str, node: ast.AST, subject: str, value: Value, detail: tuple[str, ...] = ()) -> None:
        if not self._is_guarded(kind, value.name.rpartition(".")[2]):
            self.problems.append(self._problem(kind, node, subject, value, detail))

    def _fact(self, key: tuple[str, ...], value: tuple[str, ...], problem: Problem) -> None:
        if not self._is_guarded("call", ""):
            self.facts.append(Fact(key, value, problem))


def _is_lenient(node: ast.AST | None) -> bool:
    """Whether a patch says that its target need not exist."""
    keywords = node.keywords if isinstance(node, ast.Call) else []
    return any(one.arg in ("create", "raising") for one in keywords)


def _joined(module: str, name: str) -> str:
    return f"{module}{name}" if module.endswith(".") else f"{module}.{name}"


def _caught(handler: ast.ExceptHandler) -> list[str]:
    if handler.type is None:
        return [""]
    parts = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return [leaf(part) for part in parts]
