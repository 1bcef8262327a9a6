"""Outside of a sandbox: a unix socket in a private folder that leads to one declared service, and nowhere else."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Sequence

from greenline.ci.repair.sandbox.sandbox import Service

CONNECT_SECONDS = 10


@contextlib.contextmanager
def relays(services: Sequence[Service], folder: str, user: int | None) -> Iterator[list[tuple[Service, str]]]:
    """The socket outside of each service. Sockets that lead to a TCP port are made in ``folder``, for ``user``."""
    servers: list[socket.socket] = []
    found = []
    try:
        for number, service in enumerate(services):
            if service.target.startswith("/"):
                found.append((service, service.target))
                continue
            path = os.path.join(folder, f"{number}.sock")
            server = socket.socket(socket.AF_UNIX)
            servers.append(server)
            server.bind(path)
            if user is not None:
                os.chown(path, user, user)
            server.listen(64)
            threading.Thread(target=_accept, args=(server, service.target), daemon=True).start()
            found.append((service, path))
        yield found
    finally:
        for server in servers:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()


def _accept(server: socket.socket, target: str) -> None:
    host, _, port = target.rpartition(":")
    while True:
        try:
            one, _ = server.accept()
        except OSError:  # closed: the run is over
            return
        try:
            other = socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS)
            other.settimeout(None)
        except OSError:
            one.close()
            continue
        threading.Thread(target=_copy, args=(one, other), daemon=True).start()
        threading.Thread(target=_copy, args=(other, one), daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
