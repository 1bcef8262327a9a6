"""Rewritten code does what it did, and tells that it runs. The oracle is `dis`, and the code as it was."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dis
import importlib
import io
import marshal
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest

from pytest_greenline import loading, rewriting
from pytest_greenline.loading import Loading
from pytest_greenline.rewriting import Flag, Listener, Name, is_rewritten, rewritten

pytestmark = pytest.mark.skipif(not rewriting.POSSIBLE, reason="the code of this Python is not rewritten")

MODULES = ("argparse", "ast", "asyncio.tasks", "contextlib", "dataclasses", "enum", "http.client", "inspect", "shutil",
           "subprocess", "tarfile", "tokenize", "traceback", "typing", "zipfile", "unittest.mock")  # fmt: skip
FLAGS, NOW = Name(__name__, "FLAGS"), Name(__name__, "NOW")
AT_ONCE: list[str] = []


def tell(flag: Flag) -> None:
    assert flag and FLAGS[-1] is flag  # it is told, and will not be again
    AT_ONCE.append(flag.name)


LISTENER = Listener(FLAGS, NOW, tell)


def told() -> list[str]:
    """The names of what told since this was asked last."""
    names = [flag.name for flag in FLAGS]
    FLAGS.clear()
    return names


def compiled(source: str, name: str = "app.py") -> CodeType:
    return rewritten(compile(source, name, "exec"), LISTENER)


def nested(one: CodeType, two: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    yield one, two
    for first, second in zip(one.co_consts, two.co_consts, strict=False):
        if isinstance(first, CodeType):
            yield from nested(first, second)


def without_lookups(code: CodeType) -> tuple[list[dis.Instruction], list[dis.Instruction]]:
    """The instructions of rewritten code that are as they were, and those of its look-ups."""
    instructions = [each for each in dis.get_instructions(code) if each.opname != "EXTENDED_ARG"]
    lookups, kept, at = [], [], 0
    while at < len(instructions):
        each = instructions[at]
        if each.opname == "LOAD_CONST" and is_rewritten(code) and each.argval is code.co_consts[-1]:
            end = at
            pops = 0
            while pops < 2:  # what the list and telling leave is dropped
                pops += instructions[end].opname == "POP_TOP"
                end += 1
            lookups += instructions[at:end]
            at = end
        else:
            kept.append(each)
            at += 1
    return kept, lookups


def targets(code: CodeType, kept: list[dis.Instruction]) -> dict[int, int]:
    """Offset → index of the kept instruction that begins there, or after an EXTENDED_ARG there."""
    found, index = {}, 0
    for offset in range(0, len(code.co_code) + 2, 2):
        while index < len(kept) and kept[index].offset < offset:
            index += 1
        found[offset] = index
    return found


@pytest.mark.parametrize("module", MODULES)
def test_nothing_else_changes(module: str) -> None:
    source = importlib.import_module(module).__spec__.loader.get_source(module)  # type: ignore[union-attr]
    before = compile(source, module, "exec")
    count = 0
    for old, new in nested(before, rewritten(before, LISTENER)):
        instructions = [each for each in dis.get_instructions(old) if each.opname != "EXTENDED_ARG"]
        kept, lookups = without_lookups(new)
        count += bool(lookups)
        assert [each.opname for each in kept] == [each.opname for each in instructions]
        assert [each.positions for each in kept] == [each.positions for each in instructions]
        assert {each.positions for each in lookups} <= {each.positions for each in instructions} | {dis.Positions()}
        here, there = targets(old, instructions), targets(new, kept)
        for one, two in zip(instructions, kept, strict=True):
            if one.opcode in dis.hasjrel:
                assert here[one.argval] == there[two.argval]
            else:
                assert one.arg == two.arg
        handlers = zip(*map(dis._parse_exception_table, (old, new)), strict=True)  # type: ignore[attr-defined]
        for handler, moved in handlers:
            assert (handler.depth, handler.lasti) == (moved.depth, moved.lasti)
            assert [here[each] for each in (handler.start, handler.end, handler.target)] == [
                there[each] for each in (moved.start, moved.end, moved.target)
            ]
        assert new.co_stacksize >= old.co_stacksize
    assert count > 5


GENERATORS = """
import asyncio, contextlib

def plain(n):
    total = 0
    for i in range(n):
        total += (yield i) or 0
    return total

def delegating(n):
    try:
        got = yield from plain(n)
    except KeyError as error:
        got = yield ("caught", str(error))
    finally:
        yield "finally"
    return got

@contextlib.contextmanager
def managed(log):
    log.append("in")
    try:
        yield 1
    except ValueError:
        log.append("caught")
    finally:
        log.append("out")

async def waits(n):
    async def each():
        for i in range(n):
            await asyncio.sleep(0)
            yield i
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(print)
        return [i async for i in each() if i % 2] + [x for x in range(n)]

