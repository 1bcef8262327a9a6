"""The second back end: a container runtime's command line (docker, podman), for machines without user namespaces."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence

from greenline.ci.repair.sandbox.relay import relays
from greenline.ci.repair.sandbox.sandbox import (
    INSIDE,
    NOBODY,
    NoSandbox,
    Result,
    Service,
    Settings,
    run_bounded,
)
from greenline.depgraph.errors import GreenlineError

STOP_SECONDS = 30


class Container:
    """See :class:`greenline.ci.repair.sandbox.sandbox.Sandbox`. The image has python3 and what the tests need."""

    def __init__(self, program: str, settings: Settings) -> None:
        self.program = program
        self.settings = settings
        self.user = NOBODY if os.geteuid() == 0 else os.geteuid()
        self.group = NOBODY if os.geteuid() == 0 else os.getegid()

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
        from greenline.ci.repair.sandbox.bubblewrap import _give

        name = f"greenline-{secrets.token_hex(8)}"
        with (
            tempfile.TemporaryDirectory(prefix="greenline-sandbox-") as scratch,
            relays((*self.settings.services, *services), scratch, self.user) as reached,
        ):
            plan = {
                "user": None,
                "folder": folder,
                "limits": {"fsize": self.settings.file_size << 20, "cpu": int(timeout) + 60},
                "services": [
                    (service.port, f"/run/greenline/{number}.sock")
                    for number, (service, _) in enumerate(reached)
                    if service.port
                ],
            }
            mounts = self._mounts(folder, writable, readable, reached)
            variables = [part for key, value in sorted(environment.items()) for part in ("--env", f"{key}={value}")]
            start = ["python3", "-I", "-S", "/run/greenline/inside.py", json.dumps(plan), *command]
            whole = [self.program, "run", "--name", name, *self._limits(), *mounts, *variables]
            own = {
                key: os.environ[key] for key in ("PATH", "HOME", "DOCKER_HOST", "XDG_RUNTIME_DIR") if key in os.environ
            }
            if os.geteuid() == 0:
                _give(writable, self.user)
            try:
                return run_bounded([*whole, self.settings.image, *start], own, timeout)
            finally:
                # Killing the client does not end the container.
                subprocess.run(
                    [self.program, "rm", "--force", name], capture_output=True, timeout=STOP_SECONDS, env=own
                )
                if os.geteuid() == 0:
                    _give(writable, 0)

    def _limits(self) -> list[str]:
        return [
            *("--rm", "--init", "--pull", "never", "--network", "none", "--read-only"),
            *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
            *("--user", f"{self.user}:{self.group}", "--hostname", "sandbox"),
            *("--pids-limit", str(self.settings.processes), "--memory", f"{self.settings.memory}m"),
            *("--memory-swap", f"{self.settings.memory}m"),
            *("--tmpfs", f"/tmp:rw,nosuid,nodev,exec,size={self.settings.tmp_size}m,mode=1777"),
            *("--env", "HOME=/tmp", "--env", "TMPDIR=/tmp", "--env", "LANG=C.UTF-8"),
        ]

    def _mounts(
        self,
        folder: str,
        writable: Sequence[str],
        readable: Sequence[str],
        reached: Sequence[tuple[Service, str]],
    ) -> list[str]:
        own = {path: ",readonly" for path in (folder, *self.settings.readable, *readable)}
        own |= {path: "" for path in writable}
        own |= {git: ",readonly" for path in writable if os.path.lexists(git := os.path.join(path, ".git"))}
        pairs = [(path, path, own[path]) for path in sorted(own)]
        pairs.append((INSIDE, "/run/greenline/inside.py", ",readonly"))
        for number, (service, outside) in enumerate(reached):
            if service.port:
                pairs.append((outside, f"/run/greenline/{number}.sock", ""))
            if service.path:
                pairs.append((outside, service.path, ""))
        return [
            part
            for source, target, mode in pairs
            for part in ("--mount", f"type=bind,source={_safe(source)},target={_safe(target)}{mode}")
        ]


def open_container(settings: Settings) -> Container:
    """Raises NoSandbox where the runtime is missing or does not answer."""
    program = shutil.which(settings.runtime)
    if not program:
        raise NoSandbox(f"{settings.runtime} is not installed", "see repair.sandbox.runtime in greenline.yaml")
    if not settings.image:
        raise NoSandbox("no image is named for the sandbox", "set repair.sandbox.image in greenline.yaml")
    try:
        done = subprocess.run([program, "version"], capture_output=True, text=True, timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        raise NoSandbox(f"{settings.runtime} does not answer", f"see what '{settings.runtime} version' says") from None
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise NoSandbox(f"{settings.runtime} cannot run containers: {reason}", f"start {settings.runtime}'s service")
    return Container(program, settings)


def _safe(path: str) -> str:
    """A path that --mount reads as one field."""
    if "," in path or '"' in path or "\n" in path:
        raise GreenlineError(f"a container cannot be given the path {path!r}", "use a path without commas and quotes")
    return path
