from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import networkx
import pytest
from conftest import Repository
from hypothesis import given, settings
from hypothesis import strategies as st

from greenline.depgraph import workspace
from greenline.depgraph.config import Config, build
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.imports import START, Imports
from greenline.depgraph.index import open_change
from greenline.rules import baseline
from greenline.rules.check import NO_MODULE, Checked, check
from greenline.rules.contracts import violations
from greenline.rules.modules import ModuleSets
from greenline.rules.settings import Acyclic, Forbidden, Independent, Layer, Layers, Member, read

TODAY = datetime.date(2030, 1, 1)


def checked(
    repository: Repository, rules: Mapping[str, Any], base: str = "HEAD", new_only: bool = False, entries: Any = ()
) -> Checked:
    found = workspace.find(str(repository.root))
    commit = found.resolve(base)
    assert commit
    opened = open_change(found, Config(), commit)
    return check(opened, read(build({"rules": dict(rules)})), entries, TODAY, new_only)


def told(found: Checked) -> list[tuple[str, str, int, str]]:
    return [(each.rule, each.place.path, each.place.line, each.subject) for each in found.findings]


SHOP = {
    "shop/__init__.py": "",
    "shop/web.py": "from shop import orders\n",
    "shop/orders.py": "import shop.core\n",
    "shop/stock.py": "",
    "shop/core.py": "",
}
LAYERS = {"layers": [{"name": "shop", "layers": ["shop.web", "shop.orders | shop.stock", "shop.core"]}]}


def test_layers_that_are_kept(repository: Repository) -> None:
    repository.commit(SHOP)
    assert told(checked(repository, LAYERS)) == []


@pytest.mark.parametrize(
    ("path", "source", "subject"),
    [
        ("shop/core.py", "\nimport shop.web\n", "shop.core: shop.core -> shop.web"),
        ("shop/core.py", "\ndef f():\n    from . import web\n", "shop.core: shop.core -> shop.web"),
        ("shop/orders.py", "\nfrom shop import stock\n", "shop.orders: shop.orders -> shop.stock"),
        ("shop/stock.py", "\nfrom .orders import x\n", "shop.stock: shop.stock -> shop.orders"),
    ],
)
def test_layers_that_are_broken(repository: Repository, path: str, source: str, subject: str) -> None:
    repository.commit({**SHOP, path: source})
    line = next(number for number, text in enumerate(source.split("\n"), 1) if "import" in text)
    assert told(checked(repository, LAYERS)) == [("layers/shop", path, line, subject)]


def test_a_chain_is_told_at_its_last_import(repository: Repository) -> None:
    repository.commit(
        {**SHOP, "shop/core.py": "import tool\n", "tool.py": "x = 1\nimport other\n", "other.py": "import shop.web"}
    )
    (finding,) = checked(repository, LAYERS).findings
    assert (finding.place.path, finding.place.line) == ("other.py", 1)
    assert "shop.core -> tool -> other -> shop.web" in finding.message
    assert [(each.path, each.line) for each in finding.related] == [("shop/core.py", 1), ("tool.py", 2)]


def test_what_only_type_checkers_see_counts_unless_told_otherwise(repository: Repository) -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import shop.web\n"
    repository.commit({**SHOP, "shop/core.py": source})
    assert len(checked(repository, LAYERS).findings) == 1
    layers = {**LAYERS["layers"][0], "imports": "runtime"}
    assert checked(repository, {"layers": [layers]}).findings == []


def test_layers_in_containers(repository: Repository) -> None:
    files = {f"app/{name}/{part}.py": "" for name in ("one", "two") for part in ("high", "low")}
    files |= {f"app{name}/__init__.py": "" for name in ("", "/one", "/two")}
    repository.commit({**files, "app/two/low.py": "from . import high\n", "app/two/extra.py": ""})
    rule = {"name": "app", "layers": ["high", "low", "(none)"], "containers": ["app.*"]}
    assert told(checked(repository, {"layers": [rule]})) == [
        ("layers/app", "app/two/low.py", 1, "app.two.low: app.two.low -> app.two.high")
    ]
    found = checked(repository, {"layers": [{**rule, "exhaustive": "on"}]})
    assert [each.subject for each in found.findings] == ["app.two.extra", "app.two.low: app.two.low -> app.two.high"]
    assert len(checked(repository, {"layers": [{**rule, "exhaustive": "on", "except": ["extra"]}]}).findings) == 1


