"""Work on many items in forked processes, where that is possible and worth it."""

from __future__ import annotations

import marshal
import os
import pickle
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

FORK_FROM = 400  # items; below, a second process costs more than it saves
MOST_PROCESSES = 8


def map_shares(
    work: Callable[[list[Item]], list[Result]], items: Sequence[Item], fork_from: int = FORK_FROM
) -> list[Result]:
    """``work`` on the items, in shares; the results in the items' order. Fewer than ``fork_from`` are done here.

    ``work`` takes a list and returns a list of the same length, of values that marshal takes. A child that dies is
    replaced by this process.
    """
    count = min(_cpus(), MOST_PROCESSES, len(items)) if len(items) >= fork_from and hasattr(os, "fork") else 1
    shares = [list(items[start::count]) for start in range(count)]
    children = [_start(work, share) for share in shares[1:]]
    results = [work(shares[0])]
    for share, (pid, pipe) in zip(shares[1:], children, strict=True):
        results.append(_collect(pid, pipe, len(share)) or work(share))
    merged: list[Result] = [None] * len(items)  # type: ignore[list-item]
    for start, result in enumerate(results):
        merged[start::count] = result
    return merged


def _start(work: Callable[[list[Item]], list[Result]], share: list[Item]) -> tuple[int, int]:
    """Fork a child that writes its results to a pipe: (its pid, the pipe's reading end)."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(out)
            with open(into, "wb") as pipe:
                pipe.write(marshal.dumps(work(share)))
            status = 0
        finally:
            os._exit(status)  # no cleanup of the parent's state in the child
    os.close(into)
    return pid, out


def _collect(pid: int, pipe: int, count: int) -> list[Result] | None:
    """A child's results, or None when it died."""
    with open(pipe, "rb") as stream:
        data = stream.read()
    _, status = os.waitpid(pid, 0)
    try:
        found = marshal.loads(data) if status == 0 else None
    except (ValueError, EOFError, TypeError):
        return None
    return found if isinstance(found, list) and len(found) == count else None


def aside(work: Callable[[], Result]) -> Callable[[], Result]:
    """Start ``work`` in a forked process, where there is a second CPU; the answer waits for its result, a pickle.

    What goes wrong there is tried again here, where it can be told.
    """
    if _cpus() < 2 or not hasattr(os, "fork"):
        return work
    child = _start(lambda share: [pickle.dumps(work())], [0])

    def result() -> Result:
        found: list[bytes] | None = _collect(*child, 1)
        return pickle.loads(found[0]) if found else work()

    return result


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
