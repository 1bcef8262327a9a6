"""pytest's fixtures and who requests them, read from syntax, without importing.

`read_fixtures` gives the facts of one file; nothing else decides them. :mod:`.fixture_requests` joins those of many.

What syntax cannot tell is answered with more tests, never fewer. A test is *dynamic* if what it requests cannot be
known (`getfixturevalue` of a computed name, a decorator or base class from another file): it counts as a user of
all that it can see. So does a test that requests a fixture of an unknown plugin, which may request any other.
"""

from __future__ import annotations

import ast
import builtins
import fnmatch
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from greenline.depgraph import blocks
from greenline.depgraph.blocks import Definition, Function, leaf


class Fixture(NamedTuple):
    """A fixture, as one scope of a file shows it."""

    name: str  # what tests request
    function: str  # the function or variable that it is in its file, by qualified name
    autouse: bool  # also True where it is computed
    scope: str  # "function" also where it is computed
    requests: tuple[str, ...]
    scope_node: str  # the class in which it is visible, by qualified name; "" for the whole file
    dynamic: bool = False
    certain: bool = True  # False: it may be something else than a fixture


class TestItem(NamedTuple):
    """A test function or method with all its parameters, or a class or file with tests that have no name here."""

    node_id: str  # "test_x", "TestC::test_m", "TestC"; "" where only the file as a whole surely exists
    requests: tuple[str, ...]  # parameters, usefixtures of the function, its classes and its module, and so on
    dynamic: bool = False
    parametrized: tuple[str, ...] = ()  # names that get their value from parametrize and not from a fixture
    classes: tuple[str, ...] = ()  # the classes around it by qualified name, innermost first


TestItem.__test__ = False  # type: ignore[attr-defined]  # pytest shall not take it for a test class


class FileFixtures(NamedTuple):
    """The facts of one file."""

    fixtures: tuple[Fixture, ...] = ()
    tests: tuple[TestItem, ...] = ()
    hooks: tuple[str, ...] = ()  # functions called pytest_*
    plugins: tuple[str, ...] = ()  # modules in pytest_plugins
    imports: tuple[tuple[str, str, str], ...] = ()  # local name, module with its dots, name there; "*" for all
    test_imports: tuple[str, ...] = ()  # the local names among them that look like tests, and "*"
    mentions: tuple[str, ...] = ()  # if names are computed: the strings of the file that could be them
    opaque: bool = False  # it does not parse: it may define and request anything

    def to_tuples(self) -> tuple[Any, ...]:
        """The facts as plain tuples, for marshal."""
        return (tuple(map(tuple, self.fixtures)), tuple(map(tuple, self.tests)), *self[2:])

    @classmethod
    def from_tuples(cls, plain: tuple[Any, ...]) -> FileFixtures:
        return cls(tuple(map(Fixture._make, plain[0])), tuple(map(TestItem._make, plain[1])), *plain[2:])


# Modules whose decorators, base classes and factories neither make nor request fixtures.
_HARMLESS_MODULES = sys.stdlib_module_names | frozenset(
    """aiohttp asynctest attr ddt django factory fastapi flask freezegun hypothesis mock moto numpy pandas
    parameterized pydantic pytest requests_mock respx responses rest_framework sqlalchemy starlette testtools
    time_machine tornado torch twisted werkzeug""".split()  # noqa: SIM905
)
_HARMLESS_NAMES = frozenset(dir(builtins))
_LAZY = frozenset(("lazy_fixture", "lf", "lfc", "fixture_ref"))  # their strings are requests
_STEPS = frozenset(("given", "when", "then", "step"))  # pytest-bdd: steps request fixtures, and may be some
_GENERATORS = frozenset(("globals", "locals", "vars", "exec", "setattr", "scenarios"))  # may make tests and fixtures
_EXPANDING = re.compile("parameter|expand|ddt|instantiate|product|foreach")  # decorators that rename tests
_LOOKUPS = frozenset(("getfixturevalue", "getfuncargvalue"))


def read_fixtures(
    source: bytes, python_functions: Sequence[str] = ("test",), python_classes: Sequence[str] = ("Test",)
) -> FileFixtures:
    """The facts of one file. python_functions, python_classes: as in pytest's configuration, prefixes and globs."""
    tree = blocks.parse(source)
    if tree is None:
        return FileFixtures(opaque=True)
    lookups = any(name.encode() in source for name in _LOOKUPS)
    return read_tree(tree, python_functions, python_classes, lookups)


