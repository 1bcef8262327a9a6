"""``greenline premerge``: all that can be known of a change before it is merged, as one report.

Each section stands for itself. One that cannot be worked out says why and what would mend that; the report is then not
complete, and never silently empty.
"""

from __future__ import annotations

import datetime
import functools
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from greenline.ci import affected
from greenline.ci.environment import Base, find_base
from greenline.ci.sides import Sides, Untold, sides_of
from greenline.depgraph.config import FILE, Config, build, parse
from greenline.depgraph.errors import ConfigError, Corrupted, GreenlineError
from greenline.depgraph.imports import Imports, read_imports
from greenline.depgraph.index import Opened, Progress, open_change
from greenline.depgraph.parallel import aside
from greenline.depgraph.wording import plural
from greenline.depgraph.workspace import ABSENT, Workspace
from greenline.rules import baseline, budgets
from greenline.rules import lint as linting
from greenline.rules.check import check
from greenline.rules.findings import Finding, Place, Report, Section
from greenline.rules.settings import Rules, read
from greenline.rules.suppress import Sifted, sift

if TYPE_CHECKING:
    from greenline.ci.sharding.plan_file import Plan


class Asked(NamedTuple):
    """``base``: a ref, None to find it; ``plan``: with a shard plan, ``target``: that ends in time ("10m")."""

    today: datetime.date
    base: str | None = None
    plan: bool = False
    target: str | None = None


class Premerge(NamedTuple):
    report: Report
    plan: Plan | None


class Situation(NamedTuple):
    """What all sections look at. ``opened``: from the base, or without one from HEAD, to the work tree; ``imports``:
    those of the work tree, read when they are first asked for."""

    workspace: Workspace
    config: Config
    rules: Rules
    base: Base
    opened: Opened
    sides: Sides | Untold
    asked: Asked
    imports: Callable[[], Imports]


