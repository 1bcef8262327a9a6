"""Which tests of one test file a change inside that file can affect.

`blocks` tells what changed and what refers to it. Here is what pytest and unittest add: tests run fixtures,
setup methods and class attributes that they never mention, and classes inherit tests. Where a test may use
something through a register or a fixture outside the file, every test of the file is affected.
"""

from __future__ import annotations

import ast
import fnmatch
import sys
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from greenline.depgraph import blocks
from greenline.depgraph.blocks import Definition, Function, Item, leaf
from greenline.depgraph.mentions import Reach, References, fixture_names, reach, references


class Items(NamedTuple):
    """The tests of one file that a change in it can affect.

    node_ids: in file order; "test_x", "TestC::test_m", or "TestC" for a class with tests from elsewhere.
    whole: every test of the file; node_ids is empty then.
    why: node id → reason; the reason for the whole file stands under "".
    exported: what changed or refers to it and is no test: what other files could see.
    """

    node_ids: tuple[str, ...]
    whole: bool
    why: dict[str, str]
    exported: frozenset[str]


def affected_tests(
    old: bytes | None,
    new: bytes,
    python_functions: Sequence[str] = ("test",),
    python_classes: Sequence[str] = ("Test",),
    outer_requests: Collection[str] | None = None,
) -> Items:
    """The tests of a test file whose outcome can differ between two versions of it.

    python_functions, python_classes: as in pytest's configuration, prefixes or glob patterns.
    outer_requests: names of all fixtures that fixtures outside this file request, since this file may replace
    them. None where they are not known: a changed fixture then reaches who requests a fixture from outside.
    """
    if old == new:
        return Items((), False, {}, frozenset())
    both = None if old is None else blocks.parse_both(old, new)
    if old is None or both is None:
        tree = blocks.parse(new)
        names = frozenset(references(tree).symbols if tree else ())
        return Items((), True, {"": "a version of the file is missing or does not parse"}, names)
    before, after = both
    delta = blocks.compare_trees(before, after, blocks.reads_docstrings(old, new))
    if delta.kind in ("none", "docstrings"):
        return Items((), False, {}, frozenset())
    kept = set(map(id, after.body))
    gone = ast.Module([node for node in before.body if id(node) not in kept], [])
    trees = [after, gone]
    mentions = [references(tree) for tree in trees]
    if delta.statements:
        names = frozenset(name for refs in mentions for name in refs.symbols)
        return Items((), True, {"": "what runs at import changed"}, names)
    file = _File(trees, mentions, python_functions, python_classes)
    seeds: dict[str, str | None] = dict.fromkeys(delta.changed)
    for refs in mentions:  # what went had other names too
        for name in delta.changed & refs.symbols.keys():
            seeds.update((other, name) for other in refs.symbols[name].provides if other not in seeds)
    reached = reach(mentions[0], seeds, file.is_part)
    if fixture := next((name for name in reached.found if name in file.fixtures), None):
        for name in file.unseen_requesters(outer_requests):
            seeds.setdefault(name, fixture)
        reached = reach(mentions[0], seeds, file.is_part)
    exported = frozenset(name for name in (*reached.found, *reached.containers) if not file.is_test(name))
    reason = file.whole(reached, delta.changed, outer_requests)
    if b">>>" in new and any(">>>" in text for text in file.docstrings()):
        reason = "the file has doctests"
    why = {"": reason} if reason else file.affected(reached)
    if "" in why:
        return Items((), True, {"": why[""]}, exported)
    return Items(tuple(why), False, why, exported)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MODULE_SETUP = _words("setup_module teardown_module setUpModule tearDownModule setup teardown")
_FUNCTION_SETUP = ("setup_function", "teardown_function")

# Fixtures that come with pytest or are as self-contained: they request none that a test file would replace.
_KNOWN_FIXTURES = _words("""
    self cls request tmp_path tmp_path_factory tmpdir tmpdir_factory monkeypatch capsys capfd capsysbinary
    capfdbinary capteesys caplog recwarn pytestconfig cache record_property record_testsuite_property
    record_xml_attribute doctest_namespace pytester testdir subtests mocker
""")

