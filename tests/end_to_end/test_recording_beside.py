"""Recording beside other tools, and recording that cannot be: the tests run as always, and it is said why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from guests import guest
from recorded import Records, run, write

SUITE = {
    "app.py": "def double(x):\n    return 2 * x\n\n\ndef other():\n    for i in range(3):\n        yield i\n",
    "test_app.py": """
import app

def test_double():
    assert app.double(2) == 4

def test_other():
    assert list(app.other()) == [0, 1, 2]
""",
}
TAKE_ALL = """
import sys
if sys.version_info >= (3, 12):
    sys.monitoring.use_tool_id(4, "their debugger")
    sys.monitoring.use_tool_id(3, "their debugger")
else:
    def their_debugger(frame, event, arg):
        pass
    sys.setprofile(their_debugger)
"""
STEAL = """
import sys
import app

def test_thief():
    if sys.version_info >= (3, 12):
        sys.monitoring.free_tool_id(4)
    else:
        sys.setprofile(None)
    assert app.double(1) == 2

def test_victim():
    assert app.double(3) == 6
"""
BREAK = """
from pytest_greenline.recorder import Recorder

def fail(*_):
    raise OSError("the disk is full")

def pytest_collection_finish():
    Recorder._note_block = fail
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    write(tmp_path, SUITE)
    return tmp_path


def test_other_tools_keep_the_hooks(root: Path) -> None:
    write(root, {"take_all.py": TAKE_ALL})
    said = run(sys.executable, root, "-v", "-p", "take_all", PYTHONPATH=".", GREENLINE_RECORDING="hooks")
    assert "2 passed" in said
    assert "nothing is recorded: " in said and "their" in said
    assert not Records(root / "out").tests


def test_rewritten_code_needs_no_hooks(root: Path) -> None:
    write(root, {"take_all.py": TAKE_ALL})
    assert "2 passed" in run(sys.executable, root, "-p", "take_all", PYTHONPATH=".")
    assert "app.py::double" in Records(root / "out").blocks("test_double")


def test_a_test_that_takes_the_hooks(root: Path) -> None:
    write(root, {"test_steal.py": STEAL})
    assert "4 passed" in run(sys.executable, root, GREENLINE_RECORDING="hooks")
    seen = Records(root / "out")
    assert "went to nobody" in seen.tests["test_thief"]["lost"]
    assert [test for test, line in seen.tests.items() if line.get("lost")] == ["test_thief"]
    assert "app.py::double" in seen.blocks("test_victim")


def test_a_broken_recorder_breaks_no_test(root: Path) -> None:
    write(root, {"breaker.py": BREAK})
    said = run(sys.executable, root, "-p", "breaker", PYTHONPATH=".")
    assert "2 passed" in said
    assert "warning: recording stopped: OSError: the disk is full" in said
    assert not Records(root / "out").ended


def test_a_folder_that_cannot_be_made(root: Path) -> None:
    write(root, {"out": "a file"})
    said = run(sys.executable, root, "-v")
    assert "2 passed" in said and "nothing is recorded: FileExistsError" in said


def test_off_switch(root: Path) -> None:
    said = run(sys.executable, root, "-v", GREENLINE_RECORDING="off")
    assert "2 passed" in said and "recording is off" in said
    assert not (root / "out").exists()


def test_default_folder_is_ignored_by_git(root: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--greenline-record"]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    records = root / ".greenline" / "records"
    assert (records / ".gitignore").read_text() == "*\n"
    (folder,) = (each for each in records.iterdir() if each.is_dir())
    assert set(Records(folder).tests) == {"test_double", "test_other"}


def test_a_test_file_is_no_folder(root: Path) -> None:
    command = [sys.executable, "-m", "pytest", "--greenline-record", "test_app.py"]
    done = subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)
    assert done.returncode == 4 and "write --greenline-record=FOLDER" in done.stderr


CORES = [("3.11", "ctrace"), ("3.12", "ctrace"), ("3.12", "sysmon"), ("3.13", "ctrace"), ("3.13", "sysmon")]


@pytest.mark.slow
@pytest.mark.parametrize(("version", "core"), CORES)
def test_beside_coverage(root: Path, version: str, core: str) -> None:
    """Both see what each of them sees alone."""
    python = guest(version, "pytest", "coverage")
    alone = run(python, root, folder="alone")
    assert "2 passed" in alone
    lines = []
    for options in ([], ["--greenline-record=both"]):
        settings = f"[run]\ncore = {core}\ndata_file = cov{len(lines)}\nsource = .\n"
        write(root, {"settings": settings})
        command = [str(python), "-m", "coverage", "run", "--rcfile=settings", "-m", "pytest", "-q", *options]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        assert "2 passed" in done.stdout, done.stdout + done.stderr
        report = [str(python), "-m", "coverage", "report", f"--data-file=cov{len(lines)}", "--show-missing"]
        lines.append(subprocess.run(report, cwd=root, capture_output=True, text=True, check=True).stdout)
    assert lines[0] == lines[1]
    one, two = Records(root / "alone"), Records(root / "both")
    assert {test: one.blocks(test) for test in one.tests} == {test: two.blocks(test) for test in two.tests}
