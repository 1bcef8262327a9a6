"""Pytest fixtures and who requests them, read from the syntax of each file without importing it.

`read_fixtures` gives one file's facts; they depend on its content alone, so that they can be cached by it.
`requesters` combines the facts of many files by pytest's rules: which tests use a fixture that changed?

What syntax cannot tell is answered with more tests, never fewer. A test is *dynamic* if what it requests cannot be known
(`getfixturevalue` of a computed name, a base class or decorator from another file); it counts as a user of every fixture that
it can see. So does a test that requests a fixture of an unknown plugin, which may request any other by name.
"""

from __future__ import annotations

import ast
import fnmatch
import posixpath
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple


class Fixture(NamedTuple):
    """A fixture as one scope of a file defines it."""

    name: str  # what tests request
    function: str  # qualified name of the function in its file; "" if it is built in an expression
    autouse: bool  # True also if it cannot be known
    scope: str
    requests: tuple[str, ...]
    scope_node: str  # the class below which it is visible, by qualified name; "" for the whole file
    dynamic: bool = False  # requests more than can be known
    certain: bool = True  # False: may be something else than a fixture


class TestItem(NamedTuple):
    """A test function or method, with all parameters; or a class or file whose tests cannot all be told."""

    __test__ = False  # pytest shall not take this class for tests

    node_id: str  # "test_x", "TestC::test_m", "TestC"; "" if only the file as a whole can surely be named
    requests: tuple[
        str, ...
    ]  # parameters, usefixtures of the function, its classes and module, getfixturevalue("x")
    dynamic: bool = False
    parametrized: tuple[str, ...] = ()  # names whose value comes from parametrize instead of a fixture
    classes: tuple[str, ...] = ()  # qualified names of the classes around it, innermost first


class FileFixtures(NamedTuple):
    """One file's facts. `mentions`: where names are requested dynamically, the strings that could be these names."""

    fixtures: tuple[Fixture, ...] = ()
    tests: tuple[TestItem, ...] = ()
    hooks: tuple[str, ...] = ()  # functions called pytest_*
    plugins: tuple[str, ...] = ()  # modules in pytest_plugins
    imports: tuple[
        tuple[str, str, str], ...
    ] = ()  # (local name or "*", module with its leading dots, name there or "*")
    mentions: tuple[str, ...] = ()
    opaque: bool = False  # does not parse: it may define and request anything

    def to_tuples(self) -> tuple[object, ...]:
        """The same as plain tuples, for marshal."""
        return (tuple(map(tuple, self.fixtures)), tuple(map(tuple, self.tests)), *self[2:])

    @classmethod
    def from_tuples(cls, plain: tuple[Iterable[tuple[object, ...]], ...]) -> FileFixtures:
        fixtures, tests, *rest = plain
        return cls(tuple(map(Fixture._make, fixtures)), tuple(map(TestItem._make, tests)), *rest)  # type: ignore[arg-type]


_Function = ast.FunctionDef | ast.AsyncFunctionDef

# Modules whose decorators, base classes and factories neither are fixtures nor request any.
_HARMLESS_MODULES = sys.stdlib_module_names | frozenset(
    ("aiohttp", "asynctest", "ddt", "django", "fastapi", "flask", "flask_testing", "freezegun", "hypothesis", "mock", "moto", "numpy",
     "pandas", "parameterized", "pydantic", "pytest", "requests_mock", "respx", "responses", "rest_framework", "sqlalchemy", "starlette",
     "testfixtures", "testtools", "time_machine", "tornado", "torch", "twisted", "werkzeug")
)  # fmt: skip
_HARMLESS_NAMES = frozenset(
    ("object", "staticmethod", "classmethod", "property", "Exception", "BaseException", "dict", "list", "tuple", "set", "str", "int", "type")
)  # fmt: skip
_LAZY = frozenset(("lazy_fixture", "lf", "lfc", "fixture_ref"))
_STEPS = frozenset(
    ("given", "when", "then", "step")
)  # pytest-bdd: their functions request and provide fixtures
_GENERATORS = frozenset(
    ("globals", "exec", "setattr", "vars", "scenarios")
)  # calls that can make tests and fixtures out of nothing


