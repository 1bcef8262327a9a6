"""The gate's verdicts, on result streams written as pytest-greenline writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from greenline.ci.execution import result_files
from greenline.ci.execution.parts import digest
from greenline.ci.sharding.plan_file import Bounds, Plan, PlannedAtom, Pool, Shard
from greenline.ci.sharding.verify import Verdict, verify
from greenline.depgraph.errors import GreenlineError

A, B = "tests/test_a.py", "tests/test_b.py"
COMMIT = "c" * 40


def plan_of(*shards: Sequence[str], owns: Sequence[Sequence[str]] = ()) -> Plan:
    made = tuple(
        Shard(
            index,
            "cpu",
            1.0,
            tuple(tests),
            tuple(PlannedAtom((test,), 1.0) for test in tests),
            tuple(owns[index]) if owns else (),
        )
        for index, tests in enumerate(shards)
    )
    even = Bounds(1.0, 1.0)
    return Plan(COMMIT, None, "", None, 1.0, 1.0, even, even, 0.0, True, (), (Pool("cpu"),), made, {".": ""})


PLAN = plan_of([f"{A}::test_one", f"{A}::test_two"], [f"{B}::test_three"], owns=[[A], [B]])


class Streams:
    """Writes streams into a folder."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.number = 0

    def session(
        self,
        shard: int | None,
        tests: dict[str, str],
        attempt: int = 1,
        end: int | None = 0,
        more: Sequence[dict[str, Any]] = (),
        **said: Any,
    ) -> Path:
        """Test → outcome: "passed", "failed", "skipped", "xfailed", "oom", "lost", or "" for one that never ended."""
        self.number += 1
        base = {"suite": ".", "variant": "", "runner": "cpu", "shard": shard, "attempt": attempt}
        base |= {"plan": digest(self.plan), "commit": COMMIT, "time": float(self.number)}
        lines: list[dict[str, Any]] = [{"event": "session", "version": 1, **base, **said}]
        files = sorted({test.partition("::")[0] for test in tests})
        lines += [{"event": "collected", "files": files, "ids": list(tests)}, *more]
        for test, outcome in tests.items():
            lines.append({"event": "start", "id": test, "time": 0})
            if not outcome:
                continue
            call = {"event": "test", "id": test, "when": "call", "outcome": outcome, "seconds": 0.5}
            if outcome == "xfailed":
                call |= {"outcome": "skipped", "xfail": True}
            elif outcome == "lost":
                lines.append({**call, "when": "lost", "outcome": "failed", "message": "signal 9"})
                continue
            elif outcome != "passed":
                call |= {"message": "why\nmore"}
            lines += [{**call, "when": "setup", "outcome": "passed", "seconds": 0.1}, call]
            lines.append({**call, "when": "teardown", "outcome": "passed", "seconds": 0.1})
        if end is not None:
            lines.append({"event": "end", "exit": end, "time": 1})
        path = self.folder / f"{self.number}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return path

    def verdict(self, **options: Any) -> Verdict:
        paths, _ = result_files.find([str(self.folder)])
        return verify(self.plan, [each for path in paths for each in result_files.read(path)], **options)

    def kinds(self, **options: Any) -> list[str]:
        return [problem.kind for problem in self.verdict(**options).problems]


@pytest.fixture
def streams(tmp_path: Path) -> Streams:
    return Streams(tmp_path, PLAN)


ONE, TWO, THREE = f"{A}::test_one", f"{A}::test_two", f"{B}::test_three"
FIRST = {ONE: "passed", TWO: "passed"}
SECOND = {THREE: "passed"}


def test_every_test_once_is_green(streams: Streams) -> None:
    streams.session(0, FIRST)
    streams.session(1, SECOND)
    verdict = streams.verdict()
    assert (verdict.green, verdict.counts) == (True, {"passed": 3})


def test_the_whole_plan_in_one_run_is_green(streams: Streams) -> None:
    streams.session(None, {**FIRST, **SECOND})
    assert streams.verdict().green


def test_an_empty_plan_is_green_without_results() -> None:
    assert verify(plan_of(), []).green


