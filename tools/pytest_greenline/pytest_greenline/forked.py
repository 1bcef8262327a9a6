"""The forking pass: what a test runs when it is alone, and so what caches hide in a shared process.

A functools.cache, a compiled pattern, a registry: whoever comes first runs the code that fills it, and the others do
not. Here each test runs in a fork of the collected session first, then all run as always. What only the run alone has
belongs to the block that called it and that ran in the shared process too: who runs that block depends on what filled
its cache.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import threading
from typing import Optional

import pytest
from _pytest.runner import runtestprotocol

from pytest_greenline.recorder import Owner, Recorder

Block = tuple[str, str]
Alone = dict[Block, Optional[Block]]
"""Each block that ran, and the one that called it first."""


def cannot_fork() -> str:
    """Why a forking pass is impossible here, or ""."""
    if not hasattr(os, "fork"):
        return "this system cannot fork"
    cuda = getattr(sys.modules.get("torch"), "cuda", None)  # not imported for this
    if cuda is not None and cuda.is_initialized():
        return "CUDA is initialized, and a fork could not use it"
    others = sorted(each.name for each in threading.enumerate() if each is not threading.current_thread())
    return f"threads run already ({', '.join(others)}), and a fork would lose them" if others else ""


def run_alone(item: pytest.Item, recorder: Recorder, owner: Owner) -> Alone | None:
    """Run a test in a fork, ``owner`` standing for it; None unless it passes there."""
    handle, path = tempfile.mkstemp(prefix="greenline-alone-")
    os.close(handle)
    recorder.flush()
    child = os.fork()
    if child == 0:
        try:
            passed = _in_child(item, recorder, owner, path)
        except BaseException:
            passed = False
        os._exit(0 if passed else 1)
    _, status = os.waitpid(child, 0)
    try:
        if status != 0:
            return None
        with open(path, encoding="utf-8") as file:
            return {(name[0], name[1]): (caller[0], caller[1]) if caller else None for name, caller in json.load(file)}
    finally:
        os.unlink(path)


def _in_child(item: pytest.Item, recorder: Recorder, owner: Owner, path: str) -> bool:
    recorder.alone(io.BytesIO())
    depth = recorder.begin(owner)
    reports = runtestprotocol(item, log=False, nextitem=None)
    recorder.end(depth)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(
            [(name, caller) for name, caller in recorder.edges_of([owner, *recorder.units.values()]).items()], file
        )
    return all(report.passed for report in reports)


def cache_edges(alone: Alone, shared: set[Block]) -> tuple[dict[Block, set[Block]], set[Block]]:
    """What only the run alone has: by the block that ran in both and led to it; and what nothing led to."""
    edges: dict[Block, set[Block]] = {}
    rest: set[Block] = set()
    for block in alone:
        if block in shared:
            continue
        caller, passed = alone[block], {block}
        while caller is not None and caller not in shared and caller not in passed:
            passed.add(caller)
            caller = alone.get(caller)
        if caller is not None and caller in shared:
            edges.setdefault(caller, set()).add(block)
        else:
            rest.add(block)
    return edges, rest