def read_fixtures(
    source: bytes, python_functions: Sequence[str] = ("test",), python_classes: Sequence[str] = ("Test",)
) -> FileFixtures:
    """The facts of one file. python_functions, python_classes: the suite's prefixes and globs, as in pytest's configuration."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return FileFixtures(opaque=True)
    return _Reader(tree, source, python_functions, python_classes).facts()


class _Marks:
    """What decorators and pytestmark say about a test."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.parametrized: set[str] = set()
        self.dynamic = False
        self.injected = 0  # leading parameters that mock.patch fills
        self.strategies: list[str] | int = (
            0  # parameters that hypothesis fills: by name, or the number of last ones
        )

    def __add__(self, other: _Marks) -> _Marks:
        total = _Marks()
        total.requests = [*self.requests, *other.requests]
        total.parametrized = self.parametrized | other.parametrized
        total.dynamic = self.dynamic or other.dynamic
        total.injected = self.injected + other.injected
        total.strategies = self.strategies or other.strategies
        return total


class _Class(NamedTuple):
    """A class of the file with what it inherits inside the file."""

    members: dict[str, tuple[_Function, str]]  # name → function, the class that defines it
    marks: _Marks
    unittest: bool
    unknown: bool  # has a base class from another file
    wanted: bool | None  # __test__


