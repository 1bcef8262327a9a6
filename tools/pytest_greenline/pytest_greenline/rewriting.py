"""A look-up at the start of a function's code: ``if not FLAG: FLAG.append(0); TOLD.append(FLAG)``.

As long as its flag is empty, a function tells that it runs, once. After that a call costs two instructions, where a
hook of the interpreter costs a call of its own each time (`sys.setprofile`), or new instructions whenever it is
switched on again (`sys.monitoring`). SlipCover (Altmayer Pizzorno and Berger, ISSTA 2023) counts lines by code that it
rewrites; here it is a test's functions.

The code stays the same else: its lines, columns, names and exception handlers.
"""

from __future__ import annotations

import dis
import functools
import re
import sys
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate, chain, compress
from types import CodeType
from typing import Any, NamedTuple

POSSIBLE = sys.implementation.name == "cpython" and (3, 11) <= sys.version_info < (3, 14)
_OPTIMIZED, _GENERATORS = 1, 0x20 | 0x80 | 0x200  # flags of code: a function; a generator, coroutine, both
_INSIDE = frozenset(("<listcomp>", "<setcomp>", "<dictcomp>"))  # they run where they stand
_EXTENDED = dis.EXTENDED_ARG
_RESUME = dis.opmap.get("RESUME", -1)
_PUSH_EXC_INFO = dis.opmap.get("PUSH_EXC_INFO", -1)
_ENTRIES: Any = getattr(dis, "_inline_cache_entries", {})  # by name or by number
_BY_NUMBER = _ENTRIES if isinstance(_ENTRIES, dict) else dict(zip(dis.opname, _ENTRIES))
_CACHES = {number: int(_BY_NUMBER.get(name, 0)) for name, number in dis.opmap.items()}
"""Units after an instruction in which the interpreter keeps what it learns."""
_IS_JUMP = bytes(number in dis.hasjrel for number in range(256))
_BACKWARD = frozenset(number for name, number in dis.opmap.items() if "BACKWARD" in name)
_NUMBER = re.compile(rb"[\x40-\x7f\xc0-\xff]*[\x00-\x3f\x80-\xbf]")  # of a table of handlers: six bits a byte
_ENTRY = re.compile(rb"[\x80-\xff][\x00-\x7f]*")  # of a table of positions: only its first byte has the highest bit set
_IS_FIRST = bytes(byte >> 7 for byte in range(256))
_LENGTH = bytes((byte & 7) + 1 for byte in range(256))  # of an entry by its first byte, in units
_LATER = bytes(range(0x80))  # the other bytes


class Flag(list):  # type: ignore[type-arg]
    """Holds something once its code told. Compares by identity, and pickles as if it was empty.

    ``filename``, ``name``: of the code, whose qualified name it is. ``original``: what the code was, where that is not
    a part of other code.
    """

    __slots__ = ("filename", "name", "original")

    def __init__(self, filename: str, name: str) -> None:
        self.filename = filename
        self.name = name
        self.original: CodeType | None = None

    __eq__ = object.__eq__
    __hash__ = object.__hash__  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        return Flag, (self.filename, self.name)


class Name(list):  # type: ignore[type-arg]
    """A list that code holds, and that pickles by its name in a module."""

    def __init__(self, module: str, name: str) -> None:
        super().__init__()
        self.__module__ = module
        self.name = name

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __reduce__(self) -> str:
        return self.name


class Listener(NamedTuple):
    """Whom code tells. ``told`` gets its flag. Where ``now`` is not empty, and always for a module's body, ``tell`` is
    called with it: a function of a module, as code has to pickle.
    """

    told: Name
    now: Name
    tell: Any


def is_rewritten(code: CodeType) -> bool:
    return bool(code.co_consts) and type(code.co_consts[-1]) is Flag


def rewritten(code: CodeType, listener: Listener) -> CodeType:
    """The same code, and all code in it, with look-ups."""
    new = _rewritten(code, listener)
    if is_rewritten(new):
        new.co_consts[-1].original = code
    return new


