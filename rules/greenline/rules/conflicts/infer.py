"""What an expression means: the module, class or function it names, or the class that its value is an instance of.

Only what syntax proves counts. A name that is bound twice, a base class from elsewhere, a computed attribute: all of
these are UNKNOWN, and nobody is told anything about what is unknown. MISSING means: it is proven not to be there.
"""

from __future__ import annotations

import ast
import enum
from collections.abc import Iterator
from typing import NamedTuple

from greenline.depgraph.blocks import leaf
from greenline.depgraph.fixtures import FileFixtures
from greenline.rules.conflicts.library import library_class, may_have
from greenline.rules.conflicts.modules import Binding, Function, Members, local_bindings, members
from greenline.rules.conflicts.tree import Tree


class Value(NamedTuple):
    """What a name or an expression stands for.

    ``kind``: "module", "class", "function", "property", "instance" (of the class ``node``), "value" (it exists, no
    more is known), "missing", "weak" (missing, unless a base class from elsewhere or a method sets it) or "unknown".
    ``path`` and ``name``: where it is defined and its qualified name there (for "missing": where it should be).
    ``bound``: the function's first parameter is given.
    """

    kind: str
    path: str = ""
    name: str = ""
    node: ast.AST | None = None
    bound: bool = False


UNKNOWN = Value("unknown")
EXISTS = Value("value")
DEPTH = 8
"""Steps from an expression to what it means; beyond, it is unknown."""

_MODULE_ATTRIBUTES = frozenset(
    """__name__ __file__ __doc__ __path__ __dict__ __spec__ __loader__ __package__ __cached__ __annotations__
    __all__ __class__""".split()  # noqa: SIM905
)
_PLAIN_DECORATORS = frozenset(
    ("dataclass", "total_ordering", "final", "unique", "runtime_checkable", "define", "frozen", "attrs")
)


class Class(NamedTuple):
    """One class of a method resolution order: where it is, its syntax, its own members."""

    path: str
    name: str
    node: ast.ClassDef
    members: Members


class Ancestry(NamedTuple):
    """A class and its bases in the order in which attributes are looked up; ``outside``: bases that are not in the
    repository, as objects of this Python where they are known; ``open``: others may be among them."""

    classes: list[Class]
    outside: list[object]
    open: bool


