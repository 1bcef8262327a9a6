"""What one check of `greenline doctor` saw."""

from __future__ import annotations

from typing import NamedTuple

OK, ADVICE, BROKEN = "ok", "advice", "broken"


class Finding(NamedTuple):
    """What one check saw. `state` is "ok", "advice" (works, but not as well as it could) or "broken"."""

    check: str
    state: str
    message: str
    hint: str | None = None
