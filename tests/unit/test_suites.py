"""Suites are what pytest makes of configuration files: tables, and pytest itself as the oracle."""

from __future__ import annotations

import json
import marshal
import os
import posixpath
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from greenline.depgraph.suites import Suite, SuiteError, SuiteIndex, find_suites, is_config_name, read_config


def read(path: str, text: str) -> Suite:
    suite = read_config(path, text.encode())
    assert suite is not None
    return suite


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a/pytest.toml", '[pytest]\npython_files = ["check_*.py"]'),
        ("a/.pytest.toml", '[pytest]\npython_files = ["check_*.py"]'),
        ("a/pytest.ini", "[pytest]\npython_files = check_*.py"),
        ("a/.pytest.ini", "[pytest]\r\npython_files =\r\n  check_*.py\r\n"),
        ("a/pyproject.toml", '[tool.pytest]\npython_files = ["check_*.py"]'),
        ("a/pyproject.toml", '[tool.pytest.ini_options]\npython_files = "check_*.py"'),
        ("a/pyproject.toml", '[tool.pytest.ini_options]\npython_files = ["check_*.py"]'),
        ("a/tox.ini", "[tox]\n[pytest]\n# a comment\npython_files = check_*.py"),
        ("a/setup.cfg", "\ufeff[tool:pytest]\npython_files: check_*.py"),
    ],
)
def test_every_kind_of_file_is_read(path: str, text: str) -> None:
    suite = read(path, text)
    assert (suite.name, suite.root, suite.config) == ("a", "a", path)
    assert suite.python_files == ("check_*.py",)
    assert is_config_name(path)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("pyproject.toml", '[project]\nname = "pytest-x"'),
        ("pyproject.toml", "[tool.pytest]"),
        ("tox.ini", "[testenv]\ncommands = pytest"),
        ("setup.cfg", "[metadata]\nname = pytest-x"),
        ("{{template}}/setup.cfg", "{% if a %}\n"),
    ],
)
def test_a_file_without_a_section_for_pytest_is_no_suite(path: str, text: str) -> None:
    assert read_config(path, text.encode()) is None
    assert [suite.config for suite in find_suites({path: text.encode()})] == [""]


@pytest.mark.parametrize("path", ["pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml"])
def test_a_file_of_pytests_own_counts_when_empty(path: str) -> None:
    assert read_config(path, b"") == Suite(".", "", path)


def test_an_empty_ini_options_table_counts() -> None:
    assert read_config("pyproject.toml", b"[tool.pytest.ini_options]") == Suite(".", "", "pyproject.toml")


@pytest.mark.parametrize(
    ("path", "text", "line"),
    [
        ("a/pyproject.toml", "[tool.pytest]\nx = = 1", 2),
        ("a/pytest.toml", "[pytest]\naddopts = '-q'", 0),
        ("a/pyproject.toml", "[tool.pytest]\ntestpaths = [1]", 0),
        ("a/pyproject.toml", "[tool.pytest]\ntestpaths = []\n[tool.pytest.ini_options]\nminversion = 6", 0),
        ("a/pyproject.toml", "tool = 'pytest'", 0),
        ("a/tox.ini", "[pytest]\n\nfoo", 3),
        ("a/tox.ini", "[pytest]\naddopts = 'unclosed", 0),
        ("a/setup.cfg", "[pytest]\naddopts = -q", 0),
        ("a/pytest.ini", "[pytest]\n# caf\xe9", 2),
    ],
)
def test_a_broken_file_is_named_with_its_line(path: str, text: str, line: int) -> None:
    with pytest.raises(SuiteError) as caught:
        read_config(path, text.encode("latin-1"))
    assert (caught.value.path, caught.value.line) == (path, line)
    assert str(caught.value).startswith(f"{path}:{line}: " if line else f"{path}: ")
    errors: list[SuiteError] = []
    suites = find_suites({path: text.encode("latin-1"), "pytest.ini": b""}, errors=errors)
    assert [suite.root for suite in suites] == [""]
    assert [error.path for error in errors] == [path]


