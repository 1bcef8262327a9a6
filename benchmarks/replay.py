"""Replay the last commits of a real repository: what selection picks, what it misses, how long records hold.

    make bench-replay ARGS="CLONE --python VENV/bin/python [--commits 100] [--sample 5]"

CLONE is a clone with its history, VENV an environment with what its tests need and with pytest-greenline. Prints a row
a commit and the table row of docs/evidence.md. Goal: nothing is missed, and less is selected than the import graph
selects, or "select everything" would pass.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median

from greenline.ci.audit import Replay, Step, history
from greenline.ci.scores import interval
from greenline.depgraph.workspace import find


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path)
    parser.add_argument("--python", required=True)
    parser.add_argument("--commits", type=int, default=100)
    parser.add_argument("--until", default="HEAD")
    parser.add_argument("--sample", type=int, default=5)
    args = parser.parse_args()
    workspace = find(str(args.clone))
    replay = Replay(workspace, args.python, args.sample)
    steps = []
    try:
        for step in replay.steps(history(workspace, args.commits, args.until)):
            steps.append(step)
            print(
                f"{step.commit[:10]} {share(step.selected, step)} selected, {share(step.static, step)} static,"
                f" {100 * step.share:3.0f} % hold, {len(step.flipped)} flipped, {len(step.missed)} missed",
                flush=True,
            )
    finally:
        replay.close()
    return summary(args.clone.name, steps)


def share(count: int, step: Step) -> str:
    return f"{100 * count / max(1, step.tests):5.1f} %"


def summary(name: str, steps: list[Step]) -> int:
    tests, selected, static = (sum(getattr(step, of) for step in steps) for of in ("tests", "selected", "static"))
    flipped, missed = sum(len(step.flipped) for step in steps), sum(len(step.missed) for step in steps)
    looked_at = flipped + sum(step.sampled for step in steps)
    middle = median(step.selected / max(1, step.tests) for step in steps)
    most = 100 * interval(missed, looked_at)[1]
    cells = {
        "repository": name,
        "commits": str(len(steps)),
        "selected": f"{100 * selected / tests:.1f} %",
        "median": f"{100 * middle:.1f} %",
        "static": f"{100 * static / tests:.1f} %",
        "by evidence, first and last": f"{100 * steps[0].share:.0f} %, {100 * steps[-1].share:.0f} %",
        "flipped": str(flipped),
        "missed": f"{missed} of {looked_at}",
        "escape rate at most": f"{most:.1f} %",
    }
    print()
    for row in (cells.keys(), ["---"] * len(cells), cells.values()):
        print(f"| {' | '.join(row)} |")
    return 0 if not missed and selected < static else 1


if __name__ == "__main__":
    sys.exit(main())
