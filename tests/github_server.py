"""A GitHub with pull requests of one repository, on loopback, that can be told to fail; it keeps all requests."""

from __future__ import annotations

import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

NAME = "org/mono"


class Request(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    body: Any


class GitHub:
    """``faults``: for the next writes, one each: "403", "422", "429", "drop" (write, and lose the answer), ""."""

    def __init__(self) -> None:
        self.pulls: list[dict[str, Any]] = []
        self.requests: list[Request] = []
        self.faults: list[str] = []
        self.url = ""

    def environment(self) -> dict[str, str]:
        return {"GITHUB_TOKEN": "ghs_testtesttesttest1234", "GITHUB_REPOSITORY": NAME, "GITHUB_API_URL": self.url}

    def writes(self) -> list[Request]:
        return [request for request in self.requests if request.method != "GET"]

    # -- what it answers ---------------------------------------------------------------------------------

    def answer(self, request: Request) -> tuple[int, Any]:
        parts = request.path.removeprefix(f"/repos/{NAME}").strip("/").split("/")
        if parts == [""]:
            return 200, {"full_name": NAME, "default_branch": "main", "url": f"{self.url}/repos/{NAME}"}
        if parts == ["pulls"] and request.method == "GET":
            return 200, self._listed(request.query)
        if parts == ["pulls"] and request.method == "POST":
            if any(pull["state"] == "open" and pull["head"]["ref"] == request.body["head"] for pull in self.pulls):
                return 422, {"message": "Validation Failed", "errors": [{"message": "A pull request already exists."}]}
            return 201, self.add(**request.body)
        if parts[0] == "pulls" and request.method == "PATCH":
            pull = self.pulls[int(parts[1]) - 1]
            pull.update(request.body)
            return 200, pull
        if parts[0] == "pulls" and parts[2:] == ["requested_reviewers"]:
            return 201, self.pulls[int(parts[1]) - 1]
        return 404, {"message": "Not Found"}

    def add(self, head: str, base: str, title: str, body: str, draft: bool = False, **more: Any) -> dict[str, Any]:
        number = len(self.pulls) + 1
        own = {"full_name": NAME, "url": f"{self.url}/repos/{NAME}"}
        pull = {
            "number": number,
            "state": "open",
            "title": title,
            "body": body,
            "draft": draft,
            "merged_at": None,
            "head": {"ref": head, "repo": own},
            "base": {"ref": base, "repo": own},
            "html_url": f"https://github.example/{NAME}/pull/{number}",
            "url": f"{self.url}/repos/{NAME}/pulls/{number}",
            **more,
        }
        self.pulls.append(pull)
        return pull

    def _listed(self, query: dict[str, str]) -> list[dict[str, Any]]:
        state, head = query.get("state", "open"), query.get("head", "").partition(":")[2]
        found = [pull for pull in self.pulls if state in ("all", pull["state"]) and head in ("", pull["head"]["ref"])]
        return found[::-1]


_FAULTS: dict[str, tuple[int, Any, dict[str, str]]] = {
    "403": (403, {"message": "Resource not accessible by integration"}, {}),
    "422": (422, {"message": "Validation Failed", "errors": [{"message": "No commits between main and it"}]}, {}),
    "429": (
        403,
        {"message": "API rate limit exceeded", "documentation_url": "https://docs.github.com/rest/rate-limit"},
        {"x-ratelimit-remaining": "0", "x-ratelimit-limit": "60"},
    ),
}


@contextmanager
def serve(before: Callable[[Request], None] = lambda _: None) -> Iterator[GitHub]:
    """Run one. ``before`` is called with each request, before it is answered."""
    github = GitHub()

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            path, _, query = self.path.partition("?")
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            request = Request(self.command, path, dict(urllib.parse.parse_qsl(query)), body)
            github.requests.append(request)
            before(request)
            fault = github.faults.pop(0) if request.method != "GET" and github.faults else ""
            if fault in _FAULTS:
                self._send(*_FAULTS[fault])
                return
            code, answer = github.answer(request)
            if fault == "drop":
                self.connection.close()
                return
            self._send(code, answer, {})

        def _send(self, code: int, answer: Any, headers: dict[str, str]) -> None:
            data = json.dumps(answer).encode()
            self.send_response(code)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(data)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = _any

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(OSError, ValueError):  # "drop" closes the connection under the server
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    github.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield github
    finally:
        server.shutdown()
        server.server_close()