def test_a_shard_that_never_reports(streams: Streams) -> None:
    streams.session(0, FIRST)
    (problem,) = streams.verdict().problems
    assert (problem.kind, problem.shard, problem.tests) == ("silent", 1, (THREE,))
    assert "--index 1" in problem.todo


def test_a_shard_that_only_owns_must_report_too(tmp_path: Path) -> None:
    streams = Streams(tmp_path, plan_of([ONE], [], owns=[[], [A]]))
    streams.session(0, {ONE: "passed"})
    assert streams.kinds() == ["silent"]
    streams.session(1, {}, end=5)
    assert streams.kinds() == []


def test_a_lost_runner_is_no_failed_test(streams: Streams) -> None:
    streams.session(0, {ONE: "passed", TWO: ""}, end=None)
    streams.session(1, SECOND)
    (problem,) = streams.verdict().problems
    assert (problem.kind, problem.shard, problem.tests) == ("lost", 0, (TWO,))
    assert f"while {TWO} ran" in problem.what


def test_a_retry_after_a_lost_runner_is_green_whatever_the_first_attempt_did(streams: Streams) -> None:
    streams.session(0, {ONE: "failed", TWO: ""}, end=None)
    streams.session(0, FIRST, attempt=2)
    streams.session(1, SECOND)
    verdict = streams.verdict()
    assert verdict.green
    assert verdict.notes == [f"{ONE}: failed then passed (attempt 2)"]


def test_a_retry_that_is_lost_leaves_the_earlier_results(streams: Streams) -> None:
    streams.session(0, {ONE: "failed", TWO: "passed"}, end=1)
    streams.session(0, {ONE: ""}, attempt=2, end=None)
    streams.session(1, SECOND)
    assert streams.kinds() == ["failed"]


def test_two_shards_that_claim_one_test(streams: Streams) -> None:
    streams.session(0, FIRST)
    streams.session(1, {**SECOND, ONE: "passed"})
    (problem,) = streams.verdict().problems
    assert (problem.kind, problem.tests) == ("twice", (ONE,))
    assert "shard 0 and shard 1" in problem.what


def test_two_runners_of_one_shard_as_the_same_attempt(streams: Streams) -> None:
    streams.session(0, FIRST)
    streams.session(0, FIRST)
    streams.session(1, SECOND)
    assert streams.kinds() == ["twice", "twice"]


def test_a_scheduler_may_run_a_test_again_and_says_so(streams: Streams) -> None:
    streams.session(0, {ONE: "failed", TWO: "passed"}, end=1)
    streams.session(0, {ONE: "passed"}, more=[{"event": "lease", "retry": "oom"}])
    streams.session(1, SECOND)
    assert streams.verdict().green


def test_a_test_whose_process_was_lost_is_told_from_one_that_failed(streams: Streams) -> None:
    streams.session(0, {ONE: "lost", TWO: "failed"}, end=1)
    streams.session(1, SECOND)
    assert streams.kinds() == ["failed", "lost"]


def test_a_plan_from_another_commit_and_another_plan(streams: Streams) -> None:
    streams.session(0, FIRST, commit="d" * 40)
    streams.session(1, SECOND, plan="of somebody else")
    assert streams.kinds() == ["foreign", "foreign", "silent"]


def test_a_skip_is_red_where_the_test_has_run_before(streams: Streams) -> None:
    streams.session(0, {ONE: "skipped", TWO: "xfailed"})
    streams.session(1, SECOND)
    assert streams.kinds() == []
    assert streams.kinds(ran_before=lambda test: True) == ["skipped"]
    assert streams.kinds(ran_before=lambda test: test == THREE) == []


def test_a_file_that_skips_itself_skips_its_tests(streams: Streams) -> None:
    skip = {"event": "collect", "id": B, "outcome": "skipped", "message": "no driver"}
    streams.session(0, FIRST)
    streams.session(1, {}, more=[skip])
    assert streams.verdict().counts == {"passed": 2, "skipped": 1}
    assert streams.kinds(ran_before=lambda test: True) == ["skipped"]


