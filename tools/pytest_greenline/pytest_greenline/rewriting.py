"""A look-up at the start of a function's code: ``if FLAG: TOLD.append(FLAG); del FLAG[0]``.

As long as its flag is set, a function tells that it runs, once. After that a call costs two instructions, where a hook
of the interpreter costs a call of its own each time (`sys.setprofile`), or new instructions whenever it is switched on
again (`sys.monitoring`). SlipCover (Altmayer Pizzorno and Berger, ISSTA 2023) counts lines by code that it rewrites;
here it is a test's functions.

The code stays the same else: its lines, columns, names and exception handlers.
"""

from __future__ import annotations

import dis
import functools
import re
import sys
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from types import CodeType
from typing import Any, NamedTuple

POSSIBLE = sys.implementation.name == "cpython" and (3, 11) <= sys.version_info < (3, 14)
_OPTIMIZED, _GENERATORS = 1, 0x20 | 0x80 | 0x200  # flags of code: a function; a generator, coroutine, both
_INSIDE = frozenset(("<listcomp>", "<setcomp>", "<dictcomp>"))  # they run where they stand
_EXTENDED = dis.EXTENDED_ARG
_RESUME = dis.opmap.get("RESUME", -1)
_RESUMES = re.compile(re.escape(bytes((_RESUME,)))) if _RESUME > 0 else re.compile(b"")
_PUSH_EXC_INFO = dis.opmap.get("PUSH_EXC_INFO", -1)
_ENTRIES: Any = getattr(dis, "_inline_cache_entries", {})  # by name or by number
_BY_NUMBER = _ENTRIES if isinstance(_ENTRIES, dict) else dict(zip(dis.opname, _ENTRIES))
_CACHES = {number: int(_BY_NUMBER.get(name, 0)) for name, number in dis.opmap.items()}
"""Units after an instruction in which the interpreter keeps what it learns."""
_JUMP = re.compile(b"[%b]" % re.escape(bytes(number for number in dis.hasjrel if number < 256)), re.DOTALL)
_BACKWARD = frozenset(number for name, number in dis.opmap.items() if "BACKWARD" in name)
_ENTRY = re.compile(rb"[\x80-\xff][\x00-\x7f]*")  # of a table of positions: only its first byte has the highest bit set
_LENGTH = bytes((byte & 7) + 1 for byte in range(256))  # of an entry by its first byte, in units
_LATER = bytes(range(0x80))  # the other bytes
_NUMBER = re.compile(rb"[\x40-\x7f\xc0-\xff]*[\x00-\x3f\x80-\xbf]")  # of a table of handlers: six bits a byte


class Flag(list):  # type: ignore[type-arg]
    """Set (true) while it holds an element. Compares by identity, and pickles as if it was set.

    ``filename``, ``name``: of the code, whose qualified name it is. ``number``: whatever who is told makes of it.
    ``original``: what the code was, where that is not a part of other code.
    """

    __slots__ = ("filename", "name", "number", "original")

    def __init__(self, filename: str, name: str) -> None:
        self.append(True)  # in a third of the time that the list's own __init__ takes
        self.filename = filename
        self.name = name
        self.number: str | None = None
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
    """The instructions: ``if FLAG: TOLD.append(FLAG); del FLAG[0]; if NOW: tell(FLAG)``.

    ``first``: where the constants begin that it needs: 0, told, now, tell, flag. The first two steps call nothing, so
    they cannot fail where the stack has no room, and no other thread runs between them.
    """
    zero, told, now, tell, flag = range(first, first + 5)
    at_once = _unless(now, _call(tell, flag))
    append = _load(told) + _load(flag) + _instruction("LIST_APPEND", 1) + _instruction("POP_TOP")
    clear = _load(flag) + _load(zero) + _instruction("DELETE_SUBSCR")
    return _unless(flag, append + clear + at_once)