def test_addopts_and_paths() -> None:
    suite = read(
        "svc/pytest.ini",
        """[pytest]
addopts = -ra -p svc.plugin -pother -p no:cacheprovider --import-mode importlib --confcutdir=..
    --ignore tests/slow --ignore-glob='*/data/*' --deselect tests/test_a.py::test_x --doctest-modules
    --doctest-glob=*.md -o python_files='check_*.py *_spec.py' --cov src more
testpaths = tests ../shared/tests
pythonpath = src .. ../../outside
required_plugins = pytest-house>=1
usefixtures = clean
python_classes = *Suite
""",
    )
    assert suite.plugins == ("svc.plugin", "other", "pytest_house")
    assert suite.import_mode == "importlib"
    assert suite.confcutdir == ""
    assert suite.ignored == ("svc/tests/slow",)
    assert suite.ignored_globs == ("svc/*/data/*",)
    assert suite.deselected == ("tests/test_a.py::test_x",)
    assert suite.doctests == ("*.py", "*.md")
    assert suite.python_files == ("test_*.py", "*_test.py", "check_*.py", "*_spec.py")
    assert suite.testpaths == ("svc/tests", "shared/tests")
    assert suite.pythonpath == ("svc/src", "")
    assert suite.usefixtures == ("clean",)
    assert suite.python_classes == ("*Suite",)
    assert Suite(*marshal.loads(marshal.dumps(tuple(suite)))) == suite


def test_without_any_configuration_unittest_names_count() -> None:
    index = SuiteIndex(find_suites({"setup.cfg": b"[metadata]\n"}))
    names = [
        "app/tests.py",
        "app/test_x.py",
        "app/testing.py",
        "app/x_test.py",
        "app/models.py",
        ".venv/test_x.py",
    ]
    assert [name for name in names if index.is_test_file(name)] == names[:4]
    configured = SuiteIndex(find_suites({"pytest.ini": b""}))
    assert [name for name in names if configured.is_test_file(name)] == ["app/test_x.py", "app/x_test.py"]


def test_the_deepest_suite_owns_a_file() -> None:
    configs = {
        "pyproject.toml": b"[tool.pytest.ini_options]\ntestpaths = ['tests']",
        "svc/a/pytest.ini": b"[pytest]\npython_files = check_*.py",
        "svc/a/pyproject.toml": b"[tool.pytest.ini_options]",
        "svc/b/pyproject.toml": b"[project]",
    }
    index = SuiteIndex(find_suites(configs))
    owners = {path: index.suite_of(path) for path in ("tests/x.py", "svc/a/tests/x.py", "svc/b/x.py", "x.py")}
    assert {path: owner and owner.config for path, owner in owners.items()} == {
        "tests/x.py": "pyproject.toml",
        "svc/a/tests/x.py": "svc/a/pytest.ini",
        "svc/b/x.py": "pyproject.toml",
        "x.py": "pyproject.toml",
    }
    assert index.is_test_file("svc/a/deep/check_x.py")
    assert not index.is_test_file("svc/a/test_x.py")
    assert not index.is_test_file("svc/b/test_x.py")  # outside the testpaths: a bare pytest does not run it


def test_testpaths_may_leave_the_root_and_enter_a_deeper_suite() -> None:
    configs = {
        "python/setup.cfg": b"[tool:pytest]\ntestpaths = ../checks",
        "pytest.ini": b"[pytest]\ntestpaths = tests svc/a/examples",
        "svc/a/pytest.ini": b"[pytest]\ntestpaths = tests",
    }
    index = SuiteIndex(find_suites(configs))
    runners = {}
    for path in (
        "checks/test_x.py",
        "svc/a/tests/test_x.py",
        "svc/a/examples/test_x.py",
        "svc/a/tools/test_x.py",
    ):
        suite = index.suite_of(path)
        runners[path] = suite.name if suite and index.is_test_file(path) else None
    assert runners == {
        "checks/test_x.py": "python",
        "svc/a/tests/test_x.py": "svc/a",
        "svc/a/examples/test_x.py": ".",
        "svc/a/tools/test_x.py": None,
    }


def test_testpaths_that_lead_nowhere_count_as_unset() -> None:
    suites = find_suites({"pytest.ini": b"[pytest]\ntestpaths = nowhere"})
    assert not SuiteIndex(suites).is_test_file("tests/test_x.py")
    assert SuiteIndex(suites, ["tests/test_x.py"]).is_test_file("tests/test_x.py")


