"""The leaks of the argument for evidence, with a real recording: each test that flips must be selected."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from table import environment, git, write

from greenline.ci.affected import Answer, Request, affected, change_of
from greenline.ci.evidence.sharpen import Verdict, verdicts

GREENLINE = Path(sys.executable).with_name("greenline")
CASES: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("leaks.yaml").read_text("utf-8"))
COMMON = {
    "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["."]\n',
    ".gitignore": "__pycache__\n.greenline\n",
}


def folder_of(case: dict[str, Any]) -> str:
    return f"case_{CASES.index(case):02}"


def record(root: Path, *arguments: str, **variables: str) -> None:
    """Run `greenline record` as a user would."""
    done = subprocess.run(
        [GREENLINE, "record", "--", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=root,
        env=environment({"PYTHONHASHSEED": "2", **variables}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "greenline: recorded" in done.stderr, done.stderr


def repository(root: Path, files: dict[str, str]) -> Path:
    """A repository with these files committed, recorded."""
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch=main", "--template=")
    write(root, {**COMMON, **files})
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=base")
    record(root)
    return root


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository of all cases."""
    files = {}
    for case in CASES:
        folder = folder_of(case)
        for name, text in {"__init__.py": "", **case["files"]}.items():
            files[f"{folder}/{name}"] = text.replace("{case}", folder)
    return repository(tmp_path_factory.mktemp("leaks") / "repository", files)


@pytest.fixture
def edited(recorded: Path) -> Iterator[Path]:
    yield recorded
    git(recorded, "checkout", "--quiet", "--", ".")
    git(recorded, "clean", "-fdq", "-e", ".greenline")


def ask(root: Path, mode: str = "auto") -> Answer:
    return affected(str(root), Request(base="HEAD", mode=mode))


def is_selected(answer: Answer, path: str, name: str) -> bool:
    found = [test.node_ids for test in answer.tests if test.path == path]
    return any(ids is None or name in [each.partition("[")[0] for each in ids] for ids in found)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["leak"].replace(" ", "-"))
def test_leak(case: dict[str, Any], edited: Path) -> None:
    folder = folder_of(case)
    write(edited, {f"{folder}/{name}": change for name, change in case["edit"].items()})
    answer = ask(edited)
    path = f"{folder}/test_case.py"
    assert answer.share is not None and answer.share > 0.9
    assert [name for name in case["selected"] if not is_selected(answer, path, name)] == []
    assert [name for name in case.get("spared", ()) if is_selected(answer, path, name)] == []
    if "bystanders" not in case:
        assert [test.path for test in answer.tests if test.path != path] == []


