"""What failed, told apart: failing tests from reports, and one fingerprint for each reason.

A fingerprint must be the same for the same failure in another run, at another commit and on another machine, and
differ for another reason. It is a digest of the kind of error and its message without what varies (paths, addresses,
numbers, times); for assertions, whose messages say little, of the test as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from greenline.ci.breakage.probe import Outcome
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.workspace import read_regular


class Told(NamedTuple):
    """Tests that a report names: ``failed`` and ``passed``, sorted; ``lost``: jobs that ended without a result."""

    failed: tuple[str, ...]
    passed: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


_VARYING = (
    (re.compile(r"0x[0-9a-fA-F]+"), "0x"),
    (re.compile(r"\b[0-9a-f]{8,}(?:-[0-9a-f]+)*\b"), "#"),
    (re.compile(r"(?:[A-Za-z]:)?(?:[\\/][\w.@+-]+){2,}[\\/]?"), "PATH"),
    (re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?"), "DATE"),
    (re.compile(r"\d+(?:\.\d+)?"), "0"),
    (re.compile(r"\s+"), " "),
)
_KIND = re.compile(r"([A-Za-z_][\w.]*(?:Error|Exception|Warning|Failed|Interrupt|Exit|Iteration))\b:?")
_SPEAKING = 500


def kind_of(message: str) -> str:
    """The class of an error, by the first word of its message: "ImportError"; an assertion without one otherwise."""
    match = _KIND.match(message.strip())
    return match[1].rpartition(".")[2] if match else "AssertionError"


def reason_of(message: str) -> str:
    """A message without what varies between runs."""
    text = message.strip()[:_SPEAKING].split("\n")[0] if kind_of(message) != "AssertionError" else ""
    for pattern, plain in _VARYING:
        text = pattern.sub(plain, text)
    return text.strip()


def fingerprint(test: str, outcome: Outcome) -> str:
    """16 hex digits for why a test fails."""
    kind = kind_of(outcome.message)
    parts = (kind, reason_of(outcome.message)) if kind != "AssertionError" else (kind, _base(test))
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _base(test: str) -> str:
    return test.partition("[")[0]  # parameters of one test fail for one reason until shown otherwise


def group(outcomes: Mapping[str, Outcome]) -> dict[str, tuple[str, ...]]:
    """The failing tests among these outcomes, by fingerprint."""
    found: dict[str, list[str]] = {}
    for test, outcome in sorted(outcomes.items()):
        if outcome.bad:
            found.setdefault(fingerprint(test, outcome), []).append(test)
    return {key: tuple(tests) for key, tests in sorted(found.items())}


# -- reports of CI -------------------------------------------------------------------------------------------


def read_junit(paths: Iterable[str], files: Iterable[str]) -> Told:
    """The node ids in JUnit files, as pytest writes them. ``files``: paths in the repository at the failing commit.

    A file that breaks off (a cancelled or lost job) counts as lost, never as a failure.
    """
    import junitparser

    modules = _modules(files)
    failed: set[str] = set()
    passed: set[str] = set()
    lost = []
    for path in paths:
        try:
            xml = junitparser.JUnitXml.fromfile(path)
        except FileNotFoundError:
            raise GreenlineError(f"--junit: there is no file {path}", "name the JUnit files of the red run") from None
        except OSError as error:
            raise GreenlineError(f"--junit: {path} cannot be read: {error.strerror}") from None
        except Exception:  # whatever the XML parser raises: the job was cut off while it wrote
            lost.append(path)
            continue
        suites = [xml] if isinstance(xml, junitparser.TestSuite) else list(xml)
        for case in (case for suite in suites for case in suite):
            found = _node_ids(case.classname or "", case.name or "", case._elem.get("file"), modules)
            bad = any(isinstance(each, junitparser.Failure | junitparser.Error) for each in case.result)
            (failed if bad else passed).update(found)
    return Told(tuple(sorted(failed)), tuple(sorted(passed - failed)), tuple(lost))


def _modules(files: Iterable[str]) -> dict[str, list[str]]:
    """Dotted name → files that end in it: "tests.test_a" → tests/test_a.py, api/tests/test_a.py."""
    found: dict[str, list[str]] = {}
    for path in files:
        if path.endswith(".py"):
            parts = path[:-3].split("/")
            for start in range(len(parts)):
                found.setdefault(".".join(parts[start:]), []).append(path)
    return found


def _node_ids(classname: str, name: str, file: str | None, modules: Mapping[str, list[str]]) -> list[str]:
    """A case's node ids: several where two suites have a test of that name."""
    parts = classname.split(".") if classname else name.split(".")
    rest = [name] if classname else []
    for end in range(len(parts), 0, -1):
        paths = modules.get(".".join(parts[:end]))
        if paths:
            exact = [path for path in paths if path == f"{'/'.join(parts[:end])}.py"]
            chosen = [path for path in paths if path == file] or exact or paths
            return ["::".join((path, *parts[end:], *rest)) for path in chosen]
    return []


def read_stream(paths: Iterable[str]) -> Told:
    """The node ids in streams of results: JSON lines as pytest-reportlog writes them."""
    failed: set[str] = set()
    passed: set[str] = set()
    lost = []
    for path in paths:
        ended = False
        for line in _lines(path):
            try:
                record = json.loads(line)
            except ValueError:
                continue
            ended = ended or record.get("$report_type") == "SessionFinish"
            name, outcome = record.get("nodeid"), record.get("outcome")
            if isinstance(name, str) and name and outcome in ("failed", "passed"):
                if outcome == "failed":
                    failed.add(name)
                elif record.get("when") == "call":
                    passed.add(name)
        if not ended:
            lost.append(path)
    return Told(tuple(sorted(failed)), tuple(sorted(passed - failed)), tuple(lost))


def _lines(path: str) -> list[str]:
    try:
        return read_regular(path).decode("utf-8", "replace").splitlines()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise GreenlineError(f"--results: {path} cannot be read: {reason}", "name the file of the red run") from None