class World:
    """Answers about one tree; everything is found on demand and kept."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._ancestries: dict[tuple[str, int], Ancestry] = {}
        self._fixtures: dict[str, FileFixtures] = {}

    def fixtures(self, path: str) -> FileFixtures:
        """What a file defines and requests, as pytest sees it; nothing for a file that is not there."""
        if path not in self._fixtures:
            oid, names = self.tree.files.get(path), self.tree.suites.names_of_tests(path)
            self._fixtures[path] = FileFixtures() if oid is None else self.tree.blobs.fixtures(oid, names)
        return self._fixtures[path]

    # -- names of modules --------------------------------------------------------------------------------

    def lookup(self, path: str, name: str, seen: frozenset[tuple[str, str]] = frozenset()) -> Value:
        """What a module's attribute is."""
        module = self.tree.module(path)
        if module is None or (path, name) in seen:
            return UNKNOWN
        seen |= {(path, name)}
        if found := module.names.get(name):
            return self._of_bindings(path, name, found, seen)
        if path.endswith("/__init__.py") and (submodule := self._submodule(path, name)):
            return submodule
        for star in module.stars:
            files = self.tree.find(star, path)
            value = self.lookup(files[0], name, seen) if len(files) == 1 else UNKNOWN
            if value.kind != "missing":
                return value
        if module.open or name in (module.answers or ()) or name in _MODULE_ATTRIBUTES:
            return UNKNOWN
        return Value("missing", path, name)

    def _submodule(self, path: str, name: str) -> Value | None:
        folder = path.removesuffix("__init__.py")
        for candidate in (f"{folder}{name}/__init__.py", f"{folder}{name}.py"):
            if candidate in self.tree.files:
                return Value("module", candidate, self.tree.dotted(candidate))
        return None

    def _of_bindings(self, path: str, name: str, found: list[Binding], seen: frozenset[tuple[str, str]]) -> Value:
        if len(found) > 1 and not all(one.kind == "function" for one in found):
            values = [self.of_binding(path, name, one, seen) for one in found if one.kind != "value"]
            present = [one for one in values if one.kind not in ("missing", "unknown")]
            if not present and values and len(values) == len(found) and all(one.kind == "missing" for one in values):
                return values[0]
            return EXISTS
        return self.of_binding(path, name, found[-1], seen)

    def of_binding(
        self, path: str, name: str, binding: Binding, seen: frozenset[tuple[str, str]] = frozenset()
    ) -> Value:
        """What one binding of a module or function gives."""
        if binding.kind == "import":
            return self.imported(path, binding.module, binding.name, seen)
        if binding.kind == "module":
            files = self.tree.find(binding.module, path)
            if len(files) == 1:
                return Value("module", files[0], binding.module)
            return Value("module", "", binding.module) if not files and self._is_ours(binding.module, path) else UNKNOWN
        return Value(binding.kind, path, name, binding.node)

    def _is_ours(self, module: str, path: str) -> bool:
        return self.tree.is_package(module, path)

    def imported(self, path: str, module: str, name: str, seen: frozenset[tuple[str, str]] = frozenset()) -> Value:
        """What ``from module import name`` in a file gives."""
        files = self.tree.find(module, path)
        if len(files) == 1:
            return self.lookup(files[0], name, seen)
        if not files:
            separator = "" if module.endswith(".") else "."
            inner = self.tree.find(f"{module}{separator}{name}", path)
            if len(inner) == 1:
                return Value("module", inner[0], f"{module}{separator}{name}")
        return UNKNOWN

    # -- classes -----------------------------------------------------------------------------------------

    def ancestry(self, value: Value, depth: int = 0) -> Ancestry:
        """A class and everything that it inherits from."""
        assert isinstance(value.node, ast.ClassDef)
        key = (value.path, id(value.node))
        if key in self._ancestries:
            return self._ancestries[key]
        found = Ancestry([], [], depth > DEPTH)
        self._ancestries[key] = found
        mine = Class(value.path, value.name, value.node, members(value.node))
        classes = [mine]
        outside: list[object] = []
        is_open = depth > DEPTH or mine.members.settable or not _is_plain(value.node)
        module = Scope(self, value.path)
        for base in value.node.bases:
            target = module.evaluate(base.value if isinstance(base, ast.Subscript) else base)
            if target.kind == "class":
                inner = self.ancestry(target, depth + 1)
                names = {(one.path, one.name) for one in inner.classes}
                classes = [one for one in classes if (one.path, one.name) not in names] + inner.classes
                outside += inner.outside
                is_open |= inner.open
            else:
                known = self._library(value.path, base)
                outside += [known] if known is not None else []
                is_open |= known is None
        for keyword in value.node.keywords:
            known = self._library(value.path, keyword.value) if keyword.arg == "metaclass" else object
            is_open |= known is None
        result = Ancestry(classes, outside, is_open)
        self._ancestries[key] = result
        return result

    def _library(self, path: str, node: ast.expr) -> object | None:
        """The class of the standard library that a base names."""
        if isinstance(node, ast.Subscript):
            return self._library(path, node.value)
        module = self.tree.module(path)
        if module is None:
            return None
        name = leaf(node)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            origins = {one.module for one in module.names.get(node.value.id, ())}
        elif isinstance(node, ast.Name):
            bound = module.names.get(node.id)
            origins = {one.module for one in bound} if bound else {"builtins"}
            name = bound[-1].name if bound else name
        else:
            return None
        return library_class(origins.pop(), name) if len(origins) == 1 else None

    def class_member(self, owner: Value, name: str, after: int = 0) -> tuple[Class, Binding] | str:
        """Where a class or one of its bases binds a name: the class and the binding; else "self" (methods set it),
        "outside" (a known base of the standard library has it), "missing", "weak" or "unknown", as in `Value`."""
        ancestry = self.ancestry(owner)
        for one in ancestry.classes[after:]:
            if found := one.members.names.get(name):
                return one, found[-1]
        if any(name in one.members.on_self for one in ancestry.classes):
            return "self"
        if any(may_have(base, name) for base in ancestry.outside) or hasattr(object, name):
            return "outside"
        # __getattr__ answers for instances only, not for the class itself.
        answers = owner.kind != "class" and any(one.members.open for one in ancestry.classes)
        if ancestry.open and not answers:
            return "weak"
        if answers or name in ("__dict__", "__weakref__", "__annotations__", "__members__", "name", "value"):
            return "unknown"
        if name in dir(type) or name in ("_fields", "_asdict", "_replace", "_make", "__dataclass_fields__"):
            return "unknown"
        return "missing"

    def is_enum(self, owner: Value) -> bool:
        return any(isinstance(base, enum.EnumMeta) for base in self.ancestry(owner).outside)

    def attribute(self, base: Value, name: str, depth: int = 0) -> Value:
        """What ``base.name`` is."""
        if base.kind == "module":
            if base.path:
                return self.lookup(base.path, name)
            files = [path for path in self.tree.find(f"{base.name}.{name}", "") if path]
            if len(files) == 1:
                return Value("module", files[0], f"{base.name}.{name}")
            return Value("module", "", f"{base.name}.{name}") if self._is_ours(f"{base.name}.{name}", "") else UNKNOWN
        if base.kind not in ("class", "instance", "super") or not isinstance(base.node, ast.ClassDef):
            return UNKNOWN
        found = self.class_member(base, name, after=base.kind == "super")
        if found in ("missing", "weak"):
            return Value(str(found), base.path, f"{base.name}.{name}")
        if found == "self":
            return self._set_on_self(base, name, depth) if base.kind == "instance" else UNKNOWN
        if isinstance(found, str):
            return UNKNOWN
        owner, binding = found
        return self._member(base, owner, name, binding, depth)

    def _member(self, base: Value, owner: Class, name: str, binding: Binding, depth: int) -> Value:
        qualified = f"{owner.name}.{name}"
        if binding.kind == "function" and isinstance(binding.node, Function):
            marks = {leaf(one) for one in binding.node.decorator_list}
            if marks & {"property", "cached_property", "abstractproperty", "setter", "getter", "deleter"}:
                return Value("property", owner.path, qualified, binding.node)
            bound = "staticmethod" in marks or "classmethod" in marks or base.kind in ("instance", "super")
            return Value("function", owner.path, qualified, binding.node, bound and "staticmethod" not in marks)
        if binding.kind == "value" and self.is_enum(base):
            return Value("instance", base.path, base.name, base.node) if base.kind == "class" else UNKNOWN
        if isinstance(binding.node, ast.AnnAssign) and base.kind == "instance":
            return Scope(self, owner.path).annotated(binding.node.annotation, depth + 1, EXISTS)
        return Value(binding.kind, owner.path, qualified, binding.node)

    def returned(self, callee: Value, depth: int = 0) -> Value:
        """What a call of a function gives: by its annotation, else by its only return statement."""
        node = callee.node
        if not isinstance(node, Function) or depth > DEPTH:
            return UNKNOWN
        owner = self.owner_of(callee)
        scope = Scope(self, callee.path, node, owner)
        if node.returns is not None:
            if leaf(node.returns) == "Self" and owner is not None:
                return owner._replace(kind="instance")
            return scope.annotated(node.returns, depth)
        results = [one.value for one in own_nodes(node) if isinstance(one, ast.Return)]
        if len(results) == 1 and results[0] is not None and not is_generator(node):
            value = scope.evaluate(results[0], depth)
            return value if value.kind == "instance" else UNKNOWN
        return UNKNOWN

    def owner_of(self, function: Value) -> Value | None:
        """The class of a method; None for a function."""
        owner, _, _ = function.name.rpartition(".")
        found = self.lookup(function.path, owner) if owner else UNKNOWN
        return found if found.kind == "class" else None

    def _set_on_self(self, base: Value, name: str, depth: int) -> Value:
        """The type of an attribute that exactly one statement in the methods of a class sets."""
        found = [
            (owner, function, statement)
            for owner in self.ancestry(base).classes
            for function, statement in owner.members.on_self.get(name, ())
        ]
        if len(found) != 1 or depth > DEPTH:
            return EXISTS
        owner, function, statement = found[0]
        scope = Scope(self, owner.path, function, Value("class", owner.path, owner.name, owner.node))
        if isinstance(statement, ast.AnnAssign):
            return scope.annotated(statement.annotation, depth + 1, EXISTS)
        assert isinstance(statement, ast.Assign)
        value = scope.evaluate(statement.value, depth + 1)
        return value if value.kind == "instance" else EXISTS


