"""What the recorder sees, leak by leak of "what ran none of the change is not affected": one suite, really run."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest
from guests import guest
from recorded import Records, run, write

FILES = {
    "pytest.ini": "[pytest]\npythonpath = src\ntestpaths = tests\n",
    "data/rates.csv": "1,2\n",
    "src/shop/__init__.py": "",
    "src/shop/registry.py": """
import functools

def register(function):
    return checked(function)

def checked(function):
    return function

def unused():
    return 0

@functools.cache
def table():
    return build()

def build():
    return 5
""",
    "src/shop/money.py": """
from shop.registry import register, table

@register
def add(a, b):
    return round_(a + b)

def round_(value):
    return value

def price():
    return table()

class Purse:
    currency = (lambda: "EUR")()

    def count(self):
        def inner():
            return [each for each in (1, 2)]
        return inner()

    def forever(self):
        while True:
            yield 1
""",
    "src/shop/late.py": "def load():\n    return 1\n",
    "src/shop/tool.py": """
from shop.late import load

def main():
    print(load())

if __name__ == "__main__":
    main()
""",
    "src/shop/twin_a.py": "def same():\n    return 1\n",
    "src/shop/twin_b.py": "def same():\n    return 1\n",
    "tests/conftest.py": """
import pytest
from shop import registry

@pytest.fixture(scope="session")
def bank():
    yield registry.build()
    registry.checked(None)

@pytest.fixture(scope="module")
def account(bank):
    from shop.money import Purse
    return Purse()
""",
    "tests/test_import.py": """
import importlib, sys
import pytest
from shop import money

@pytest.mark.parametrize("value", [money.round_(1)])
def test_plain(value):
    assert money.add(1, 2) == 3

def test_learned_first():
    assert importlib.import_module("shop.late")

def test_learned_again():
    assert importlib.import_module("shop.late")

def test_dunder():
    assert __import__("shop.twin_a")

def test_missing():
    with pytest.raises(ImportError):
        importlib.import_module("shop.plugins_to_come")

def test_statement():
    import shop.twin_a
""",
    "tests/test_shared.py": """
import shop.money as money

def test_wide_first(account):
    assert account.count() == [1, 2]

def test_wide_second(account):
    assert account.currency

def test_no_fixture():
    pass

def test_cache_first():
    assert money.price() == 5

def test_cache_second():
    assert money.price() == 5
""",
    "tests/test_silent.py": """
import glob, inspect, os, pathlib, subprocess, sys, threading, time
from shop import money, twin_a, twin_b

HERE = pathlib.Path(__file__).parents[1]

def test_open():
    assert (HERE / "data" / "rates.csv").read_text()

def test_list():
    assert glob.glob(str(HERE / "data" / "*.csv"))

def test_query():
    assert not os.path.exists(HERE / "data" / "not-yet.csv")

def test_failed_open():
    try:
        open(HERE / "data" / "nothing.csv")
    except FileNotFoundError:
        pass

def test_environment():
    assert os.environ.get("SHOP_MODE") is None

def test_source():
    assert "round_" in inspect.getsource(money.add)

def test_source_again():
    assert "round_" in inspect.getsource(money.add)

def test_twin():
    assert twin_b.same() == 1

def test_child_module():
    done = subprocess.run([sys.executable, "-m", "shop.tool"], capture_output=True, text=True, check=True)
    assert done.stdout == "1\\n" and not done.stderr

def test_child_code():
    code = "import sys; from shop import twin_a; twin_a.same(); print(sys.argv)"
    assert subprocess.check_output([sys.executable, "-c", code, "x"], text=True) == "['-c', 'x']\\n"

def test_child_script():
    done = subprocess.run([sys.executable, "-u", str(HERE / "crash.py")], capture_output=True, text=True)
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and "crash.py" in lines[1] and lines[-1] == "ValueError: no"

def test_other_program():
    subprocess.run(["git", "--version"], check=True)

def test_fork():
    child = os.fork()
    if not child:
        twin_a.same()
        os._exit(0)
    os.waitpid(child, 0)

RUNNING = []

def test_thread_starts():
    ready = threading.Event()
    def loop():
        generator = money.Purse().forever()
        work(generator, ready)
    thread = threading.Thread(target=loop, daemon=True)
    RUNNING.append(thread)
    thread.start()
    ready.wait(5)

STOP = threading.Event()

def work(generator, ready):
    while not STOP.is_set():
        next(generator)
        ready.set()
        time.sleep(0.001)

def test_thread_runs():
    time.sleep(0.01)

def test_thread_stops():
    STOP.set()
    RUNNING[0].join(5)

def test_generator_is_thrown_into():
    generator = money.Purse().forever()
    next(generator)
    try:
        generator.throw(ValueError)
    except ValueError:
        pass