# Bases that neither bring tests nor keep a register of their subclasses.
_PLAIN_BASES = _words("""
    object Exception BaseException RuntimeError ValueError TypeError KeyError OSError Enum IntEnum StrEnum
    Flag IntFlag NamedTuple TypedDict Protocol Generic ABC dict list str int float tuple set Thread
    Module BaseModel
""")

# Decorators that register nothing elsewhere: by their last name, or by where they come from.
_PLAIN_DECORATORS = _words("""
    fixture yield_fixture staticmethod classmethod property setter getter deleter cached_property lru_cache
    cache wraps contextmanager asynccontextmanager dataclass overload final override abstractmethod
    total_ordering runtime_checkable unique composite define frozen mutable no_grad inference_mode jit
""")
_PLAIN_SOURCES = _words("pytest mock patch unittest functools contextlib dataclasses abc typing enum attr attrs")
_NO_FUNCTION = _words("property cached_property abstractproperty")

# Decorators that replace a test by others with names of their own: by a part of their name.
_EXPANDING = ("parameter", "expand", "ddt", "instantiate", "product", "foreach")


def _is_fixture(node: Definition) -> bool:
    return any("fixture" in leaf(d) and leaf(d) != "usefixtures" for d in node.decorator_list)


def _is_autouse(node: Definition) -> bool:
    """Whether a fixture may run without being requested; a decorator of the project's own may do anything."""
    for decorator in node.decorator_list:
        if "fixture" in leaf(decorator) and leaf(decorator) not in ("fixture", "yield_fixture"):
            return True
        for keyword in decorator.keywords if isinstance(decorator, ast.Call) else ():
            off = isinstance(keyword.value, ast.Constant) and not keyword.value.value
            if keyword.arg is None or (keyword.arg == "autouse" and not off):
                return True
    return False


def _is_plain_decorator(decorator: ast.expr) -> bool:
    root = decorator
    while isinstance(root, ast.Call | ast.Attribute | ast.Subscript):
        root = root.func if isinstance(root, ast.Call) else root.value
    return leaf(decorator) in _PLAIN_DECORATORS or leaf(root) in _PLAIN_SOURCES


def _expands(node: Definition) -> bool:
    """Whether a decorator makes tests of other names out of this one."""
    called = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
    return any(part in ast.unparse(decorator).lower() for decorator in called for part in _EXPANDING)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """pytest's rule: a prefix, or a glob where there is a wildcard."""
    return any(name.startswith(p) or (any(c in p for c in "*?[") and fnmatch.fnmatch(name, p)) for p in patterns)


def _requests(node: Definition) -> set[str]:
    """What a test or fixture requests, or a class for all its tests; "" for a name that is computed."""
    found: set[str] = set()
    where: list[ast.AST] = [*node.decorator_list]
    if isinstance(node, Function):
        where += node.body
        positional = [*node.args.posonlyargs, *node.args.args]
        found.update(arg.arg for arg in positional[: len(positional) - len(node.args.defaults)])
        for arg, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
            found.update([arg.arg] if default is None else [])
    else:
        where += [item.node for item in blocks.items(node.body) if not item.is_definition]
    given: set[str] = set()
    for call in (part for place in where for part in ast.walk(place) if isinstance(part, ast.Call)):
        match leaf(call), call.args:
            case "usefixtures", arguments:
                found.update(name for argument in arguments for name in _texts(argument))
            case "parametrize", [argument, *_]:
                given.update(_texts(argument))
            case "getfixturevalue", [argument, *_] if not isinstance(argument, ast.Constant):
                found.add("")
    return found - given


def _texts(node: ast.AST) -> list[str]:
    """The names in the string literals of `"a, b"` or `["a", "b"]`."""
    texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
    return [name.strip() for text in texts if isinstance(text, str) for name in text.split(",")]


class _Class(NamedTuple):
    """A class of the file, with what it inherits inside the file.

    lineage: the class and its bases, in about the order in which Python searches them.
    outer: last names of the bases from elsewhere that may matter; "" for one that is computed.
    members: name → the class of the lineage that defines it, and how.
    """

    lineage: list[str]
    outer: list[str]
    members: dict[str, tuple[str, Item]]

    @property
    def is_unittest(self) -> bool:
        return any(base.endswith("TestCase") for base in self.outer)

    @property
    def has_unknown_bases(self) -> bool:
        return any(not base.endswith("TestCase") for base in self.outer)


