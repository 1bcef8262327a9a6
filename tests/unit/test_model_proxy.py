"""The proxy between a sandbox and a model: what it lets through, what it adds, what it counts."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from greenline.ci.repair.agents.proxy import Gate, Spent, proxy
from greenline.ci.repair.agents.settings import Agent, agents_of
from greenline.depgraph.errors import GreenlineError

GATE = Gate(("/v1/messages",), "X-Api-Key")
USAGE = b'data: {"usage":{"input_tokens":1000,"cache_read_input_tokens":500,"output_tokens":7}}\n\n'


class Service(ThreadingHTTPServer):
    """A model service; the path of the endpoint says how it answers."""

    daemon_threads = True

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers), body))
        self.send_response(429 if self.path.startswith("/busy") else 200)
        if self.path.startswith("/fixed"):
            self.send_header("Content-Length", str(len(USAGE)))
            self.end_headers()
            self.wfile.write(USAGE)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in (USAGE[:40], USAGE[40:]):  # a number may be cut in two
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        if self.path.startswith("/drop"):
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("model", timeout=20)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self.path)


@pytest.fixture
def service() -> Iterator[Service]:
    server = Service()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def agent(service: Service, path: str = "", **more: Any) -> Agent:
    endpoint = f"http://127.0.0.1:{service.server_address[1]}{path}"
    return Agent("a", "command", ("x",), endpoint=endpoint)._replace(**more)


def ask(path: str, to: str = "/v1/messages", body: bytes = b"{}", **headers: str) -> tuple[int, bytes]:
    connection = _Unix(path)
    connection.request("POST", to, body, headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, data


@pytest.mark.parametrize("path", ["", "/fixed"])
def test_it_adds_the_key_and_counts(service: Service, tmp_path: Path, path: str) -> None:
    name = str(tmp_path / "s")
    priced = agent(service, path, input_price=2.0, output_price=10.0)
    with proxy(priced, GATE, "the-key", name) as spent:
        answer = ask(name, "/v1/messages?beta=true", Authorization="Bearer mine", Cookie="c", **{"X-Api-Key": "mine"})
    assert answer == (200, USAGE)
    assert (spent.requests, spent.input_tokens, spent.output_tokens) == (1, 1500, 7)
    assert spent.cost(priced) == pytest.approx((1500 * 2 + 7 * 10) / 1e6)
    ((seen, headers, body),) = service.seen
    assert seen == f"{path}/v1/messages?beta=true" and body == b"{}"
    assert headers["X-Api-Key"] == "the-key" and "mine" not in str(headers) and "Cookie" not in headers


@pytest.mark.parametrize(
    ("to", "body"),
    [
        ("/v1/files", b"{}"),
        ("/v1/messages/../files", b"{}"),
        ("//evil/v1/messages", b"{}"),
        ("http://evil.example/v1/messages", b"{}"),
        ("/v1/messages", b'{"prompt": "canary-5f2e9c"}'),
    ],
)
def test_what_does_not_pass(service: Service, tmp_path: Path, to: str, body: bytes) -> None:
    name = str(tmp_path / "s")
    with proxy(agent(service), GATE, "the-key", name, ("canary-5f2e9c",)) as spent:
        code, answer = ask(name, to, body)
    assert code == 403 and b"greenline" in answer and b"the-key" not in answer
    assert service.seen == [] and len(spent.notes) == 1 and "canary" not in spent.notes[0]


def test_a_limit_on_requests_and_one_on_money(service: Service, tmp_path: Path) -> None:
    for number, limited in enumerate((agent(service, requests=2), agent(service, budget=0.003, input_price=1.0))):
        name = str(tmp_path / str(number))
        with proxy(limited, GATE, "k", name) as spent:
            codes = [ask(name)[0] for _ in range(5)]
        assert codes == [200, 200, 403, 403, 403]
        assert "its budget is spent" in spent.notes[0]


def test_faults_come_through_as_they_are(service: Service, tmp_path: Path) -> None:
    name = str(tmp_path / "s")
    with proxy(agent(service, "/busy"), GATE, "k", name) as spent:
        assert ask(name)[0] == 429
    assert spent.notes == ["the model service answered 429"]
    name = str(tmp_path / "t")
    with proxy(agent(service, "/drop"), GATE, "k", name), pytest.raises(http.client.IncompleteRead):
        ask(name)
    service.server_close()
    name = str(tmp_path / "u")
    with proxy(agent(service), GATE, "k", name) as spent:
        assert ask(name)[0] == 502
    assert spent.notes == ["the model service cannot be reached"]


def test_an_endpoint_that_is_no_url_is_told(service: Service, tmp_path: Path) -> None:
    wrong = agent(service)._replace(endpoint="ftp://x")
    with pytest.raises(GreenlineError, match="no http"), proxy(wrong, GATE, "k", str(tmp_path / "s")):
        pass


def test_agents_are_read_from_text() -> None:
    codex, own = agents_of(
        [
            {"name": "codex", "kind": "codex", "attempts": "2", "budget": "1.5", "input_price": "2"},
            {"name": "own", "kind": "command", "command": ["x", "y"]},
        ]
    )
    assert (codex.attempts, codex.budget, codex.key, codex.command) == (2, 1.5, "OPENAI_API_KEY", ("codex",))
    assert codex.endpoint.startswith("https://") and (own.endpoint, own.key) == ("", "")


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([{"name": "a", "kind": "codex"}, {"name": "a", "kind": "claude"}], "stands twice"),
        ([{"name": "a", "kind": "command"}], "has no command"),
        ([{"name": "a", "kind": "claude", "budget": "1"}], "no price"),
    ],
)
def test_wrong_agents_are_told(entries: list[dict[str, str]], says: str) -> None:
    with pytest.raises(GreenlineError, match=says):
        agents_of(entries)


def test_nothing_is_spent_at_first() -> None:
    assert Spent().cost(Agent("a", "codex", ("x",), input_price=1.0)) == 0
