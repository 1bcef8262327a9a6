"""Test environments of users: another Python, another pytest, the guest plugin and no greenline."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[2] / "tools" / "pytest_greenline"


CURRENT = "{}.{}".format(*sys.version_info)


@cache
def guest(version: str = CURRENT, *requirements: str) -> Path:
    """The Python of a virtual environment with the plugin and these distributions; made once per process.

    Without arguments: the newest pytest and pytest-xdist. Skips the test where this Python version is not here.
    """
    python = find_python(version)
    if python is None:
        pytest.skip(f"Python {version} is not here")
    folder = Path(tempfile.mkdtemp(prefix="greenline-guest-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    wanted = (PLUGIN, *(requirements or ("pytest", "pytest-xdist")))
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv:
        run(uv, "venv", "--quiet", "--clear", "--python", python, folder)
        run(uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", *wanted)
    else:
        run(python, "-m", "venv", folder)
        run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", *wanted)
    return folder / "bin" / "python"


def find_python(version: str) -> str | None:
    """A Python of this version, with venv, that pyenv or the PATH has."""
    if version == CURRENT:
        return sys.executable
    installed = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for python in (*sorted(installed.glob(f"{version}.*/bin/python")), shutil.which(f"python{version}")):
        if python and subprocess.run([python, "-c", "import venv"], capture_output=True).returncode == 0:
            return str(python)
    return None


def run(*command: object) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
