"""Rewritten code and the interpreter's hooks tell the same."""

from __future__ import annotations

import marshal
import shutil
import sys
from pathlib import Path

import pytest
from recorded import Records, run, write

SUITE = {
    ".git/HEAD": "ref: refs/heads/main\n",
    "app.py": """
import pickle, threading

def page(name): return "page " + name
def shown(name): return page(name)

def steps():
    try:
        while True:
            yield 1
    except KeyError:
        yield handled()

def handled(): return 2

RUNNING = steps()

class Shop:
    @property
    def price(self): return tax(1)

def tax(x): return (lambda y: y + inner())(x)
def inner(): return 1
def in_thread():
    thread = threading.Thread(target=page, args=("x",))
    thread.start()
    thread.join()
async def waits(): return page("y")
""",
    "script.py": "def work():\n    return 1\n\nvalue = work()\n",
    "page.html": "hello {name}\n",
    "test_app.py": """
import asyncio, marshal, os, pathlib, pickle, runpy, subprocess, sys, types
import pytest
import app

HERE = pathlib.Path(__file__).parent
CODE = compile("def render(name):\\n    return 'hello ' + name\\n", str(HERE / "page.html"), "exec")
SPACE = {}
exec(CODE, SPACE)

def test_plain(): assert app.shown("a") == "page a"
def test_again(): assert app.shown("a") == "page a"
def test_starts(): assert next(app.RUNNING) == 1
def test_goes_on(): assert next(app.RUNNING) == 1
def test_throws(): assert app.RUNNING.throw(KeyError) == 2
def test_method(): assert app.Shop().price == 2
def test_thread(): app.in_thread()
def test_async(): assert asyncio.run(app.waits()) == "page y"
def test_script(): assert runpy.run_path(str(HERE / "script.py"))["value"] == 1
def test_template(): assert SPACE["render"]("b") == "hello b"
def test_template_again(): assert SPACE["render"]("b") == "hello b"
def test_late(): import late; assert late.value == 3
def test_after_late(): import late; assert late.more() == 3
def test_child():
    code = "import app; print(app.shown('c'))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=HERE) == "page c\\n"
def test_fork():
    app.page("before")
    child = os.fork()
    if child == 0:
        app.inner()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    app.tax(1)
def test_code_that_is_kept():
    code = compile("def kept():\\n    return 1\\n", str(HERE / "app.py"), "exec")
    space = {}
    exec(marshal.loads(marshal.dumps(code)), space)
    assert space["kept"]() == 1
def test_code_that_is_copied():
    copied = types.FunctionType(app.page.__code__.replace(co_name="copied"), {})
    assert copied("z") == "page z"
""",
    "late.py": "import app\n\nvalue = app.tax(2)\n\ndef more():\n    return value\n",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hooks")
    write(root, SUITE)
    return root


@pytest.fixture(scope="module")
def records(root: Path) -> Records:
    assert "17 passed" in run(sys.executable, root, folder="rewritten")
    return Records(root / "rewritten")


def test_the_same_as_hooks(root: Path, records: Records) -> None:
    said = run(sys.executable, root, "-v", folder="hooks", GREENLINE_RECORDING="hooks")
    assert "17 passed" in said and "by the interpreter's hooks, which is slower: $GREENLINE_RECORDING" in said
    hooks = Records(root / "hooks")
    rewritten = {test: records.blocks(test) for test in records.tests}
    assert rewritten == {test: hooks.blocks(test) for test in hooks.tests}
    opened = {test: sorted(line.get("opened", [])) for test, line in records.tests.items()}
    assert opened == {test: sorted(line.get("opened", [])) for test, line in hooks.tests.items()}


def test_what_is_seen(records: Records) -> None:
    assert {"app.py::page", "app.py::shown"} <= records.blocks("test_again")
    assert "app.py::page" not in records.blocks("test_method")
    for test in ("test_starts", "test_goes_on", "test_throws"):
        assert "app.py::steps" in records.blocks(test)
    assert "app.py::page" in records.blocks("test_thread") & records.blocks("test_async") & records.blocks("test_child")
    assert "script.py::work" in records.blocks("test_script")
    assert "page.html" in records.tests["test_template_again"]["opened"]
    assert "late.py::more" in records.blocks("test_after_late") - records.blocks("test_late")
    assert {"app.py::page", "app.py::inner", "app.py::tax"} <= records.blocks("test_fork")
    assert "app.py::page" in records.blocks("test_code_that_is_copied")


@pytest.mark.parametrize("reader", ["numba", "pony", "torch"])
def test_packages_that_read_instructions(tmp_path: Path, reader: str) -> None:
    write(tmp_path, {".git/HEAD": "", "test_it.py": "def test_it(): pass\n", f"libs/{reader}/__init__.py": ""})
    said = run(sys.executable, tmp_path, "-v", PYTHONPATH="libs")
    assert f"slower: {reader} is installed, and reads the instructions of functions" in said
    assert "test_it" in Records(tmp_path / "out").tests


def test_files_of_compiled_code_are_as_always(tmp_path: Path) -> None:
    """What recording writes into __pycache__ is the code as it was."""
    write(tmp_path, {".git/HEAD": "", "app.py": "def f():\n    return 1\n"})
    write(tmp_path, {"test_it.py": "import app\n\ndef test_it():\n    assert app.f() == 1\n"})
    kept = []
    for recording in ("off", ""):
        for each in tmp_path.glob("__pycache__/*"):
            each.unlink()
        assert "1 passed" in run(sys.executable, tmp_path, GREENLINE_RECORDING=recording, PYTHONDONTWRITEBYTECODE="")
        kept.append({each.name: marshal.loads(each.read_bytes()[16:]) for each in tmp_path.glob("__pycache__/*")})
    assert kept[0] == kept[1] and len(kept[0]) == 2


def test_compiled_files_that_came_from_another_folder(tmp_path: Path) -> None:
    """They name the files of that folder until the import system or pytest corrects them."""
    one, two = tmp_path / "one", tmp_path / "two"
    write(one, {".git/HEAD": "", "app.py": "def f():\n    return 1\n"})
    write(one, {"test_it.py": "import app\n\ndef test_it():\n    assert app.f() == 1\n"})
    run(sys.executable, one, PYTHONDONTWRITEBYTECODE="")
    shutil.copytree(one, two)
    assert len([*two.glob("__pycache__/*.pyc")]) == 2
    assert "1 passed" in run(sys.executable, two)
    assert Records(two / "out").blocks("test_it") == Records(one / "out").blocks("test_it") != set()


RUDE = {
    ".git/HEAD": "",
    "app.py": """
import gc

class Kept:
    def __init__(self): self.me = self
    def __del__(self): gone()

def gone(): pass
def used(): return 1
""",
    "late.py": "import gc, app\n\nfor _ in range(50):\n    app.Kept()\n    gc.collect(0)\n\ndef end(): return 2\n",
    "test_rude.py": """
import gc, os, sys
import app

def test_frames_are_hidden(monkeypatch):
    monkeypatch.delattr(sys, "_getframe")
    assert os.environ.get("RUDE") is None
    assert app.used() == 1 and os.path.exists(__file__)

def test_finalizers_in_the_middle():
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(50):
            app.Kept()
        import late
        assert late.end() == 2 and os.environ.get("RUDE2") is None
    finally:
        gc.set_threshold(*before)

def test_a_profiler_of_the_repository():
    seen = []
    def profiler(frame, event, arg):
        seen.append(event)
        os.environ.get("RUDE3")
    sys.setprofile(profiler)
    try:
        app.used()
    finally:
        sys.setprofile(None)
    assert "call" in seen

def test_no_room_on_the_stack():
    def deep(n):
        try:
            return deep(n + 1)
        except RecursionError:
            return app.used()
    assert deep(0) == 1
""",
}


def test_rude_tests(tmp_path: Path) -> None:
    write(tmp_path, RUDE)
    said = run(sys.executable, tmp_path)
    assert "4 passed" in said and "warning" not in said
    seen = Records(tmp_path / "out")
    assert all("app.py::used" in seen.blocks(test) for test in seen.tests if "finalizers" not in test)
    assert {"late.py::end", "app.py::gone", "app.py::Kept.__del__"} <= seen.blocks("test_finalizers_in_the_middle")
    for name, test in (("RUDE", "test_frames_are_hidden"), ("RUDE2", "test_finalizers_in_the_middle")):
        assert name in seen.tests[test]["env"]
