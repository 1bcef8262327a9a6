"""Run the tests of a case with real pytest, and see what became of each."""

from __future__ import annotations

import json
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from table import Case, environment

# Loaded into pytest with -p. Writes lines of JSON: [path or node id with its absolute path, what happened].
PLUGIN = """
import json, os
def note(nodeid, what):
    path, *names = nodeid.split("::")
    with open(os.environ["SUITE_RUN"], "a") as file:
        print(json.dumps(["::".join([str(root / path), *names]), what]), file=file)
def pytest_configure(config):
    global root
    root = config.rootpath
def pytest_collectreport(report):
    if not report.passed: note(report.nodeid, "collection " + report.outcome)
def pytest_collection_finish(session):
    for item in session.items: note(item.nodeid, "selected")
def pytest_runtest_logreport(report):
    if report.when == "call" or not report.passed: note(report.nodeid, report.when + " " + report.outcome)
"""


class Run(NamedTuple):
    """All suites of a case: pytest's exit codes, what it selected (tests, and files it could not collect)
    and node id → outcome of the tests that ran. Paths and node ids are relative to the work tree's root."""

    codes: list[int]
    selected: set[str]
    outcomes: dict[str, str]


def root_of(case: Case, folder: Path) -> Path:
    """The root of the work tree in which the tool is called; `folder` is the case's repository."""
    return (folder / case.folder).resolve() if case.folder.startswith("..") else folder.resolve()


def run_pytest(case: Case, root: Path, python: str, options: Sequence[str] = (), suites: Sequence[str] = ()) -> Run:
    """Run pytest in each suite of a case, or in these, with an interpreter and options of pytest."""
    with tempfile.TemporaryDirectory() as name:
        site = Path(name)
        (site / "suite_run_plugin.py").write_text(PLUGIN)
        env = environment(case.env)
        env |= {
            # Python would not see an edit of the same length in the same second.
            "PYTHONDONTWRITEBYTECODE": "1",
            "SUITE_RUN": str(site / "lines"),
            "PATH": f"{site / 'bin'}:{env['PATH']}",
            "PYTHONPATH": ":".join(
                [name, *(source for project in case.installed for source in install(root / project, site))]
            ),
        }
        fixed = [
            "-p",
            "suite_run_plugin",
            "--continue-on-collection-errors",
            "-q",
            "-o",
            f"cache_dir={site / 'cache'}",
        ]
        command = [python, "-P", "-m", "pytest", *fixed, *options]
        codes = [
            subprocess.run(command, cwd=root / suite, env=env, capture_output=True, check=False).returncode
            for suite in suites or case.suites
        ]
        text = (site / "lines").read_text("utf-8") if (site / "lines").exists() else ""
    lines = [(path.removeprefix(f"{root}/"), what) for path, what in map(json.loads, text.splitlines())]
    selected = {path for path, what in lines if what in ("selected", "collection failed")}
    return Run(codes, selected, {path: what for path, what in lines if what != "selected"})


def install(project: Path, site: Path) -> list[str]:
    """Do what an editable install does: metadata into `site`, scripts into `site/bin`. Gives source roots."""
    config = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    name, version = config["project"]["name"], config["project"]["version"]
    scripts = config["project"].get("scripts", {})
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = {"console_scripts": scripts, **config["project"].get("entry-points", {})}
    (info / "entry_points.txt").write_text("".join(map(entry_points, groups, groups.values())))
    for script, where in scripts.items():
        module, _, function = where.partition(":")
        path = site / "bin" / script
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/usr/bin/env python3\nfrom {module} import {function}\n{function}()\n")
        path.chmod(0o755)
    found = config.get("tool", {}).get("setuptools", {}).get("packages", {}).get("find", {}).get("where")
    roots = found or (["src"] if (project / "src").is_dir() else ["."])
    return [str(project / root) for root in roots]


def entry_points(group: str, points: Mapping[str, str]) -> str:
    """A section of entry_points.txt."""
    return f"[{group}]\n" + "".join(f"{name} = {where}\n" for name, where in points.items())
