"""Repair on breakages as data: how many are repaired by a deterministic fix, reverted, handed off; wrong proposals.

    make bench-repair [ARGS="--only 1a 5b"]

Each scenario is first checked to be one: a green base, two green branches, a red merge. Goals: no wrong proposal, at
most 25 % hand-offs. A proposal is wrong if any test of its branch fails, a hidden test of what both sides wanted fails,
or it blames a commit where none is guilty. Without agents, so this is the floor. What was measured with
this code, as committed, is kept below build/, so that a stopped run goes on; --again starts anew.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import trees

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "conformance" / "repair"))

import scenarios

HERE = Path(__file__).parents[1]
MEASURED = ("ci", "rules", "depgraph", "tests/conformance/repair")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], help="numbers of scenarios")
    parser.add_argument("--again", action="store_true", help="forget what was measured")
    arguments = parser.parse_args()
    chosen = [each for each in scenarios.load() if not arguments.only or each.number in arguments.only]
    states = trees.git(HERE, "rev-parse", *(f"HEAD:{path}" for path in MEASURED)).split()
    kept = trees.BUILD / "repair" / f"{'-'.join(state[:10] for state in states)}.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    if arguments.again:
        kept.unlink(missing_ok=True)
    lines = kept.read_text("utf-8").splitlines() if kept.exists() else []
    done = {row["number"]: row for row in map(json.loads, lines)}
    rows = []
    with tempfile.TemporaryDirectory(prefix="greenline-bench-repair-") as folder:
        for scenario in chosen:
            if scenario.number not in done:
                done[scenario.number] = measure(scenario, Path(folder).resolve())
                with kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(done[scenario.number]) + "\n")
            rows.append(done[scenario.number])
            tell(rows[-1])
    return summary(rows)


def measure(scenario: scenarios.Scenario, folder: Path) -> dict[str, Any]:
    before = cpu()
    found = scenarios.run(scenario, folder, check=True)
    row = {"number": scenario.number, "title": scenario.title, "kind": scenario.kind, "blind": scenario.blind}
    row |= {"outcome": found.outcome, "wrong": found.wrong, "why": found.why}
    return row | {"seconds": round(found.seconds, 1), "cpu": round(cpu() - before, 1)}


def cpu() -> float:
    """CPU seconds of this process and of those that it has waited for; with the checks and the judging."""
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def tell(row: dict[str, Any]) -> None:
    mark = "WRONG" if row["wrong"] else "     "
    print(f"{mark} {row['number']:<4} {row['outcome']:<9} {row['seconds']:6.1f} s  {row['title']}", flush=True)
    if row["wrong"] or row["outcome"] in ("handoff", "no break"):
        print(f"             {row['wrong']} {row['why']}", flush=True)


def summary(rows: list[dict[str, Any]]) -> int:
    counts = Counter(row["outcome"] for row in rows)
    blind = Counter(row["outcome"] for row in rows if row["blind"])
    wrong = sum(bool(row["wrong"]) for row in rows)
    for name in ("fix", "revert", "handoff", "no break", "invalid"):
        print(f"{name:<10} {counts[name]:>3} of {len(rows)}   (of the {blind.total()} blind ones: {blind[name]})")
    share = counts["handoff"] / len(rows)
    seconds = [row["seconds"] for row in rows]
    print(f"seconds to the proposal: median {median(seconds):.1f}, longest {max(seconds):.1f}")
    print(f"CPU seconds with all checks: median {median(row['cpu'] for row in rows):.1f}")
    print(f"wrong proposals: {wrong} (goal 0); hand-offs: {share:.0%} (goal at most 25 %)")
    return 0 if wrong == 0 and share <= 0.25 and counts["invalid"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