def _unless(const: int, body: bytes) -> bytes:
    """Goes over the body if the constant is false."""
    truth = _instruction("TO_BOOL") if sys.version_info >= (3, 13) else b""
    jump = "POP_JUMP_FORWARD_IF_FALSE" if sys.version_info < (3, 12) else "POP_JUMP_IF_FALSE"
    return _load(const) + truth + _instruction(jump, len(body) // 2) + body


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
        moved = [(start + size, end + size, target + size, depth) for start, end, target, depth in _handlers(handlers)]
        handlers = _packed(moved)
    return old[: 2 * first] + lookup + old[2 * first :], lines[:here] + _nowhere(size) + lines[here:], handlers


def _points(code: CodeType, numbers: bytes) -> dict[int, bool]:
    """The units before which a look-up goes, in order, and whether it has the place of what it follows.

    It stands where a function starts; where a generator or coroutine goes on, or handles an exception, which another
    may throw into it.
    """
    if not code.co_flags & _GENERATORS:
        return {numbers.index(_RESUME) + 1: True}
    points = {found.end(): True for found in _RESUMES.finditer(numbers)}
    for _, _, target, _ in _handlers(code.co_exceptiontable):
        follows = numbers[target] == _PUSH_EXC_INFO
        points.setdefault(target + follows, follows)
    return dict(sorted(points.items()))


def _with_lookups(code: CodeType, lookup: bytes) -> _Parts:
    old, size = bytearray(code.co_code), len(lookup) // 2
    numbers = bytes(old[::2])
    points = _points(code, numbers)
    wider: dict[int, int] = {}  # first unit of a jump → EXTENDED_ARGs that it needs more, since it goes farther
    # Nothing jumps over the start of a function.
    jumps = [*_jumps(old, numbers)] if len(points) > 1 else []
    grows = True
    while grows:
        grows = False
        # Where a unit is now: after a look-up, if one goes before it, and before what makes it wider.
        more = [0] + [1] * len(numbers)
        for unit in points:
            more[unit] += size
        for unit, extended_by in wider.items():
            more[unit + 1] += extended_by
        place = [*accumulate(more)]
        arguments = []
        for start, at, end, target in jumps:
            argument = abs(place[target] - place[end - 1] - 1 - wider.get(end - 1, 0))
            needs = _prefix(argument) - (at - start)
            if needs > wider.get(start, 0):
                wider[start], grows = needs, True
            arguments.append(argument)
    extended = {}
    for (start, at, _, _), argument in zip(jumps, arguments):
        for unit in range(start, at + 1):
            old[2 * unit + 1] = argument >> 8 * (at - unit) & 255
        digits = range(at - start + wider.get(start, 0), at - start, -1)
        extended[start] = b"".join(bytes((_EXTENDED, argument >> 8 * each & 255)) for each in digits)
    parts: list[bytes | bytearray] = []
    done = 0
    for unit in sorted({*points, *wider}):
        parts += [old[2 * done : 2 * unit], lookup if unit in points else b"", extended.get(unit, b"")]
        done = unit
    handlers = [
        (place[start], place[end - 1] + 1 + wider.get(end - 1, 0), place[target] - size * (target in points), depth)
        for start, end, target, depth in _handlers(code.co_exceptiontable)
    ]
    instructions = b"".join([*parts, old[2 * done :]])
    return instructions, _lines(code.co_linetable, points, size, wider), _packed(handlers)


def _jumps(code: bytearray, numbers: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Of each jump its first unit, that of its number, the unit after it, the one that it goes to."""
    for found in _JUMP.finditer(numbers):
        start = at = found.start()
        argument = code[2 * at + 1]
        while start and numbers[start - 1] == _EXTENDED:
            start -= 1
            argument |= code[2 * start + 1] << 8 * (at - start)
        end = at + 1 + _CACHES[numbers[at]]
        yield start, at, end, end - argument if numbers[at] in _BACKWARD else end + argument


def _prefix(argument: int) -> int:
    """EXTENDED_ARGs that an argument needs."""
    return max(0, (argument.bit_length() - 1) // 8)


# -- tables: CPython's Objects/locations.md and Objects/exception_handling_notes.txt ---------------------------


def _lines(table: bytes, points: dict[int, bool], size: int, wider: dict[int, int]) -> bytes:
    """The table of positions. No tracer sees a line more: the first look-up, where a function starts, has no place; the
    others have that of what they follow, or of what they stand before."""
    units = sorted({*points, *wider}, reverse=True)
    entries: list[bytes] = _ENTRY.findall(table)
    ends = [*accumulate(table.translate(_LENGTH, _LATER))]
    for unit in units:  # what is before it keeps its index
        at = bisect_right(ends, unit)
        entry = entries[at]
        before = unit - (ends[at - 1] if at else 0)
        behind = (entry[0] & 7) + 1 - before + wider.get(unit, 0)
        new = _spread(entry, before)
        if before:
            entry = _again(entry)
        if unit == units[-1]:
            new.append(_nowhere(size))
        elif points.get(unit):
            new += _spread(entry if before else _again(entries[at - 1]), size)
        elif unit in points:
            new += _spread(entry, size)
            entry = _again(entry)
        entries[at : at + 1] = new + _spread(entry, behind)
    return b"".join(entries)


@functools.cache
def _nowhere(size: int) -> bytes:
    return b"".join(_spread(bytes((0x80 | 15 << 3,)), size))


def _spread(entry: bytes, units: int) -> list[bytes]:
    """The same place for so many units, of which an entry can be for eight."""
    parts = []
    while units > 8:
        parts.append(bytes((entry[0] | 7,)) + entry[1:])
        entry, units = _again(entry), units - 8
    return [*parts, bytes((entry[0] & ~7 | units - 1,)) + entry[1:]] if units else parts


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


def _handlers(table: bytes) -> list[tuple[int, int, int, int]]:
    """Of each handler the first unit it is for, the one after the last, where it begins, the depth of the stack."""
    numbers = map(_value, _NUMBER.findall(table))
    return [(start, start + length, target, depth) for start, length, target, depth in zip(*[numbers] * 4, strict=True)]


def _packed(handlers: list[tuple[int, int, int, int]]) -> bytes:
    parts = [
        _number(start, 0x80) + _number(end - start) + _number(target) + _number(depth)
        for start, end, target, depth in handlers
    ]
    return b"".join(parts)


@functools.cache
def _value(number: bytes) -> int:
    return functools.reduce(lambda value, byte: value << 6 | byte & 0x3F, number, 0)


@functools.cache
def _number(value: int, mark: int = 0) -> bytes:
    digits = [value & 0x3F]
    while value := value >> 6:
        digits.append(value & 0x3F | 0x40)
    digits.append(digits.pop() | mark)
    return bytes(reversed(digits))
