"""``greenline fix``: mend what broke by a merge, where the fix is certain."""

from __future__ import annotations

import difflib
import os
import sys

import click

from greenline.ci.mending import mended, what_joined
from greenline.depgraph import config as configuration
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.workspace import Workspace, find
from greenline.rules.fixes.mend import Mended
from greenline.tools.report.text import spot

FAILED = 1


@click.command("fix")
@click.argument("branch", required=False)
@click.option("--against", metavar="REF", help="The same as BRANCH.")
@click.option("--base", metavar="REF", help="The last state that worked.")
@click.option("--diff", is_flag=True, help="Show the changes, write nothing.")
def command(branch: str | None, against: str | None, base: str | None, diff: bool) -> int:
    """Mend the uses that a merge broke: renamed, moved or re-signed definitions.

    Works on the work tree after `git merge` or `git rebase`, also while the merge is not committed. BRANCH is what was
    merged; by default it is found. With --diff also for a BRANCH that is not merged yet. Exit code 1: something is
    left that has no certain fix.
    """
    if branch and against:
        raise GreenlineError("BRANCH and --against both name what was merged", "give one of them")
    workspace = find()
    config = configuration.load(workspace.root, workspace.cache)
    joined = what_joined(workspace, config, branch or against, base)
    if joined.merged is None and not diff:
        raise GreenlineError(
            f"there is nothing to mend in the work tree: {joined.how}",
            f"git merge {branch or against or 'it'} first; --diff shows what would follow",
        )
    result = mended(workspace, config, joined)
    if diff:
        sys.stdout.write(_diff(result))
    else:
        for path, data in sorted(result.files.items()):
            _write(workspace, path, data)
            print(path)
    sys.stdout.flush()
    _tell(result, joined.how)
    return FAILED if result.left or result.refused else 0


def _write(workspace: Workspace, path: str, data: bytes | None) -> None:
    target = os.path.join(workspace.root, path)
    if data is None:
        os.remove(target)
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "wb") as file:
        file.write(data)


def _diff(result: Mended) -> str:
    found: list[str] = []
    for path, data in sorted(result.files.items()):
        before = result.before.get(path)
        old, new = (_lines(before), _lines(data))
        names = ("/dev/null" if before is None else f"a/{path}", "/dev/null" if data is None else f"b/{path}")
        found += difflib.unified_diff(old, new, *names)
    return "".join(found)


def _lines(data: bytes | None) -> list[str]:
    text = (data or b"").decode("utf-8", "surrogateescape")
    return [
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in text.splitlines(True)
    ]


def _tell(result: Mended, how: str) -> None:
    print(f"fixes: {len(result.conflicts)}; files: {len(result.files)}; {how}", file=sys.stderr)
    for refusal in result.refused:
        print(f"refused: {refusal}", file=sys.stderr)
    for one in result.left:
        place = one.finding.place
        hint = f"; {one.finding.hint}" if one.finding.hint else ""
        print(f"no certain fix: {spot(place._replace(commit=''))}: {one.finding.message}{hint}", file=sys.stderr)