class _Reader:
    def __init__(
        self, tree: ast.Module, source: bytes, python_functions: Sequence[str], python_classes: Sequence[str]
    ) -> None:
        self.is_test_name = _name_matcher(python_functions)
        self.is_class_name = _name_matcher(python_classes)
        self.scan_bodies = b"getfixturevalue" in source or b"getfuncargvalue" in source
        self.tree = tree
        self.imports: dict[str, tuple[str, str]] = {}
        self.stars: list[str] = []
        self.functions: dict[str, _Function] = {}
        self.classes: dict[str, ast.ClassDef] = {}
        self.values: dict[str, ast.expr] = {}  # module-level assignments
        self.fixtures: list[Fixture] = []
        self.tests: list[TestItem] = []

    def facts(self) -> FileFixtures:
        statements = list(_statements(self.tree.body))
        for statement, _ in statements:
            self._bind(statement)
        module_marks = self._marks_of_body(self.tree.body)
        for statement, sure in statements:
            if isinstance(statement, _Function):
                self._function(statement, "", statement.name, module_marks, sure)
            elif isinstance(statement, ast.ClassDef):
                self._class(statement, (), module_marks, sure)
            elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value:
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                for target in targets:
                    if isinstance(target, ast.Name):
                        self._assignment(target.id, statement.value, "")
            elif isinstance(statement, ast.Expr) and self._generates(statement.value):
                self.stars.append("")
                self.tests.append(TestItem("", (), dynamic=True))
        for local, (module, original) in self.imports.items():
            if (
                (self.is_test_name(local) or self.is_class_name(local))
                and not self._is_harmless(local)
                and original
            ):
                self.tests.append(TestItem("", (), dynamic=True))
        imports = [
            (local, module, original) for local, (module, original) in self.imports.items() if original
        ]
        imports += [("*", module, "*") for module in self.stars]
        dynamic = any(item.dynamic for item in (*self.fixtures, *self.tests))
        return FileFixtures(
            tuple(self.fixtures),
            tuple(dict.fromkeys(self.tests)),
            tuple(name for name in self.functions if name.startswith("pytest_")),
            self._plugins(),
            tuple(imports),
            self._identifiers() if dynamic and self.scan_bodies else (),
        )

    def _bind(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.ImportFrom):
            module = "." * statement.level + (statement.module or "")
            for alias in statement.names:
                if alias.name == "*":
                    self.stars.append(module)
                else:
                    self.imports[alias.asname or alias.name] = (module, alias.name)
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                self.imports[alias.asname or alias.name.split(".")[0]] = (alias.name, "")
        elif isinstance(statement, _Function):
            self.functions[statement.name] = statement
        elif isinstance(statement, ast.ClassDef):
            self.classes[statement.name] = statement
        elif isinstance(statement, ast.Assign):
            self.values.update(
                (target.id, statement.value) for target in statement.targets if isinstance(target, ast.Name)
            )
        elif (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and statement.value
        ):
            self.values[statement.target.id] = statement.value

    # -- names

    def _last(self, node: ast.expr) -> str:
        """What a callee or decorator is called at its origin: `fixture` for `pytest.fixture` and for a renamed import."""
        if isinstance(node, ast.Call):
            return self._last(node.func)
        if isinstance(node, ast.Attribute):
            return node.attr
        if isinstance(node, ast.Name):
            return self.imports.get(node.id, ("", ""))[1] or node.id
        return ""

    def _is_harmless(self, name: str) -> bool:
        """Does this module-level name come from a module that has nothing to do with fixtures?"""
        if name in self.imports:
            return self.imports[name][0].split(".")[0] in _HARMLESS_MODULES
        return name in _HARMLESS_NAMES

    def _generates(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Call) and self._last(node) in _GENERATORS

    # -- fixtures

    def _fixture_options(self, node: ast.expr) -> list[ast.keyword] | None:
        """The keywords of `pytest.fixture`, `pytest.fixture(…)`, or an alias of them; None for anything else."""
        options = node.keywords if isinstance(node, ast.Call) else []
        callee = node.func if isinstance(node, ast.Call) else node
        name = self._last(callee)
        if name.lower().endswith("fixture") and name not in _LAZY:
            return options
        if name == "partial" and isinstance(node, ast.Call) and node.args:
            inner = self._fixture_options(node.args[0])
            return None if inner is None else inner + options
        if isinstance(callee, ast.Name) and callee.id in self.values and self.values[callee.id] is not node:
            value = self.values.pop(callee.id)  # taken out against cycles
            inner = self._fixture_options(value)
            self.values[callee.id] = value
            return None if inner is None else inner + options
        return None

    def _add_fixture(
        self,
        name: str,
        function: str,
        definition: ast.expr | _Function | None,
        options: list[ast.keyword],
        scope_node: str,
    ) -> None:
        values = {option.arg: option.value for option in options if option.arg}
        given_name = values.get("name")
        autouse = values.get("autouse", ast.Constant(False))
        scope = values.get("scope")
        requests: list[str] = []
        dynamic = any(option.arg is None for option in options)
        if isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            requests, dynamic = self._requests(definition, bool(scope_node), dynamic)
        else:
            dynamic = True
        if "params" in values:
            requests += self._lazy(values["params"])
        self.fixtures.append(
            Fixture(
                given_name.value
                if isinstance(given_name, ast.Constant) and isinstance(given_name.value, str)
                else name,
                function,
                bool(autouse.value) if isinstance(autouse, ast.Constant) else True,
                scope.value
                if isinstance(scope, ast.Constant) and isinstance(scope.value, str)
                else "function",
                tuple(dict.fromkeys(requests)),
                scope_node,
                dynamic,
            )
        )

    def _assignment(self, name: str, value: ast.expr, scope_node: str) -> None:
        """`x = pytest.fixture(f)`, `x = pytest.fixture(…)(f)`, `x = another_fixture`, `x = make_fixture(…)`."""
        if isinstance(value, ast.Call):
            options = self._fixture_options(value)
            if options is None and isinstance(value.func, ast.Call):
                options = self._fixture_options(value.func)
            if options is not None and value.args and self._last(value) != "partial":
                argument = value.args[0]
                definition = self.functions.get(argument.id) if isinstance(argument, ast.Name) else argument
                self._add_fixture(name, self._last(argument), definition, options, scope_node)
            elif options is None:
                if self.is_test_name(name):
                    self.tests.append(TestItem("", (), dynamic=True))
                elif not self._is_harmless(_root(value)):
                    self.fixtures.append(
                        Fixture(name, "", False, "function", (), scope_node, dynamic=True, certain=False)
                    )
        elif isinstance(value, ast.Name):
            if value.id in self.imports:
                self.imports.setdefault(name, self.imports[value.id])
            self.fixtures += [
                fixture._replace(name=name)
                for fixture in self.fixtures
                if fixture.name == value.id and fixture.scope_node == scope_node
            ]
        elif (
            isinstance(value, ast.Attribute)
            and isinstance(value.value, ast.Name)
            and value.value.id in self.imports
        ):
            module, original = self.imports[value.value.id]
            separator = "" if not original or module.endswith(".") else "."
            self.imports.setdefault(name, (module + separator + original, value.attr))

    # -- what functions request

    def _requests(
        self, function: _Function | ast.Lambda, method: bool, dynamic: bool = False
    ) -> tuple[list[str], bool]:
        """The fixtures a function asks for, and whether there may be more."""
        arguments = function.args
        names = [argument.arg for argument in arguments.args]
        if arguments.defaults:
            del names[-len(arguments.defaults) :]
        if arguments.posonlyargs:  # they hold self, if anything
            method = False
        static = isinstance(function, _Function) and any(
            self._last(d) == "staticmethod" for d in function.decorator_list
        )
        if method and not static:
            names = names[1:]
        names += [
            a.arg
            for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            if default is None
        ]
        if self.scan_bodies or "request" in names:
            found, more = self._scan(function)
            names += found
            dynamic = dynamic or more
        return names, dynamic

    def _scan(self, function: ast.AST) -> tuple[list[str], bool]:
        """getfixturevalue("x") in a body; and whether `request` escapes or a name is computed."""
        found: list[str] = []
        named, used, called, calls = 0, 0, 0, 0
        for node in ast.walk(function):
            if isinstance(node, ast.Name) and node.id == "request":
                named += 1
            elif isinstance(node, ast.Attribute):
                used += isinstance(node.value, ast.Name) and node.value.id == "request"
                called += node.attr in ("getfixturevalue", "getfuncargvalue")
            elif isinstance(node, ast.Call) and self._last(node) in ("getfixturevalue", "getfuncargvalue"):
                names = _strings(node.args[:1] or [keyword.value for keyword in node.keywords])
                found += names
                calls += len(names) == 1
        return found, named != used or called != calls

    def _lazy(self, node: ast.AST) -> list[str]:
        calls = (n for n in ast.walk(node) if isinstance(n, ast.Call) and self._last(n) in _LAZY)
        return [name for call in calls for name in _strings(call.args)]

    # -- marks

    def _marks(self, expressions: Iterable[ast.expr]) -> _Marks:
        marks = _Marks()
        for expression in expressions:
            self._mark(expression, marks)
        return marks

    def _mark(self, node: ast.expr, marks: _Marks) -> None:
        name = self._last(node)
        call = node if isinstance(node, ast.Call) else None
        if isinstance(node, ast.List | ast.Tuple):
            for element in node.elts:
                self._mark(element, marks)
        elif name == "usefixtures" and call:
            names = _strings(call.args)
            marks.requests += names
            marks.dynamic |= len(names) != len(call.args)
        elif name == "parametrize" and call:
            self._parametrize(call, marks)
        elif call and (name == "patch" or (name == "object" and isinstance(call.func, ast.Attribute))):
            positional = 1 if name == "patch" else 2
            marks.injected += len(call.args) <= positional and all(
                keyword.arg != "new" for keyword in call.keywords
            )
        elif call and name == "given":
            marks.strategies = [k.arg for k in call.keywords if k.arg] or len(call.args)
        elif _is_mark(node) or self._is_harmless(_root(node)):
            pass
        elif isinstance(node, ast.Name) and node.id in self.values:
            value = self.values.pop(node.id)  # taken out against cycles
            self._mark(value, marks)
            self.values[node.id] = value
        elif _root(node) in self.functions:
            body = self.functions[_root(node)]
            marks.dynamic |= any(
                isinstance(n, ast.Attribute) and n.attr in ("mark", "usefixtures") for n in ast.walk(body)
            )
        else:
            marks.dynamic = True

    def _parametrize(self, call: ast.Call, marks: _Marks) -> None:
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        names = call.args[0] if call.args else keywords.get("argnames")
        indirect = keywords.get("indirect", call.args[2] if len(call.args) > 2 else None)
        marks.requests += self._lazy(call)
        if isinstance(names, ast.Constant) and isinstance(names.value, str):
            direct = {name.strip() for name in names.value.split(",")}
        else:
            direct = set(_strings(names.elts)) if isinstance(names, ast.List | ast.Tuple) else set()
        if isinstance(indirect, ast.List | ast.Tuple) and len(_strings(indirect.elts)) == len(indirect.elts):
            direct -= set(_strings(indirect.elts))
        elif indirect and not (isinstance(indirect, ast.Constant) and indirect.value is False):
            direct = set()
        marks.parametrized |= direct

    def _marks_of_body(self, body: Sequence[ast.stmt]) -> _Marks:
        """The pytestmark of a module or class."""
        marks = _Marks()
        for statement, _ in _statements(body):
            if isinstance(statement, ast.Assign):
                targets: list[ast.expr] = statement.targets
            elif isinstance(statement, ast.AnnAssign | ast.AugAssign):
                targets = [statement.target]
            else:
                continue
            if statement.value and any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in targets):
                self._mark(statement.value, marks)
        return marks

    # -- tests

    def _function(self, function: _Function, scope_node: str, name: str, marks: _Marks, sure: bool) -> None:
        for decorator in function.decorator_list:
            options = self._fixture_options(decorator)
            if options is not None:
                self._add_fixture(name, function.name, function, options, scope_node)
                return
            if self._last(decorator) in _STEPS and not self._is_harmless(_root(decorator)):
                target = (
                    [k.value for k in decorator.keywords if k.arg == "target_fixture"]
                    if isinstance(decorator, ast.Call)
                    else []
                )
                self._add_fixture((_strings(target) or [name])[0], function.name, function, [], scope_node)
                return
        if name.startswith("pytest_"):
            self._hook(function)
        elif self.is_test_name(name):
            self._test(function, name if sure else "", marks, method=False, classes=())
        elif function.decorator_list and not scope_node and self._marks(function.decorator_list).dynamic:
            self.fixtures.append(
                Fixture(name, name, False, "function", (), scope_node, dynamic=True, certain=False)
            )

    def _hook(self, function: _Function) -> None:
        """A hook that adds fixtures to tests works like an autouse fixture."""
        requests, dynamic = self._scan(function) if self.scan_bodies else ([], False)
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and self._last(node) == "usefixtures":
                names = _strings(node.args)
                requests += names
                dynamic = dynamic or len(names) != len(node.args)
            elif isinstance(node, ast.Attribute) and node.attr == "fixturenames":
                dynamic = dynamic or function.name != "pytest_generate_tests"
        if requests or dynamic:
            self.fixtures.append(
                Fixture(function.name, function.name, True, "function", tuple(requests), "", dynamic)
            )

    def _test(
        self, function: _Function, node_id: str, marks: _Marks, method: bool, classes: tuple[str, ...]
    ) -> None:
        marks = self._marks(function.decorator_list) + marks
        names, dynamic = self._requests(function, method)
        parameters = len(function.args.args) - len(function.args.defaults) - method
        if marks.injected:
            del names[: marks.injected]
        if isinstance(marks.strategies, int):
            del names[
                max(parameters - marks.injected - marks.strategies, 0) : max(parameters - marks.injected, 0)
            ]
        else:
            names = [name for name in names if name not in marks.strategies]
        requests = dict.fromkeys(name for name in (*marks.requests, *names) if name not in marks.parametrized)
        self.tests.append(
            TestItem(
                node_id, tuple(requests), dynamic or marks.dynamic, tuple(sorted(marks.parametrized)), classes
            )
        )

    def _inherited(self, node: ast.ClassDef, qualified: str, seen: tuple[str, ...] = ()) -> _Class:
        members: dict[str, tuple[_Function, str]] = {}
        marks = self._marks(node.decorator_list) + self._marks_of_body(node.body)
        unittest = unknown = False
        wanted: bool | None = None
        for base in reversed(node.bases):
            name = base.id if isinstance(base, ast.Name) else ""
            if name in self.classes and name not in seen and self.classes[name] is not node:
                parent = self._inherited(self.classes[name], name, (*seen, node.name))
                members.update(parent.members)
                marks = marks + parent.marks
                unittest, unknown = unittest or parent.unittest, unknown or parent.unknown
            elif self._is_harmless(_root(base)):
                unittest = unittest or self._last(base).endswith("TestCase")
            else:
                unknown = True
        for statement, _ in _statements(node.body):
            if isinstance(statement, _Function):
                members[statement.name] = (statement, qualified)
            elif isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
                if any(
                    isinstance(target, ast.Name) and target.id == "__test__" for target in statement.targets
                ):
                    wanted = bool(statement.value.value)
        return _Class(members, marks, unittest, unknown, wanted)

    def _class(self, node: ast.ClassDef, outer: tuple[str, ...], marks: _Marks, sure: bool) -> None:
        qualified = ".".join((*outer, node.name))
        facts = self._inherited(node, qualified)
        own_tests = any(
            self.is_test_name(name) or (name.startswith("test") and facts.unknown) for name in facts.members
        )
        named = self.is_class_name(node.name) or bool(facts.wanted)
        if facts.wanted is False:
            return
        if not facts.unittest and not named:
            bases = " ".join(map(self._last, node.bases)).lower()
            if not facts.unknown or not (
                own_tests or "test" in node.name.lower() or "test" in bases or "case" in bases
            ):
                return
            sure = False  # a unittest class, if its base class is one
        if not facts.unittest and not facts.unknown and "__init__" in facts.members:
            return  # pytest does not collect it
        classes = tuple(".".join((*outer, node.name)[:depth]) for depth in range(len(outer) + 1, 0, -1))
        prefix = "::".join((*outer, node.name))
        marks = facts.marks + marks
        if facts.unknown:
            marks = marks + _dynamic_marks()
            self.tests.append(
                TestItem(prefix if sure and own_tests else "", tuple(marks.requests), True, (), classes)
            )
        for name, (function, owner) in facts.members.items():
            options = next(
                (o for d in function.decorator_list if (o := self._fixture_options(d)) is not None), None
            )
            if options is not None:
                self._add_fixture(name, f"{owner}.{name}", function, options, qualified)
            elif facts.unittest and (name.startswith("test") or name == "runTest"):
                own = self._marks(function.decorator_list) + marks
                found, dynamic = self._scan(function) if self.scan_bodies else ([], False)
                requests = tuple(dict.fromkeys((*own.requests, *found)))
                self.tests.append(
                    TestItem(
                        f"{prefix}::{name}" if sure else "", requests, dynamic or own.dynamic, (), classes
                    )
                )
            elif self.is_test_name(name) or (facts.unknown and name.startswith("test")):
                self._test(function, f"{prefix}::{name}" if sure else "", marks, method=True, classes=classes)
        for statement, _ in _statements(node.body):
            if isinstance(statement, ast.Assign):
                for target in statement.targets:
                    if isinstance(target, ast.Name) and target.id != "pytestmark":
                        self._assignment(target.id, statement.value, qualified)
            elif isinstance(statement, ast.ClassDef):
                self._class(statement, (*outer, node.name), marks, sure)

    # -- plugins and strings

    def _plugins(self) -> tuple[str, ...]:
        value = self.values.get("pytest_plugins")
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return tuple(name.strip() for name in value.value.split(",") if name.strip())
        return tuple(dict.fromkeys(_strings(ast.walk(value)))) if value else ()

    def _identifiers(self) -> tuple[str, ...]:
        return tuple(sorted({name for name in _strings(ast.walk(self.tree)) if name.isidentifier()}))


