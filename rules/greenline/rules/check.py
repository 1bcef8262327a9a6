"""All rules on one state of the code: contracts, libraries by purpose, what is ignored, and the baseline."""

from __future__ import annotations

import contextlib
import datetime
import functools
import itertools
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from greenline.depgraph.config import FILE
from greenline.depgraph.imports import Imports, read_imports
from greenline.depgraph.index import Opened
from greenline.rules import contracts, purposes
from greenline.rules.baseline import Entry
from greenline.rules.contracts import Edge, Violation, violations
from greenline.rules.findings import Finding, Place
from greenline.rules.modules import ModuleSets, pattern_of
from greenline.rules.settings import Acyclic, Contract, Ignore, Layers, Protected, Rules, rule_name
from greenline.rules.suppress import Suppressed, about, expired, sift, unneeded

NO_MODULE = "rules/no-module"
"""The rule of rules: they must be about something that is there."""


class Checked(NamedTuple):
    """What the rules say of a state.

    ``findings``: what is neither ignored nor in the baseline (nor, asked so, at the base); ``known``: findings of the
    baseline; ``needed``: the entries of the baseline that still stand for something.
    """

    findings: list[Finding]
    suppressed: list[Suppressed]
    known: list[Finding]
    needed: list[Entry]


def check(
    opened: Opened,
    rules: Rules,
    baseline: Collection[Entry],
    today: datetime.date,
    new_only: bool = False,
    imports: Imports | None = None,
    like: Imports | None = None,
) -> Checked:
    """Check the head of a change.

    ``new_only``: leave out what breaks the same rules at its base; ``imports``: those of the head, if they are
    known; ``like``: else those of another state, to take over what is the same.
    """
    state = State(imports or read_imports(opened, like=like), rules.ignores, today)

    @functools.cache
    def before() -> State:
        return State(read_imports(opened, at_base=True, like=state.imports), rules.ignores, today)

    found: list[Finding] = []
    for contract in rules.contracts:
        try:
            found += _of_contract(state, contract, baseline, before if new_only else None)
        except contracts.NoModule as error:
            subject = f"{rule_name(contract)}: {error.module}"
            found.append(Finding(NO_MODULE, Place(FILE), error.message, subject, error.hint or ""))
    for purpose in rules.purposes:
        found += [
            state.library(use, rule_name(purpose), purpose.use) for use in purposes.others(state.imports, purpose)
        ]
    if new_only:
        at_base = {each.fingerprint for each in _at_base(before(), rules, baseline)} if found else ()
        found = [each for each in found if each.fingerprint not in at_base]
        ruled = {purpose.name for purpose in rules.purposes}
        changed = {each.path for each in opened.changes}
        for name, house, use in purposes.seconds(state.imports, changed, lambda: before().imports):
            if name not in ruled:
                found.append(state.library(use, f"purposes/{name}", (house,))._replace(warning=True))
    sifted = sift(found, rules.ignores, state.names_of, state.read, today)
    accepted = {entry.fingerprint for entry in baseline}
    findings = [each for each in sifted.findings if each.fingerprint not in accepted]
    if not new_only:
        findings += unneeded(rules.ignores, state.used | sifted.used, today)
    known = [each for each in sifted.findings if each.fingerprint in accepted]
    seen = {each.fingerprint for each in known} | _needed_circles(state, rules, baseline)
    needed = [entry for entry in baseline if entry.fingerprint in seen]
    return Checked(sorted(findings, key=_order), sifted.suppressed, known, needed)


def _order(finding: Finding) -> tuple[bool, str, int, str, str]:
    return finding.warning, finding.place.path, finding.place.line, finding.rule, finding.subject


def _at_base(before: State, rules: Rules, baseline: Collection[Entry]) -> Iterable[Finding]:
    """What breaks the rules at the base; a rule about modules that are not there yet is no mistake."""
    for contract in rules.contracts:
        if not isinstance(contract, Acyclic) or contract.children:
            try:
                yield from _of_contract(before, contract, baseline, None)
            except contracts.NoModule:
                continue
    for purpose in rules.purposes:
        for use in purposes.others(before.imports, purpose):
            yield before.library(use, rule_name(purpose), purpose.use)


def _of_contract(
    state: State, contract: Contract, baseline: Collection[Entry], before: Callable[[], State] | None
) -> list[Finding]:
    rule, known, old = rule_name(contract), set(), None
    if isinstance(contract, Acyclic):
        known = {edge for entry in baseline if (edge := state.edge_of(entry, rule))}
        if before and not contract.children:
            old = functools.cache(lambda: contracts.before_of(before().imports, contract.latest))
    found = violations(state.imports, state.sets, contract, state.cut(rule), known, old)
    return [state.finding(each) for each in found]


def _needed_circles(state: State, rules: Rules, baseline: Collection[Entry]) -> set[str]:
    """The fingerprints of baseline entries without which there is a circle, with as many others as possible gone."""
    found = set()
    for contract in rules.contracts:
        if not isinstance(contract, Acyclic):
            continue
        edges = {entry.fingerprint: state.edge_of(entry, rule_name(contract)) for entry in baseline}
        known = {fingerprint: edge for fingerprint, edge in edges.items() if edge}
        for fingerprint in list(known):
            rest = [edge for other, edge in known.items() if other != fingerprint]
            with contextlib.suppress(contracts.NoModule):
                if violations(state.imports, state.sets, contract, state.cut(rule_name(contract)), rest):
                    found.add(fingerprint)
                else:
                    del known[fingerprint]
    return found


