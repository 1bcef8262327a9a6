"""What differs between two versions of a file, and which tests of the file it reaches."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import sys
import textwrap
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenline.depgraph.affected_items import affected_tests
from greenline.depgraph.blocks import compare
from greenline.depgraph.mentions import closure


def text(source: str) -> bytes:
    return textwrap.dedent(source).encode()


COMPARED = {
    # no difference
    "identical": ("x = 1", "x = 1", "none", ""),
    "comment": ("x = 1", "# why\nx = 1  # noqa", "none", ""),
    "layout": ("f(1, 2)\nx = [1]", "f(\n    1,\n    2,\n)\nx = ([1,])", "none", ""),
    "spelling": ('x = "a", 0x10, rb"x"', "x = 'a', 16, RB'x'", "none", ""),
    "u prefix": ("x = 'a'", "x = u'a'", "none", ""),
    "type comment": ("x = []", "x = []  # type: list[int]", "none", ""),
    "indentation": ("def f():\n  return 1", "def f():\n        return 1", "none", ""),
    "line ends": ("def f():\n  return 1\n", "def f():\r\n  return 1\r\n", "none", ""),
    "byte order mark": ("x = 1", "\ufeffx = 1", "none", ""),
    "inert functions change places": ("def f(): 1\ndef g(): 2", "def g(): 2\ndef f(): 1", "none", ""),
    "methods change places": (
        "class C:\n def f(s): 1\n def g(s): 2",
        "class C:\n def g(s): 2\n def f(s): 1",
        "none",
        "",
    ),
    "pass next to a body": ("class C:\n x = 1", "class C:\n x = 1\n pass", "none", ""),
    "unreadable but equal": ("print 'x'", "print 'x'", "none", ""),
    # docstrings
    "docstring": ("def f():\n 'a'\n return 1", "def f():\n 'b'\n return 1", "docstrings", ""),
    "docstring removed": ("def f():\n 'a'\n return 1", "def f():\n return 1", "docstrings", ""),
    "method docstring": ("class C:\n def f(s):\n  'a'", "class C:\n def f(s):\n  'b'", "docstrings", ""),
    "class docstring": ("class C:\n 'a'\n x = 1", "class C:\n 'b'\n x = 1", "docstrings", ""),
    "module docstring": ("'a'\nx = 1", "'b'\nx = 1", "docstrings", ""),
    "module docstring that is read": ("'a'\nx = __doc__", "'b'\nx = __doc__", "module", "__doc__"),
    "docstring that is read": (
        "def f():\n 'a'\nx = f.__doc__",
        "def f():\n 'b'\nx = f.__doc__",
        "definitions",
        "f",
    ),
    "doctest": ("def f():\n '>>> 1'", "def f():\n '>>> 2'", "definitions", "f"),
    "docstring under a decorator": ("@d\ndef f():\n 'a'", "@d\ndef f():\n 'b'", "definitions", "f"),
    "docstring of a class with bases": ("class C(B):\n 'a'", "class C(B):\n 'b'", "definitions", "C"),
    "docstring in a class with bases": (
        "class C(B):\n def f(s):\n  'a'",
        "class C(B):\n def f(s):\n  'b'",
        "definitions",
        "C.f",
    ),
    "grammar in a docstring": ("def p_x(p):\n 'x : y'", "def p_x(p):\n 'x : z'", "definitions", "p_x"),
    "docstring and body": ("def f():\n 'a'\n return 1", "def f():\n 'b'\n return 2", "definitions", "f"),
    # definitions
    "body": ("def f(): return 1", "def f(): return 2", "definitions", "f"),
    "number type": ("def f(): return 1", "def f(): return 1.0", "definitions", "f"),
    "bool for int": ("def f(): return 1", "def f(): return True", "definitions", "f"),
    "default": ("def f(a=1): 1", "def f(a=2): 1", "definitions", "f"),
    "annotation": ("def f(a: int): 1", "def f(a: str): 1", "definitions", "f"),
    "decorator": ("def f(): 1", "@d\ndef f(): 1", "definitions", "f"),
    "async": ("def f(): 1", "async def f(): 1", "definitions", "f"),
    "added": ("def f(): 1", "def f(): 1\ndef g(): 1", "definitions", "g"),
    "removed": ("def f(): 1\ndef g(): 1", "def g(): 1", "definitions", "f"),
    "renamed": ("def f(): 1", "def g(): 1", "definitions", "f g"),
    "method": ("class C:\n def m(s): 1", "class C:\n def m(s): 2", "definitions", "C.m"),
    "inner class": (
        "class C:\n class I:\n  def m(s): 1",
        "class C:\n class I:\n  def m(s): 2",
        "definitions",
        "C.I.m",
    ),
    "method added": ("class C:\n x = 1", "class C:\n x = 1\n def m(s): 1", "definitions", "C.m"),
    "setter of a property": (
        "class C:\n @property\n def p(s): 1\n @p.setter\n def p(s, v): 1",
        "class C:\n @property\n def p(s): 1\n @p.setter\n def p(s, v): 2",
        "definitions",
        "C.p",
    ),
    "class attribute": ("class C:\n x = 1", "class C:\n x = 2", "definitions", "C"),
    "base class": ("class C(A): x = 1", "class C(B): x = 1", "definitions", "C"),
    "attributes change places": ("class C:\n x = 1\n y = 2", "class C:\n y = 2\n x = 1", "definitions", "C"),
    "class added": ("", "class C:\n def m(s): 1\n class I:\n  def n(s): 1", "definitions", "C C.m C.I C.I.n"),
    "nested function": (
        "def f():\n def g(): 1\n return g",
        "def f():\n def g(): 2\n return g",
        "definitions",
        "f",
    ),
    # bindings
    "assignment": ("X = 1\nY = 2", "X = 1\nY = 3", "module", "Y"),
    "annotated assignment": ("X: int = 1", "X: int = 2", "module", "X"),
    "tuple": ("a, b = 1, 2", "a, b = 1, 3", "module", "a b"),
    "import added": ("import a", "import a\nimport b.c", "module", "b"),
    "one more from": ("from a import b, d", "from a import b, c, d", "module", "c"),
    "import split in lines": ("from a import b, c", "from a import b\nfrom a import c", "none", ""),
    "other module": ("from a import f", "from b import f", "module", "f"),
    "submodule of the same": ("import a.b", "import a.b\nimport a.c", "module", "a"),
    "import and function": ("def f(): 1", "import a\ndef f(): a.x", "module", "a f"),
    "only for type checkers": (
        "if TYPE_CHECKING:\n from a import B",
        "if TYPE_CHECKING:\n from a import B, C",
        "module",
        "C",
    ),
    "function becomes import": ("def f(): 1", "from a import f", "module", "f"),
    "version": ("__version__ = '1'", "__version__ = '2'", "module", "__version__"),
    # statements
    "expression": ("f()", "g()", "module", None),
    "try": ("try: import a\nexcept E: a = 1", "try: import a\nexcept E: a = 2", "module", None),
    "conditional definition": ("if x:\n def f(): 1", "if x:\n def f(): 2", "module", None),
    "augmented": ("X = 1\nX += 1", "X = 1\nX += 2", "module", None),
    "attribute": ("a.b = 1", "a.b = 2", "module", None),
    "walrus": ("x = (y := 1)", "x = (y := 2)", "module", None),
    "star import": ("", "from a import *", "module", None),
    "future import": ("", "from __future__ import annotations", "module", None),
    "__all__": ("__all__ = ['a']", "__all__ = ['b']", "module", None),
    "pytestmark": ("pytestmark = a", "pytestmark = b", "module", None),
    "lazy attributes": ("def __getattr__(n): 1", "def __getattr__(n): 2", "module", None),
    "imports change places": ("import a\nimport b", "import b\nimport a", "module", None),
    "function moved past its caller": ("def f(): 1\nf()", "f()\ndef f(): 1", "module", None),
    "decorated functions change places": (
        "@d\ndef f(): 1\ndef g(): 2",
        "def g(): 2\n@d\ndef f(): 1",
        "module",
        None,
    ),
    "defined twice": ("def f(): 1\ndef f(): 2", "def f(): 1\ndef f(): 3", "module", None),
    "unreadable": ("x = 1", "x = = 1", "module", None),
    "was unreadable": ("print 'x'", "print('x')", "module", None),
    "null byte": ("x = 1", "x = 1\0", "module", None),
}


@pytest.mark.parametrize("case", COMPARED)
def test_compare(case: str) -> None:
    old, new, kind, changed = COMPARED[case]
    expected = (kind, frozenset((changed or "").split()), changed is None)
    assert compare(old.encode(), new.encode()) == expected
    backwards = compare(new.encode(), old.encode())
    assert backwards == expected


def test_a_file_that_comes_or_goes_changes_everything() -> None:
    assert compare(None, b"x = 1") == compare(b"x = 1", None) == ("module", frozenset(), True)
    assert compare(None, None).kind == "none"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new syntax")
@pytest.mark.parametrize(
    "old, new, kind, changed",
    [
        ("type X = int", "type X = (int)", "none", ""),
        ("type X = int", "type X = str", "module", "X"),
        ("def f[T](a: T): 1", "def f[U](a: U): 1", "definitions", "f"),
        ("class C[T]: x = 1", "class C[T: int]: x = 1", "definitions", "C"),
        ("def f(): return f'{a!r:>{b}}'", 'def f(): return f"{a!r:>{b}}"', "none", ""),
    ],
)
def test_compare_new_syntax(old: str, new: str, kind: str, changed: str) -> None:
    assert compare(old.encode(), new.encode()) == (kind, frozenset(changed.split()), False)


def test_an_encoding_counts_by_the_text_that_it_gives() -> None:
    latin = "# coding: latin-1\nx = 'é'\n"
    assert compare(latin.encode("latin-1"), "x = 'é'\n".encode()).kind == "none"
    assert compare(latin.encode("latin-1"), latin.encode("utf-8")).changed == {"x"}
    plain = "\ndef f():\n    return 'é'\n"  # the two files end in the same bytes
    declared = "# coding: latin-1" + plain
    assert compare(plain.encode(), declared.encode()).changed == {"f"}


# Random modules


NAMES = st.sampled_from(["alpha", "beta", "gamma", "delta"])
VALUES = st.sampled_from(["1", "'text'", "[1, 2]", "'''two\n    lines'''", "(alpha, 0x1F)", "f'{1 + 1!r:>4}'"])
STATEMENTS = st.one_of(
    st.builds("{} = {}".format, NAMES, VALUES),
    st.builds("import {}.{}".format, NAMES, NAMES),
    st.builds("if {}:\n    {} = {}\nelse:\n    pass".format, NAMES, NAMES, VALUES),
    st.builds("def {}(a, b={}):\n    'Doc.'\n    return {}".format, NAMES, VALUES, VALUES),
    st.builds("@{}\nasync def {}(*args):\n    x = {}\n    await x".format, NAMES, NAMES, VALUES),
    st.builds(
        "class {}({}):\n    x = {}\n\n    def {}(self):\n        return {}".format,
        NAMES,
        NAMES,
        VALUES,
        NAMES,
        VALUES,
    ),
    st.builds("print({})".format, VALUES),
)
MODULES = st.lists(STATEMENTS, max_size=8)


def with_comments(source: str) -> str:
    """The same program with a comment and an empty line in front of every statement."""
    starts = {
        min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.stmt)
    }
    lines = source.split("\n")
    return "\n".join(
        f"# note {number}\n\n{line}  # end"
        if number in starts and not line.endswith("'''two") and '"""' not in line
        else line
        for number, line in enumerate(lines, 1)
    )


