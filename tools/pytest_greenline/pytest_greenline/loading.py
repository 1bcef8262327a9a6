"""Code of the repository tells that it runs: it is rewritten (rewriting.py) where `compile` or `marshal` makes it.

All code comes from there: modules (pytest's rewritten ones, too), scripts, templates. What `marshal` writes, files of
compiled code above all, is the code as it was.
"""

from __future__ import annotations
import __future__

import _imp
import builtins
import functools
import gc
import importlib.machinery
import marshal
import operator
import os
import sys
from collections import deque
from collections.abc import Callable
from types import CodeType, FrameType, FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Union

from pytest_greenline import rewriting
from pytest_greenline.rewriting import Flag, Listener, Name, is_rewritten

if TYPE_CHECKING:
    from pytest_greenline.cores import Seen

READERS = ("numba", "pony", "torch")
"""Packages that read the instructions of functions, and would not know ours."""

_FUTURES = functools.reduce(
    operator.or_, (getattr(__future__, each).compiler_flag for each in __future__.all_feature_names)
)
_NEW: dict[str, str] = {}
_getframe = sys._getframe  # tests take it away
_active: Loading | None = None


def impossible() -> str:
    """Why code cannot be rewritten in this process, or ""."""
    if os.environ.get("GREENLINE_RECORDING", "").lower() == "hooks":
        return "$GREENLINE_RECORDING says so"
    if not rewriting.POSSIBLE:
        return "the code of this Python is not known"
    reader = next(filter(importlib.machinery.PathFinder.find_spec, READERS), None)
    return f"{reader} is installed, and reads the instructions of functions" if reader else ""


TOLD, NOW = Name(__name__, "TOLD"), Name(__name__, "NOW")


def tell_now(flag: Flag) -> None:
    if _active is not None:
        _active.told_now(flag, _getframe(1))


LISTENER = Listener(TOLD, NOW, tell_now)

Ran = Callable[[CodeType, FrameType], None]
Note = Callable[[str, str], Union[str, None]]
Rewrite = Callable[[CodeType, Listener], CodeType]