def premerge(
    asked: Asked,
    folder: str | None = None,
    progress: Progress | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Premerge:
    """The report, and the plan that is in it. Raises GreenlineError for wrong use and configuration only."""
    change = affected.change_of(folder, affected.Request(asked.base), progress, environment)
    workspace, config = change.workspace, change.config
    rules = read(config)
    base = find_base(workspace, config.base, asked.base, environment=environment)
    opened = change.opened or open_change(workspace, config, change.base or "HEAD", None, progress)
    sides = sides_of(workspace, base, environment)
    imports = functools.cache(lambda: read_imports(opened))
    situation = Situation(workspace, config, rules, base, opened, sides, asked, imports)
    conflicts = aside(lambda: _conflicts(situation))  # half of all the work
    answer = affected.answer_of_change(change, affected.Request(asked.base))
    plan = None
    if asked.plan:
        from greenline.ci.planned import plan_of

        plan = plan_of(workspace, config, answer, asked.target)
    sections = (
        _guarded("rules", _rules, situation),
        _guarded("budget", _budget, situation),
        _guarded("lint", _lint, situation),
        conflicts(),
        _tests(answer, base),
        *([_plan(plan)] if plan else ()),
    )
    return Premerge(Report(sections, str(asked.today), base.commit or "", base.how), plan)


def _guarded(name: str, work: Callable[[Situation], Section], situation: Situation) -> Section:
    """A section, or why there is none. A fault of ours must not hide what the other sections found."""
    try:
        return work(situation)
    except (ConfigError, Corrupted):
        raise
    except GreenlineError as error:
        note = error.message + (f"; {error.hint}" if error.hint else "")
        return Section(name, (), "could not be looked at", False, (note,))
    except Exception as error:
        if os.environ.get("GREENLINE_DEBUG"):
            raise
        note = (
            f"internal error: {type(error).__name__}: {str(error).partition(chr(10))[0]}; GREENLINE_DEBUG=1 tells more"
        )
        return Section(name, (), "could not be looked at", False, (note,))


def _no_base(base: Base) -> str:
    return base.how + (f"; {base.hint}" if base.hint else "")


# -- rules, budget -------------------------------------------------------------------------------------------


def _rules(situation: Situation) -> Section:
    """What the change breaks; everything that is broken, where it changes the rules, or where there is no base."""
    opened, rules = situation.opened, situation.rules
    entries = baseline.parse(opened.read_head(baseline.FILE))
    whole = situation.base.commit is None or any(state.path == FILE for state in opened.changes)
    found = check(opened, rules, entries, situation.asked.today, not whole, situation.imports())
    notes = list(opened.warnings)
    if situation.base.commit:
        old = baseline.parse(opened.contents.get(baseline.FILE, f"{situation.base.commit}:{baseline.FILE}"))
        more = {entry.fingerprint: entry for entry in entries}.keys() - {entry.fingerprint for entry in old}
        if more and old:
            reasons = sorted({entry.reason for entry in entries if entry.fingerprint in more})
            notes.append(f"the baseline grows by {len(more)}: {'; '.join(reasons)}")
    number = len(rules.contracts) + len(rules.purposes)
    told = "of everything" if whole else "of what is new"
    summary = f"{plural(number, 'rule')} {told}, {_findings(found.findings)}" if number else f"{FILE} has no rules"
    return Section("rules", tuple(found.findings), summary, True, tuple(notes), len(found.suppressed), len(found.known))


def _budget(situation: Situation) -> Section:
    if situation.base.commit is None:
        return Section("budget", (), "what the change adds is not known", False, (_no_base(situation.base),))
    opened, budget = situation.opened, situation.rules.budget
    durations: Mapping[str, float] = {}
    if budget.minutes is not None:
        from greenline.ci.planned import file_durations

        durations = file_durations(situation.workspace, situation.config)
    bill = budgets.bill(opened, durations)
    if not bill.total:
        return Section("budget", (), "no import edge comes or goes")
    over = budgets.over(bill, budget)
    found = [budgets.finding_of(cost, bill, opened, situation.imports()) for cost in over]
    sifted = _sift(situation, found)
    summary = (
        f"{plural(len(bill.added), 'import edge')} more, {len(bill.removed)} fewer; "
        f"the average change selects {bill.tests:+.1f} test files"
    )
    dearest = [cost for cost in bill.added[:1] if cost.tests]
    notes = [f"the dearest: {cost.importer} -> {cost.to[-1]}: {budgets.price(cost, bill)}" for cost in dearest]
    if budget.minutes is not None and not durations:
        notes.append("rules.budget.minutes cannot be judged: no durations are recorded")
    data = {
        "tests_per_change": round(bill.tests, 3),
        "changes": bill.total,
        "recent_commits": bill.recent,
        "added": [
            {
                "importer": cost.importer,
                "imported": cost.to[-1],
                "changes": cost.changes,
                "tests_per_change": round(cost.tests, 3),
                "seconds_per_change": round(cost.seconds, 3),
            }
            for cost in bill.added
        ],
        "removed": [{"importer": importer, "imported": imported} for importer, imported in bill.removed],
    }
    complete = budget.minutes is None or bool(durations)
    return Section("budget", tuple(sifted.findings), summary, complete, tuple(notes), len(sifted.suppressed), 0, data)


# -- lint ----------------------------------------------------------------------------------------------------


def _lint(situation: Situation) -> Section:
    """What ruff says of the changed files and did not say at the base."""
    workspace, opened, rules = situation.workspace, situation.opened, situation.rules
    wanted = linting.which(workspace, rules.lint, rules.format, workspace.paths(), opened.read_head)
    if not any(wanted):
        return Section("lint", (), "the repository does not configure ruff")
    if situation.base.commit is None:
        changed = {path: False for path in workspace.paths()}
    else:
        changed = {state.path: state.base != ABSENT for state in opened.changes if state.head != ABSENT}
    changed = {path: old for path, old in changed.items() if path.endswith(linting.ENDINGS)}
    here = [path for path in changed if os.path.isfile(os.path.join(workspace.root, path))]
    found = linting.lint(workspace.root, here, wanted)
    before = {finding.place.path for finding in found if changed[finding.place.path]}
    if before:
        found = linting.new_findings(found, linting.lint_tree(workspace, opened.base, before, wanted))
    sifted = _sift(situation, found)
    what = " and ".join(name for name, on in (("ruff check", wanted.check), ("ruff format", wanted.format)) if on)
    summary = f"{what} of {plural(len(here), 'changed file')}, {_findings(sifted.findings)}"
    odd = [path for path in here if not linting.can_be_named(path)]
    notes = (f"ruff cannot be told of {odd[0]!a}: rename it",) if odd else ()
    return Section("lint", tuple(sifted.findings), summary, not odd, notes, len(sifted.suppressed))


# -- conflicts -----------------------------------------------------------------------------------------------


def _conflicts(situation: Situation) -> Section:
    rules, names = (_guarded("conflicts", work, situation) for work in (_meeting_rules, _meeting_names))
    return _joined(rules, names)


def _meeting_names(situation: Situation) -> Section:
    """What one side uses and the other changed or removed, where this change meets what its target gained."""
    sides = situation.sides
    if isinstance(sides, Untold):
        return Section("conflicts", (), data={})
    from greenline.rules.conflicts.find import find_conflicts

    workspace, config = situation.workspace, situation.config
    found = [each.finding for each in find_conflicts(workspace, config, sides.base, sides.ours, sides.theirs)]
    sifted = _sift(situation, found)
    return Section("conflicts", tuple(sifted.findings), "", True, (), len(sifted.suppressed), data={})


def _meeting_rules(situation: Situation) -> Section:
    """What breaks a rule, or ruff's, only where this change meets what its target gained."""
    sides = situation.sides
    if isinstance(sides, Untold):
        notes = () if sides.fine else (sides.why + (f"; {sides.hint}" if sides.hint else ""),)
        return Section("conflicts", (), sides.why if sides.fine else "could not be looked at", sides.fine, notes)
    found = []
    if sides.merged is not None:
        merged = _Merged(situation, sides, sides.merged)
        found = merged.rules() + merged.lint()
    sifted = _sift(situation, found)
    gained = len(situation.workspace.git("rev-list", f"{sides.ours}..{sides.theirs}").split())
    summary = f"with {plural(gained, 'commit')} that the target gained"
    data = {"base": sides.base, "ours": sides.ours, "theirs": sides.theirs, "merged": sides.merged}
    return Section("conflicts", tuple(sifted.findings), summary, True, (), len(sifted.suppressed), 0, data)


def _joined(one: Section, other: Section) -> Section:
    findings = (*other.findings, *one.findings)
    return one._replace(
        findings=findings,
        summary=f"{one.summary}, {_findings(findings)}" if one.data else one.summary,
        complete=one.complete and other.complete,
        notes=(*one.notes, *other.notes),
        ignored=one.ignored + other.ignored,
    )


class _Merged:
    """The merged tree against both sides: what breaks in it, and on neither side, under the rules of each."""

    def __init__(self, situation: Situation, sides: Sides, merged: str) -> None:
        self._situation = situation
        self._workspace = situation.workspace
        self._sides = sides
        self._merged = merged
        self._ours, self._theirs = (self._between(sides.base, side) for side in (sides.ours, sides.theirs))

    def _between(self, old: str, new: str) -> set[str]:
        return set(self._workspace.git("diff", "--name-only", "--no-renames", "-z", old, new).split("\0")[:-1])

    def rules(self) -> list[Finding]:
        """Contracts on the merged graph: a rule of one side, an import of the other; a circle out of two imports.

        What is new against theirs and not in ours comes from the meeting. A rule that only ours has needs the other
        look too: new against ours, and no fault of theirs alone.
        """
        sides = self._sides
        found = self._new(sides.theirs, self._merged)
        if FILE in self._ours:
            alone = {each.fingerprint for each in self._new(sides.base, sides.theirs)}
            found += [each for each in self._new(sides.ours, self._merged) if each.fingerprint not in alone]
        if found:
            known = {each.fingerprint for each in self._new(sides.base, sides.ours)}
            found = [each for each in found if each.fingerprint not in known]
        return [_after_merge(each) for each in dict.fromkeys(found)]

    def _new(self, old: str, new: str) -> list[Finding]:
        """What breaks the rules of a commit in it and not in another."""
        data = next(self._workspace.read_blobs([f"{new}:{FILE}"]))
        rules = read(build(parse(data)) if data else Config())
        if not rules.contracts and not rules.purposes:
            return []
        opened = open_change(self._workspace, self._situation.config, old, new)
        entries = baseline.parse(opened.read_head(baseline.FILE))
        day, like = self._situation.asked.today, self._situation.imports()
        found = check(opened, rules, entries, day, new_only=True, like=like).findings
        return [each for each in found if not each.warning]

    def lint(self) -> list[Finding]:
        """ruff on the files of one side where the other changed its settings, and on files that both changed."""
        rules, workspace = self._situation.rules, self._workspace
        ours, theirs = (any(map(linting.is_config, side)) for side in (self._ours, self._theirs))
        paths = (self._ours if theirs else set()) | (self._theirs if ours else set()) | (self._ours & self._theirs)
        paths = {path for path in paths if path.endswith(linting.ENDINGS)}
        if not paths:
            return []
        names = [entry.path for entry in workspace.entries(self._merged)]
        configs = [name for name in names if linting.is_config(name)]
        contents = dict(zip(configs, workspace.read_blobs([f"{self._merged}:{path}" for path in configs]), strict=True))
        wanted = linting.which(workspace, rules.lint, rules.format, names, contents.get)
        found = linting.lint_tree(workspace, self._merged, paths, wanted)
        for side in (self._sides.ours, self._sides.theirs):
            if found:
                found = linting.new_findings(found, linting.lint_tree(workspace, side, paths, wanted))
        return [_after_merge(each) for each in found]


def _after_merge(finding: Finding) -> Finding:
    return finding._replace(message=f"after the merge: {finding.message}")


# -- tests ---------------------------------------------------------------------------------------------------


def _tests(answer: affected.Answer, base: Base) -> Section:
    summary = f"{len(answer.tests):,} of {plural(answer.total, 'test file')} affected"
    if answer.everything:
        summary += f": {answer.everything}"
    data = {
        "everything": answer.everything,
        "total": answer.total,
        "suites": answer.suite_roots,
        "tests": [
            {"path": test.path, "suite": test.suite, "nodeids": None if test.node_ids is None else list(test.node_ids)}
            for test in answer.tests
        ],
    }
    notes = list(answer.warnings)
    if base.commit is None:  # in the words of the other sections, so that it is told once
        notes = [_no_base(base), *(note for note in notes if base.how not in note)]
    return Section("tests", (), summary, answer.complete, tuple(notes), data=data)


def _plan(plan: Plan) -> Section:
    """How the affected tests would run. A target that no plan meets is a warning: it is the tests' fault, not ours."""
    tests = sum(len(shard.tests) for shard in plan.shards)
    summary = (
        f"{plural(tests, 'test')} on {plural(len(plan.shards), 'runner')}, {plan.makespan:.0f} s; cost {plan.cost:.4g}"
    )
    notes = [*plan.warnings]
    if not plan.feasible:
        notes += [f"the target is not met: {each.tests[0]} takes {each.seconds:.0f} s" for each in plan.blocking[:3]]
    pools: dict[str, int] = {}
    for shard in plan.shards:
        pools[shard.pool] = pools.get(shard.pool, 0) + 1
    data = {"makespan": plan.makespan, "target": plan.target, "feasible": plan.feasible, "runners": pools}
    return Section("plan", (), summary, plan.feasible, tuple(notes), data={**data, "cost": plan.cost})


def _sift(situation: Situation, findings: Iterable[Finding]) -> Sifted:
    """Take out what people let pass, in greenline.yaml and beside the code."""
    opened = situation.opened

    def source(place: Place) -> bytes | None:
        if place.commit:
            return opened.contents.get(place.path, f"{place.commit}:{place.path}")
        return opened.read_head(place.path)

    layout = opened.graph.layout
    names: Callable[[str], list[str]] = lambda path: [each.name for each in layout.names(path)]  # noqa: E731
    return sift(findings, situation.rules.ignores, names, source, situation.asked.today)


def _findings(findings: Iterable[Finding]) -> str:
    return plural(sum(not finding.warning for finding in findings), "problem")