@given(MODULES)
def test_comments_and_layout_make_no_difference(statements: list[str]) -> None:
    source = "\n".join(statements) + "\n"
    for rewritten in (
        ast.unparse(ast.parse(source)),
        with_comments(source),
        re.sub(r"^((?:    )+)(?=\S)", lambda m: m[1] * 2, source, flags=re.M).replace("        lines", "    lines"),
        source.replace("\n", "\r\n"),
    ):
        assert compare(source.encode(), rewritten.encode()).kind == "none"


@given(MODULES, MODULES, MODULES)
def test_only_equal_programs_compare_as_equal(start: list[str], middle: list[str], end: list[str]) -> None:
    old, new = ("\n".join([*start, *part, *end]) + "\n" for part in (middle, middle[1:]))
    equal = ast.dump(ast.parse(old)) == ast.dump(ast.parse(new))
    delta = compare(old.encode(), new.encode())
    assert equal == (delta.kind == "none")
    # A declared encoding makes compare read both files whole.
    whole = compare(*(b"# coding: utf-8\n" + source.encode() for source in (old, new)))
    assert delta == whole


@given(MODULES, st.integers(min_value=0, max_value=8))
def test_one_changed_function_is_named(statements: list[str], place: int) -> None:
    old, new = ([*statements[:place], f"def changed():\n    return {value}", *statements[place:]] for value in (1, 2))
    delta = compare("\n".join(old).encode(), "\n".join(new).encode())
    assert delta == ("definitions", frozenset({"changed"}), False)


