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
