"""`greenline shard plan` and `greenline history`, called as users call them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from calls import Call
from conftest import Repository

from greenline.tools.cli.main import run

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "plan.schema.json").read_text("utf-8"))
DURATIONS = {
    "tests/test_a.py::test_x[1]": 10,
    "tests/test_a.py::test_x[2]": 12,
    "tests/test_a.py::test_y": 5.5,
    "tests/test_b.py::TestB::test_m": 9,
    "tests/test_b.py::test_plain": 3,
}


Say = Callable[..., Call]


@pytest.fixture
def greenline(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """The command in a folder, in this process: there are many calls."""

    def call(folder: Path, *arguments: object) -> Call:
        monkeypatch.chdir(folder)
        capsys.readouterr()
        code = run(list(map(str, arguments)))
        told = capsys.readouterr()
        return Call(code, told.out, told.err)

    return call


def planned(done: Call) -> dict[str, Any]:
    assert done.code == 0, done.err
    plan: dict[str, Any] = json.loads(done.out)
    jsonschema.validate(plan, SCHEMA)
    return plan


def all_tests(plan: dict[str, Any]) -> list[str]:
    return sorted(test for shard in plan["shards"] for test in shard["tests"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that is no repository, with durations and tests."""
    (tmp_path / "d.json").write_text(json.dumps(DURATIONS), encoding="utf-8")
    (tmp_path / "tests.txt").write_text("\n".join(DURATIONS) + "\n\n", encoding="utf-8")
    return tmp_path


def test_a_plan_from_files_alone(greenline: Say, folder: Path) -> None:
    done = greenline(
        folder, "shard", "plan", "--tests", "tests.txt", "--durations", "d.json", "--shards", 2, "--format", "json"
    )
    plan = planned(done)
    assert all_tests(plan) == sorted(DURATIONS)
    assert [shard["pool"] for shard in plan["shards"]] == ["cpu", "cpu"]
    loads = [sum(DURATIONS[test] for test in shard["tests"]) for shard in plan["shards"]]
    assert plan["makespan"] == max(loads) == max(shard["seconds"] for shard in plan["shards"])
    assert plan["bound"] <= plan["makespan"] <= 1.05 * plan["bound"]
    assert sorted(item for shard in plan["shards"] for item in shard["owns"]) == ["tests/test_a.py", "tests/test_b.py"]


def test_the_same_call_gives_the_same_bytes(greenline: Say, folder: Path) -> None:
    arguments = (
        "shard",
        "plan",
        "--tests",
        "tests.txt",
        "--durations",
        "d.json",
        "--target",
        "20s",
        "--format",
        "json",
    )
    assert greenline(folder, *arguments).out == greenline(folder, *arguments).out


def test_a_target_takes_as_few_runners_as_it_can(greenline: Say, folder: Path) -> None:
    plan_for = ("shard", "plan", "--tests", "tests.txt", "--durations", "d.json", "--format", "json", "--target")
    assert len(planned(greenline(folder, *plan_for, "40s"))["shards"]) == 1
    assert len(planned(greenline(folder, *plan_for, "21s"))["shards"]) == 2
    late = greenline(folder, *plan_for, "11s")
    plan = planned(late)
    assert plan["feasible"] is False
    assert [each["tests"] for each in plan["blocking"]] == [["tests/test_a.py::test_x[2]"]]
    assert "no plan meets the target" in late.err
    assert greenline(folder, *plan_for, "11s", "--strict").code == 3


def test_files_and_functions_stand_for_their_known_tests(greenline: Say, folder: Path) -> None:
    (folder / "some.txt").write_text("tests/test_a.py::test_x\ntests/test_b.py\ntests/test_new.py\n", encoding="utf-8")
    done = greenline(
        folder, "shard", "plan", "--tests", "some.txt", "--durations", "d.json", "--shards", 2, "--format", "json"
    )
    plan = planned(done)
    expected = [test for test in DURATIONS if "test_y" not in test]
    assert all_tests(plan) == sorted([*expected, "tests/test_new.py"])
    owned = sorted(item for shard in plan["shards"] for item in shard["owns"])
    assert owned == ["tests/test_a.py::test_x", "tests/test_b.py", "tests/test_new.py"]
    assert any("no duration" in warning for warning in plan["warnings"])


