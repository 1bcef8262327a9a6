"""`greenline conflicts` and `greenline fix` in a real repository: exit codes, JSON by its schema, mended work trees."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from calls import GREENLINE, Call, call

SCHEMA = Path(__file__).parents[2] / "docs" / "conflicts.schema.json"
PRICE = "def price(amount):\n    return amount * 2\n\n\ndef other():\n    return 1\n"
TEST = "from app.price import price  # the one\n\n\ndef test_price():\n    assert price(3) == 6\n"


def git(folder: Path, *arguments: str) -> str:
    done = call(folder, "git", "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments)
    assert done.code == 0, done.err
    return done.out


def commit(folder: Path, branch: str, start: str, **files: str | None) -> None:
    git(folder, "checkout", "-q", "-B", branch, start)
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_py", ".py")
        path.parent.mkdir(exist_ok=True)
        path.unlink() if text is None else path.write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", branch)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """main; `rename` renames price; `use` adds a caller; `apart` touches something else."""
    git(tmp_path, "init", "-q", "-b", "main")
    commit(tmp_path, "main", "main", app__price_py=PRICE, app__far_py="X = 1\n", app____init___py="")
    commit(tmp_path, "rename", "main", app__price_py=PRICE.replace("price(", "cost("))
    commit(tmp_path, "use", "main", tests__test_price_py=TEST)
    commit(tmp_path, "apart", "main", app__far_py="X = 2\n")
    git(tmp_path, "checkout", "-q", "main")
    return tmp_path


@pytest.fixture(autouse=True)
def rooted(tmp_path: Path) -> None:
    """`git checkout -B main main` needs a first commit."""
    (tmp_path / ".gitignore").write_text(".greenline\n__pycache__\n")
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")


def conflicts(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = call(folder, GREENLINE, "conflicts", *arguments, "--format", "json")
    assert done.out, done.err
    answer = json.loads(done.out)
    jsonschema.validate(answer, json.loads(SCHEMA.read_text()))
    return done.code, answer


def test_pairs_of_branches(repository: Path) -> None:
    code, answer = conflicts(repository, "rename", "use", "apart")
    assert code == 1
    assert {tuple(pair["branches"]): pair["verdict"] for pair in answer["pairs"]} == {
        ("rename", "use"): "breaks",
        ("rename", "apart"): "independent",
        ("use", "apart"): "independent",
    }
    (conflict,) = answer["pairs"][0]["conflicts"]
    assert (conflict["class"], conflict["rule"]) == (1, "conflict/renamed")
    assert [(one["branch"], one["path"], one["line"]) for one in conflict["places"]] == [
        ("rename", "app/price.py", 1),
        ("use", "tests/test_price.py", 1),
    ]
    assert [one["commit"] for one in conflict["places"]] == git(repository, "rev-parse", "rename", "use").split()
    assert conflict["fix"]["what"] == "import cost from app.price instead of price from app.price"


def test_a_moved_module_has_no_line(repository: Path) -> None:
    commit(repository, "move", "main", app__price_py=None, app__cost_py=PRICE)
    done = call(repository, GREENLINE, "conflicts", "move", "use")
    assert "app/cost.py\n" in done.out and ":0" not in done.out
    assert done.err.startswith("1 of 1 pair breaks;")


def test_branches_that_do_not_meet(repository: Path) -> None:
    code, answer = conflicts(repository, "use", "apart")
    assert (code, answer["warnings"], answer["complete"]) == (0, [], True)


def test_joint_test_where_affected_tests_meet(repository: Path) -> None:
    git(repository, "branch", "base", "use")
    commit(repository, "one", "base", app__price_py=PRICE.replace("amount * 2", "2 * amount"))
    commit(repository, "two", "base", app__price_py=PRICE.replace("return 1", "return 2"))
    git(repository, "branch", "-f", "main", "base")
    git(repository, "checkout", "-q", "main")
    code, answer = conflicts(repository, "one", "two")
    assert (code, answer["pairs"][0]["verdict"]) == (0, "joint test")
    assert answer["pairs"][0]["joint_tests"] == ["tests/test_price.py"]


def test_one_branch_against_what_main_gained(repository: Path) -> None:
    git(repository, "merge", "-q", "--no-ff", "-m", "m", "rename")
    code, answer = conflicts(repository, "use")
    assert (code, answer["pairs"][0]["branches"]) == (1, ["use", "main"])
    assert conflicts(repository, "apart")[0] == 0
    assert conflicts(repository, "--base", "main~1", "use")[0] == 1


def test_textual_conflict(repository: Path) -> None:
    commit(repository, "clash", "main", app__far_py="X = 3\n")
    code, answer = conflicts(repository, "clash", "apart")
    assert (code, answer["pairs"][0]["conflicts"][0]["rule"]) == (1, "conflict/textual")


@pytest.mark.parametrize("arguments", [(), ("nowhere",), ("--base", "nowhere", "use"), ("use", "--format", "xml")])
def test_wrong_usage(repository: Path, arguments: tuple[str, ...]) -> None:
    done = call(repository, GREENLINE, "conflicts", *arguments)
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err


def passes(folder: Path) -> bool:
    return call(folder, sys.executable, "-c", "from tests.test_price import test_price; test_price()").code == 0


def fix(folder: Path, *arguments: str) -> Call:
    return call(folder, GREENLINE, "fix", *arguments)


def test_fix_after_a_merge(repository: Path) -> None:
    git(repository, "merge", "-q", "--no-ff", "-m", "m", "rename")
    git(repository, "checkout", "-q", "use")
    git(repository, "merge", "-q", "-m", "m", "main")
    assert not passes(repository)
    shown = fix(repository, "--diff")
    assert shown.code == 0
    assert "+from app.price import cost  # the one\n" in shown.out
    assert git(repository, "status", "--porcelain") == ""
    assert fix(repository).out == "tests/test_price.py\n"
    assert passes(repository)
    assert (repository / "tests/test_price.py").read_text() == TEST.replace("price(", "cost(").replace(
        "test_cost", "test_price"
    ).replace("import price ", "import cost ")


def test_fix_of_a_merge_in_progress(repository: Path) -> None:
    git(repository, "checkout", "-q", "use")
    git(repository, "merge", "-q", "--no-commit", "rename")
    assert fix(repository).code == 0
    assert passes(repository)


def test_fix_after_a_rebase(repository: Path) -> None:
    git(repository, "merge", "-q", "rename")
    git(repository, "checkout", "-q", "use")
    git(repository, "rebase", "-q", "main")
    assert fix(repository).code == 0
    assert passes(repository)


def test_fix_without_a_merge_names_the_way(repository: Path) -> None:
    git(repository, "checkout", "-q", "use")
    done = fix(repository, "rename")
    assert (done.code, "git merge rename" in done.err) == (2, True)
    assert "+from app.price import cost" in fix(repository, "--diff", "rename").out


def test_what_has_no_fix_is_told(repository: Path) -> None:
    commit(repository, "delete", "main", app__price_py="def other():\n    return 1\n")
    git(repository, "checkout", "-q", "use")
    git(repository, "merge", "-q", "-m", "m", "delete")
    done = fix(repository)
    assert (done.code, done.out) == (1, "")
    assert "no certain fix: tests/test_price.py:1: app.price.price is gone" in done.err
