"""Static selection and evidence → the tests to run, as node ids.

A test whose record holds is selected if and only if the table says so; a test without one by the static rule. Where
not all tests of a file are known, the static rule decides for the file, and evidence adds.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from pyroaring import BitMap

from greenline.ci.evidence.forms import DESELECTED, Entry
from greenline.ci.evidence.likely import rank
from greenline.ci.evidence.python_rule import Hit
from greenline.ci.evidence.reading import Evidence, load, store_errors, unreadable
from greenline.ci.evidence.rule import Judged, affected_records, is_named, judge
from greenline.ci.evidence.states import since_recording
from greenline.ci.evidence.variables import changed
from greenline.ci.selection.select import SelectedTest, Selection
from greenline.depgraph.config import Config
from greenline.depgraph.index import Opened
from greenline.depgraph.linking import TEST
from greenline.depgraph.wording import plural
from greenline.depgraph.workspace import ABSENT, GitError

EXTRA = "GREENLINE_VARIANT"
"""Environment variable: what sets this variant apart besides Python and platform, such as a driver."""


class Known(NamedTuple):
    """The evidence of one suite, and what the change means for it."""

    evidence: Evidence
    holds: BitMap  # records that hold at the base
    judged: Judged
    hit: BitMap
    hits: list[Hit]  # the smallest first
    own: dict[str, SelectedTest]  # what the static rule says of the files that are left to it
    edited: frozenset[str]  # files that changed since the recording, up to the base, or may have other tests
    elsewhere: dict[str, BitMap]  # environment variable with another value now → records made with the old one


def known_suites(
    opened: Opened, config: Config, warnings: list[str], environment: Mapping[str, str] = os.environ
) -> list[Known]:
    """What the store knows of the suites of the change, under their variants."""
    found = []
    for evidence in load(opened.workspace, config, environment):
        root = opened.suites_by_name().get(evidence.suite)
        command = next((suite.command for suite in config.suites if suite.name == evidence.suite), ())
        if root is None or evidence.variant != variant_of(opened.workspace.root, root, environment, command):
            continue
        try:
            since = _since(opened, config, evidence)
        except GitError:
            warnings.append(
                f"evidence of suite {evidence.suite} is not used: it was recorded at {evidence.commit[:12]}, which is"
                f" not in this clone; git fetch --filter=blob:none origin {evidence.commit}"
            )
            continue
        past = judge(since, config, evidence) if since else None
        broken = affected_records(past, evidence) if past else BitMap()
        judged = judge(opened, config, evidence)
        edited = judged.others
        if since and past:
            edited |= past.others | {state.path for state in since.changes}
        own = {test.path: test for test in judged.static.tests}
        hits = sorted((hit for hits in judged.hits.values() for hit in hits), key=lambda hit: len(hit.records))
        elsewhere = changed(evidence, config, environment)
        holds = evidence.alive - broken - BitMap().union(*elsewhere.values())
        found.append(Known(evidence, holds, judged, judged.records, hits, own, edited, elsewhere))
    return found


def _since(opened: Opened, config: Config, evidence: Evidence) -> Opened | None:
    """The change from the records' state to the base; None where there is none."""
    if evidence.commit == opened.base and not evidence.dirty:
        return None
    since = since_recording(opened.workspace, config, evidence, opened.base)
    return since._replace(progress=opened.progress)