# -- syntax helpers


def _statements(body: Sequence[ast.stmt], sure: bool = True) -> Iterator[tuple[ast.stmt, bool]]:
    """The statements of a module or class, also below if, try, with and loops; and whether they surely run."""
    for statement in body:
        yield statement, sure
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        inner = sure and isinstance(statement, ast.With)
        for block in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(statement, block, ()), inner)
        for handler in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
            yield from _statements(handler.body, False)


def _root(node: ast.expr) -> str:
    """The first name of a dotted expression: `a` in `a.b.c(…)`."""
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _is_mark(node: ast.expr) -> bool:
    """Is this pytest.mark.NAME, mark.NAME, or a call of it?"""
    while isinstance(node, ast.Call):
        node = node.func
    if not isinstance(node, ast.Attribute):
        return False
    owner = node.value
    return (isinstance(owner, ast.Attribute) and owner.attr == "mark") or (
        isinstance(owner, ast.Name) and owner.id == "mark"
    )


def _strings(nodes: Iterable[ast.AST]) -> list[str]:
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def _dynamic_marks() -> _Marks:
    marks = _Marks()
    marks.dynamic = True
    return marks


def _name_matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """pytest's rule for python_functions and python_classes: a prefix, or a glob."""
    prefixes = tuple(patterns)
    globs = [re.compile(fnmatch.translate(pattern)) for pattern in patterns if re.search(r"[*?[]", pattern)]
    return lambda name: name.startswith(prefixes) or any(glob.match(name) for glob in globs)


