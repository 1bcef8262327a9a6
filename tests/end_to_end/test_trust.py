"""Shadow runs, samples, the ledger and the replay of commits, called as a user would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from conftest import Repository

GREENLINE = Path(sys.executable).with_name("greenline")
SCHEMA = json.loads(Path(__file__).parents[2].joinpath("docs", "audit.schema.json").read_text())
FILES = {
    "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["."]\n',
    ".gitignore": "__pycache__\n.greenline\n.pytest_cache\n",
    "greenline.yaml": "ignore:\n  - data.txt\n",  # which is wrong: a test reads it
    "data.txt": "1\n",
    "lib.py": "def a():\n    return 1\n\n\ndef b():\n    return 2\n",
    "test_lib.py": "import lib\n\n\ndef test_a():\n    assert lib.a() in (1, 3)\n\n\n"
    "def test_b():\n    assert lib.b() == 2\n",
    "test_data.py": "def test_data():\n    with open('data.txt') as file:\n        assert file.read() == '1\\n'\n",
}


def greenline(repository: Repository, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [GREENLINE, *arguments], cwd=repository.root, capture_output=True, text=True, check=False, timeout=600
    )


@pytest.mark.slow
def test_a_shadow_run_counts_what_would_be_missed(repository: Repository) -> None:
    repository.commit(FILES)
    assert greenline(repository, "record", "--", "-q").returncode == 0
    repository.write({"data.txt": "2\n", "lib.py": FILES["lib.py"].replace("return 1", "return 3")})
    done = greenline(repository, "test", "--base", "HEAD", "--shadow", "--", "-q")
    assert done.returncode == 1  # pytest's
    assert "takes 1 of 3 tests" in done.stderr and "misses 1 of 2" in done.stderr
    repository.git("checkout", "data.txt")
    done = greenline(repository, "test", "--base", "HEAD", "--sample", "1", "--", "-q")
    assert done.returncode == 0
    assert "misses 0 of 1" in done.stderr
    ledger = greenline(repository, "audit", "--ledger", "--price", "2", "--format", "json")
    said = json.loads(ledger.stdout)
    jsonschema.validate(said, SCHEMA)
    (suite,) = said["suites"]
    assert (suite["builds"], suite["clean"], suite["sampled"]) == (2, 1, 3)
    assert [miss["test"] for miss in suite["missed"]] == ["test_data.py::test_data"]
    assert "escape rate 33.33 %" in greenline(repository, "audit", "--ledger").stdout


@pytest.mark.slow
def test_a_replay_finds_what_selection_misses(repository: Repository) -> None:
    repository.commit(FILES)
    new_test = FILES["test_lib.py"] + "\n\ndef test_fixed():\n    assert lib.b() == 2 and lib.a() == 3\n"
    repository.commit({"lib.py": FILES["lib.py"].replace("return 1", "return 3"), "test_lib.py": new_test})
    done = greenline(repository, "audit", "--commits", "1", "--python", sys.executable, "--format", "json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    jsonschema.validate(said, SCHEMA)
    (suite,) = said["suites"]
    assert suite["missed"] == [] and (suite["tests"], suite["selected"]) == (4, 2)
    assert "1 flipped, 0 missed" in done.stderr  # test_fixed fails on the source before
    repository.commit({"data.txt": "2\n"})
    done = greenline(repository, "audit", "--commits", "1", "--python", sys.executable)
    assert done.returncode == 1
    assert "missed test_data.py::test_data: fails at the commit, passed before" in done.stderr


def test_without_records_there_is_no_ledger(repository: Repository) -> None:
    repository.commit(FILES)
    done = greenline(repository, "audit", "--ledger")
    assert done.returncode == 2 and "the ledger is empty" in done.stderr
    done = greenline(repository, "evidence", "status")
    assert done.returncode == 0 and "there is no evidence" in done.stdout
    done = greenline(repository, "evidence", "import", "nowhere.db")
    assert done.returncode == 2 and "there is no file nowhere.db" in done.stderr
