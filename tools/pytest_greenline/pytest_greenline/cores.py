"""How we hear which functions run: from their code, which is rewritten (loading.py); else from the interpreter.

That is `sys.monitoring` from Python 3.12 on, and before `sys.setprofile`, which makes each call slow.

Most of what they tell is known: a block has a number, and `Seen.now` is the set of numbers that is filled. All else
goes to ``ran(code, frame)``. Code is told apart by file and qualified name, never by the code object: equal ones in
two files compare as equal, and one that `exec` made must not be kept alive.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, Union

from pytest_greenline import loading
from pytest_greenline.loading import Loading, Note, Ran, Rewrite

monitoring: Any = getattr(sys, "monitoring", None)


class Seen:
    """What callbacks look at. ``numbers``: file name → qualified name → number, or None for a file of others.

    ``now``: the blocks of the running owner. ``plain``: a known block that is not in it only has to be added.
    ``left``: number → calls for this owner until it is not told of any more. ``patience``: how many these are at first.
    """

    __slots__ = ("left", "now", "numbers", "patience", "plain")

    def __init__(self) -> None:
        self.numbers: dict[str, dict[str, str] | None] = {}
        self.patience: dict[str, int] = {}
        self.now: set[str] = set()
        self.left: dict[str, int] = {}
        self.plain = True

    def number(self, code: CodeType, number: str) -> None:
        """Code of a file of ours has a number from now on."""
        names = self.numbers[code.co_filename]
        assert names is not None
        names[code.co_qualname] = number
        # To switch an event on again takes as long as a callback or two, and longer for much code.
        self.patience.setdefault(number, 1 + len(code.co_code) // 100)


_NEW: dict[str, str] = {}
_getframe = sys._getframe  # tests take it away


class Monitoring:
    """`sys.monitoring`, with two tool ids. Coverage.py takes ids from 1 up, debuggers 0, profilers 2.

    The first id meets each code object once. What is not ours is never looked at again: to re-arm everything for
    each test (`restart_events`) made a suite of small tests 1.6 times as slow. Code of ours then belongs to the
    second id. An event that comes often is switched off, so that loops cost little, and armed again for the next owner.
    """

    IDS = (4, 3)

    def __init__(self, ran: Ran, seen: Seen) -> None:
        self._ran = ran
        self._seen = seen
        self._ids: tuple[int, ...] = ()
        self._often: list[CodeType] = []  # only until the next owner: code that exec made must not be kept alive

    def start(self, has_ours: bool = True) -> str | None:
        """Begin; gives the reason where that cannot be."""
        holders = [name for name in map(monitoring.get_tool, self.IDS) if name is not None]
        if holders:
            return f"other tools hold the interpreter's monitoring ids 4 or 3: {', '.join(holders)}"
        self._ids = self.IDS
        for number in self._ids:
            monitoring.use_tool_id(number, "greenline")
        events, callback = monitoring.events, monitoring.register_callback
        meet, ours = self._ids
        self._local = events.PY_START | events.PY_RESUME
        for event in (events.PY_START, events.PY_RESUME):
            callback(meet, event, self._met)
            callback(ours, event, self._callback())
        callback(meet, events.PY_THROW, self._thrown)
        monitoring.set_events(meet, self._local | events.PY_THROW)
        return None

    def _met(self, code: CodeType, offset: int) -> Any:
        if self._seen.numbers.get(code.co_filename, _NEW) is not None:
            self._ran(code, _getframe(1))
            if self._seen.numbers.get(code.co_filename, _NEW) is not None and self._ids:
                monitoring.set_local_events(self._ids[1], code, self._local)
        return monitoring.DISABLE

    def _callback(self) -> Callable[[CodeType, int], Any]:
        ran, seen, often, patience = self._ran, self._seen, self._often, self._seen.patience
        numbers: Any = seen.numbers
        getframe, disable = _getframe, monitoring.DISABLE

        def called(code: CodeType, offset: int) -> Any:
            try:
                number = numbers[code.co_filename][code.co_qualname]
            except (KeyError, TypeError):
                ran(code, getframe(1))
                return None
            if number in seen.now:
                left = seen.left
                times = left.get(number, patience[number])
                if times:
                    left[number] = times - 1
                else:
                    often.append(code)
                    return disable
            elif seen.plain:
                seen.now.add(number)
            else:
                ran(code, getframe(1))
            return None

        return called

    def _thrown(self, code: CodeType, offset: int, error: BaseException) -> None:
        """A generator is resumed to raise, each one that `any` leaves early too. This event cannot be switched off."""
        numbers = self._seen.numbers.get(code.co_filename, _NEW)
        if numbers is not None and numbers.get(code.co_qualname) not in self._seen.now:
            self._ran(code, _getframe(1))

    def count_for(self, blocks: set[str], plain: bool) -> None:
        """``blocks`` counts from now on. What was switched off is told again."""
        self._seen.now, self._seen.plain, self._seen.left = blocks, plain, {}
        if self._ids and self._often:
            for code in {id(each): each for each in self._often}.values():  # equal code may be of two files
                monitoring.set_local_events(self._ids[1], code, 0)
                monitoring.set_local_events(self._ids[1], code, self._local)
        self._often.clear()

    def forget_numbers(self) -> None:
        """They are looked up each time."""

    def taken(self) -> str | None:
        """Who took the hooks away from us, or None."""
        holders = [monitoring.get_tool(number) for number in self._ids]
        if holders == ["greenline", "greenline"] and monitoring.get_events(self._ids[0]):
            return None
        other = next((each for each in holders if each != "greenline"), None)
        return f"its monitoring id went to {other or 'nobody'}"

    def again(self) -> None:
        """Take back what was taken, if it is free; code that was met before is met again."""
        self.stop()
        if self.start() is None:
            monitoring.restart_events()

    def stop(self) -> None:
        for number in self._ids:
            if monitoring.get_tool(number) == "greenline":
                monitoring.set_events(number, 0)
                for event in (monitoring.events.PY_START, monitoring.events.PY_RESUME, monitoring.events.PY_THROW):
                    monitoring.register_callback(number, event, None)
                monitoring.free_tool_id(number)
        self._ids = ()


class Profile:
    """`sys.setprofile`, which sees each call, but not a generator that `throw` resumes."""

    def __init__(self, ran: Ran, seen: Seen) -> None:
        find = seen.numbers.get

        def profile(frame: FrameType, event: str, _: object) -> None:
            if event == "call":
                code = frame.f_code
                numbers = find(code.co_filename, _NEW)
                if numbers is not None:
                    number = numbers.get(code.co_qualname)
                    if number in seen.now:
                        return
                    if number is not None and seen.plain:
                        seen.now.add(number)
                    else:
                        ran(code, frame)

        self._profile = profile
        self._seen = seen

    def count_for(self, blocks: set[str], plain: bool) -> None:
        self._seen.now, self._seen.plain = blocks, plain

    def start(self, has_ours: bool = True) -> str | None:
        if sys.getprofile() is not None:
            return f"another tool holds the interpreter's profile hook: {sys.getprofile()!r}"
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)
        return None

    def forget_numbers(self) -> None:
        """They are looked up each time."""

    def taken(self) -> str | None:
        holder = sys.getprofile()
        return None if holder is self._profile else f"the profile hook went to {holder or 'nobody'}"

    def again(self) -> None:
        self.start()

    def stop(self) -> None:
        if sys.getprofile() is self._profile:
            threading.setprofile(None)
            sys.setprofile(None)


class Rewritten:
    """Code that tells of itself."""

    def __init__(self, code: Loading) -> None:
        self.count_for = code.count_for
        self.forget_numbers = code.forget_numbers
        self.start = code.start
        self.stop = code.stop

    def taken(self) -> None:
        """There is nothing that another tool could take."""

    def again(self) -> None:
        """Nor anything to take back."""


Core = Union[Monitoring, Profile, Rewritten]


def core(ran: Ran, note: Note, seen: Seen, rewrite: Rewrite) -> Core:
    """What tells of functions. What it asks for: see `Loading`."""
    if not loading.impossible():
        return Rewritten(Loading(ran, note, seen, rewrite))
    return Profile(ran, seen) if monitoring is None else Monitoring(ran, seen)
