"""Whether a decorator touches nothing but what it decorates."""

from __future__ import annotations

import ast

import pytest

from greenline.ci.evidence.decorators import File
from greenline.ci.evidence.quiet import is_quiet

MODULES = {
    "marks": """
import functools
from functools import update_wrapper, wraps
from inspect import iscoroutinefunction as is_async
TABLE = []
def mark(f):
    f.mark = TABLE
    return f
def around(f):
    @wraps(f)
    def call(*args):
        TABLE.append(args)
        return f(*args)
    return call
def around_by_module(f):
    def call(): return f()
    return functools.update_wrapper(call, f)
def set_mark(f, value):
    f.mark = value
def mark_elsewhere(f):
    set_mark(f, 2)
    return f
def times(n):
    def decorate(f):
        return around(f)
    return decorate
def keep(f):
    TABLE.append(f)
    return f
def keep_by_name(f):
    getattr(TABLE, "append")(f)
    return f
def keep_by_index(f):
    TABLE[0] = f
    return f
def keep_in_function(f):
    mark.last = f
    return f
def keep_added(f, table=TABLE):
    table += [f]
    return f
def put(table, f):
    table.last = f
def keep_elsewhere(f):
    put(keep, f)
    return f
def keep_by_default(f, table=TABLE):
    table.last = f
    return f
def keep_by_variable(f):
    table = TABLE
    put(table, f)
    return f
def keep_under_its_name(f):
    g = f
    f = TABLE
    f.last = g
    return g
def count(f):
    global TABLE
    TABLE = [f]
    return f
def calls(f):
    f()
    return f
def looks_like_wraps(f):
    return TABLE.wraps(f)
def times_kept(n):
    TABLE.append(n)
    def decorate(f): return f
    return decorate
def times_keeps(n):
    def decorate(f):
        TABLE.append(f)
        return f
    return decorate
def times_from_elsewhere(n):
    return keep if n else mark
class Keep:
    def __init__(self, f): TABLE.append(f)
@keep
def kept(f): return f
def for_ever(f): return for_ever(f)
""",
    "passing": "from marks import mark as given, keep as kept\n",
}


def find(path: str, value: tuple[object, ...]) -> list[File]:
    return [File(str(value[0]), ast.parse(MODULES[str(value[0])]))] if value[0] in MODULES else []


def quiet(decorator: str) -> bool:
    user = "from marks import *\nfrom passing import given, kept as passed\nfrom web import route\n"
    names = [each.name for each in ast.parse(MODULES["marks"]).body if isinstance(each, ast.FunctionDef | ast.ClassDef)]
    user = user.replace("*", ", ".join(names))
    return is_quiet(ast.parse(decorator, mode="eval").body, File("user", ast.parse(user)), find)


QUIET = """property mark around around_by_module mark_elsewhere times(2) times(n=2) given (lambda&f:&f.inner)"""
NOT_QUIET = """keep keep_by_name keep_by_index keep_in_function keep_added keep_elsewhere keep_by_default
keep_by_variable keep_under_its_name count calls looks_like_wraps Keep kept times_kept(2) times_keeps(2)
times_from_elsewhere(1) for_ever passed route web.route unknown times(keep(2)) marks.mark TABLE[0] (lambda&f:&print(f))
(lambda&f:&(keep:=f))"""


@pytest.mark.parametrize("decorator", QUIET.split())
def test_quiet(decorator: str) -> None:
    assert quiet(decorator.replace("&", " "))


@pytest.mark.parametrize("decorator", NOT_QUIET.split())
def test_not_quiet(decorator: str) -> None:
    assert not quiet(decorator.replace("&", " "))
