"""Under which decorators a body runs as Python whenever the function is called."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from greenline.ci.evidence.decorators import File, run_as_python

FILES = {
    "marks.py": """
import enum, functools, numba
from numba import njit
from far import far, compiled
seen = set()
class Kind(enum.Enum):
    ONE = enum.auto()
def plain(f):
    seen.add(f.__code__)
    return f
def wrapped(f: "F") -> "F":
    @functools.wraps(f)
    def call(*args, **kwargs):
        if args:
            result = f(*args, **kwargs)
            return result
    return call
def with_argument(kind: int = Kind.ONE):
    def decorate(f):
        f.kind = kind, Kind.ONE
        return wrapped(f)
    return decorate
def jitted(f):
    return numba.njit(f)
def through(f):
    return njit(f)
def hidden(f):
    import numba
    return numba.njit(f)
def evaluated(f):
    return eval("f", {"f": f})
made = with_argument()
if seen:
    def sometimes(f): return f
""",
    "far.py": "from other import compiled\ndef far(f): return f\n",
}


def find(path: str, value: tuple[Any, ...]) -> list[File]:
    name = f"{value[0]}.py"
    return [File(name, ast.parse(FILES[name]))] if name in FILES else []


def runs(decorator: str) -> bool:
    function = ast.parse(f"@{decorator}\ndef f(): pass").body[0]
    return run_as_python(function, File("marks.py", ast.parse(FILES["marks.py"])), find)


@pytest.mark.parametrize("decorator", ["plain", "wrapped", "with_argument(1)", "far", "staticmethod"])
def test_of_the_repository(decorator: str) -> None:
    assert runs(decorator)


@pytest.mark.parametrize(
    "decorator",
    [
        "njit",
        "numba.njit",
        "jitted",
        "through",
        "hidden",
        "evaluated",
        "made",
        "sometimes",
        "compiled",
        "nowhere",
    ],
)
def test_what_is_not_known(decorator: str) -> None:
    assert not runs(decorator)
