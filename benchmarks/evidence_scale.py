"""Size of the store and time of an answer for 100,000 tests that ran 500 blocks each.

    make bench-evidence-scale [ARGS="--tests 100000"]

A repository of modules with ten functions each and of test files with twenty tests each is made below build/, with
records made up in two ways: *uniform*, every block equally often, which compresses worst, and *zipf*, the n-th block
n times more seldom than the first. Then 50 functions in 50 modules are edited, and `greenline affected` is timed as a
whole process: CPU time, the best of five. Goals: 300 MB, 0.5 s.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from random import Random

from pyroaring import BitMap
from sqlalchemy import insert

from greenline.ci.evidence import forms
from greenline.ci.evidence.forms import Entry
from greenline.ci.evidence.sharpen import variant_of
from greenline.ci.evidence.tables import FACT, FILE, SUITE
from greenline.ci.store import open_store
from greenline.depgraph.config import Config
from greenline.depgraph.workspace import find

BLOCKS_OF_A_TEST = 500
TESTS_OF_A_FILE = 20
FUNCTIONS_OF_A_MODULE = 10
EDITED = 50
MOST_BYTES = 300_000_000
MOST_SECONDS = 0.5
BUILD = Path(__file__).parent.parent / "build" / "evidence_scale"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, default=100_000)
    parser.add_argument("--blocks", type=int, default=50_000)
    args = parser.parse_args()
    passed = True
    print(f"{'':8} {'store':>10} {'goal':>10} {'selected':>10} {'time':>8} {'goal':>8}")
    for kind in ("uniform", "zipf"):
        root = make_repository(args.tests, args.blocks)
        fill(root, kind, args.tests, args.blocks)
        size = sum(path.stat().st_size for path in (root / ".greenline" / "store").glob("*.db*"))
        edit(root, args.blocks)
        command = [
            str(Path(sys.executable).with_name("greenline")),
            "affected",
            "--base",
            "HEAD",
            "--format",
            "nodeids",
        ]
        seconds, selected = min(ask(command, root) for _ in range(5))
        passed = passed and size <= MOST_BYTES and seconds <= MOST_SECONDS
        line = f"{kind:8} {size / 1e6:7,.0f} MB {MOST_BYTES / 1e6:7,.0f} MB"
        print(f"{line} {selected:10,} {seconds:6.2f} s {MOST_SECONDS:6.2f} s", flush=True)
    return 0 if passed else 1


def ask(command: list[str], root: Path) -> tuple[float, int]:
    """User and system time of the process and of those that it starts, which a busy machine does not stretch."""
    before = os.times()
    done = subprocess.run(command, cwd=root, capture_output=True, check=True)
    after = os.times()
    seconds = after.children_user - before.children_user + after.children_system - before.children_system
    return seconds, done.stdout.count(b"\n")


def make_repository(tests: int, blocks: int) -> Path:
    """The repository at its base commit, without a store."""
    root = BUILD / f"{tests}-{blocks}"
    if not (root / ".git").exists():
        shutil.rmtree(root, ignore_errors=True)
        for number in range(blocks // FUNCTIONS_OF_A_MODULE):
            body = "".join(f"def f{at}():\n    return {at}\n\n\n" for at in range(FUNCTIONS_OF_A_MODULE))
            write(root / module_path(number), body)
        for number in range(tests // TESTS_OF_A_FILE):
            names = "".join(f"def test_{at}():\n    assert m.f1()\n\n\n" for at in range(TESTS_OF_A_FILE))
            module = module_path(number % (blocks // FUNCTIONS_OF_A_MODULE))[:-3].replace("/", ".")
            write(root / test_path(number), f"import {module} as m\n\n\n{names}")
        write(root / "pyproject.toml", '[tool.pytest.ini_options]\npythonpath = ["."]\n')
        write(root / ".gitignore", ".greenline\n")
        for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "base"]):
            git(root, *arguments)
    git(root, "checkout", "-q", ".")
    shutil.rmtree(root / ".greenline" / "store", ignore_errors=True)
    return root


def module_path(number: int) -> str:
    return f"lib/p{number // 100}/m{number}.py"


def test_path(number: int) -> str:
    return f"tests/p{number // 100}/test_{number}.py"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.org"]
    done = subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout


def edit(root: Path, blocks: int) -> None:
    """Another body for one function in each of 50 modules, spread over the most and the least used."""
    modules = blocks // FUNCTIONS_OF_A_MODULE
    for number in range(0, modules, max(1, modules // EDITED))[:EDITED] if modules >= EDITED else range(modules):
        path = root / module_path(number)
        path.write_text(path.read_text().replace("return 7\n", "return 77\n"))


def fill(root: Path, kind: str, tests: int, blocks: int) -> None:
    """A store in which every test ran so many blocks."""
    workspace = find(str(root))
    engine = open_store(workspace, Config())
    with engine.begin() as connection:
        values = {
            "suite": ".",
            "variant": variant_of(str(root), ""),
            "commit_id": git(root, "rev-parse", "HEAD").strip(),
        }
        values |= {"dirty": forms.pack({}), "next_number": tests, "alive": forms.dump(BitMap(range(tests)))}
        connection.execute(insert(SUITE).values(**values, runs=1, updated=time.time()))
        connection.execute(insert(FILE), [file_row(number) for number in range(tests // TESTS_OF_A_FILE)])
        rows = []
        for number, records in enumerate(ran(kind, tests, blocks)):
            path = module_path(number // FUNCTIONS_OF_A_MODULE)
            name = f"f{number % FUNCTIONS_OF_A_MODULE}"
            rows.append(
                {"suite_id": 1, "kind": forms.BLOCK, "path": path, "name": name, "records": forms.dump(records)}
            )
            if len(rows) == 1000:
                connection.execute(insert(FACT), rows)
                rows.clear()
        if rows:
            connection.execute(insert(FACT), rows)
    engine.dispose()


def file_row(number: int) -> dict[str, object]:
    first = number * TESTS_OF_A_FILE
    numbers = BitMap(range(first, first + TESTS_OF_A_FILE))
    entries = {f"test_{at}": Entry(((first + at, f"{at:016x}"),), "passed", 0.01, 0) for at in range(TESTS_OF_A_FILE)}
    return {
        "suite_id": 1, "path": test_path(number), "records": forms.dump(numbers), "newest": forms.dump(numbers),
        "known": TESTS_OF_A_FILE, "complete": True, "tests": forms.pack_entries(entries),
    }  # fmt: skip


def ran(kind: str, tests: int, blocks: int) -> Iterator[BitMap]:
    """For each block the tests that ran it."""
    random = Random(7)
    pairs = tests * BLOCKS_OF_A_TEST
    if kind == "uniform":
        sizes = [pairs // blocks] * blocks
    else:
        low, high = 0.0, float(pairs)
        for _ in range(60):
            scale = (low + high) / 2
            total = sum(min(tests, scale / (rank + 1)) for rank in range(blocks))
            low, high = (scale, high) if total < pairs else (low, scale)
        sizes = [int(min(tests, low / (rank + 1))) for rank in range(blocks)]
        random.shuffle(sizes)
    for size in sizes:
        found = BitMap(range(tests)) if size >= tests else BitMap()
        while len(found) < size:
            drawn = array("I", random.randbytes(4 * (size - len(found))))
            found.update(number % tests for number in drawn)
        yield found


if __name__ == "__main__":
    os.environ.pop("GREENLINE_STORE", None)
    sys.exit(main())
