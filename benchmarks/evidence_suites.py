"""The suites that evidence is measured on, and environments for them. Named before anything was measured."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import trees

PLUGIN = Path(__file__).parents[1] / "tools" / "pytest_greenline"
COMMON = ("pytest==8.3.5", "pytest-timeout==2.3.1", "coverage==7.10.7")


class Suite(NamedTuple):
    """A library whose source distribution holds its tests, which run offline.

    ``needs``: what the tests import; ``source``: the folder that goes on sys.path; ``arguments``: what pytest is given.
    """

    library: str
    needs: tuple[str, ...]
    source: str
    arguments: tuple[str, ...]


SUITES = {
    "werkzeug": Suite(
        "werkzeug==3.0.6",
        ("pytest-xprocess==0.23.0", "ephemeral-port-reserve==1.1.4", "cryptography==44.0.2", "watchdog==6.0.0"),
        "src",
        ("tests", "--ignore=tests/test_serving.py"),  # it starts servers, and each takes seconds
    ),
    "jinja2": Suite("jinja2==3.1.6", ("trio==0.29.0",), "src", ("tests",)),
    "click": Suite("click==8.1.8", (), "src", ("tests",)),
    # calls and little else: the hardest case for whoever watches calls
    "mpmath": Suite("mpmath==1.3.0", (), ".", ("mpmath/tests/test_basic_ops.py", "mpmath/tests/test_functions.py",
                    "mpmath/tests/test_linalg.py", "mpmath/tests/test_interval.py")),
}  # fmt: skip


def tree_of(name: str) -> Path:
    """The unpacked library, a git repository with one commit."""
    folder = trees.BUILD / "evidence" / name / "tree"
    if not folder.exists():
        trees.source_distribution(SUITES[name].library, folder)
    return folder


def python_of(name: str, python: str) -> Path:
    """The Python of a virtual environment for a suite, made with this interpreter: with the plugin, the
    library itself only as its dependencies."""
    version = subprocess.check_output([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], text=True)
    folder = trees.BUILD / "environments" / f"evidence-{name}-{version.strip()}"
    suite = SUITES[name]
    wanted = "\n".join((*COMMON, suite.library, *suite.needs))
    done = folder / "requirements.txt"
    if not done.exists() or done.read_text("utf-8") != wanted:
        subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(folder / "bin" / "python"), *trees.PIP, "install", "--quiet", *wanted.split(), "-e", str(PLUGIN)]
        subprocess.run(install, check=True)
        done.write_text(wanted, "utf-8")
    return folder / "bin" / "python"


def environment_of(name: str, *path: Path) -> dict[str, str]:
    folders = (*map(str, path), str(tree_of(name) / SUITES[name].source))
    return trees.environment() | {"PYTHONPATH": os.pathsep.join(folders), "PYTHONHASHSEED": "0"}


def pythons(given: list[str] | None) -> list[str]:
    """The interpreters to measure with: those given, else this one."""
    return given or [sys.executable]
