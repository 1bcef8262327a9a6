"""Scripted model services on loopback: they answer the real agents in the protocols of OpenAI and Anthropic.

A script is a list of steps; the step is chosen by how many tool results a request already holds, so any number of
attempts may run against one server. Steps: ``("shell", command)``, ``("edit", path, old, new)``, ``("write", path,
text)``, ``("read", path)``, ``("say", text)``, and a fault, one of FAULTS. The endpoint of script n is
``server.url(n)``.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("400", "401", "429", "500", "refusal", "hang before headers", "hang in mid-stream", "drop", "empty")
Step = tuple[str, ...]


class ModelServer(ThreadingHTTPServer):
    """``requests``: path, headers and body of everything that came in."""

    daemon_threads = True

    def __init__(self, scripts: Sequence[Sequence[Step]]) -> None:
        self.scripts = scripts
        self.requests: list[tuple[str, dict[str, str], str]] = []
        self.stopped = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    def url(self, script: int = 0) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{script}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients are killed in these tests."""


@contextlib.contextmanager
def model_server(*scripts: Sequence[Step]) -> Iterator[ModelServer]:
    server = ModelServer(scripts)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopped.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ModelServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers), ""))
        self._json(404, {"error": {"message": "no such thing"}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.requests.append((self.path, dict(self.headers), body.decode("utf-8", "replace")))
        request = json.loads(body)
        number, _, path = self.path.lstrip("/").partition("/")
        script = self.server.scripts[int(number)]
        path = path.partition("?")[0]
        openai = path.endswith("responses")
        if path.endswith("count_tokens"):
            return self._json(200, {"input_tokens": 10})
        step = script[min(_results(request), len(script) - 1)]
        if step[0] in ("400", "401", "429", "500"):
            return self._json(
                int(step[0]), {"type": "error", "error": {"type": "scripted", "message": f"scripted {step[0]}"}}
            )
        if step[0] == "hang before headers":
            self.server.stopped.wait(60)
            return None
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        events = _openai(step, _results(request)) if openai else _anthropic(step, _results(request))
        for event in events[:2] if step[0] in ("hang in mid-stream", "drop") else events:
            data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.flush()
        if step[0] == "hang in mid-stream":
            self.server.stopped.wait(60)
        if step[0] in ("hang in mid-stream", "drop"):
            self.close_connection = True
            return None
        self.wfile.write(b"0\r\n\r\n")

    def _json(self, code: int, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _results(request: dict[str, Any]) -> int:
    """How many tool results a conversation holds."""
    found = sum(
        item.get("type") == "function_call_output" for item in request.get("input", ()) if isinstance(item, dict)
    )
    for message in request.get("messages", ()):
        if isinstance(message["content"], list):
            found += sum(part.get("type") == "tool_result" for part in message["content"])
    return found


def _openai(step: Step, number: int) -> list[dict[str, Any]]:
    kind = step[0]
    if kind in ("say", "drop", "hang in mid-stream"):
        text = step[1] if kind == "say" else "one moment"
        item = {
            "type": "message",
            "role": "assistant",
            "id": f"m{number}",
            "content": [{"type": "output_text", "text": text}],
        }
    elif kind == "refusal":
        item = {
            "type": "message",
            "role": "assistant",
            "id": "m",
            "content": [{"type": "refusal", "refusal": "I cannot"}],
        }
    elif kind == "empty":
        item = {}
    else:
        arguments = json.dumps({"cmd": _as_shell(step), "yield_time_ms": 30_000})
        item = {
            "type": "function_call",
            "id": f"f{number}",
            "call_id": f"c{number}",
            "name": "exec_command",
            "arguments": arguments,
        }
    usage = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}
    output = [item] if item else []
    events: list[dict[str, Any]] = [{"type": "response.created", "response": {"id": f"r{number}"}}]
    for part in output:
        events += [{"type": "response.output_item.added", "output_index": 0, "item": part}]
        events += [{"type": "response.output_item.done", "output_index": 0, "item": part}]
    return [*events, {"type": "response.completed", "response": {"id": f"r{number}", "output": output, "usage": usage}}]


def _as_shell(step: Step) -> str:
    """What the shell tool does instead of a tool of its own for edits."""
    if step[0] == "shell":
        return step[1]
    if step[0] == "read":
        return f"cat {shlex.quote(step[1])}"
    if step[0] == "write":
        return f"printf %s {shlex.quote(step[2])} > {shlex.quote(step[1])}"
    code = "import sys; p, a, b = sys.argv[1:]; s = open(p).read(); open(p, 'w').write(s.replace(a, b))"
    return shlex.join(["python3", "-c", code, *step[1:]])


def _anthropic(step: Step, number: int) -> list[dict[str, Any]]:
    kind = step[0]
    start: dict[str, Any] | None
    if kind in ("say", "drop", "hang in mid-stream"):
        start, delta = (
            {"type": "text", "text": ""},
            {"type": "text_delta", "text": step[1] if kind == "say" else "one moment"},
        )
    elif kind in ("refusal", "empty"):
        start, delta = None, {}
    else:
        name = {"shell": "Bash", "edit": "Edit", "write": "Write", "read": "Read"}[kind]
        keys = {
            "shell": ("command",),
            "edit": ("file_path", "old_string", "new_string"),
            "write": ("file_path", "content"),
        }
        given = dict(zip(keys.get(kind, ("file_path",)), step[1:], strict=True))
        start = {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(given)}
    stop = {"refusal": "refusal", "say": "end_turn", "empty": "end_turn"}.get(kind, "tool_use")
    message = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": "scripted", "content": []}
    usage = {"input_tokens": 1000, "output_tokens": 1}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None, "usage": usage}}
    ]
    if start is not None:
        events += [{"type": "content_block_start", "index": 0, "content_block": start}]
        events += [{"type": "content_block_delta", "index": 0, "delta": delta}]
        events += [{"type": "content_block_stop", "index": 0}]
    end = {"stop_reason": stop, "stop_sequence": None}
    return [*events, {"type": "message_delta", "delta": end, "usage": {"output_tokens": 100}}, {"type": "message_stop"}]