# References


FIXTURES = text(
    """
    import pytest
    import json
    from app import Client

    LIMIT = 3
    SIZES = [LIMIT, 4]

    def connect(size=LIMIT):
        return Client(size)

    @pytest.fixture
    def client():
        return connect()

    @pytest.fixture(name="shop")
    def make_shop(client):
        return client.shop

    @pytest.fixture
    def other(request):
        return json.loads("{}")

    class Store:
        def get(self):
            return LIMIT

    @pytest.fixture
    def store():
        return Store()

    if __name__ == "__main__":
        connect()
    """
)

CLOSED = {
    "connect": "connect client make_shop __file__",
    "LIMIT": "LIMIT SIZES connect client make_shop Store Store.get store __file__",
    "client": "client make_shop",
    "shop": "shop make_shop",
    "json": "json other",
    "Client": "Client connect client make_shop __file__",
    "Store.get": "Store.get Store store",
    "absent": "absent",
}


@pytest.mark.parametrize("name", CLOSED)
def test_closure(name: str) -> None:
    assert closure(FIXTURES, [name]) == frozenset(CLOSED[name].split())


@pytest.mark.parametrize(
    "more",
    [
        "register(connect)",
        "pytestmark = pytest.mark.skipif(LIMIT)",
        "for name in SIZES: pass",
        "def f(n): return globals()[n]",
        "from x import *",
        "def f(n): return getattr(sys.modules[__name__], n)",
        "x = = 1",
    ],
)
def test_closure_that_cannot_be_told(more: str) -> None:
    assert closure(FIXTURES + more.encode(), ["LIMIT"]) is None


