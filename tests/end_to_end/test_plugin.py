"""`pytest --affected` in real repositories, with real pytest and pytest-xdist."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from calls import GREENLINE, call, run_affected, run_pytest, script
from conftest import Repository
from guests import guest

BOOM = "raise RuntimeError('this file must not be imported')\n"
REPOSITORY = {
    "pytest.ini": "[pytest]\npythonpath = .\n",
    "app/__init__.py": "",
    "app/a.py": "VALUE = 1\n",
    "app/b.py": "VALUE = 1\n",
    "tests/test_a.py": "from app.a import VALUE\ndef test_a():\n    assert VALUE\n",
    "tests/test_b.py": f"from app.b import VALUE\n{BOOM}def test_b():\n    assert VALUE\n",
}


@pytest.fixture
def changed(repository: Repository) -> Repository:
    """On a branch off main, with an uncommitted edit of app/a.py."""
    return change(repository, {}, {"app/a.py": "VALUE = 2\n"})


def change(repository: Repository, files: dict[str, str], edit: dict[str, str]) -> Repository:
    """Commit REPOSITORY and these files to main, and make an edit on a branch."""
    repository.commit({**REPOSITORY, **files})
    repository.git("checkout", "--quiet", "-b", "topic")
    repository.write(edit)
    return repository


def test_only_affected_tests_run_and_other_files_are_not_imported(changed: Repository) -> None:
    done = run_affected(changed.root)
    assert done.passed == {"tests/test_a.py::test_a"}
    assert done.code == 0
    base = changed.git("rev-parse", "--short=7", "main").strip()
    assert f"greenline: 1 of 2 test files affected (base {base}, main); left out 1" in done.out


def test_single_tests_and_xdist(repository: Repository, tmp_path: Path) -> None:
    tests = """
import pytest
def test_old(): pass
def test_old_too(): pass
@pytest.mark.xdist_group("g")
@pytest.mark.parametrize("x", ["a", "b::c"])
def test_new(x): VALUE
def test_new_2(): pass
class TestC:
    def test_m(self): VALUE
    def test_n(self): pass
"""
    repository = change(
        repository,
        {"tests/test_items.py": tests.replace("VALUE", "assert 1")},
        {"tests/test_items.py": tests.replace("VALUE", "assert 2")},
    )
    expected = {
        "tests/test_items.py::test_new[a]",
        "tests/test_items.py::test_new[b::c]",
        "tests/test_items.py::TestC::test_m",
    }
    alone = run_affected(repository.root)
    assert (alone.code, alone.passed) == (0, expected)
    assert "4 deselected" in alone.out

    asked = tmp_path / "asked"
    greenline = script(tmp_path / "greenline", f'echo >>"{asked}"\nexec "{GREENLINE}" "$@"')
    many = run_affected(repository.root, "-n", 2, "--dist", "loadgroup", GREENLINE=str(greenline))
    assert (many.code, {name.removesuffix("@g") for name in many.passed}) == (0, expected)
    assert asked.read_text().splitlines() == [""]


def test_nothing_is_affected(changed: Repository) -> None:
    changed.git("checkout", "--quiet", "--", ".")
    done = run_affected(changed.root, "-q")
    assert (done.code, done.passed) == (0, set())
    assert "no test is affected" in done.out
    assert run_affected(changed.root, "-n", 1).code == 0
    assert run_affected(changed.root, "--collect-only").code == 0


@pytest.mark.parametrize("named", ["tests/test_b.py", "tests/test_b.py::test_b", "--pyargs tests.test_b::test_b"])
def test_a_named_file_that_is_not_affected_is_left_out(changed: Repository, named: str) -> None:
    done = run_affected(changed.root, *named.split())
    assert (done.code, done.passed) == (0, set())


def test_named_files_and_folders_that_are_affected_run(changed: Repository) -> None:
    changed.write({"tests/test_b.py": "def test_b(): pass\n"})
    done = run_affected(changed.root, "tests/test_b.py")
    assert (done.code, done.passed) == (0, {"tests/test_b.py::test_b"})
    done = run_affected(changed.root, "--pyargs", "tests.test_a")
    assert (done.code, done.passed) == (0, {"tests/test_a.py::test_a"})


@pytest.mark.parametrize("options", [[], ["-n", "1"]])
def test_what_the_user_takes_away_is_no_empty_selection(changed: Repository, options: list[str]) -> None:
    done = run_affected(changed.root, "-k", "nothing_like_it", *options)
    assert done.code == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "no test is affected" not in done.out


def test_a_repository_without_tests_is_no_empty_selection(repository: Repository) -> None:
    repository.commit({"README": ""})
    assert run_affected(repository.root, "--affected-base", "HEAD").code == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_superset_is_told_in_header_and_summary(repository: Repository) -> None:
    repository.commit({**REPOSITORY, "tests/test_b.py": "def test_b(): pass\n"})
    done = run_affected(repository.root)
    assert (done.code, done.passed) == (0, {"tests/test_a.py::test_a", "tests/test_b.py::test_b"})
    header, _, rest = done.out.partition("collected 2 items")
    assert "greenline: everything is affected: this is the default branch (main)" in header
    assert "greenline: warning: everything is selected" in header
    assert "greenline: warning: everything is selected" in rest


@pytest.mark.parametrize(
    ("greenline", "says"),
    [
        ("/nowhere/greenline", "No such file or directory"),
        ("echo 'a bug' >&2; exit 1", "failed with exit code 1: a bug"),
        ("echo 'greenline: internal error: KeyError' >&2; exit 2", "internal error: KeyError"),
        ("echo all of them", "cannot be read"),
        ("echo '{\"version\": 99}'", "update the older one"),
    ],
)
def test_without_an_answer_everything_runs(changed: Repository, tmp_path: Path, greenline: str, says: str) -> None:
    changed.write({"tests/test_b.py": "def test_b(): pass\n"})
    command = greenline if greenline.startswith("/") else str(script(tmp_path / "greenline", greenline))
    done = run_affected(changed.root, "-q", GREENLINE=command)
    assert (done.code, done.passed) == (0, {"tests/test_a.py::test_a", "tests/test_b.py::test_b"})
    assert "greenline: warning: every test runs, affected or not" in done.out
    assert says in done.out


def test_a_wrong_base_is_wrong_usage(changed: Repository) -> None:
    done = run_affected(changed.root, "--affected-base", "no-such-branch")
    assert (done.code, done.out) == (pytest.ExitCode.USAGE_ERROR, "")
    assert done.err.startswith("ERROR: --affected-base no-such-branch: git knows no commit 'no-such-branch'\n")


def test_a_base_that_is_given(changed: Repository) -> None:
    changed.commit()
    done = run_affected(changed.root, "--affected-base", "topic")
    assert done.code == 0
    assert "0 of 2 test files affected" in done.out


def test_selection_can_be_switched_off(changed: Repository) -> None:
    changed.write({"tests/test_b.py": "def test_b(): pass\n"})
    done = run_affected(changed.root, GREENLINE_SELECTION="off", GREENLINE="/nowhere/greenline")
    assert (done.code, done.passed) == (0, {"tests/test_a.py::test_a", "tests/test_b.py::test_b"})
    assert "greenline: selection is off ($GREENLINE_SELECTION)" in done.out


def test_unasked_it_does_nothing(changed: Repository) -> None:
    test = """
