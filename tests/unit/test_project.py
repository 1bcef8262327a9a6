"""What is published: the two wheels, and that the ways to install, check and test agree with each other."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
GUEST = ROOT / "tools" / "pytest_greenline"


def project(folder: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    return table


def build(folder: Path, target: Path) -> dict[str, str]:
    """The text files of a project's wheel, by path."""
    (wheel,) = WheelBuilder(str(folder)).build(directory=str(target), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name).decode("utf-8") for name in archive.namelist()}


def test_the_wheel(tmp_path: Path) -> None:
    files = build(ROOT, tmp_path)
    top = {name.partition("/")[0] for name in files}
    assert top == {"greenline", f"greenline-{project(ROOT)['version']}.dist-info"}
    assert "greenline/__init__.py" not in files
    rooms = {name.split("/")[1] for name in files if name.startswith("greenline/")}
    assert rooms == {"depgraph", "rules", "ci", "tools"}
    for room in rooms:
        assert f"greenline/{room}/py.typed" in files
        sources = {
            path.relative_to(ROOT / room).as_posix()
            for path in (ROOT / room / "greenline").rglob("*")
            if path.is_file() and path.suffix in (".py", ".json", ".typed", ".html", ".css", ".js")
        }
        assert sources <= set(files)
    (entry_points,) = (text for name, text in files.items() if name.endswith("entry_points.txt"))
    assert "greenline = greenline.tools.cli.main:main" in entry_points


def test_the_wheel_of_the_guest(tmp_path: Path) -> None:
    files = build(GUEST, tmp_path)
    assert {name.partition("/")[0] for name in files if ".dist-info" not in name} == {"pytest_greenline"}
    assert "pytest_greenline/plugin.py" in files
    (entry_points,) = (text for name, text in files.items() if name.endswith("entry_points.txt"))
    assert "[pytest11]\ngreenline = pytest_greenline.plugin" in entry_points
    assert project(GUEST)["dependencies"] == ["pytest"]


def test_both_distributions_have_one_version() -> None:
    version = project(GUEST)["version"]
    assert version == project(ROOT)["version"]
    assert f"pytest-greenline=={version}" in project(ROOT)["dependencies"]


MODULES = {
    "gitpython": "git",
    "pyyaml": "yaml",
    "pygithub": "github",
    "pytest-greenline": "pytest_greenline",
}
NOT_IMPORTED = {"pytest-xdist", "ruff"}  # they run as commands, or as a plugin
OPTIONAL = {"ray"}  # extras that are imported where they are needed
ELSEWHERE = "probe_plugin.py"  # runs in the environment of the user's tests


INJECTED = {"probe_plugin.py"}  # runs in the user's environment, with the user's pytest


def third_party_imports() -> set[str]:
    """Top-level modules that the rooms import and that are neither ours nor the standard library's."""
    found: set[str] = set()
    for file in (
        file
        for room in ("depgraph", "rules", "ci", "tools")
        for file in (ROOT / room / "greenline").rglob("*.py")
        if file.name not in INJECTED
    ):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))) if file.name != ELSEWHERE else ():
            if isinstance(node, ast.Import):
                found.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"greenline"}


def test_what_is_imported_is_what_is_declared() -> None:
    declared = {name for line in project(ROOT)["dependencies"] for name in re.findall(r"^[\w-]+", line)}
    modules = {MODULES.get(name, name) for name in declared - NOT_IMPORTED}
    assert modules == third_party_imports() - OPTIONAL


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z%-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))


@pytest.mark.parametrize("path", [".github/workflows/ci.yml", ".ci/run"])
def test_ci_calls_targets_that_exist(path: str) -> None:
    called = set(re.findall(r"(?:^|- run: )make ([a-z-]+)", (ROOT / path).read_text("utf-8"), re.M))
    assert called >= {"setup", "lint", "test"}
    assert called <= make_targets()


def test_every_target_is_listed_in_the_help() -> None:
    listed = set(re.findall(r"^([a-z%-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.M))
    assert listed == make_targets()


def test_ci_runs_the_supported_pythons() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    classifiers = project(ROOT)["classifiers"]
    supported = [line.rpartition(" :: ")[2] for line in classifiers if re.search(r"Python :: 3\.\d+$", line)]
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == supported
    assert project(ROOT)["requires-python"] == f">={supported[0]}"
    assert workflow["permissions"] == {"contents": "read"}