def sharpen(
    opened: Opened,
    config: Config,
    static: Callable[[bool], Selection],
    reasons: bool = True,
    only: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> tuple[Selection, float | None]:
    """The selection of the static rule, sharpened, and of the tests the share (0 to 1) that evidence decides about.

    ``static``: asks the static rule, with reasons or without, which is cheaper. ``only``: without the tests that
    evidence does not decide about. The share is None where there is no evidence.
    """
    warnings: list[str] = []
    try:
        known = known_suites(opened, config, warnings, environment)
        return _sharpened(opened, static, known, warnings, reasons, only)
    except store_errors() as error:
        selection = static(reasons)
        warnings.append(unreadable(error))
        return selection._replace(warnings=[*selection.warnings, *warnings]), None


def _sharpened(
    opened: Opened,
    static: Callable[[bool], Selection],
    known: list[Known],
    warnings: list[str],
    reasons: bool,
    only: bool,
) -> tuple[Selection, float | None]:
    if not known:
        selection = static(reasons)
        return selection._replace(warnings=[*selection.warnings, *warnings]), None
    asked = _Static(static)
    chosen, shares = _merged(opened, asked, known, only)
    if reasons and any(not test.reason for test in chosen):
        asked = _Static(static, reasons=True)
        chosen, shares = _merged(opened, asked, known, only)
    everything = next(filter(None, (suite.judged.static.everything for suite in known)), None)
    unknown = sum(share < 1 for share in shares)
    if unknown and only:
        warnings.append(f"{plural(unknown, 'test file')} with tests without evidence that holds: left out")
    # Where the static rule had to take everything because it could not tell, evidence may have told.
    selection = asked.selection or known[0].judged.static
    if not unknown and not everything:
        selection = selection._replace(everything=None, warnings=known[0].judged.static.warnings)
    kept = selection._replace(
        tests=chosen,
        total=len(shares),
        everything=everything and selection.everything,
        warnings=[*selection.warnings, *warnings],
    )
    return kept, sum(shares) / len(shares) if shares else 0.0


class _Static:
    """The static rule, asked when the first test needs it: not at all where evidence decides about every test."""

    def __init__(self, select: Callable[[bool], Selection], reasons: bool = False) -> None:
        self._select, self._reasons = select, reasons
        self._tests: dict[str, SelectedTest] = {}
        self.selection: Selection | None = None

    def get(self, path: str) -> SelectedTest | None:
        if self.selection is None:
            self.selection = self._select(self._reasons)
            self._tests = {test.path: test for test in self.selection.tests}
        return self._tests.get(path)


def _merged(opened: Opened, static: _Static, known: list[Known], only: bool) -> tuple[list[SelectedTest], list[float]]:
    """What to run, and for each test file the share of its tests that evidence decides about."""
    graph = opened.graph
    gone = {state.path for state in opened.changes if state.head == ABSENT}
    by_file = {path: suite for suite in known for path in suite.evidence.files}
    for suite in known:
        evidence = suite.evidence
        evidence.fetch(path for path, file in evidence.files.items() if file.records.intersect(suite.hit))
    chosen, shares = [], []
    for path in sorted(map(graph.path, graph.with_flag(TEST))):
        if path in gone:
            continue
        if path in by_file:
            picked, share = _file(opened, path, by_file[path], static, only)
        else:
            picked, share = None if only else static.get(path), 0.0
        shares.append(share)
        if picked:
            chosen.append(picked)
    return chosen, shares


def _file(opened: Opened, path: str, known: Known, asked: _Static, only: bool) -> tuple[SelectedTest | None, float]:
    """What to run of one file, and the share of its tests that evidence decides about."""
    file = known.evidence.files[path]
    complete = file.complete and path not in known.edited
    own = known.own.get(path)
    holds = file.records & known.holds
    hit = holds & known.hit
    all_hold = len(file.newest & holds) == file.known
    if complete and own is None and all_hold:
        if not hit:
            return None, 1.0
        if len(file.newest & hit) == file.known:
            return _selected(known, path, None, hit), 1.0
        names = known.evidence.names(path)
        chosen = {names.of[number] for number in hit}
        broke = (names.broke[name] for name in names.broke if name in chosen)
        return _selected(known, path, tuple(_grouped(dict.fromkeys(names.of.values()), chosen)), hit, broke), 1.0
    entries = known.evidence.entries(path)
    holding, touched = set(holds), set(hit)
    valid = entries.keys() if all_hold else {name for name in entries if entries[name].is_in(holding)}
    ran = sum(entry.outcome != DESELECTED for entry in entries.values())
    share = len(valid) / ran if ran and complete else 0.0
    if own is not None and own.node_ids is None:  # it changed throughout: its tests may be others
        return own._replace(rank=0.0) if not only else None, share
    affected = {name for name, entry in entries.items() if entry.is_in(touched)}
    own_ids = own.node_ids or () if own else ()
    if own_ids:
        affected |= {name for name in valid if is_named(name, own_ids)}
    static = None if only or (all_hold and complete) else asked.get(path)
    if static is not None:
        if not complete:
            return static, share
        affected |= {
            name for name in entries.keys() - valid if static.node_ids is None or is_named(name, static.node_ids)
        }
    wider = [each for each in own_ids if not is_test(each, entries)]
    found = [name for name in _grouped(entries, affected) if not own or _is_there(opened, path, name)]
    found = [name for name in found if not is_named(name, tuple(wider))] + wider
    if not found:
        return None, share
    ids = tuple(dict.fromkeys(found))
    if hit:
        test = _selected(known, path, ids, hit, (entries[name].broke for name in affected))
        return (test._replace(rank=0.0) if own else test), share
    return SelectedTest(path, ids, (own or static or _NOBODY).reason, 0.0 if own else 1.0), share


def _selected(
    known: Known, path: str, ids: tuple[str, ...] | None, hit: BitMap, broke: Iterable[int] = ()
) -> SelectedTest:
    """A file that evidence selects, with the most telling of the reasons: the hit that the fewest tests share."""
    closest = _closest(known, hit)
    place = rank(len(closest.records), len(known.evidence.alive), known.evidence.runs, broke)
    return SelectedTest(path, ids, closest.why, place)


_NOBODY = SelectedTest("", None, "")


def _is_there(opened: Opened, path: str, name: str) -> bool:
    """Whether an edited file may still have a test: its text spells the name, or never did (it is inherited)."""
    word = name.partition("[")[0].rpartition("::")[2].encode()
    before = next((state.base for state in opened.changes if state.path == path), None)
    return (
        before is None
        or word in (opened.read_head(path) or b"")
        or word not in (opened.contents.get(path, before) or b"")
    )


def is_test(node_id: str, entries: Mapping[str, Entry]) -> bool:
    """Whether an id names known tests one by one, rather than a class or what nobody has seen."""
    return any(name == node_id or name.startswith(f"{node_id}[") for name in entries)


def _grouped(known: Iterable[str], chosen: set[str]) -> list[str]:
    """Names of tests, with one bare name for all parameters of a function where all are chosen."""
    found: list[str] = []
    groups: dict[str, list[str]] = {}
    for name in known:
        if "[" not in name:
            if name in chosen:
                found.append(name)
        else:
            groups.setdefault(name.partition("[")[0], []).append(name)
    for bare, names in groups.items():
        picked = [name for name in names if name in chosen]
        found += [bare] if len(picked) == len(names) else picked
    return found


class Verdict(NamedTuple):
    """What evidence says of one test: ``affected`` is None where it has no record that holds, and ``why`` says so."""

    name: str
    affected: bool | None
    why: str


def verdicts(
    opened: Opened, config: Config, path: str, name: str = "", environment: Mapping[str, str] = os.environ
) -> list[Verdict]:
    """What evidence says of a file's tests, or of those that ``name`` stands for; [] where it does not know them."""
    found = []
    for known in known_suites(opened, config, [], environment):
        for test, entry in known.evidence.entries(path).items():
            if name and not is_named(test, (name,)):
                continue
            records = BitMap(entry.numbers) & known.holds
            hit = _closest(known, records)
            if not records:
                found.append(Verdict(test, None, _why_not(known, entry)))
            elif not hit.why and path in known.judged.others:
                found.append(
                    Verdict(test, None, "a class from which one of its file inherits may have other tests now")
                )
            else:
                found.append(Verdict(test, bool(hit.why), hit.why or "it ran nothing that changed"))
    return found


def _why_not(known: Known, entry: Entry) -> str:
    """Why a test has no record that holds."""
    if entry.outcome != "passed":
        return f"it {entry.outcome}"
    numbers = BitMap(entry.numbers)
    other = [name for name, records in known.elsewhere.items() if records.intersect(numbers)]
    if other:
        return f"${other[0]} had another value when it was recorded"
    return "what it ran changed since it was recorded"


def _closest(known: Known, records: BitMap) -> Hit:
    return next((hit for hit in known.hits if hit.records.intersect(records)), Hit(BitMap(), ""))


# -- variants ------------------------------------------------------------------------------------------------


def variant_of(top: str, root: str, environment: Mapping[str, str] = os.environ, command: Sequence[str] = ()) -> str:
    """The variant that a suite would run under now: its interpreter's version, this platform, $GREENLINE_VARIANT.

    ``command``: what starts its pytest, where greenline.yaml says so.
    """
    version = _python_version(top, root, environment, command) or platform.python_version()
    return " ".join(filter(None, (version, f"{sys.platform}-{platform.machine()}", environment.get(EXTRA, ""))))


def _python_version(top: str, root: str, environment: Mapping[str, str], command: Sequence[str]) -> str | None:
    """The version of the environment that `greenline test` would take, without starting it."""
    folders = [root]
    while folders[-1]:
        folders.append(folders[-1].rpartition("/")[0])
    homes = [os.path.join(top, folder, ".venv") for folder in folders]
    if environment.get("VIRTUAL_ENV"):
        homes.insert(len(homes) - 1, environment["VIRTUAL_ENV"])
    if command and os.path.dirname(command[0]):
        homes.insert(0, os.path.join(top, root, os.path.dirname(os.path.dirname(command[0]))))
    for home in homes:
        try:
            with open(os.path.join(home, "pyvenv.cfg"), encoding="utf-8") as file:
                lines = dict(line.partition("=")[::2] for line in file)
        except OSError:
            continue
        settings = {key.strip(): value.strip() for key, value in lines.items()}
        version = settings.get("version") or settings.get("version_info", "")
        return ".".join(version.split(".")[:3]) or None
    return None