import sys
def test_a():
    loaded = [name for name in sys.modules if name.startswith("pytest_greenline.")]
    assert loaded == ["pytest_greenline.plugin"]
"""
    changed.write({"tests/test_a.py": test})
    done = run_pytest(changed.root, "tests/test_a.py", "--affected-base", "main", GREENLINE="/nowhere/greenline")
    assert done.code == 0
    assert "greenline:" not in done.out


def test_the_marker_is_known_and_obeyed(repository: Repository) -> None:
    always = "import pytest\n@pytest.mark.always_run\ndef test_always(): pass\n"
    change(repository, {"tests/test_always.py": always}, {"app/a.py": "VALUE = 2\n"})
    done = run_affected(repository.root, "--strict-markers")
    assert (done.code, done.passed) == (0, {"tests/test_a.py::test_a", "tests/test_always.py::test_always"})


def test_folders_without_affected_tests_are_not_walked(repository: Repository) -> None:
    files = {"pytest.ini": "[pytest]\npythonpath = .\n", "tests/slow/conftest.py": BOOM}
    files |= {f"tests/slow/{name}/test_c.py": BOOM for name in ("x", "y")}
    change(repository, files, {"app/a.py": "VALUE = 2\n"})
    done = run_affected(repository.root, "--import-mode", "importlib")
    assert (done.code, done.passed) == (0, {"tests/test_a.py::test_a"})


def test_what_greenline_does_not_know_runs(repository: Repository) -> None:
    collector = """
import pytest
def pytest_collect_file(file_path, parent):
    if file_path.suffix == ".yaml":
        return Yaml.from_parent(parent, path=file_path)
class Yaml(pytest.File):
    def collect(self):
        yield Item.from_parent(self, name="item")
class Item(pytest.Item):
    def runtest(self): pass
