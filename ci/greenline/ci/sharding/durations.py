"""Durations of tests in files: what pytest-split, JUnit reports, our result streams and hand-made JSON say.

| file | shape |
| --- | --- |
| `.test_durations`, JSON | test → seconds, or a list of [test, seconds] |
| JSON with needs | test → {"seconds", "gpus", "nodes", "gpu_kind" or "gpu_type", "gpu_memory"} |
| JSON with variants | variant → … → test → seconds |
| JUnit XML | testsuites, testsuite |
| result stream | our plugin's JSON lines |

Failed and skipped runs give no duration.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from greenline.ci.sharding.needs import NOTHING, Needs, bytes_of, file_of
from greenline.depgraph.errors import GreenlineError


class Measured(NamedTuple):
    """One run of one test.

    ``setup``, ``call``, ``teardown``: seconds; from files that do not tell them apart all is ``call``. ``outcome``:
    "passed", "failed" or "skipped". ``variant``: as the file has it, or "". ``runner``: its pool or kind, or "".
    """

    test: str
    setup: float
    call: float
    teardown: float
    outcome: str = "passed"
    variant: str = ""
    runner: str = ""
    needs: Needs = NOTHING
    gpu_peak: int = 0
    suite: str = ""
    commit: str = ""

    @property
    def seconds(self) -> float:
        return self.setup + self.call + self.teardown


class Known(NamedTuple):
    """What is known of tests. ``failing``: share of the runs that failed; ``by_runner``: pool → test → seconds.

    ``peaks``: bytes of GPU memory that were seen in use. ``elsewhere``: see :func:`most_elsewhere`.
    """

    seconds: dict[str, float]
    needs: dict[str, Needs]
    failing: dict[str, float]
    by_runner: dict[str, dict[str, float]]
    peaks: dict[str, int]
    warnings: tuple[str, ...] = ()
    elsewhere: Mapping[str, float] = MappingProxyType({})


def read_durations(paths: Sequence[str], variant: str | None = None) -> Known:
    """What the files say together: of a test in several, the largest. Raises GreenlineError.

    Without `variant`, a file with several gives the largest of each test, and a warning.
    """
    known = Known({}, {}, {}, {}, {})
    others: dict[str, dict[str, float]] = {}
    warnings = []
    for path in paths:
        variants: set[str] = set()
        for run in read_file(path):
            if variant is not None and run.variant not in ("", variant):
                if run.outcome == "passed":
                    other = others.setdefault(run.variant, {})
                    other[run.test] = max(other.get(run.test, 0.0), run.setup + run.call + run.teardown)
                continue
            variants.add(run.variant)
            if run.gpu_peak:
                known.peaks[run.test] = max(run.gpu_peak, known.peaks.get(run.test, 0))
            if run.needs is not NOTHING:
                known.needs[run.test] = run.needs
            if run.outcome == "failed":
                known.failing[run.test] = 1.0
            elif run.outcome == "passed":
                where = known.by_runner.setdefault(run.runner, {}) if run.runner else known.seconds
                seconds = run.setup + run.call + run.teardown
                if seconds >= where.get(run.test, 0.0):
                    where[run.test] = seconds
        if variant is not None and not variants:
            raise GreenlineError(f"{path}: nothing about variant {variant!r}", f"it has {_some(_variants(path))}")
        if len(variants) > 1:
            warnings.append(
                f"{path} has durations of {len(variants)} variants: planned with each test's longest;"
                f" --variant NAME takes one: {_some(sorted(variants))}"
            )
    for each in known.by_runner.values():
        for test, seconds in each.items():
            known.seconds.setdefault(test, seconds)
    return known._replace(warnings=tuple(warnings), elsewhere=most_elsewhere(known.seconds, others.values()))


def most_elsewhere(seconds: Mapping[str, float], others: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The most that each test took in another variant, where a variant that takes longer as a whole says less.

    What was fast here because it stopped early, or was cut down, takes its time once it is mended.
    """
    total = math.fsum(seconds.values())
    found: dict[str, float] = {}
    for other in others:
        pace = min(1.0, total / (math.fsum(other.values()) or 1.0))
        for test, each in other.items():
            found[test] = max(found.get(test, 0.0), pace * each)
    return found


def _variants(path: str) -> list[str]:
    return sorted({run.variant for run in read_file(path)})


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") if any(names) else "none"


