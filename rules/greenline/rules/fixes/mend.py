"""From conflicts to mended files: all deterministic fixes of a merged state, applied until none is left."""

from __future__ import annotations

from typing import NamedTuple

from greenline.depgraph.config import Config
from greenline.depgraph.workspace import Workspace
from greenline.rules.conflicts.find import Conflict, find_in
from greenline.rules.conflicts.merge import Merge, open_merge
from greenline.rules.conflicts.report import as_conflict
from greenline.rules.fixes.apply import apply_all


class Mended(NamedTuple):
    """``files``: path → new content, None for a file to delete; ``before``: what they were in the merged state, None
    for a new one; ``conflicts``: what they mend; ``left``: conflicts without a fix; ``refused``: fixes that would not
    be safe, with the reason, a line each."""

    files: dict[str, bytes | None]
    before: dict[str, bytes | None]
    conflicts: list[Conflict]
    left: list[Conflict]
    refused: list[str]


def mend(workspace: Workspace, config: Config, base: str, ours: str, theirs: str, merged: str | None = None) -> Mended:
    """The deterministic fixes for a merged state: commits or trees; by default git's own merge of the two sides.

    For a branch that is red, ``mend(workspace, config, good, bad, bad, bad)`` mends what broke since ``good``.
    """
    with open_merge(workspace, config, base, ours, theirs, merged) as merge:
        return mend_merge(workspace, merge)


def mend_merge(workspace: Workspace, merge: Merge) -> Mended:
    """The same for an open merge."""
    found = sorted({as_conflict(workspace, merge, one) for one in find_in(merge)}, key=lambda one: one.finding.place)
    fixes = [one.fix for one in found if one.fix is not None]
    sources = {fix.path: merge.merged.tree.read(fix.path) or b"" for fix in fixes}
    files, refused = apply_all(fixes, sources)
    left = [one for one in found if one.fix is None and not one.finding.warning]
    before = {path: merge.merged.tree.read(path) for path in files}
    return Mended(files, before, [one for one in found if one.fix is not None], left, refused)
