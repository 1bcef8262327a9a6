"""`greenline shard run --local`: slots, GPUs, and what goes wrong, with real processes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from calls import Call
from conftest import Repository
from guests import CURRENT, guest
from plans import plan_of, save, shard

from greenline.ci.sharding.plan_file import PlannedAtom, Pool

GIB = 2**30
GPU = Pool("gpu", slots=8, gpus=2, gpu_memory=8 * GIB)


def atom(*tests: str, **needs: object) -> PlannedAtom:
    return PlannedAtom(tests, **{"seconds": 1.0, **needs})  # type: ignore[arg-type]


class Here:
    """A repository with one test file, a plan for it, and where results go."""

    def __init__(self, repository: Repository, folder: Path) -> None:
        self.repository, self.folder = repository, folder
        self.results = folder / "results"

    def plan(self, text: str, *shards: list[PlannedAtom], owns: bool = True) -> None:
        self.repository.commit({"test_x.py": text, "pytest.ini": "[pytest]\n"})
        owned = [["test_x.py"] if owns and not number else [] for number in range(len(shards))]
        save(plan_of(shards, owned, [GPU]), self.folder / "plan.json")

    def run(self, *options: object, **environment: str) -> Call:
        options = ("--local", "--results", self.results, *options)
        return shard(self.repository.root, "run", "--plan", self.folder / "plan.json", *options, **environment)

    def verify(self) -> dict[str, object]:
        done = shard(
            self.repository.root, "verify", "--plan", self.folder / "plan.json", self.results, "--format", "json"
        )
        verdict: dict[str, object] = json.loads(done.out)
        assert done.code == (0 if verdict["green"] else 1)
        return verdict

    def said(self, name: str) -> list[str]:
        """Lines that tests wrote into a file of this name."""
        return (self.repository.root / name).read_text().splitlines()


@pytest.fixture
def here(repository: Repository, tmp_path: Path) -> Here:
    return Here(repository, tmp_path)


SEE = """
import os, time
def see(name):
    with open("seen", "a") as file:
        print(name, os.environ.get("CUDA_VISIBLE_DEVICES"), os.getpid(), file=file)
"""


def test_gpus_are_given_packed_and_hidden(here: Here) -> None:
    names = ("small", "tiny", "whole", "cpu", "both", "new")
    small = atom("test_x.py::test_small", gpu_memory=5 * GIB, seconds=9)
    tiny = atom("test_x.py::test_tiny", gpu_memory=2 * GIB, seconds=8)
    whole = atom("test_x.py::test_whole", gpus=1.0, seconds=7)
    both = atom("test_x.py::test_both", gpus=2.0, seconds=1)
    here.plan(
        SEE + "".join(f"def test_{name}():\n    see('{name}')\n    time.sleep(0.3)\n" for name in names),
        [small, tiny],
        [whole, atom("test_x.py::test_cpu", seconds=6)],
        [both],
    )
    done = here.run("--gpus", 2, CUDA_VISIBLE_DEVICES="4,7")
    assert done.code == 0, done.out + done.err
    seen = {name: rest for name, _, rest in (line.partition(" ") for line in here.said("seen"))}
    devices = {name: rest.rpartition(" ")[0] for name, rest in seen.items()}
    assert devices.pop("new") == devices["small"]  # new tests go with an atom of their file
    assert devices == {"small": "4", "tiny": "4", "whole": "7", "cpu": "", "both": "4,7"}
    assert here.verify()["counts"] == {"passed": 6}


@pytest.mark.slow
def test_failures_keep_the_exit_code_and_are_printed(here: Here) -> None:
    here.plan(
        "def test_a(): assert 'this' == 'that'\ndef test_b(): pass\n",
        [atom("test_x.py::test_a"), atom("test_x.py::test_b")],
    )
    done = here.run("--slots", 1)
    assert done.code == 1
    assert "failed: test_x.py::test_a: AssertionError" in done.err
    assert "assert 'this' == 'that'" in done.out
    assert [problem["kind"] for problem in here.verify()["problems"]] == ["failed"]  # type: ignore[attr-defined]


@pytest.mark.slow
def test_out_of_memory_runs_once_more_alone(here: Here) -> None:
    text = """
import os
def fails(name, times):
    with open(name, "a") as file:
        print(os.environ["CUDA_VISIBLE_DEVICES"], file=file)
    if len(open(name).readlines()) <= times:
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
def test_once(): fails("once", 1)
def test_always(): fails("always", 9)
"""
    tests = [atom(f"test_x.py::test_{name}", gpu_memory=4 * GIB) for name in ("once", "always")]
    here.plan(text, tests)
    done = here.run("--gpus", 1)
    assert done.code == 1
    assert (len(here.said("once")), len(here.said("always"))) == (2, 2)
    verdict = here.verify()
    assert verdict["counts"] == {"passed": 1, "failed": 1}
    assert "test_x.py::test_once: failed then passed (attempt 1)" in verdict["notes"]  # type: ignore[operator]


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(here: Here) -> None:
    text = """