def _is_plain(node: ast.ClassDef) -> bool:
    return all(leaf(one) in _PLAIN_DECORATORS for one in node.decorator_list)


class Scope:
    """The names that code in a module, or in a function of it, sees."""

    def __init__(
        self,
        world: World,
        path: str,
        function: Function | None = None,
        owner: Value | None = None,
        parent: Scope | None = None,
    ) -> None:
        self.world = world
        self.path = path
        self.function = function
        self.owner = owner  # the class whose method this is
        self.parent = parent
        self.names: dict[str, list[Binding]] = {}
        self.arguments: dict[str, ast.arg] = {}
        if function is not None:
            arguments = function.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            self.arguments = {one.arg: one for one in every}
            self.first = every[0].arg if every else ""
            self.closed = {one.arg for one in (arguments.vararg, arguments.kwarg) if one}
            self.names = local_bindings(function)

    def evaluate(self, node: ast.expr, depth: int = 0) -> Value:
        """What an expression is."""
        if depth > DEPTH:
            return UNKNOWN
        match node:
            case ast.Name():
                return self.typed(self.name(node.id, depth), depth)
            case ast.Attribute():
                return self.typed(self.world.attribute(self.evaluate(node.value, depth + 1), node.attr, depth), depth)
            case ast.Call():
                return self._called(node, depth)
            case ast.Await():
                return self.evaluate(node.value, depth + 1)
            case ast.NamedExpr():
                return self.evaluate(node.value, depth + 1)
        return UNKNOWN

    def name(self, name: str, depth: int = 0) -> Value:
        """What a name is here; "missing" is never told, see :func:`.scopes.undefined` for that."""
        scope: Scope | None = self
        while scope is not None and scope.function is not None:
            if name in scope.arguments or name in scope.closed or name in scope.names:
                return scope._local(name, depth)
            scope = scope.parent
        return self.world.lookup(self.path, name)

    def _local(self, name: str, depth: int) -> Value:
        found = self.names.get(name, [])
        if name in self.arguments and not found:
            return self._argument(self.arguments[name], depth)
        if len(found) != 1 or name in self.arguments or name in self.closed:
            return UNKNOWN
        binding = found[0]
        if binding.kind in ("import", "module"):
            return self.world.of_binding(self.path, name, binding)
        return self._assigned(name, binding.node, depth) if binding.kind == "value" else UNKNOWN

    def _assigned(self, name: str, node: ast.AST, depth: int) -> Value:
        if isinstance(node, ast.AnnAssign):
            return self.annotated(node.annotation, depth + 1)
        if isinstance(node, ast.Assign) and all(isinstance(target, ast.Name) for target in node.targets):
            value = self.evaluate(node.value, depth + 1)
            return value if value.kind != "missing" else UNKNOWN
        if isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                if isinstance(item.optional_vars, ast.Name) and item.optional_vars.id == name:
                    return self._entered(self.evaluate(item.context_expr, depth + 1), depth)
        return UNKNOWN

    def _entered(self, manager: Value, depth: int) -> Value:
        """What ``with manager as x`` gives, for classes whose ``__enter__`` returns themselves."""
        if manager.kind == "instance":
            for name in ("__enter__", "__aenter__"):
                enter = self.world.attribute(manager, name)
                if isinstance(enter.node, Function):
                    returned = [one.value for one in ast.walk(enter.node) if isinstance(one, ast.Return)]
                    if returned and all(isinstance(one, ast.Name) and one.id == "self" for one in returned):
                        return manager
        return UNKNOWN

    def _argument(self, argument: ast.arg, depth: int) -> Value:
        if self.owner is not None and argument.arg == self.first and self.function is not None:
            marks = {leaf(one) for one in self.function.decorator_list}
            if "staticmethod" not in marks:
                kind = "class" if "classmethod" in marks or self.function.name == "__new__" else "instance"
                return self.owner._replace(kind=kind)
        return self.annotated(argument.annotation, depth + 1) if argument.annotation else UNKNOWN

    def annotated(self, node: ast.expr, depth: int = 0, default: Value = UNKNOWN) -> Value:
        """An instance of the class that an annotation names: ``C``, ``"C"``, ``C | None``, ``Optional[C]``."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                node = ast.parse(node.value, mode="eval").body
            except (SyntaxError, ValueError):
                return default
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            sides = [side for side in (node.left, node.right) if not _is_none(side)]
            return self.annotated(sides[0], depth, default) if len(sides) == 1 else default
        if isinstance(node, ast.Subscript) and leaf(node.value) in ("Optional", "Annotated", "Final"):
            inner = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) else node.slice
            return self.annotated(inner, depth, default)
        if depth > DEPTH or not isinstance(node, ast.Name | ast.Attribute):
            return default
        target = self.evaluate(node, depth + 1)
        return target._replace(kind="instance") if target.kind == "class" else default

    def _called(self, node: ast.Call, depth: int) -> Value:
        if isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args and self.owner is not None:
            return self.owner._replace(kind="super")
        callee = self.evaluate(node.func, depth + 1)
        if callee.kind == "class":
            return callee._replace(kind="instance")
        if callee.kind != "function" or not isinstance(callee.node, Function):
            return UNKNOWN
        return self.world.returned(callee, depth + 1)

    def typed(self, value: Value, depth: int) -> Value:
        """For a module's or a class's variable, and for a property, the type of what it holds where that is plain."""
        if value.kind == "value" and isinstance(value.node, ast.Assign | ast.AnnAssign) and "." not in value.name:
            scope = Scope(self.world, value.path)
            inner = scope._assigned(value.name, value.node, depth + 1)
            return inner if inner.kind in ("instance", "class", "module", "function") else value
        if value.kind == "property" and depth < DEPTH:
            inner = self.world.returned(value, depth + 1)
            return inner if inner.kind == "instance" else value
        return value


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function's body, without those of functions and classes in it."""
    todo: list[ast.AST] = list(getattr(function, "body", []))
    while todo:
        node = todo.pop(0)
        yield node
        if not isinstance(node, Function | ast.ClassDef | ast.Lambda):
            todo[:0] = ast.iter_child_nodes(node)


def is_generator(function: ast.AST) -> bool:
    return any(isinstance(node, ast.Yield | ast.YieldFrom) for node in own_nodes(function))