def {name}(n):
    while n:
        n -= 1
        if n % 3 == 0:
            continue
{body}
        try:
            yield n
        except ValueError:
            n = yield -1
            continue
        if n == 1:
            break
    return (x for x in (1, 2))
"""


def _scenario(space: dict[str, Any]) -> list[Any]:
    """Start, send, throw, close and await everything; what comes back."""
    seen: list[Any] = []
    one = space["delegating"](3)
    seen += [next(one), one.send(5), one.throw(KeyError("k")), next(one)]
    with contextlib.suppress(StopIteration):
        next(one)
    two = space["delegating"](2)
    next(two)
    seen += [two.throw(KeyError("k")), two.gi_yieldfrom is None, two.gi_frame.f_lineno, *two]
    log: list[str] = []
    with space["managed"](log):
        raise ValueError
    three = space["long"](40)
    seen += [next(three), next(three), three.throw(ValueError), three.send(9), *three, log]
    four = space["long"](5)
    next(four)
    four.close()
    with pytest.raises(StopIteration):
        next(four)
    with contextlib.redirect_stdout(io.StringIO()):
        seen.append(asyncio.run(space["waits"](6)))
    with pytest.raises(TypeError):
        space["plain"]("x").send(None)
    return seen


@pytest.mark.parametrize("lines", [0, 30, 120, 900, 9000])
def test_generators_behave(lines: int) -> None:
    """Up to where jumps need two EXTENDED_ARGs, and need them only because of what stands between."""
    source = GENERATORS.format(name="long", body="        n = n + 0\n" * lines)
    code = compile(source, "app.py", "exec")
    expected: dict[str, Any] = {}
    exec(code, expected)
    found: dict[str, Any] = {}
    exec(rewritten(code, LISTENER), found)
    told()
    assert _scenario(found) == _scenario(expected)
    assert {"plain", "delegating", "managed", "long", "waits", "waits.<locals>.each"} <= set(told())


def test_jumps_that_just_grow() -> None:
    """Each length of a loop around the place where an EXTENDED_ARG more is needed."""
    for lines in range(20, 70):
        body = "\n".join(f"        a{i} = n" for i in range(lines))
        source = f"def f(n):\n    while n:\n{body}\n        n -= 1\n        yield n\n"
        space: dict[str, Any] = {}
        exec(compiled(source), space)
        assert list(space["f"](4)) == [3, 2, 1, 0], lines


def test_told_once_until_set_again() -> None:
    space: dict[str, Any] = {}
    exec(compiled("def f(n):\n    return n and f(n - 1)\n\ndef g():\n    return [f(i) for i in range(3)]\n"), space)
    told()
    space["g"]()
    space["f"](5)
    assert told() == ["g", "f"]
    space["f"].__code__.co_consts[-1].clear()
    space["g"]()
    assert told() == ["f"]


def test_told_at_once() -> None:
    space: dict[str, Any] = {}
    AT_ONCE.clear()
    exec(compiled("def f():\n    return 1\n"), space)
    assert AT_ONCE == ["<module>"]
    NOW.append(True)
    try:
        assert space["f"]() == 1
    finally:
        NOW.clear()
    assert AT_ONCE == ["<module>", "f"]


def test_told_where_the_stack_has_no_room() -> None:
    space: dict[str, Any] = {}
    exec(compiled("def f():\n    return 1\n"), space)

    def deep() -> int:
        try:
            return deep()
        except RecursionError:
            return int(space["f"]())

    told()
    assert deep() == 1
    assert "f" in told()


def test_a_generator_tells_where_it_goes_on() -> None:
    space: dict[str, Any] = {}
    exec(
        compiled("def f():\n    try:\n        yield 1\n        yield 2\n    except KeyError:\n        yield 3\n"), space
    )
    flag = space["f"].__code__.co_consts[-1]
    for resume, result in ((next, 1), (next, 2), (lambda it: it.throw(KeyError), 3)):
        generator = space["f"]()
        for _ in range(result - 1 if result < 3 else 1):
            next(generator)
        flag.clear()
        told()
        assert resume(generator) == result
        assert told() == ["f"]


TRACED = """
import asyncio, contextlib

def one(): return 1

def f(n):
    for i in range(n):
        yield one()
    try:
        1 / 0
    except ZeroDivisionError:
        pass
    finally:
        yield 7

def g():
    with open(__file__) as file:
        x = yield from f(2)
        yield x

async def waits():
    await asyncio.sleep(0)

@contextlib.asynccontextmanager
async def managed():
    try:
        yield
    finally: await waits()

async def main():
    for i in range(2):
        async with managed(): await waits()

