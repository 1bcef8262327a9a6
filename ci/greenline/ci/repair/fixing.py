"""Candidates that need no model: the deterministic fix of a semantic conflict, and the clean revert of the culprit."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from typing import NamedTuple

from greenline.ci.breakage.checkouts import Checkout, Checkouts
from greenline.ci.breakage.investigate import Breakage
from greenline.ci.repair.candidates import Candidate
from greenline.depgraph.config import Config
from greenline.depgraph.workspace import Workspace, find
from greenline.rules.conflicts.find import Conflict, find_conflicts
from greenline.rules.fixes.apply import apply_all


class Cause(NamedTuple):
    """Why main broke, as far as the code tells: ``sentence``, and both sides of the conflict: (commit, title)."""

    sentence: str = ""
    commits: tuple[tuple[str, str], ...] = ()


class Fixed(NamedTuple):
    """``candidate`` is None when no conflict was found or none has a fix; ``cause`` may be known all the same."""

    candidate: Candidate | None
    cause: Cause


def fix(workspace: Workspace, config: Config, checkouts: Checkouts, breakage: Breakage) -> Fixed:
    """Find the semantic conflict that the culprit is one side of, and mend it where its class has a fix.

    The two sides of a merge are its parents. A commit with one parent (squashed or rebased) is laid on earlier states
    of main to get its side back: what it changed, without what main gained meanwhile.
    """
    start = time.monotonic()
    culprit = breakage.culprit.suspect if breakage.culprit else None
    if culprit is None or breakage.good is None:
        return Fixed(None, Cause())
    checkout = checkouts.open(culprit.commit)
    here = find(checkout.folder)
    here.cache = workspace.cache
    found = (find_conflicts(here, config, *sides) for sides in _sides(here, checkout, culprit.commit, culprit.parent))
    conflicts = next((each for each in found if each), [])
    if not conflicts:
        return Fixed(None, Cause())
    cause = _cause(here, conflicts)
    checkout.go(culprit.commit)
    fixes = [conflict.fix for conflict in conflicts if conflict.fix]
    sources = {path: data for path in _python(checkout) if (data := here.read(path)) is not None}
    changed, refused = apply_all(fixes, sources)
    notes = [conflict.finding.message for conflict in conflicts] + refused
    if not changed:
        return Fixed(None, cause)
    for path, data in changed.items():
        _write(checkout.folder, path, data)
    diff = checkout.diff()
    if culprit.commit != breakage.bad:
        diff = _carry(checkout, diff, breakage.bad)
    rules = sorted({conflict.finding.rule.removeprefix("conflict/") for conflict in conflicts if conflict.fix})
    seconds = time.monotonic() - start
    return Fixed(Candidate(f"fix:{'+'.join(rules)}", diff, seconds, notes="; ".join(dict.fromkeys(notes))), cause)


_EARLIER = (1, 2, 4, 8, 16)
"""How many steps of main before a squashed commit its branch may have begun."""


def _sides(workspace: Workspace, checkout: Checkout, culprit: str, parent: str) -> Iterator[tuple[str, str, str]]:
    """(base, ours, theirs) to look for a conflict in: for a squashed commit, from the nearest base on."""
    import git

    parents = workspace.git("rev-list", "--parents", "--max-count=1", culprit).split()[1:]
    if len(parents) == 2:
        base = workspace.merge_base(*parents)
        if base:
            yield base, parents[0], parents[1]
    if len(parents) != 1:
        return
    before = workspace.git("rev-list", "--first-parent", f"--max-count={_EARLIER[-1] + 1}", parent).split()
    for steps in _EARLIER:
        if steps >= len(before):
            return
        checkout.go(before[steps])
        try:
            checkout.repo.git.cherry_pick("--allow-empty", "--keep-redundant-commits", culprit)
        except git.GitCommandError:
            checkout.repo.git.cherry_pick("--abort")
            return  # what it changed came to main after this
        yield before[steps], parent, checkout.repo.head.commit.hexsha


def _cause(workspace: Workspace, conflicts: list[Conflict]) -> Cause:
    first = next((conflict for conflict in conflicts if conflict.fix), conflicts[0])
    commits = dict.fromkeys(place.commit for place in (first.ours, first.theirs) if place.commit)
    titles = [(commit, workspace.git("log", "-1", "--format=%s", commit).strip()) for commit in commits]
    return Cause(first.finding.message, tuple(titles))


def _python(checkout: Checkout) -> list[str]:
    return [path for path in checkout.repo.git.ls_files("-z").split("\0")[:-1] if path.endswith(".py")]


def _write(folder: str, path: str, data: bytes | None) -> None:
    target = os.path.join(folder, path)
    if data is None:
        os.remove(target)
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "wb") as file:
        file.write(data)


def _carry(checkout: Checkout, diff: bytes, bad: str) -> bytes:
    """The same change on top of a later commit; b"" when it does not apply there."""
    import git

    checkout.go(bad)
    try:
        checkout.repo.git.apply("--index", "--3way", "--whitespace=nowarn", "-", istream=_stream(diff))
    except git.GitCommandError:
        return b""
    return checkout.diff()


def _stream(data: bytes) -> object:
    import tempfile

    file = tempfile.TemporaryFile()  # noqa: SIM115 - git reads it, and it vanishes with the last reference
    file.write(data)
    file.seek(0)
    return file


# -- the revert ----------------------------------------------------------------------------------------------

_EMERGENCY = re.compile(r"\bhot-?fix|\bemergency\b|\bincident\b|\bsecurity\b|CVE-\d", re.IGNORECASE)
_REVERT = re.compile(r"^(?:Revert\b|Reapply\b|Roll ?back\b)|This reverts (?:commit|merge)", re.MULTILINE)
BOT = "Greenline-Repair:"
"""The trailer of our own commits."""


def revert(workspace: Workspace, checkouts: Checkouts, breakage: Breakage) -> Candidate | None:
    """Take back the culprit on top of the broken head; an empty diff says why not. None without a culprit.

    A revert, a hotfix and our own repair are never taken back by a machine.
    """
    import git

    if breakage.culprit is None:
        return None
    start = time.monotonic()
    culprit = breakage.culprit.suspect.commit
    reason = never_reverted(workspace, culprit)
    if reason:
        return Candidate("revert", b"", notes=reason)
    checkout = checkouts.open(breakage.bad)
    try:
        checkout.repo.git.revert("--no-commit", *_mainline(workspace, culprit), culprit)
    except git.GitCommandError:
        return Candidate("revert", b"", notes="later commits changed the same lines: the revert does not apply cleanly")
    diff = checkout.diff()
    notes = "" if diff else "the culprit was taken back already"
    return Candidate("revert", diff, time.monotonic() - start, notes=notes)


def revert_command(workspace: Workspace, culprit: str) -> tuple[str, ...]:
    return ("git", "revert", *_mainline(workspace, culprit), culprit)


def _mainline(workspace: Workspace, commit: str) -> tuple[str, ...]:
    parents = workspace.git("rev-list", "--parents", "--max-count=1", commit).split()[1:]
    return ("-m", "1") if len(parents) > 1 else ()


def never_reverted(workspace: Workspace, commit: str) -> str:
    """Why a machine may not take this commit back, or ""."""
    text = workspace.git("log", "-1", "--format=%B", commit)
    brought = workspace.git("log", "--format=%s", f"{commit}^1..{commit}", "--max-count=50")
    title = text.partition("\n")[0]
    if _REVERT.search(text):
        return f"{commit[:12]} is a revert itself ({title}): a person decides"
    if BOT in text:
        return f"{commit[:12]} is a repair by Greenline: a person decides"
    if _EMERGENCY.search(text) or _EMERGENCY.search(brought):
        return f"{commit[:12]} looks like a hotfix ({title}): a person decides"
    return ""


def reverted_since(workspace: Workspace, culprit: str, head: str) -> str | None:
    """The later commit that took the culprit back already, if there is one."""
    listed = workspace.git("log", "--format=%H%x00%B%x01", f"{culprit}..{head}", "--grep=This reverts")
    for record in listed.split("\x01"):
        commit, _, text = record.strip().partition("\0")
        if any(
            culprit.startswith(found) for found in re.findall(r"This reverts (?:commit|merge) ([0-9a-f]{7,64})", text)
        ):
            return commit
    return None