# Tests of a file


TESTS = """
import os
import pytest
import unittest
from unittest import mock
from tests.base import Contract

LIMIT = 3
DOUBLE = LIMIT * 2
CASES = [1, 2]

def helper():
    return DOUBLE

def outer():
    return helper()

def counted():
    global COUNT
    COUNT = 1

COUNT = 0

@pytest.fixture
def thing():
    return helper()

@pytest.fixture(name="renamed")
def make_renamed():
    return 1

@pytest.fixture
def by_string():
    return 1

def setup_function():
    os.getpid()

def test_plain():
    pass

def test_outer():
    assert outer()

def test_thing(thing):
    assert thing

def test_renamed(renamed):
    assert renamed

@pytest.mark.usefixtures("by_string")
def test_used():
    pass

def test_looked_up(request):
    request.getfixturevalue("by_string")

@pytest.mark.parametrize("case", CASES)
def test_cases(case):
    assert case

def test_patched():
    with mock.patch(__name__ + ".helper"):
        pass

def test_count():
    assert COUNT == 0

class Plain:
    def value(self):
        return 1

def test_instance():
    assert Plain().value()

class TestBase:
    size = 1

    def setup_method(self):
        self.client = 1

    def make(self):
        return 1

    def test_base(self):
        pass

    def test_other(self):
        pass

    class TestInner:
        def test_inner(self):
            pass

class TestChild(TestBase):
    def test_child(self):
        pass

    def test_other(self):
        pass

class TestContract(Contract):
    flag = 1

    def test_own(self):
        pass

class Cases(unittest.TestCase):
    def setUp(self):
        self.x = 1

    def test_case(self):
        pass

class Mixin:
    def test_mixed(self):
        pass

class TestMixed(Mixin):
    def test_more(self):
        pass
"""

