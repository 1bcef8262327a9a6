"""``repair`` of greenline.yaml: what repair may do, in what order, and for how long."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from greenline.depgraph.config import Config

SWITCH = "GREENLINE_REPAIR"
"""Environment variable: ``off`` turns repair into nothing, like ``repair.enabled: off`` in greenline.yaml."""
OFF = ("off", "0", "false", "no")


class Settings(NamedTuple):
    """``order``: which kind of candidate comes first ("fix", "agent", "revert"; one left out is never made);
    ``minutes``: for one run; ``test_minutes``: for one run of tests; ``attempts``: runs that may try to repair one
    failure; ``agents``, ``sandbox``, ``policy``: what their own modules read."""

    enabled: bool = True
    order: tuple[str, ...] = ("fix", "agent", "revert")
    minutes: float = 30.0
    test_minutes: float = 10.0
    attempts: int = 3
    opt_out: str = "set GREENLINE_REPAIR=off, or `repair: {enabled: off}` in greenline.yaml"
    rooms: Mapping[str, Any] = {}


def settings_of(config: Config, environment: Mapping[str, str] = os.environ) -> Settings:
    values = config.rooms.get("repair", {})
    enabled = environment.get(SWITCH, values.get("enabled", "on")).lower() not in OFF
    base = Settings()
    return Settings(
        enabled,
        tuple(values.get("order", base.order)),
        float(values.get("minutes", base.minutes)),
        float(values.get("test_minutes", base.test_minutes)),
        int(values.get("attempts", base.attempts)),
        rooms=values,
    )