def test_declared_suites_replace_and_add() -> None:
    configs = {
        "pytest.ini": b"[pytest]\npython_files = check_*.py\ntestpaths = tests\naddopts = -p plug",
        "svc/a/pytest.ini": b"",
    }
    declared: list[dict[str, object]] = [
        {"name": "slow", "root": "svc/a", "testpaths": ["slow"], "plugins": ["svc.slow"]},
        {"name": "fast", "root": "svc/a", "testpaths": ("fast",), "pythonpath": ("src",)},
        {"name": "lib", "root": "lib"},
        {"name": "other", "root": "other", "python_files": ["t_*.py"]},
    ]
    suites = {suite.name: suite for suite in find_suites(configs, declared)}
    assert sorted(suites) == [".", "fast", "lib", "other", "slow"]
    assert suites["slow"].testpaths == ("svc/a/slow",)
    assert suites["slow"].plugins == ("svc.slow",)
    assert suites["fast"].pythonpath == ("svc/a/src",)
    # Run in lib, pytest finds the pytest.ini above, and heeds its testpaths only in its own folder.
    assert suites["lib"][2:5] == ("pytest.ini", (), ("check_*.py",))
    assert suites["other"].python_files == ("t_*.py",)
    index = SuiteIndex(list(suites.values()))
    tests = [
        "svc/a/slow/test_x.py",
        "svc/a/fast/test_x.py",
        "lib/check_x.py",
        "other/t_x.py",
        "tests/check_x.py",
    ]
    owners = [index.suite_of(path) for path in tests]
    assert [owner.name for owner in owners if owner] == ["slow", "fast", "lib", "other", "."]
    assert all(map(index.is_test_file, tests))
    assert not index.is_test_file("svc/a/test_x.py")


def test_conftest_chain_ends_where_the_outermost_suite_that_may_run_the_file_cuts_it() -> None:
    configs = {
        "pytest.ini": b"[pytest]\ntestpaths = tests lib/sub/shared",
        "svc/pytest.ini": b"",
        "svc/inner/pytest.ini": b"",
        "lib/sub/pytest.ini": b"[pytest]\naddopts = --confcutdir=..",
    }
    index = SuiteIndex(find_suites(configs))
    present = {
        "conftest.py",
        "svc/conftest.py",
        "svc/tests/a/conftest.py",
        "lib/conftest.py",
        "lib/sub/conftest.py",
    }

    def conftests(path: str) -> list[str]:
        return index.conftest_chain(path, present.__contains__)

    assert conftests("tests/test_x.py") == ["conftest.py"]
    assert conftests("svc/tests/a/b/test_x.py") == ["svc/tests/a/conftest.py", "svc/conftest.py"]
    assert conftests("svc/inner/test_x.py") == ["svc/conftest.py"]
    assert conftests("lib/sub/test_x.py") == ["lib/sub/conftest.py", "lib/conftest.py"]
    assert conftests("lib/sub/shared/test_x.py") == ["lib/sub/conftest.py", "lib/conftest.py", "conftest.py"]
    assert index.conftest_limit("svc/inner") == "svc"


def test_settled_suites_have_only_testpaths_that_lead_somewhere() -> None:
    suites = find_suites({"pytest.ini": b"[pytest]\ntestpaths = nowhere", "a/pytest.ini": b"[pytest]\ntestpaths = t"})
    settled = SuiteIndex(suites, ["test_x.py", "a/t/test_x.py"]).settled()
    assert {suite.root: suite.testpaths for suite in settled} == {"": (), "a": ("a/t",)}


def test_files_with_nothing_but_doctests() -> None:
    index = SuiteIndex(find_suites({"pytest.ini": b"[pytest]\naddopts = --doctest-modules --doctest-glob=*.md"}))
    paths = ["test_x.py", "app.py", "readme.md"]
    assert all(map(index.is_test_file, paths))
    assert list(map(index.only_doctests, paths)) == [False, True, True]


# pytest as the oracle: random layouts, and what a bare `pytest` in each suite's root collects.

ORACLE = """
import json, os, sys
import pytest

class Leaf(pytest.Item):
    def runtest(self): pass

class Whole(pytest.Module):  # takes the place of a module without importing it
    def collect(self): yield Leaf.from_parent(self, name="leaf")

class Spy:
    def pytest_pycollect_makemodule(self, module_path, parent):
        return Whole.from_parent(parent, path=module_path)
    def pytest_collection_finish(self, session):
        config = session.config
        self.seen = {
            "root": str(config.rootpath),
            "config": str(config.inipath or ""),
            "by_testpaths": config.args_source.name == "TESTPATHS",
            "files": sorted({str(item.path) for item in session.items}),
        }

answers, out = [], sys.stdout
for place in json.load(sys.stdin):
    os.chdir(place)
    sys.stdout = open(os.devnull, "w")
    spy = Spy()
    arguments = ["--collect-only", "-q", "-p", "no:cacheprovider", "--import-mode=importlib"]
    code = pytest.main(arguments, plugins=[spy])
    answers.append(spy.seen if code in (0, 5) else None)
json.dump(answers, out)
"""

SEED = 1
LAYOUTS = 10

