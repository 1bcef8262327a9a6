"""The conformance table side by side: Greenline and other tools on the same tiny repositories.

    make bench-conformance ARGS="--write --date 2024-11-30"

Installs the tools of peers.py from the package index (one virtual environment each below build/peers), asks each
about each case of tests/conformance/cases and prints a table; --write puts it into docs/peers.md. The first run
takes half an hour. What other tools did is kept in build/peers/*.json until the case, the tool's version or the
description of the call changes: delete the files after any other change. Greenline is always asked.
"""

from __future__ import annotations

import argparse
import hashlib
import json
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

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "conformance"))

from ask import answers
from peers import PEERS, Peer, PeerError, Question, test_paths
from suite_run import root_of
from table import Case, git, load, missed, superfluous, write_base, write_change

ROOT = Path(__file__).parents[1]
PAGE = Template("""\
# Greenline and its peers on the conformance table

Generated on $date by `make bench-conformance ARGS="--write --date $date"` (CPython $python).

Each case is a tiny git repository with a base commit and a change. The cases are in
[tests/conformance/cases](../tests/conformance/cases); [validate.py](../tests/conformance/validate.py) shows
with real pytest that the tests that must be selected change their outcome.

$totals

A *recall* case names tests that must be selected, a *precision* case names tests that must not be. Most do
both: nearly every repository holds a bystander test that nothing ties to the change. So "select everything"
misses nothing and is still wrong nearly everywhere: `everything` shows its score. *Right* counts the cases in
which both hold; an error is not right. Cases about Greenline's own options and configuration are not
counted for anyone. The table is Greenline's own: the other tools were not built against it, and their authors
may not promise what a case asks for.

Greenline is known not to answer these as expected:

$limits

## How each was called

$how

Every tool was told the base, and as far as it asks the source roots and packages: what a user would have to
find out and write down. A tool that only draws an import graph got the graph of the base commit too, so that
deleted files have dependents. Nothing was added that a tool does not know: a graph has no edge from a test to
its conftest. testmon watches tests run, so it was not asked about git and about changes that take no effect
here, such as lock files that nothing is installed from.

## Case by case

**Y**: all that must be selected is, and nothing that must not be. **miss**: a test is missing. **extra**: a
test too much. **error**: the tool ended with an error instead of an answer. **-**: not a
question for this tool.

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
        parts = (("miss", self.recall), ("extra", self.precision))
        return " ".join(word for word, holds in parts if not holds) or "Y"


Table = Mapping[str, Sequence[Result | None]]  # tool → one result a case, None where it is not asked


def main() -> int:
    parser = argparse.ArgumentParser(description="The conformance table, Greenline and other tools side by side.")
    parser.add_argument("numbers", nargs="*", metavar="NUMBER", help="only these cases, such as 44a")
    parser.add_argument("--tool", action="append", help="only this tool, such as ruff; again for more")
    parser.add_argument("--date", default="an unknown day", help="the day that docs/peers.md shows")
    parser.add_argument("--write", action="store_true", help="write docs/peers.md")
    parser.add_argument("--verbose", action="store_true", help="say on stderr why a cell is not Y")
    options = parser.parse_args()
    cases = [case for case in load() if not options.numbers or case.number in options.numbers]
    tools = [tool for tool in (GREENLINE, *PEERS, EVERYTHING) if not options.tool or tool.name in options.tool]
    found: dict[str, list[Result | None]] = {}
    for peer in tools:
        found[peer.name] = judge_all(peer, cases)
        for case, result in zip(cases, found[peer.name], strict=True):
            if options.verbose and result and result.cell != "Y":
                print(f"{peer.name}: {case.id}: {result.cell} {result.error}", file=sys.stderr)
    print(rows(cases, found), totals(cases, found), sep="\n\n")
    if options.write:
        page = PAGE.substitute(
            date=options.date,
            python=".".join(map(str, sys.version_info[:3])),
            totals=totals(cases, found),
            limits="\n".join(f"- {case.number} {case.title}: {case.limit}" for case in cases if case.limit),
            how="\n".join(f"- **{tool.name}**{version(tool)}: {tool.how}" for tool in tools),
            rows=rows(cases, found),
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
        command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *peer.requirements]
        subprocess.run(command, check=True)
        (folder / "done").touch()
    return folder / "bin"


def judge_all(peer: Peer, cases: Sequence[Case]) -> list[Result | None]:
    """One result a case, from what is kept where nothing has changed since."""
    programs = install(peer)
    keys = [key(peer, case) for case in cases]
    file = ROOT / "build" / "peers" / f"{peer.name}.json"
    kept = json.loads(file.read_text("utf-8")) if file.exists() and peer is not GREENLINE else {}
    pairs = zip(keys, cases, strict=True)
    new = {key: case for key, case in pairs if key not in kept and is_asked(peer, case)}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        kept |= dict(zip(new, pool.map(partial(judge, peer, programs), new.values()), strict=True))
    if new and peer is not GREENLINE:
        file.write_text(json.dumps(kept), "utf-8")
    return [Result(*kept[key]) if is_asked(peer, case) else None for key, case in zip(keys, cases, strict=True)]


def is_asked(peer: Peer, case: Case) -> bool:
    """Whether the case is a question for the tool: its own options are Greenline's alone, and a tool that watches tests
    run needs no git and cannot see a change that takes no effect here."""
    if peer in (GREENLINE, EVERYTHING):
        return True
    return not (case.own or (peer.watches_runs and (case.complete is False or case.flips is False)))


def key(peer: Peer, case: Case) -> str:
    """Under which a result is kept: all that the tool and its call see of the case, and what is expected."""
    fields = case._asdict().items()
    seen = [(name, value) for name, value in fields if value != Case._field_defaults.get(name)]
    told = [(name, value) for name, value in seen if name not in ("group", "title", "limit", "why")]
    return hashlib.sha256(repr((peer.requirements, peer.how, told)).encode()).hexdigest()


def judge(peer: Peer, programs: Path, case: Case) -> Result:
    """Make the repository of the case, ask the tool, and compare."""
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
    """Make the repository of the case, show the tool its base commit on the way; gives the question."""
    base = write_base(case, folder)
    arguments = list(case.arguments)
    question = Question(case, folder, base, folder.parent, programs)
    if peer.at_base:
        peer.at_base(question)
    write_change(case, folder, base)
    root, ref = root_of(case, folder), base
    if "--base" in arguments:
        ref = arguments[arguments.index("--base") + 1]
    elif (folder / ".git" / "refs" / "remotes" / "origin" / "main").exists():
        ref = "origin/main"
    if "--head" in arguments:
        root = folder.parent / "head"
        git(folder, "worktree", "add", "--quiet", str(root), arguments[arguments.index("--head") + 1])
    return question._replace(root=root, ref=ref)


def totals(cases: Sequence[Case], found: Table) -> str:
    """A Markdown table: tool → cases right in recall, in precision and in both."""
    lines = []
    for tool, results in found.items():
        pairs = zip(cases, results, strict=True)
        asked = [(case, result) for case, result in pairs if result and not case.own]
        recall = [result.recall for case, result in asked if case.asks_recall]
        precision = [result.precision for case, result in asked if case.asks_precision]
        right = [result.recall and result.precision for _, result in asked]
        errors = sum(bool(result.error) for _, result in asked)
        counts = [f"{sum(part)} of {len(part)}" for part in (recall, precision, right)]
        lines.append([tool, *counts, str(errors)])
    return markdown(["tool", "recall", "precision", "right", "errors"], lines)


def rows(cases: Sequence[Case], found: Table) -> str:
    """Markdown tables, one for each file of cases: case → what each tool did."""
    numbered = groupby(enumerate(cases), key=lambda item: item[1].group)
    parts = []
    for group, members in numbered:
        lines = [
            [f"{case.number} {case.title}", *(cell(results[index]) for results in found.values())]
            for index, case in members
        ]
        parts.append(f"### {group}\n\n{markdown(['case', *found], lines)}")
    return "\n\n".join(parts)


def version(tool: Peer) -> str:
    return f" {tool.requirements[0].partition('==')[2]}" if tool.requirements else ""


def cell(result: Result | None) -> str:
    return result.cell if result else "-"


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["-"] * len(head), *lines))


GREENLINE = Peer("greenline", (), "`greenline affected --format json` of this tree", lambda question: set())
EVERYTHING = Peer("everything", (), "not a tool: all tests, always", test_paths)

if __name__ == "__main__":
    sys.exit(main())
