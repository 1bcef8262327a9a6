"""Selected tests as the atoms that nothing splits, each with its expected seconds and its needs."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from greenline.ci.sharding.durations import Known
from greenline.ci.sharding.marks import Mark, marks_of, read_marks
from greenline.ci.sharding.needs import NOTHING, RUNNER_LOCK, Needs, both, bytes_of, file_of, function_of
from greenline.ci.sharding.settings import Rule
from greenline.depgraph.globs import matcher
from greenline.depgraph.wording import plural

UNKNOWN = 0.75
"""Quantile of its function's, file's or suite's durations that a test without a duration is taken for."""
WORST = 0.95
"""And the one by which a queue decides what to start first: a late surprise is what makes a run long."""
PEAK_ROOM = 1.1
"""Allocators and other tests on the device differ a little from run to run."""
NO_HISTORY = 1.0
"""Seconds of a test when nothing at all is known."""


class Unit(NamedTuple):
    """A declared atom. ``failing``: the share of recent runs that failed, of its worst test.

    ``elsewhere``: seconds on the pools where that is known to differ. ``why``: what keeps its tests together, or "".
    ``worst``: seconds that it may well take, if more.
    """

    tests: tuple[str, ...]
    seconds: float
    longest: float
    file: str
    suite: str = ""
    needs: Needs = NOTHING
    failing: float = 0.0
    elsewhere: tuple[tuple[str, float], ...] = ()
    why: str = ""
    worst: float = 0.0

    def on(self, pool: str) -> float:
        return dict(self.elsewhere).get(pool, self.seconds) if self.elsewhere else self.seconds


class Units(NamedTuple):
    units: list[Unit]
    warnings: list[str]


def make_units(
    tests: Mapping[str, str],
    known: Known,
    rules: Sequence[Rule] = (),
    read: Callable[[str], bytes | None] = lambda path: None,
    share_gpus: bool = False,
) -> Units:
    """The atoms of these tests (id → suite), in the order of their files. `read`: a file's bytes, or None.

    `share_gpus`: a test of one GPU, whose peak memory is known, leaves the rest of it to others.
    """
    warnings: list[str] = []
    seconds, worst = _estimates(tests, known, warnings)
    needs_of = _Needs(rules, read, warnings)
    together: dict[tuple[str, str], list[str]] = {}
    needs: dict[str, Needs] = {}
    units: list[Unit] = []
    places: dict[tuple[str, str], int] = {}
    ordered = sorted(((file_of(test), test, suite) for test, suite in tests.items()), key=itemgetter(0))
    for file, test, suite in ordered:  # sorted is stable: within a file the order stays
        own = needs_of(file, test)
        if test in known.needs:
            own = both(own, known.needs[test])
        if test in known.peaks and own.gpu:
            own = _learned(own, known.peaks[test], share_gpus)
        if own.group or known.by_runner:
            needs[test] = own
            key = (suite, own.group or test)
            if key not in places:
                places[key] = len(units)
                units.append(Unit((), 0.0, 0.0, file))
            together.setdefault(key, []).append(test)
        else:  # nearly all
            duration = seconds[test]
            failing = known.failing.get(test, 0.0)
            units.append(
                Unit((test,), duration, duration, file, suite, own, failing, (), "", worst.get(test, duration))
            )
    for (suite, group), members in together.items():
        unit = _unit(members, suite, group if needs[members[0]].group else "", seconds, needs, known)
        late = sum(worst.get(test, seconds[test]) for test in members)
        units[places[suite, group]] = unit._replace(worst=late)
    return Units(units, warnings)


