"""Real broken merges: two changes that were green alone, broke main together, and were mended by a commit soon after.

    make bench-broken-merges [ARGS="--from FOLDER"]

Found in the history of real repositories: a commit takes a name out of a line that another commit had just added, and a
third one, just before, had removed that name's definition; each was then read. Base is where the first of the two
started, one side is the main branch before the second landed, the other side is the second alone. What the mending
commit changed must be told, in that file. Goal: all.
"""

from __future__ import annotations

import argparse
import sys
from typing import NamedTuple

from merge_history import clone

from greenline.depgraph.config import Config
from greenline.depgraph.workspace import Workspace, find
from greenline.rules.conflicts.find import find_conflicts
from greenline.rules.conflicts.merge import merge_trees


class Broken(NamedTuple):
    """``first`` and ``second``: the commits that broke together, in the order in which they landed; for a merge commit
    ``first`` is its id and ``second`` is empty. ``mended``: the commit that repaired ``path``, for ``name``."""

    repository: str
    first: str
    second: str
    mended: str
    path: str
    name: str


ROWS = (
    Broken(
        "pydantic/pydantic",
        "bce6c4a282",
        "bbc1df0e82",
        "24d11ba3c0",
        "tests/test_prepare_annotations.py",
        "AnalyzedType",
    ),
    Broken(
        "pydantic/pydantic", "7232fadc3e", "2b861ba2e8", "dae4ec7ba0", "pydantic/_internal/_decorators.py", "dataclass"
    ),
    Broken(
        "pydantic/pydantic", "2b861ba2e8", "251c22c7d", "dae4ec7ba0", "pydantic/annotated_arguments.py", "dataclass"
    ),
    Broken("pallets/werkzeug", "1906efbd45", "", "537ad8cd", "tests/test_serving.py", "sys"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--from", dest="source", help="folder with clones")
    options = parser.parse_args()
    told = 0
    for row in ROWS:
        workspace = find(str(clone(row.repository, options.source)))
        found = [one for one in find_conflicts(workspace, Config(), *states(workspace, row)) if one.number]
        right = [one for one in found if one.finding.place.path == row.path]
        told += bool(right)
        print(f"{row.repository} {row.first} {row.second or '(merge)'}: {'told' if right else 'missed'}")
        for one in found:
            mark = "" if one in right else " (elsewhere)"
            print(
                f"  class {one.number} {one.finding.place.path}:{one.finding.place.line}: {one.finding.message}{mark}"
            )
    print(f"broken merges: {told} of {len(ROWS)} told (goal: all)")
    return int(told < len(ROWS))


def states(workspace: Workspace, row: Broken) -> tuple[str, str, str]:
    """Base and both sides of a row."""

    def commit(name: str) -> str:
        return workspace.git("rev-parse", "--verify", name).strip()

    if not row.second:
        ours, theirs = commit(f"{row.first}^1"), commit(f"{row.first}^2")
        return workspace.merge_base(ours, theirs) or ours, ours, theirs
    base, ours = commit(f"{row.first}^"), commit(f"{row.second}^")
    alone, _ = merge_trees(workspace, ours, base, commit(row.second))
    return base, ours, alone


if __name__ == "__main__":
    sys.exit(main())
