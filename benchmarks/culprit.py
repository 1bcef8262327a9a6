"""Culprit finding in simulation: how often each method is right, how often it blames an innocent, what it costs.

    make bench-culprit [ARGS="--trials 400"]

A trial is a range of 8 to 512 suspects that CI saw green before and red after. In 40 % of the ranges no suspect is to
blame. Each test flakes at its own rate (most never, some at up to 30 %); a broken test fails nearly always. Priors
come from a graph that is sometimes wrong: it gives the culprit the lowest weight in 10 % of the trials. Everything is
seeded. Goals: at least 99 % right, "no culprit" included, and at most 0.5 % wrong blame.

Compared, on the same trials: plain bisection; bisection that runs every step up to three times and confirms the end;
and the published Bayesian search with fixed, known rates (Henderson et al., "Flake Aware Culprit Finding", 2023, with
the choice of the next probe by Ben-Or and Hassidim, 2008).
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from greenline.ci.breakage.search import NONE, Search

SIZES = (8, 32, 128, 512)
NO_CULPRIT = 0.4
FLAKY = ((0.60, 0.0), (0.15, 0.005), (0.10, 0.02), (0.08, 0.08), (0.05, 0.15), (0.02, 0.30))
BROKEN = ((0.90, 1.0), (0.07, 0.97), (0.03, 0.85))
WRONG_PRIOR = 0.1
MOST_RUNS = 200
OUT = Path("build/culprit")


class Trial(NamedTuple):
    """What is true: ``culprit`` (0: none), how often the test fails without and with it, and the priors."""

    size: int
    culprit: int
    flaky: float
    broken: float
    priors: tuple[float, ...]
    seed: int

    def oracle(self) -> Callable[[int], bool]:
        """Does a run of the test at a position fail? A new stream of answers at each call."""
        chance = random.Random(self.seed)

        def run(position: int) -> bool:
            guilty = self.culprit != NONE and position >= self.culprit
            return chance.random() < (max(self.broken, self.flaky) if guilty else self.flaky)

        return run


class Found(NamedTuple):
    culprit: int | None
    runs: int


def trial(size: int, number: int) -> Trial:
    chance = random.Random(size * 1_000_003 + number)
    priors = [chance.choice((0.2, 0.5, 1.0, 3.0)) for _ in range(size)]
    innocent = chance.random() < NO_CULPRIT
    culprit = NONE if innocent else 1 + chance.choices(range(size), priors)[0]
    if culprit and chance.random() < WRONG_PRIOR:
        priors[culprit - 1] = 0.2
    flaky = pick(chance, FLAKY)
    while innocent and flaky == 0:  # CI saw it fail: without a culprit, something else made it
        flaky = pick(chance, FLAKY)
    flaky *= chance.uniform(0.6, 1.6)  # rates that no method has in a table
    return Trial(size, culprit, flaky, pick(chance, BROKEN), tuple(priors), chance.randrange(2**32))


def pick(chance: random.Random, table: Sequence[tuple[float, float]]) -> float:
    return chance.choices([value for _, value in table], [weight for weight, _ in table])[0]


# -- methods -------------------------------------------------------------------------------------------------


def greenline(case: Trial) -> Found:
    search = Search(case.priors)
    run = case.oracle()
    while search.verdict().culprit is None and search.runs < MOST_RUNS:
        for position in search.next():
            search.see(position, run(position))
    return Found(search.verdict().culprit, search.runs)


def bisection(case: Trial) -> Found:
    """git bisect: each answer is believed."""
    run, runs = case.oracle(), 0
    low, high = 0, case.size
    while high - low > 1:
        middle = (low + high) // 2
        runs += 1
        low, high = (low, middle) if run(middle) else (middle, high)
    return Found(high, runs)


def bisection_with_reruns(case: Trial) -> Found:
    """Bisection that believes a failure only when two of three runs fail, and checks both ends of the last step."""
    run, runs = case.oracle(), 0

    def fails(position: int) -> bool:
        nonlocal runs
        answers = [run(position), run(position)]
        if answers[0] != answers[1]:
            answers.append(run(position))
        runs += len(answers)
        return sum(answers) * 2 > len(answers)

    if not fails(case.size):
        return Found(NONE, runs)
    low, high = 0, case.size
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fails(middle) else (middle, high)
    return Found(high if fails(high) and not fails(low) else NONE, runs)


def published(case: Trial) -> Found:
    """Bayesian search with one fixed flake rate, uniform priors, the next probe at half of the posterior mass."""
    run, runs = case.oracle(), 0
    rate, broken = 0.05, 0.99  # what a fleet of tests shows on average
    logs = [math.log(NO_CULPRIT), *[math.log((1 - NO_CULPRIT) / case.size)] * case.size]
    while True:
        top = max(logs)
        likely = [math.exp(each - top) for each in logs]
        total = sum(likely)
        best = max(range(case.size + 1), key=lambda each: likely[each])
        if likely[best] / total >= 0.998 or runs >= MOST_RUNS:
            return Found(best, runs)
        mass, position = 0.0, case.size
        for each in range(1, case.size + 1):
            mass += likely[each]
            if mass * 2 >= total - likely[NONE]:
                position = each
                break
        if likely[NONE] * 2 > total:
            position = case.size
        elif best and likely[best] * 2 > total and runs % 2:
            position = best - 1  # confirm the state before it as well
        failed = run(position)
        runs += 1
        for each in range(case.size + 1):
            chance = broken if NONE < each <= position else rate
            logs[each] += math.log(chance if failed else 1 - chance)


METHODS: dict[str, Callable[[Trial], Found]] = {
    "greenline": greenline,
    "bisection": bisection,
    "bisection, reruns": bisection_with_reruns,
    "published Bayesian": published,
}


# -- the measure ---------------------------------------------------------------------------------------------


class Row(NamedTuple):
    method: str
    size: int
    right: float
    blamed: float
    undecided: float
    runs: float


def measure(method: str, size: int, trials: int) -> Row:
    cases = [trial(size, number) for number in range(trials)]
    found = [METHODS[method](case) for case in cases]
    pairs = list(zip(cases, found, strict=True))
    right = sum(one.culprit == each.culprit for one, each in pairs)
    blamed = sum(bool(each.culprit) and one.culprit != each.culprit for one, each in pairs)
    undecided = sum(each.culprit is None for each in found)
    runs = sum(each.runs for each in found)
    return Row(method, size, right / trials, blamed / trials, undecided / trials, runs / trials)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    arguments = parser.parse_args()
    rows = [measure(method, size, arguments.trials) for method in METHODS for size in arguments.sizes]
    print(f"{'method':<20} {'suspects':>8} {'right':>8} {'blamed':>8} {'undecided':>9} {'runs':>7}")
    for row in rows:
        shares = f"{row.right:>8.2%} {row.blamed:>8.2%} {row.undecided:>9.2%}"
        print(f"{row.method:<20} {row.size:>8} {shares} {row.runs:>7.1f}")
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "culprit.svg").write_text(plot(rows), encoding="utf-8")
    ours = [row for row in rows if row.method == "greenline"]
    right = sum(row.right for row in ours) / len(ours)
    blamed = sum(row.blamed for row in ours) / len(ours)
    print(f"\ngreenline: right {right:.2%} (goal 99 %), innocent blamed {blamed:.2%} (goal 0.5 % at most)")
    print(f"plot: {OUT / 'culprit.svg'}")
    return 0 if right >= 0.99 and blamed <= 0.005 else 1


COLOURS = ("#1a7f37", "#8c959f", "#bf8700", "#0969da")


def plot(rows: Sequence[Row]) -> str:
    """Runs (across) against wrong answers (up), a line for each method with a point for each size."""
    width, height, left, bottom = 640, 360, 60, 40
    most = max(row.runs for row in rows) * 1.05
    worst = max(0.05, max(1 - row.right for row in rows)) * 1.05

    def at(row: Row) -> tuple[float, float]:
        return (
            left + row.runs / most * (width - left - 20),
            height - bottom - (1 - row.right) / worst * (height - bottom - 20),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<path d="M{left} 20V{height - bottom}H{width - 20}" fill="none" stroke="#57606a"/>',
        f'<text x="{(width + left) / 2}" y="{height - 10}" text-anchor="middle">runs of the test for a range'
        f" (0 … {most:.0f})</text>",
        f'<text x="16" y="{height / 2}" text-anchor="middle" transform="rotate(-90 16 {height / 2})">wrong answers'
        f" (0 … {worst:.0%})</text>",
    ]
    for number, (method, colour) in enumerate(zip(METHODS, COLOURS, strict=True)):
        points = [(at(row), row) for row in rows if row.method == method]
        line = " ".join(f"{x:.1f},{y:.1f}" for (x, y), _ in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}"/>')
        for (x, y), row in points:
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
            parts.append(f'<text x="{x + 6:.1f}" y="{y - 6:.1f}" fill="{colour}" font-size="10">{row.size}</text>')
        parts.append(f'<text x="{width - 190}" y="{36 + 18 * number}" fill="{colour}">{method}</text>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    sys.exit(main())
