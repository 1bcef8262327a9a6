"""Why tests were selected, all of them in one sentence: by which ways, and because of which files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from greenline.ci.affected import Test

IMPORTS, CONFTEST, FIXTURE = "by imports", "by a conftest.py", "by a fixture"
SEEN, ITSELF, OTHER = "by what was seen", "changed itself", "in another way"
_WAYS = (
    (re.compile(r"depends on (?:.* → )?(?P<cause>(?:\S+/)?conftest\.py) \("), CONFTEST),
    (re.compile(r"depends on (?:.* → )?(?P<cause>\S+) \("), IMPORTS),
    (re.compile(r"requests a fixture: .* of (?P<cause>\S+) changed"), FIXTURE),
    (re.compile(r"[^`:]*`(?P<cause>[\w.]+)`(?:, line \d+)?(?: \(.* changed\))?$"), SEEN),
    (re.compile(r"(?:[\w:]+: .*|changed|added|as if changed)$"), ITSELF),
)
"""How a reason begins → the way; ``cause`` is what the change began with, if that is another file."""


def in_short(tests: Iterable[Test]) -> str:
    """ "12 by imports, 3 by a fixture, all because of tests/conftest.py"; "" where no reasons are known."""
    found = [_way(test.reason) for test in tests if test.reason]
    ways = Counter(way for way, _ in found)
    causes = Counter(sorted(cause for _, cause in found if cause))
    told = ", ".join(f"{count:,} {way}" for way, count in ways.most_common())
    if not causes:
        return told
    ((cause, count),) = causes.most_common(1)
    return f"{told}; {'all' if count == len(found) else f'{count:,} of them'} because of {cause}"


def _way(reason: str) -> tuple[str, str]:
    for pattern, way in _WAYS:
        match = pattern.match(reason)
        if match:
            return way, match.groupdict().get("cause", "")
    return OTHER, ""