class Loading:
    """Has code rewritten when it is made, and keeps in ``seen`` what it tells.

    ``rewrite`` gives code that is not ours as it is. ``note(filename, name)`` counts a function for who runs, and gives
    its number if it has one. ``ran(code, frame)`` does so at once, where more is to be found out than that.
    """

    def __init__(self, ran: Ran, note: Note, seen: Seen, rewrite: Rewrite) -> None:
        self._ran = ran
        self._note = note
        self._seen = seen
        self._rewrite = rewrite
        self._counted: list[Flag] = []  # of those that were counted at once
        self._numbers: dict[Flag, str] = {}
        self._undo: list[tuple[Any, str, Any]] = []

    def start(self, has_ours: bool) -> None:
        """``has_ours``: there may be functions already whose code is to be rewritten."""
        global _active
        _active = self
        self._replace(builtins, "compile", _Compile(builtins.compile, self.rewrite))
        for name in ("load", "loads"):
            self._replace(marshal, name, _Load(getattr(marshal, name), self.rewrite))
        for name in ("dump", "dumps"):
            self._replace(marshal, name, _Dump(getattr(marshal, name)))
        self._listen()
        if has_ours:
            self._rewrite_functions()

    def stop(self) -> None:
        """Code that is rewritten stays so, and tells nobody."""
        global _active
        _active = None
        for target, name, original in reversed(self._undo):
            setattr(target, name, original)
        self._undo = []
        NOW.clear()

    def _replace(self, target: Any, name: str, new: Any) -> None:
        self._undo.append((target, name, getattr(target, name)))
        setattr(target, name, new)

    def count_for(self, blocks: set[str], plain: bool) -> None:
        """What was told is counted. From now on ``blocks`` counts, and each function tells again."""
        if TOLD:
            told = TOLD[:]
            del TOLD[: len(told)]
            self._count(told)
            deque(map(list.clear, told), maxlen=0)
        if self._counted:
            counted, self._counted = self._counted, []
            for flag in counted:
                flag.clear()
        self._seen.now, self._seen.plain = blocks, plain
        if plain == bool(NOW) and _active is self:
            self._listen()

    def _count(self, told: list[Flag]) -> None:
        counted = self._seen.now
        counted.update(map(self._numbers.get, told))  # type: ignore[arg-type]
        if None in counted:
            counted.discard(None)
            for flag in told:
                if flag not in self._numbers and (number := self._note(flag.filename, flag.name)):
                    counted.add(number)
                    self._numbers[flag] = number

    def _listen(self) -> None:
        NOW[:] = [] if self._seen.plain else [True]

    def told_now(self, flag: Flag, frame: FrameType) -> None:
        if flag in TOLD:  # it is counted here
            TOLD.remove(flag)
        self._counted.append(flag)
        self._ran(frame.f_code, frame)
        number = (self._seen.numbers.get(flag.filename) or _NEW).get(flag.name)
        if number not in self._seen.now:  # another thread has another owner: this one still has to tell
            flag.clear()

    def forget_numbers(self) -> None:
        """In a fork, which writes a record of its own."""
        self._numbers.clear()

    def rewrite(self, made: Any) -> Any:
        """Code as it shall run; anything else as it is."""
        if type(made) is not CodeType or is_rewritten(made):
            return made
        return self._rewrite(made, LISTENER)

    def _rewrite_functions(self) -> None:
        """Those that exist already."""
        theirs: set[str] = set()
        done: dict[int, CodeType] = {}
        for each in gc.get_objects():
            if type(each) is FunctionType and each.__code__.co_filename not in theirs:
                code = each.__code__
                if id(code) not in done:
                    done[id(code)] = self.rewrite(code)
                if done[id(code)] is not code:
                    each.__code__ = done[id(code)]
                elif not is_rewritten(code):
                    theirs.add(code.co_filename)


class _Compile:
    """`compile`, with the future features of who calls it."""

    __name__ = __qualname__ = "compile"
    __self__ = builtins

    def __init__(self, compile: Any, rewrite: Callable[[Any], Any]) -> None:
        self._compile = compile
        self._rewrite = rewrite

    def __call__(
        self, source: Any, filename: Any, mode: Any, flags: int = 0, dont_inherit: Any = False, *rest: Any, **more: Any
    ) -> Any:
        __tracebackhide__ = True
        if not dont_inherit:
            flags |= _getframe(1).f_code.co_flags & _FUTURES
        return self._rewrite(self._compile(source, filename, mode, flags, True, *rest, **more))


class _Load:
    """`marshal.load` or `marshal.loads`.

    Files of compiled code may have come from another folder. The import system and pytest, which say here which file
    it is, correct the names in the code after this.
    """

    _SOURCES: ClassVar = {"_compile_bytecode": "source_path", "_read_pyc": "source"}  # function → its variable

    def __init__(self, function: Any, rewrite: Callable[[Any], Any]) -> None:
        self._function = function
        self._rewrite = rewrite
        self.__name__ = self.__qualname__ = function.__name__

    def __call__(self, *args: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        made = self._function(*args, **options)
        caller = _getframe(1)
        if type(made) is CodeType and caller.f_code.co_name in self._SOURCES:
            source = caller.f_locals.get(self._SOURCES[caller.f_code.co_name])
            if source is not None and str(source) != made.co_filename:
                _imp._fix_co_filename(made, str(source))  # type: ignore[attr-defined]
        return self._rewrite(made)


class _Dump:
    """`marshal.dump` or `marshal.dumps`."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self.__name__ = self.__qualname__ = function.__name__

    def __call__(self, value: Any, *rest: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        if type(value) is CodeType and is_rewritten(value):
            value = value.co_consts[-1].original or value
        return self._function(value, *rest, **options)
