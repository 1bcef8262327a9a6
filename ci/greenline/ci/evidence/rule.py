"""A change → the records that it affects, by the table of docs/evidence.md.

A changed module reaches only tests that ran its body (:mod:`.python_rule`), a data file those that opened it, asked
about it, listed its folder or spell its name. What evidence cannot answer, such as pytest's configuration, lock files
and new test files, is left to the static rule.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import NamedTuple

from pyroaring import BitMap

from greenline.ci.evidence import forms
from greenline.ci.evidence.heirs import other_tests
from greenline.ci.evidence.names import Names
from greenline.ci.evidence.python_rule import Hit, Rule
from greenline.ci.evidence.reading import Evidence
from greenline.ci.selection.data_files import DataRules
from greenline.ci.selection.select import NATIVE, STUBS, Selection, select
from greenline.depgraph.config import Config
from greenline.depgraph.index import Opened
from greenline.depgraph.layout import is_code
from greenline.depgraph.linking import TEST
from greenline.depgraph.locks import is_manifest
from greenline.depgraph.overlay import FileState, generated_from
from greenline.depgraph.suites import is_config_name
from greenline.depgraph.workspace import ABSENT, SUBMODULE


class Judged(NamedTuple):
    """What a change affects.

    ``hits``: changed file → hits. ``static``: what the static rule selects for the files left to it. ``others``: files
    of tests that did not change and may have other tests now.
    """

    hits: dict[str, list[Hit]]
    static: Selection
    others: frozenset[str]

    @property
    def records(self) -> BitMap:
        """All records that are hit, without those of the static part."""
        return BitMap().union(*(hit.records for hits in self.hits.values() for hit in hits))


def judge(opened: Opened, config: Config, evidence: Evidence, reasons: bool = False) -> Judged:
    """The table for every changed file. Where the static part affects everything, nothing else is asked."""
    rules = DataRules(config)
    left = [state for state in opened.changes if _is_static(opened, state, rules)]
    # Even for no file at all: it knows the tests that run always.
    static = select(opened._replace(changes=left), config, reasons)
    rule = Rule(opened, evidence, Names(opened))
    others = other_tests(rule)
    if static.everything:
        return Judged({}, static, others)
    rule.fetch(state.path for state in opened.changes if is_code(state.path))
    found = {}
    for at, state in enumerate(opened.changes):
        if opened.progress:
            opened.progress("asking the evidence about each changed file", at, len(opened.changes))
        found[state.path] = [hit for hit in _file(rule, state, rules) if hit.records]
    return Judged(found, static, others)


def affected_records(judged: Judged, evidence: Evidence) -> BitMap:
    """All records that a change affects, those of the static part included."""
    if judged.static.everything:
        return evidence.alive
    found = judged.records
    for test in judged.static.tests:
        if test.path in evidence.files:
            found |= named_records(evidence, test.path, test.node_ids)
    return found & evidence.alive


def named_records(evidence: Evidence, path: str, node_ids: tuple[str, ...] | None) -> BitMap:
    """The records of a file's tests, or of those that these ids name."""
    if node_ids is None:
        return evidence.files[path].records
    entries = evidence.entries(path)
    return BitMap(number for name, entry in entries.items() if is_named(name, node_ids) for number in entry.numbers)


def is_named(name: str, node_ids: tuple[str, ...]) -> bool:
    """Whether a test is one of these, a parametrisation of one ("test_x[1]"), or in a class of them."""
    return any(name == each or name.startswith((f"{each}[", f"{each}::")) for each in node_ids)


def _is_static(opened: Opened, state: FileState, rules: DataRules) -> bool:
    """Whether the static rule has to judge a file, in addition to evidence."""
    path = state.path
    name = posixpath.basename(path)
    declared = any(matches(path) for matches in [*(edge[0] for edge in rules.edges), *(data[0] for data in rules.data)])
    if declared or rules.decides(opened, state) or generated_from(path) or state.mode == SUBMODULE:
        return True
    if is_config_name(path) or is_manifest(path) or path.endswith((*NATIVE, *STUBS)):
        return True
    if opened.graph.flags_of(path) & TEST:
        return True
    if name != "conftest.py":
        return False
    from greenline.depgraph.fixtures import read_fixtures

    sides = [opened.contents.get(path, oid) for oid in (state.base, state.head)]
    if None in sides:
        return True
    facts = [read_fixtures(data or b"") for data in sides]
    # Bodies of plain fixtures and of what they call are recorded; hooks, plugins and what runs for all by itself
    # decide about tests that they never ran for.
    return any(each.opaque or each.hooks or each.plugins or any(f.autouse for f in each.fixtures) for each in facts)


def _file(rule: Rule, state: FileState, rules: DataRules) -> Iterator[Hit]:
    path = state.path
    if rules.ignore(path):
        return
    yield from _as_data(rule, state)
    if is_code(path):
        yield from _module(rule, state)
    elif not rules.no_effect(path) and not is_config_name(path) and not is_manifest(path):
        name = posixpath.basename(path)
        everyone = rule.evidence.alive
        yield Hit(rule.spelling([name], everyone, follow=False), f"ran code that spells the name of {path}")


def _as_data(rule: Rule, state: FileState) -> Iterator[Hit]:
    """Who opened a file, asked about it, or, where it came or went, listed its folder."""
    path = state.path
    came_or_went = ABSENT in (state.base, state.head)
    for kind, what in ((forms.OPENED, "opened"), (forms.QUERIED, "asked about")):
        if kind == forms.OPENED or came_or_went or not is_code(path):
            for records in rule.evidence.facts(kind, [path]).values():
                yield Hit(records, f"{what} {path}")
    if came_or_went:
        folder = posixpath.dirname(path)
        for records in rule.evidence.facts(forms.LISTED, [folder]).values():
            yield Hit(records, f"listed {folder or 'the root'}, where {path} came or went")


def _module(rule: Rule, state: FileState) -> Iterator[Hit]:
    path = state.path
    contents = rule.opened.contents
    old, new = contents.get(path, state.base), contents.get(path, state.head)
    if state.head == ABSENT:
        yield Hit(rule.importers(path), f"imported {path}, which is gone")
    elif state.base == ABSENT:
        yield from _added_module(rule, path)
    elif old != new:
        compared = rule.compared(state)
        if compared is None:
            yield Hit(rule.importers(path), f"imported {path}, which cannot be compared")
        else:
            yield from rule.module(path, compared)


def _added_module(rule: Rule, path: str) -> Iterator[Hit]:
    """Who looked for a module that was not there, or means another one by its name."""
    graph = rule.opened.graph
    changed = {state.path for state in rule.opened.changes}
    for node in graph.importers(graph.node(path)):
        importer = graph.path(node)
        if importer not in changed:
            yield Hit(rule.importers(importer), f"imported {importer}, which names {path}, new")
    for sought, records in rule.evidence.facts(forms.SOUGHT, [""]).items():
        if any(name.name == sought[1] for name in graph.names(path)):
            yield Hit(records, f"looked for {sought[1]}, which {path} is now")