""",
    "crash.py": "from shop import registry\nregistry.unused()\nraise ValueError('no')\n",
    "tests/test_outcomes.py": """
import time
import pytest

def test_fails():
    assert False

def test_skips():
    pytest.skip("no GPU")

@pytest.mark.xfail
def test_expected():
    assert False

@pytest.fixture
def broken():
    raise ValueError

def test_error(broken):
    pass
""",
}

VERSIONS = [
    pytest.param("", id="this-python"),
    pytest.param("3.11", marks=pytest.mark.slow),
    pytest.param("3.12", marks=pytest.mark.slow),
    pytest.param("3.13", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=VERSIONS)
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Records:
    root = _repository(tmp_path_factory.mktemp("shop"))
    run(sys.executable if not request.param else guest(request.param), root, PYTHONPATH="src")
    records = Records(root / "out")
    assert records.ended == 1
    return records


def _repository(root: Path) -> Path:
    (root / ".git").mkdir()
    write(root, FILES)
    return root


def test_bodies_and_import_time(seen: Records) -> None:
    """Leak 1: decorators, module bodies and parametrize lists run at import; all tests of the file inherit them."""
    own = set(seen.tests["test_plain[1]"]["blocks"])
    money, registry = "src/shop/money.py", "src/shop/registry.py"
    assert own == {"tests/test_import.py::test_plain", f"{money}::add", f"{money}::round_"}
    for test in ("test_plain[1]", "test_statement"):
        assert {f"{registry}::register", f"{registry}::checked", f"{money}::"} <= seen.blocks(test)
        assert f"{money}::round_" in seen.blocks(test)
        assert f"{registry}::unused" not in seen.blocks(test)
    assert f"{money}::add" not in seen.blocks("test_statement")


def test_each_test_has_its_conftest(seen: Records) -> None:
    for test in seen.tests:
        assert {"module:tests/conftest.py", "module:src/shop/registry.py"} <= seen.units(test)


@pytest.mark.parametrize("test", ["test_learned_first", "test_learned_again"])
def test_learned_imports(seen: Records, test: str) -> None:
    """Leak 3: a module that another test imported first."""
    assert "shop.late" in seen.used(test, "modules")
    assert "src/shop/late.py::" in seen.blocks(test)
    assert "src/shop/late.py::load" not in seen.blocks(test)


def test_imports_by_function_and_statement(seen: Records) -> None:
    assert "src/shop/twin_a.py::" in seen.blocks("test_dunder")
    assert "src/shop/twin_a.py::" in seen.blocks("test_statement")
    assert "src/shop/twin_a.py::" not in seen.blocks("test_missing")
    assert "shop.plugins_to_come" in seen.used("test_missing", "modules")


def test_wide_fixtures_are_shared(seen: Records) -> None:
    """A fixture that another test paid for, with what it requests and its teardown."""
    for test in ("test_wide_first", "test_wide_second"):
        used = seen.blocks(test)
        assert {"tests/conftest.py::bank", "tests/conftest.py::account", "src/shop/registry.py::build"} <= used
    assert "src/shop/money.py::Purse.count" in seen.blocks("test_wide_first")
    assert "src/shop/money.py::Purse.count" not in seen.blocks("test_wide_second")
    assert "tests/conftest.py::bank" not in seen.blocks("test_no_fixture")
    teardown = [part for part in seen.parts["fixture:tests/conftest.py::bank@session"]]
    assert any("src/shop/registry.py::checked" in part["blocks"] for part in teardown)


def test_silent_queries(seen: Records) -> None:
    """Leak 7."""
    assert seen.used("test_open", "opened") >= {"data/rates.csv"}
    assert seen.used("test_list", "listed") == {"data"}
    assert seen.used("test_query", "queried") == {"data/not-yet.csv"}
    assert "data/nothing.csv" in seen.used("test_failed_open", "queried")
    assert seen.used("test_environment", "env") == {"SHOP_MODE"}
    assert not seen.used("test_no_fixture", "opened") | seen.used("test_no_fixture", "listed")
    assert not seen.used("test_no_fixture", "queried") | seen.used("test_no_fixture", "env")


def test_source_as_data(seen: Records) -> None:
    """Leak 10: linecache keeps the lines, so the second test opens nothing."""
    for test in ("test_source", "test_source_again"):
        assert "src/shop/money.py" in seen.used(test, "opened")
    assert "src/shop/money.py" not in seen.used("test_open", "opened")


def test_equal_code_in_two_files(seen: Records) -> None:
    assert "src/shop/twin_b.py::same" in seen.blocks("test_twin")
    assert "src/shop/twin_a.py::same" not in seen.blocks("test_twin")


def test_children(seen: Records) -> None:
    """Leak 7: processes, those of Python recorded, others named."""
    assert {"src/shop/tool.py::main", "src/shop/late.py::load", "src/shop/tool.py::"} <= seen.blocks(
        "test_child_module"
    )
    assert "src/shop/twin_a.py::same" in seen.blocks("test_child_code")
    assert {"crash.py::", "src/shop/registry.py::unused"} <= seen.blocks("test_child_script")
    assert "src/shop/twin_a.py::same" in seen.blocks("test_fork")
    assert seen.used("test_other_program", "children") == {'["git", "--version"]'}
    for test in ("test_child_module", "test_child_code", "test_child_script", "test_fork"):
        assert not seen.used(test, "children")
        assert seen.tests[test]["outcome"] == "passed"


def test_threads_that_run_already(seen: Records) -> None:
    """Leak 11."""
    assert "src/shop/money.py::Purse.forever" in seen.blocks("test_thread_runs")
    assert "tests/test_silent.py::work" in seen.blocks("test_thread_runs")
    assert "tests/test_silent.py::work" not in seen.blocks("test_twin")


def test_inner_functions_belong_to_the_outer(seen: Records) -> None:
    names = {line["name"] for line in seen.lines if line["kind"] == "block"}
    assert not [name for name in names if "<" in name]


def test_outcomes(seen: Records) -> None:
    """Leak 5: what did not pass can be told."""
    outcomes = {test: line["outcome"] for test, line in seen.tests.items()}
    assert outcomes["test_fails"] == "failed" and outcomes["test_skips"] == "skipped"
    assert outcomes["test_expected"] == "xfailed" and outcomes["test_error"] == "error"
    rest = {test: said for test, said in outcomes.items() if "test_outcomes.py" not in seen.tests[test]["id"]}
    assert set(rest.values()) == {"passed"}
    assert all(not line.get("lost") for line in seen.tests.values())


def test_file_ids_are_those_of_git(seen: Records) -> None:
    data = FILES["src/shop/money.py"].encode()
    expected = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    assert seen.oids["src/shop/money.py"] == {expected}


def _blocks_by_test(records: Records) -> dict[str, Any]:
    """Of the test that stops a thread, it is chance whether that goes round once more."""
    return {test: sorted(records.blocks(test)) for test in records.tests if test != "test_thread_stops"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Records]:
    root = _repository(tmp_path_factory.mktemp("shop"))
    run(sys.executable, root, PYTHONPATH="src")
    return root, Records(root / "out")


def test_workers_see_the_same(alone: tuple[Path, Records]) -> None:
    root, expected = alone
    said = run(sys.executable, root, "-n2", "--dist=loadfile", folder="xdist", PYTHONPATH="src")
    found = Records(root / "xdist")
    assert found.ended == 3, said  # two workers and the controller
    assert _blocks_by_test(found) == _blocks_by_test(expected)


def test_forking_pass(alone: tuple[Path, Records]) -> None:
    """A cache that an earlier test filled: who runs the block that asks it depends on what filled it."""
    root, shared = alone
    assert "src/shop/registry.py::build" not in shared.tests["test_cache_second"]["blocks"]
    said = run(sys.executable, root, "tests/test_shared.py", "--greenline-fork", folder="fork")
    assert "forking pass: 5 of 5 tests passed alone" in said
    found = Records(root / "fork")
    assert found.caches == {"src/shop/money.py::price": {"src/shop/registry.py::table", "src/shop/registry.py::build"}}
    ours, before = _blocks_by_test(found), _blocks_by_test(shared)
    assert ours == {test: blocks for test, blocks in before.items() if test in ours}


def test_a_process_for_each_file_where_none_can_fork(tmp_path: Path) -> None:
    """The same, learned from a run in which the second file comes first to the cache."""
    root = tmp_path / "repository"
    test = "import app\n\n\ndef test_{}():\n    assert app.price() == 2\n"
    files = {
        ".git/HEAD": "ref: refs/heads/main\n",
        "conftest.py": "from threading import Event, Thread\n\n"
        "Thread(target=Event().wait, name='poll', daemon=True).start()\n",
        "app.py": "import functools\n\n\ndef built():\n    return 2\n\n\n"
        "@functools.cache\ndef table():\n    return built()\n\n\ndef price():\n    return table()\n",
        "test_one.py": test.format("one"),
        "test_two.py": test.format("two"),
    }
    write(root, files)
    said = run(sys.executable, root, "test_one.py", "test_two.py", "--greenline-fork")
    assert "no forking pass: threads run already (poll)" in said
    assert "a process for each of 2 files instead: 2 of 2 tests passed" in said
    assert "2 passed" in said
    found = Records(root / "out")
    assert set(found.tests) == {"test_one", "test_two"}
    assert found.tests["test_two"]["blocks"] == {"app.py::price", "test_two.py::test_two"}
    assert found.caches == {"app.py::price": {"app.py::table", "app.py::built"}}