BASE_IDS = "TestBase::test_base TestBase::test_other TestBase::TestInner::test_inner"
CHILD_IDS = "TestChild::test_base TestChild::test_child TestChild::test_other TestChild::TestInner::test_inner"
FUNCTIONS = """test_plain test_outer test_thing test_renamed test_used test_looked_up test_cases test_patched
test_count test_instance"""
USE_HELPER = "test_outer test_thing test_patched"

REACHED = {
    "a test": ("def test_plain():\n    pass", "def test_plain():\n    1", "test_plain"),
    "a constant": ("LIMIT = 3", "LIMIT = 4", f"{USE_HELPER} TestContract"),
    "a helper": ("return DOUBLE", "return 1", f"{USE_HELPER} TestContract"),
    "a fixture": ("def thing():\n    return", "def thing():\n    return 1 +", "test_thing TestContract"),
    "a renamed fixture": (
        "renamed():\n    return 1",
        "renamed():\n    return 2",
        "test_renamed TestContract",
    ),
    "a fixture by string": (
        "by_string():\n    return 1",
        "by_string():\n    return 2",
        "test_used test_looked_up TestContract",
    ),
    "parameters": ("CASES = [1, 2]", "CASES = [1]", "test_cases"),
    "a global that a helper sets": ("    COUNT = 1", "    COUNT = 2", "test_count"),
    "a method of a helper class": (
        "def value(self):\n        return 1",
        "def value(self): 2",
        "test_instance",
    ),
    "setup_function": ("os.getpid()", "os.getppid()", FUNCTIONS),
    "setup_method": ("self.client = 1", "self.client = 2", f"{BASE_IDS} {CHILD_IDS}"),
    "a helper method": ("def make(self):\n        return 1", "def make(self): 2", f"{BASE_IDS} {CHILD_IDS}"),
    "an attribute": ("size = 1", "size = 2", f"{BASE_IDS} {CHILD_IDS}"),
    "a class decorator": (
        "class TestBase:",
        "@pytest.mark.skip\nclass TestBase:",
        f"{BASE_IDS} {CHILD_IDS}",
    ),
    "an inherited test": (
        "def test_base(self):\n        pass",
        "def test_base(self):\n        1",
        "TestBase::test_base TestChild::test_base",
    ),
    "an inner test": (
        "def test_inner(self):\n            pass",
        "def test_inner(self):\n            1",
        "TestBase::TestInner::test_inner TestChild::TestInner::test_inner",
    ),
    "a test that no longer hides another": (
        "def test_child(self):\n        pass\n\n    def test_other(self):\n        pass",
        "def test_child(self):\n        pass",
        "TestChild::test_other",
    ),
    "a test that goes": ("def test_plain():\n    pass\n", "", ""),
    "a test that comes": ("class Plain:", "def test_new(): 1\n\nclass Plain:", "test_new"),
    "a test of a foreign class": (
        "def test_own(self):\n        pass",
        "def test_own(self): 1",
        "TestContract::test_own",
    ),
    "an attribute of a foreign class": ("flag = 1", "flag = 2", "TestContract"),
    "setUp": ("self.x = 1", "self.x = 2", "Cases::test_case"),
    "a mixin": ("def test_mixed(self):\n        pass", "def test_mixed(self): 1", "TestMixed::test_mixed"),
    "a comment": ("LIMIT = 3", "LIMIT = 3  # three", ""),
    "an import": ("from unittest import mock", "import mock", "test_patched"),
    "a statement": ("LIMIT = 3", "LIMIT = 3\nprint(1)", None),
    "a base from elsewhere": (
        "from tests.base import Contract",
        "from tests.new import Contract",
        "TestContract",
    ),
}


