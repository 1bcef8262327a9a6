"""False alarms of `greenline conflicts` on history: the last merges of real repositories, which stayed green.

    make bench-merge-history [ARGS="--from FOLDER --merges 300 pallets/werkzeug"]

Each merge commit is asked again: base is the merge base of its parents, the sides are the parents. In a repository
that squashes or rebases, each commit of the main branch is held against the ten before it: base is the commit eleven
back, one side has the ten, the other the commit alone. Merges with textual conflicts are left out: a person has mended
what they broke. The branch went on from these merges, so every finding counts as a false alarm, unless a later look at
it shows that it was right; each is printed to be looked at. Goal: at most one finding in 100 merges.

`--from` names a folder with clones (`owner+name/repo`); without it they are fetched. Answers are kept below build/ with
the version of the detector: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import trees

from greenline.depgraph.config import Config
from greenline.depgraph.workspace import Workspace, find
from greenline.rules.conflicts.find import find_conflicts
from greenline.rules.conflicts.kept import code
from greenline.rules.conflicts.merge import merge_trees

REPOSITORIES = ("pallets/werkzeug", "celery/celery", "wagtail/wagtail", "pydantic/pydantic")
GOAL = 0.01
MANY = 200
"""Merge commits among as many as are asked for, from which on a repository counts as one that merges."""
BEFORE = 10


class Answer(NamedTuple):
    """One merge: the version of the detector, the commit, what was found, and the seconds it took. ``textual``: git
    cannot merge it."""

    version: str
    commit: str
    textual: bool
    findings: list[str]
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("repositories", nargs="*", default=REPOSITORIES)
    parser.add_argument("--from", dest="source", help="folder with clones")
    parser.add_argument("--merges", type=int, default=300)
    options = parser.parse_args()
    total = findings = 0
    for name in options.repositories:
        answers = [one for one in measure(clone(name, options.source), options.merges) if not one.textual]
        found = sum(len(one.findings) for one in answers)
        seconds = [one.seconds for one in answers] or [0.0]
        for one in answers:
            for finding in one.findings:
                print(f"  {one.commit[:10]} {finding}")
        took = f"median {median(seconds):.2f} s, longest {max(seconds):.2f} s"
        print(f"{name}: {found} findings in {len(answers)} merges; {took}", flush=True)
        total, findings = total + len(answers), findings + found
    rate = findings / total if total else 1.0
    print(f"findings per 100 merges: {100 * rate:.2f} in {total} (goal: at most {100 * GOAL:.0f})")
    return int(rate > GOAL)


def clone(name: str, source: str | None) -> Path:
    """A clone without a work tree below build/."""
    folder = trees.BUILD / "history" / name.replace("/", "+")
    if not folder.exists():
        trees.clear(folder)
        origin = f"{source}/{name.replace('/', '+')}/repo" if source else f"https://github.com/{name}"
        options = ["--shared"] if source else []
        trees.git(folder.parent, "clone", "--quiet", "--no-checkout", *options, origin, str(folder))
    return folder


def measure(folder: Path, count: int) -> Iterator[Answer]:
    """The answers for the last merges, or for the last commits of the main branch; warnings are no findings."""
    workspace = find(str(folder))
    kept = folder.parent / f"{folder.name}.jsonl"
    lines = kept.read_text().splitlines() if kept.exists() else []
    known = {one.commit: one for one in (Answer(*json.loads(line)) for line in lines) if one.version == code()}
    merges = list(merge_commits(workspace, count))
    with kept.open("a") as file:
        for commit, base, ours, theirs in merges if len(merges) >= MANY else pairs(workspace, count):
            if commit not in known:
                known[commit] = ask(workspace, commit, base, ours, theirs)
                print(json.dumps(known[commit]), file=file, flush=True)
            yield known[commit]


def ask(workspace: Workspace, commit: str, base: str, ours: str, theirs: str) -> Answer:
    start = time.process_time()
    found = find_conflicts(workspace, Config(), base, ours, theirs)
    told = [
        f"class {one.number} {one.finding.place.path}:{one.finding.place.line}: {one.finding.message}"
        for one in found
        if not one.finding.warning and one.number
    ]
    return Answer(code(), commit, any(one.number == 0 for one in found), told, time.process_time() - start)


def merge_commits(workspace: Workspace, count: int) -> Iterator[tuple[str, str, str, str]]:
    """The last merges: the commit, the base of its parents, and these; without those that merged nothing."""
    log = workspace.git("rev-list", "--first-parent", "--merges", "--parents", f"-{2 * count}", "HEAD")
    asked = 0
    for line in log.splitlines():
        commit, ours, theirs = line.split()[:3]
        base = workspace.merge_base(ours, theirs)
        if base is not None and base not in (ours, theirs) and asked < count:
            asked += 1
            yield commit, base, ours, theirs


def pairs(workspace: Workspace, count: int) -> Iterator[tuple[str, str, str, str]]:
    """The last commits, each with a base some commits back, what came in between, and the commit alone on the base."""
    log = workspace.git("rev-list", "--first-parent", f"-{count + BEFORE + 1}", "HEAD").split()
    for commit, parent, base in zip(log, log[1:], log[BEFORE + 1 :], strict=False):
        alone, textual = merge_trees(workspace, parent, base, commit)
        if not textual:
            yield commit, base, parent, alone


if __name__ == "__main__":
    sys.exit(main())
