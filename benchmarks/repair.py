"""Repair on breakages as data: how many are repaired by a deterministic fix, reverted, handed off; wrong proposals.

    make bench-repair [ARGS="--only 1a 5b --check"]

Goals: no wrong proposal, at most 25 % hand-offs. A proposal is wrong if any test of its branch fails, a hidden test of
what both sides wanted fails, or it blames a commit where none is guilty. Without agents, so this is the floor.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "conformance" / "repair"))

import scenarios


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", default=[], help="numbers of scenarios")
    parser.add_argument("--check", action="store_true", help="make sure first that each is green, green and red")
    arguments = parser.parse_args()
    chosen = [each for each in scenarios.load() if not arguments.only or each.number in arguments.only]
    results = []
    with tempfile.TemporaryDirectory(prefix="greenline-bench-repair-") as folder:
        for scenario in chosen:
            result = scenarios.run(scenario, Path(folder).resolve(), arguments.check)
            results.append(result)
            mark = "WRONG" if result.wrong else "     "
            print(
                f"{mark} {scenario.number:<4} {result.outcome:<9} {result.seconds:6.1f} s  {scenario.title}", flush=True
            )
            if result.wrong or result.outcome in ("handoff", "no break"):
                print(f"             {result.wrong} {result.why}", flush=True)
    return tell(results)


def tell(results: list[scenarios.Result]) -> int:
    counts = Counter(result.outcome for result in results)
    blind = Counter(result.outcome for result in results if result.scenario.blind)
    wrong = sum(bool(result.wrong) for result in results)
    total = len(results)
    for name in ("fix", "revert", "handoff", "no break", "invalid"):
        print(f"{name:<10} {counts[name]:>3} of {total}   (of the blind half: {blind[name]})")
    share = counts["handoff"] / total
    times = sorted(result.seconds for result in results)
    print(f"seconds to the proposal: median {times[len(times) // 2]:.1f}, longest {times[-1]:.1f}")
    print(f"wrong proposals: {wrong} (goal 0); hand-offs: {share:.0%} (goal at most 25 %)")
    return 0 if wrong == 0 and share <= 0.25 and counts["invalid"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
