"""Fixtures and their users as syntax shows them: tables, and pytest itself as the oracle."""

from __future__ import annotations

import json
import marshal
import os
import posixpath
import random
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from greenline.depgraph.fixture_requests import names_leading_to, requesters
from greenline.depgraph.fixtures import FileFixtures, Fixture, read_fixtures


def read(source: str) -> FileFixtures:
    return read_fixtures(textwrap.dedent(source).encode())


def fixture(source: str, name: str = "x") -> Fixture:
    found = [one for one in read(source).fixtures if one.name == name]
    assert len(found) == 1, found
    return found[0]


# One tree of files, run by pytest with a spy on the fixtures that it sets up.

ORACLE = """
import json, os, sys
import pytest

class Spy:
    def __init__(self):
        self.used, self.bad = {}, []
    def pytest_collection_modifyitems(self, items):
        self.used = {item.nodeid: [] for item in items}
    def pytest_fixture_setup(self, fixturedef, request):
        code = getattr(getattr(fixturedef.func, "__func__", fixturedef.func), "__code__", None)
        if code:
            path = os.path.relpath(code.co_filename)
            self.used[request._pyfuncitem.nodeid].append([path, code.co_name])
    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.bad.append(report.nodeid)

answers, out = [], sys.stdout
clean_path, clean_modules = list(sys.path), set(sys.modules)
for place in json.load(sys.stdin):
    os.chdir(place)
    sys.stdout = open(os.devnull, "w")
    spy = Spy()
    code = pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir=."], plugins=[spy])
    answers.append({"code": int(code), "used": spy.used, "bad": spy.bad})
    sys.path[:] = clean_path
    for name in set(sys.modules) - clean_modules:
        if os.path.dirname(place) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
json.dump(answers, out)
"""


def run_pytest(places: list[Path]) -> list[Any]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", ORACLE]
    question = json.dumps([str(place) for place in places])
    run = subprocess.run(command, input=question, capture_output=True, text=True, env=environment, check=True)
    return list(json.loads(run.stdout))


NAMES = "abcdef"


def make_fixture(rng: random.Random, name: str, method: bool, own: bool = True) -> list[str]:
    """A fixture that requests what it overrides, or names after its own, so that there are no cycles."""
    later = NAMES[NAMES.index(name) + 1 :]
    requests = [one for one in (*later, *([name] if own else [])) if rng.random() < 0.25]
    looked_up = [one for one in requests if one != name and rng.random() < 0.2]
    parameters = ["self"] * method + [one for one in requests if one not in looked_up] + ["request"] * bool(looked_up)
    options = ["autouse=True"] * (rng.random() < 0.15)
    function = name
    if not method and rng.random() < 0.2:
        function = f"make_{name}"
        options.append(f"name={name!r}")
    decorator = f"@pytest.fixture({', '.join(options)})" if options else "@pytest.fixture"
    body = [f"    request.getfixturevalue({one!r})" for one in looked_up] or ["    pass"]
    return [decorator, f"def {function}({', '.join(parameters)}):", *body]


def make_test(rng: random.Random, name: str, method: bool) -> list[str]:
    requests = [one for one in NAMES if rng.random() < 0.15]
    marks = []
    if rng.random() < 0.2:
        marks.append(f"@pytest.mark.usefixtures({rng.choice(NAMES)!r})")
    if requests and rng.random() < 0.2:
        indirect = rng.choice(["", ", indirect=True", f", indirect=[{requests[0]!r}]"])
        marks.append(f"@pytest.mark.parametrize({requests[0]!r}, [1]{indirect})")
    body = "    request.getfixturevalue('c')" if "request" in requests else "    pass"
    return [*marks, f"def {name}({', '.join(['self'] * method + requests)}):", body]


def make_module(rng: random.Random, number: int, tests: bool) -> str:
    lines = ["import unittest", "import pytest"]
    taken = "ab" if rng.random() < 0.3 else ""
    if taken:
        lines.append(rng.choice([f"from fx_{number} import a, make_b as renamed", f"from fx_{number} import *"]))
    if tests and rng.random() < 0.2:
        lines.append(f"pytestmark = [pytest.mark.usefixtures({rng.choice(NAMES)!r})]")
    for name in NAMES:
        if name not in taken and rng.random() < 0.3:
            lines += make_fixture(rng, name, method=False)
    if not tests:
        return "\n".join(lines)
    for count in range(2):
        lines += make_test(rng, f"test_{count}", method=False)
    for heading in ("class Base:", "class TestC(Base):", "class TestD:", "class TestU(unittest.TestCase):"):
        body: list[str] = []
        if rng.random() < 0.3:
            body += make_fixture(rng, rng.choice(NAMES), method=True)
        if "unittest" in heading:
            body += ["def test_u(self):", "    pass"]
        else:
            body += make_test(rng, f"test_{heading[6:-1][:5].lower().strip('(')}", method=True)
        if rng.random() < 0.3:
            lines.append(f"@pytest.mark.usefixtures({rng.choice(NAMES)!r})")
        lines += [heading, *("    " + line for line in body)]
    return "\n".join(lines)