# -- from violations to findings -----------------------------------------------------------------------------


class State:
    """The imports of a state, and how findings name what is in it. ``used``: keys of the ignores that cut imports."""

    def __init__(self, imports: Imports, ignores: Iterable[Ignore], today: datetime.date) -> None:
        self.imports = imports
        self.sets = ModuleSets(imports)
        self.used: set[str] = set()
        self._ignores = [each for each in ignores if each.to and not expired(each.until, today)]
        self._cuts: dict[str, set[Edge]] = {}
        self._nodes = {path: node for node, path in enumerate(imports.paths) if path}

    def names_of(self, path: str) -> Iterable[str]:
        return self.imports.names[self._nodes[path]] if path in self._nodes else ()

    def read(self, place: Place) -> bytes | None:
        return self.imports.meaning.read(place.path)

    def cut(self, rule: str) -> set[Edge]:
        """The imports that do not count for a rule. An ignore names modules themselves, not what is below them."""
        found: set[Edge] = set()
        for each in self._ignores:
            if about(each, rule):
                if each.key not in self._cuts:
                    self._cuts[each.key] = self._between(each)
                if self._cuts[each.key]:
                    self.used.add(each.key)
                found |= self._cuts[each.key]
        return found

    def _between(self, ignore: Ignore) -> set[Edge]:
        importers, imported = (self._exactly(each) for each in (ignore.from_, ignore.to))
        return {(node, to) for node in importers for to in self.imports.edges[node] if to in imported}

    def _exactly(self, expressions: Iterable[str]) -> set[int]:
        found: set[int] = set()
        for expression in expressions:
            if "/" in expression:
                found.update(self.sets.nodes(expression))
                continue
            fits = pattern_of(expression).fullmatch
            for name in self.sets.names(expression):
                for node in self.sets.package(name):
                    inside = bool(self.imports.paths[node])
                    if not inside or any(fits(each) for each in self.imports.names[node]):
                        found.add(node)
        return found

    def edge_of(self, entry: Entry, rule: str) -> Edge | None:
        """The import that an entry of the baseline is about, if it is of this rule and there."""
        if entry.rule != rule or entry.path not in self._nodes:
            return None
        node = self._nodes[entry.path]
        return next(((node, to) for to in self.imports.edges[node] if entry.subject == self._step(node, to)), None)

    def _name(self, node: int) -> str:
        return self.imports.names[node][0]

    def _step(self, importer: int, imported: int) -> str:
        return f"{self._name(importer)} -> {self._name(imported)}"

    def _place(self, importer: int, imported: int, note: str = "") -> Place:
        lines = self.imports.lines(importer, imported)
        return Place(self.imports.paths[importer], lines[0] if lines else 0, "", note)

    def finding(self, violation: Violation) -> Finding:
        contract, importer, imported, source, target, chain = violation
        rule = rule_name(contract)
        if imported is None:
            message = f"{source} is in no layer of {target}"
            place = Place(self.imports.paths[importer])
            return Finding(rule, place, message, source, "give it a layer, or name it under except")
        step = self._step(importer, imported)
        if isinstance(contract, Acyclic):
            circle = " -> ".join(map(self._name, chain))
            hint = "move what both need into a third module, or import it where it is used"
            return Finding(
                rule,
                self._place(importer, imported),
                f"a circle of imports: {circle}",
                step,
                hint,
                self._related(chain[1:]),
            )
        if isinstance(contract, Protected):
            message = f"{self._name(importer)} imports {self._name(imported)}, which only its own side may import"
            return Finding(rule, self._place(importer, imported), message, step, "use what the package offers instead")
        message = f"{self._name(importer)} imports {self._name(imported)}: {_may_not(contract, source, target)}"
        if len(chain) > 2:
            message += f"; it is reached by {' -> '.join(map(self._name, chain))}"
        hint = "turn the dependency round, or move what is needed to where both may import it"
        related = self._related(chain[:-1])
        return Finding(rule, self._place(importer, imported), message, f"{source}: {step}", hint, related)

    def _related(self, chain: tuple[int, ...]) -> tuple[Place, ...]:
        steps = itertools.pairwise(chain)
        return tuple(self._place(one, two, self._step(one, two)) for one, two in steps if self.imports.paths[one])

    def library(self, use: purposes.Use, rule: str, house: Collection[str]) -> Finding:
        message = f"{self._name(use.importer)} uses {use.library}; the house's choice here is {' or '.join(house)}"
        place = self._place(use.importer, use.imported)
        return Finding(rule, place, message, use.library, f"use {' or '.join(house)}, or ignore it with a reason")


def _may_not(contract: Contract, source: str, target: str) -> str:
    if isinstance(contract, Layers):
        return (
            f"{target} is a layer above {source}"
            if not _siblings(contract, source, target)
            else (f"{source} and {target} are independent")
        )
    return f"{source} must not import {target}"


def _siblings(contract: Layers, source: str, target: str) -> bool:
    for layer in contract.layers:
        names = [member.module for member in layer.members]
        if sum(any(each == name or each.endswith("." + name) for name in names) for each in (source, target)) == 2:
            return True
    return False