class _File:
    """What a test file defines, before and after."""

    def __init__(
        self,
        trees: list[ast.Module],
        mentions: list[References],
        python_functions: Sequence[str],
        python_classes: Sequence[str],
    ) -> None:
        self.tree, self.refs = trees[0], mentions[0]
        self.python_functions, self.python_classes = python_functions, python_classes
        self.now = dict(blocks.definitions(trees[0].body))
        self.order = {name: place for place, name in enumerate(self.now)}
        self.definitions: dict[str, list[Definition]] = {}  # of both versions, as is all that follows
        self.bindings: dict[str, list[Item]] = {}
        self.fixtures: dict[str, list[Definition]] = {}
        for tree in trees:
            for name, node in blocks.definitions(tree.body):
                self.definitions.setdefault(name, []).append(node)
                if isinstance(node, Function) and _is_fixture(node):
                    for alias in fixture_names(node) or [name]:
                        self.fixtures.setdefault(alias, []).append(node)
            for item in blocks.items(tree.body):
                for name in () if item.is_definition else item.names:
                    self.bindings.setdefault(name, []).append(item)
        self.mentioned: dict[str, set[str]] = {}  # a name of the module → the definitions that mention it
        for refs in mentions:
            for user, symbol in (("", refs.statements), *refs.symbols.items()):
                for name in symbol.names | symbol.bases:
                    self.mentioned.setdefault(name, set()).add(user)
        self.classes = {name: self._class(name) for name, node in self.now.items() if isinstance(node, ast.ClassDef)}

    def docstrings(self) -> Iterator[str]:
        """The docstrings of the new version in which pytest looks for doctests."""
        for node in (self.tree, *self.now.values()):
            yield ast.get_docstring(node, clean=False) or ""

    def is_test(self, name: str) -> bool:
        """Whether this is a test function, or a test method if its class is collected."""
        return name in self.definitions and all(map(self._is_test_function, self.definitions[name]))

    def _is_test_function(self, node: Definition) -> bool:
        return (
            isinstance(node, Function)
            and _matches(node.name, (*self.python_functions, "test"))
            and not _is_fixture(node)
            and not any(leaf(d) in _NO_FUNCTION for d in node.decorator_list)
        )

    def is_part(self, name: str) -> bool:
        """Whether the class around it runs this without using it: tests and inner test classes."""
        return self.is_test(name) or (name in self.classes and self._is_collected(name) is not False)

    def _is_mentioned(self, name: str) -> bool:
        return bool(self.mentioned.get(name, set()) - {name})

    # Classes

    def _class(self, name: str) -> _Class:
        node = self.now[name]
        assert isinstance(node, ast.ClassDef)
        found = _Class([name], [], {})
        for item in blocks.items(node.body):
            names = item.names or blocks.bound_names(item.value)  # __test__ counts as a statement
            found.members.update((member, (name, item)) for member in names)
        for base in node.bases:
            text = ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
            beside = ".".join([*name.split(".")[:-1], text])
            local = next((c for c in (beside, text) if self._is_class_before(c, name)), None)
            if local:
                inherited = self._class(local)
                found.lineage.extend(c for c in inherited.lineage if c not in found.lineage)
                found.outer.extend(inherited.outer)
                for member, where in inherited.members.items():
                    found.members.setdefault(member, where)
            elif leaf(base) not in _PLAIN_BASES:
                found.outer.append("" if isinstance(base, ast.Call) else leaf(base))
        return found

    def _is_class_before(self, name: str, user: str) -> bool:
        return isinstance(self.now.get(name), ast.ClassDef) and self.order[name] < self.order[user]

    def _is_collected(self, name: str) -> bool | None:
        """Whether pytest collects a class as tests; None where that is decided elsewhere."""
        class_ = self.classes[name]
        matches = _matches(name.rpartition(".")[2], self.python_classes)
        if "__test__" in class_.members:
            flag = getattr(class_.members["__test__"][1].value, "value", None)
            if not isinstance(flag, ast.Constant):
                return None
            if not flag.value:
                return False
            matches = True
        definitions = [item.value for _, item in class_.members.values() if item.is_definition]
        if any(leaf(d).startswith("abstract") for node in definitions for d in node.decorator_list):
            return None
        if class_.is_unittest:
            return True
        if matches:
            return not {"__init__", "__new__"} & class_.members.keys()
        return None if class_.has_unknown_bases and any(map(self._is_test_function, definitions)) else False

    def _tests(self, class_: _Class) -> dict[str, Function]:
        """The test methods of a class by name, in file order."""
        patterns = ("test",) if class_.is_unittest else self.python_functions
        found = [
            name
            for name, (_, item) in class_.members.items()
            if item.is_definition and self._is_test_function(item.value) and _matches(name, patterns)
        ]
        if class_.is_unittest and not found:
            found = [name for name, (_, item) in class_.members.items() if name == "runTest" and item.is_definition]
        found.sort(key=lambda name: self.order[f"{class_.members[name][0]}.{name}"])
        return {name: class_.members[name][1].value for name in found}

    # What reaches every test

    def unseen_requesters(self, outer_requests: Collection[str] | None) -> Iterator[str]:
        """Who may use a fixture of this file without mentioning it.

        By a computed name, in a test that is inherited from another file, or through a fixture from outside.
        """
        own = {name.rpartition(".")[2] for name in self.fixtures}
        for name, node in self.now.items():
            requested = _requests(node)
            unknown = requested - own - _KNOWN_FIXTURES
            requests = name in self.fixtures or self.is_test(name) or name in self.classes
            inherits = name in self.classes and self.classes[name].has_unknown_bases
            if (
                "" in requested
                or (inherits and self._is_collected(name) is not False)
                or (outer_requests is None and requests and unknown)
            ):
                yield name

    def whole(self, reached: Reach, changed: frozenset[str], outer_requests: Collection[str] | None) -> str:
        """Why every test of the file is affected, or ""."""
        if reached.statement:
            return f"what runs at import uses `{reached.statement}`"
        if self.refs.dynamic and not all(map(self.is_test, reached.found)):
            return "the file looks names up dynamically"
        for name in (*reached.found, *reached.containers):
            reason = ""
            if name in self.bindings:
                reason = self._whole_for_binding(name)
            elif name in self.fixtures and "." not in name:
                reason = self._whole_for_fixture(name, outer_requests)
            elif name.startswith("pytest_") or name in _MODULE_SETUP:
                reason = f"`{name}` runs for every test"
            elif "." not in name and not self.is_test(name):
                reason = self._whole_for_registered(name, changed)
            if reason:
                return reason
        return ""

    def _whole_for_binding(self, name: str) -> str:
        if self._may_be_test(name):
            return f"`{name}` may be a test"
        made = (leaf(item.value) for item in self.bindings[name] if isinstance(item.value, ast.Assign))
        if name in self._requested or "fixture" in made:
            return f"`{name}` may be a fixture"
        if not self._is_mentioned(name) and not self._is_standard(name):
            return f"`{name}` may be used from outside"
        return ""

    @cached_property
    def _requested(self) -> frozenset[str]:
        return frozenset(name for nodes in self.definitions.values() for node in nodes for name in _requests(node))

    def _is_standard(self, name: str) -> bool:
        """Whether this is imported from the standard library."""
        modules = [
            str(item.value[0]).partition(".")[0] if isinstance(item.node, ast.alias) and item.value[0] else ""
            for item in self.bindings[name]
        ]
        return all(module in sys.stdlib_module_names for module in modules)

    def _may_be_test(self, name: str) -> bool:
        """Whether a name that is imported or assigned may be a test or a class of tests."""
        literal = (ast.Constant, ast.JoinedStr, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.BinOp)
        if all(isinstance(getattr(item.value, "value", None), literal) for item in self.bindings[name]):
            return False
        helper_class = bool(self.mentioned.get(name)) and not any(
            name in symbol.bases for symbol in self.refs.symbols.values()
        )
        return not self._is_standard(name) and (
            _matches(name, (*self.python_functions, "test"))
            or (_matches(name, self.python_classes) and not helper_class)
        )

    def _whole_for_fixture(self, name: str, outer_requests: Collection[str] | None) -> str:
        if any(map(_is_autouse, self.fixtures[name])):
            return f"fixture `{name}` runs for every test"
        replaces = not self._is_mentioned(name) if outer_requests is None else name in outer_requests
        if replaces or name in _KNOWN_FIXTURES:
            return f"fixture `{name}` may replace one from outside"
        if any(map(self._may_be_test, self.bindings)):
            return f"tests that are imported may request fixture `{name}`"
        if outer_requests is None and "usefixtures" in self.refs.statements.attributes:
            return f"`pytestmark` may request fixture `{name}`"
        return ""

    def _whole_for_registered(self, name: str, changed: frozenset[str]) -> str:
        """A function or class that tests may get at through a register, without mentioning it."""
        collected = name in self.classes and self._is_collected(name)
        for node in self.definitions.get(name, ()):
            if collected and _expands(node):
                return f"a decorator of `{name}` makes further tests"
            if collected:
                continue
            if not all(map(_is_plain_decorator, node.decorator_list)):
                return f"a decorator of `{name}` may register it"
            if not isinstance(node, ast.ClassDef):
                continue
            class_ = self.classes.get(name)
            heads = [node, *(self.now[base] for base in class_.lineage)] if class_ else [node]
            watched = any(isinstance(head, ast.ClassDef) and head.keywords for head in heads)
            watched |= class_ is not None and "__init_subclass__" in class_.members
            unknown = any(leaf(base) not in _PLAIN_BASES and leaf(base) not in self.classes for base in node.bases)
            if watched or (unknown and (name in changed or not self._is_mentioned(name))):
                return f"a base class of `{name}` may register it"
        return ""

    # The answer

    def affected(self, reached: Reach) -> dict[str, str]:
        """Node id → reason, in file order; "" → reason where the whole file has to run."""
        found: dict[str, str] = {}
        setup = next((name for name in _FUNCTION_SETUP if name in reached.found), None)
        for name, node in self.now.items():
            if "." in name:
                continue
            if isinstance(node, ast.ClassDef):
                found.update(self._affected_in(name, name, "", reached))
            elif self.is_test(name) and _matches(name, self.python_functions):
                if name in reached.found:
                    found["" if _expands(node) else name] = self._reason(name, reached)
                elif setup:
                    found[name] = f"{setup} changed"
        return found

    def _affected_in(self, name: str, node_id: str, inherited: str, reached: Reach) -> Iterator[tuple[str, str]]:
        """The affected tests of one class; `inherited` is a reason that holds for all of them."""
        class_, collected = self.classes[name], self._is_collected(name)
        if collected is False:
            return
        reason = inherited or (self._class_reason(name, reached) if name in reached.found else "")
        tests = self._tests(class_)
        touched = {  # tests that went count too: another class may now give the name
            full.rpartition(".")[2]: self._reason(full, reached)
            for full in reached.found
            if full.rpartition(".")[0] in class_.lineage and self.is_test(full)
        }
        if collected is None and (reason or touched):
            yield "", f"whether `{name}` is collected is decided elsewhere"
            return
        assigned = any(n.startswith("test") and not item.is_definition for n, (_, item) in class_.members.items())
        by_class = (
            (reason and (class_.has_unknown_bases or assigned))
            or (class_.has_unknown_bases and touched.keys() - tests.keys())
            or any(_expands(node) for n, node in tests.items() if reason or n in touched)
        )
        if by_class and not tests and self._is_mentioned(name):
            yield "", f"whether `{name}` is a class of tests is decided elsewhere"
        elif by_class:
            yield node_id, reason or next(iter(touched.values()))
        else:
            for test in tests:
                if reason or test in touched:
                    yield f"{node_id}::{test}", touched.get(test, reason)
            for member, (owner, item) in class_.members.items():
                if isinstance(item.value, ast.ClassDef) and not class_.is_unittest:
                    yield from self._affected_in(f"{owner}.{member}", f"{node_id}::{member}", reason, reached)

    def _reason(self, name: str, reached: Reach) -> str:
        through = reached.found[name]
        if through is None:
            return "changed"
        return f"fixture `{through}`" if through in self.fixtures else f"uses `{through}`"

    def _class_reason(self, name: str, reached: Reach) -> str:
        through = reached.found[name]
        if through is None:
            return f"class {name} changed"
        if through in self.classes[name].lineage:
            return f"inherits from {through}"
        outer, _, member = through.rpartition(".")
        if outer == name:
            return f"{member} of {name} " + self._reason(through, reached)
        return f"class {name}: {self._reason(name, reached)}"
