"""`greenline shard run --ray` on a cluster of several nodes with logical GPUs, all on this machine."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from calls import GREENLINE, surroundings
from conftest import Repository
from guests import guest
from plans import plan_of, save, shard

from greenline.ci.sharding.plan_file import PlannedAtom, Pool

pytestmark = pytest.mark.slow
GIB = 2**30
POOLS = [Pool("cpu"), Pool("gpu", slots=8, gpus=2, gpu_memory=8 * GIB)]


class Nodes:
    def __init__(self) -> None:
        utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed: .ci/needs/shards.sh")
        self.cluster: Any = utils.Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        self.gpu = self.cluster.add_node(num_cpus=3, num_gpus=2)
        self.cpu = self.cluster.add_node(num_cpus=2)
        self.cluster.wait_for_nodes()

    def kill(self, node: Any) -> None:
        self.cluster.remove_node(node, allow_graceful=False)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    nodes = Nodes()
    yield nodes
    nodes.cluster.shutdown()


def atom(*tests: str, **needs: object) -> PlannedAtom:
    return PlannedAtom(tests, **{"seconds": 1.0, **needs})  # type: ignore[arg-type]


SEE = """
import os, time
def see(name):
    with open("seen", "a") as file:
        print(name, os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ["RAY_RAYLET_PID"], file=file)
"""


def seen(repository: Repository) -> dict[str, list[str]]:
    lines = (line.split(" ") for line in (repository.root / "seen").read_text().splitlines())
    return {name: rest for name, *rest in lines}


def verdict(repository: Repository, tmp_path: Path) -> Any:
    return json.loads(
        shard(repository.root, "verify", "--plan", tmp_path / "plan.json", tmp_path / "results", "--format", "json").out
    )


def start(repository: Repository, tmp_path: Path, nodes: Nodes, *options: object) -> subprocess.Popen[str]:
    command = [GREENLINE, "shard", "run", "--plan", tmp_path / "plan.json", "--results", tmp_path / "results"]
    return subprocess.Popen(
        list(map(str, [*command, "--ray", nodes.cluster.address, *options])),
        cwd=repository.root,
        env=surroundings({"VIRTUAL_ENV": str(guest().parents[1])}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_devices_nodes_and_results(repository: Repository, tmp_path: Path, nodes: Nodes) -> None:
    names = ("cpu1", "cpu2", "small", "tiny", "both", "new", "fails")
    text = SEE + "".join(f"def test_{name}(): see('{name}')\n" for name in names) + "    assert 0\n"
    repository.commit({"pytest.ini": "[pytest]\n", "test_x.py": text.replace("see('fails')", "\n    see('fails')")})
    cpu = [atom(f"test_x.py::test_{name}") for name in ("cpu1", "cpu2", "fails")]
    gpu = [atom(f"test_x.py::test_{name}", gpu_memory=4 * GIB) for name in ("small", "tiny")]
    shards = [cpu, [*gpu, atom("test_x.py::test_both", gpus=2.0)]]
    save(plan_of(shards, [["test_x.py"], []], POOLS, ["cpu", "gpu"]), tmp_path / "plan.json")
    process = start(repository, tmp_path, nodes)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 1, out
    assert "failed: test_x.py::test_fails" in out
    found = seen(repository)
    assert set(found) == set(names)
    raylets = {name: rest[-1] for name, rest in found.items()}
    on_gpu = {raylets[name] for name in ("small", "tiny", "both")}
    on_cpu = {raylets[name] for name in ("cpu1", "cpu2", "new", "fails")}
    assert (len(on_gpu), len(on_cpu)) == (1, 1) and on_gpu != on_cpu
    assert {found[name][0] for name in ("cpu1", "cpu2", "new", "fails")} == {""}
    assert sorted(found["both"][0].split(",")) == ["0", "1"]
    assert found["small"][0] in ("0", "1")
    judged = verdict(repository, tmp_path)
    assert judged["counts"] == {"passed": 6, "failed": 1}


def test_what_no_node_can_run_is_told_first(repository: Repository, tmp_path: Path, nodes: Nodes) -> None:
    repository.commit({"pytest.ini": "[pytest]\n", "test_x.py": "def test_a(): pass\n"})
    save(plan_of([[atom("test_x.py::test_a", gpus=4.0)]], pools=POOLS, pool_of=["gpu"]), tmp_path / "plan.json")
    process = start(repository, tmp_path, nodes)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "test_x.py::test_a: it needs 4 GPUs of one node, the largest has 2" in out


def test_a_lost_worker_and_a_lost_node_lose_no_test(repository: Repository, tmp_path: Path, nodes: Nodes) -> None:
    text = (
        SEE
        + """
import signal
def test_kills():
    see("kills")
    if not os.path.exists("killed"):
        open("killed", "w").close()
        os.kill(os.getppid(), signal.SIGKILL)  # Ray's worker process
        time.sleep(30)
"""
    )
    names = [f"t{number}" for number in range(8)]
    text += "".join(f"def test_{name}():\n    see('{name}')\n    time.sleep(1.5)\n" for name in names)
    repository.commit({"pytest.ini": "[pytest]\n", "test_x.py": text})
    atoms = [atom(f"test_x.py::test_{name}", seconds=2.0) for name in names]
    save(plan_of([[*atoms, atom("test_x.py::test_kills")]], pools=POOLS, pool_of=["cpu"]), tmp_path / "plan.json")
    second = nodes.cluster.add_node(num_cpus=2)
    nodes.cluster.wait_for_nodes()
    process = start(repository, tmp_path, nodes)
    while not (repository.root / "seen").exists():
        assert process.poll() is None
        time.sleep(0.2)
    nodes.kill(second)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    judged = verdict(repository, tmp_path)
    assert (judged["green"], judged["counts"]) == (True, {"passed": 9}), out