# -- requests across files

# What fixtures of pytest and widely used plugins request, where it could be a fixture of the user. All others are unknown.
_PLUGIN_FIXTURES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("cache", "capfd", "capfdbinary", "caplog", "capsys", "capsysbinary", "capteesys", "doctest_namespace", "monkeypatch",
         "pytestconfig", "record_property", "record_testsuite_property", "record_xml_attribute", "recwarn", "request", "subtests",
         "tmp_path_factory", "worker_id", "testrun_uid", "mocker", "module_mocker", "class_mocker", "package_mocker", "session_mocker",
         "benchmark", "freezer", "requests_mock", "snapshot", "cov", "no_cover", "fs", "socket_enabled", "socket_disabled",
         "django_assert_num_queries", "django_assert_max_num_queries", "mailoutbox", "rf", "settings"),
        (),
    ),
    "tmp_path": ("tmp_path_factory",),
    "tmpdir": ("tmp_path",),
    "tmpdir_factory": ("tmp_path_factory",),
    "pytester": ("tmp_path_factory", "monkeypatch"),
    "testdir": ("pytester",),
    "linecomp": (),
    "LineMatcher": (),
}  # fmt: skip

# Fixtures that plugins request behind everybody's back when a suite overrides them.
_BEHIND_THE_SCENES = re.compile(
    r"anyio_backend|app|browser_\w+|celery_\w+|context_\w+|django_db_\w+|docker_\w+|event_loop\w*|faker_\w+|live_server\w*|vcr\w*"
)