@pytest.fixture(scope="module")
def small_recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two functions, and tests that run one, the other, or what chance says, or a variable."""
    return repository(
        tmp_path_factory.mktemp("small") / "repository",
        {
            "lib.py": "def a():\n    return 1\n\n\ndef b():\n    return 2\n",
            "test_lib.py": "import lib\n\n\ndef test_a():\n    assert lib.a()\n\n\ndef test_b():\n"
            "    assert lib.b()\n\n\ndef test_either():\n    assert lib.a() if hash('which') % 2 else lib.b()\n",
            "mode.py": "def slow():\n    return 1\n\n\ndef fast():\n    return 1\n",
            "test_mode.py": "import os\nimport mode\n\n\ndef test_mode():\n"
            "    assert mode.fast() if 'MODE' in os.environ else mode.slow()\n",
        },
    )


@pytest.fixture
def small(small_recorded: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small_recorded, tmp_path / "repository")


def names(answer: Answer) -> list[str]:
    return [each for test in answer.tests for each in test.node_ids or ["all"]]


def test_leak_3_a_learned_import_also_counts_for_imports_alone(tmp_path: Path) -> None:
    root = repository(
        tmp_path / "repository",
        {
            "plugins/late.py": "import plugins.deep\n\n\ndef f():\n    return 1\n",
            "plugins/deep.py": "VALUE = 1\n",
            "plugins/other.py": "",
            "load.py": "import importlib\n\n\ndef load(*names):\n    return importlib.import_module('.'.join(names))\n",
            "test_late.py": "import load\n\ndef test_late():\n    assert load.load('plu' + 'gins', 'la' + 'te').f()\n",
            "test_plain.py": "import load\n\n\ndef test_plain():\n    assert load\n",
        },
    )
    for path in ("plugins/late.py", "plugins/deep.py"):
        write(root, {path: (root / path).read_text() + "NEW = 2\n"})
        (found,) = ask(root, "static").tests
        assert found.path == "test_late.py" and "was seen to import plugins/late.py" in found.reason
        git(root, "checkout", "--quiet", ".")
    write(root, {"plugins/other.py": "NEW = 2\n"})
    assert ask(root, "static").tests == []
    command = [GREENLINE, "why", "test_late.py", "plugins/deep.py"]
    done = subprocess.run(command, cwd=root, env=environment({}), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "test_late.py",
        "  was seen to import plugins/late.py as it ran",
        "plugins/late.py",
        "  depends on plugins/deep.py: imports it",
        "    plugins/late.py:1: import plugins.deep",
        "plugins/deep.py",
    ]
    write(root, {"plugins/late.py": {"return 1": "return 3"}})
    (root / ".greenline" / "store" / "greenline.db").write_bytes(b"no database at all, but long enough for one" * 9)
    answer = ask(root, "static")
    assert not answer.complete and "evidence cannot be read" in answer.warnings[0]


def verdicts_of(root: Path, path: str) -> list[Verdict]:
    change = change_of(str(root), Request(base="HEAD"))
    assert change.opened is not None
    return verdicts(change.opened, change.config, path)


A, B = {"return 1": "return 3"}, {"return 2": "return 4"}


def test_leak_4_a_stale_record_counts_as_none(small: Path) -> None:
    write(small, {"lib.py": A})
    git(small, "commit", "--quiet", "--all", "--message=a changes and nobody records")
    write(small, {"lib.py": B})
    assert names(ask(small)) == ["test_a", "test_b", "test_either"]  # what test_a runs now is not known
    record(small)
    git(small, "commit", "--quiet", "--all", "--message=b changes")
    write(small, {"lib.py": {"return 4": "return 5"}})
    assert names(ask(small)) == ["test_b", "test_either"]  # recorded before the commit, of the same content


def test_leak_12_the_last_records_count_together(small: Path) -> None:
    record(small, PYTHONHASHSEED="1")
    write(small, {"lib.py": A})
    assert names(ask(small)) == ["test_a", "test_either"]
    git(small, "checkout", "--quiet", "lib.py")
    write(small, {"lib.py": B})
    assert names(ask(small)) == ["test_b", "test_either"]


def test_leak_7_a_record_was_made_with_the_value_that_a_variable_had(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(small, {"mode.py": {"fast():\n    return 1": "fast():\n    return 3"}})
    assert names(ask(small)) == []
    monkeypatch.setenv("MODE", "s3cret")
    assert names(ask(small)) == ["test_mode"]  # what it runs now was not seen
    (verdict,) = verdicts_of(small, "test_mode.py")
    assert verdict.affected is None and verdict.why == "$MODE had another value when it was recorded"
    git(small, "commit", "--quiet", "--all", "--message=fast")
    record(small, MODE="s3cret")
    write(small, {"mode.py": {"return 3": "return 4"}})
    assert [test.path for test in ask(small).tests] == ["test_mode.py"]
    store = (small / ".greenline" / "store" / "greenline.db").read_bytes()
    assert b"MODE" in store and b"s3cret" not in store  # a value may be a secret


def test_leak_5_evidence_of_another_variant_does_not_count(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(small, {"lib.py": A})
    monkeypatch.setenv("GREENLINE_VARIANT", "cuda12")
    assert names(ask(small)) == ["all"]
    assert ask(small).share is None


def test_a_part_of_the_tests_does_not_pass_for_all(small: Path) -> None:
    write(small, {"test_lib.py": {"def test_b()": "def test_c():\n    assert lib.a()\n\n\ndef test_b()"}})
    git(small, "commit", "--quiet", "--all", "--message=a new test")
    record(small, "-k", "test_b")
    write(small, {"lib.py": A})
    assert names(ask(small)) == ["all"]


def test_some_parameters_do_not_pass_for_all(small: Path) -> None:
    mark = "@pytest.mark.parametrize('n', 'xy')"
    test = f"import pytest\nimport lib\n\n\n{mark}\ndef test_n(n):\n    assert lib.a() if n == 'x' else lib.b()\n"
    write(small, {"test_n.py": test})
    git(small, "add", "--all")
    git(small, "commit", "--quiet", "--message=a new test")
    record(small, "-k", "test_n and x")
    write(small, {"lib.py": B})
    assert [test.node_ids for test in ask(small).tests if test.path == "test_n.py"] == [("test_n[y]",)]


def test_modes(small: Path) -> None:
    write(small, {"lib.py": A})
    static, auto, only = (ask(small, mode) for mode in ("static", "auto", "evidence"))
    assert names(static) == ["all"] and static.share is None
    assert names(auto) == names(only) == ["test_a"]
    assert auto.complete and only.complete
    write(small, {"test_new.py": "import lib\n\n\ndef test_new():\n    assert lib.a()\n"})
    assert names(ask(small)) == ["test_a", "all"]
    only = ask(small, "evidence")
    assert names(only) == ["test_a"] and not only.complete


def test_a_long_answer_can_tell_how_far_it_is(small: Path) -> None:
    write(small, {"lib.py": A, "mode.py": A})
    told: list[tuple[str, int, int]] = []
    affected(str(small), Request(base="HEAD"), lambda *each: told.append(each))
    what = "asking the evidence about each changed file"
    assert [each for each in told if each[0] == what] == [(what, 0, 2), (what, 1, 2)]


def test_likely_failures_run_first(small: Path) -> None:
    """b is what one test of test_z.py ran, a what all of the others did."""
    write(
        small,
        {
            "lib.py": {"return 2": "return 2\n\n\ndef c():\n    return 3"},
            "test_a.py": "import pytest\nimport lib\n\n\n@pytest.mark.parametrize('n', range(9))\ndef test_n(n):\n"
            "    assert lib.a()\n",
            "test_z.py": "import lib\n\n\ndef test_c():\n    assert lib.c()\n",
        },
    )
    git(small, "add", "--all")
    git(small, "commit", "--quiet", "--message=more tests")
    record(small)
    write(small, {"lib.py": {**A, "return 3\n": "return 4\n"}})
    command = [GREENLINE, "test", "--base", "HEAD", "--", "-v", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=small, env=environment(), capture_output=True, text=True, check=False)
    ran = [line.partition("::")[0] for line in done.stdout.splitlines() if " PASSED" in line]
    assert list(dict.fromkeys(ran)) == ["test_z.py", "test_a.py", "test_lib.py"]
