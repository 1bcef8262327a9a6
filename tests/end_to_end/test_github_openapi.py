"""Every request that the GitHub forge sends is one that GitHub's own description of its API allows."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from greenline.ci.forges.github import Draft, close_recovered, connect, propose

sys.path.insert(0, str(Path(__file__).parents[1]))
from github_server import GitHub, Request, serve

ROOT = Path(__file__).parents[2]
DESCRIPTION = ROOT / "build/openapi/node_modules/@octokit/openapi/generated/api.github.com.json"
BRANCH = "greenline/repair/0123456789abcdef"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def api() -> dict[str, Any]:
    if not DESCRIPTION.exists():
        pytest.skip("GitHub's OpenAPI description is not here: .ci/needs/breakage.sh brings it")
    description: dict[str, Any] = json.loads(DESCRIPTION.read_text("utf-8"))
    return description


def problems(api: dict[str, Any], request: Request) -> Iterator[str]:
    """What in a request GitHub's description does not allow."""
    operation = operation_of(api, request)
    if operation is None:
        yield f"{request.method} {request.path} is no operation"
        return
    parameters = [resolve(api, each) for each in operation.get("parameters", [])]
    known = {each["name"]: each["schema"] for each in parameters if each["in"] == "query"}
    for name, value in request.query.items():
        if name not in known:
            yield f"{request.path}: there is no parameter {name}"
        else:
            given: object = int(value) if known[name].get("type") == "integer" else value
            yield from check(api, known[name], given)
    if request.body is not None:
        body = resolve(api, operation.get("requestBody", {}))
        yield from check(api, body["content"]["application/json"]["schema"], request.body)
        allowed = resolve(api, body["content"]["application/json"]["schema"]).get("properties", {})
        yield from (f"{request.path}: there is no field {name}" for name in request.body if name not in allowed)


def operation_of(api: dict[str, Any], request: Request) -> dict[str, Any] | None:
    for template, operations in api["paths"].items():
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, request.path) and request.method.lower() in operations:
            found: dict[str, Any] = operations[request.method.lower()]
            return found
    return None


def resolve(api: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        found: Any = api
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def check(api: dict[str, Any], schema: dict[str, Any], value: object) -> Iterator[str]:
    validator = jsonschema.Draft202012Validator({**schema, "components": api["components"]})
    yield from (error.message for error in validator.iter_errors(value))


def drive(github: GitHub) -> None:
    repository = connect(github.environment())
    draft = Draft(BRANCH, "Repair: f is now g", "text", ("@ada", "@org/core"), as_draft=True)
    for body in ("text", "text", "newer"):
        propose(repository, draft._replace(body=body), "main")
    github.faults = ["drop"]
    propose(repository, draft._replace(branch="greenline/repair/fedcba9876543210"), "main")
    close_recovered(repository, ())


def test_all_requests_are_allowed(api: dict[str, Any]) -> None:
    with serve() as github:
        drive(github)
    assert {request.method for request in github.requests} == {"GET", "POST", "PATCH"}
    assert [problem for request in github.requests for problem in problems(api, request)] == []


@pytest.mark.parametrize(
    "wrong",
    [
        Request("POST", "/repos/o/r/pulls", {}, {"head": "x", "titel": "y"}),
        Request("POST", "/repos/o/r/pulls", {}, {"head": 5, "base": "main"}),
        Request("GET", "/repos/o/r/pulls", {"state": "merged"}, None),
        Request("DELETE", "/repos/o/r/pulls", {}, None),
    ],
)
def test_a_wrong_request_is_seen(api: dict[str, Any], wrong: Request) -> None:
    assert [*problems(api, wrong)]