def test_durations_of_several_files(greenline: Say, folder: Path) -> None:
    (folder / "more.json").write_text('{"new.py::t": 30}', encoding="utf-8")
    (folder / "all.txt").write_text("\n".join([*DURATIONS, "new.py::t"]), encoding="utf-8")
    arguments = ("shard", "plan", "--tests", "all.txt", "--shards", 2, "--format", "json", "--durations", "d.json")
    one = planned(greenline(folder, *arguments, "--durations", "more.json"))
    assert one == planned(greenline(folder, *arguments, "more.json"))
    assert one["makespan"] == 35.5


def test_nothing_to_run_is_an_empty_plan(greenline: Say, folder: Path) -> None:
    (folder / "none.txt").write_text("\n", encoding="utf-8")
    done = greenline(
        folder, "shard", "plan", "--tests", "none.txt", "--durations", "d.json", "--target", "10m", "--format", "json"
    )
    assert planned(done)["shards"] == []


JUNIT = """<?xml version="1.0"?><testsuites><testsuite name="pytest" tests="3">
<testcase classname="tests.test_b.TestB" name="test_m" time="9"/>
<testcase classname="tests.test_b" name="test_plain" time="3"/>
<testcase classname="tests.test_a" name="test_y" time="99"><failure message="no"/></testcase>
</testsuite></testsuites>"""
STREAM = [
    {"event": "session", "version": 1, "suite": ".", "variant": "", "runner": "cpu"},
    {"event": "start", "id": "tests/test_a.py::test_y", "time": 1},
    {"event": "test", "id": "tests/test_a.py::test_y", "when": "setup", "outcome": "passed", "seconds": 2},
    {"event": "test", "id": "tests/test_a.py::test_y", "when": "call", "outcome": "passed", "seconds": 3},
    {"event": "test", "id": "tests/test_a.py::test_y", "when": "teardown", "outcome": "passed", "seconds": 0.5},
]


@pytest.mark.parametrize(
    ("name", "text", "test", "seconds"),
    [
        (".test_durations", json.dumps(DURATIONS), "tests/test_b.py::TestB::test_m", 9),
        ("old.json", json.dumps([list(pair) for pair in DURATIONS.items()]), "tests/test_b.py::test_plain", 3),
        ("junit.xml", JUNIT, "tests/test_b.py::TestB::test_m", 9),
        ("results.jsonl", "\n".join(map(json.dumps, STREAM)), "tests/test_a.py::test_y", 5.5),
        ("cut.jsonl", "\n".join(map(json.dumps, STREAM)) + '\n{"event": "te', "tests/test_a.py::test_y", 5.5),
        ("needs.json", '{"big": {"seconds": 7, "gpus": 2, "gpu_type": "h100"}}', "big", 7),
        ("variants.json", '{"3.11": {"a.py::t": 1}, "3.12": {"a.py::t": 4}}', "a.py::t", 4),
    ],
)
def test_durations_in_many_forms(greenline: Say, folder: Path, name: str, text: str, test: str, seconds: float) -> None:
    (folder / name).write_text(text, encoding="utf-8")
    (folder / "one.txt").write_text(test, encoding="utf-8")
    done = greenline(
        folder, "shard", "plan", "--tests", "one.txt", "--durations", name, "--shards", 1, "--format", "json"
    )
    plan = planned(done)
    assert [shard["seconds"] for shard in plan["shards"]] == [seconds]
    if name == "needs.json":
        assert plan["shards"][0]["pool"] == "gpu-h100"
        assert plan["shards"][0]["atoms"][0]["devices"] == [0, 1]


