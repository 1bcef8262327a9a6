from __future__ import annotations

import pytest

from greenline.ci.affected import Test as Selected
from greenline.tools.report.reasons import in_short

MONEY = "depends on core/service.py → core/money.py (changed)"


def selected(*reasons: str) -> list[Selected]:
    return [Selected(f"tests/test_{number}.py", ".", None, reason) for number, reason in enumerate(reasons)]


@pytest.mark.parametrize(
    ("reasons", "says"),
    [
        ([MONEY, MONEY], "2 by imports; all because of core/money.py"),
        ([MONEY, "changed"], "1 by imports, 1 changed itself; 1 of them because of core/money.py"),
        (["changed", "test_a: uses `helper`"], "2 changed itself"),
        (["depends on tests/conftest.py (changed)"], "1 by a conftest.py; all because of tests/conftest.py"),
        (
            ["requests a fixture: client, db of tests/conftest.py changed", MONEY, MONEY],
            "2 by imports, 1 by a fixture; 2 of them because of core/money.py",
        ),
        (
            ["ran the body of `core.money.show`, line 3 (body changed)"],
            "1 by what was seen; all because of core.money.show",
        ),
        (["`core.money`"], "1 by what was seen; all because of core.money"),
        (["always runs", "always runs", MONEY], "2 in another way, 1 by imports; 1 of them because of core/money.py"),
        (["", ""], ""),
    ],
)
def test_many_reasons_in_one_sentence(reasons: list[str], says: str) -> None:
    assert in_short(selected(*reasons)) == says
