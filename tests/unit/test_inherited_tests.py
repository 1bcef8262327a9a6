"""The tests of a file by name, inherited ones included, against what pytest collects."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from greenline.ci.evidence.inherited import Files, node_ids

CASES = 60
PREFIXES = (("test",), ("Test",))
BODIES = (
    "    def test_a(self):\n        pass\n",
    "    def test_b(self):\n        pass\n",
    "    def helper(self):\n        pass\n",
    "    value = 1\n",
    "    test_a = None\n",
    "    __test__ = False\n",
    "    __test__ = True\n",
    "    def __init__(self, *args):\n        super().__init__(*args)\n",
    "    @property\n    def shown(self):\n        return 1\n",
)
WEIGHTS = (6, 6, 4, 4, 1, 1, 1, 1, 2)


def body(random: Random) -> str:
    chosen = dict.fromkeys(random.choices(BODIES, WEIGHTS, k=random.randrange(4)))
    return "".join(chosen) or "    pass\n"


def bases(random: Random, known: list[str], test_case: bool) -> str:
    """Up to two bases, of which none is above the other: Python finds no order for some of them."""
    found = random.sample(known, min(len(known), random.randrange(2)))
    return ", ".join([*found, *(["unittest.TestCase"] if test_case and not found else [])])


def case(random: Random, folder: Path) -> None:
    """Two files with base classes, one that gives their classes other names, and a test file."""
    folder.mkdir()
    name = folder.name
    (folder / "__init__.py").touch()
    low = ["Low", "LowTest", "TestLow"]
    text = "import unittest\n\n\n"
    for at, each in enumerate(low):
        text += f"class {each}({bases(random, low[:at], random.random() < 0.2)}):\n{body(random)}\n\n"
    (folder / "low.py").write_text(text)
    (folder / "shared.py").write_text(
        f"from {name}.low import *\nfrom .low import Low as Other\nimport {name}.low\n\n\n"
        f"class High({random.choice(['Other', 'LowTest', f'{name}.low.TestLow'])}):\n{body(random)}"
    )
    given = {
        f"from {name}.shared import High": "High",
        f"from {name} import low": "low.LowTest",
        f"import {name}.low as renamed": "renamed.Low",
        "from .shared import Other as Third": "Third",
        f"from {name}.shared import TestLow": "TestLow",
        "import unittest": "unittest.TestCase",
    }
    lines = random.sample(sorted(given), random.randrange(1, 5))
    text = "\n".join(lines) + "\n\n\n"
    for at in range(random.randrange(1, 4)):
        own = random.choice(["Test", "Case"]) + str(at)
        text += f"class {own}({given[random.choice(lines)]}):\n{body(random)}\n\n"
    (folder / "test_case.py").write_text(text + "def test_plain():\n    pass\n")


def collected(root: Path) -> dict[str, set[str]]:
    """Folder → the tests that pytest finds in its test file."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "--rootdir", str(root)]
    options = ["-c", str(root / "pytest.ini"), "-W", "ignore"]
    done = subprocess.run([*command, *options], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    found: dict[str, set[str]] = {}
    for line in done.stdout.splitlines():
        if "::" in line:
            path, _, name = line.partition("::")
            found.setdefault(path.partition("/")[0], set()).add(name)
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inherited")
    (root / "pytest.ini").write_text("[pytest]\npythonpath = .\npython_files = test_case.py\n")
    for number in range(CASES):
        case(Random(number), root / f"case{number}")
    return root


def test_every_test_that_pytest_collects_is_named(root: Path) -> None:
    def read(path: str) -> bytes | None:
        return (root / path).read_bytes() if (root / path).is_file() else None

    def imported(path: str, module: str) -> str | None:
        dots = len(module) - len(module.lstrip("."))
        parts = [*(path.split("/")[:-1] if dots else []), *filter(None, module.lstrip(".").split("."))]
        here = "/".join(parts)
        return next((each for each in (f"{here}.py", f"{here}/__init__.py") if read(each) is not None), None)

    truth, files = collected(root), Files(read, imported)
    named = {folder: node_ids(f"{folder}/test_case.py", files, PREFIXES) for folder in truth}
    wrong = {folder: (sorted(truth[folder]), ids) for folder, ids in named.items() if ids and set(ids) != truth[folder]}
    assert not wrong
    assert len(truth) == CASES and sum(ids is None for ids in named.values()) < CASES / 3


@pytest.mark.parametrize(
    "files",
    [
        {"a.py": "from b import *\nclass Base(Base): pass\n", "b.py": "from a import *\n"},
        {"a.py": "from b import Base\n", "b.py": "from a import Base\n"},
        {"a.py": "from b import *\nfrom a import *\n", "b.py": "from a import *\nfrom b import *\n"},
        {"a.py": "class Base(make(), metaclass=Meta):\n    exec('')\n"},
        {"a.py": "class Base:\n    locals()['test_made'] = print\n"},
        {"a.py": "def Base():\n    pass\n"},
        {"a.py": "class Base\n"},
    ],
)
def test_what_no_reader_can_follow_has_no_names(files: dict[str, str]) -> None:
    def read(path: str) -> bytes | None:
        return files[path].encode() if path in files else None

    files["test_a.py"] = "from a import Base\n\n\nclass TestOne(Base):\n    def test_own(self):\n        pass\n"
    modules = Files(read, lambda _, module: f"{module}.py" if f"{module}.py" in files else None)
    assert node_ids("test_a.py", modules, PREFIXES) is None
    assert node_ids("missing.py", modules, PREFIXES) is None
