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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from greenline.depgraph.fixtures import FileFixtures, Fixture, read_fixtures, requesters


def read(source: str) -> FileFixtures:
    return read_fixtures(textwrap.dedent(source).encode())


def fixture(source: str, name: str = "x") -> Fixture:
    found = [one for one in read(source).fixtures if one.name == name]
    assert len(found) == 1, found
    return found[0]


# One tree of files, run by pytest with a spy on the fixtures that it sets up.

ORACLE = '''
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
'''


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
    places = [write(tmp_path / f"{tree.number}{side}", tree.texts) for _, *two in pairs for side, tree in enumerate(two)]
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
    assert reached > 2 * TREES
    assert spared > 2 * TREES