def make_tree(rng: random.Random, number: int) -> dict[str, str]:
    base = [line for name in NAMES for line in make_fixture(rng, name, method=False, own=False)]
    tree = {
        "conftest.py": f"pytest_plugins = ['plug_{number}']\n" + make_module(rng, number, tests=False),
        f"plug_{number}.py": "import pytest\n" + "\n".join(base),
        f"fx_{number}.py": "import pytest\n@pytest.fixture\ndef a(b): pass\n@pytest.fixture\ndef make_b(c): pass\n",
        f"test_{number}_top.py": make_module(rng, number, tests=True),
        f"sub/test_{number}_sub.py": make_module(rng, number, tests=True),
        f"sub/deep/test_{number}_deep.py": make_module(rng, number, tests=True),
    }
    for folder in ("sub", "sub/deep"):
        if rng.random() < 0.7:
            tree[f"{folder}/conftest.py"] = make_module(rng, number, tests=False)
    return tree


class Tree:
    """A tree with what we and pytest know about it."""

    def __init__(self, texts: dict[str, str], number: int) -> None:
        self.texts = texts
        self.files = {path: read(text) for path, text in texts.items()}
        self.number = number

    def chain(self, path: str) -> list[str]:
        folders = []
        while path:
            path = posixpath.dirname(path)
            folders.append(path)
        conftests = [posixpath.join(folder, "conftest.py") for folder in folders]
        return [*(one for one in conftests if one in self.files), f"plug_{self.number}.py"]

    def imported(self, path: str, module: str) -> str | None:
        return f"{module}.py" if f"{module}.py" in self.files else None

    def ask(self, changed: dict[str, list[str]], before: dict[str, FileFixtures]) -> set[str]:
        """The node ids that requesters() selects."""
        answer = requesters(changed, self.files, self.chain, before, self.imported)
        found = set()
        for path, node_ids in answer.items():
            every = [test.node_id for test in self.files[path].tests]
            found |= {f"{path}::{node_id}" for node_id in (every if node_ids is None else node_ids)}
        return found


def write(top: Path, texts: dict[str, str]) -> Path:
    for path, text in texts.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text)
    return top


def plain(node_id: str) -> str:
    return node_id.partition("[")[0]


SEED = 7
TREES = 7


