"""Processes that tests start: another Python is recorded too, all else is noted.

A command of this interpreter (`python x.py`, `python -m x`, `python -c …`, a script whose first line names it) is
started through child.py, with its options kept. No variable, no file in site-packages and no setting of the environment
is needed for it, so that a test sees the process that it asked for; only `sys.orig_argv` shows the difference.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pytest_greenline.recorder import Recorder

_getframe = sys._getframe  # tests take it away
CHILD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "child.py")
_CUT = 200
_VALUED = ("-W", "-X", "--check-hash-based-pycs")
_CWD, _ENV, _SHELL = 3, 4, 7  # of what follows (args, executable) in Popen._execute_child


def execute_child(recorder: Recorder) -> Callable[..., Any]:
    """`Popen._execute_child` that notes or changes the command. ``Popen.args`` stays as it was given."""
    original: Any = subprocess.Popen._execute_child  # type: ignore[attr-defined]

    def _execute_child(self: Any, args: Any, executable: Any, *rest: Any) -> Any:
        try:
            if recorder.counts_child(_getframe(1)):
                args = _told(recorder, args, executable, rest)
        except Exception as error:
            recorder.fail(error)
        return original(self, args, executable, *rest)

    return _execute_child


def _told(recorder: Recorder, args: Any, executable: Any, rest: Sequence[Any]) -> Any:
    words = [os.fsdecode(args)] if isinstance(args, (str, bytes, os.PathLike)) else [*map(os.fsdecode, args)]
    if executable is None and not rest[_SHELL]:
        cwd = os.fsdecode(rest[_CWD]) if rest[_CWD] is not None else os.getcwd()
        path = (rest[_ENV] if rest[_ENV] is not None else os.environ).get("PATH")
        found = recorded_command(words, cwd, path, recorder.ticket())
        if found is not None:
            return found
    note_command(recorder, words)
    return args


def note_command(recorder: Recorder, words: Sequence[str]) -> None:
    recorder.note(recorder.owner(), "children", json.dumps([word[:_CUT] for word in words]))


def system(recorder: Recorder) -> Callable[[Any], int]:
    original = os.system

    def system(command: Any) -> int:
        if recorder.counts_child(_getframe(1)):
            note_command(recorder, [os.fsdecode(command)])
        return original(command)

    return system


def spawn(recorder: Recorder, original: Callable[..., int]) -> Callable[..., int]:
    """`os.posix_spawn`, which takes (path, args, …)."""

    def spawned(path: Any, args: Any, *rest: Any, **options: Any) -> int:
        try:
            by_popen = _getframe(1).f_globals.get("__name__") == "subprocess"  # which was asked already
            if not by_popen and recorder.counts_child(_getframe(1)):
                words = [*map(os.fsdecode, args)]
                found = recorded_command([os.fsdecode(path), *words[1:]], os.getcwd(), None, recorder.ticket())
                if found is None:
                    note_command(recorder, words)
                else:
                    args = found if isinstance(args[0], str) else [*map(os.fsencode, found)]
        except Exception as error:
            recorder.fail(error)
        return original(path, args, *rest, **options)

    return spawned


def fork_exec(recorder: Recorder, original: Callable[..., int]) -> Callable[..., int]:
    """What multiprocessing starts processes with: it takes (args, paths, …)."""
    spawned = spawn(recorder, lambda path, args, *rest: original(args, [path], *rest))
    return lambda args, paths, *rest: spawned(paths[0], args, *rest)


def recorded_command(words: Sequence[str], cwd: str, path: str | None, ticket: dict[str, Any]) -> list[str] | None:
    """The command that runs the same under child.py, or None where it is not for this interpreter."""
    if not words:
        return None
    program = words[0] if os.path.dirname(words[0]) else shutil.which(words[0], path=path)
    program = os.path.join(cwd, program or "")
    if not _is_this_python(program):
        script = _script_of_this_python(program)
        if script is None:
            return None
        words = [*script, program, *words[1:]]
    at = 1
    while at < len(words) and words[at].startswith("-") and words[at] not in ("-", "-c", "-m"):
        if not words[at].startswith("--") and words[at][-1] in "cm" and words[at][1] not in "WX":
            return None  # `-Im pytest`: rare enough
        at += 2 if words[at] in _VALUED else 1
    rest = [*words[at:]]
    if not rest or rest[0] == "-" or set(words[1:at]) & {"-V", "-VV", "--version", "-h", "--help", "-i"}:
        return None
    kind = rest.pop(0) if rest[0] in ("-c", "-m") else "script"
    if not rest or (kind == "script" and not os.path.isfile(os.path.join(cwd, rest[0]))):
        return None
    return [words[0], *words[1:at], CHILD, json.dumps(ticket), kind, *rest]


def _is_this_python(program: str) -> bool:
    """Python knows its environment by the path that it was started with, so links count."""
    name = os.path.basename(program)
    if not name.startswith("python") or not os.path.exists(program):
        return False
    return os.path.realpath(program) == os.path.realpath(sys.executable)


def _script_of_this_python(program: str) -> list[str] | None:
    """The words of a script's first line, if they start this interpreter."""
    try:
        with open(program, "rb") as file:
            line = file.readline(1000)
    except OSError:
        return None
    if not line.startswith(b"#!"):
        return None
    words = os.fsdecode(line[2:].strip()).split(None, 1)
    return words if words and _is_this_python(words[0]) else None
