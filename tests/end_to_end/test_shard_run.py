"""`greenline shard run --index` and `verify` in real repositories, with real pytest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import jsonschema
import pytest
from calls import GREENLINE, surroundings
from conftest import Repository
from guests import guest
from plans import plan_of, save, shard

from greenline.ci.execution.result_files import read

TESTS = {
    "tests/test_a.py": """
import pytest
@pytest.mark.parametrize("x", [1, 2, 3])
def test_p(x): pass
def test_new(): pass
class TestC:
    def test_m(self): pass
    def test_n(self): pass
""",
    "tests/test_b.py": "def test_b(): pass\ndef test_unplanned(): pass\n",
    "tests/test_unselected.py": "raise RuntimeError('this file must not be imported')\n",
    "services/api/pytest.ini": "[pytest]\n",
    "services/api/tests/test_api.py": "import os\ndef test_api(): assert os.path.exists('pytest.ini')\n",
}
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "verify.schema.json").read_text("utf-8"))
A, B, API = "tests/test_a.py", "tests/test_b.py", "services/api/tests/test_api.py"
SHARDS = [[f"{A}::test_p[1]", f"{A}::TestC::test_m", f"{API}::test_api"], [f"{B}::test_b", f"{A}::test_p[2]"]]
OWNS = [[B], [A, f"{A}::TestC"]]
SUITES = {".": "", "services/api": "services/api"}


@pytest.fixture
def planned(repository: Repository, tmp_path: Path) -> tuple[Repository, Path]:
    commit = repository.commit(TESTS)
    return repository, save(plan_of(SHARDS, OWNS, commit=commit, suites=SUITES), tmp_path / "plan.json")


def ran(folder: Path) -> dict[str, list[str]]:
    """Stream → the tests that it has results of."""
    return {
        path.name: [result.id for session in read(str(path)) for result in session.results]
        for path in sorted(folder.glob("*.jsonl"))
    }


def test_each_test_runs_in_its_shard_and_new_ones_with_the_owner(
    planned: tuple[Repository, Path], tmp_path: Path
) -> None:
    repository, plan = planned
    results = tmp_path / "results"
    for index in (0, 1):
        done = shard(repository.root, "run", "--plan", plan, "--index", index, "--results", results)
        assert done.code == 0, done.out + done.err
    assert ran(results) == {
        "shard-0.attempt-1.root.jsonl": [f"{A}::test_p[1]", f"{A}::TestC::test_m", f"{B}::test_unplanned"],
        "shard-0.attempt-1.services-api.jsonl": [f"{API}::test_api"],
        "shard-1.attempt-1.root.jsonl": [
            f"{B}::test_b", f"{A}::test_p[2]", f"{A}::test_p[3]", f"{A}::test_new", f"{A}::TestC::test_n",
        ],
    }  # fmt: skip
    done = shard(repository.root, "verify", "--plan", plan, results, "--format", "json")
    assert done.code == 0, done.out
    verdict = json.loads(done.out)
    jsonschema.validate(verdict, SCHEMA)
    assert (verdict["green"], verdict["counts"], verdict["problems"]) == (True, {"passed": 9}, [])


@pytest.mark.slow
def test_a_plan_of_another_commit_is_refused(planned: tuple[Repository, Path], tmp_path: Path) -> None:
    repository, plan = planned
    repository.commit({"other": ""})
    run = ("run", "--plan", plan, "--results", tmp_path / "results")
    done = shard(repository.root, *run, "--index", 0)
    assert (done.code, done.out) == (2, "")
    assert "the plan is of commit" in done.err and "git checkout" in done.err
    for index in (0, 1):
        assert shard(repository.root, *run, "--index", index, "--any-commit").code == 0
    done = shard(repository.root, "verify", "--plan", plan, tmp_path / "results")
    assert done.code == 1
    assert done.out.count("foreign: ") == 3


@pytest.mark.slow
def test_a_runner_that_is_lost_is_told_and_replayed(repository: Repository, tmp_path: Path) -> None:
    text = """
