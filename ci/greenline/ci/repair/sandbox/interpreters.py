"""What a sandbox must show of a Python environment so that the tests can run in it."""

from __future__ import annotations

import glob
import os


def readable_of(python: str, home: str) -> tuple[str, ...]:
    """The folders of the environment that a python program belongs to, and where its ``.pth`` files lead.

    Folders in ``home``, the user's own checkout, are left out, but for the environment itself: tests take first-party
    code from theirs, and what git ignores there is nobody's business.
    """
    environment = os.path.dirname(os.path.dirname(os.path.abspath(python)))
    if not os.path.exists(os.path.join(environment, "pyvenv.cfg")):
        return (os.path.dirname(os.path.dirname(os.path.realpath(python))),)
    base = base_of(environment)
    found = [environment, *([base] if base else [])]
    for file in sorted(glob.glob(os.path.join(glob.escape(environment), "lib*", "python*", "site-packages", "*.pth"))):
        with open(file, encoding="utf-8", errors="replace") as lines:
            for line in map(str.strip, lines):
                if os.path.isabs(line) and os.path.isdir(line) and not _is_in(line, home):
                    found.append(os.path.normpath(line))
    return tuple(dict.fromkeys(found))


def base_of(environment: str) -> str | None:
    """The folder of the interpreter that a virtual environment is made from; None: this is no such environment."""
    try:
        with open(os.path.join(environment, "pyvenv.cfg"), encoding="utf-8", errors="replace") as file:
            lines = (line.partition("=") for line in file)
            home = next((value.strip() for name, _, value in lines if name.strip() == "home"), "")
    except OSError:
        return None
    base = os.path.dirname(os.path.realpath(home)) if os.path.isabs(home) else "/"
    return base if base != "/" else None


def _is_in(path: str, folder: str) -> bool:
    real = os.path.realpath(path)
    return real == os.path.realpath(folder) or real.startswith(os.path.realpath(folder) + os.sep)
