"""What `greenline affected`, `why` and `make demo` print, on the sample monorepo."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from conftest import Repository

from greenline.ci.affected import Request, affected
from greenline.tools import demo

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "affected.schema.json").read_text("utf-8"))
GREENLINE = Path(sys.executable).with_name("greenline")
AFFECTED = [
    "catalog/tests/test_catalog_service.py",
    "core/tests/test_money.py",
    "reports/tests/test_reports_service.py",
    "shipping/tests/test_shipping_service.py",
]


@pytest.fixture(scope="module")
def monorepo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, on a branch, with one module edited."""
    root = tmp_path_factory.mktemp("demo") / "monorepo"
    demo.write(root, demo.sample_monorepo())
    for command in ("init -q -b main", "add -A", "commit -q -m base", "switch -q -c change"):
        demo.git(root, command)
    demo.edit(root, "core/src/core/money.py", "cents // 100}", "cents // 10}")
    return root


def greenline(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [GREENLINE, *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def test_paths_are_sorted_and_alone_on_stdout(monorepo: Path) -> None:
    done = greenline(monorepo, "affected", "--base", "main")
    assert (done.returncode, done.stdout.splitlines()) == (0, AFFECTED)
    assert "4 of 14 test files" in done.stderr


def test_nul_separates_names(monorepo: Path) -> None:
    assert greenline(monorepo, "affected", "--base", "main", "-0").stdout.split("\0") == [*AFFECTED, ""]


def test_json_is_as_its_schema_says(monorepo: Path) -> None:
    answer = json.loads(greenline(monorepo, "affected", "--base", "main", "--format", "json").stdout)
    jsonschema.validate(answer, SCHEMA)
    assert answer["complete"] is True
    assert [test["path"] for test in answer["tests"]] == AFFECTED
    assert all(test["reason"] for test in answer["tests"])


def test_argument_files_hold_what_pytest_is_to_run(monorepo: Path) -> None:
    files = greenline(monorepo, "affected", "--base", "main", "--format", "pytest").stdout.splitlines()
    assert [line for file in files for line in Path(file).read_text("utf-8").splitlines()] == AFFECTED


def test_no_argument_file_when_nothing_is_affected(monorepo: Path) -> None:
    done = greenline(monorepo, "affected", "--base", "main", "--head", "main", "--format", "pytest")
    assert (done.returncode, done.stdout) == (0, "")


def test_a_terminal_gets_a_table_with_reasons(monorepo: Path) -> None:
    ours, theirs = pty.openpty()
    command = [GREENLINE, "affected", "--base", "main"]
    subprocess.run(
        command, cwd=monorepo, stdout=theirs, stderr=subprocess.DEVNULL, check=True, env=os.environ | {"COLUMNS": "200"}
    )
    os.close(theirs)
    text = os.read(ours, 100_000).decode()
    assert "core/tests/test_money.py" in text
    assert "depends on core/src/core/money.py (changed)" in text


def test_why_shows_the_lines_of_the_chain(monorepo: Path) -> None:
    done = greenline(monorepo, "why", "catalog/tests/test_catalog_service.py::test_total", "--base", "main")
    assert done.stdout.splitlines() == [
        "catalog/tests/test_catalog_service.py",
        "  depends on catalog/src/catalog/service.py: imports it",
        "    catalog/tests/test_catalog_service.py:1: from catalog.service import total",
        "catalog/src/catalog/service.py",
        "  depends on core/src/core/money.py: imports it",
        "    catalog/src/catalog/service.py:1: from core import money",
        "core/src/core/money.py",
        "  changed",
    ]


def test_why_says_that_a_test_is_not_affected(monorepo: Path) -> None:
    done = greenline(monorepo, "why", "core/tests/test_text.py", "--base", "main")
    assert "is not affected" in done.stdout


def test_why_finds_the_chain_between_two_modules(monorepo: Path) -> None:
    forward = greenline(monorepo, "why", "reports.service", "core.money").stdout
    assert "reports/src/reports/service.py:1: from core import money" in forward
    assert greenline(monorepo, "why", "core.money", "reports.service").stdout == forward
    assert "do not depend on each other" in greenline(monorepo, "why", "core.money", "core.text").stdout


def test_why_refuses_what_it_does_not_know(monorepo: Path) -> None:
    for base in (["--base", "main"], []):
        done = greenline(monorepo, "why", "no.such.module", *base)
        assert done.returncode == 2
        assert "no.such.module" in done.stderr


def test_why_refuses_it_where_every_test_is_selected_as_well(monorepo: Path) -> None:
    subprocess.run(["git", "switch", "--quiet", "main"], cwd=monorepo, check=True)
    done = greenline(monorepo, "why", "core/tests/test_nothing.py")
    assert (done.returncode, "test_nothing.py" in done.stderr) == (2, True)
    assert "every test is selected" in greenline(monorepo, "why", "core/tests/test_text.py").stdout


def test_why_in_a_subfolder_takes_paths_relative_to_it_or_to_the_root(monorepo: Path) -> None:
    whole = greenline(monorepo, "why", "core/tests/test_money.py", "--base", "main").stdout
    assert "core/src/core/money.py" in whole
    for path in ("./tests/test_money.py", "core/tests/test_money.py"):
        assert greenline(monorepo / "core", "why", path, "--base", "main").stdout == whole
    chain = greenline(monorepo, "why", "reports.service", "core.money").stdout
    assert greenline(monorepo / "core", "why", "../reports/src/reports/service.py", "src/core/money.py").stdout == chain


def test_why_refuses_a_test_that_its_file_does_not_name(repository: Repository) -> None:
    repository.commit(
        {
            "base.py": "class Base:\n    def test_inherited(self):\n        pass\n",
            "tests/test_a.py": "from base import Base\n\nclass TestA(Base):\n    pass\n\n\ndef test_a(x):\n    pass\n",
            "tests/test_b.py": "from base import *\n",
        }
    )
    for name, base in (("test_zz", ["--base", "HEAD"]), ("TestA2::test_a", [])):
        done = greenline(repository.root, "why", f"tests/test_a.py::{name}", *base)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"nothing named {name.partition('::')[0]!r} is seen in this file" in done.stderr
    for seen in ("test_a.py::test_a[1::x]", "test_a.py::TestA::test_inherited", "test_b.py::test_any"):
        assert greenline(repository.root, "why", f"tests/{seen}", "--base", "HEAD").returncode == 0


def test_the_tests_that_named_files_would_affect(monorepo: Path) -> None:
    expected = greenline(monorepo, "affected", "core/src/core/text.py").stdout
    assert "core/tests/test_text.py" in expected
    assert "core/tests/test_money.py" not in expected  # it is edited, but was not asked for
    assert greenline(monorepo / "core", "affected", "src/core/text.py").stdout == expected
    folder = greenline(monorepo, "affected", "core/src").stdout.split()
    assert {*expected.split(), *AFFECTED} <= set(folder)
    answer = json.loads(greenline(monorepo, "affected", "core/src/core/text.py", "--format", "json").stdout)
    jsonschema.validate(answer, SCHEMA)
    assert (answer["base_how"], answer["complete"]) == ("as if core/src/core/text.py changed", True)


def test_whatever_changes_in_a_file_naming_it_selects_as_much(monorepo: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    subprocess.run(["git", "clone", "--quiet", "--branch", "main", monorepo, root], check=True)
    paths = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout.split()
    for path in paths:
        before = (root / path).read_text("utf-8")
        would = affected(str(root), Request(paths=(path,)))
        (root / path).write_text(f"{before}\nADDED = 1\n", "utf-8")
        does = affected(str(root), Request(base="HEAD"))
        (root / path).write_text(before, "utf-8")
        assert {test.path for test in does.tests} <= {test.path for test in would.tests}, path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no/such.py"], "no/such.py: there is no such file"),
        (["core", "--base", "main"], "--base and --head measure a change"),
        (["core", "--head", "main"], "--base and --head measure a change"),
        (["core", "--mode", "evidence"], "--mode evidence compares two states"),
    ],
)
def test_named_files_that_cannot_be_judged(monorepo: Path, arguments: list[str], says: str) -> None:
    done = greenline(monorepo, "affected", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_the_reasons_are_summed_up(monorepo: Path) -> None:
    done = greenline(monorepo, "affected", "core/src/core/money.py", "--format", "nodeids")
    assert "4 by imports; all because of core/src/core/money.py; greenline why TEST shows how" in done.stderr


def test_the_switch_turns_selection_off(monorepo: Path) -> None:
    env = os.environ | {"GREENLINE_SELECTION": "off"}
    command = [GREENLINE, "affected", "--base", "main", "--format", "json"]
    answer = json.loads(
        subprocess.run(command, cwd=monorepo, capture_output=True, text=True, check=True, env=env).stdout
    )
    assert len(answer["tests"]) == answer["total"] == 14


@pytest.mark.slow
def test_the_demo_runs() -> None:
    done = subprocess.run([sys.executable, "-m", "greenline.tools.demo"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 failed" in done.stdout
    assert "candidate fix:renamed: verified" in done.stdout