def requesters(
    changed: Mapping[str, Collection[str]],
    files: Mapping[str, FileFixtures],
    chain: Callable[[str], Sequence[str]],
    before: Mapping[str, FileFixtures] | None = None,
    imported: Callable[[str, str], str | None] | None = None,
    usefixtures: Collection[str] = (),
) -> dict[str, tuple[str, ...] | None]:
    """The tests whose fixtures include a changed one: test file → node ids in the file, or None for the whole file.

    changed: path → names of the fixtures there that changed, came or went.
    files: path → facts, of all test files, conftests, plugins, and files that they import fixtures from.
    chain: path → the conftest files that apply to it, nearest first, then the plugins of its suite.
    before: the facts of changed files as they were; FileFixtures() for a new file. A fixture may have been autouse in a file
    that is missing here, and reaches every test below it.
    imported: (path, module as written in its import) → path of that module, None if it is none of the repository's. Without
    it, what an imported fixture requests is unknown.
    usefixtures: names that the suite's configuration gives to every test.
    """
    table = _Table(changed, files, before or {}, imported)
    answer: dict[str, tuple[str, ...] | None] = {}
    for path, facts in files.items():
        if not facts.tests and not facts.opaque:
            continue
        above = chain(path)
        conftests = [other for other in above if posixpath.basename(other) == "conftest.py"]
        plugins = [other for other in above if posixpath.basename(other) != "conftest.py"]
        levels = [table.level((other,)) for other in (path, *conftests)] + [table.level(tuple(plugins))]
        if not any(level.changed for level in levels):
            continue
        if facts.opaque:
            answer[path] = None
            continue
        views: dict[tuple[tuple[str, ...], tuple[str, ...]], _View] = {}
        selected = []
        for test in facts.tests:
            key = (test.classes, test.parametrized)
            if key not in views:
                around = [table.level((path,), scope) for scope in test.classes]
                views[key] = _View([*around, *levels], test.parametrized, usefixtures)
            if test.dynamic or views[key].uses_changed(test.requests):
                selected.append(test.node_id)
        if "" in selected or len(selected) == len(facts.tests):
            answer[path] = None
        elif selected:
            answer[path] = tuple(dict.fromkeys(selected))
    return answer