result = list(f(3)), (lambda: 5)(), list(g()), asyncio.run(main())
for make in (lambda: f(3), g):
    it = make()
    next(it)
    try:
        it.throw(KeyError)
    except KeyError: pass
    it = make()
    [next(it), next(it), next(it), it.close()]
"""


def test_tracers_see_the_same_lines() -> None:
    def lines(code: CodeType) -> list[tuple[str, str, int]]:
        seen: list[tuple[str, str, int]] = []

        def trace(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
            if frame.f_code.co_filename != "app.py":
                return None
            seen.append((event, frame.f_code.co_name, frame.f_lineno))
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            exec(code, {"__file__": __file__})
        finally:
            sys.settrace(before)
        return seen

    plain = compile(TRACED, "app.py", "exec")
    assert lines(rewritten(plain, LISTENER)) == lines(plain)


def test_tracebacks_and_the_stack() -> None:
    space: dict[str, Any] = {}
    exec(compiled("def f(a, b=2, *c, d=4, **e):\n    '''Doc.'''\n    raise ValueError(a + b + d)\n"), space)
    with pytest.raises(ValueError, match="7") as caught:
        space["f"](1)
    assert traceback.extract_tb(caught.value.__traceback__)[-1].lineno == 3
    assert space["f"].__doc__ == "Doc." and space["f"].__code__.co_consts[0] == "Doc."


def test_many_constants() -> None:
    source = "def f():\n    return [" + ", ".join(f"{i}.5 + x" for i in range(400)) + "]\n"
    space: dict[str, Any] = {"x": 1}
    exec(compiled(source), space)
    told()
    assert space["f"]()[399] == 400.5 and told() == ["f"]


def test_code_compares_hashes_and_pickles() -> None:
    one = _module_code("def f():\n    return 1\n", loading.LISTENER)
    assert one == one.replace() and hash(one) == hash(one.replace())
    flag = pickle.loads(pickle.dumps(one.co_consts[-1]))
    assert not flag and (flag.filename, flag.name) == ("app.py", "f")
    for each in loading.LISTENER:
        assert pickle.loads(pickle.dumps(each)) is each
    assert copy.deepcopy(FunctionType(one, {}))() == 1


def _module_code(source: str, listener: Listener) -> CodeType:
    module = rewritten(compile(source, "app.py", "exec"), listener)
    return next(each for each in module.co_consts if isinstance(each, CodeType))


def test_loading() -> None:
    """`compile` and `marshal` rewrite what is ours; what is written is the code as it was."""
    from pytest_greenline.cores import Seen

    numbers: dict[tuple[str, str], int] = {}

    def note(filename: str, name: str) -> int:
        return numbers.setdefault((filename, name), len(numbers) + 1)

    before = loading._active
    if before is not None:
        pytest.skip("this test session itself is recorded")
    seen = Seen()

    def rewrite(code: CodeType, listener: Listener) -> CodeType:
        return rewritten(code, listener) if code.co_filename == "app.py" else code

    loads = Loading(lambda code, frame: None, note, seen, rewrite)
    loads.count_for(blocks := set(), plain=True)
    loads.start(has_ours=True)
    try:
        assert not is_rewritten(compile("1", "other.py", "exec"))
        code = compile("from __future__ import annotations\ndef f(): return 1\ndef g(): return 2\n", "app.py", "exec")
        assert is_rewritten(code)
        written = marshal.dumps(code)
        assert is_rewritten(marshal.loads(written))
        file = io.BytesIO()
        marshal.dump(code, file)
        assert file.getvalue() == written
        space: dict[str, Any] = {}
        exec(code, space)
        space["f"](), space["f"]()
        loads.count_for(second := set(), plain=True)
        assert blocks == {numbers["app.py", "f"]}
        space["f"](), space["g"]()
        loads.count_for(set(), plain=True)
        assert second == {numbers["app.py", "f"], numbers["app.py", "g"]}
        tree = compile("x: int", "app.py", "exec", dis.COMPILER_FLAG_NAMES and 0x400)
        assert type(tree) is not CodeType  # an ast
    finally:
        loads.stop()
    assert not is_rewritten(marshal.loads(written))
    assert space["g"]() == 2


def test_future_features_of_who_compiles() -> None:
    """This file has annotations from the future; code compiled in it has them too, unless it says otherwise."""
    from pytest_greenline.cores import Seen

    source = "def f(x: undefined): pass\n"
    if loading._active is not None:
        pytest.skip("this test session itself is recorded")
    loads = Loading(lambda code, frame: None, lambda filename, name: None, Seen(), lambda code, listener: code)
    loads.start(has_ours=True)
    try:
        exec(compile(source, "x", "exec"), {})
        with pytest.raises(NameError):
            exec(compile(source, "x", "exec", 0, True), {})
        with pytest.raises(NameError):
            exec(compile(source, "x", "exec", dont_inherit=True), {})
    finally:
        loads.stop()