@pytest.mark.parametrize("case", REACHED)
def test_affected_tests(case: str) -> None:
    before, after, expected = REACHED[case]
    assert TESTS.count(before) == 1
    items = affected_tests(TESTS.encode(), TESTS.replace(before, after).encode())
    assert items.whole == (expected is None)
    assert sorted(items.node_ids) == sorted((expected or "").split())
    assert list(items.why) == ([""] if items.whole else list(items.node_ids))
    assert all(items.why.values())


SMALL = """
import pytest
from app import register, Plugin, shared_fixture
NAME = "x"
def helper(): return 1
@pytest.fixture
def client(): return helper()
def test_a(client): helper()
def test_b(app): pass
def test_c(tmp_path): pass
"""

WHOLE = {
    "autouse": ("@pytest.fixture\n", "@pytest.fixture(autouse=True)\n"),
    "a fixture that nobody here mentions": ("NAME", "@pytest.fixture\ndef loop(): 1\nNAME"),
    "a fixture of pytest": ("NAME", "@pytest.fixture\ndef tmp_path(): 1\nNAME"),
    "setup_module": ("def helper", "def setup_module(): 1\ndef helper"),
    "a hook": ("def helper", "def pytest_generate_tests(metafunc): 1\ndef helper"),
    "registration": ("def helper", "@register\ndef plugin(): 1\ndef helper"),
    "a subclass of what may keep a register": ("def helper", "class P(Plugin): pass\ndef helper"),
    "a constant that nobody here mentions": ('"x"', '"y"'),
    "an imported test": ("import register", "import test_shared, register"),
    "an unused import": ("import register", "import database, register"),
    "a test that is made": ("def helper", "test_made = make(1)\ndef helper"),
    "pytestmark": ("def helper", "pytestmark = []\ndef helper"),
    "autouse under another name": (
        "def helper",
        '@pytest.fixture(name="n", autouse=True)\ndef m(): 1\ndef helper',
    ),
}


@pytest.mark.parametrize("case", WHOLE)
def test_whole_file(case: str) -> None:
    before, after = WHOLE[case]
    new = SMALL.replace(before, after, 1)
    assert new != SMALL
    for items in (affected_tests(SMALL.encode(), new.encode()), affected_tests(new.encode(), SMALL.encode())):
        assert items.whole and not items.node_ids and items.why[""]


@pytest.mark.parametrize(
    "more",
    [
        "def f(): return globals()",
        "from app import *",
        "print(helper())",
        "if helper():\n    def test_d(): pass",
        "pytestmark = pytest.mark.skipif(helper())",
        "def f():\n    '>>> helper()'",
    ],
)
def test_whole_file_when_a_helper_changes(more: str) -> None:
    old = f"{SMALL}\n{more}\n"
    items = affected_tests(old.encode(), old.replace("return 1", "return 2").encode())
    assert items.whole
    assert "helper" in items.exported


