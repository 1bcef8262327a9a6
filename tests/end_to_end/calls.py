"""Call real pytest and the real greenline command, and read what they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from guests import guest

GREENLINE = Path(sys.executable).with_name("greenline")


class Call(NamedTuple):
    """A finished call: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def passed(self) -> set[str]:
        """The node ids that pytest, called with -rA, lists as passed."""
        return set(re.findall(r"^PASSED (.*)$", self.out, re.MULTILINE))


def call(folder: Path, *command: object, **environment: str) -> Call:
    """Run a command in a folder, with these variables added to the environment."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=surroundings(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    return Call(done.returncode, done.stdout, done.stderr)


def surroundings(added: Mapping[str, str]) -> dict[str, str]:
    """This environment without what calls of pytest and active environments would leave to their children."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    for name in ("VIRTUAL_ENV", "GREENLINE", "PYTHONPATH", "COLUMNS"):
        environment.pop(name, None)
    return {**environment, "PWD": "", "PYTHONDONTWRITEBYTECODE": "1", **added}


def run_pytest(folder: Path, *arguments: object, **environment: str) -> Call:
    """pytest in an environment where greenline is not, but on the PATH; all outcomes are in its summary."""
    path = f"{GREENLINE.parent}{os.pathsep}{os.environ['PATH']}"
    return call(folder, guest(), "-m", "pytest", "-rA", *arguments, **{"PATH": path, **environment})


def run_affected(folder: Path, *arguments: object, **environment: str) -> Call:
    """`pytest --affected`."""
    return run_pytest(folder, "--affected", *arguments, **environment)


def script(path: Path, text: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path