class _Level(NamedTuple):
    """The fixtures of one place in the hierarchy: a class, a file, or all plugins."""

    fixtures: dict[str, list[Fixture]]
    autouse: tuple[str, ...]
    changed: frozenset[str]
    open: bool  # may define any other name too


class _Table:
    """Levels, made once for each place."""

    def __init__(
        self,
        changed: Mapping[str, Collection[str]],
        files: Mapping[str, FileFixtures],
        before: Mapping[str, FileFixtures],
        imported: Callable[[str, str], str | None] | None,
    ) -> None:
        self.files = files
        self.imported = imported
        self.changed = changed
        self.everywhere = {path: self._everywhere(path, before.get(path)) for path in changed}
        self._levels: dict[tuple[tuple[str, ...], str], _Level] = {}
        self._targets: dict[tuple[str, str], str | None] = {}

    def _everywhere(self, path: str, before: FileFixtures | None) -> set[str]:
        """The changed names that work like autouse: they were, or plugins may request them, or nobody knows."""
        names = set(self.changed[path])
        if before is None:
            return names
        now = self.files.get(path, FileFixtures()).fixtures
        was_autouse = {fixture.name for fixture in before.fixtures if fixture.autouse}
        certain = {fixture.name for fixture in (*before.fixtures, *now) if fixture.certain}
        claimed = self._claimed()
        return {
            name
            for name in names
            if name in was_autouse
            or (name in certain and (name not in claimed or _BEHIND_THE_SCENES.fullmatch(name)))
        }

    def _claimed(self) -> set[str]:
        """The names that some test or other fixture requests. A fixture that nobody requests may serve a plugin."""
        names: set[str] = set()
        for facts in self.files.values():
            names.update(facts.mentions)
            for test in facts.tests:
                names.update(test.requests)
            for fixture in facts.fixtures:
                names.update(request for request in fixture.requests if request != fixture.name)
        self._claimed = lambda: names  # type: ignore[method-assign]
        return names

    def level(self, paths: tuple[str, ...], scope: str = "") -> _Level:
        known = self._levels.get((paths, scope))
        if known is None:
            self._levels[paths, scope] = _Level({}, (), frozenset(), True)  # what a cycle of imports sees
            known = self._levels[paths, scope] = self._make(paths, scope)
        return known

    def _make(self, paths: tuple[str, ...], scope: str) -> _Level:
        fixtures: dict[str, list[Fixture]] = {}
        changed: set[str] = set()
        autouse: list[str] = []
        is_open = False
        for path in paths:
            facts = self.files.get(path, FileFixtures())
            changed.update(self.changed.get(path, ()))
            autouse += sorted(self.everywhere.get(path, ()))
            is_open = is_open or facts.opaque
            for fixture in facts.fixtures:
                if fixture.scope_node == scope:
                    fixtures.setdefault(fixture.name, []).append(fixture)
            for local, module, original in facts.imports if not scope else ():
                target = self._target(path, module)
                if target is None:
                    if local == "*":
                        is_open = True
                    else:
                        unknown = Fixture(local, "", False, "function", (), "", dynamic=True, certain=False)
                        fixtures.setdefault(local, []).append(unknown)
                    continue
                there = self.level((target,))
                is_open = is_open or (local == "*" and there.open)
                for name, definitions in there.fixtures.items():
                    for fixture in definitions:
                        attribute = fixture.function or fixture.name
                        if local == "*" or attribute == original:
                            # A fixture named in its decorator keeps that name wherever it is imported.
                            mine = local if local != "*" and name == attribute else name
                            fixtures.setdefault(mine, []).append(fixture)
                            if name in there.changed:
                                changed.add(mine)
                            if name in there.autouse:
                                autouse.append(mine)
                if local == "*":
                    changed |= there.changed
                elif original in there.changed:
                    changed.add(local)
        autouse += [
            name for name, definitions in fixtures.items() if any(fixture.autouse for fixture in definitions)
        ]
        return _Level(fixtures, tuple(dict.fromkeys(autouse)), frozenset(changed), is_open)

    def _target(self, path: str, module: str) -> str | None:
        if self.imported is None or not module:
            return None
        key = (posixpath.dirname(path), module)
        if key not in self._targets:
            self._targets[key] = self.imported(path, module)
        return self._targets[key]


