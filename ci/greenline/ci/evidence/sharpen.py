"""Static selection and evidence → the tests to run, as node ids.

A test whose record holds is selected if and only if the table says so; a test without one by the static rule. Where
not all tests of a file are known, the static rule decides for the file, and evidence adds.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from typing import NamedTuple

from pyroaring import BitMap

from greenline.ci.evidence.forms import Entry
from greenline.ci.evidence.python_rule import Hit
from greenline.ci.evidence.reading import Evidence, load
from greenline.ci.evidence.rule import Judged, affected_records, is_named, judge
from greenline.ci.evidence.states import since_recording
from greenline.ci.selection.select import SelectedTest, Selection
from greenline.depgraph.config import Config
from greenline.depgraph.index import Opened
from greenline.depgraph.linking import TEST
from greenline.depgraph.workspace import ABSENT, GitError

EXTRA = "GREENLINE_VARIANT"
"""Environment variable: what sets this variant apart besides Python and platform, such as a driver."""


class Known(NamedTuple):
    """The evidence of one suite, and what the change means for it."""

    evidence: Evidence
    holds: BitMap  # records that hold at the base
    judged: Judged
    hit: BitMap
    edited: frozenset[str]  # files that changed since the recording, up to the base


def known_suites(
    opened: Opened, config: Config, warnings: list[str], environment: Mapping[str, str] = os.environ
) -> list[Known]:
    """What the store knows of the suites of the change, under their variants."""
    found = []
    for evidence in load(opened.workspace, config, environment):
        root = opened.suites_by_name().get(evidence.suite)
        if root is None or evidence.variant != variant_of(opened.workspace.root, root, environment):
            continue
        try:
            since = _since(opened, config, evidence)
        except GitError:
            warnings.append(
                f"evidence of suite {evidence.suite} is not used: it was recorded at {evidence.commit[:12]}, which is"
                f" not in this clone; git fetch --filter=blob:none origin {evidence.commit}"
            )
            continue
        broken = affected_records(since, config, evidence) if since else BitMap()
        judged = judge(opened, config, evidence)
        edited = {state.path for state in since.changes} if since else ()
        found.append(Known(evidence, evidence.alive - broken, judged, judged.records, frozenset(edited)))
    return found


def _since(opened: Opened, config: Config, evidence: Evidence) -> Opened | None:
    """The change from the records' state to the base; None where there is none."""
    if evidence.commit == opened.base and not evidence.dirty:
        return None
    return since_recording(opened.workspace, config, evidence, opened.base)


