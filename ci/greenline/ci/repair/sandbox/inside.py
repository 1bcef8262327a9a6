"""The first program inside a sandbox: sets limits, gives up root, brings services to the loopback, starts the command.

Standard library only; runs under ``python -I -S``. The one argument before the command is JSON:
``{"user": id or null, "folder": path, "limits": {"nproc": n, "fsize": bytes, "cpu": seconds},
"services": [[port, path of a socket], …]}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import sys
import threading


def main(plan: dict[str, object], command: list[str]) -> None:
    listening = [(_listen(int(port)), path) for port, path in plan["services"]]  # type: ignore[attr-defined]
    user = plan["user"]
    if isinstance(user, int):
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    os.chdir(str(plan["folder"]))
    for name, value in {**plan["limits"], "core": 0}.items():  # type: ignore[dict-item]
        kind = getattr(resource, f"RLIMIT_{name.upper()}")
        hard = resource.getrlimit(kind)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (most, most))
    if listening and not os.fork():
        _serve(listening)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        os._exit(127)


def _listen(port: int) -> socket.socket:
    server = socket.create_server(("127.0.0.1", port), backlog=64)
    server.set_inheritable(False)
    return server


def _serve(listening: list[tuple[socket.socket, str]]) -> None:
    """Forward connections for ever; the end of the sandbox's first process ends this one too."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # the caller waits for the end of these pipes
        os.dup2(null, descriptor)
    threads = [threading.Thread(target=_accept, args=pair) for pair in listening]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _accept(server: socket.socket, path: str) -> None:
    while True:
        one, _ = server.accept()
        other = socket.socket(socket.AF_UNIX)
        try:
            other.connect(path)
        except OSError:
            one.close()
            other.close()
            continue
        threading.Thread(target=_copy, args=(one, other), daemon=True).start()
        threading.Thread(target=_copy, args=(other, one), daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
