from __future__ import annotations

import pytest

from greenline.depgraph.wording import plural


@pytest.mark.parametrize(("number", "text"), [(0, "0 tests"), (1, "1 test"), (2, "2 tests"), (1234, "1,234 tests")])
def test_a_number_and_what_it_counts(number: int, text: str) -> None:
    assert plural(number, "test") == text
