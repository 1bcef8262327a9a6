"""What the CI system says of waiting for a runner."""

from __future__ import annotations

import pytest

from greenline.ci.execution.shard import waited


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, {}),
        ({"GREENLINE_STARTED_AT": "970"}, {"startup": 30.0}),
        ({"GREENLINE_QUEUED_AT": "900", "GREENLINE_STARTED_AT": "970"}, {"queue": 70.0, "startup": 30.0}),
        ({"GREENLINE_QUEUED_AT": "900"}, {}),
        ({"GREENLINE_STARTED_AT": "later"}, {}),
        ({"GREENLINE_STARTED_AT": "1700"}, {}),  # a clock that is wrong
        (
            {"CI_PIPELINE_CREATED_AT": "1970-01-01T00:15:00Z", "CI_JOB_STARTED_AT": "1970-01-01T00:16:00Z"},
            {"queue": 60.0, "startup": 40.0},
        ),
    ],
)
def test_waits(environment: dict[str, str], found: dict[str, float]) -> None:
    assert waited(environment, now=1000.0) == found