def read_tree(
    tree: ast.Module, python_functions: Sequence[str], python_classes: Sequence[str], lookups: bool = True
) -> FileFixtures:
    """The facts of a file that is parsed. lookups: whether it may spell getfixturevalue."""
    return _Reader(tree, lookups, name_matcher(python_functions), name_matcher(python_classes)).facts()


class _Place(NamedTuple):
    """What the tests of one class share, or those of a module outside classes."""

    node_id: str = ""
    classes: tuple[str, ...] = ()
    marks: tuple[ast.expr, ...] = ()  # decorators and pytestmark of the classes and the module
    sure: bool = True  # it can be named on a command line
    unittest: bool = False
    unknown: bool = False  # it inherits from another file

    def test(self, name: str, sure: bool) -> str:
        """The node id of a test here. sure: it has this name under all conditions."""
        if not self.sure:
            return ""
        parts = [self.node_id, name] if sure else [self.node_id]
        return "::".join(filter(None, parts))


class _Marks:
    """What decorators and pytestmark say about a test."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.parametrized: set[str] = set()
        self.dynamic = False
        self.patched = 0  # the number of first parameters that mock.patch fills
        self.given: Collection[str] = ()  # parameters that hypothesis fills,
        self.given_last = 0  # and the number of last ones


class _Class(NamedTuple):
    """A class with what it inherits inside the file."""

    members: dict[str, tuple[Function, str, bool]]  # name → function, the class that defines it, is it sure?
    marks: tuple[ast.expr, ...]
    flag: bool | None  # __test__
    unittest: bool
    unknown: bool


class _Reader:
    def __init__(
        self, tree: ast.Module, lookups: bool, is_test: Callable[[str], bool], is_class: Callable[[str], bool]
    ) -> None:
        self.tree = tree
        self.lookups = lookups  # is there a getfixturevalue in the file?
        self.is_test = is_test
        self.is_class = is_class
        self.imports: dict[str, tuple[str, str]] = {}  # local name → module, name there
        self.stars: list[str] = []
        self.functions: dict[str, Function] = {}
        self.classes: dict[str, ast.ClassDef] = {}
        self.values: dict[str, ast.expr] = {}  # what the module assigns
        self.fixtures: list[Fixture] = []
        self.tests: list[TestItem] = []

    def facts(self) -> FileFixtures:
        statements = list(_statements(self.tree.body))
        for statement, _ in statements:
            self._bind(statement)
        place = _Place(marks=_pytestmarks(self.tree.body))
        for statement, sure in statements:
            self._statement(statement, place, sure)
        imports = [(name, *origin) for name, origin in self.imports.items() if not self._harmless(name)]
        imports = [one for one in imports if one[2]] + [("*", module, "*") for module in self.stars]
        test_imports = [name for name, *_ in imports if name == "*" or self.is_test(name) or self.is_class(name)]
        dynamic = any(one.dynamic for one in self.fixtures) or any(one.dynamic for one in self.tests)
        strings = set(_strings(ast.walk(self.tree))) if dynamic and self.lookups else set()
        plugins = _strings(ast.walk(self.values["pytest_plugins"])) if "pytest_plugins" in self.values else ()
        return FileFixtures(
            tuple(dict.fromkeys(self.fixtures)),
            tuple(dict.fromkeys(self.tests)),
            tuple(name for name in self.functions if name.startswith("pytest_")),
            tuple(name.strip() for text in plugins for name in text.split(",") if name.strip()),
            tuple(imports),
            tuple(dict.fromkeys(test_imports)),
            tuple(sorted(filter(str.isidentifier, strings))),
        )

    def _bind(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.ImportFrom):
            module = "." * statement.level + (statement.module or "")
            names = {alias.asname or alias.name: (module, alias.name) for alias in statement.names}
            if names.pop("*", None) and module.partition(".")[0] not in _HARMLESS_MODULES:
                self.stars.append(module)
            self.imports.update(names)
        elif isinstance(statement, ast.Import):
            names = {alias.asname or alias.name.partition(".")[0]: (alias.name, "") for alias in statement.names}
            self.imports.update(names)
        elif isinstance(statement, Function):
            self.functions[statement.name] = statement
            self.imports.pop(statement.name, None)  # hidden by this function
        elif isinstance(statement, ast.ClassDef):
            self.classes[statement.name] = statement
        self.values.update(_assignments(statement))

    def _statement(self, statement: ast.stmt, place: _Place, sure: bool) -> None:
        """One statement of the module or of a class, other than a method."""
        outer = place.classes[0] if place.classes else ""
        if isinstance(statement, Function):
            if not outer:
                self._function(statement.name, statement, place, statement.name, sure)
        elif isinstance(statement, ast.ClassDef):
            self._class(statement, place._replace(sure=place.sure and sure), f"{outer}.{statement.name}".lstrip("."))
        elif not outer and self._generates(statement):
            self.stars.append("")
            self.tests.append(TestItem("", (), dynamic=True))
        for name, value in _assignments(statement):
            self._assignment(name, value, place)

    def _generates(self, statement: ast.stmt) -> bool:
        """Could a call in this plain statement give the module or a class more tests or fixtures?"""
        if hasattr(statement, "body"):
            return False
        for call in (part for part in ast.walk(statement) if isinstance(part, ast.Call)):
            helper = self.functions.get(_root(call))
            parts = [call, *(ast.walk(helper) if helper else ())]
            if any(isinstance(part, ast.Call) and leaf(part) in _GENERATORS for part in parts):
                return True
            given = {argument.id for argument in call.args if isinstance(argument, ast.Name)}
            if given & self.classes.keys() and not self._harmless(_root(call)):
                return True
        return False

    def _leaf(self, node: ast.expr) -> str:
        """The last name of a callee or decorator; for a renamed import, what it is called at home."""
        name = leaf(node)
        return (self.imports.get(name, ("", ""))[1] or name) if name == _root(node) else name

    def _harmless(self, name: str) -> bool:
        """Has this name of the module nothing to do with fixtures?"""
        if name in self.imports:
            return self.imports[name][0].partition(".")[0] in _HARMLESS_MODULES
        return name in _HARMLESS_NAMES

    # fixtures

    def _fixture_options(self, node: ast.expr, depth: int = 0) -> list[ast.keyword] | None:
        """The keywords of `pytest.fixture`, `pytest.fixture(…)` or an alias of these; None for anything else."""
        call = node if isinstance(node, ast.Call) else None
        inner_call = call.func if call and isinstance(call.func, ast.Call) else None
        options = [*(inner_call.keywords if inner_call else ()), *(call.keywords if call else ())]
        name = self._leaf(node)
        if name.lower().endswith("fixture") and name not in _LAZY:
            return options
        alias = call.args[0] if call and name == "partial" and call.args else self.values.get(_root(node))
        behind = self._fixture_options(alias, depth + 1) if alias and depth < 5 else None
        return None if behind is None else [*behind, *options]

    def _fixture(
        self, name: str, qualified: str, node: ast.AST | None, options: list[ast.keyword], scope_node: str
    ) -> None:
        values = {option.arg: option.value for option in options}
        constants = {key: value.value for key, value in values.items() if isinstance(value, ast.Constant)}
        if "name" in values and not isinstance(constants.get("name"), str | None):
            self.stars.append("")  # a computed name could be any
        requests, dynamic = self._requests(node, bool(scope_node))
        self.fixtures.append(
            Fixture(
                str(constants.get("name") or name),
                qualified,
                bool(constants.get("autouse", "autouse" in values)),
                str(constants.get("scope", "function")),
                tuple(dict.fromkeys([*requests, *self._lazy(values.get("params"))])),
                scope_node,
                dynamic or None in values,
            )
        )

    def _perhaps(self, name: str, scope_node: str) -> None:
        qualified = f"{scope_node}.{name}".lstrip(".")
        self.fixtures.append(Fixture(name, qualified, False, "function", (), scope_node, True, certain=False))

    def _assignment(self, name: str, value: ast.expr, place: _Place) -> None:
        """`x = pytest.fixture(f)`, `x = pytest.fixture(…)(f)`, `x = another_fixture`, `x = make_fixture(…)`."""
        scope_node = place.classes[0] if place.classes else ""
        options = self._fixture_options(value) if isinstance(value, ast.Call) else None
        root = _root(value)
        if options is not None and isinstance(value, ast.Call):
            made = value.args or self._leaf(value) not in ("fixture", "yield_fixture")
            if made and self._leaf(value) != "partial":
                argument = value.args[0] if value.args else value
                definition = self.functions.get(leaf(argument), argument)
                self._fixture(name, f"{scope_node}.{name}".lstrip("."), definition, options, scope_node)
        elif isinstance(value, ast.Constant) or name == "pytestmark":
            pass
        elif self.is_test(name) or self.is_class(name):
            self.tests.append(TestItem(place.test(name, False), (), True, (), place.classes))
        elif isinstance(value, ast.Name) and any(one.function == root for one in self.fixtures):
            same = [one for one in self.fixtures if one.function == root]
            self.fixtures += [one._replace(name=name, function=name, scope_node=scope_node) for one in same]
        elif (isinstance(value, ast.Call) or root in self.imports) and not self._harmless(root):
            self._perhaps(name, scope_node)

    # requests

    def _requests(self, node: ast.AST | None, method: bool) -> tuple[list[str], bool]:
        """What a function requests by its parameters and in its body; and whether there may be more."""
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return [], True
        names = _parameters(node, method)
        if not isinstance(node, ast.Lambda):
            names = names[self._marks(node.decorator_list).patched :]
        found, dynamic = self._looked_up(node, "request" in names)
        return [*names, *found], dynamic

    def _looked_up(self, function: ast.AST, has_request: bool = False) -> tuple[list[str], bool]:
        """getfixturevalue("x") in a body; and whether a name is computed, or `request` is handed to somebody."""
        found: list[str] = []
        open_ends = 0
        for node in ast.walk(function) if self.lookups or has_request else ():
            if isinstance(node, ast.Name):
                open_ends += has_request and node.id == "request"
            elif isinstance(node, ast.Attribute):
                open_ends -= has_request and isinstance(node.value, ast.Name) and node.value.id == "request"
                open_ends += node.attr in _LOOKUPS
            elif isinstance(node, ast.Call) and leaf(node.func) in _LOOKUPS:
                names = list(_strings([*node.args, *(keyword.value for keyword in node.keywords)]))
                found += names
                open_ends -= len(names) == 1
        return found, open_ends != 0

    def _lazy(self, node: ast.AST | None) -> list[str]:
        calls = (one for one in ast.walk(node) if isinstance(one, ast.Call)) if node else ()
        return [name for call in calls if self._leaf(call) in _LAZY for name in _strings(call.args)]

    def _marks(self, expressions: Sequence[ast.expr]) -> _Marks:
        marks = _Marks()
        for expression in expressions:
            self._mark(expression, marks)
        return marks

    def _mark(self, node: ast.expr, marks: _Marks, depth: int = 0) -> None:
        name, root = self._leaf(node), _root(node)
        call = node if isinstance(node, ast.Call) else None
        if isinstance(node, ast.List | ast.Tuple):
            for element in node.elts:
                self._mark(element, marks, depth)
        elif call and name == "usefixtures":
            names = list(_strings(call.args))
            marks.requests += names
            marks.dynamic |= len(names) != len(call.args)
        elif call and name == "parametrize":
            marks.requests += self._lazy(call)
            marks.parametrized |= _direct_parameters(call)
        elif call and name in ("patch", "object"):
            given = len(call.args) > (1 if name == "patch" else 2)
            marks.patched += not given and all(keyword.arg != "new" for keyword in call.keywords)
        elif call and name == "given":
            marks.given = [keyword.arg or "" for keyword in call.keywords]
            marks.given_last = len(call.args)
        elif name.lower().endswith("fixture") or is_mark(node) or self._harmless(root):
            pass
        elif root in self.values and depth < 5:
            self._mark(self.values[root], marks, depth + 1)
        elif root in self.functions:
            body = ast.walk(self.functions[root])
            marks.dynamic |= any(isinstance(one, ast.Attribute) and one.attr == "mark" for one in body)
        else:
            marks.dynamic = True

    # tests

    def _function(self, name: str, node: Function, place: _Place, qualified: str, sure: bool) -> None:
        scope_node = place.classes[0] if place.classes else ""
        for decorator in node.decorator_list:
            options = self._fixture_options(decorator)
            if options is None and self._leaf(decorator) in _STEPS and not self._harmless(_root(decorator)):
                keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
                options = [ast.keyword("name", one.value) for one in keywords if one.arg == "target_fixture"]
            if options is not None:
                self._fixture(name, qualified, node, options, scope_node)
                return
        for_unittest = name.startswith(("test", "runTest"))
        if for_unittest if place.unittest else self.is_test(name) or (place.unknown and for_unittest):
            words = " ".join(f"{_root(one)} {leaf(one)}" for one in node.decorator_list).lower()
            self._test(node, place, place.test(name, sure and not _EXPANDING.search(words)))
        elif not scope_node and name.startswith("pytest_"):
            self._hook(node)
        elif not scope_node and self._marks(node.decorator_list).dynamic:
            self._perhaps(name, scope_node)

    def _test(self, node: Function, place: _Place, node_id: str) -> None:
        own, around = self._marks(node.decorator_list), self._marks(place.marks)
        requests, dynamic = self._requests(node, bool(place.classes))
        parameters = _parameters(node, bool(place.classes))[own.patched :]
        looked_up = requests[len(parameters) :]
        parameters = parameters[around.patched : len(parameters) - own.given_last]
        parameters = [] if place.unittest else [one for one in parameters if one not in own.given]
        parametrized = own.parametrized | around.parametrized
        wanted = dict.fromkeys([*own.requests, *around.requests, *parameters, *looked_up])
        dynamic = dynamic or own.dynamic or around.dynamic or place.unknown
        asked = tuple(name for name in wanted if name not in parametrized)
        self.tests.append(TestItem(node_id, asked, dynamic, tuple(sorted(parametrized)), place.classes))

    def _hook(self, node: Function) -> None:
        """A hook that gives tests fixtures works like an autouse fixture."""
        parts = list(ast.walk(node))
        marks = self._marks([one for one in parts if isinstance(one, ast.Call) and leaf(one) == "usefixtures"])
        found, dynamic = self._looked_up(node)
        adds_names = any(isinstance(one, ast.Attribute) and one.attr == "fixturenames" for one in parts)
        dynamic = dynamic or marks.dynamic or (adds_names and node.name != "pytest_generate_tests")
        requests = (*marks.requests, *found)
        if requests or dynamic:
            self.fixtures.append(Fixture(node.name, node.name, True, "function", requests, "", dynamic))

    def _inherited(self, node: ast.ClassDef, qualified: str, below: tuple[str, ...] = ()) -> _Class:
        members: dict[str, tuple[Function, str, bool]] = {}
        marks = (*node.decorator_list, *_pytestmarks(node.body))
        flag, unittest, unknown = None, False, False
        for base in reversed(node.bases):
            name = _root(base)
            if name in self.classes and name not in below and self.classes[name] is not node:
                parent = self._inherited(self.classes[name], name, (*below, node.name))
                members.update(parent.members)
                marks += parent.marks
                flag, unittest, unknown = parent.flag, unittest or parent.unittest, unknown or parent.unknown
            elif self._harmless(name):
                unittest = unittest or self._leaf(base).endswith("TestCase")
            else:
                unknown = True
        for statement, sure in _statements(node.body):
            unknown = unknown or self._generates(statement)
            if isinstance(statement, Function):
                members[statement.name] = (statement, qualified, sure)
            for name, value in _assignments(statement):
                members.pop(name, None)
                if name == "__test__" and isinstance(value, ast.Constant):
                    flag = bool(value.value)
        return _Class(members, marks, flag, unittest, unknown)

    def _class(self, node: ast.ClassDef, outer: _Place, qualified: str) -> None:
        facts = self._inherited(node, qualified)
        if facts.flag is False:
            return
        has_tests = any(self.is_test(name) or name.startswith("test") for name in facts.members)
        sure = outer.sure and not is_expanding(node)
        if not (facts.unittest or facts.flag or self.is_class(node.name)):
            words = " ".join((node.name, *map(leaf, node.bases))).lower()
            if not facts.unknown or not (has_tests or "test" in words or "case" in words):
                return
            sure = False  # a unittest class, if its base class is one
        if "__init__" in facts.members and not facts.unittest and not facts.unknown:
            return  # pytest leaves it out
        marks = (*facts.marks, *outer.marks)
        classes = (qualified, *outer.classes)
        place = _Place(outer.test(node.name, True), classes, marks, sure, facts.unittest, facts.unknown)
        if facts.unknown:  # tests that it may inherit
            self.tests.append(TestItem(place.node_id if sure and has_tests else "", (), True, (), classes))
        for name, (function, owner, is_sure) in facts.members.items():
            self._function(name, function, place, f"{owner}.{name}", is_sure)
        for statement, is_sure in _statements(node.body):
            self._statement(statement, place, is_sure)


def _statements(body: Sequence[ast.stmt], sure: bool = True) -> Iterator[tuple[ast.stmt, bool]]:
    """The statements of a module or class with those below if, try, with and loops; and whether they surely run."""
    for statement in body:
        yield statement, sure
        if not isinstance(statement, Definition):
            for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ()), statement):
                for block in ("body", "orelse", "finalbody"):
                    yield from _statements(getattr(part, block, ()), sure and isinstance(part, ast.With))


def _assignments(statement: ast.stmt) -> list[tuple[str, ast.expr]]:
    """name → value, of `a = b = value` and `a, b = value`."""
    if isinstance(statement, ast.Assign):
        targets, value = statement.targets, statement.value
    elif isinstance(statement, ast.AnnAssign | ast.AugAssign) and statement.value:
        targets, value = [statement.target], statement.value
    else:
        return []
    flat = [part for target in targets for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return [(target.id, value) for target in flat if isinstance(target, ast.Name)]


def _pytestmarks(body: Sequence[ast.stmt]) -> tuple[ast.expr, ...]:
    pairs = (pair for statement, _ in _statements(body) for pair in _assignments(statement))
    return tuple(value for name, value in pairs if name == "pytestmark")


def _parameters(function: Function | ast.Lambda, method: bool) -> list[str]:
    """The parameters that pytest fills, and mock and hypothesis."""
    arguments = function.args
    names = [one.arg for one in arguments.args]
    names = names[: len(names) - len(arguments.defaults)] if arguments.defaults else names
    static = isinstance(function, Function) and "staticmethod" in map(leaf, function.decorator_list)
    if method and not static and not arguments.posonlyargs:
        names = names[1:]
    keyword_only = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return [*names, *(one.arg for one, default in keyword_only if default is None)]


def _direct_parameters(call: ast.Call) -> set[str]:
    """The names to which a `parametrize` surely gives their value."""
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    names = call.args[0] if call.args else keywords.get("argnames", call)
    direct = {name.strip() for text in _strings(ast.walk(names)) for name in text.split(",")}
    indirect = call.args[2] if len(call.args) > 2 else keywords.get("indirect", ast.Constant(False))
    if isinstance(indirect, ast.List | ast.Tuple) and all(isinstance(one, ast.Constant) for one in indirect.elts):
        return direct - set(_strings(indirect.elts))
    return direct if isinstance(indirect, ast.Constant) and not indirect.value else set()


def _root(node: ast.AST) -> str:
    """The first name of a dotted expression: `a` in `a.b.c(…)`."""
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def is_expanding(node: ast.ClassDef) -> bool:
    """May a decorator make several classes of this one, under other names?"""
    return bool(_EXPANDING.search(" ".join(map(leaf, node.decorator_list)).lower()))


def is_mark(node: ast.AST) -> bool:
    """Is this `pytest.mark.NAME`, or a call of it?"""
    while isinstance(node, ast.Attribute | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
        if leaf(node) == "mark" and not isinstance(node, ast.Call):
            return True
    return False


def _strings(nodes: Iterable[ast.AST]) -> Iterator[str]:
    return (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def name_matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """pytest's rule for python_functions and python_classes: a prefix, or a glob."""
    globs = "|".join(fnmatch.translate(pattern) for pattern in patterns if re.search(r"[*?[]", pattern))
    match = re.compile(globs or r"(?!)").match
    return lambda name: name.startswith(tuple(patterns)) or match(name) is not None
