"""The conformance table side by side: Greenline and other tools on the same tiny repositories.

    make bench-conformance ARGS="--write --date 2024-11-30"

Installs the tools of peers.py (one virtual environment each below build/peers, from the package index), asks each about
each case of tests/conformance/cases and prints a table; --write puts it into docs/peers.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from pathlib import Path
from string import Template
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests" / "conformance")]

from ask import answers
from peers import PEERS, Peer, PeerError, Question, test_paths
from suite_run import root_of
from table import Case, git, load, missed, superfluous, write_base, write_change

PAGE = Template("""\
# Greenline and its peers on the conformance table

Generated on $date by `make bench-conformance ARGS="--write --date $date"` (CPython $python).

Each case is a tiny git repository with a base commit and a change. The cases are in
[tests/conformance/cases](../tests/conformance/cases); [validate.py](../tests/conformance/validate.py) shows with real pytest
that the tests that must be selected change their outcome.

$totals

A *recall* case names tests that must be selected, a *precision* case names tests that must not be; most do both, since
nearly every repository holds a bystander test that nothing ties to the change. So "select everything" misses nothing and
is still wrong nearly everywhere: `everything` shows its score. *Right* counts the cases in which both hold.
Cases about Greenline's own options and configuration are not counted for anyone.

## How each was called

$how

Every tool was told the merge base, and as far as it asks the source roots and packages: what a user would have to find
out and write down. A tool that only draws an import graph got the graph of the base commit too, so that deleted files have
dependents. Nothing was added that a tool does not know: a graph has no edge from a test to its conftest. testmon
watches the installed packages instead of a lock file, and the files instead of git.

## Case by case

**Y**: all that must be selected is, and nothing that must not be. **miss**: a test is missing. **extra**: a test too much.
**error**: the tool ended with an error instead of an answer. **-**: not a question for this tool.

$rows
""")


class Result(NamedTuple):
    """What a tool did with a case; neither part holds with an error."""

    recall: bool
    precision: bool
    error: str = ""

    @property
    def cell(self) -> str:
        if self.error:
            return "error"
        return " ".join(word for word, fine in (("miss", self.recall), ("extra", self.precision)) if not fine) or "Y"


Table = Mapping[str, Sequence[Result | None]]  # tool → one result a case, None where it is not asked


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", metavar="NUMBER", help="only these cases, such as 44a")
    parser.add_argument("--tool", action="append", help="only this tool, such as ruff; again for more")
    parser.add_argument("--date", default="an unknown day", help="the day that docs/peers.md shows")
    parser.add_argument("--write", action="store_true", help="write docs/peers.md")
    parser.add_argument("--verbose", action="store_true", help="say on stderr why a cell is not Y")
    options = parser.parse_args()
    cases = [case for case in load() if not options.numbers or case.number in options.numbers]
    tools = [peer for peer in (GREENLINE, *PEERS, EVERYTHING) if not options.tool or peer.name in options.tool]
    table: dict[str, list[Result | None]] = {}
    for peer in tools:
        programs = install(peer)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            table[peer.name] = list(pool.map(partial(judge, peer, programs), cases))
        for case, result in zip(cases, table[peer.name], strict=True):
            if options.verbose and result and result.cell != "Y":
                print(f"{peer.name}: {case.id}: {result.cell} {result.error}", file=sys.stderr)
    print(rows(cases, table), totals(cases, table), sep="\n\n")
    if options.write:
        page = PAGE.substitute(
            date=options.date,
            python=".".join(map(str, sys.version_info[:3])),
            totals=totals(cases, table),
            how="\n".join(f"- **{peer.name}** ({', '.join(peer.requirements[:1]) or 'none'}): {peer.how}" for peer in tools),
            rows=rows(cases, table),
        )
        (ROOT / "docs" / "peers.md").write_text(page, "utf-8")
    return 0


def install(peer: Peer) -> Path:
    """A virtual environment with what the tool needs; returns the folder of its programs."""
    if not peer.requirements:
        return Path(sys.executable).parent
    folder = ROOT / "build" / "peers" / "-".join(peer.requirements[0].split("=="))
    if not (folder / "done").exists():
        venv.create(folder, with_pip=True, clear=True)
        command = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", *peer.requirements]
        subprocess.run(command, check=True)
        (folder / "done").touch()
    return folder / "bin"


def judge(peer: Peer, programs: Path, case: Case) -> Result | None:
    """Make the repository of the case, ask the tool, and compare."""
    if peer not in (GREENLINE, EVERYTHING) and (case.own or (case.complete is False and not peer.asks_git)):
        return None
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name).resolve()
        folder = scratch / "repository"
        try:
            if peer is GREENLINE:
                given = [answer.tests for answer in answers(case, folder)]
                root = root_of(case, folder)
            else:
                question = ask_at_base(peer, programs, case, folder)
                given, root = [peer.ask(question)], question.root
        except (PeerError, AssertionError) as error:
            return Result(False, False, str(error).strip()[-300:] or "no answer")
        return Result(
            not any(missed(case, answer, root) for answer in given),
            not any(superfluous(case, answer) for answer in given),
        )


def ask_at_base(peer: Peer, programs: Path, case: Case, folder: Path) -> Question:
    """Make the repository of the case; on the way, let the tool see its base commit. Returns the question to ask."""
    base = write_base(case, folder)
    arguments = list(case.arguments)
    ref = arguments[arguments.index("--base") + 1] if "--base" in arguments else base
    question = Question(case, folder, ref, folder.parent, programs)
    if peer.at_base:
        peer.at_base(question)
    write_change(case, folder, base)
    root = root_of(case, folder)
    if "--head" in arguments:
        root = folder.parent / "head"
        git(folder, "worktree", "add", "--quiet", str(root), arguments[arguments.index("--head") + 1])
    return question._replace(root=root)


def totals(cases: Sequence[Case], table: Table) -> str:
    """A Markdown table: tool → cases right in recall, in precision and in both."""
    lines = []
    for tool, results in table.items():
        asked = [(case, result) for case, result in zip(cases, results, strict=True) if result and not case.own]
        recall = [result.recall for case, result in asked if case.asks_recall]
        precision = [result.precision for case, result in asked if case.asks_precision]
        right = [result.recall and result.precision for _, result in asked]
        errors = sum(bool(result.error) for _, result in asked)
        counts = [f"{sum(part)} of {len(part)}" for part in (recall, precision, right)]
        lines.append([tool, *counts, str(errors)])
    return markdown(["tool", "recall", "precision", "right", "errors"], lines)


def rows(cases: Sequence[Case], table: Table) -> str:
    """Markdown tables, one for each file of cases: case → what each tool did."""
    numbered = groupby(enumerate(cases), key=lambda item: item[1].group)
    parts = []
    for group, members in numbered:
        lines = [
            [f"{case.number} {case.title}", *(cell(results[index]) for results in table.values())] for index, case in members
        ]
        parts.append(f"### {group}\n\n{markdown(['case', *table], lines)}")
    return "\n\n".join(parts)


def cell(result: Result | None) -> str:
    return result.cell if result else "-"


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["-"] * len(head), *lines))


GREENLINE = Peer("greenline", (), "`greenline affected --format json` of this tree", lambda question: set())
EVERYTHING = Peer("everything", (), "not a tool: all tests, always", test_paths)

if __name__ == "__main__":
    sys.exit(main())