def test_a_file_that_cannot_be_collected(streams: Streams) -> None:
    broken = {"event": "collect", "id": B, "outcome": "failed", "message": "SyntaxError: x"}
    streams.session(0, FIRST)
    streams.session(1, {}, end=2, more=[broken])
    verdict = streams.verdict()
    assert [(each.kind, each.tests) for each in verdict.problems] == [("error", ()), ("missing", (THREE,))]
    assert "SyntaxError" in verdict.problems[0].what


def test_options_that_leave_tests_out_are_seen(streams: Streams) -> None:
    streams.session(0, {ONE: "passed"}, more=[{"event": "collected", "files": [A], "ids": [ONE, TWO]}])
    streams.session(1, SECOND)
    (problem,) = streams.verdict().problems
    assert (problem.kind, problem.tests) == ("missing", (TWO,))


def test_a_planned_test_that_is_no_longer_there_is_no_hole(streams: Streams) -> None:
    streams.session(0, {ONE: "passed"})  # all of its file was collected, and test_two is not in it
    streams.session(1, SECOND)
    verdict = streams.verdict()
    assert verdict.green
    assert verdict.notes == [f"1 planned tests are no longer there: {TWO}"]


def test_a_new_test_must_run_with_its_owner(streams: Streams) -> None:
    new = f"{A}::test_new"
    found = {"event": "collected", "files": [A], "ids": [ONE, TWO, new]}
    streams.session(0, FIRST, more=[found])
    streams.session(1, SECOND)
    assert [(each.kind, each.tests) for each in streams.verdict().problems] == [("missing", (new,))]
    streams.session(1, {new: "passed"}, attempt=2)
    assert streams.kinds() == ["twice"]
    streams.session(0, {new: "passed"}, attempt=2)
    assert streams.kinds() == ["twice"]


def test_an_id_that_stands_for_several(tmp_path: Path) -> None:
    streams = Streams(tmp_path, plan_of([f"{A}::test_p", B], owns=[[A, B]]))
    streams.session(0, {f"{A}::test_p[1]": "passed", f"{A}::test_p[2]": "passed", f"{B}::test_x": "passed"})
    assert (streams.kinds(), streams.verdict().counts) == ([], {"passed": 3})


def test_all_variants_must_be_complete(streams: Streams) -> None:
    for variant in ("3.11", "3.12"):
        streams.session(0, FIRST, variant=variant)
    streams.session(1, SECOND, variant="3.12")
    (problem,) = streams.verdict().problems
    assert (problem.kind, problem.shard, problem.variant) == ("silent", 1, "3.11")
    assert streams.kinds(variants=["3.12"]) == []
    assert streams.kinds(variants=["3.12", "3.13"]) == ["silent", "silent"]


def test_junit_files_alone_prove_nothing(streams: Streams) -> None:
    streams.session(0, FIRST)
    assert streams.kinds(junit={("tests.test_b", "test_three")}) == ["unproven"]
    assert result_files.junit_name(f"{A}::TestC::test_m[a.b::c]") == ("tests.test_a.TestC", "test_m[a.b::c]")


def test_a_wrong_end_of_pytest_is_red_though_all_tests_passed(streams: Streams) -> None:
    streams.session(0, FIRST, end=3)
    streams.session(1, SECOND)
    assert streams.kinds() == ["error"]


@pytest.mark.parametrize("cut", [2, 20, 60])
def test_a_stream_that_a_kill_cut_off_is_read_up_to_there(streams: Streams, cut: int) -> None:
    path = streams.session(0, FIRST, end=None)
    path.write_bytes(path.read_bytes()[:-cut])
    (session,) = result_files.read(str(path))
    assert session.exit is None
    assert [result.id for result in session.results] == [ONE]
    assert session.unfinished == [TWO]
    path.write_bytes(path.read_bytes()[:30])
    assert result_files.read(str(path)) == []


@pytest.mark.parametrize("text", ["", "{}\n", "not json\n", '{"event": "session", "version": 9}\n{}\n', "[1]\n{}\n"])
def test_what_is_no_stream_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    if not text:
        assert result_files.read(str(path)) == []
        return
    with pytest.raises(GreenlineError):
        result_files.read(str(path))