import os, signal
def run(name):
    with open("ran", "a") as file:
        print(name, file=file)
def test_a(): run("a")
def test_once():
    run("once")
    if open("ran").read().split().count("once") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
def test_b(): run("b")
def test_always():
    run("always")
    os._exit(9)
def test_c(): run("c")
"""
    names = ("a", "once", "b", "always", "c")
    here.plan(text, [atom(*(f"test_x.py::test_{name}" for name in names))])
    done = here.run("--slots", 2)
    assert done.code == 1
    ran = here.said("ran")
    assert {name: ran.count(name) for name in names} == {"a": 1, "once": 2, "b": 1, "always": 2, "c": 1}
    verdict = here.verify()
    assert verdict["counts"] == {"passed": 4, "failed": 1}
    (problem,) = verdict["problems"]  # type: ignore[misc]
    assert (problem["kind"], problem["tests"]) == ("lost", ["test_x.py::test_always"])  # type: ignore[index]


@pytest.mark.slow
def test_a_hung_test_is_ended_with_its_children(here: Here) -> None:
    text = """
import os, subprocess, time
def test_hangs():
    for new_session in (False, True):
        child = subprocess.Popen(["sleep", "300"], start_new_session=new_session)
        with open("children", "a") as file:
            print(child.pid, file=file)
    time.sleep(300)
def test_after(): pass
"""
    here.plan(text, [atom("test_x.py::test_hangs", "test_x.py::test_after")])
    start = time.monotonic()
    done = here.run("--slots", 1, "--timeout", 2)
    assert time.monotonic() - start < 30
    assert done.code == 1
    assert "line 8 in test_hangs" in done.out  # where it hung
    children = list(map(int, here.said("children")))
    assert len(children) == 2
    assert not any(map(is_alive, children))
    verdict = here.verify()
    assert verdict["counts"] == {"passed": 1, "failed": 1}
    (problem,) = verdict["problems"]  # type: ignore[misc]
    assert "hangs" in problem["what"]  # type: ignore[index]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    return state != "Z"


@pytest.mark.slow
def test_locks_and_processes_of_their_own(here: Here) -> None:
    text = (
        SEE
        + """
def test_first():
    see("first"); time.sleep(0.4); see("first")
def test_second():
    see("second"); time.sleep(0.4); see("second")
def test_alone(): see("alone")
def test_alone_too(): see("alone_too")
"""
    )
    here.plan(
        text,
        [atom("test_x.py::test_first", locks=("port",)), atom("test_x.py::test_second", locks=("port",))],
        [atom("test_x.py::test_alone", "test_x.py::test_alone_too", isolated=True, seconds=0.5)],
    )
    assert here.run("--slots", 4).code == 0
    lines = [line.split(" ") for line in here.said("seen")]
    order = [name for name, *_ in lines if name in ("first", "second")]
    assert order in (["first", "first", "second", "second"], ["second", "second", "first", "first"])
    alone = [pid for name, _, pid in lines if name.startswith("alone")]
    others = [pid for name, _, pid in lines if not name.startswith("alone")]
    assert len(set(alone)) == 2
    assert not set(alone) & set(others)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["pytest==7.4.4", "pytest==8.3.5", "pytest"])
def test_session_fixtures_live_as_long_as_a_worker_and_others_as_their_scope(here: Here, version: str) -> None:
    text = """
import pytest
def say(text):
    with open("said", "a") as file:
        print(text, file=file)
@pytest.fixture(scope="session")
def whole():
    say("session up"); yield; say("session down")
@pytest.fixture(scope="module", autouse=True)
def file(whole):
    say("module up"); yield; say("module down")
def test_a(): say("a")
def test_b(): say("b")
def test_c(): say("c")
"""
    here.plan(text, [atom("test_x.py::test_a", "test_x.py::test_b"), atom("test_x.py::test_c")])
    environment = guest(CURRENT, version).parents[1]
    assert here.run("--slots", 1, VIRTUAL_ENV=str(environment)).code == 0
    assert here.said("said") == [
        "session up", "module up", "a", "b", "module down", "module up", "c", "module down", "session down",
    ]  # fmt: skip


def test_what_can_never_run_here_is_told_before_anything_runs(here: Here) -> None:
    here.plan(
        "def test_a(): open('ran', 'w')\ndef test_b(): pass\n",
        [atom("test_x.py::test_a"), atom("test_x.py::test_b", gpus=4.0)],
    )
    done = here.run("--gpus", 1)
    assert done.code == 2
    assert "test_x.py::test_b: it needs 4 GPUs, 1 such are here" in done.err
    assert not (here.repository.root / "ran").exists()


@pytest.mark.slow
def test_the_users_xdist_is_switched_off_in_workers(here: Here) -> None:
    here.plan("def test_a(): pass\n", [atom("test_x.py::test_a")])
    here.repository.write({"pytest.ini": "[pytest]\naddopts = -n 2 --dist loadfile\n"})
    assert here.run("--slots", 1).code == 0
    assert here.verify()["counts"] == {"passed": 1}
