"""What broke a red branch: several people's commits after the last state that worked."""

from __future__ import annotations

import pytest
from conftest import Repository

from greenline.depgraph.config import Config
from greenline.depgraph.workspace import GitError, find
from greenline.rules.conflicts.find import Conflict, find_breaks

FILES = {
    "app/__init__.py": "",
    "app/price.py": "def price(order):\n    total = order * 2\n    return total + 1\n",
    "app/order.py": "class Order:\n    size = 1\n",
    "tests/test_price.py": "from app.price import price\n\n\ndef test_price():\n    assert price(1) == 3\n",
}


def breaks(repository: Repository, good: str) -> list[Conflict]:
    return find_breaks(find(str(repository.root)), Config(), good, repository.git("rev-parse", "HEAD").strip())


def test_a_rename_and_a_new_use_by_two_commits(repository: Repository) -> None:
    good = repository.commit(FILES)
    rename = {
        path: text.replace("price(", "cost(").replace("import price", "import cost") for path, text in FILES.items()
    }
    renamed = repository.commit(rename)
    repository.commit({"README": "nothing"})
    used = repository.commit(
        {"app/bill.py": "# A bill.\nfrom app.price import price\n\n\ndef bill():\n    return price(2)\n"}
    )
    (told,) = breaks(repository, good)
    assert (told.number, told.finding.rule) == (1, "conflict/renamed")
    assert told.finding.message == "app.price.price is now cost"
    assert {(each.path, each.line, each.commit) for each in (told.ours, told.theirs)} == {
        ("app/bill.py", 2, used),
        ("app/price.py", 1, renamed),
    }
    assert told.fix is not None and (told.fix.old, told.fix.new) == ("price", "cost")


def test_what_failed_before_is_no_news(repository: Repository) -> None:
    old = {"app/old.py": "from app.price import gone\n\n\ndef old():\n    return gone()\n"}
    good = repository.commit({**FILES, **old})
    repository.commit({"app/old.py": old["app/old.py"] + "\n\nLAST = 1\n"})
    repository.commit({"app/price.py": FILES["app/price.py"].replace("total", "sum_")})
    assert breaks(repository, good) == []


def test_a_definition_that_comes_with_its_use_breaks_nothing(repository: Repository) -> None:
    good = repository.commit(FILES)
    repository.commit({"app/price.py": FILES["app/price.py"] + "\n\ndef tax(order):\n    return order\n"})
    repository.commit({"app/bill.py": "from app.price import price, tax\n\nALL = price(1) + tax(1)\n"})
    assert breaks(repository, good) == []


def test_a_parameter_that_an_old_call_does_not_pass(repository: Repository) -> None:
    good = repository.commit(
        {**FILES, "app/bill.py": "from app.price import price\n\n\ndef bill():\n    return price(2)\n"}
    )
    test = FILES["tests/test_price.py"].replace("price(1)", "price(1, 2)")
    changed = repository.commit(
        {"app/price.py": FILES["app/price.py"].replace("order)", "order, rate)"), "tests/test_price.py": test}
    )
    (told,) = breaks(repository, good)
    assert (told.number, told.finding.place.path, told.finding.place.line) == (4, "app/bill.py", 5)
    assert changed in (told.ours.commit, told.theirs.commit)


def test_an_import_cycle_of_two_commits(repository: Repository) -> None:
    good = repository.commit(FILES)
    repository.commit({"app/order.py": "from app.price import price\n\n\nclass Order:\n    size = price(0)\n"})
    assert breaks(repository, good) == []
    repository.commit({"app/price.py": "from app.order import Order\n\nORDER = Order\n\n" + FILES["app/price.py"]})
    (told,) = breaks(repository, good)
    assert told.number == 14
    assert {told.ours.path, told.theirs.path} == {"app/order.py", "app/price.py"}


def test_a_lock_file_that_does_not_hold_what_is_wanted(repository: Repository) -> None:
    project = '[project]\nname = "x"\nversion = "1"\ndependencies = ["alpha{}"]\n'
    lock = 'version = 1\n\n[[package]]\nname = "alpha"\nversion = "{}"\nsource = {{ registry = "index" }}\n'
    good = repository.commit({**FILES, "pyproject.toml": project.format(""), "uv.lock": lock.format("1.0")})
    repository.commit({"pyproject.toml": project.format("<2")})
    assert breaks(repository, good) == []
    repository.commit({"uv.lock": lock.format("2.0")})
    (told,) = breaks(repository, good)
    assert (told.number, told.finding.message) == (21, "pyproject.toml wants alpha<2; uv.lock holds alpha 2.0")


def test_findings_come_in_the_order_of_their_places(repository: Repository) -> None:
    good = repository.commit(FILES)
    repository.commit({"app/price.py": "def unlike(a, b, c):\n    return [a, b, c]\n", "tests/test_price.py": ""})
    repository.commit({f"app/{name}.py": "from app.price import price\n" for name in "cab"})
    assert [each.finding.place.path for each in breaks(repository, good)] == ["app/a.py", "app/b.py", "app/c.py"]


def test_a_commit_that_is_not_here(repository: Repository) -> None:
    repository.commit(FILES)
    with pytest.raises(GitError):
        breaks(repository, "a" * 40)