@pytest.mark.parametrize(
    ("file", "text", "options", "problem"),
    [
        ("d.json", '{"a": -1}', (), "a: -1 seconds"),
        ("d.json", '{"a": NaN}', (), "a: nan seconds"),
        ("d.json", '{"a": "x"}', (), "no number of seconds"),
        ("d.json", '{"a": 1, "a": 2}', (), "'a' is there twice"),
        ("d.json", "{", (), "is no JSON"),
        ("d.json", "", (), "is empty"),
        ("d.json", "<x", (), "is no JUnit XML"),
        ("d.json", '{"a": {"seconds": 1, "gpus": 1.5}}', (), "a fraction is of one GPU"),
        ("tests.txt", "a\nb\na\n", (), "tests.txt:3: a is there twice"),
        ("tests.txt", '{"x": 1}', (), "not what greenline affected"),
        (None, "", ("--shards", "2", "--tests", "gone.txt"), "gone.txt: the tests cannot be read"),
        (None, "", ("--shards", "2", "--durations", "gone.json"), "gone.json: durations cannot be read"),
        (None, "", ("--shards", "0"), "--shards 0"),
        (None, "", ("--shards", "many"), "--shards many"),
        (None, "", ("--target", "soon"), "'soon' is no time"),
        (None, "", ("--target", "0s"), "nothing ends that fast"),
        (None, "", ("--target", "-5m"), "is no time"),
        (None, "", ("--shards", "2", "--target", "5m"), "two things"),
        (None, "", (), "how many runners, or how fast?"),
        (None, "", ("--variant", "nope", "--shards", "1"), None),
        ("p.json", "{}", ("--previous", "p.json", "--shards", "1"), "p.json is not a plan"),
        ("greenline.yaml", "sharding:\n  pools:\n  - name: gpu\n    gpus: 1\n", ("--shards", "1"), "no pool can run"),
        ("greenline.yaml", "sharding:\n  pools:\n  - name: a\n    gpus: x\n", ("--shards", "1"), "no whole number"),
    ],
)
def test_bad_input_is_told(
    greenline: Say, folder: Path, file: str | None, text: str, options: tuple[str, ...], problem: str | None
) -> None:
    if file:
        (folder / file).write_text(text, encoding="utf-8")
    enough = options or problem == "how many runners, or how fast?"
    given = dict(zip(options[::2], options[1::2], strict=True)) if enough else {"--shards": "2"}
    arguments = [part for pair in {"--tests": "tests.txt", "--durations": "d.json", **given}.items() for part in pair]
    done = greenline(folder, "shard", "plan", *arguments)
    if problem is None:  # files without variants hold for all
        assert done.code == 0
        return
    assert done.code == 2
    assert problem in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


def test_needs_are_read_from_the_source(greenline: Say, repository: Repository) -> None:
    repository.commit(
        {
            "greenline.yaml": (
                "sharding:\n  pools:\n  - name: cpu\n"
                "  - name: a100\n    gpus: 2\n    gpu_kind: a100\n    gpu_memory: 80GiB\n"
                "  rules:\n  - decorators: torch.cuda.is_available\n    gpus: 1\n"
            ),
            "test_gpu.py": (
                "import pytest, torch\n"
                "two = pytest.mark.gpu(2, kind='a100')\n"
                "@two\nclass TestB:\n    @pytest.mark.lock('db')\n    def test_n(self): pass\n"
                "@pytest.mark.gpu(memory='2GiB')\ndef test_small(): pass\n"
                "@pytest.mark.skipif(not torch.cuda.is_available(), reason='')\ndef test_cuda(): pass\n"
                "def test_plain(): pass\n"
            ),
            "tests.txt": "\n".join(
                f"test_gpu.py::{name}" for name in ("TestB::test_n", "test_small", "test_cuda", "test_plain")
            ),
        }
    )
    plan = planned(
        greenline(repository.root, "shard", "plan", "--tests", "tests.txt", "--shards", 2, "--format", "json")
    )
    atoms = {atom["tests"][0].partition("::")[2]: atom for shard in plan["shards"] for atom in shard["atoms"]}
    assert {name: (atom["gpus"], atom["locks"]) for name, atom in atoms.items()} == {
        "TestB::test_n": (2, ["db"]),
        "test_small": (0.025, []),
        "test_cuda": (1, []),
        "test_plain": (0, []),
    }
    assert {shard["pool"]: len(shard["tests"]) for shard in plan["shards"]} == {"cpu": 1, "a100": 3}
    assert plan["commit"] == repository.git("rev-parse", "HEAD").strip()