def test_a_prompt_in_an_ordinary_string_is_no_doctest() -> None:
    old = SMALL + "\ndef test_d():\n    assert '>>> 1'\n"
    assert affected_tests(old.encode(), old.replace("'>>> 1'", "'>>> 2'").encode()).node_ids == ("test_d",)


def test_new_and_unreadable_files_are_wholly_affected() -> None:
    assert affected_tests(None, b"def test_a(): pass").whole
    assert affected_tests(b"def test_a(): pass", b"def test_a() pass").whole
    assert affected_tests(b"print 'x'", b"def test_a(): pass").whole


def test_fixtures_outside_the_file() -> None:
    """Who requests a fixture from outside may use one of this file: `app` may request `client`."""
    old, new = SMALL.encode(), SMALL.replace("return helper()", "return 2").encode()
    assert affected_tests(old, new).node_ids == ("test_a", "test_b")
    assert affected_tests(old, new, outer_requests=["loop"]).node_ids == ("test_a",)
    assert affected_tests(old, new, outer_requests=["client"]).whole


def test_reasons_and_what_other_files_see() -> None:
    items = affected_tests(TESTS.encode(), TESTS.replace("return DOUBLE", "return 0").encode())
    assert items.why["test_outer"] == "uses `outer`"
    assert items.why["test_thing"] == "fixture `thing`"
    assert items.why["test_patched"] == "uses `helper`"
    assert {"helper", "outer", "thing"} < items.exported
    assert not any(name.rpartition(".")[2].startswith("test_") for name in items.exported)
    setup = affected_tests(TESTS.encode(), TESTS.replace("self.x = 1", "self.x = 2").encode())
    assert setup.why == {"Cases::test_case": "setUp of Cases changed"}


def test_names_of_tests_are_configurable() -> None:
    old, new = (f"def check_a(): {n}\nclass CheckB:\n    def check_b(self): {n}\n".encode() for n in (1, 2))
    assert affected_tests(old, new).node_ids == ()
    assert affected_tests(old, new, ["check_*"], ["Check"]).node_ids == ("check_a", "CheckB::check_b")


# The same questions, put to pytest


RUNNABLE = text(
    """
    import unittest
    import pytest

    FACTOR = 2
    ROWS = [FACTOR, 3]

    def helper():
        return FACTOR

    def twice(function):
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)
        return wrapper

    class Shop:
        price = 5
        def total(self, count):
            return self.price * count
        def __len__(self):
            return 1

    SHOP = Shop()

    @pytest.fixture
    def shop():
        return Shop()

    @pytest.fixture
    def sale(shop):
        shop.price = helper()
        return shop

    def setup_function():
        pass

    def test_nothing():
        pass

    def test_shop(shop):
        assert shop.total(1) == 5

    def test_sale(sale):
        assert sale.total(2) == 4

    def test_len():
        assert len(SHOP) == 1

    @pytest.mark.parametrize("row", ROWS)
    def test_rows(row):
        assert row in (2, 3)

    @pytest.mark.parametrize("name", ["shop", "sale"])
    def test_by_name(request, name):
        assert request.getfixturevalue(name)

    class TestFirst:
        limit = 2

        @pytest.fixture
        def own(self):
            return self.limit

        def setup_method(self):
            self.data = [1]

        def check(self):
            assert self.data

        def test_check(self):
            self.check()

        def test_own(self, own):
            assert own == 2

        def test_fixture(self, sale):
            assert sale

    class TestOuter:
        @pytest.fixture(autouse=True)
        def prepare(self):
            pass

        class TestInner:
            def test_inner(self):
                assert helper() == 2

    class TestOuterToo(TestOuter):
        def test_more(self):
            pass

    class TestSecond(TestFirst):
        def check(self):
            super().check()

        def test_own(self, own):
            super().test_own(own)

        def test_second(self):
            pass

    class Base:
        def test_base(self):
            assert self.value() == 1

        def value(self):
            return 1

    class TestThird(Base):
        pass

    class TestFourth(Base):
        def value(self):
            return 2 - 1

    class Numbers(unittest.TestCase):
        @classmethod
        def setUpClass(cls):
            cls.shop = Shop()

        def test_total(self):
            self.assertEqual(self.shop.total(2), 10)

        def test_none(self):
            pass
    """
).decode()


