"""What each CI system is told: every shard once, one gate of a constant name, and the systems' limits."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from greenline.ci.sharding.emit import buildkite, github, gitlab, kubernetes
from greenline.ci.sharding.emit.jobs import Options
from greenline.ci.sharding.plan_file import Bounds, Plan, PlannedAtom, Pool, Shard
from greenline.depgraph.errors import GreenlineError

CPU = Pool("cpu")
GPU = Pool("H100 x2", gpus=2, gpu_kind="NVIDIA-H100", memory=64 * 2**30, slots=16)
LABELLED = Pool("arm", labels=("self-hosted", "arm64"))


def plan_of(**shards: int) -> Plan:
    """So many shards of the pools cpu, gpu and arm."""
    pools = {"cpu": CPU, "gpu": GPU, "arm": LABELLED}
    names = [pools[key].name for key, count in shards.items() for _ in range(count)]
    made = tuple(
        Shard(index, name, 600.0, (f"t.py::t{index}",), (PlannedAtom((f"t.py::t{index}",), 600.0),))
        for index, name in enumerate(names)
    )
    even = Bounds(1.0, 1.0)
    return Plan("c" * 40, None, "", None, 1.0, 1.0, even, even, 0.0, True, (), tuple(pools.values()), made, {})


PLAN = plan_of(cpu=2, gpu=3, arm=1)
OPTIONS = Options(setup=("pip install greenline",), image="example.org/tests:1", queue="team-a")


def test_github_has_a_job_for_each_shard_on_its_pool() -> None:
    lines = dict(line.split("=", 1) for line in github.matrix(PLAN).splitlines())
    rows = json.loads(lines["matrix"])["include"]
    assert [(row["index"], row["runs-on"]) for row in rows] == [
        (0, ["ubuntu-latest"]), (1, ["ubuntu-latest"]),
        (2, ["H100 x2"]), (3, ["H100 x2"]), (4, ["H100 x2"]),
        (5, ["self-hosted", "arm64"]),
    ]  # fmt: skip
    assert lines["any"] == "true"
    assert github.matrix(plan_of()) == 'matrix={"include":[]}\nany=false\n'


def test_githubs_gate_always_runs() -> None:
    jobs = yaml.safe_load(github.workflow(OPTIONS))["jobs"]
    assert list(jobs) == ["plan", "shard", "greenline"]
    assert jobs["greenline"]["if"] == "always()"
    assert set(jobs["greenline"]["needs"]) == {"plan", "shard"}


def test_gitlab_runs_each_shard_once() -> None:
    jobs = yaml.safe_load(gitlab.pipeline(PLAN, OPTIONS))
    found = {name: job["parallel"]["matrix"][0]["SHARD"] for name, job in jobs.items() if name.startswith("shard ")}
    assert found == {"shard cpu": ["0", "1"], "shard H100 x2": ["2", "3", "4"], "shard arm": ["5"]}
    assert jobs["shard arm"]["tags"] == ["self-hosted", "arm64"]
    assert "tags" not in jobs["shard cpu"]
    assert jobs["greenline"]["when"] == "always"


def test_buildkite_runs_each_shard_once_and_goes_on_to_the_gate() -> None:
    *shards, wait, gate = yaml.safe_load(buildkite.pipeline(PLAN, OPTIONS))["steps"]
    assert [re.findall(r"--index (\d+)", step["command"]) for step in shards] == [[str(index)] for index in range(6)]
    assert [step["agents"]["queue"] for step in shards[1:3]] == ["default", "H100 x2"]
    assert wait == {"wait": None, "continue_on_failure": True}
    assert gate["key"] == "greenline"


def test_kubernetes_asks_for_gpus_and_queues() -> None:
    cpu, gpu, arm, gate = yaml.safe_load_all(kubernetes.jobs(PLAN, OPTIONS))
    assert [job["spec"]["completions"] for job in (cpu, gpu, arm, gate)] == [2, 3, 1, 1]
    container = gpu["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert gpu["spec"]["template"]["spec"]["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100"}
    assert gpu["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert gpu["spec"]["suspend"] is True
    assert "limits" not in cpu["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert gate["metadata"]["name"].startswith("greenline-")


@pytest.mark.parametrize("empty", [gitlab.pipeline, buildkite.pipeline, kubernetes.jobs])
def test_an_empty_plan_still_has_the_gate_and_no_shard(empty: object) -> None:
    text = empty(plan_of(), OPTIONS)  # type: ignore[operator]
    assert "greenline shard verify" in text
    assert "greenline shard run" not in text


def test_the_limits_of_the_systems_are_told() -> None:
    assert github.matrix(plan_of(cpu=256))
    with pytest.raises(GreenlineError, match="257 shards, a matrix of GitHub Actions at most 256"):
        github.matrix(plan_of(cpu=257))
    assert gitlab.pipeline(plan_of(cpu=200, arm=200), OPTIONS)
    with pytest.raises(GreenlineError, match="pool cpu has 201 shards, a parallel job of GitLab at most 200"):
        gitlab.pipeline(plan_of(cpu=201), OPTIONS)
    with pytest.raises(GreenlineError, match="image"):
        kubernetes.jobs(PLAN, OPTIONS._replace(image=""))


def test_options_for_pytest_reach_the_command_whole() -> None:
    options = OPTIONS._replace(pytest_args=("-k", "not slow", "-q"))
    assert "-- -k 'not slow' -q" in buildkite.pipeline(PLAN, options)
