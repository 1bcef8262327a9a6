"""Ask the greenline command which tests a change can break, and read what it says."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from typing import NamedTuple

VERSION = 1


class NoAnswer(Exception):
    """Greenline is missing, failed or said what cannot be read: nothing is known about any test."""


class WrongUse(Exception):
    """Greenline refused what it was asked; the message is for the user."""


class Answer(NamedTuple):
    """What ``greenline affected --format json`` said. Paths are relative to ``root``, with "/" between.

    ``tests``: affected file → names of its affected tests ("test_x", "TestC::test_m"), or None for all.
    ``likely_first``: the order of ``tests`` is that in which they should run.
    ``unaffected``: the other test files that greenline knows. ``everything``: why all are affected, or None.
    """

    root: str
    tests: dict[str, tuple[str, ...] | None]
    unaffected: frozenset[str]
    everything: str | None
    base: str
    warnings: list[str]
    likely_first: bool = False


def ask(folder: str, base: str | None) -> str:
    """The answer for the repository of ``folder``, as JSON text. Raises NoAnswer and WrongUse."""
    command, environment = _find_greenline()
    command += ["affected", "--format", "json", *(["--base", base] if base else [])]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise NoAnswer(f"{command[0]}: {error.strerror}") from None
    said = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode == 2 and "internal error" not in said:
        message = said.removeprefix("greenline: ")
        raise WrongUse(message.replace("--base", "--affected-base") if base else message)
    if done.returncode != 0:
        last = said.splitlines()[-1:] or ["it said nothing"]
        raise NoAnswer(f"{shlex.join(command)} failed with exit code {done.returncode}: {last[0]}")
    return done.stdout.decode("utf-8", "replace")


def _find_greenline() -> tuple[list[str], dict[str, str]]:
    """The command, and the environment that it needs. Raises NoAnswer."""
    environment = dict(os.environ)
    named = os.environ.get("GREENLINE")
    beside = os.path.dirname(sys.executable or "")
    found = named or (beside and shutil.which("greenline", path=beside)) or shutil.which("greenline")
    if found:
        # The command brings its own Python: PYTHONPATH is meant for this one.
        environment.pop("PYTHONPATH", None)
        return [found] if os.path.exists(found) else shlex.split(found), environment
    spec = importlib.util.find_spec("greenline")
    for folder in (spec and spec.submodule_search_locations) or ():
        if os.path.exists(os.path.join(folder, "tools", "cli", "main.py")):
            code = "from greenline.tools.cli.main import main; main()"
            return [sys.executable, "-P", "-c", code], environment
    raise NoAnswer("there is no greenline command: install greenline, or name the command in $GREENLINE")


def read_file(path: str) -> str:
    """The JSON text that a file holds. Raises NoAnswer."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise NoAnswer(f"{path}: {error.strerror}") from None


def read(text: str) -> Answer:
    """The answer in JSON text. Raises NoAnswer."""
    try:
        said = json.loads(text)
        if said["version"] != VERSION:
            raise NoAnswer(
                f"greenline speaks version {said['version']} of its format, pytest-greenline version"
                f" {VERSION}: update the older one"
            )
        return Answer(
            root=os.path.realpath(said["root"]),
            tests={test["path"]: _names(test["path"], test["nodeids"]) for test in said["tests"]},
            unaffected=frozenset(said["unaffected"]),
            everything=said["everything"],
            base=f"base {said['base'][:7]}, {said['base_how']}" if said["base"] else said["base_how"],
            warnings=list(said["warnings"]),
            likely_first=bool(said.get("likely_first")),
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise NoAnswer(f"greenline's answer cannot be read: {type(error).__name__}: {error}") from None


def _names(path: str, node_ids: list[str] | None) -> tuple[str, ...] | None:
    return None if node_ids is None else tuple(node_id[len(path) + 2 :] for node_id in node_ids)