def test_forbidden_imports_of_modules_and_libraries(repository: Repository) -> None:
    repository.commit({**SHOP, "shop/core.py": "import requests.adapters\nfrom google.cloud import storage\n"})
    rule = {"name": "pure", "from": "shop", "to": ["requests", "google.cloud.storage", "google.cloud.tasks", "req"]}
    assert [each[3] for each in told(checked(repository, {"forbidden": [rule]}))] == [
        "shop: shop.core -> requests.adapters",
        "shop: shop.core -> google.cloud.storage",
    ]
    direct = {"name": "direct", "from": "shop.web", "to": "shop.core"}
    assert len(checked(repository, {"forbidden": [direct]}).findings) == 1  # web → orders → core
    assert checked(repository, {"forbidden": [{**direct, "through": "off"}]}).findings == []


def test_only_some_may_import_what_is_protected(repository: Repository) -> None:
    repository.commit(
        {
            **SHOP,
            "shop/billing/__init__.py": "from . import inside",
            "shop/billing/inside.py": "",
            "x.py": "import shop.billing.inside",
        }
    )
    rule = {"name": "inside", "modules": "shop.billing.inside", "importers": ["shop.billing"]}
    assert told(checked(repository, {"protected": [rule]})) == [
        ("protected/inside", "x.py", 1, "x -> shop.billing.inside")
    ]
    assert checked(repository, {"protected": [{**rule, "importers": ["shop.billing", "x"]}]}).findings == []


def test_circles_of_modules_and_of_packages(repository: Repository) -> None:
    repository.commit(
        {
            **{f"a{each}/__init__.py": "" for each in ("", "/b", "/c")},
            "a/b/x.py": "import a.c.x",
            "a/c/x.py": "",
            "a/c/y.py": "import a.b.y",
            "a/b/y.py": "def f():\n    import a.c.y",
        }
    )
    assert checked(repository, {"acyclic": [{"name": "m", "within": "a"}]}).findings == []  # one import is lazy
    lazy = checked(repository, {"acyclic": [{"name": "m", "within": "a", "imports": "all"}]})
    assert len(lazy.findings) == 1 and "a circle of imports" in lazy.findings[0].message
    packages = checked(repository, {"acyclic": [{"name": "m", "within": "a", "between": "children"}]})
    assert {each.subject for each in packages.findings} <= {"a.b.x -> a.c.x", "a.c.y -> a.b.y"}
    assert len(packages.findings) == 1


def test_a_rule_about_nothing_is_a_finding(repository: Repository) -> None:
    repository.commit(SHOP)
    for rules in (
        {"layers": [{"name": "x", "layers": ["shop.web", "shop.gone"]}]},
        {"forbidden": [{"name": "x", "from": "shop.gone", "to": "shop"}]},
        {"independent": [{"name": "x", "modules": ["shop.*.gone"]}]},
        {"protected": [{"name": "x", "modules": ["gone"]}]},
        {"acyclic": [{"name": "x", "within": ["gone"]}]},
    ):
        (finding,) = checked(repository, rules).findings
        assert finding.rule == NO_MODULE and not finding.warning


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"layers": [{"name": "x", "layers": ["a | b : c"]}]}, r"rules.layers\[0\].layers\[0\]: has both"),
        ({"layers": [{"name": "x", "layers": ["a", "(a)"]}]}, r"a is in two layers"),
        ({"layers": [{"name": "x", "layers": ["a b"]}]}, r"'a b' is not the dotted name"),
        ({"layers": [{"name": "x", "layers": ["a"], "exhaustive": "on"}]}, r"needs containers"),
        ({"protected": [{"name": "x", "modules": "a"}, {"name": "x", "modules": "b"}]}, r"protected\[1\].name"),
        ({"ignore": [{"rule": "*", "from": "a", "reason": "r", "until": "2030-02-30"}]}, r"no day of the calendar"),
    ],
)
def test_settings_that_make_no_sense(rules: Mapping[str, Any], says: str) -> None:
    with pytest.raises(GreenlineError, match=says):
        read(build({"rules": rules}))


# -- against brute force -------------------------------------------------------------------------------------

NAMES = ["p.a.x", "p.a.y", "p.b.x", "p.b.y", "p.c.x", "q", "r"]


@st.composite
def graphs(draw: st.DrawFn) -> Imports:
    pairs = draw(st.lists(st.tuples(st.sampled_from(range(7)), st.sampled_from(range(7))), max_size=14))
    edges: list[dict[int, int]] = [{} for _ in NAMES]
    for one, two in pairs:
        if one != two:
            edges[one][two] = START
    nothing: Any = None
    return Imports(
        [name.replace(".", "/") + ".py" for name in NAMES], [(name,) for name in NAMES], edges, nothing, [], []
    )


def digraph(imports: Imports) -> networkx.DiGraph:
    graph = networkx.DiGraph()
    graph.add_nodes_from(NAMES)
    graph.add_edges_from((NAMES[one], NAMES[two]) for one, own in enumerate(imports.edges) for two in own)
    return graph


