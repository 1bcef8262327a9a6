"""Which functions ran, against what generated programs write down themselves, one name at each start and resumption."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random

import pytest
from guests import guest
from recorded import Records, run, write

FILES, FUNCTIONS = 12, 10

PRELUDE = """
import asyncio, contextlib, functools, json, pathlib, threading

import pytest

LOG = set()
KEPT = []

def decorated(function):
    @functools.wraps(function)
    def wrapper(*args):
        LOG.add("decorated")
        return function(*args)
    return wrapper

def endless():
    while True:
        LOG.add("endless")
        yield

def keep():
    LOG.add("keep")
    def inner():
        LOG.add("keep")
    KEPT.append(inner)

def deep(n):
    LOG.add("deep")
    return deep(n - 1) if n else 0

class Base:
    def __init__(self):
        LOG.add("Base.__init__")
    @property
    def value(self):
        LOG.add("Base.value")
        return 1
    @value.setter
    def value(self, new):
        LOG.add("Base.value")
    def __lt__(self, other):
        LOG.add("Base.__lt__")
        return False
    @contextlib.contextmanager
    def opened(self):
        LOG.add("Base.opened")
        yield self
        LOG.add("Base.opened")

async def waits(function):
    LOG.add("waits")
    await asyncio.sleep(0)
    LOG.add("waits")
    return function(0)

def step(coroutine):
    LOG.add("step")
    coroutine.send(None)
    with contextlib.suppress(StopIteration):
        coroutine.send(None)

def raises(function):
    LOG.add("raises")
    function(0)
    raise ValueError

def makes_class(function):
    LOG.add("makes_class")
    class Made:
        made = [function(each) for each in range(2)]
    return Made

SHARED = endless()
"""
STATEMENTS = (
    "{f}(0)",
    "for _ in range(40): deep(1)",
    "sorted([2, 1, 3], key={f})",
    "[{f}(each) for each in (1, 2)]",
    "any({f}(each) == 9 for each in (1, 2))",
    "list(map({f}, range(3)))",
    "thread = threading.Thread(target={f}, args=(0,)); thread.start(); thread.join()",
    "with contextlib.suppress(ValueError): raises({f})",
    "step(waits({f}))",
    "makes_class({f})",
    "functools.reduce(lambda one, other: {f}(one), range(3))",
    "next(SHARED)",
    "keep()",
    "for each in KEPT: each()",
    "deep(5)",
    "Base().value = Base().value",
    "sorted([Base(), Base()])",
    "with Base().opened(): {f}(0)",
)
TESTS = """
@pytest.mark.parametrize("way", range(4))
def test_{number}(way):
    LOG.clear()
    LOG.add("test_{number}")
    f0(way)
    pathlib.Path(f"log-test_{number}[{{way}}].json").write_text(json.dumps(sorted(LOG)))
"""


def program(random: Random, number: int) -> str:
    """A test file: a function calls only those after it, and each way takes other branches."""
    lines = [PRELUDE]
    for at in range(FUNCTIONS):
        lines += ["@decorated"] if random.random() < 0.2 else []
        lines += [f"def f{at}(way):", f"    LOG.add('f{at}')"]
        if at < FUNCTIONS - 1:
            for _ in range(2):
                called = f"f{random.randrange(at + 1, min(at + 4, FUNCTIONS))}"
                condition = f"    if way != {random.randrange(4)}:"
                lines += [condition, "        " + random.choice(STATEMENTS).format(f=called)]
        lines += ["    return 1"]
    return "\n".join([*lines, TESTS.format(number=number)])


def _check(python: str | Path, root: Path) -> None:
    (root / ".git").mkdir()
    random = Random(20)
    write(root, {f"test_{number}.py": program(random, number) for number in range(FILES)})
    assert f"{4 * FILES} passed" in run(python, root)
    seen = Records(root / "out")
    assert len(seen.tests) == 4 * FILES
    for test, line in seen.tests.items():
        logged = json.loads((root / f"log-{test}.json").read_text())
        assert sorted(block.partition("::")[2] for block in line["blocks"]) == logged, test


def test_what_ran_is_what_was_written_down(tmp_path: Path) -> None:
    _check(sys.executable, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_same_on_each_version(tmp_path: Path, version: str) -> None:
    _check(guest(version, "pytest"), tmp_path)
