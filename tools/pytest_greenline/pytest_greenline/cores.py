"""How the interpreter tells which functions run: `sys.monitoring` from Python 3.12 on, `sys.setprofile` before.

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

monitoring: Any = getattr(sys, "monitoring", None)
Ran = Callable[[CodeType, FrameType], None]


class Seen:
    """What callbacks look at. ``numbers``: file name → qualified name → number, or None for a file of others.

    ``now``: the blocks of the running owner. ``plain``: a known block that is not in it only has to be added.
    """

    __slots__ = ("now", "numbers", "plain")

    def __init__(self) -> None:
        self.numbers: dict[str, dict[str, int] | None] = {}
        self.now: set[int] = set()
        self.plain = True


_NEW: dict[str, int] = {}


class Monitoring:
    """`sys.monitoring`: an event is switched off where it was seen, so that loops cost nothing.

    Coverage.py takes tool ids from 1 up, debuggers 0, profilers 2: ours come from the other end.
    """

    IDS = (4, 3)

    def __init__(self, ran: Ran, seen: Seen) -> None:
        self._ran = ran
        self._seen = seen
        self._id: int | None = None
        self.restart: Callable[[], object] = monitoring.restart_events

    def start(self) -> str | None:
        """Begin; gives the reason where that cannot be."""
        for number in self.IDS:
            if monitoring.get_tool(number) is None:
                monitoring.use_tool_id(number, "greenline")
                self._id = number
                break
        else:
            names = " and ".join(str(monitoring.get_tool(number)) for number in self.IDS)
            return f"other tools hold the interpreter's monitoring ids: {names}"
        ran, seen, getframe, disable = self._ran, self._seen, sys._getframe, monitoring.DISABLE
        find = seen.numbers.get

        def started(code: CodeType, offset: int) -> Any:
            numbers = find(code.co_filename, _NEW)
            if numbers is None:
                return disable
            number = numbers.get(code.co_qualname)
            if number is not None and seen.plain:
                seen.now.add(number)
            else:
                ran(code, getframe(1))
            return disable

        def thrown(code: CodeType, offset: int, error: BaseException) -> None:  # this event cannot be switched off
            if find(code.co_filename, _NEW) is not None:
                ran(code, getframe(1))

        events = monitoring.events
        monitoring.register_callback(self._id, events.PY_START, started)
        monitoring.register_callback(self._id, events.PY_RESUME, started)
        monitoring.register_callback(self._id, events.PY_THROW, thrown)
        monitoring.set_events(self._id, events.PY_START | events.PY_RESUME | events.PY_THROW)
        return None

    def taken(self) -> str | None:
        """Who took the hooks away from us, or None."""
        if self._id is not None and monitoring.get_tool(self._id) == "greenline" and monitoring.get_events(self._id):
            return None
        holder = None if self._id is None else monitoring.get_tool(self._id)
        return f"its monitoring id went to {holder or 'nobody'}"

    def again(self) -> None:
        """Take back what was taken, if it is free."""
        self.stop()
        self.start()

    def stop(self) -> None:
        if self._id is not None and monitoring.get_tool(self._id) == "greenline":
            monitoring.set_events(self._id, 0)
            monitoring.free_tool_id(self._id)
        self._id = None


class Profile:
    """`sys.setprofile`, which sees each call. It does not see a generator that `throw` resumes."""

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

    def restart(self) -> None:
        """Each call is seen anyway."""

    def start(self) -> str | None:
        if sys.getprofile() is not None:
            return f"another tool holds the interpreter's profile hook: {sys.getprofile()!r}"
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)
        return None

    def taken(self) -> str | None:
        holder = sys.getprofile()
        return None if holder is self._profile else f"the profile hook went to {holder or 'nobody'}"

    def again(self) -> None:
        self.start()

    def stop(self) -> None:
        if sys.getprofile() is self._profile:
            threading.setprofile(None)
            sys.setprofile(None)


Core = Union[Monitoring, Profile]


def core(ran: Ran, seen: Seen) -> Core:
    return Monitoring(ran, seen) if monitoring is not None else Profile(ran, seen)