class _View:
    """The fixtures as the tests of one class, or of one file outside classes, see them."""

    def __init__(
        self, levels: Sequence[_Level], parametrized: Collection[str], usefixtures: Collection[str]
    ) -> None:
        self.levels = levels
        self.parametrized = parametrized
        self.known: dict[str, bool] = {}
        self.always = self._uses((*usefixtures, *(name for level in levels for name in level.autouse)))

    def uses_changed(self, requests: Iterable[str]) -> bool:
        return self.always or self._uses(requests)

    def _uses(self, requests: Iterable[str]) -> bool:
        for name in requests:
            if name not in self.known:
                self.known[name] = self._reaches_change(name, {})
            if self.known[name]:
                return True
        return False

    def _reaches_change(self, name: str, depths: dict[str, int]) -> bool:
        """Does a request for this name lead to a changed fixture, or to one that could request anything?

        depths: for each name on the way how many of its definitions, from the nearest outwards, are in use. An overriding
        fixture that requests its own name, directly or not, gets the next one.
        """
        if name in self.parametrized:
            return False
        depth = depths.get(name)
        if depth == 0:
            return False  # done, as a part of this request
        depth = depth or 1
        passed = 0
        for level in self.levels:
            if name in level.changed or level.open:
                return True
            definitions = level.fixtures.get(name, ())
            if any(not fixture.certain for fixture in definitions):
                return True
            passed += bool(definitions)
            if definitions and passed == depth:
                if any(fixture.dynamic for fixture in definitions):
                    return True
                requests = [request for fixture in definitions for request in fixture.requests]
                break
        else:
            if name not in _PLUGIN_FIXTURES:
                return True
            requests = list(_PLUGIN_FIXTURES[name])
        depths[name] = depth + 1
        if any(self._reaches_change(request, depths) for request in requests):
            return True
        depths[name] = depth if depth > 1 else 0
        return False
