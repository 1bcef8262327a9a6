"""Test environments of users: another Python, other versions of pytest, the guest plugin and no greenline."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[2] / "tools" / "pytest_greenline"


@pytest.fixture(scope="session")
def guest_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Makes a virtual environment with the plugin: (Python version, pytest requirement) → its folder."""

    @cache
    def make(version: str, requirement: str) -> Path:
        python = find_python(version)
        if python is None:
            pytest.skip(f"Python {version} is not here")
        folder = tmp_path_factory.mktemp("guest") / "environment"
        beside = str(Path(sys.executable).parent)
        uv = shutil.which("uv", path=f"{beside}{os.pathsep}{os.environ['PATH']}")
        if uv:
            run(uv, "venv", "--quiet", "--python", python, folder)
            run(uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", PLUGIN, requirement)
        else:
            run(python, "-m", "venv", folder)
            run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", PLUGIN, requirement)
        return folder

    return make


def find_python(version: str) -> str | None:
    """A Python of this version that pyenv or the PATH has and that starts."""
    installed = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = [*sorted(installed.glob(f"{version}.*/bin/python")), shutil.which(f"python{version}")]
    for python in found:
        if (
            python
            and subprocess.run([python, "-c", "import venv"], capture_output=True, check=False).returncode
            == 0
        ):
            return str(python)
    return None


def run(*command: object) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
