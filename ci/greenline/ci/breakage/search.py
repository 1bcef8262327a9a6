"""Which suspect broke it? A Bayesian search with a noisy oracle, that may also answer "none of them".

The suspects are numbered 1 … n in the order in which they came to main; position 0 is the state before the first, and
position k the state after suspect k. The oracle runs the failing test at a position. Hypotheses: suspect i is the
culprit, or none is (a flake, the machine, the clock). A test may fail now and then without any reason, and a broken
one may pass now and then; neither rate is known, so each hypothesis keeps a distribution over both (a grid), fed by
the counts of passes and failures on either side of the suspect. The next probe is the one that promises most
information about the hypotheses.

Noisy search by posteriors: Horstein 1963; Ben-Or and Hassidim, "The Bayesian learner is optimal for noisy binary
search", FOCS 2008. Culprits, flakes and "no culprit" together: Henderson et al., "Flake Aware Culprit Finding",
ICST 2023; they take the rates as known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

NONE = 0
"""The hypothesis that no suspect is the culprit."""

# How often a test fails although nothing broke it, and how likely each rate is. One in six tests ever flakes.
_FLAKY = ((0.0005, 0.70), (0.01, 0.08), (0.03, 0.06), (0.08, 0.05), (0.15, 0.04), (0.3, 0.04), (0.5, 0.03))
# How often a broken test fails.
_BROKEN = ((0.9995, 0.86), (0.95, 0.06), (0.85, 0.05), (0.7, 0.03))
# How often a test fails everywhere if no suspect is to blame: it flakes, or the machine or the clock broke it.
_NO_CULPRIT = (
    (0.002, 0.20), (0.01, 0.15), (0.03, 0.15), (0.08, 0.12), (0.15, 0.10), (0.3, 0.10), (0.5, 0.08), (0.7, 0.03),
    (0.9, 0.03), (0.9995, 0.04),
)  # fmt: skip


class Verdict(NamedTuple):
    """``culprit``: a suspect, :data:`NONE`, or None while nothing is certain enough; ``certainty``: its posterior."""

    culprit: int | None
    certainty: float


class Search:
    """The state of a search. Posteriors and what to ask next follow from the counts at each position."""

    def __init__(
        self, priors: Sequence[float], none: float = 0.4, sure: float = 0.998, flaky: float | None = None
    ) -> None:
        """``priors``: a weight for each suspect, in order; ``none``: the prior of "no culprit"; ``sure``: the
        posterior at which a suspect is blamed (a wrong blame costs more than one more run);
        ``flaky``: how often the test failed for no reason before, if that is known."""
        total = sum(priors)
        if not priors or total <= 0:
            none, total = 1.0, 1.0
        self.size = len(priors)
        self.sure = sure
        self._prior = [none, *(weight / total * (1 - none) for weight in priors)]
        self._fails = [0] * (self.size + 1)
        self._passes = [0] * (self.size + 1)
        self._flaky = _with_known(_FLAKY, flaky)
        self._none = _with_known(_NO_CULPRIT, flaky)
        self._closed = [False] * (self.size + 1)
        self._judge()

    def see(self, position: int, failed: bool) -> None:
        """Take up one run of the test at a position."""
        (self._fails if failed else self._passes)[position] += 1
        self._judge()

    def close(self, position: int) -> None:
        """Nothing can be learnt at this position: it does not build, or fails for another reason."""
        self._closed[position] = True

    @property
    def runs(self) -> int:
        return sum(self._fails) + sum(self._passes)

    def counts(self, position: int) -> tuple[int, int]:
        """(failures, passes) seen at a position."""
        return self._fails[position], self._passes[position]

    def verdict(self) -> Verdict:
        best = max(range(self.size + 1), key=lambda each: self.posterior[each])
        certainty = self.posterior[best]
        needed = self.sure if best != NONE else min(self.sure, _SURE_OF_NONE)
        return Verdict(best if certainty >= needed else None, certainty)

    # -- what is believed --------------------------------------------------------------------------------

    def _judge(self) -> None:
        """The posterior of each hypothesis, and what each expects of a run before and after its suspect."""
        fails, runs = sum(self._fails), self.runs
        before_fails = before_runs = 0
        logs = [_log_evidence(self._none, fails, runs - fails)]
        self._before = [_expected(self._none, fails, runs - fails)]
        self._after = [self._before[0]]
        for suspect in range(1, self.size + 1):
            before_fails += self._fails[suspect - 1]
            before_runs += self._fails[suspect - 1] + self._passes[suspect - 1]
            before = before_fails, before_runs - before_fails
            after = fails - before_fails, (runs - fails) - before[1]
            logs.append(_log_evidence(self._flaky, *before) + _log_evidence(_BROKEN, *after))
            self._before.append(_expected(self._flaky, *before))
            self._after.append(_expected(_BROKEN, *after))
        weights = [math.log(prior) + log if prior else -math.inf for prior, log in zip(self._prior, logs, strict=True)]
        top = max(weights)
        likely = [math.exp(weight - top) for weight in weights]
        total = sum(likely)
        self.posterior = [each / total for each in likely]

    # -- what to ask -------------------------------------------------------------------------------------

    def next(self, count: int = 1) -> list[int]:
        """Positions for the next runs, ``count`` of them at once; one may come twice."""
        chosen: list[int] = []
        sides = [(1, self.size)]
        while len(chosen) < count and sides:
            sides.sort(key=lambda side: -sum(self.posterior[side[0] : side[1] + 1]))
            low, high = sides.pop(0)
            position = self._most_telling(low, high)
            if position is None:
                continue
            chosen.append(position)
            sides += [side for side in ((low, position), (position + 1, high)) if side[0] < side[1]]
        while chosen and len(chosen) < count:  # all is between neighbours: repeat what tells most
            chosen.append(chosen[len(chosen) % len(set(chosen))])
        return chosen or [position for position in (self.size,) if not self._closed[position]][:count]

    def _most_telling(self, low: int, high: int) -> int | None:
        """The position with the largest expected gain of information, if the culprit is in low … high or none is.

        The gain is the entropy of the answer minus its expected entropy under each hypothesis.
        """
        inside = range(low, high + 1)
        mass = self.posterior[NONE] + sum(self.posterior[each] for each in inside)
        if mass <= 0:
            return None
        none = self.posterior[NONE] * self._before[NONE]
        none_noise = self.posterior[NONE] * _entropy(self._before[NONE])
        fail = none + sum(self.posterior[each] * self._before[each] for each in inside)
        noise = none_noise + sum(self.posterior[each] * _entropy(self._before[each]) for each in inside)
        best, most = None, -1.0
        for position in range(low - 1, high + 1):
            if position >= low:
                share = self.posterior[position]
                fail += share * (self._after[position] - self._before[position])
                noise += share * (_entropy(self._after[position]) - _entropy(self._before[position]))
            gain = _entropy(fail / mass) - noise / mass
            if gain > most and not self._closed[position]:
                best, most = position, gain
        return best


_SURE_OF_NONE = 0.99

Grid = Sequence[tuple[float, float]]


def _with_known(grid: Grid, rate: float | None) -> Grid:
    """A rate that is known from earlier runs gets half of the weight."""
    if rate is None:
        return grid
    return [(min(max(rate, 0.0005), 0.9), 0.5), *((each, weight / 2) for each, weight in grid)]


def _log_evidence(grid: Grid, fails: int, passes: int) -> float:
    return math.log(sum(weight * rate**fails * (1 - rate) ** passes for rate, weight in grid))


def _expected(grid: Grid, fails: int, passes: int) -> float:
    """The probability that the next run fails, after these."""
    shares = [weight * rate**fails * (1 - rate) ** passes for rate, weight in grid]
    return sum(share * rate for share, (rate, _) in zip(shares, grid, strict=True)) / sum(shares)


def _entropy(probability: float) -> float:
    if probability <= 0 or probability >= 1:
        return 0.0
    return -probability * math.log2(probability) - (1 - probability) * math.log2(1 - probability)