def _unit(
    members: list[str],
    suite: str,
    group: str,
    seconds: Mapping[str, float],
    needs: Mapping[str, Needs],
    known: Known,
) -> Unit:
    merged = needs[members[0]]
    for test in members[1:]:
        merged = both(merged, needs[test])
    elsewhere = []
    for runner, measured in sorted(known.by_runner.items()):
        if any(test in measured for test in members):
            elsewhere.append((runner, sum(measured.get(test, seconds[test]) for test in members)))
    return Unit(
        tuple(members),
        sum(seconds[test] for test in members),
        max(seconds[test] for test in members),
        file_of(members[0]),
        suite,
        merged,
        max(known.failing.get(test, 0.0) for test in members),
        tuple(elsewhere),
        f"kept together: {group}" if group else "",
    )


def _learned(needs: Needs, peak: int, share_gpus: bool) -> Needs:
    """The memory that was seen in use, with some room, where it is more than declared or nothing is."""
    size = max(needs.gpu_memory, round(peak * PEAK_ROOM))
    if needs.gpus == 1 and share_gpus and not needs.gpu_memory:
        return needs._replace(gpus=0.0, gpu_memory=size)
    return needs._replace(gpu_memory=size)


# -- seconds -------------------------------------------------------------------------------------------------


class _Estimates(NamedTuple):
    """``seconds`` of each test, and ``worst``: what those without a duration may well take."""

    seconds: dict[str, float]
    worst: dict[str, float]


def _estimates(tests: Collection[str], known: Known, warnings: list[str]) -> _Estimates:
    """Seconds of each test: its own, else a quantile of its function, its file, the suite.

    What it may well take at most is a higher quantile, or what it took in another variant.
    """
    worst = {test: known.elsewhere[test] for test in tests if test in known.elsewhere} if known.elsewhere else {}
    found: dict[str, float] = {}
    missing = []
    for test in tests:
        own = known.seconds.get(test)
        if own is None:
            missing.append(test)
        else:
            found[test] = own
    if not missing:
        return _Estimates(found, worst)
    if not known.seconds:
        warnings.append(f"no durations are known: each test is taken for {NO_HISTORY:g} s")
        return _Estimates(dict.fromkeys(tests, NO_HISTORY), {})
    of_function: dict[str, list[float]] = {}
    of_file: dict[str, list[float]] = {}
    for test, duration in known.seconds.items():
        of_function.setdefault(function_of(test), []).append(duration)
        of_file.setdefault(file_of(test), []).append(duration)
    everything = list(known.seconds.values())
    whole_files = [sum(each) for each in of_file.values()]
    quantiles: dict[int, tuple[float, float]] = {}
    for test in missing:
        alike = of_function.get(function_of(test)) or of_file.get(file_of(test))
        alike = alike or (everything if "::" in test else whole_files)
        if id(alike) not in quantiles:
            quantiles[id(alike)] = quantile(alike, UNKNOWN), quantile(alike, WORST)
        found[test], most = quantiles[id(alike)]
        worst[test] = max(most, worst.get(test, 0.0))
    warnings.append(
        f"{len(missing)} of {plural(len(found), 'test')} with no duration: "
        "taken for the upper quartile of their file or suite"
    )
    return _Estimates(found, worst)


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least this share of all do not exceed; 0 for none."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


# -- needs ---------------------------------------------------------------------------------------------------

_MARKERS = ("gpu", "cpu", "lock", "exclusive", "isolated", "xdist_group", "dependency")
"""Markers that mean something without configuration."""


