"""False alarms of `greenline conflicts` on history: the last merges of real repositories, which stayed green.

    make bench-merge-history [ARGS="--from FOLDER --merges 300 pallets/werkzeug"]

Each merge commit is asked again: base is the merge base of its parents, the sides are the parents. Merges with textual
conflicts are left out: a person has mended what they broke. The branch went on from these merges, so every finding
counts as a false alarm, unless a later look at it shows that it was right; each is printed to be looked at. Goal: at
most one finding in 100 merges. `--from` names a folder with clones (`owner+name/repo`); without it they are fetched.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median

import trees

from greenline.depgraph.config import Config
from greenline.depgraph.workspace import find
from greenline.rules.conflicts.find import find_conflicts

REPOSITORIES = ("pallets/werkzeug", "celery/celery", "wagtail/wagtail")
GOAL = 0.01


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("repositories", nargs="*", default=REPOSITORIES)
    parser.add_argument("--from", dest="source", help="folder with clones")
    parser.add_argument("--merges", type=int, default=300)
    options = parser.parse_args()
    total = findings = 0
    for name in options.repositories:
        asked, found = measure(clone(name, options.source), options.merges)
        total, findings = total + asked, findings + found
        print(f"{name}: {found} findings in {asked} merges")
    rate = findings / total if total else 1.0
    print(f"findings per 100 merges: {100 * rate:.2f} (goal: at most {100 * GOAL:.0f})")
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


def measure(folder: Path, count: int) -> tuple[int, int]:
    """How many merges were asked, and how many findings there were, warnings not counted."""
    workspace = find(str(folder))
    asked = findings = 0
    seconds = []
    for line in trees.git(
        folder, "rev-list", "--first-parent", "--merges", "--parents", f"-{count}", "HEAD"
    ).splitlines():
        commit, ours, theirs = line.split()[:3]
        base = workspace.merge_base(ours, theirs)
        if base is None or base in (ours, theirs):
            continue  # nothing was merged
        start = time.monotonic()
        found = find_conflicts(workspace, Config(), base, ours, theirs)
        seconds.append(time.monotonic() - start)
        if any(one.number == 0 for one in found):
            continue
        asked += 1
        alarms = [one for one in found if not one.finding.warning]
        findings += len(alarms)
        for one in alarms:
            place = one.finding.place
            print(f"  {commit[:10]} class {one.number} {place.path}:{place.line}: {one.finding.message}", flush=True)
    if seconds:
        print(f"  median {median(seconds):.2f} s, longest {max(seconds):.2f} s a merge", file=sys.stderr)
    return asked, findings


if __name__ == "__main__":
    sys.exit(main())
