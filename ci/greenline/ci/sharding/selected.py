"""Which tests are to be planned: a list of ids or files, or what `greenline affected` answered."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from greenline.ci.affected import Answer
from greenline.ci.sharding.needs import file_of
from greenline.depgraph.errors import GreenlineError


class Selected(NamedTuple):
    """What to plan. ``items``: files, classes, functions and single ids, as given, each with its suite ("": not known).

    ``exact``: tests of these files that are no items were left out on purpose. ``root``: of the repository, or None.
    """

    items: tuple[tuple[str, str], ...]
    exact: bool = False
    suites: tuple[tuple[str, str], ...] = ()
    base: str | None = None
    root: str | None = None
    warnings: tuple[str, ...] = ()


def read_selected(data: bytes, name: str) -> Selected:
    """Lines of ids and files, or the JSON of `greenline affected`; `name` stands in errors. Raises GreenlineError."""
    text = data.decode("utf-8-sig", "surrogateescape")
    if text.lstrip().startswith("{"):
        try:
            return _from_json(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise GreenlineError(
                f"{name} is JSON, but not what greenline affected --format json prints", _LINES
            ) from None
    lines = text.split("\0") if "\0" in text else text.splitlines()
    return Selected(tuple((line, "") for line in _unique((line.strip() for line in lines), name)))


_LINES = "give a test id or a file a line, or the JSON of: greenline affected --format json"


def _unique(lines: Iterable[str], name: str) -> list[str]:
    seen: set[str] = set()
    found = []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        if line in seen:
            raise GreenlineError(f"{name}:{number}: {line} is there twice", "name each test once")
        seen.add(line)
        found.append(line)
    return found


def _from_json(answer: dict[str, Any]) -> Selected:
    items = []
    for test in answer["tests"]:
        for each in [test["path"]] if test["nodeids"] is None else test["nodeids"]:
            items.append((str(each), str(test["suite"])))
    return Selected(
        tuple(dict.fromkeys(items)),
        True,
        tuple(sorted((str(name), str(root)) for name, root in answer["suites"].items())),
        answer.get("base"),
        str(answer["root"]),
        tuple(map(str, answer.get("warnings", ()))),
    )


def from_answer(answer: Answer) -> Selected:
    """What `greenline affected` found."""
    items = [
        (f"{test.path}::{each}" if each else test.path, test.suite)
        for test in answer.tests
        for each in test.node_ids or ("",)
    ]
    suites = tuple(sorted(answer.suite_roots.items()))
    return Selected(tuple(dict.fromkeys(items)), True, suites, answer.base, answer.root, tuple(answer.warnings))


class Expanded(NamedTuple):
    """``tests``: id → suite, each once. ``owned``: files, classes and functions whose unknown tests are planned too."""

    tests: dict[str, str]
    owned: tuple[str, ...]


def expand(selected: Selected, known: dict[str, list[str]]) -> Expanded:
    """Files, classes and functions as their known tests (`known`: file → ids); what is not known stays as it is."""
    tests: dict[str, str] = {}
    owned: dict[str, None] = {}
    for item, suite in selected.items:
        file = file_of(item)
        there = known.get(file, ())
        if item == file:
            found = [test for test in there if test != file] or [item]
        elif item in there:
            found = [item]
        else:
            found = [test for test in there if test.startswith((item + "[", item + "::"))] or [item]
        for test in found:
            tests.setdefault(test, suite)
        owned[item if "[" not in item else item.partition("[")[0]] = None
    if not selected.exact:
        # Nothing of these files was left out as far as is known, so what is new in them belongs to the plan.
        given: dict[str, int] = {}
        for test in tests:
            given[file_of(test)] = given.get(file_of(test), 0) + 1
        for file, there in known.items():
            if there and given.get(file) == len(there):
                owned[file] = None
    return Expanded(tests, tuple(item for item in owned if "::" not in item or file_of(item) not in owned))
