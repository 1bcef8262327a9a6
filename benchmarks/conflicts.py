"""Recall, precision and fixes of `greenline conflicts` per breakage class, with the tests of the merged tree as judge.

    make bench-conflicts [ARGS="12 25"]

Each row of tests/conformance/conflicts/ is a base and two sides. pytest runs on both sides, which must pass, and on
what git merges of them: that it fails makes a conflict, whatever the table or the detector say. Then the detector is
asked, and where it offers fixes, they are applied and the tests run again.

- recall: of the merged trees that fail, the share that is told; goal 0.99 over all classes
- precision: of those that are told, the share that fails; goal 0.99
- mended: of the failing trees for which every conflict has a fix, the share that passes with it; goal 1
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
import trees

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "conformance"))

from conflict_cases import Case, Commits, build, load

from greenline.depgraph.config import Config
from greenline.depgraph.workspace import Workspace, find
from greenline.rules.conflicts.merge import merge_trees
from greenline.rules.fixes.mend import mend

GOAL = 0.99


def main() -> int:
    wanted = set(map(int, sys.argv[1:]))
    cases = [case for case in load() if not wanted or case.number in wanted]
    counts: dict[int, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve() / "repository"
        commits = build(folder, cases)
        for case in cases:
            judge(find(str(folder)), case, commits[case.id], counts.setdefault(case.number, Counter()))
    titles = {case.number: case.title for case in cases}
    print(f"{'class':<52} {'pairs':>5} {'near':>5} {'recall':>7} {'precision':>9} {'mended':>9}")
    for number, count in counts.items():
        row(f"{number} {titles[number]}", count)
    total = sum(counts.values(), Counter())
    row("all", total)
    right = total["told and fails"]
    recall, precision = share(right, total["fails"]), share(right, total["told"])
    whole = total["mended"] == total["mendable"]
    print(f"goals: recall and precision {GOAL}, mended all; {total['invalid']} rows are not as the table says")
    return int(recall < GOAL or precision < GOAL or not whole or bool(total["invalid"]))


def row(title: str, count: Counter[str]) -> None:
    right = count["told and fails"]
    mended = f"{count['mended']}/{count['mendable']}"
    recall, precision = share(right, count["fails"]), share(right, count["told"])
    print(f"{title:<52} {count['fails']:>5} {count['passes']:>5} {recall:>7.2f} {precision:>9.2f} {mended:>9}")


def share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def judge(workspace: Workspace, case: Case, commits: Commits, count: Counter[str]) -> None:
    merged, textual = merge_trees(workspace, *commits)
    sides = [passes(workspace, commit) for commit in (commits.ours, commits.theirs)]
    fails = not passes(workspace, merged)
    if textual or not all(sides) or fails != case.conflict:
        count["invalid"] += 1
        print(f"not as the table says: {case.id}: sides pass {sides}, merged fails {fails}, textual {textual}")
        return
    result = mend(workspace, Config(), *commits)
    told = [one for one in (*result.conflicts, *result.left) if not one.finding.warning]
    count["fails" if fails else "passes"] += 1
    count["told"] += bool(told)
    count["told and fails"] += bool(told) and fails
    if bool(told) != fails:
        print(f"{'missed' if fails else 'false alarm'}: {case.id} {[one.finding.message for one in told]}")
    if case.fix and (result.left or result.refused or not result.files):
        print(f"not mended: {case.id} {result.refused} {[one.finding.message for one in result.left]}")
        count["mendable"] += 1
    elif fails and told and not result.left and not result.refused:
        count["mendable"] += 1
        healthy = passes(workspace, merged, result.files)
        count["mended"] += healthy
        if not healthy:
            print(f"the fix does not mend: {case.id} {[str(one.fix) for one in result.conflicts]}")


def passes(workspace: Workspace, commit: str, changes: dict[str, bytes | None] | None = None) -> bool:
    """Whether pytest passes in a tree with some files changed. It runs in a fork, which has pytest loaded already."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        trees.git(Path(workspace.root), "--work-tree", str(folder), "checkout", "--quiet", "--force", commit, "--", ".")
        for path, data in (changes or {}).items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink() if data is None else target.write_bytes(data)
        child = os.fork()
        if child == 0:
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (1, 2):
                os.dup2(null, stream)
            os.chdir(folder)
            sys.path.insert(0, str(folder))
            os._exit(int(pytest.main(["-q", "-p", "no:cacheprovider", "-W", "ignore", "--rootdir", str(folder)])))
        _, status = os.waitpid(child, 0)
        trees.git(Path(workspace.root), "read-tree", "--empty")
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    return os.waitstatus_to_exitcode(status) == 0


if __name__ == "__main__":
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.dont_write_bytecode = True
    sys.exit(main())