def test_pytest_sets_up_the_changed_fixture_for_the_same_tests(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    trees = [Tree(make_tree(rng, number), number) for number in range(TREES)]
    answers = run_pytest([write(tmp_path / str(tree.number), tree.texts) for tree in trees])
    exact = 0
    for tree, answer in zip(trees, answers, strict=True):
        assert answer["code"] in (0, 1), answer
        users: dict[tuple[str, str], set[str]] = {}
        for node_id, used in answer["used"].items():
            for path, function in used:
                users.setdefault((path, function), set()).add(plain(node_id))
        bad = set(map(plain, answer["bad"]))
        requested = {name for facts in tree.files.values() for test in facts.tests for name in test.requests}
        for path, facts in tree.files.items():
            for name in {one.name for one in facts.fixtures}:
                functions = {one.function.rpartition(".")[2] for one in facts.fixtures if one.name == name}
                expected = {test for function in functions for test in users.get((path, function), ())}
                selected = tree.ask({path: [name]}, tree.files)
                assert expected <= selected, (path, name)
                assert name not in requested or selected - bad <= expected, (path, name)
                exact += bool(expected) and selected == expected
    assert exact > 10 * TREES


def mutate(rng: random.Random, text: str) -> str:
    """The same conftest with one fixture less, more, or another in its place."""
    head, *blocks = re.split(r"(?m)^(?=@pytest\.fixture)", text.rstrip() + "\n")
    present = set(re.findall(r"(?m)^def (?:make_)?(\w)\(", text))
    if blocks and rng.random() < 0.6:
        old = blocks.pop(rng.randrange(len(blocks)))
        names = re.findall(r"def (?:make_)?(\w)\(", old) if rng.random() < 0.6 else []
    else:
        names = [name for name in NAMES if name not in present][:1]
    return head + "".join(blocks) + "\n".join(line for name in names for line in make_fixture(rng, name, False))


def test_a_fixture_that_comes_goes_or_changes_reaches_the_tests_that_pytest_runs_otherwise(tmp_path: Path) -> None:
    rng = random.Random(SEED + 1)
    pairs = []
    for number in range(TREES):
        texts = make_tree(rng, number)
        path = rng.choice([one for one in texts if one.endswith("conftest.py")])
        pairs.append((path, Tree(texts, number), Tree({**texts, path: mutate(rng, texts[path])}, number)))
    places = [
        write(tmp_path / f"{tree.number}{side}", tree.texts) for _, *two in pairs for side, tree in enumerate(two)
    ]
    answers = iter(run_pytest(places))
    reached, spared = 0, 0
    for path, old, new in pairs:
        was, now = set(old.files[path].fixtures), set(new.files[path].fixtures)
        changed = was ^ now
        functions = {(path, one.function) for one in changed}
        used = [
            {plain(test): {(place, function) for place, function in used} for test, used in answer["used"].items()}
            for answer in (next(answers), next(answers))
        ]
        expected = {test for test in used[1] if used[0][test] != used[1][test] or used[1][test] & functions}
        selected = new.ask({path: sorted({one.name for one in changed})}, {path: old.files[path]})
        assert expected <= selected, (path, changed)
        reached += len(expected)
        spared += len(used[1].keys() - selected)
    assert reached
    assert spared


@pytest.mark.parametrize(
    ("source", "requests"),
    [
        ("@pytest.fixture\ndef x(a, b=1, *, c, d=2): pass", ("a", "c")),
        ("import pytest as pt\n@pt.fixture()\nasync def x(a): pass", ("a",)),
        ("from pytest import fixture as fx\n@fx(scope='session')\ndef x(a): pass", ("a",)),
        ("@pytest_asyncio.fixture\nasync def x(a): pass", ("a",)),
        ("@pytest.yield_fixture\ndef x(a): pass", ("a",)),
        ("@pytest.fixture(name='x')\ndef other(a): pass", ("a",)),
        ("fx = functools.partial(pytest.fixture, scope='session')\n@fx\ndef x(a): pass", ("a",)),
        ("fx = pytest.fixture(autouse=True)\n@fx\ndef x(a): pass", ("a",)),
        ("def make(a): pass\nx = pytest.fixture(make)", ("a",)),
        ("def make(a): pass\nx = pytest.fixture(scope='session')(make)", ("a",)),
        ("x = pytest.fixture(lambda a: a)", ("a",)),
        ("@pytest.fixture\ndef y(a): pass\nx = y", ("a",)),
        ("if FAST:\n    @pytest.fixture\n    def x(a): pass", ("a",)),
        ("try:\n    import q\nexcept ImportError:\n    @pytest.fixture\n    def x(a): pass", ("a",)),
        ("class TestC:\n    @pytest.fixture\n    def x(self, a): pass", ("a",)),
        ("class TestC:\n    @pytest.fixture\n    @staticmethod\n    def x(a): pass", ("a",)),
        ("@pytest.fixture\ndef x(request):\n    request.getfixturevalue('a')", ("request", "a")),
        ("@pytest.fixture(params=[lf('a'), pytest.lazy_fixture('b')])\ndef x(request): pass", ("request", "a", "b")),
        ("from unittest.mock import patch\n@pytest.fixture\n@patch('m.n')\ndef x(mock, a): pass", ("a",)),
        ("@given('a step', target_fixture='x')\ndef step(a): pass", ("a",)),
    ],
)
def test_fixtures_are_found_with_their_requests(source: str, requests: tuple[str, ...]) -> None:
    one = fixture(source)
    assert one.requests == requests
    assert one.certain
    assert not one.dynamic


def test_what_a_fixture_says_of_itself() -> None:
    source = """
        class TestC:
            class TestD:
                @pytest.fixture(scope="class", autouse=True, name="x")
                def make(self): pass
        """
    assert fixture(source) == Fixture("x", "TestC.TestD.make", True, "class", (), "TestC.TestD")
    assert fixture("@pytest.fixture(autouse=AUTO, scope=SCOPE)\ndef x(): pass").autouse
    assert not fixture("@pytest.fixture(autouse=False)\ndef x(): pass").autouse


@pytest.mark.parametrize(
    "source",
    [
        "@pytest.fixture\ndef x(request): return request.getfixturevalue(request.param)",
        "@pytest.fixture\ndef x(request): return helper(request)",
        "@pytest.fixture\ndef x(request): self.lookup = request.getfixturevalue",
        "@pytest.fixture(**OPTIONS)\ndef x(): pass",
        "x = pytest.fixture(imported)",
        "x = make_fixture()",
    ],
)
def test_a_fixture_that_may_request_anything_is_dynamic(source: str) -> None:
    assert fixture(source).dynamic


def test_what_may_be_a_fixture_counts_as_one() -> None:
    for source in ("x = make(1)", "from lib import deco\n@deco\ndef x(): pass", "import lib\nx = lib.x"):
        assert not fixture(source).certain
    assert read("import logging\nx = logging.getLogger()\ny = dict()\nz = 1").fixtures == ()


def items_of(source: str, **options: Any) -> dict[str, tuple[str, ...] | None]:
    """Node id → requests; None where they are dynamic."""
    found = read_fixtures(textwrap.dedent(source).encode(), **options).tests
    return {test.node_id: None if test.dynamic else test.requests for test in found}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def test_x(a, b=1): pass\ndef helper(c): pass", {"test_x": ("a",)}),
        ("@pytest.mark.usefixtures('b', 'c')\ndef test_x(a): pass", {"test_x": ("b", "c", "a")}),
        ("pytestmark = pytest.mark.usefixtures('b')\ndef test_x(): pass", {"test_x": ("b",)}),
        ("pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('b')]\ndef test_x(): pass", {"test_x": ("b",)}),
        ("db = pytest.mark.usefixtures('b')\n@db\ndef test_x(): pass", {"test_x": ("b",)}),
        ("@pytest.mark.usefixtures(NAME)\ndef test_x(): pass", {"test_x": None}),
        ("def test_x(request): request.getfixturevalue('a')", {"test_x": ("request", "a")}),
        ("def test_x(request): request.getfixturevalue(name)", {"test_x": None}),
        ("def test_x(rf):\n    request = rf.get()\n    view(request)", {"test_x": ("rf",)}),
        ("@pytest.mark.parametrize('a,b', [])\ndef test_x(a, b, c): pass", {"test_x": ("c",)}),
        ("@pytest.mark.parametrize(['a', 'b'], [], indirect=['b'])\ndef test_x(a, b): pass", {"test_x": ("b",)}),
        ("@pytest.mark.parametrize('a', [], indirect=True)\ndef test_x(a): pass", {"test_x": ("a",)}),
        ("@pytest.mark.parametrize('a', [lf('b')])\ndef test_x(a): pass", {"test_x": ("b",)}),
        ("from mock import patch\n@patch('m.n')\n@patch('m.o', 1)\ndef test_x(m, a): pass", {"test_x": ("a",)}),
        ("from mock import patch\n@patch.object(m, 'n')\ndef test_x(m, a): pass", {"test_x": ("a",)}),
        ("from hypothesis import given\n@given(n=st.n())\ndef test_x(a, n): pass", {"test_x": ("a",)}),
        ("from hypothesis import given\n@given(st.n())\ndef test_x(a, n): pass", {"test_x": ("a",)}),
        ("from lib import deco\n@deco\ndef test_x(): pass", {"test_x": None}),
        ("from functools import cache\n@cache\ndef test_x(): pass", {"test_x": ()}),
        ("def deco(f): return f\n@deco\ndef test_x(): pass", {"test_x": ()}),
        ("def deco(f): return pytest.mark.usefixtures('a')(f)\n@deco\ndef test_x(): pass", {"test_x": None}),
        ("if LINUX:\n    def test_x(a): pass", {"": ("a",)}),
        ("test_x = make_test()", {"": None}),
        ("globals()['test_x'] = 1", {"": None}),
        ("scenarios('features')", {"": None}),
        ("class C:\n    def test_x(self): pass", {}),
        ("class TestC:\n    def __init__(self): pass\n    def test_x(self): pass", {}),
        ("class TestC:\n    __test__ = False\n    def test_x(self): pass", {}),
        ("class TestC:\n    def test_x(self, a): pass\n    def help(self, b): pass", {"TestC::test_x": ("a",)}),
        ("class TestC:\n    class TestD:\n        def test_x(self, a): pass", {"TestC::TestD::test_x": ("a",)}),
        ("@pytest.mark.usefixtures('b')\nclass TestC:\n    def test_x(self): pass", {"TestC::test_x": ("b",)}),
        ("class B:\n    def test_x(self, a): pass\nclass TestC(B): pass", {"TestC::test_x": ("a",)}),
        ("class TestC:\n    if LINUX:\n        def test_x(self, a): pass", {"TestC": ("a",)}),
        ("from lib import B\nclass TestC(B):\n    def test_x(self): pass", {"TestC": None, "TestC::test_x": None}),
        ("from lib import Case\nclass C(Case): pass", {"": None}),
        ("import unittest\nclass C(unittest.TestCase):\n    def test_x(self): pass", {"C::test_x": ()}),
        (
            "from parameterized import parameterized\nclass TestC:\n    @parameterized.expand([])\n"
            "    def test_x(self, a): pass",
            {"TestC": ("a",)},
        ),
    ],
)
def test_tests_are_found_with_their_requests(source: str, expected: dict[str, tuple[str, ...] | None]) -> None:
    assert items_of(source) == expected


