"""The scenarios as data, and one of each outcome run for real; `make bench-repair` runs all and counts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import scenarios

ALL = {scenario.number: scenario for scenario in scenarios.load()}


def test_there_are_enough_of_them() -> None:
    assert len(ALL) >= 60
    assert sum(scenario.blind for scenario in ALL.values()) * 2 >= len(ALL)
    assert all(scenario.expect in ("fix", "revert", "handoff", "any") for scenario in ALL.values())
    assert all(scenario.hidden for scenario in ALL.values() if scenario.expect == "fix" and scenario.number != "2c")


@pytest.mark.slow
@pytest.mark.parametrize("number", ["1a", "1f", "1g", "2a", "3a", "7a", "13a", "29a", "30a"])
def test_one_of_each(number: str, tmp_path: Path) -> None:
    scenario = ALL[number]
    result = scenarios.run(scenario, tmp_path.resolve(), check=True)
    assert result.wrong == ""
    assert scenario.expect in ("any", result.outcome), result
