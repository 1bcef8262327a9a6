from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from greenline.depgraph.errors import ConfigError, GreenlineError, Problem
from greenline.tools.cli import main

GREENLINE = [sys.executable, "-c", "from greenline.tools.cli.main import main; main()"]


@pytest.fixture
def as_why(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Put a function in the place of the module behind `greenline why`."""

    def replace(function: Callable[[], object]) -> None:
        module = SimpleNamespace(command=click.command()(function))
        monkeypatch.setitem(sys.modules, "greenline.tools.cli.why", module)

    return replace


def test_help_and_version_load_no_command() -> None:
    for option in ("--help", "-h", "--version"):
        code = (
            "import sys\nfrom greenline.tools.cli.main import run\n"
            f"assert run([{option!r}]) == 0\n"
            "print([name for name in sys.modules if name.startswith('greenline.')])"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        *printed, loaded = done.stdout.splitlines()
        rooms = {"greenline.tools", "greenline.tools.cli", "greenline.depgraph"}
        own = {"greenline.tools.cli.main", "greenline.depgraph.errors"}
        assert set(re.findall(r"'(.*?)'", loaded)) == rooms | own
        if option == "--version":
            assert re.fullmatch(r"greenline \d+\.\d+\.\d+", printed[0])
        else:
            lines = [" ".join(line.split()) for line in printed]
            assert {f"{name} {help_line}" for name, help_line in main.COMMANDS.items()} <= set(lines)


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_of_the_table_is_there(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: greenline {name} ")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["afected"], "Did you mean 'affected'?"),
        (["--nonsense"], "No such option"),
        (["doctor", "--format", "xml"], "'xml' is not one of 'text', 'json'"),
        (["init", "extra"], "unexpected extra argument"),
    ],
)
def test_wrong_usage(args: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (1, 1), (3, 3)])
def test_what_a_command_returns_is_the_exit_code(
    as_why: Callable[[Callable[[], object]], None], result: int | None, code: int
) -> None:
    as_why(lambda: result)
    assert main.run(["why"]) == code


def test_an_error_is_two_lines(
    as_why: Callable[[Callable[[], object]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise GreenlineError("no such commit", "git fetch it")

    as_why(fail)
    assert main.run(["why"]) == 2
    assert capsys.readouterr() == ("", "greenline: no such commit\n  git fetch it\n")


def test_a_configuration_error_is_a_line_for_each_problem(
    as_why: Callable[[Callable[[], object]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ConfigError("greenline.yaml", (Problem(2, "base", "is wrong"), Problem(4, "", "is bad")))

    as_why(fail)
    assert main.run(["why"]) == 2
    assert capsys.readouterr().err == "greenline: greenline.yaml:2: base: is wrong\ngreenline.yaml:4: is bad\n"


def test_an_unexpected_error_leaves_its_traceback_in_a_file(
    as_why: Callable[[Callable[[], object]], None],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def fail() -> None:
        raise KeyError("first\nsecond")

    as_why(fail)
    assert main.run(["why"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err and len(err.splitlines()) == 2
    (file,) = tmp_path.iterdir()
    assert str(file) in err
    assert "KeyError" in file.read_text("utf-8") and "in fail" in file.read_text("utf-8")

    file.unlink()
    monkeypatch.setenv("GREENLINE_DEBUG", "1")
    assert main.run(["why"]) == 2
    assert "Traceback" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_traceback_that_cannot_be_kept_is_no_second_error(
    as_why: Callable[[Callable[[], object]], None],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    as_why(lambda: 1 // 0)
    assert main.run(["why"]) == 2
    assert "GREENLINE_DEBUG=1" in capsys.readouterr().err


def test_an_interrupt_is_130(as_why: Callable[[Callable[[], object]], None]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    as_why(interrupted)
    assert main.run(["why"]) == 130


@pytest.mark.parametrize("args", [["--help"], ["init", "--schema"]])
def test_a_reader_that_leaves_is_no_error(args: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*GREENLINE, *args], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_paths_that_are_not_utf8_leave_as_they_came(as_why: Callable[[Callable[[], object]], None]) -> None:
    code = (
        "import sys, types, click\nfrom greenline.tools.cli.main import main\n"
        "command = click.command()(lambda: print('a\\udcff'))\n"
        "sys.modules['greenline.tools.cli.why'] = types.SimpleNamespace(command=command)\n"
        "sys.argv = ['greenline', 'why']\nmain()"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=True)
    assert done.stdout == b"a\xff\n"


def test_names_of_commands_complete_in_the_shell() -> None:
    environment = {
        **os.environ,
        "_GREENLINE_COMPLETE": "bash_complete",
        "COMP_WORDS": "greenline do",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(GREENLINE, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "plain,doctor\n"


def test_outside_of_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.run(["init"]) == 2
    assert "is not in a git repository" in capsys.readouterr().err
    assert main.run(["doctor", "--format", "json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert [finding["check"] for finding in answer["findings"] if finding["state"] == "broken"] == ["repository"]
