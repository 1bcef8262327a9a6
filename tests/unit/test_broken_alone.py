"""A branch that is broken by itself breaks no pair, whatever the other one renames around it."""

from __future__ import annotations

import pytest
from conftest import Repository

from greenline.depgraph.config import Config
from greenline.depgraph.workspace import find
from greenline.rules.conflicts.find import find_conflicts

PRICE = """\
def price(order):
    return order * 2


def total(orders):
    return sum(price(each) for each in orders)
"""
SHOP = "from app.price import total\n\nALL = total([1])\n"
FILES = {"app/__init__.py": "", "app/price.py": PRICE, "app/shop.py": SHOP}
BROKEN = PRICE.replace("def price(order):", "def price(order, rate):")
RENAMED = {path: text.replace("total", "sum_all") for path, text in FILES.items()}


@pytest.mark.parametrize("other", ["the function around the call", "the file", "another call"])
def test_a_call_that_its_own_branch_breaks(repository: Repository, other: str) -> None:
    repository.commit(FILES)
    repository.git("switch", "--quiet", "--create", "broken")
    broken = repository.commit({"app/price.py": BROKEN})
    repository.git("switch", "--quiet", "--create", "other", "main")
    if other == "the function around the call":
        repository.write(RENAMED)
    elif other == "the file":
        repository.git("mv", "app/price.py", "app/prices.py")
        repository.write({"app/shop.py": SHOP.replace("app.price", "app.prices")})
    else:
        repository.write({"app/bill.py": "from app.price import price\n\n\ndef bill():\n    return price(2)\n"})
    base = repository.git("rev-parse", "main").strip()
    found = find_conflicts(find(str(repository.root)), Config(), base, repository.commit(), broken)
    assert [one.finding.place.path for one in found] == (["app/bill.py"] if other == "another call" else [])