def test_names_of_tests_are_configurable() -> None:
    source = "def check_x(): pass\ndef test_x(): pass\nclass SuiteC:\n    def check_m(self): pass"
    options = {"python_functions": ["check"], "python_classes": ["*C"]}
    assert items_of(source, **options) == {"check_x": (), "SuiteC::check_m": ()}


def test_the_rest_of_the_facts() -> None:
    facts = read("""
        pytest_plugins = ["a.b", "c"]
        import os
        from .more import db as database, TestBase
        from shared import *
        def pytest_configure(config): pass
        """)
    assert facts.plugins == ("a.b", "c")
    assert facts.hooks == ("pytest_configure",)
    assert facts.imports == (("database", ".more", "db"), ("TestBase", ".more", "TestBase"), ("*", "shared", "*"))
    assert facts.test_imports == ("TestBase", "*")
    assert read("def broken(").opaque
    assert FileFixtures.from_tuples(marshal.loads(marshal.dumps(facts.to_tuples()))) == facts


def test_hooks_that_add_fixtures_work_like_autouse() -> None:
    source = "def pytest_runtest_setup(item): item._request.getfixturevalue('a')"
    assert fixture(source, "pytest_runtest_setup")[2:5] == (True, "function", ("a",))
    assert fixture("def pytest_itemcollected(item): item.fixturenames.append(x)", "pytest_itemcollected").dynamic
    assert read("def pytest_configure(config): config.addinivalue_line('markers', 'x')").fixtures == ()