def sharpen(
    opened: Opened,
    config: Config,
    selection: Selection,
    only: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> tuple[Selection, float | None]:
    """The selection of the static rule, sharpened, and of the tests the share (0 to 1) that evidence decides about.

    ``only``: without the tests that it does not decide about. The share is None where there is no evidence.
    """
    warnings: list[str] = []
    known = known_suites(opened, config, warnings, environment)
    if not known:
        return selection._replace(warnings=[*selection.warnings, *warnings]), None
    graph = opened.graph
    static = {test.path: test for test in selection.tests}
    gone = {state.path for state in opened.changes if state.head == ABSENT}
    by_file = {path: suite for suite in known for path in suite.evidence.files}
    chosen, shares = [], []
    for path in sorted(map(graph.path, graph.with_flag(TEST))):
        if path in gone:
            continue
        picked, share = None if only else static.get(path), 0.0
        if path in by_file:
            picked, share = _file(opened, path, by_file[path], static.get(path), only)
        shares.append(share)
        if picked:
            chosen.append(picked)
    everything = next(filter(None, (suite.judged.static.everything for suite in known)), None)
    unknown = sum(share < 1 for share in shares)
    if unknown and only:
        warnings.append(f"{unknown:,} test files have tests without evidence that holds: they are left out")
    # Where the static rule had to take everything because it could not tell, evidence may have told.
    static_warnings = selection.warnings if unknown or everything else known[0].judged.static.warnings
    kept = selection._replace(
        tests=chosen, everything=everything and selection.everything, warnings=[*static_warnings, *warnings]
    )
    return kept, sum(shares) / len(shares) if shares else 0.0


def _file(
    opened: Opened, path: str, known: Known, static: SelectedTest | None, only: bool
) -> tuple[SelectedTest | None, float]:
    """What to run of one file, and the share of its tests that evidence decides about."""
    file = known.evidence.files[path]
    complete = file.complete and path not in known.edited
    own = next((test for test in known.judged.static.tests if test.path == path), None)
    holds = file.records & known.holds
    hit = holds & known.hit
    if not hit and complete and own is None and len(file.newest & known.holds) == file.known:
        return None, 1.0
    entries = known.evidence.entries(path)
    valid = {name for name, entry in entries.items() if any(number in holds for number in entry.numbers)}
    share = len(valid) / len(entries) if entries and complete else 0.0
    if own is not None and own.node_ids is None:  # it changed throughout: its tests may be others
        return own if not only else None, share
    affected = {name for name in valid if any(number in hit for number in entries[name].numbers)}
    own_ids = own.node_ids or () if own else ()
    affected |= {name for name in valid if is_named(name, own_ids)}
    if static is not None and not only:
        if not complete:
            return static, share
        affected |= {
            name
            for name in entries
            if name not in valid and (static.node_ids is None or is_named(name, static.node_ids))
        }
    names = [name for name in _grouped(entries, affected) if not own or _is_there(opened, path, name)]
    names += [each for each in own_ids if not is_covered(each, entries)]
    if not names:
        return None, share
    reason = _reason(known, entries, affected) or (static.reason if static else "") or (own.reason if own else "")
    return SelectedTest(path, tuple(dict.fromkeys(names)), reason), share


def _is_there(opened: Opened, path: str, name: str) -> bool:
    """Whether an edited file may still have a test of this name."""
    last = name.partition("[")[0].rpartition("::")[2]
    return last.encode() in (opened.read_head(path) or b"")


def is_covered(node_id: str, entries: Mapping[str, Entry]) -> bool:
    """Whether tests are known under this id."""
    return any(is_named(name, (node_id,)) for name in entries)


def _grouped(entries: Mapping[str, Entry], chosen: set[str]) -> list[str]:
    """Names of tests, with one bare name for all parameters of a function where all are chosen."""
    groups: dict[str, list[str]] = {}
    for name in entries:
        groups.setdefault(name.partition("[")[0], []).append(name)
    found = []
    for bare, names in groups.items():
        picked = [name for name in names if name in chosen]
        found += [bare] if len(picked) == len(names) else picked
    return found


def _reason(known: Known, entries: Mapping[str, Entry], affected: set[str]) -> str:
    for name in sorted(affected):
        hit = why(known, entries[name])
        if hit:
            return f"{name}: {hit.why}"
    return ""


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
            hit = why(known, entry)
            if not BitMap(entry.numbers) & known.holds:
                reason = (
                    f"it {entry.outcome}" if entry.outcome != "passed" else "what it ran changed since it was recorded"
                )
                found.append(Verdict(test, None, reason))
            else:
                found.append(Verdict(test, hit is not None, hit.why if hit else "it ran nothing that changed"))
    return found


def why(known: Known, entry: Entry) -> Hit | None:
    """The first hit of one test's records."""
    numbers = BitMap(entry.numbers) & known.holds
    for hits in known.judged.hits.values():
        for hit in hits:
            if hit.records & numbers:
                return hit
    return None


# -- variants ------------------------------------------------------------------------------------------------


def variant_of(top: str, root: str, environment: Mapping[str, str] = os.environ) -> str:
    """The variant that a suite would run under now: its interpreter's version, this platform, $GREENLINE_VARIANT."""
    version = _python_version(top, root, environment) or platform.python_version()
    return " ".join(filter(None, (version, f"{sys.platform}-{platform.machine()}", environment.get(EXTRA, ""))))


def _python_version(top: str, root: str, environment: Mapping[str, str]) -> str | None:
    """The version of the environment that `greenline test` would take, without starting it."""
    folders = [root]
    while folders[-1]:
        folders.append(folders[-1].rpartition("/")[0])
    homes = [os.path.join(top, folder, ".venv") for folder in folders]
    if environment.get("VIRTUAL_ENV"):
        homes.insert(len(homes) - 1, environment["VIRTUAL_ENV"])
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
