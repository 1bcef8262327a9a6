"""From what the detector found to the form in which all rules report: both commits, both lines, the fix."""

from __future__ import annotations

import ast
from typing import NamedTuple

from greenline.depgraph.workspace import GitError, Workspace
from greenline.rules.conflicts.infer import World
from greenline.rules.conflicts.merge import Merge
from greenline.rules.conflicts.moves import definition
from greenline.rules.conflicts.problem import Problem
from greenline.rules.findings import Finding, Place
from greenline.rules.fixes.fix import Fix


class Conflict(NamedTuple):
    """Two changes that break together. ``ours``, ``theirs``: the line of each that does it, with its commit;
    ``number``: the breakage class of docs/conflicts.md, 0 for a textual conflict."""

    finding: Finding
    ours: Place
    theirs: Place
    fix: Fix | None
    number: int


class Found(NamedTuple):
    """A problem with its class, the rule's name below "conflict/", a sentence and the fix. ``other``: the place of the
    other side's change where that is not the definition that the problem is about. ``warning``: no reason to fail."""

    problem: Problem
    number: int
    rule: str
    message: str
    fix: Fix | None
    other: tuple[str, int] | None = None
    warning: bool = False


def as_conflict(workspace: Workspace, merge: Merge, found: Found) -> Conflict:
    """Tell which side did what: the use is of the side that changed the file, the definition of the other."""
    problem = found.problem
    use_is_ours = _adds(merge, merge.ours, problem) or not _adds(merge, merge.theirs, problem)
    user, definer = (merge.ours, merge.theirs) if use_is_ours else (merge.theirs, merge.ours)
    use = _place(workspace, merge, user, problem.path, _line_in(merge, user, problem.path, problem.line))
    path, line = found.other or _line_of_definition(merge, definer, *problem.target)
    change = _place(workspace, merge, definer, path, line)
    ours, theirs = (use, change) if use_is_ours else (change, use)
    fix = found.fix
    hint = str(fix) if fix else _HINTS.get(found.rule, "")
    finding = Finding(
        f"conflict/{found.rule}",
        Place(problem.path, problem.line),
        found.message,
        f"{problem.scope}:{problem.subject}:{' '.join(problem.detail)}",
        hint,
        (use, change),
        fix is not None,
        found.warning,
    )
    return Conflict(finding, ours, theirs, fix, found.number)


_HINTS = {
    "deleted": "restore it, or do without it here",
    "new-parameter": "pass it here, or give it a default",
    "abstract": "implement it in the class",
    "import-cycle": "import it in the function that needs it, or move what both need into a third module",
    "environment": "make both fit and lock again; the owner of the dependencies approves",
    "pollution": "let monkeypatch set it, which sets it back",
}


def textual(merge: Merge) -> list[Conflict]:
    """The files that git itself cannot merge."""
    found = []
    for path in merge.textual:
        ours, theirs = (Place(path, 0, side.tree.name) for side in (merge.ours, merge.theirs))
        message = f"{path} has a textual conflict"
        hint = "merge it by hand"
        finding = Finding("conflict/textual", Place(path), message, "textual", hint, (ours, theirs))
        found.append(Conflict(finding, ours, theirs, None, 0))
    return found


def _lines(world: World, path: str) -> list[bytes]:
    return (world.tree.read(path) or b"").splitlines()


def _adds(merge: Merge, side: World, problem: Problem) -> bool:
    """Whether this side brought the line of a use: the base does not have it, the side does."""
    lines = _lines(merge.merged, problem.path)
    if not 0 < problem.line <= len(lines) or side.tree.files.get(problem.path) == merge.base.tree.files.get(
        problem.path
    ):
        return False
    line = lines[problem.line - 1]
    before, after = _lines(merge.base, problem.path), _lines(side, problem.path)
    return after.count(line) > before.count(line)


def _line_in(merge: Merge, side: World, path: str, line: int) -> int:
    """The line of a side's file that stands at this line of the merged file."""
    if side.tree.files.get(path) == merge.merged.tree.files.get(path):
        return line
    merged, mine = _lines(merge.merged, path), _lines(side, path)
    wanted = merged[line - 1] if 0 < line <= len(merged) else b""
    places = [at for at, text in enumerate(mine, 1) if text == wanted]
    return min(places, key=lambda at: abs(at - line), default=0)


def _line_of_definition(merge: Merge, side: World, path: str, name: str) -> tuple[str, int]:
    """Where a side has a definition; where the base has it, if the side removed it."""
    for world in (side, merge.base):
        here = merge.moved.get(path, path) if path not in world.tree.files else path
        if not name and here in world.tree.files:
            return here, 0
        bound = definition(world, here, name) if name else None
        if bound is not None:
            return here, getattr(bound.node, "lineno", 0)
        owner = name.rpartition(".")[0]
        inside = definition(world, here, owner) if owner and world is side else None
        if inside is not None and isinstance(inside.node, ast.ClassDef):
            return here, inside.node.lineno
    return path, 0


def _place(workspace: Workspace, merge: Merge, side: World, path: str, line: int) -> Place:
    """A place with the commit of this side that last touched the file, or the side's own name."""
    try:
        log = workspace.git("log", "-1", "--format=%H", f"{merge.base.tree.name}..{side.tree.name}", "--", path)
    except GitError:  # a side may be a tree
        log = ""
    return Place(path, line, log.strip() or side.tree.name)
