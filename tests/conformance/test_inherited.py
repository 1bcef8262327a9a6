"""Tests that classes inherit from other files, with a real recording: which of them a change selects."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from table import environment, git, write
from test_leaks import GREENLINE, ask, is_selected, record, repository, verdicts_of

CHECKS = """\
import lib


class Deep:
    def test_deep(self):
        assert lib.deep()


class Checks(Deep):
    @property
    def value(self):
        return lib.f()

    def test_f(self):
        assert self.value
"""
MADE = """\
import lib


def base():
    return type("Made", (), {"test_made": lambda self: lib.made()})


def adds(cls):
    cls.test_added = lambda self: lib.made()
    return cls
"""
TWO = """\
import lib
from shared import Exported
from shared.checks import Checks


class TestOne(Checks):
    pass


class TestTwo(Exported):
    def test_own(self):
        assert lib.g()


class TestPlain:
    def test_g(self):
        assert lib.g()
"""
TEST_G = "\n\ndef test_g():\n    assert lib.g()\n"
FILES = {
    "lib.py": "".join(f"def {name}():\n    return 1\n\n\n" for name in ("f", "g", "deep", "made", "site")),
    "shared/__init__.py": "from shared.checks import Checks as Exported\n",
    "shared/checks.py": CHECKS,
    "shared/cases.py": "import unittest\nimport lib\n\n\nclass Case(unittest.TestCase):\n"
    "    def test_case(self):\n        self.assertTrue(lib.f())\n",
    "shared/collected.py": "import lib\n\n\nclass TestShared:\n    def test_shared(self):\n        assert lib.f()\n",
    "shared/made.py": MADE,
    "test_two.py": TWO,
    "test_unit.py": f"import lib\nimport shared.cases\n\n\nclass Units(shared.cases.Case):\n    pass\n{TEST_G}",
    "test_imported.py": f"import lib\nfrom shared.collected import TestShared\n{TEST_G}",
    "test_site.py": "import lib\nfrom outside_checks import Outside\n\n\nclass TestSite(Outside):\n"
    f"    subject = staticmethod(lib.site)\n{TEST_G}",
    "test_made.py": f"import lib\nfrom shared.made import base\n\n\nclass TestMade(base()):\n    pass\n{TEST_G}",
    "test_decorated.py": "import lib\nfrom shared.checks import Checks\nfrom shared.made import adds\n\n\n@adds\n"
    f"class TestDecorated(Checks):\n    pass\n{TEST_G}",
    "test_alias.py": "import lib\nfrom shared import Exported as Renamed\n\n\nclass TestAlias(Renamed):\n    pass\n"
    + TEST_G,
    "test_plain.py": f"import lib\n{TEST_G}",
    "test_base.py": f"import lib\n\n\nclass TestBase:\n    def test_base(self):\n        pass\n{TEST_G}",
    "test_heir.py": f"import lib\nfrom test_base import TestBase\n\n\nclass TestHeir(TestBase):\n    pass\n{TEST_G}",
}
OUTSIDE = "class Outside:\n    def test_outside(self):\n        assert self.subject()\n"
STATIC = {"test_made.py": None, "test_decorated.py": None}
"""They inherit from what a call makes, and have a decorator that adds a test: imports decide."""
OUTSIDE_TEST = {"test_site.py": ["TestSite::test_outside"]}
"""Imports decide about this test: its body lies outside the repository, where nobody records it."""
DEEP = {"test_alias.py": ["TestAlias::test_deep"], "test_two.py": ["TestOne::test_deep", "TestTwo::test_deep"]}
F = {"test_alias.py": ["TestAlias::test_f"], "test_two.py": ["TestOne::test_f", "TestTwo::test_f"]}
WHOLE = {"test_alias.py": None, "test_two.py": None}
G = ["test_g"]
NEW = "def test_new(self):\n        assert 1\n"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    (site / "outside_checks.py").write_text(OUTSIDE)
    settings = f'[tool.pytest.ini_options]\npythonpath = [".", "{site}"]\n'
    return repository(tmp_path_factory.mktemp("inherited") / "repository", {"pyproject.toml": settings, **FILES})


@pytest.fixture
def edited(recorded: Path) -> Iterator[Path]:
    yield recorded
    git(recorded, "checkout", "--quiet", "--", ".")


def chosen(root: Path) -> dict[str, list[str] | None]:
    answer = ask(root)
    return {test.path: None if test.node_ids is None else sorted(test.node_ids) for test in answer.tests}


@pytest.mark.parametrize(
    ("edit", "wanted"),
    [
        pytest.param({"lib.py": {"def deep():\n    return 1": "def deep():\n    return 2"}}, DEEP, id="runs it"),
        pytest.param({"shared/checks.py": {"assert lib.deep()": "assert lib.deep() == 1"}}, DEEP, id="test's body"),
        pytest.param({"shared/checks.py": {"return lib.f()": "return lib.f() + 1"}}, F, id="helper's body"),
        pytest.param({"lib.py": {"def site():\n    return 1": "def site():\n    return 2"}},
                     {}, id="base from site-packages"),
        pytest.param({"shared/cases.py": {"lib.f())": "lib.f(), 2)"}}, {"test_unit.py": ["Units::test_case"]},
                     id="unittest"),
        pytest.param({"shared/collected.py": {"lib.f()": "lib.f() == 1"}},
                     {"test_imported.py": ["TestShared::test_shared"]}, id="an imported class is collected here"),
        pytest.param({"lib.py": {"def g():\n    return 1": "def g():\n    return 2"}},
                     {"test_two.py": ["TestPlain::test_g", "TestTwo::test_own"], "test_unit.py": G,
                      "test_alias.py": G, "test_base.py": G, "test_heir.py": G, "test_imported.py": G,
                      "test_site.py": ["TestSite::test_outside", "test_g"],
                      "test_plain.py": None}, id="not of the base"),
        pytest.param({"shared/checks.py": CHECKS + "\n    def test_new(self):\n        assert 1\n"}, WHOLE,
                     id="test added"),
        pytest.param({"shared/checks.py": {"    def test_deep(self)": "    def test_new(self)"}}, WHOLE,
                     id="test removed, added above it"),
        pytest.param({"shared/__init__.py": "from shared.cases import Case as Exported\n"},
                     {**WHOLE, "test_unit.py": None, "test_imported.py": None}, id="another base"),
        pytest.param({"shared/checks.py": {"Checks(Deep)": "Checks"}}, WHOLE, id="base of the base removed"),
        pytest.param({"shared/checks.py": {"class Deep:\n": "class Deep:\n    def __init__(self):\n        pass\n\n"}},
                     WHOLE, id="not collected any more"),
        pytest.param({"shared/cases.py": {"def test_case": f"{NEW}\n    def test_case"}},
                     {"test_unit.py": None}, id="unittest: test added"),
        pytest.param({"shared/collected.py": {"def test_shared": f"{NEW}\n    def test_shared"}},
                     {"test_imported.py": None}, id="test added to an imported class"),
    ],
)  # fmt: skip
def test_selected(edit: dict[str, Any], wanted: dict[str, list[str] | None], edited: Path) -> None:
    write(edited, edit)
    found = chosen(edited)
    if not {"lib.py", "shared/checks.py", "shared/__init__.py"}.isdisjoint(edit):
        wanted = {**STATIC, **wanted}
    if "lib.py" in edit:
        wanted = {**OUTSIDE_TEST, **wanted}
    assert found == wanted


def test_a_class_that_inherits_gains_a_test_of_its_own(edited: Path) -> None:
    write(edited, {"test_two.py": {"    pass\n": f"    {NEW}"}})
    answer = ask(edited)
    assert is_selected(answer, "test_two.py", "TestOne::test_new") or is_selected(answer, "test_two.py", "TestOne")
    assert not is_selected(answer, "test_two.py", "TestPlain::test_g")


def test_a_base_in_a_test_file_gains_a_test(edited: Path) -> None:
    write(edited, {"test_base.py": {"def test_base": f"{NEW}\n    def test_base"}})
    found = chosen(edited)
    assert set(found) == {"test_base.py", "test_heir.py"}
    assert found["test_heir.py"] is None or "TestHeir" in found["test_heir.py"]


def test_why_names_the_base_that_may_have_other_tests(edited: Path) -> None:
    write(edited, {"shared/checks.py": CHECKS + "\n    def test_new(self):\n        assert 1\n"})
    (verdict,) = [each for each in verdicts_of(edited, "test_two.py") if each.name == "TestPlain::test_g"]
    assert verdict.affected is None and "inherits may have other tests" in verdict.why


def test_an_inherited_test_of_an_edited_file_is_still_there(edited: Path) -> None:
    write(
        edited,
        {
            "test_two.py": {"def test_g(self):\n        assert": "def test_g(self):\n        assert 1 and"},
            "lib.py": {"def deep():\n    return 1": "def deep():\n    return 2"},
        },
    )
    answer = ask(edited)
    for name in ("TestPlain::test_g", "TestOne::test_deep", "TestTwo::test_deep"):
        assert is_selected(answer, "test_two.py", name)
    assert not is_selected(answer, "test_two.py", "TestOne::test_f")


def test_one_inherited_test_does_not_pass_for_all(tmp_path: Path) -> None:
    files = {name: FILES[name] for name in ("lib.py", "shared/checks.py", "test_plain.py")}
    root = repository(tmp_path / "repository", files)
    write(root, {"test_new.py": "from shared.checks import Checks\n\n\nclass TestNew(Checks):\n    pass\n"})
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=a new file")
    record(root, "test_new.py::TestNew::test_f")
    write(root, {"lib.py": {"def deep():\n    return 1": "def deep():\n    return 2"}})
    assert chosen(root) == {"test_new.py": None}
    git(root, "checkout", "--quiet", ".")
    record(root, "test_new.py")
    write(root, {"lib.py": {"def deep():\n    return 1": "def deep():\n    return 2"}})
    assert chosen(root) == {"test_new.py": ["TestNew::test_deep"]}


def test_what_is_selected_for_a_new_inherited_test_runs_it(edited: Path) -> None:
    write(edited, {"shared/checks.py": CHECKS + "\n    def test_new(self):\n        assert 0\n"})
    command = [
        GREENLINE,
        "test",
        "--base",
        "HEAD",
        "--",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(command, cwd=edited, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    for name in ("TestOne::test_new", "TestTwo::test_new"):
        assert f"FAILED test_two.py::{name}" in done.stdout