"""
    files = {
        ".gitignore": "generated/\n",
        "tests/other/conftest.py": collector,
        "tests/other/deep/case.yaml": "",
        "tests/other/deep/test_c.py": BOOM,
    }
    change(
        repository,
        files,
        {"app/a.py": "VALUE = 2\n", "tests/generated/test_new.py": "def test_new(): pass\n"},
    )
    done = run_affected(repository.root)
    assert done.code == 0
    assert done.passed == {
        "tests/test_a.py::test_a",
        "tests/generated/test_new.py::test_new",
        "tests/other/deep/case.yaml::item",
    }


def test_files_that_are_no_python(repository: Repository) -> None:
    files = {
        "pytest.ini": "[pytest]\npythonpath = .\naddopts = --doctest-glob=*.rst\n",
        "guide/one.rst": ">>> from app.a import VALUE\n>>> VALUE > 0\nTrue\n",
        "guide/other.rst": ">>> 'wrong'\n'right'\n",
    }
    change(repository, files, {"app/a.py": "VALUE = 2\n"})
    done = run_affected(repository.root)
    assert (done.code, done.passed) == (0, {"guide/one.rst::one.rst", "tests/test_a.py::test_a"})


def test_a_suite_deep_in_a_repository_behind_a_link(repository: Repository, tmp_path: Path) -> None:
    suite = "dienste/über uns"
    files = {f"{suite}/{path}": text for path, text in REPOSITORY.items()}
    files[f"{suite}/tests/conftest.py"] = "import pytest\n@pytest.fixture\ndef one(): return 1\n"
    files[f"{suite}/tests/test_ä b.py"] = "from app.a import VALUE\ndef test_ä(one): assert VALUE > one\n"
    repository.commit(files)
    repository.git("checkout", "--quiet", "-b", "topic")
    repository.write({f"{suite}/app/a.py": "VALUE = 2\n"})
    link = tmp_path / "link"
    link.symlink_to(repository.root)
    done = run_affected(link / suite, PWD=str(link / suite))
    assert (done.code, done.passed) == (0, {"tests/test_a.py::test_a", "tests/test_ä b.py::test_ä"})
    assert "2 of 3 test files affected" in done.out


def test_last_failed_and_collect_only(changed: Repository) -> None:
    changed.write({"tests/test_b.py": "def test_b(): assert 0\n"})
    changed.commit()
    assert run_pytest(changed.root).code == 1
    changed.git("checkout", "--quiet", "-b", "next")
    changed.write({"app/a.py": "VALUE = 3\n"})
    done = run_affected(changed.root, "--affected-base", "topic", "--lf")
    assert (done.code, done.passed) == (0, {"tests/test_a.py::test_a"})
    done = run_affected(changed.root, "--affected-base", "topic", "--collect-only", "-q")
    assert done.code == 0
    assert [line for line in done.out.splitlines() if "::" in line] == ["tests/test_a.py::test_a"]


@pytest.mark.parametrize(
    ("version", "requirement"), [("3.9", "pytest==7.0.*"), ("3.12", "pytest==8.0.*"), ("3.13", "pytest")]
)
def test_other_pythons_and_versions_of_pytest(changed: Repository, version: str, requirement: str) -> None:
    python = guest(version, requirement)
    path = f"{GREENLINE.parent}{os.pathsep}{os.environ['PATH']}"
    tests = "from app.a import VALUE\ndef test_one(): assert VALUE\ndef test_two(): assert {}\n"
    changed.write({"tests/sub/test_c.py": tests.format(1), "tests/slow/conftest.py": BOOM})
    changed.write({"tests/slow/test_d.py": BOOM})
    changed.commit()
    changed.write({"tests/sub/test_c.py": tests.format(2)})
    options = ["-rA", "--strict-markers", "--affected", "--affected-base", "topic"]
    done = call(changed.root, python, "-m", "pytest", *options, "tests/sub", "tests/test_b.py", PATH=path)
    assert (done.code, done.passed) == (0, {"tests/sub/test_c.py::test_two"})
    assert f"Python {version}." in done.out and "1 of 4 test files affected" in done.out
    changed.git("checkout", "--quiet", "--", ".")
    done = call(changed.root, python, "-m", "pytest", *options, PATH=path)
    assert (done.code, done.passed) == (0, set())


def test_without_a_greenline_command_everything_runs(changed: Repository) -> None:
    changed.write({"tests/test_b.py": "def test_b(): pass\n"})
    done = run_affected(changed.root, "-q", PATH=os.defpath)
    assert (done.code, done.passed) == (0, {"tests/test_a.py::test_a", "tests/test_b.py::test_b"})
    assert "there is no greenline command" in done.out


def test_the_python_of_the_tests_may_have_greenline_without_its_script(changed: Repository, tmp_path: Path) -> None:
    python = script(tmp_path / "bin" / "python", f'exec "{sys.executable}" "$@"')
    code = f"import sys; sys.executable = {str(python)!r}; import pytest; pytest.main(['-rA', '--affected'])"
    done = call(changed.root, sys.executable, "-c", code, PATH=os.defpath)
    assert (done.code, done.passed) == (0, {"tests/test_a.py::test_a"})