def ask(
    changed: dict[str, list[str]], texts: dict[str, str], was: dict[str, str] | None = None, **options: Any
) -> dict[str, tuple[str, ...] | None]:
    """The answer of requesters() for a tree in which every test file is below every conftest.py of its folders."""
    files = {path: read(text) for path, text in texts.items()}
    before = {path: read((was or {}).get(path, texts[path])) for path in changed}
    tree = Tree(texts, 0)
    return requesters(changed, files, tree.chain, before, tree.imported, **options)


DB = "@pytest.fixture\ndef db(): pass\n"


@pytest.mark.parametrize(
    ("texts", "answer"),
    [
        ({"conftest.py": DB, "test_a.py": "def test_x(db): pass\ndef test_y(): pass"}, {"test_a.py": ("test_x",)}),
        ({"conftest.py": DB, "test_a.py": "def test_x(db): pass"}, {"test_a.py": None}),
        # requested by a fixture
        (
            {"conftest.py": DB + "@pytest.fixture\ndef u(db): pass", "test_a.py": "def test_x(u): 1\ndef test_y(): 1"},
            {"test_a.py": ("test_x",)},
        ),
        # a nearer fixture takes its place, or extends it
        ({"conftest.py": DB, "s/conftest.py": DB, "s/test_a.py": "def test_x(db): 1", "test_b.py": "def test_x(db): 1"},
         {"test_b.py": None}),
        ({"conftest.py": DB, "s/conftest.py": DB.replace("()", "(db)"), "s/test_a.py": "def test_x(db): 1"},
         {"s/test_a.py": None}),
        ({"conftest.py": DB, "test_a.py": DB + "def test_x(db): 1", "test_b.py": "def test_x(db): 1"},
         {"test_b.py": None}),
        # the value comes from parametrize, also for the fixtures that request it
        (
            {
                "conftest.py": DB + "@pytest.fixture\ndef u(db): pass",
                "test_a.py": "@pytest.mark.parametrize('db', [1])\ndef test_x(db, u): 1",
                "test_b.py": "def test_x(db): 1",
            },
            {"test_b.py": None},
        ),
        # plugins of pytest and others
        ({"conftest.py": DB, "test_a.py": "def test_x(tmp_path): 1\ndef test_y(db): 1\ndef test_z(unheard_of): 1"},
         {"test_a.py": ("test_y", "test_z")}),
        # what is asked for dynamically, and a file that does not parse
        ({"conftest.py": DB, "test_a.py": "def test_x(request): f(request)\ndef test_y(db): 1\ndef test_z(): 1"},
         {"test_a.py": ("test_x", "test_y")}),
        ({"conftest.py": DB, "test_a.py": "def test_x(", "test_b.py": "def test_x(db): 1"},
         {"test_a.py": None, "test_b.py": None}),
    ],
)  # fmt: skip
def test_users_of_a_changed_fixture(texts: dict[str, str], answer: dict[str, tuple[str, ...] | None]) -> None:
    assert ask({"conftest.py": ["db"]}, texts) == answer


