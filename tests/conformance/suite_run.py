"""Run the tests of a case with real pytest, and see the outcome of each."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path

from table import Case, environment

# Loaded into pytest with -p: one line of JSON for each phase of each test, and for each file that cannot be collected.
OUTCOMES_PLUGIN = '''
import json, os
def _note(report, outcome):
    path, *names = report.nodeid.split("::")
    with open(os.environ["OUTCOMES"], "a") as file:
        print(json.dumps(["::".join([str(_root / path), *names]), outcome]), file=file)
def pytest_configure(config):
    global _root
    _root = config.rootpath
def pytest_collectreport(report):
    if not report.passed: _note(report, "collection " + report.outcome)
def pytest_runtest_logreport(report):
    if report.when == "call" or not report.passed: _note(report, report.when + " " + report.outcome)
'''


def root_of(case: Case, folder: Path) -> Path:
    """The root of the work tree in which the tool is called."""
    return (folder / case.folder).resolve() if case.folder.startswith("..") else folder.resolve()


def outcomes(case: Case, root: Path, scratch: Path, python: str, options: Sequence[str] = ()) -> dict[str, str]:
    """Node id (relative to `root`) → outcome, of every test of every suite. `scratch`: a folder for this run."""
    env = prepare(case, root, scratch)
    for suite in case.suites:
        command = [python, "-P", "-m", "pytest", "-p", "outcomes_plugin", "-p", "no:cacheprovider", "-q",
                   "--continue-on-collection-errors", *options]
        subprocess.run(command, cwd=root / suite, env=env, capture_output=True, check=False)
    lines = (scratch / "outcomes").read_text("utf-8").splitlines() if (scratch / "outcomes").exists() else []
    return {name.removeprefix(f"{root}/"): outcome for name, outcome in map(json.loads, lines)}


def prepare(case: Case, root: Path, scratch: Path) -> dict[str, str]:
    """The environment in which the case's projects are installed; `$OUTCOMES` is where outcomes will be written."""
    scratch.mkdir()
    (scratch / "outcomes_plugin.py").write_text(OUTCOMES_PLUGIN)
    sources = [str(source) for project in case.installed for source in install(root / project, scratch)]
    env = environment()
    return env | {
        "OUTCOMES": str(scratch / "outcomes"),
        "PATH": f"{scratch / 'bin'}:{env['PATH']}",
        "PYTHONPATH": ":".join([str(scratch), *sources]),
    }


def install(project: Path, site: Path) -> list[Path]:
    """What an editable install does: metadata into `site`, scripts into `site/bin`. Returns the source roots."""
    config = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    metadata = config["project"]
    info = site / f"{metadata['name'].replace('-', '_')}-{metadata['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {metadata['name']}\nVersion: {metadata['version']}\n")
    groups = {"console_scripts": metadata.get("scripts", {}), **metadata.get("entry-points", {})}
    lines = [f"[{group}]\n" + "".join(f"{name} = {where}\n" for name, where in group_points.items())
             for group, group_points in groups.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    for name, where in groups["console_scripts"].items():
        module, _, function = where.partition(":")
        script = site / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/usr/bin/env python3\nfrom {module} import {function}\n{function}()\n")
        script.chmod(0o755)
    found = config.get("tool", {}).get("setuptools", {}).get("packages", {}).get("find", {}).get("where")
    return [project / root for root in found or (["src"] if (project / "src").is_dir() else ["."])]
