"""The first back end: bubblewrap. An empty root, read-only /usr, own user, process, network and IPC namespaces."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence

from greenline.ci.repair.sandbox.interpreters import base_of
from greenline.ci.repair.sandbox.relay import relays
from greenline.ci.repair.sandbox.sandbox import (
    INSIDE,
    NOBODY,
    NoSandbox,
    Result,
    Service,
    Settings,
    base_python,
    run_bounded,
)

HOME = "/tmp/home"
_ETC = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "ssl/certs", "ssl/openssl.cnf")
_MADE = {
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "resolv.conf": "",
}


class Bubblewrap:
    """See :class:`greenline.ci.repair.sandbox.sandbox.Sandbox`.

    Run by root, bubblewrap keeps root's user namespace and :mod:`inside` changes to an unprivileged user: root in a
    namespace would still own the host's files and escape the limit on processes.
    """

    def __init__(self, program: str, settings: Settings) -> None:
        self.program = program
        self.settings = settings
        self.user = NOBODY if os.geteuid() == 0 else None

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
        with (
            tempfile.TemporaryDirectory(prefix="greenline-sandbox-") as scratch,
            relays((*self.settings.services, *services), scratch, self.user) as reached,
        ):
            plan = {
                "user": self.user,
                "folder": folder,
                "limits": {
                    "nproc": self.settings.processes,
                    "fsize": self.settings.file_size << 20,
                    "cpu": int(timeout) + 60,
                },
                "services": [
                    (service.port, f"/run/greenline/{number}.sock")
                    for number, (service, _) in enumerate(reached)
                    if service.port
                ],
            }
            arguments = [
                *self._namespaces(),
                *self._system(scratch),
                *self._folders(folder, writable, readable),
                *_sockets(reached),
                *("--ro-bind", INSIDE, "/run/greenline/inside.py", "--remount-ro", "/", "--chdir", "/"),
            ]
            start = [base_python(), "-I", "-S", "/run/greenline/inside.py", json.dumps(plan)]
            whole = {"PATH": _path(), "HOME": HOME, "TMPDIR": "/tmp", "LANG": "C.UTF-8", **environment}
            if self.user is not None:
                _give(writable, self.user)
            try:
                return run_bounded([self.program, *arguments, "--", *start, *command], whole, timeout)
            finally:
                if self.user is not None:
                    _give(writable, 0)

    def _namespaces(self) -> list[str]:
        arguments = ["--die-with-parent", "--new-session", "--unshare-pid", "--unshare-net", "--unshare-ipc"]
        arguments += ["--unshare-uts", "--unshare-cgroup-try", "--hostname", "sandbox", "--cap-drop", "ALL"]
        if self.user is None:
            return [*arguments, "--unshare-user"]
        return [*arguments, "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]

    def _system(self, scratch: str) -> list[str]:
        """/usr, what every program wants of /etc, and empty folders where programs write."""
        size = ["--size", str(self.settings.tmp_size << 20), "--perms", "1777", "--tmpfs", "/tmp"]
        arguments = ["--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev", *size]
        arguments += ["--perms", "1777", "--dir", HOME, "--tmpfs", "/run", "--dir", "/run/greenline"]
        arguments += ["--dir", "/etc", "--dir", "/etc/ssl"]
        for name in ("bin", "sbin", "lib", "lib32", "lib64"):
            if os.path.islink(f"/{name}"):
                arguments += ["--symlink", os.readlink(f"/{name}"), f"/{name}"]
            elif os.path.isdir(f"/{name}"):
                arguments += ["--ro-bind", f"/{name}", f"/{name}"]
        for name in _ETC:
            arguments += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
        user = os.geteuid() if self.user is None else self.user
        group = os.getegid() if self.user is None else self.user
        made = {
            **_MADE,
            "passwd": f"agent:x:{user}:{group}:agent:{HOME}:/bin/sh\n",
            "group": f"agent:x:{group}:\n",
        }
        for name, text in made.items():
            path = os.path.join(scratch, name)
            with open(path, "w", encoding="ascii") as file:
                file.write(text)
            arguments += ["--ro-bind", path, f"/etc/{name}"]
        return arguments

    def _folders(self, folder: str, writable: Sequence[str], readable: Sequence[str]) -> list[str]:
        """The caller's folders, outer ones first, so that an inner one is not covered by an outer one."""
        named = (*self.settings.readable, *readable)
        bases = [base for path in named if (base := base_of(path))]
        own = {path: "--ro-bind" for path in (*_interpreter(), *bases, *named)}
        own |= {path: "--bind" for path in writable}
        own |= {git: "--ro-bind" for path in writable if os.path.lexists(git := os.path.join(path, ".git"))}
        if not any(_is_below(folder, path) for path in own):
            own[folder] = "--ro-bind"
        arguments: list[str] = []
        mounted = {"/usr": "--ro-bind"}
        for path in sorted(own):
            above = max((top for top in mounted if _is_below(path, top)), key=len, default="")
            if above and mounted[above] == own[path]:
                continue  # it is there already
            if not above:  # left to itself, bubblewrap makes missing parents that only their owner may enter
                arguments += [part for parent in _parents(path) for part in ("--dir", parent)]
            arguments += [own[path], path, path]
            mounted[path] = own[path]
        return arguments


def open_bwrap(settings: Settings) -> Bubblewrap:
    """Raises NoSandbox where bubblewrap is missing; whether it isolates is for the probe."""
    program = shutil.which("bwrap")
    if not program:
        raise NoSandbox(
            "bubblewrap is not installed, and commands of agents run in no other way",
            "install it (apt install bubblewrap), or set repair.sandbox.backend: container",
        )
    return Bubblewrap(program, settings)


def _sockets(reached: Sequence[tuple[Service, str]]) -> list[str]:
    arguments = []
    for number, (service, outside) in enumerate(reached):
        if service.port:
            arguments += ["--bind", outside, f"/run/greenline/{number}.sock"]
        if service.path:
            arguments += ["--bind", outside, service.path]
    return arguments


def _interpreter() -> list[str]:
    """The folders of the Python that runs Greenline, so that it can start commands inside."""
    return sorted({os.path.realpath(sys.base_prefix), os.path.realpath(sys.base_exec_prefix)})


def _path() -> str:
    return ":".join((os.path.dirname(base_python()), "/usr/local/bin", "/usr/bin", "/bin"))


def _parents(path: str) -> list[str]:
    """The folders above an absolute path, from the outermost; without the root and /tmp."""
    parts = path.split("/")[1:-1]
    found = ["/" + "/".join(parts[: count + 1]) for count in range(len(parts))]
    return [parent for parent in found if parent != "/tmp"]


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _give(folders: Sequence[str], user: int) -> None:
    """Make a user the owner of these folders; links are not followed, and ``.git`` directly in one stays as it is."""
    for top in folders:
        os.lchown(top, user, user)
        for current, inner, files in os.walk(top):
            if current == top and ".git" in inner:
                inner.remove(".git")
            for name in (*inner, *files):
                if current != top or name != ".git":
                    os.lchown(os.path.join(current, name), user, user)
