"""What shards leave behind: the result streams of pytest-greenline, and JUnit XML where that is all there is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from greenline.depgraph.errors import GreenlineError

VERSION = 1


class Result(NamedTuple):
    """How one run of a test ended: ``passed``, ``failed`` or ``skipped``.

    ``seconds``: of setup, call and teardown together; ``phases``: of each that ran. ``retry``: why a scheduler ran it
    again in the same attempt, or None. ``oom``: the device ran out of memory; ``gpu_memory``: peak bytes, 0: unknown.
    ``lost``: its process vanished or was killed, so that the test itself may be fine.
    """

    id: str
    outcome: str
    seconds: float
    phases: dict[str, float]
    message: str = ""
    xfail: bool = False
    oom: bool = False
    gpu_memory: int = 0
    retry: str | None = None
    lost: bool = False


class Session(NamedTuple):
    """One pytest process (with its workers). ``exit``: None where it was never written: the process was lost.

    ``unfinished``: tests that began and never ended; ``collected``: ids by file, selected or not; ``broken`` and
    ``skipped_files``: what could not be collected and what skips itself as a whole, with the reason.
    """

    file: str
    suite: str
    variant: str
    runner: str
    shard: int | None
    attempt: int
    plan: str | None
    commit: str | None
    time: float
    results: list[Result]
    unfinished: list[str]
    collected: dict[str, set[str]]
    broken: dict[str, str]
    skipped_files: dict[str, str]
    exit: int | None = None


def find(paths: Iterable[str]) -> tuple[list[str], list[str]]:
    """(result streams, JUnit files) among these files and in these folders. Raises GreenlineError for a missing one."""
    found = []
    for path in paths:
        if os.path.isdir(path):
            inside = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
            found += sorted(each for each in inside if each.endswith((".jsonl", ".xml")))
        elif os.path.exists(path):
            found.append(path)
        else:
            raise GreenlineError(
                f"{path}: there is no such file or folder", "give the files or folders that the shards wrote"
            )
    streams = [path for path in found if not path.endswith(".xml")]
    return streams, [path for path in found if path.endswith(".xml")]


def read(path: str) -> list[Session]:
    """The sessions of one stream, in their order. A last line that a kill cut off is left out.

    Raises GreenlineError for a file that is no result stream.
    """
    sessions: list[Session] = []
    opened: dict[str, dict[str, Any]] = {}
    retry: str | None = None
    for line in _lines(path):
        event = line["event"]
        if event == "session":
            if line["version"] != VERSION:
                raise GreenlineError(
                    f"{path}: version {line['version']} of the result format is not {VERSION}",
                    "update greenline or pytest-greenline, the older of the two",
                )
            _close(sessions, opened)
            sessions.append(_session(path, line))
            retry = None
            continue
        session = sessions[-1]
        if event == "collected":
            for file in line["files"]:
                session.collected.setdefault(file, set())
            for test in line["ids"]:
                session.collected.setdefault(test.partition("::")[0], set()).add(test)
        elif event == "collect":
            (session.broken if line["outcome"] == "failed" else session.skipped_files)[line["id"]] = line["message"]
        elif event == "lease":
            retry = line["retry"]
        elif event == "start":
            opened[line["id"]] = {"retry": retry}
        elif event == "test":
            running = opened.setdefault(line["id"], {"retry": retry})
            if line["outcome"] == "rerun":  # pytest-rerunfailures: only what comes last counts
                opened[line["id"]] = {"retry": retry}
            elif _add(running, line):
                session.results.append(_result(line["id"], opened.pop(line["id"])))
        elif event == "end":
            sessions[-1] = session._replace(exit=line["exit"])
    _close(sessions, opened)
    return sessions


def _lines(path: str) -> Iterator[dict[str, Any]]:
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.readlines()
    except (OSError, UnicodeDecodeError) as error:
        raise GreenlineError(f"{path}: {error}") from None
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            if number == 1 and line["event"] != "session":
                raise ValueError("it does not begin with a session")
            yield line
        except (ValueError, LookupError, TypeError) as error:
            if number == len(lines) and not text.endswith("\n"):
                return
            raise GreenlineError(
                f"{path}:{number}: this is no result stream: {error}",
                "give what pytest --greenline-results wrote, or JUnit files that end in .xml",
            ) from None


def _session(path: str, line: dict[str, Any]) -> Session:
    said: dict[str, Any] = {
        key: line.get(key) for key in ("suite", "variant", "runner", "shard", "attempt", "plan", "commit", "time")
    }
    return Session(file=path, **said, results=[], unfinished=[], collected={}, broken={}, skipped_files={})


_LOST = ("crash", "timeout", "lost")


def _add(running: dict[str, Any], line: dict[str, Any]) -> bool:
    """Add a phase to what is known of a running test; True when it was the last."""
    running.setdefault("phases", {})[line["when"]] = line["seconds"]
    running.setdefault("outcomes", []).append(line["outcome"])
    running["lost"] = line["when"] in ("crash", "lost")
    for key in ("message", "xfail", "oom", "gpu_memory"):
        if key in line:
            running[key] = line[key]
    return line["when"] == "teardown" or line["when"] in _LOST


def _result(test: str, running: dict[str, Any]) -> Result:
    outcomes, phases = running.pop("outcomes"), running.pop("phases")
    outcome = next((each for each in ("failed", "skipped") if each in outcomes), "passed")
    return Result(test, outcome, sum(phases.values()), phases, **running)


def _close(sessions: list[Session], opened: dict[str, dict[str, Any]]) -> None:
    if sessions:
        sessions[-1].unfinished.extend(opened)
        opened.clear()


# -- JUnit ---------------------------------------------------------------------------------------------------


def junit_names(paths: Iterable[str]) -> set[tuple[str, str]]:
    """(class name, test name) of all tests in JUnit files. Raises GreenlineError."""
    from junitparser import JUnitXml, JUnitXmlError

    found = set()
    for path in paths:
        try:
            suites = JUnitXml.fromfile(path)
        except (JUnitXmlError, SyntaxError, OSError) as error:
            raise GreenlineError(f"{path}: this is no JUnit file: {error}") from None
        for suite in suites if isinstance(suites, JUnitXml) else [suites]:
            found |= {(case.classname or "", case.name) for case in suite}
    return found


def junit_name(test: str) -> tuple[str, str]:
    """What pytest calls a test in JUnit files: tests/test_a.py::C::m[1] → ("tests.test_a.C", "m[1]")."""
    path, _, name = test.partition("::")
    bare, bracket, parameters = name.partition("[")
    *classes, last = bare.split("::")
    return ".".join([*path.removesuffix(".py").split("/"), *classes]), last + bracket + parameters