def _rewritten(code: CodeType, listener: Listener) -> CodeType:
    consts = code.co_consts
    if CodeType in map(type, consts):
        consts = tuple([_rewritten(each, listener) if type(each) is CodeType else each for each in consts])
    flags, name = code.co_flags, code.co_name
    is_function = flags & _OPTIMIZED and name not in _INSIDE
    if not is_function and name != "<module>":
        return code.replace(co_consts=consts)
    lookup = _lookup(len(consts))
    parts = (None if flags & _GENERATORS else _at_start(code, lookup)) or _with_lookups(code, lookup)
    instructions, positions, handlers = parts
    told, now, tell = listener
    return code.replace(
        co_code=instructions,
        co_linetable=positions,
        co_exceptiontable=handlers,
        co_consts=(*consts, 0, told, now if is_function else True, tell, Flag(code.co_filename, code.co_qualname)),
        co_stacksize=code.co_stacksize + 3,
    )


def _instruction(name: str, argument: int = 0) -> bytes:
    number = dis.opmap[name]
    extended = [each for shift in (24, 16, 8) if (each := argument >> shift)]
    prefix = b"".join(bytes((_EXTENDED, each & 255)) for each in extended)
    return prefix + bytes((number, argument & 255)) + b"\0\0" * _CACHES[number]


@functools.cache
def _lookup(first: int) -> bytes:
    """The instructions: ``if not FLAG: FLAG.append(0); TOLD.append(FLAG); if NOW: tell(FLAG)``.

    ``first``: where the constants begin that it needs: 0, told, now, tell, flag. The first two steps call nothing, so
    they cannot fail where the stack has no room, and no other thread runs between them.
    """
    zero, told, now, tell, flag = range(first, first + 5)
    at_once = _if(now, True, _call(tell, flag))
    append = _instruction("LIST_APPEND", 1)  # of what is on top of the stack, to what is below
    return _if(flag, False, _load(told) + _load(flag) + _load(zero) + append * 2 + _instruction("POP_TOP") + at_once)