def read_file(path: str) -> Iterator[Measured]:
    """The runs in a file of any known form. Raises GreenlineError that names the file and what is wrong in it."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise GreenlineError(f"{path}: durations cannot be read: {error.strerror}", _FORMS) from None
    start = data.lstrip()[:1]
    if not start:
        raise GreenlineError(f"{path} is empty", _FORMS)
    if start == b"<":
        return _junit(path)
    if data.startswith(b'{"event":') or path.endswith(".jsonl"):
        return _stream(path, data)
    return _json(path, data)


_FORMS = "durations are .test_durations of pytest-split, JUnit XML, a result stream (.jsonl), or JSON: test → seconds"


def _json(path: str, data: bytes) -> Iterator[Measured]:
    try:
        values = json.loads(data.decode("utf-8-sig"), object_pairs_hook=lambda pairs: _once(path, pairs))
    except (ValueError, RecursionError) as error:
        raise GreenlineError(f"{path} is no JSON: {error}", _FORMS) from None
    if isinstance(values, list):
        if not all(isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in values):
            raise GreenlineError(f"{path} is a list, but not of [test, seconds]", _FORMS)
        values = _once(path, values)
    if not isinstance(values, dict):
        raise GreenlineError(f"{path} does not say how long which test takes", _FORMS)
    return _tests(path, values, ())


def _once(path: str, pairs: Iterable[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise GreenlineError(f"{path}: {key!r} is there twice", "keep one")
        found[key] = value
    return found


def _tests(path: str, values: dict[str, Any], variant: tuple[str, ...]) -> Iterator[Measured]:
    name = "/".join(variant)
    for test, value in values.items():
        if isinstance(value, dict) and "seconds" not in value:
            yield from _tests(path, value, (*variant, test))
        elif isinstance(value, dict):
            needs = _needs(path, test, value)
            yield Measured(test, 0.0, _seconds(path, test, value["seconds"]), 0.0, "passed", name, "", needs)
        else:
            yield Measured(test, 0.0, _seconds(path, test, value), 0.0, "passed", name)


def _seconds(path: str, test: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise GreenlineError(f"{path}: {test}: {json.dumps(value)[:60]} is no number of seconds", _FORMS)
    if not math.isfinite(value) or value < 0:
        raise GreenlineError(f"{path}: {test}: {value} seconds", "durations are finite and not negative")
    return float(value)


def _needs(path: str, test: str, value: dict[str, Any]) -> Needs:
    kinds = value.get("gpu_kind", value.get("gpu_type", ()))
    gpus, nodes = value.get("gpus", 0), value.get("nodes", 1)
    try:
        if not isinstance(gpus, int | float) or not isinstance(nodes, int) or gpus < 0 or nodes < 1:
            raise ValueError(f"gpus {gpus!r}, nodes {nodes!r}")
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"gpus {gpus!r}: a fraction is of one GPU")
        return Needs(
            gpus=float(gpus),
            nodes=nodes,
            gpu_kinds=(kinds,) if isinstance(kinds, str) else tuple(map(str, kinds)),
            gpu_memory=bytes_of(value.get("gpu_memory", 0)),
        )
    except (ValueError, TypeError) as error:
        raise GreenlineError(f"{path}: {test}: {error}", _FORMS) from None


def _stream(path: str, data: bytes) -> Iterator[Measured]:
    """Result streams of our plugin (docs/running-shards.md): an event a line; a last line that was cut off is left out.

    Each run of a test gives one Measured, so a test that was tried again gives several.
    """
    lines = data.decode("utf-8", "surrogateescape").splitlines()
    runs: dict[str, Measured] = {}  # begun in this session, and not yet done
    variant = runner = suite = commit = ""
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line) if line.strip() else {}
            if not isinstance(event, dict):
                raise ValueError
        except ValueError:
            if number == len(lines):
                break
            raise GreenlineError(f"{path}:{number}: no line of a result stream", _FORMS) from None
        test = str(event.get("id"))
        if event.get("event") == "session":
            yield from runs.values()
            runs = {}
            variant, runner, suite, commit = (str(event.get(key) or "") for key in _SESSION)
        elif event.get("event") == "start" and test in runs:
            yield runs.pop(test)
        elif event.get("event") == "test":
            when = str(event.get("when"))
            run = runs.get(test) or Measured(test, 0.0, 0.0, 0.0, "passed", variant, runner, suite=suite, commit=commit)
            seconds = _seconds(f"{path}:{number}", test, event.get("seconds"))
            if when == "setup":
                run = run._replace(setup=seconds)
            elif when == "teardown":
                run = run._replace(teardown=seconds)
            else:
                run = run._replace(call=seconds)
            outcome = str(event.get("outcome"))
            if outcome == "failed" or (outcome == "skipped" and run.outcome == "passed" and not event.get("xfail")):
                run = run._replace(outcome=outcome)
            runs[test] = run._replace(gpu_peak=max(run.gpu_peak, int(event.get("gpu_memory") or 0)))
    yield from runs.values()


_SESSION = ("variant", "runner", "suite", "commit")


def _junit(path: str) -> Iterator[Measured]:
    """A JUnit report of pytest."""
    import junitparser

    try:
        report = junitparser.JUnitXml.fromfile(path)
    except Exception as error:  # lxml and xml.etree raise different ones
        raise GreenlineError(f"{path} is no JUnit XML: {error}", _FORMS) from None
    suites = [report] if isinstance(report, junitparser.TestSuite) else list(report)
    for suite in suites:
        for case in suite:
            try:
                seconds = _seconds(path, str(case.name), case.time or 0.0)
            except ValueError:
                raise GreenlineError(f"{path}: {case.name}: the time is no number", _FORMS) from None
            kinds = {type(result).__name__ for result in case.result}
            outcome = "failed" if kinds & {"Failure", "Error"} else "skipped" if "Skipped" in kinds else "passed"
            file = case._elem.get("file") if case._elem is not None else None
            test = _junit_id(file, case.classname or "", case.name or "")
            yield Measured(test, 0.0, seconds, 0.0, outcome, "", "")


def _junit_id(file: str | None, classname: str, name: str) -> str:
    """pytest writes the module's dotted name and the classes into `classname`; xunit1 has the file as well."""
    parts = classname.split(".") if classname else []
    if file:
        module = os.path.splitext(file)[0].replace(os.sep, "/").split("/")
        classes = parts[len(module) :] if parts[: len(module)] == module else []
        return "::".join([file.replace(os.sep, "/"), *classes, name])
    # Test modules are lower case, classes are not; a wrong guess only costs an estimate.
    end = next((place for place, part in enumerate(parts) if part[:1].isupper()), len(parts))
    for place in range(len(parts), 0, -1):
        if os.path.isfile("/".join(parts[:place]) + ".py"):
            end = place
            break
    return "::".join(["/".join(parts[:end]) + ".py", *parts[end:], name] if parts else [name])


def by_file(tests: Iterable[str]) -> dict[str, list[str]]:
    """File → its tests, in the order given."""
    found: dict[str, list[str]] = {}
    for test in tests:
        found.setdefault(file_of(test), []).append(test)
    return found
