"""Record a process that is no pytest: what it does belongs to the test that started it."""

from __future__ import annotations

import atexit
import os

from pytest_greenline.inside import Inside
from pytest_greenline.probes import Probes
from pytest_greenline.recorder import Recorder


def attach(root: str, folder: str, suite_root: str, owner: str) -> None:
    """Begin to record. Raises OSError, or RuntimeError where it is not possible."""
    recorder = Recorder(Inside(root), folder, "child", suite_root, child_of=owner)
    reason = recorder.start()
    if reason is not None:
        raise RuntimeError(reason)
    probes = Probes(recorder)
    probes.install()

    def forked() -> None:
        try:
            recorder.become_child()
        except Exception as error:
            recorder.fail(error)

    os.register_at_fork(after_in_child=forked)
    atexit.register(recorder.close)  # callbacks that run while the interpreter ends can fail