class Outcomes:
    """A pytest plugin that keeps the outcome of every test, by file and by test."""

    def __init__(self) -> None:
        self.found: defaultdict[str, dict[str, str]] = defaultdict(dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file, _, name = report.nodeid.partition("::")
        if report.outcome != "passed" or report.when == "call":
            so_far = self.found[file].get(name, "")
            self.found[file][name] = f"{so_far} {report.when} {report.outcome}"


def run_pytest(folder: Path, sources: list[str], *options: str) -> tuple[list[dict[str, str]], str]:
    """The outcome of every test in each of the files, and what pytest printed."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    files = [f"test_{number}.py" for number in range(len(sources))]
    for file, source in zip(files, sources, strict=True):
        (folder / file).write_text(source)
    outcomes, output = Outcomes(), io.StringIO()
    arguments = ["-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:xdist"]
    with contextlib.redirect_stdout(output):
        pytest.main([*arguments, *options, f"--rootdir={folder}", str(folder)], plugins=[outcomes])
    for file in files:  # pytest takes a module of that name for the one to test
        sys.modules.pop(file.removesuffix(".py"), None)
    return [outcomes.found[file] for file in files], output.getvalue()


def broken_versions(source: str) -> dict[str, str]:
    """The file with one function or method that raises, or one value that differs, for each of them."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        lines = source.split("\n")
        if isinstance(node, ast.FunctionDef):
            first = node.body[0]
            lines.insert(first.lineno - 1, " " * first.col_offset + "raise RuntimeError")
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            lines[node.lineno - 1] += " + 1"
        else:
            continue
        found[f"line {node.lineno}: {source.splitlines()[node.lineno - 1].strip()}"] = "\n".join(lines)
    return found


def covers(node_ids: tuple[str, ...], test: str) -> bool:
    return any(test == i or test.startswith((f"{i}::", f"{i}[")) for i in node_ids)


def test_every_test_whose_outcome_differs_is_found(tmp_path: Path) -> None:
    broken = broken_versions(RUNNABLE)
    (before, *versions), _ = run_pytest(tmp_path, [RUNNABLE, *broken.values()], "--import-mode=importlib")
    assert len(before) > 20 and set(before.values()) == {" call passed"}
    precise = differing = 0
    for (change, source), after in zip(broken.items(), versions, strict=True):
        items = affected_tests(RUNNABLE.encode(), source.encode())
        differ = {test for test in before.keys() | after.keys() if before.get(test) != after.get(test)}
        assert items.whole or all(covers(items.node_ids, test) for test in differ), change
        assert all(any(covers((i,), test) for test in before) for i in items.node_ids), change
        precise += not items.whole
        differing += bool(differ)
    assert precise > 20 and differing > 20


def test_node_ids_are_those_of_pytest(tmp_path: Path) -> None:
    """Every class and function changes, so that every test is named."""
    _, output = run_pytest(tmp_path, [RUNNABLE], "--import-mode=importlib", "--collect-only")
    collected = {line.partition("::")[2].partition("[")[0] for line in output.splitlines() if "::" in line}
    changed = re.sub(r"(?m)^def (test_\w+)\((.*)\):", r"def \1(\2, more=1):", RUNNABLE).replace("(, ", "(")
    changed = re.sub(r"(?m)^( *)(class \w+.*:)$", r"\1\2\n\1    added = 1", changed)
    items = affected_tests(RUNNABLE.encode(), changed.encode())
    assert set(items.node_ids) == collected
    functions = [changed.index(f"def {name}(") for name in items.node_ids if "::" not in name]
    assert functions == sorted(functions) and len(functions) > 5
