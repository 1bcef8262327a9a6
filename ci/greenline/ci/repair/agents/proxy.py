"""The one way from a sandbox to a model: a small HTTP server outside, behind a unix socket.

It knows the key, which the agent never sees; forwards to one endpoint and a few paths; counts requests, tokens and
money by what the service itself reports; and answers 403 once a limit is reached.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import socketserver
import ssl
import threading
import urllib.parse
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple

from greenline.ci.repair.agents.settings import Agent
from greenline.depgraph.errors import GreenlineError

MOST_BODY = 64 << 20
CONNECT_SECONDS = 30
_NOT_FORWARDED = ("host", "authorization", "x-api-key", "cookie", "accept-encoding", "content-length")
_HOP = ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding")
_USAGE = re.compile(
    rb'"(input_tokens|output_tokens|cache_creation_input_tokens|cache_read_input_tokens)"\s*:\s*(\d{1,12})(?=\D)'
)


class Gate(NamedTuple):
    """What may pass: paths, and the header that carries the key ("Authorization", "Bearer {}")."""

    paths: tuple[str, ...]
    header: str
    form: str = "{}"


class Spent:
    """What one attempt has used so far. ``notes``: requests that were turned away, and errors of the
    service, in order, each once."""

    def __init__(self) -> None:
        self.requests = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.notes: list[str] = []
        self.lock = threading.Lock()

    def cost(self, agent: Agent) -> float:
        """In US dollars; tokens read from a cache count in full."""
        return (self.input_tokens * agent.input_price + self.output_tokens * agent.output_price) / 1e6


@contextlib.contextmanager
def proxy(agent: Agent, gate: Gate, key: str, path: str, secrets: Sequence[str] = ()) -> Iterator[Spent]:
    """Serve on the unix socket ``path`` until the block is left. ``secrets`` may not pass in a request's body."""
    target = urllib.parse.urlsplit(agent.endpoint)
    if target.scheme not in ("http", "https") or not target.hostname:
        raise GreenlineError(
            f"greenline.yaml: repair.agents: the endpoint of {agent.name!r} is no http(s) URL: {agent.endpoint!r}"
        )
    spent = Spent()
    server = _Server(path, _Handler)
    server.setting = (agent, gate, key, tuple(secrets), target, spent)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield spent
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        for upstream in list(server.upstream):  # an attempt was killed: nobody waits for these answers
            with contextlib.suppress(OSError):
                upstream.shutdown(socket.SHUT_RDWR)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    setting: tuple[Agent, Gate, str, tuple[str, ...], urllib.parse.SplitResult, Spent]

    def __init__(self, path: str, handler: type[_Handler]) -> None:
        self.upstream: set[socket.socket] = set()
        super().__init__(path, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The agent went away, or the service did: neither is news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what an agent asks for is in its own log."""

    def address_string(self) -> str:
        return "sandbox"

    def do_HEAD(self) -> None:
        self._forward()

    def do_GET(self) -> None:
        self._forward()

    def do_POST(self) -> None:
        self._forward()

    def _forward(self) -> None:
        agent, gate, key, secrets, target, spent = self.server.setting
        self.answering = False
        path = self.path.partition("?")[0]
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdigit() or int(length) > MOST_BODY:
            return self._refuse("a request without a usable length")
        body = self.rfile.read(int(length))
        if path not in gate.paths or "//" in self.path or ".." in self.path:
            return self._refuse(f"{self.command} {path[:60]!r} is not the model's")
        if any(secret.encode("utf-8", "surrogateescape") in body for secret in secrets):
            return self._refuse("a request held a secret of this machine")
        with spent.lock:
            over = spent.requests >= agent.requests or (agent.budget and spent.cost(agent) >= agent.budget)
            spent.requests += not over
        if over:
            return self._refuse(f"its budget is spent ({spent.requests} requests, {spent.cost(agent):.2f} US dollars)")
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in _NOT_FORWARDED and name.lower() not in _HOP
        }
        headers[gate.header] = gate.form.format(key)
        connection = _connect(target)
        try:
            connection.connect()
            connection.sock.settimeout(None)  # the attempt's own limit ends a silent service
            self.server.upstream.add(connection.sock)
            connection.request(self.command, target.path.rstrip("/") + self.path, body or None, headers)
            self._answer(connection.getresponse(), spent)
        except (OSError, http.client.HTTPException):
            self.close_connection = True  # in mid-answer: the agent sees a dropped stream, as it was
            if not self.answering:
                self._refuse("the model service cannot be reached", code=502)
        finally:
            self.server.upstream.discard(connection.sock)
            connection.close()

    def _answer(self, answer: http.client.HTTPResponse, spent: Spent) -> None:
        self.answering = True
        if answer.status >= 400:
            self._note(f"the model service answered {answer.status}")
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP and name.lower() != "set-cookie":
                self.send_header(name, value)
        known = answer.getheader("Content-Length") is not None or self.command == "HEAD" or answer.status in (204, 304)
        if not known:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        usage: dict[bytes, int] = {}
        recent = b""
        left = int(answer.getheader("Content-Length") or 0)
        while self.command != "HEAD" and (data := answer.read1(65536)):
            left -= len(data)
            recent = recent[-80:] + data
            for name_, number in _USAGE.findall(recent):
                usage[name_] = max(usage.get(name_, 0), int(number))
            self.wfile.write(data if known else b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.flush()
        with spent.lock:
            output = usage.pop(b"output_tokens", 0)
            spent.output_tokens += output
            spent.input_tokens += sum(usage.values())
        if known and left > 0 and self.command != "HEAD":
            self.close_connection = True
        elif not known:
            if not answer.isclosed():
                raise http.client.IncompleteRead(b"")
            self.wfile.write(b"0\r\n\r\n")

    def _note(self, what: str) -> None:
        notes = self.server.setting[-1].notes
        if what not in notes:
            notes.append(what)

    def _refuse(self, why: str, code: int = 403) -> None:
        self._note(why)
        error = {"type": "permission_error", "message": f"greenline: {why}"}
        text = json.dumps({"type": "error", "error": error}).encode("ascii")
        self.close_connection = True
        self.send_response_only(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)


def _connect(target: urllib.parse.SplitResult) -> http.client.HTTPConnection:
    """A connection to the endpoint, through the proxy that ``HTTPS_PROXY`` names, if one does."""
    assert target.hostname
    via = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    if target.scheme == "http":
        return http.client.HTTPConnection(target.hostname, target.port or 80, timeout=CONNECT_SECONDS)
    context = ssl.create_default_context()
    if not via:
        return http.client.HTTPSConnection(
            target.hostname, target.port or 443, timeout=CONNECT_SECONDS, context=context
        )
    hop = urllib.parse.urlsplit(via if "://" in via else f"http://{via}")
    assert hop.hostname
    connection = http.client.HTTPSConnection(hop.hostname, hop.port or 3128, timeout=CONNECT_SECONDS, context=context)
    connection.set_tunnel(target.hostname, target.port or 443)
    return connection
