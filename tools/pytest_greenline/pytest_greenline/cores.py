"""How the interpreter tells which functions run: `sys.monitoring` from Python 3.12 on, `sys.setprofile` before.

Both call ``ran(code, frame)`` at least once for each function of ours that starts or resumes after ``restart()``.
Code is told apart by file and qualified name, never by the code object: equal ones in two files compare as equal,
and one that `exec` made must not be kept alive.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, Union

monitoring: Any = getattr(sys, "monitoring", None)
Ran = Callable[[CodeType, FrameType], None]


class Monitoring:
    """`sys.monitoring`: an event is switched off where it was seen, so that loops cost nothing.

    Coverage.py takes tool ids from 1 up, debuggers 0, profilers 2: ours come from the other end.
    """

    IDS = (4, 3)

    def __init__(self, ran: Ran, foreign: set[str]) -> None:
        self._ran = ran
        self._foreign = foreign
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
        ran, foreign, getframe, disable = self._ran, self._foreign, sys._getframe, monitoring.DISABLE

        def started(code: CodeType, offset: int) -> Any:
            if code.co_filename not in foreign:
                ran(code, getframe(1))
            return disable

        def thrown(code: CodeType, offset: int, error: BaseException) -> None:
            if code.co_filename not in foreign:
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
        self.start()

    def stop(self) -> None:
        if self._id is not None and monitoring.get_tool(self._id) == "greenline":
            monitoring.set_events(self._id, 0)
            monitoring.free_tool_id(self._id)
        self._id = None


class Profile:
    """`sys.setprofile`, which sees each call; what was seen since the last restart is looked up."""

    def __init__(self, ran: Ran, foreign: set[str]) -> None:
        seen: dict[str, set[str]] = {}
        self.restart: Callable[[], object] = seen.clear

        def profile(frame: FrameType, event: str, _: object) -> None:
            if event == "call" or event == "return":  # a throw() only returns
                code = frame.f_code
                filename = code.co_filename
                if filename not in foreign:
                    names = seen.get(filename)
                    if names is None:
                        names = seen[filename] = set()
                    if code.co_qualname not in names:
                        names.add(code.co_qualname)
                        ran(code, frame)

        self._profile = profile

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


def core(ran: Ran, foreign: set[str]) -> Core:
    return Monitoring(ran, foreign) if sys.version_info >= (3, 12) else Profile(ran, foreign)