class _Needs:
    """What each test needs, by its markers and the rules; a file is read once, and only when it may say something."""

    def __init__(self, rules: Sequence[Rule], read: Callable[[str], bytes | None], warnings: list[str]) -> None:
        self._rules = [(rule, matcher(rule.files) if rule.files else None) for rule in rules]
        words = {*_MARKERS, *(name.rpartition(".")[2] for rule in rules for name in (*rule.markers, *rule.decorators))}
        self._words = re.compile(rb"\b(?:" + b"|".join(sorted(re.escape(word.encode()) for word in words)) + rb")\b")
        self._read = read
        self._warnings = warnings
        self._file = ""
        self._marks: dict[str, tuple[Mark, ...]] = {}
        self._fitting: list[Rule] = []
        self._functions: dict[str, Needs] = {}

    def __call__(self, file: str, test: str) -> Needs:
        if file != self._file:
            self._open(file)
        if not self._marks and not self._fitting:
            return NOTHING
        function = function_of(test)
        if function not in self._functions:
            self._functions[function] = self._of(file, function)
        return self._functions[function]

    def _open(self, file: str) -> None:
        self._file = file
        self._functions = {}
        source = self._read(file)
        self._marks = read_marks(source) if source and self._words.search(source) else {}
        self._fitting = [rule for rule, fits in self._rules if fits is None or fits(file)]

    def _of(self, file: str, function: str) -> Needs:
        name = function.partition("::")[2]
        # A file that is one item needs what any of its tests needs.
        marks = list(marks_of(self._marks, name)) if name else [mark for each in self._marks.values() for mark in each]
        needs = NOTHING
        for mark in marks:
            try:
                needs = both(needs, _of_mark(mark, file))
            except (ValueError, TypeError) as error:
                self._warnings.append(f"{function}: pytest.mark.{mark.marker}: {error}; taken for one whole GPU")
                needs = both(needs, NOTHING._replace(gpus=1.0))
        for rule in self._fitting:
            if rule.markers and not any(mark.marker in rule.markers for mark in marks if mark.marker):
                continue
            if rule.decorators and not any(_mentions(mark.names, rule.decorators) for mark in marks):
                continue
            needs = both(needs, rule.needs._replace(group=_group(rule.together, file, function)))
        return needs


def _mentions(names: Iterable[str], wanted: Iterable[str]) -> bool:
    return any(name == each or name.endswith("." + each) for name in names for each in wanted)


def _group(together: str, file: str, function: str) -> str:
    if together == "class":
        return function.rpartition("::")[0]
    return {"": "", "file": file, "function": function}[together]


def _of_mark(mark: Mark, file: str) -> Needs:
    """What a marker of ours, of pytest-xdist or pytest-dependency says. Raises ValueError, TypeError."""
    if mark.marker not in _MARKERS:
        return NOTHING
    if mark.marker == "gpu":
        if mark.unknown:
            raise ValueError("an argument is no literal")
        return _gpu(*mark.args, **dict(mark.kwargs))
    if mark.marker == "cpu" and not mark.unknown:
        return _cpu(*mark.args, **dict(mark.kwargs))
    if mark.marker == "lock":
        prefix = RUNNER_LOCK if dict(mark.kwargs).get("scope") == "runner" else ""
        return NOTHING._replace(locks=tuple(sorted(prefix + str(name) for name in mark.args)))
    if mark.marker == "xdist_group":
        name = next(iter([*mark.args, *dict(mark.kwargs).values()]), "default")
        return NOTHING._replace(group=f"xdist_group {name}")
    if mark.marker == "dependency":  # pytest-dependency looks for the results of the same session
        return NOTHING._replace(group=file)
    return NOTHING._replace(exclusive=mark.marker == "exclusive", isolated=mark.marker == "isolated")


def _gpu(
    count: float | None = None, memory: object = 0, kind: str | Sequence[str] = (), nodes: int = 1, share: float = 0
) -> Needs:
    """gpu(): one device; gpu(2): two; gpu(0.5), gpu(share=0.5): half of one; gpu(memory="2GiB"): what has room."""
    size = bytes_of(memory)
    gpus = float(count if count is not None else share or (0 if size else 1))
    if gpus < 0 or (gpus > 1 and gpus != int(gpus)) or not isinstance(nodes, int) or nodes < 1:
        raise ValueError(f"gpus {gpus:g}, nodes {nodes}")
    kinds = (kind,) if isinstance(kind, str) else tuple(map(str, kind))
    return NOTHING._replace(gpus=gpus, gpu_memory=size, gpu_kinds=kinds, nodes=nodes)


def _cpu(count: int = 1, memory: object = 0) -> Needs:
    return NOTHING._replace(slots=max(1, int(count)), memory=bytes_of(memory))