def test_history_merges_shards_and_tells_flaky_from_failed(greenline: Say, repository: Repository) -> None:
    repository.commit({"test_a.py": "def test_x(): pass\ndef test_y(): pass\n"})

    def stream(name: str, **outcomes: str) -> Path:
        lines: list[dict[str, Any]] = [{"event": "session", "runner": "cpu", "suite": ".", "variant": ""}]
        for number, (test, outcome) in enumerate(outcomes.items(), 1):
            for when, seconds in (("setup", 0.5), ("call", float(number)), ("teardown", 0.25)):
                ended = outcome if when == "call" else "passed"
                lines.append(
                    {"event": "test", "id": f"test_a.py::{test}", "when": when, "outcome": ended, "seconds": seconds}
                )
        path = repository.root / name
        path.write_text("".join(json.dumps({**line, "name": name}) + "\n" for line in lines), encoding="utf-8")
        return path

    one, two = (
        stream("one.jsonl", test_x="passed", test_y="failed"),
        stream("two.jsonl", test_x="failed", test_y="failed"),
    )
    done = greenline(repository.root, "history", "import", one, two, "--commit", "abc")
    assert (done.code, done.err) == (0, "4 runs of tests from 2 files\n")
    assert "1 were known" in greenline(repository.root, "history", "import", one).err
    told = json.loads(greenline(repository.root, "history", "export", "--format", "json").out)
    by_test = {each["test"]: each for each in told["tests"]}
    x, y = by_test["test_a.py::test_x"], by_test["test_a.py::test_y"]
    assert (x["passed"], x["failed"], x["flaky"]) == (1, 0, 1)
    assert (y["passed"], y["failed"], y["flaky"]) == (0, 2, 0)
    assert (x["setup"], x["call"], x["teardown"], x["seconds"]) == (0.5, 1.0, 0.25, 1.75)
    assert json.loads(greenline(repository.root, "history", "export").out) == {"test_a.py::test_x": 1.75}
    plan = planned(greenline(repository.root, "shard", "plan", "--shards", 1, "--format", "json"))
    assert plan["shards"][0]["tests"][0] in ("test_a.py::test_x", "test_a.py")


def test_measured_waits_are_planned_with(greenline: Say, repository: Repository) -> None:
    repository.commit({"greenline.yaml": "sharding:\n  pools:\n  - name: cpu\n", "tests.txt": "a.py::t\n"})
    lines = [
        {"event": "session", "runner": "cpu", "queue": 20, "startup": 12.5, "commit": "abc"},
        {"event": "test", "id": "a.py::t", "when": "call", "outcome": "passed", "seconds": 3},
    ]
    (repository.root / "r.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert greenline(repository.root, "history", "import", "r.jsonl").code == 0
    done = greenline(repository.root, "shard", "plan", "--tests", "tests.txt", "--shards", 1, "--format", "json")
    plan = planned(done)
    assert (plan["makespan"], plan["shards"][0]["seconds"]) == (35.5, 3)
    assert (plan["pools"][0]["queue"], plan["pools"][0]["startup"]) == (20, 12.5)


def test_the_picture_and_the_table(greenline: Say, folder: Path) -> None:
    done = greenline(
        folder, "shard", "plan", "--tests", "tests.txt", "--durations", "d.json", "--shards", 2, "--svg", "plan.svg"
    )
    assert done.code == 0
    assert "makespan" in done.out and "bound" in done.out and "cost" in done.out
    picture = (folder / "plan.svg").read_text("utf-8")
    assert picture.startswith("<svg") and picture.count("<rect") >= 3
    assert "tests/test_b.py::TestB::test_m" in picture