def reaches(graph: networkx.DiGraph, source: str, target: str) -> bool:
    inside = [[name for name in NAMES if f"{name}.".startswith(package + ".")] for package in (source, target)]
    return any(networkx.has_path(graph, one, two) for one in inside[0] for two in inside[1])


def layers(*rows: Sequence[str], independent: bool = True) -> Layers:
    made = tuple(Layer(tuple(Member(name, False) for name in row), independent) for row in rows)
    return Layers("x", made, (), False, (), START)


@given(graphs())
@settings(max_examples=50)
def test_verdicts_are_those_of_plain_reachability(imports: Imports) -> None:
    graph, sets = digraph(imports), ModuleSets(imports)
    pairs = [("p.a", "p.b"), ("p.b", "p.a"), ("p.b", "p.c"), ("p.c", "p.b"), ("p.a", "p.c"), ("p.c", "p.a")]
    reach = {pair: reaches(graph, *pair) for pair in pairs}
    found = violations(imports, sets, Independent("x", ("p.*",), START), ())
    assert bool(found) == any(reach.values())
    assert {(each.source, each.target) for each in found} <= {pair for pair in pairs if reach[pair]}
    stacked = violations(imports, sets, layers(["p.a"], ["p.b"], ["p.c"]), ())
    assert bool(stacked) == (reach["p.b", "p.a"] or reach["p.c", "p.a"] or reach["p.c", "p.b"])
    siblings = violations(imports, sets, layers(["p.a"], ["p.b", "p.c"], independent=False), ())
    assert bool(siblings) == (reach["p.b", "p.a"] or reach["p.c", "p.a"])
    forbidden = violations(imports, sets, Forbidden("x", ("p.a",), ("q",), True, START), ())
    assert bool(forbidden) == reaches(graph, "p.a", "q")
    for each in [*found, *stacked, *siblings, *forbidden]:
        assert each.chain[-2:] == (each.importer, each.imported)
        assert all(two in imports.edges[one] for one, two in zip(each.chain, each.chain[1:], strict=False))


@given(graphs())
@settings(max_examples=50)
def test_without_what_is_told_nothing_is_broken(imports: Imports) -> None:
    sets = ModuleSets(imports)
    for contract in (
        layers(["p.a"], ["p.b"], ["p.c"]),
        Independent("x", ("p.*",), START),
        Forbidden("x", ("p.a",), ("q", "r"), True, START),
        Acyclic("x", ("p",), False, 10, (), START),
        Acyclic("x", ("p",), True, 10, (), START),
    ):
        found = violations(imports, sets, contract, ())
        gone = {(each.importer, each.imported) for each in found if each.imported is not None}
        assert violations(imports, sets, contract, gone) == []


@given(graphs())
@settings(max_examples=50)
def test_a_circle_is_told_if_and_only_if_there_is_one(imports: Imports) -> None:
    graph = digraph(imports).subgraph([name for name in NAMES if name.startswith("p.")])
    found = violations(imports, ModuleSets(imports), Acyclic("x", ("p",), False, 10, (), START), ())
    assert bool(found) == (not networkx.is_directed_acyclic_graph(graph))


# -- what is ignored, the baseline, what is new --------------------------------------------------------------


def test_ignores_take_imports_out(repository: Repository) -> None:
    repository.commit({**SHOP, "shop/core.py": "import shop.web\n"})
    ignore = {"rule": "layers/shop", "from": "shop.core", "to": "shop.web", "reason": "later"}
    assert checked(repository, {**LAYERS, "ignore": [ignore]}).findings == []
    for other in ({"rule": "forbidden"}, {"from": "shop.stock"}, {"to": "shop"}):
        found = told(checked(repository, {**LAYERS, "ignore": [{**ignore, **other}]}))
        assert [each[0] for each in found] == ["layers/shop", "ignores/unused"]
    ended = told(checked(repository, {**LAYERS, "ignore": [{**ignore, "until": "2029-12-31"}]}))
    assert [each[0] for each in ended] == ["layers/shop", "ignores/expired"]
    last_day = {**ignore, "until": "2030-01-01", "from": "shop.**", "to": "shop.*"}
    assert checked(repository, {**LAYERS, "ignore": [last_day]}).findings == []