import time
def test_a(): pass
def test_slow(): time.sleep(0 if open("go").read() else 60)
def test_b(): pass
"""
    commit = repository.commit({A: text, "go": ""})
    plan = save(plan_of([[f"{A}::test_a", f"{A}::test_slow", f"{A}::test_b"]], commit=commit), tmp_path / "plan.json")
    results = tmp_path / "results"
    run = [GREENLINE, "shard", "run", "--plan", plan, "--index", "0", "--results", results]
    environment = surroundings({"VIRTUAL_ENV": str(guest().parents[1])})
    process = subprocess.Popen(list(map(str, run)), cwd=repository.root, env=environment, start_new_session=True)
    while not any("test_slow" in each.read_text() and '"start"' in each.read_text() for each in results.glob("*")):
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGKILL)  # as a machine that is switched off
    process.wait()
    red = json.loads(shard(repository.root, "verify", "--plan", plan, results, "--format", "json").out)
    jsonschema.validate(red, SCHEMA)
    (problem,) = red["problems"]
    assert (problem["kind"], problem["tests"]) == ("lost", [f"{A}::test_slow", f"{A}::test_b"])
    repository.write({"go": "now"})
    assert shard(repository.root, *run[2:]).code == 0
    assert shard(repository.root, "verify", "--plan", plan, results).code == 0


@pytest.mark.slow
def test_a_retry_replays_the_plan_as_the_next_attempt(repository: Repository, tmp_path: Path) -> None:
    flaky = "import pathlib\ndef test_f():\n    here = pathlib.Path('x')\n    had = here.exists()\n    here.touch()\n"
    flaky += "    assert had, 'flaked'\n"
    commit = repository.commit({A: flaky})
    plan = save(plan_of([[f"{A}::test_f"]], commit=commit), tmp_path / "plan.json")
    results = tmp_path / "results"
    run = ("run", "--plan", plan, "--index", 0, "--results", results)
    assert shard(repository.root, *run).code == 1
    red = shard(repository.root, "verify", "--plan", plan, results)
    assert (red.code, "failed: tests/test_a.py::test_f: AssertionError: flaked" in red.out) == (1, True)
    assert shard(repository.root, *run).code == 0
    assert sorted(ran(results)) == ["shard-0.attempt-1.root.jsonl", "shard-0.attempt-2.root.jsonl"]
    green = shard(repository.root, "verify", "--plan", plan, results)
    assert (green.code, "failed then passed (attempt 2)" in green.out) == (0, True)


def test_an_empty_plan_runs_nothing_and_is_green(repository: Repository, tmp_path: Path) -> None:
    repository.commit(TESTS)
    plan = save(plan_of([]), tmp_path / "plan.json")
    assert shard(repository.root, "run", "--plan", plan, "--index", 0).code == 0
    assert shard(repository.root, "verify", "--plan", plan).code == 0
    plan = save(plan_of([[f"{B}::test_b"]]), tmp_path / "plan.json")
    assert shard(repository.root, "verify", "--plan", plan).code == 2  # no results are there
    assert shard(repository.root, "run", "--plan", plan, "--index", 0).code == 0
    assert shard(repository.root, "verify", "--plan", plan).code == 0
    assert repository.git("status", "--porcelain") == ""


@pytest.mark.slow
def test_a_shard_under_xdist_leaves_the_same_record(planned: tuple[Repository, Path], tmp_path: Path) -> None:
    repository, plan = planned
    results = tmp_path / "results"
    for index in (0, 1):
        assert (
            shard(repository.root, "run", "--plan", plan, "--index", index, "--results", results, "--", "-n", 2).code
            == 0
        )
    assert shard(repository.root, "verify", "--plan", plan, results).code == 0


@pytest.mark.slow
def test_a_shard_ends_a_hung_test_and_runs_the_rest(repository: Repository, tmp_path: Path) -> None:
    repository.commit({A: "import time\ndef test_hangs(): time.sleep(300)\ndef test_after(): pass\n"})
    plan = save(plan_of([[f"{A}::test_hangs", f"{A}::test_after"]]), tmp_path / "plan.json")
    where = ("--plan", plan, "--results", tmp_path / "results")
    done = shard(repository.root, "run", *where, "--index", 0, "--timeout", 2)
    assert done.code == 1 and "test_hangs hangs" in done.err
    verdict = shard(repository.root, "verify", "--plan", plan, tmp_path / "results", "--format", "json")
    assert json.loads(verdict.out)["counts"] == {"passed": 1, "failed": 1}
