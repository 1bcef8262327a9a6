"""Run commands that nobody trusts: a small interface, and the choice of what stands behind it.

Inside there is an empty root with a read-only system, the folders that the caller names, a private /tmp, no process,
user or network of the outside: the one network interface is the sandbox's own loopback. Declared services are the only
way out. Whatever is missing is found by a probe at the start and refused: there is no weaker mode to fall back to.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from greenline.depgraph.errors import GreenlineError

OUTPUT_BYTES = 4 << 20
"""What is kept of a command's output: half of it from the start, half from the end."""
INSIDE = os.path.join(os.path.dirname(__file__), "inside.py")
PROBE = os.path.join(os.path.dirname(__file__), "probe.py")
NOBODY = 65534
"""The user and group that commands run as when Greenline itself runs as root."""


class Service(NamedTuple):
    """What a sandbox may reach of the outside, at 127.0.0.1:``port`` or at the unix socket ``path``.

    ``target`` is where it is outside: "host:port", or the absolute path of a unix socket. ``port`` 0: none.
    """

    name: str
    target: str
    port: int = 0
    path: str = ""


class Settings(NamedTuple):
    """``repair.sandbox`` of greenline.yaml. ``readable``: absolute folders; sizes in MiB."""

    backend: str = "bubblewrap"
    readable: tuple[str, ...] = ()
    services: tuple[Service, ...] = ()
    processes: int = 512
    file_size: int = 512
    tmp_size: int = 2048
    image: str = ""
    runtime: str = "docker"
    memory: int = 8192


class Result(NamedTuple):
    """How a command ended: its exit code (128 + n after signal n), what it printed (stdout and stderr), seconds."""

    code: int
    output: str
    seconds: float
    timed_out: bool


class NoSandbox(GreenlineError):
    """There is no isolation here; nothing that needs it may run."""


class Sandbox(Protocol):
    """What every back end gives."""

    def run(
        self,
        command: Sequence[str],
        folder: str,
        *,
        environment: Mapping[str, str],
        timeout: float,
        writable: Sequence[str] = (),
        readable: Sequence[str] = (),
        services: Sequence[Service] = (),
    ) -> Result:
        """Run ``command`` in ``folder`` and wait; after ``timeout`` seconds everything it started is killed.

        ``writable`` and ``readable`` are absolute paths, seen inside where they are outside; a ``.git`` directly in a
        writable folder is read-only. ``environment`` is the whole of it (PATH and HOME have defaults). ``services``
        are added to those of the settings. stdin is empty.
        """
        ...


def open_sandbox(settings: Settings) -> Sandbox:
    """The back end of the settings, once a probe inside it has found nothing open. Raises NoSandbox."""
    from greenline.ci.repair.sandbox import bubblewrap, container

    sandbox = container.open_container(settings) if settings.backend == "container" else bubblewrap.open_bwrap(settings)
    _probe(sandbox, settings)
    return sandbox


def settings_of(values: Mapping[str, Any]) -> Settings:
    """``repair.sandbox`` as greenline.yaml gives it (all scalars are text). Raises GreenlineError."""
    services = []
    for item in values.get("services", ()):
        service = Service(item["name"], item["target"], int(item.get("port", 0)), item.get("path", ""))
        if not service.port and not service.path:
            raise GreenlineError(
                f"greenline.yaml: repair.sandbox.services: {service.name!r} has neither port nor path",
                "say where it is inside: port: '5432', or path: /var/run/postgresql/.s.PGSQL.5432",
            )
        services.append(service)
    given: dict[str, Any] = {key: values[key] for key in ("backend", "image", "runtime") if key in values}
    given |= {key: int(values[key]) for key in ("processes", "file_size", "tmp_size", "memory") if key in values}
    return Settings(**given, readable=tuple(values.get("readable", ())), services=tuple(services))


def _probe(sandbox: Sandbox, settings: Settings) -> None:
    """Try from inside what must not work, once, in a few milliseconds."""
    with (
        tempfile.TemporaryDirectory(prefix="greenline-probe-") as folder,
        tempfile.NamedTemporaryFile(prefix="greenline-canary-") as canary,
    ):
        python = "python3" if settings.backend == "container" else base_python()
        done = sandbox.run(
            [python, "-I", "-S", PROBE, canary.name, str(os.getpid())],
            folder,
            environment={},
            timeout=60,
            writable=[folder],
            readable=[os.path.dirname(PROBE)],
        )
    try:
        found = json.loads(done.output.strip().rpartition("\n")[2])
        problems = [str(item) for item in found["open"]]
    except (ValueError, KeyError, TypeError):
        first = done.output.strip().partition("\n")[0] or f"exit code {done.code}"
        raise NoSandbox(f"the sandbox ({settings.backend}) cannot start: {first}", _hint(settings)) from None
    if problems or done.code:
        raise NoSandbox(f"the sandbox ({settings.backend}) does not isolate: {'; '.join(problems)}", _hint(settings))


def _hint(settings: Settings) -> str:
    if settings.backend == "container":
        return f"see what '{settings.runtime} run {settings.image} true' says; the image needs python3"
    return (
        "user namespaces must be allowed: on Ubuntu 24.04, sudo sysctl -w "
        "kernel.apparmor_restrict_unprivileged_userns=0; in a container, start it with --privileged or use "
        "repair.sandbox.backend: container"
    )


# -- for back ends -------------------------------------------------------------------------------------------


def base_python() -> str:
    """This interpreter without its virtual environment: what starts commands inside."""
    return os.path.realpath(sys.executable)


def run_bounded(
    command: Sequence[str], environment: Mapping[str, str], timeout: float, pass_fds: Sequence[int] = ()
) -> Result:
    """Start a program in a process group of its own, keep a bounded part of its output, kill the group at the end."""
    start = time.monotonic()
    process = subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=pass_fds,
    )
    kept = _Kept()
    reader = threading.Thread(target=kept.drain, args=(process,), daemon=True)
    reader.start()
    timed_out = False
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:
        kill_group(process)
    reader.join(10)  # all writers are dead: the pipe is at its end
    code = process.returncode
    return Result(128 - code if code < 0 else code, kept.text(), time.monotonic() - start, timed_out)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with its group, and wait for it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing is left; macOS: a zombie gives the second
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class _Kept:
    """The start and the end of a stream."""

    def __init__(self) -> None:
        self.head = b""
        self.tail = b""
        self.dropped = 0

    def drain(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout
        half = OUTPUT_BYTES // 2
        while data := process.stdout.read1(1 << 16):  # type: ignore[attr-defined]
            room = half - len(self.head)
            self.head += data[:room] if room > 0 else b""
            self.tail += data[max(room, 0) :]
            if len(self.tail) > 2 * half:
                self.dropped += len(self.tail) - half
                self.tail = self.tail[-half:]

    def text(self) -> str:
        gap = f"\n[… {self.dropped} bytes …]\n".encode() if self.dropped else b""
        return (self.head + gap + self.tail).decode("utf-8", "replace")