@pytest.mark.parametrize(
    ("comment", "rules"),
    [
        ("# greenline: ignore[layers] ticket 7", []),
        ("# greenline: ignore[layers/shop, other] ticket 7", []),
        ("# greenline: ignore[layers until 2030-01-01] ticket 7", []),
        ("# greenline: ignore[forbidden] ticket 7", ["layers/shop"]),
        ("# greenline: ignore[layers]", ["layers/shop", "ignores/reason"]),
        ("# greenline: ignore[layers until 2029-12-31] ticket", ["layers/shop", "ignores/reason"]),
        ("# greenline: ignore[layers until soon] ticket", ["layers/shop", "ignores/reason"]),
    ],
)
def test_comments_need_a_reason_and_may_end(repository: Repository, comment: str, rules: list[str]) -> None:
    repository.commit({**SHOP, "shop/core.py": f"import shop.web  {comment}\n"})
    found = checked(repository, LAYERS)
    assert [each.rule for each in found.findings] == rules
    assert [each.reason for each in found.suppressed] == (["ticket 7"] if not rules else [])


def accepted(found: Checked) -> list[baseline.Entry]:
    return [baseline.entry_of(each, "start", "2029-01-01") for each in found.findings]


def test_the_baseline_is_a_ratchet(repository: Repository) -> None:
    repository.commit({**SHOP, "shop/core.py": "import shop.web\n", "shop/stock.py": "import shop.orders\n"})
    entries = accepted(checked(repository, LAYERS))
    assert len(entries) == 2
    repository.commit({"shop/core.py": "\n\nimport shop.web as moved\nimport shop.stock\n", "shop/stock.py": ""})
    found = checked(repository, LAYERS, entries=entries)
    assert [each.subject for each in found.findings] == ["shop.core: shop.core -> shop.stock"]
    assert [each.subject for each in found.known] == ["shop.core: shop.core -> shop.web"]
    assert [each.subject for each in found.needed] == ["shop.core: shop.core -> shop.web"]


def test_the_baseline_knows_circles(repository: Repository) -> None:
    rules = {"acyclic": [{"name": "m", "within": "a"}]}
    files = {"a/__init__.py": "", "a/x.py": "import a.y", "a/y.py": "import a.x", "a/z.py": ""}
    repository.commit(files)
    entries = accepted(checked(repository, rules))
    found = checked(repository, rules, entries=entries)
    assert (found.findings, found.needed) == ([], entries)
    repository.commit({"a/y.py": "import a.z", "a/z.py": "import a.y"})
    found = checked(repository, rules, entries=entries)
    assert len(found.findings) == 1 and "a.z" in found.findings[0].message
    assert found.needed == []


def test_only_what_is_new(repository: Repository) -> None:
    repository.commit({**SHOP, "shop/core.py": "import shop.web\n"})
    repository.write({"shop/core.py": "x = 1\nimport shop.web\n", "shop/stock.py": "import shop.orders\n"})
    rules = {**LAYERS, "acyclic": [{"name": "m", "within": "shop"}]}
    assert [each.subject for each in checked(repository, rules, new_only=True).findings] == [
        "shop.stock: shop.stock -> shop.orders"
    ]
    repository.write({"shop/orders.py": "import shop.core\nimport shop.stock\n"})
    found = checked(repository, {"acyclic": [{"name": "m", "within": "shop"}]}, new_only=True)
    assert {each.subject for each in found.findings} == {"shop.orders -> shop.stock", "shop.stock -> shop.orders"}


def test_one_library_for_each_purpose(repository: Repository) -> None:
    repository.commit(
        {"a.py": "import requests\nimport httpx\n", "b.py": "from own_http import get\n", "c.py": "import json"}
    )
    rule = {"name": "http", "use": "httpx", "libraries": ["own_http"]}
    assert told(checked(repository, {"purposes": [rule]})) == [
        ("purposes/http", "a.py", 1, "requests"),
        ("purposes/http", "b.py", 1, "own_http"),
    ]


def test_a_second_library_is_told_without_a_rule(repository: Repository) -> None:
    repository.commit({"a.py": "import celery\n", "b.py": "import celery\nimport rq\n"})
    repository.write(
        {"b.py": "import celery\nimport rq\nimport os\n", "c.py": "import celery\nimport dramatiq\nimport httpx"}
    )
    (finding,) = checked(repository, {}, new_only=True).findings
    assert (finding.rule, finding.place.path, finding.place.line, finding.warning) == (
        "purposes/queue",
        "c.py",
        2,
        True,
    )
    assert "celery" in finding.message


def test_a_file_that_is_no_baseline() -> None:
    assert baseline.parse(None) == ()
    for data in (
        b"",
        b"[]",
        b'{"version": 2, "findings": []}',
        b'{"version": 1, "findings": [{"rule": 1}]}',
        b"<<<<<<<",
    ):
        with pytest.raises(GreenlineError, match="not a baseline"):
            baseline.parse(data)


def test_configurations_are_read_only() -> None:
    assert read(Config(rooms=MappingProxyType({}))) == read(build({}))