def _if(const: int, value: bool, body: bytes) -> bytes:
    """Goes over the body unless the constant is true, or false, as ``value`` says."""
    truth = _instruction("TO_BOOL") if sys.version_info >= (3, 13) else b""
    jump = "POP_JUMP_FORWARD_IF_" if sys.version_info < (3, 12) else "POP_JUMP_IF_"
    return _load(const) + truth + _instruction(jump + str(not value).upper(), len(body) // 2) + body


def _call(function: int, argument: int) -> bytes:
    null = _instruction("PUSH_NULL")
    before = null + _load(function) if sys.version_info < (3, 13) else _load(function) + null
    call = (_instruction("PRECALL", 1) if sys.version_info < (3, 12) else b"") + _instruction("CALL", 1)
    return before + _load(argument) + call + _instruction("POP_TOP")


def _load(const: int) -> bytes:
    return _instruction("LOAD_CONST", const)


_Parts = tuple[bytes, bytes, bytes]
"""Instructions, positions, exception handlers: the parts of code that change."""


def _at_start(code: CodeType, lookup: bytes) -> _Parts | None:
    """What `_with_lookups` gives for a function that is no generator, in less time.

    None where an entry in the table of positions goes over the place.
    """
    old, lines, handlers, size = code.co_code, code.co_linetable, code.co_exceptiontable, len(lookup) // 2
    first = 1 if old[0] == _RESUME else old[::2].index(_RESUME) + 1
    unit = here = 0
    while unit < first:
        unit += (lines[here] & 7) + 1
        here = _ENTRY.match(lines, here).end()  # type: ignore[union-attr]
    if unit > first:
        return None
    if handlers:  # all of them are for what comes later
        starts, lengths, targets, depths = _handlers(handlers)
        handlers = _packed([each + size for each in starts], lengths, [each + size for each in targets], depths)
    return old[: 2 * first] + lookup + old[2 * first :], lines[:here] + _nowhere(size) + lines[here:], handlers


def _points(code: CodeType, numbers: bytes, targets: list[int]) -> dict[int, bool]:
    """The units before which a look-up goes, in order, and whether it has the place of what it follows.

    It stands where a function starts; where a generator or coroutine goes on, or handles an exception, which another
    may throw into it.
    """
    if not code.co_flags & _GENERATORS:
        return {numbers.index(_RESUME) + 1: True}
    points = {at + 1: True for at in _found(numbers, _RESUME)}
    for target in targets:
        follows = numbers[target] == _PUSH_EXC_INFO
        points.setdefault(target + follows, follows)
    return dict(sorted(points.items()))


def _with_lookups(code: CodeType, lookup: bytes) -> _Parts:
    old, size = bytearray(code.co_code), len(lookup) // 2
    numbers = bytes(old[::2])
    starts, lengths, targets, depths = _handlers(code.co_exceptiontable)
    points = _points(code, numbers, targets)
    wider: dict[int, int] = {}  # first unit of a jump → EXTENDED_ARGs that it needs more, since it goes farther
    # Nothing jumps over the start of a function.
    jumps = [*_jumps(old, numbers)] if len(points) > 1 else []
    grows = True
    while grows:
        grows = False
        place = _places(len(numbers), points, size, wider)
        arguments = [abs(place[target] - place[end - 1] - 1 - wider.get(end - 1, 0)) for _, _, end, target in jumps]
        for (start, at, _, _), argument in zip(jumps, arguments):
            if argument >> 8 * (at - start + wider.get(start, 0) + 1):
                wider[start], grows = _prefix(argument) - (at - start), True
    extended = {}
    for (start, at, _, _), argument in zip(jumps, arguments):
        old[2 * at + 1] = argument & 255
        for unit in range(start, at):
            old[2 * unit + 1] = argument >> 8 * (at - unit) & 255
        if start in wider:
            digits = range(at - start + wider[start], at - start, -1)
            extended[start] = b"".join([bytes((_EXTENDED, argument >> 8 * each & 255)) for each in digits])
    parts: list[bytes | bytearray] = []
    done = 0
    for unit in sorted({*points, *wider}):
        parts += old[2 * done : 2 * unit], lookup if unit in points else b"", extended.get(unit, b"")
        done = unit
    instructions = b"".join([*parts, old[2 * done :]])
    ends = [start + length for start, length in zip(starts, lengths)]
    handlers = _packed(
        [place[start] for start in starts],
        [place[end - 1] + 1 + wider.get(end - 1, 0) - place[start] for start, end in zip(starts, ends)],
        [place[target] - size * (target in points) for target in targets],
        depths,
    )
    return instructions, _lines(code.co_linetable, points, size, wider), handlers


def _places(units: int, points: dict[int, bool], size: int, wider: dict[int, int]) -> list[int]:
    """Where each unit is now: after a look-up, if one goes before it, and before what makes it wider."""
    more = dict.fromkeys(points, size)
    for unit, extended_by in wider.items():
        more[unit + 1] = more.get(unit + 1, 0) + extended_by
    place: list[int] = []
    by = done = 0
    for unit in sorted(more):
        place += range(done + by, unit + by)
        by, done = by + more[unit], unit
    return [*place, *range(done + by, units + by + 1)]


def _jumps(code: bytearray, numbers: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Of each jump its first unit, that of its number, the unit after it, the one that it goes to."""
    for at in _found(numbers.translate(_IS_JUMP), True):
        start = at
        argument = code[2 * at + 1]
        while start and numbers[start - 1] == _EXTENDED:
            start -= 1
            argument |= code[2 * start + 1] << 8 * (at - start)
        end = at + 1 + _CACHES[numbers[at]]
        yield start, at, end, end - argument if numbers[at] in _BACKWARD else end + argument


def _found(data: bytes, byte: int) -> Iterator[int]:
    at = data.find(byte)
    while at >= 0:
        yield at
        at = data.find(byte, at + 1)


def _prefix(argument: int) -> int:
    """EXTENDED_ARGs that an argument needs."""
    return max(0, (argument.bit_length() - 1) // 8)


# -- tables: CPython's Objects/locations.md and Objects/exception_handling_notes.txt ---------------------------


def _lines(table: bytes, points: dict[int, bool], size: int, wider: dict[int, int]) -> bytes:
    """The table of positions. No tracer sees a line more: the first look-up, where a function starts, has no place; the
    others have that of what they follow, or of what they stand before."""
    units = sorted({*points, *wider}, reverse=True)
    starts = [*compress(range(len(table)), table.translate(_IS_FIRST)), len(table)]  # of entries
    ends = [*accumulate(table.translate(_LENGTH, _LATER))]  # the units before which they end
    parts: list[bytes] = []  # from the last to the first
    here, entry, left = len(ends), b"", 0  # the entry that was taken apart, and how many of its units are to come
    for unit in units:
        at = bisect_right(ends, unit)
        if at != here:
            parts += _spread(entry, left), table[starts[at + 1] : starts[here]]
            here, entry = at, table[starts[at] : starts[at + 1]]
            left = (entry[0] & 7) + 1
        before = unit - (ends[at - 1] if at else 0)
        place = _again(entry) if before else entry
        lookup = b""
        if unit == units[-1]:
            lookup = _nowhere(size)
        elif points.get(unit):
            lookup = _spread(place if before else _again(table[starts[at - 1] : starts[at]]), size)
        elif unit in points:
            lookup = _spread(place, size)
            place = _again(place)
        parts += _spread(place, left - before + wider.get(unit, 0)), lookup
        left = before
    return b"".join([table[: starts[here]], _spread(entry, left), *reversed(parts)])


@functools.cache
def _nowhere(size: int) -> bytes:
    return _spread(bytes((0x80 | 15 << 3,)), size)


def _spread(entry: bytes, units: int) -> bytes:
    """The same place for so many units, of which an entry can be for eight."""
    if not units:
        return b""
    parts = b""
    while units > 8:
        parts += bytes((entry[0] | 7,)) + entry[1:]
        entry, units = _again(entry), units - 8
    return parts + bytes((entry[0] & ~7 | units - 1,)) + entry[1:]


def _again(entry: bytes) -> bytes:
    """The entry for the same place, when it is already the current one: the line is told as a difference."""
    kind, head = entry[0] >> 3 & 15, entry[0] & 0x87
    if kind in (10, 11, 12):
        return bytes((head | 10 << 3,)) + entry[1:]
    if kind in (13, 14):
        at = 1
        while entry[at] & 0x40:
            at += 1
        return bytes((head | kind << 3, 0)) + entry[at + 1 :]
    return entry


def _handlers(table: bytes) -> tuple[list[int], list[int], list[int], list[int]]:
    """Of each handler the first unit that it is for, how many there are, where it begins, the depth of the stack."""
    numbers = [*map(_value, _NUMBER.findall(table))]
    return numbers[0::4], numbers[1::4], numbers[2::4], numbers[3::4]


def _packed(starts: list[int], lengths: list[int], targets: list[int], depths: list[int]) -> bytes:
    columns = map(_first, starts), map(_number, lengths), map(_number, targets), map(_number, depths)
    return b"".join(chain.from_iterable(zip(*columns)))


@functools.cache
def _value(number: bytes) -> int:
    return functools.reduce(lambda value, byte: value << 6 | byte & 0x3F, number, 0)


@functools.cache
def _number(value: int) -> bytes:
    digits = [value & 0x3F]
    while value := value >> 6:
        digits.append(value & 0x3F | 0x40)
    return bytes(reversed(digits))


@functools.cache
def _first(value: int) -> bytes:
    """The number that an entry begins with: its highest bit is set."""
    number = _number(value)
    return bytes((number[0] | 0x80,)) + number[1:]
