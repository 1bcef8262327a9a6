"""Selection on probation: everything runs, and what it would have missed is counted. Or it selects, and a sample of
what it left out runs too."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence

from greenline.ci.affected import Answer, Test
from greenline.ci.evidence.forms import DESELECTED
from greenline.ci.evidence.reading import load
from greenline.ci.evidence.records import Recorded, read
from greenline.ci.evidence.rule import is_named
from greenline.ci.scores import Score, now
from greenline.depgraph.config import Config
from greenline.depgraph.workspace import Workspace

BAD = ("failed", "error", "timeout", "crashed")


def known_tests(
    workspace: Workspace, config: Config, environment: Mapping[str, str] = os.environ
) -> dict[str, tuple[str, float]]:
    """Every test that the store saw run: its last outcome and seconds. Raises NoStore."""
    return {
        f"{path}::{name}": (entry.outcome, entry.seconds)
        for evidence in load(workspace, config, environment)
        for path in evidence.files
        for name, entry in evidence.entries(path).items()
        if entry.outcome != DESELECTED
    }


class Selected:
    """Which tests a selection holds."""

    def __init__(self, tests: Sequence[Test]) -> None:
        self._tests = {test.path: test.node_ids for test in tests}

    def __contains__(self, node_id: str) -> bool:
        path, _, name = node_id.partition("::")
        ids = self._tests.get(path, ())
        return ids is None or is_named(name, ids)


def outcomes(folder: str) -> dict[str, str]:
    """The outcomes that the records below a folder tell."""
    return {test: each.outcome for recorded in read([folder]) for test, each in recorded.tests.items()}


def scores(
    folder: str, answer: Answer, before: Mapping[str, tuple[str, float]], source: str, commit: str
) -> list[Score]:
    """One score for each suite that has records below ``folder``.

    A test that failed, and did not the last time it ran, is missed if the answer does not select it. ``before`` is what
    was known of the tests; one that is not in there counts as passed.
    """
    selected = Selected(answer.tests)
    names = {root: name for name, root in answer.suite_roots.items()}
    return [_score(each, names.get(each.suite_root, each.suite_root), selected, before, source, commit)
            for each in read([folder])]  # fmt: skip


def _score(
    recorded: Recorded,
    suite: str,
    selected: Selected,
    before: Mapping[str, tuple[str, float]],
    source: str,
    commit: str,
) -> Score:
    seconds = {test: seconds for test, (_, seconds) in before.items()}
    seconds |= {test: sum(each.phases.values()) for test, each in recorded.tests.items()}
    left_out = [test for test in recorded.tests if test not in selected]
    missed = {}
    for test in sorted(left_out):
        outcome, last = recorded.tests[test].outcome, before.get(test, ("passed", 0.0))[0]
        if outcome in BAD and last not in BAD:
            known = "it passed before" if test in before else "it was not known before"
            missed[test] = f"{outcome}, not selected, and {known}"
    total = sum(seconds.values())
    spent = sum(each for test, each in seconds.items() if test in selected)
    count = sum(test in selected for test in seconds)
    return Score(suite, source, commit, now(), len(seconds), count, total, spent, len(left_out), missed)


def sample_of(answer: Answer, known: Mapping[str, tuple[str, float]], count: int, seed: str) -> list[Test]:
    """Tests that passed the last time and are not selected, picked at random, as selected tests."""
    selected = Selected(answer.tests)
    left_out = sorted(test for test, (outcome, _) in known.items() if outcome == "passed" and test not in selected)
    return as_tests(answer, random.Random(seed).sample(left_out, min(count, len(left_out))))


def as_tests(answer: Answer, node_ids: Sequence[str]) -> list[Test]:
    """Node ids by their files."""
    suites = sorted(answer.suite_roots.items(), key=lambda suite: -len(suite[1]))
    names: dict[str, list[str]] = {}
    for test in node_ids:
        path, _, name = test.partition("::")
        names.setdefault(path, []).append(name)
    found = []
    for path, ids in sorted(names.items()):
        suite = next((name for name, root in suites if not root or path.startswith(f"{root}/")), ".")
        found.append(Test(path, suite, tuple(sorted(ids)), "a sample of what is not selected"))
    return found


def joined(answer: Answer, sample: Sequence[Test]) -> Answer:
    """The answer with a sample added."""
    tests = {test.path: test for test in answer.tests}
    for test in sample:
        known = tests.get(test.path)
        ids = (*(known.node_ids or ()), *(test.node_ids or ())) if known else test.node_ids
        tests[test.path] = test._replace(node_ids=ids, reason=known.reason if known else test.reason)
    sampled = {test.path for test in sample}
    unaffected = tuple(path for path in answer.unaffected if path not in sampled)
    return answer._replace(tests=[tests[path] for path in sorted(tests)], unaffected=unaffected)