def test_a_fixture_that_nobody_requests_may_serve_a_plugin() -> None:
    texts = {"conftest.py": DB, "test_a.py": "def test_x(): pass"}
    assert ask({"conftest.py": ["db"]}, texts) == {"test_a.py": None}
    settings = DB.replace("db", "django_db_setup")
    texts = {"conftest.py": settings, "test_a.py": "def test_x(django_db_setup): 1\ndef test_y(): 1"}
    assert ask({"conftest.py": ["django_db_setup"]}, texts) == {"test_a.py": None}


def test_a_fixture_that_ceases_to_be_autouse_reaches_everything_below() -> None:
    texts = {"s/conftest.py": DB, "s/test_a.py": "def test_x(): 1\ndef test_y(db): 1", "test_b.py": "def test_x(): 1"}
    autouse = DB.replace("fixture", "fixture(autouse=True)")
    assert ask({"s/conftest.py": ["db"]}, texts, {"s/conftest.py": autouse}) == {"s/test_a.py": None}
    assert ask({"s/conftest.py": ["db"]}, texts) == {"s/test_a.py": ("test_y",)}
    files = {path: read(text) for path, text in texts.items()}
    without_before = requesters({"s/conftest.py": ["db"]}, files, Tree(texts, 0).chain)
    assert without_before == {"s/test_a.py": None}


def test_imported_fixtures_are_followed() -> None:
    texts = {
        "more.py": DB + "@pytest.fixture(name='u')\ndef make_u(db): pass\n@pytest.fixture\ndef other(): pass",
        "conftest.py": "from more import db, db as database, make_u\n",
        "test_a.py": "def test_x(database): 1\ndef test_y(u): 1\ndef test_z(other): 1\ndef test_w(): 1",
        "test_b.py": "from more import *\ndef test_x(other): 1\ndef test_y(db): 1",
    }
    assert ask({"more.py": ["db"]}, texts) == {"test_a.py": ("test_x", "test_y", "test_z"), "test_b.py": ("test_y",)}
    unknown = {path: read(text) for path, text in texts.items() if path != "more.py"}
    answer = requesters({"conftest.py": ["v"]}, unknown, Tree(texts, 0).chain, {"conftest.py": FileFixtures()})
    assert answer["test_a.py"] == ("test_x", "test_y", "test_z")  # what they import may request v


def test_usefixtures_of_the_configuration() -> None:
    texts = {"conftest.py": DB, "test_a.py": "def test_x(): 1\ndef test_y(db): 1"}
    assert ask({"conftest.py": ["db"]}, texts) == {"test_a.py": ("test_y",)}
    assert ask({"conftest.py": ["db"]}, texts, usefixtures=["db"]) == {"test_a.py": None}


def test_names_that_lead_to_a_change() -> None:
    files = [read(DB + "@pytest.fixture\ndef u(db): 1\n@pytest.fixture\ndef v(u): 1\n@pytest.fixture\ndef w(): 1")]
    assert names_leading_to(["u"], files) == {"u", "v"}
    assert {"tmp_path", "tmpdir", "pytester"} <= names_leading_to(["tmp_path_factory"], files)
    assert "w" in names_leading_to(["u"], [*files, read("@pytest.fixture\ndef w(request): f(request)")])