FOLDERS = [
    "",
    "tests",
    "tests/unit",
    "tests/unit/deep",
    "build",
    "src/pkg",
    "src/pkg/tests",
    ".hid",
    "svc/a",
    "svc/a/tests",
]
NAMES = [
    "test_a.py",
    "b_test.py",
    "check_c.py",
    "testsuite.py",
    "helper.py",
    "test_notes.txt",
    "__main__.py",
    "notes.md",
]
TESTPATHS = (
    "tests|svc/*/tests|**/tests|tests/unit tests|tests/unit/test_a.py|src/**|nowhere|.|tests/*|tests/**|*"
    "|[!t]*|tests/unit/deep build|tests/unit/helper.py|tests/.. tests"
)
ADDOPTS = (
    "--ignore=tests/unit|--ignore tests/test_a.py|--ignore-glob=*deep*|--ignore-glob=**/check_*.py"
    "|--ignore-glob=tests/**|--doctest-glob=*.md|--doctest-modules|--deselect=tests/unit|--confcutdir=tests"
)
SETTINGS = {
    "testpaths": TESTPATHS.split("|"),
    "python_files": [
        "check_*.py",
        "test_*.py testsuite.py",
        "*.py",
        "unit/*",
        "tests/**/check_?.py",
        "[ct]*.py",
    ],
    "norecursedirs": ["unit", "deep build", "tests/unit", ".*", "*/pkg", "s*"],
    "addopts": ADDOPTS.split("|"),
}
CONFIG_NAMES = [
    "pytest.ini",
    ".pytest.ini",
    "tox.ini",
    "setup.cfg",
    "pyproject.toml",
    "pyproject.toml",
    "empty",
]


def random_config(rng: random.Random) -> tuple[str, str]:
    settings = {key: rng.choice(values) for key, values in SETTINGS.items() if rng.random() < 0.4}
    name = rng.choice(CONFIG_NAMES)
    if name == "empty":
        return rng.choice([("pyproject.toml", "[project]\n"), ("tox.ini", "[tox]\n"), ("setup.cfg", "[x]\n")])
    if name == "pyproject.toml":
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        return name, "\n".join(["[tool.pytest.ini_options]", *lines])
    section = "[tool:pytest]" if name == "setup.cfg" else "[pytest]"
    return name, "\n".join([section, *(f"{key} = {value}" for key, value in settings.items())])


def make_layout(top: Path, rng: random.Random) -> tuple[list[str], dict[str, bytes]]:
    """Writes a random repository: (its files without the configurations, its configurations)."""
    folders = rng.choices(["", "", "tests", "tests/unit", "svc/a", "src/pkg"], k=rng.randint(1, 4))
    texts = [(folder, *random_config(rng)) for folder in folders]
    configs = {posixpath.join(folder, name): text.encode() for folder, name, text in texts}
    paths = [posixpath.join(folder, name) for folder in FOLDERS for name in NAMES if rng.random() < 0.7]
    for path in [*paths, *configs]:
        doctest = b"'''\n>>> 1\n1\n'''\n" if path.endswith(".py") else b">>> 1\n1\n"
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(configs.get(path, doctest))
    return paths, configs


def ask_pytest(places: list[Path]) -> Iterator[Any]:
    """For each folder what a bare `pytest` there collects; None where it refuses to run."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    command = [sys.executable, "-c", ORACLE]
    question = json.dumps([str(place) for place in places])
    run = subprocess.run(command, input=question, capture_output=True, text=True, env=environment, check=True)
    return iter(json.loads(run.stdout))


def test_pytest_collects_the_same_files(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    layouts = []
    for number in range(LAYOUTS):
        top = tmp_path / str(number)
        paths, configs = make_layout(top, rng)
        layouts.append((top, paths, find_suites(configs)))
    answers = ask_pytest([top / suite.root for top, _, suites in layouts for suite in suites])
    compared = 0
    for top, paths, suites in layouts:
        seen = {suite: next(answers) for suite in suites}
        if None in seen.values():
            continue
        compared += 1
        for suite, answer in seen.items():
            if suite.config:
                assert answer["root"] == str(top / suite.root)
                assert answer["config"] == str(top / suite.config)
        index = SuiteIndex(suites, paths)
        for path in paths:
            if len(suites) == 1 and not suites[0].config and path.endswith("testsuite.py"):
                continue  # counts although pytest's defaults leave it out
            around = [suite for suite in suites if not suite.root or path.startswith(suite.root + "/")]
            owner = max(around, key=lambda suite: len(suite.root))
            collectors = [suite for suite in around if str(top / path) in seen[suite]["files"]]
            runners = [s for s in collectors if s == owner or (s.testpaths and seen[s]["by_testpaths"])]
            assert index.is_test_file(path) is bool(runners), (path, owner, suites)
            assert not runners or index.suite_of(path) in runners
    assert compared > LAYOUTS / 2
