"""Run a program with a time limit, and end all of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

TIMED_OUT = 124
"""Exit code of what ran past its limit, as that of timeout(1)."""


class Finished(NamedTuple):
    """``code``: the exit code, negative for a signal; ``out``: stdout and stderr together; ``seconds``: it took."""

    code: int
    out: str
    seconds: float


Runner = Callable[[Sequence[str], str, float, Mapping[str, str], Sequence[str]], Finished]
"""(command, folder, seconds it may take, the whole environment, folders it writes into) → how it went."""


def run_here(
    command: Sequence[str], folder: str, timeout: float, environment: Mapping[str, str], _writable: Sequence[str] = ()
) -> Finished:
    """Run a command in a process group of its own, which is killed at the end: nothing outlives its probe."""
    start = time.monotonic()
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return Finished(127, f"cannot start {command[0]}: {error.strerror}", 0.0)
    try:
        out, _ = process.communicate(timeout=timeout)
        code = process.returncode
    except subprocess.TimeoutExpired:
        _kill(process)
        out, _ = process.communicate()
        code = TIMED_OUT
    finally:
        _kill(process)
    return Finished(code, out.decode("utf-8", "backslashreplace"), time.monotonic() - start)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
