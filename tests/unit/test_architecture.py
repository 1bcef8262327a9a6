"""What each room gives, what the guest and start-up may not import. The rooms' one direction, tools → ci → rules →
depgraph, is a rule of our own greenline.yaml, which `greenline check` judges (tests/end_to_end)."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("depgraph", "rules", "ci", "tools")
GUEST = ROOT / "tools" / "pytest_greenline" / "pytest_greenline"


def imported_modules(code: str, package: str) -> Iterator[str]:
    """Absolute dotted names that a module of `package` imports; `from a import b` gives a and a.b."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def outside(code: str, package: str) -> list[str]:
    """What is neither of the standard library, nor pytest, nor the guest itself."""
    allowed = sys.stdlib_module_names | {"pytest", "_pytest", "pytest_greenline"}
    return sorted({name.partition(".")[0] for name in imported_modules(code, package)} - allowed)


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def test_each_room_gives_one_subpackage_and_nothing_else() -> None:
    for room in ROOMS:
        assert {path.name for path in (ROOT / room / "greenline").iterdir()} - {"__pycache__"} == {room}
        assert not (ROOT / room / "greenline" / "__init__.py").exists()


def test_the_guest_needs_only_pytest() -> None:
    files = files_of(GUEST)
    assert files
    found = {file.name: outside(file.read_text("utf-8"), "pytest_greenline") for file in files}
    assert {name: names for name, names in found.items() if names} == {}


def test_a_foreign_import_of_the_guest_is_seen() -> None:
    assert outside("import os, click\nfrom greenline.depgraph import graph", "pytest_greenline") == [
        "click",
        "greenline",
    ]
    assert outside("from . import plugin\nfrom _pytest.config import Config", "pytest_greenline") == []


HEAVY = ("networkx", "git", "sqlalchemy", "libcst", "pytest", "jsonschema")


@pytest.mark.parametrize("module", ["greenline.tools.cli.main", "greenline.tools.cli.affected"])
def test_start_up_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_no_file_names_a_path_of_a_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    folders = {ROOT, Path.home()} - {Path("/"), Path(tempfile.gettempdir())}
    machine = re.compile("|".join(re.escape(f"{folder}/") for folder in sorted(folders)))
    found = []
    for path in listed.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]:
        file = ROOT / path
        if file.is_file() and machine.search(file.read_bytes().decode("utf-8", "replace")):
            found.append(path)
    assert found == []
