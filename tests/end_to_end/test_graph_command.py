"""`greenline graph` on a small repository with a known cycle, hub and costly import."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx
import pytest
from calls import GREENLINE, Call, call, surroundings
from conftest import Repository

from greenline.tools.cli import main

TESTS = 6
SHOP = {
    "shop/__init__.py": "",
    "shop/core.py": "from shop.report import Report\n\n\ndef total(report: Report) -> int:\n    return report.sum\n",
    "shop/report.py": "from shop.plot import draw\n\n\nclass Report:\n    sum = 1\n    picture = draw\n",
    "shop/plot.py": "def draw():\n    return 1\n",
    # At import: order → stock → order. In a function: cart ⇢ order.
    "shop/order.py": "import shop.stock\nimport shop.cart\n",
    "shop/stock.py": "from shop import order\n",
    "shop/cart.py": "def buy():\n    from shop.order import new\n\n    return new\n",
    "shop/secret.py": "",
    "shop/names.py": "WHERE = 'shop.secret'\n",
    "tests/test_report.py": "import shop.report\nimport shop.names\n",
    **{f"shop/part_{number}.py": "import shop.core\n" for number in range(TESTS)},
    **{f"tests/test_{number}.py": f"import shop.part_{number}\n" for number in range(TESTS)},
}


Run = Callable[..., Call]
Answer = Callable[..., dict[str, Any]]


@pytest.fixture
def shop(repository: Repository) -> Repository:
    repository.commit(SHOP)
    for edit in range(3):
        repository.commit({"shop/plot.py": SHOP["shop/plot.py"] + f"# edit {edit}\n"})
    return repository


@pytest.fixture
def run(repository: Repository, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """`greenline` in the repository, in this process, which is fast."""

    def called(*arguments: object) -> Call:
        code = main.run(list(map(str, arguments)))
        out, err = capfdbinary.readouterr()
        return Call(code, out.decode("utf-8", "surrogateescape"), err.decode())

    monkeypatch.chdir(repository.root)
    return called


@pytest.fixture
def graph(run: Run) -> Run:
    return lambda *arguments: run("graph", *arguments)


@pytest.fixture
def answer(graph: Run) -> Answer:
    def asked(*arguments: object) -> dict[str, Any]:
        done = graph(*arguments, "--format", "json")
        assert done.code == 0, done.err
        found: dict[str, Any] = json.loads(done.out)
        return found

    return asked


def test_cycles(shop: Repository, graph: Run, answer: Answer) -> None:
    done = graph("cycles")
    assert done.code == 0
    first, second, rest = done.out.split("\n\n")
    assert rest == ""
    assert first.splitlines() == [
        "2 modules, at import; a shortest way around:",
        "  shop/order.py:1 → shop/stock.py",
        "  shop/stock.py:1 → shop/order.py",
        "  broken without 1 of its 2 imports:",
        "    shop/stock.py:1 → shop/order.py",
    ]
    assert second.splitlines()[:3] == [
        "3 modules, through imports in functions; a shortest way around:",
        "  shop/cart.py:2 ⇢ (in a function) shop/order.py",
        "  shop/order.py:2 → shop/cart.py",
    ]
    assert done.err.splitlines()[-1] == f"1 cycle at import, 1 through imports in functions; {len(SHOP)} files"

    (told,) = answer("cycles", "--top", 1)["cycles"]
    assert told["modules"] == ["shop/order.py", "shop/stock.py"]
    assert told["chain"][0] == {
        "importer": "shop/order.py",
        "imported": "shop/stock.py",
        "in_function": False,
        "line": 1,
        "text": "import shop.stock",
    }


def test_a_cycle_is_gone_when_its_break_is_followed(shop: Repository, answer: Answer) -> None:
    """In the work tree: nothing needs to be committed."""
    told = answer("cycles")["cycles"]
    for step in told[0]["breaks"]:
        file = shop.root / step["importer"]
        lines = file.read_text().splitlines(keepends=True)
        lines[step["line"] - 1] = "\n"
        file.write_text("".join(lines))
    left = answer("cycles")["cycles"]
    assert [each["modules"] for each in left] == [["shop/cart.py", "shop/order.py"]]
    assert not left[0]["at_import"]


def test_hubs(shop: Repository, graph: Run) -> None:
    done = graph("hubs", "--top", 4)
    assert done.out.splitlines() == [
        "  tests   share  importers  module",
        f"{TESTS + 1:7} 100.0 %          2  shop/report.py",
        f"{TESTS + 1:7} 100.0 %          1  shop/plot.py",
        f"{TESTS + 1:7} 100.0 %          0  shop/__init__.py",
        f"{TESTS:7}  85.7 %          {TESTS}  shop/core.py",
    ]
    assert "7 test files" in done.err


def test_hubs_count_what_affected_selects(shop: Repository, run: Run, answer: Answer) -> None:
    """For each module in turn: edit it, and ask which tests are affected."""
    counted = {hub["path"]: hub["tests"] for hub in answer("hubs", "--top", 100)["hubs"]}
    for path in (path for path in SHOP if path.startswith("shop/")):
        file = shop.root / path
        before = file.read_text()
        file.write_text(before + "edited = 1\n")
        done = run("affected", "--base", "HEAD")
        file.write_text(before)
        assert len(done.out.splitlines()) == counted.get(path, 0), path


def test_imports_only(shop: Repository, answer: Answer) -> None:
    paths = {hub["path"] for hub in answer("hubs", "--top", 100)["hubs"]}
    assert "shop/secret.py" in paths
    paths = {hub["path"] for hub in answer("hubs", "--top", 100, "--imports")["hubs"]}
    assert "shop/names.py" in paths and "shop/secret.py" not in paths


def test_cost_says_what_is_won_when_the_import_goes(shop: Repository, answer: Answer) -> None:
    before = answer("cost", "--commits", 10)
    assert before["total"] == 3 * (TESTS + 1)  # three commits edited plot.py
    assert before["limit"] == 0
    all_of_it, most_of_it = before["cuts"][:2]
    assert (all_of_it["importer"], all_of_it["imported"]) == ("shop/report.py", "shop/plot.py")
    assert all_of_it["spares"] == before["total"]
    assert (most_of_it["importer"], most_of_it["line"], most_of_it["imported"]) == ("shop/core.py", 1, "shop/report.py")
    assert most_of_it["spares"] == 3 * TESTS
    assert most_of_it["kind"] == "import" and "TYPE_CHECKING" in most_of_it["advice"]

    core = SHOP["shop/core.py"].replace("from shop", "from typing import TYPE_CHECKING\nif TYPE_CHECKING: from shop")
    shop.write({"shop/core.py": "from __future__ import annotations\n" + core})
    assert answer("cost", "--commits", 10)["total"] == before["total"] - most_of_it["spares"]


def test_what_cost_weighs_with(shop: Repository, graph: Run, answer: Answer) -> None:
    plain = answer("cost")  # three commits are too few
    assert plain["changes"] == len(SHOP)
    assert answer("cost", "--commits", 0) == {**plain, "weighed": "a change of each module"}
    assert answer("cost", "--since", "HEAD~2")["changes"] == 2
    assert answer("cost", "--commits", 1)["changes"] == 1
    done = graph("cost", "--since", "HEAD~2")
    assert "2 recent commits" in done.err and "proven" in done.err
    assert " 85.71 %  shop/core.py:1 → shop/report.py\n          from shop.report import Report\n" in done.out
    done = graph("cost", "--since", "nowhere")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("greenline: --since: git knows no commit 'nowhere'\n")


@pytest.mark.parametrize(
    ("importer", "text", "says"),
    [
        ("tests/conftest.py", "from shop.report import Report\n\ndef f():\n    return Report\n", "import it there"),
        ("shop/core.py", "from shop.report import Report\n\nclass C(Report): ...\n", "move what it takes (Report)"),
        ("shop/core.py", "from shop.report import Report\n", "not used here"),
        ("shop/part_0.py", "NAME = 'shop.report'\n", "'cut' in greenline.yaml"),
        ("shop/__init__.py", "from shop.report import Report\n", "only passed on from here"),
    ],
)
def test_advice_follows_from_the_file(
    repository: Repository, importer: str, text: str, says: str, answer: Answer
) -> None:
    repository.commit({**SHOP, "shop/core.py": "", "tests/test_report.py": "", importer: text})
    cuts = answer("cost")["cuts"]
    assert says in next(cut["advice"] for cut in cuts if cut["importer"] == importer)


def test_export(shop: Repository, tmp_path: Path, graph: Run, answer: Answer) -> None:
    data = answer("export")
    whole = networkx.node_link_graph(data, edges="edges")
    assert set(whole) == set(SHOP)
    assert whole.nodes["tests/test_0.py"]["test"] and not whole.nodes["shop/core.py"]["test"]
    kinds = {kind for _, _, kind in whole.edges.data("kind")}
    assert kinds == {"import", "lazy", "named", "package"}
    assert whole.edges["shop/core.py", "shop/report.py"]["kind"] == "import"
    assert whole.edges["shop/core.py", "shop/__init__.py"]["kind"] == "package"
    assert whole.edges["shop/names.py", "shop/secret.py"]["kind"] == "named"

    file = tmp_path / "graph.xml"
    done = graph("export", "--format", "graphml", "-o", file)
    assert (done.code, done.out) == (0, "")
    read = networkx.read_graphml(file)
    assert dict(read.nodes.data()) == dict(whole.nodes.data())
    assert sorted(read.edges.data()) == sorted(whole.edges.data())

    dot = graph("export", "--format", "dot", "shop/order.py", "shop.cart", "shop/st*.py").out.splitlines()
    assert dot[0] == "digraph {" and dot[-1] == "}"
    assert [line.strip() for line in dot if "->" in line] == [
        '"shop/cart.py" -> "shop/order.py" [style=dashed];',
        '"shop/order.py" -> "shop/cart.py";',
        '"shop/order.py" -> "shop/stock.py";',
        '"shop/stock.py" -> "shop/order.py";',
    ]

    folded = networkx.node_link_graph(answer("export", "--depth", 1), edges="edges")
    assert list(folded.edges.data()) == [("tests", "shop", {"imports": TESTS + 2})]

    for arguments in (["nothing/here"], ["-o", tmp_path / "no" / "folder"]):
        done = graph("export", *arguments)
        assert (done.code, done.out) == (2, "")
        assert done.err.splitlines()[-2 if arguments[0] != "-o" else -1].startswith("greenline: ")


COMMANDS = [[name, "--format", form] for name in ("cycles", "hubs", "cost") for form in ("text", "json")]
COMMANDS += [["export", "--format", form] for form in ("json", "dot", "graphml")]


@pytest.mark.parametrize("name", ["cycles", "hubs", "cost", "export"])
def test_the_same_input_gives_the_same_output(shop: Repository, name: str) -> None:
    first, second = (call(shop.root, GREENLINE, "graph", name, PYTHONHASHSEED=seed) for seed in ("1", "2"))
    assert first.code == 0 and first.out
    assert first.out == second.out


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_repository_without_python(repository: Repository, graph: Run, command: list[str]) -> None:
    repository.commit({"README": ""})
    done = graph(*command)
    assert done.code == 0, done.err
    if "json" in command:
        assert not any(json.loads(done.out).get(key) for key in ("cycles", "hubs", "cuts", "nodes", "edges"))


def test_no_commit_and_no_repository(graph: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for folder, says in ((Path(), "no commit yet"), (tmp_path, "not in a git repository")):
        monkeypatch.chdir(folder)
        for name in ("cycles", "hubs", "cost", "export"):
            done = graph(name)
            assert (done.code, done.out) == (2, "")
            assert says in done.err and "Traceback" not in done.err


def test_odd_files_do_no_harm(repository: Repository, graph: Run) -> None:
    files = {"broken.py": "import shop.core\ndef (\n", "a b.py": "import broken\n", "größe.py": "import broken\n"}
    repository.commit({**SHOP, **files, "tests/test_broken.py": "import broken\n"})
    (repository.root / "link.py").symlink_to("shop/core.py")
    with open(os.fsencode(repository.root) + b'/caf\xe9 "x\\.py', "wb") as file:
        file.write(b"import shop.core\n")
    for _ in range(2):  # untracked, then committed
        for command in COMMANDS:
            done = graph(*command)
            assert done.code == 0, done.err
        nodes = json.loads(graph("export").out)["nodes"]
        assert {"id": 'caf\udce9 "x\\.py', "test": False} in nodes
        assert '"caf\udce9 \\"x\\\\.py" -> "shop/core.py";' in graph("export", "--format", "dot").out
        assert len(networkx.parse_graphml(graph("export", "--format", "graphml").out)) == len(nodes)
        repository.commit()


def test_a_table_fits_its_terminal(shop: Repository) -> None:
    terminal, other = os.openpty()
    try:
        with subprocess.Popen(
            [GREENLINE, "graph", "cost"], cwd=shop.root, stdout=other, env=surroundings({"COLUMNS": "60"})
        ) as process:
            os.close(other)
            text = b""
            while part := _read(terminal):
                text += part
        lines = text.decode().splitlines()
        assert process.returncode == 0
        assert max(map(len, lines)) == 60
        assert any(line.endswith("…") for line in lines)
    finally:
        os.close(terminal)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux: the other end is closed
        return b""
