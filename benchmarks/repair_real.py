"""Repair on real repositories: generated semantic conflicts, and real bug fixes taken back among real commits.

    make bench-repair-real [ARGS="--from FOLDER --cases 2 click jinja"]

- renamed: one branch renames a function or class of the package everywhere, another adds a test of its old name;
- removed: one branch deletes one that nothing uses, another adds a test that does;
- taken back: among the last 30 first-parent commits of the repository, put again one on the other, one undoes the
  source part of a real fix and leaves its tests;
- long range: the same among the last 300.

A case counts only if it is one: both branches pass alone; the fix's tests pass at the commit that is called green, with
today's pytest, and only the guilty commit turns them red. Each is repaired with defaults, knowing a green commit and
that main is red. Right is one proposal, for the guilty commit, whose branch fails no test of the repository that passed
before. Steps are told with wall and CPU seconds. Repositories come from GitHub, or from FOLDER/owner+name. What was
measured is kept below build/: the same command goes on where it was stopped; --again starts anew. Goal: no wrong
proposal.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from greenline.ci.repair.start import Wanted, start


class Repository(NamedTuple):
    """``source``: the package's folder below the root; ``extras``: what its tests need besides pytest."""

    name: str
    source: str
    extras: tuple[str, ...] = ()


REPOSITORIES = {
    "click": Repository("pallets/click", "src/click"),
    "jinja": Repository("pallets/jinja", "src/jinja2", ("trio",)),
    "attrs": Repository(
        "python-attrs/attrs", "src/attr", ("hypothesis", "cloudpickle", "zope.interface", "pympler", "pytest-xdist")
    ),
    "import-linter": Repository("seddonym/import-linter", "src/importlinter", ("pyyaml",)),
}
HOME = Path("build/repair-real").resolve()
NEW_TEST = "tests/test_new_use.py"
START = "refs/greenline/start"
SHORT, LONG = 30, 300
LIMIT = 600
"""Seconds that a case, or one run of a whole suite, may take."""
STEPS = {
    "running ": "all tests",
    "reproducing ": "reproduce",
    "looking at the commits": "suspects",
    "may have broken": "search",
    "deterministic fix": "fix",
    "verifying a revert": "revert",
    "writing the branch": "propose",
}
"""What repair says at the start of a step → the step."""


class Case(NamedTuple):
    """``kind`` and ``what`` name it; ``good``: the commit before; ``guilty``: the commit that may be blamed, "" if it
    turned out to be no case: that is kept as well, so that nobody looks at it again."""

    kind: str
    what: str
    good: str
    guilty: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*REPOSITORIES, []], default=[])
    parser.add_argument("--from", dest="folder", type=Path, help="where clones are: FOLDER/owner+name")
    parser.add_argument("--cases", type=int, default=2, help="of each kind, in each repository")
    parser.add_argument("--kinds", nargs="+", choices=[*KINDS], default=[*KINDS])
    parser.add_argument("--again", action="store_true", help="forget what was measured")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.names or REPOSITORIES:
        root, python = prepare(name, arguments.folder)
        kept = HOME / name / "results.jsonl"
        if arguments.again:
            kept.unlink(missing_ok=True)
        done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
        for kind in arguments.kinds:
            mine = [row for row in done if row["kind"] == kind and "verdict" in row][: arguments.cases]
            rows += [tell(row) for row in mine]
            if len(mine) == arguments.cases:
                continue
            known = {row["what"] for row in done if row["kind"] == kind}
            for case in KINDS[kind](name, root, python, arguments.cases - len(mine), known):
                row = measure(name, root, python, case) if case.guilty else {"kind": kind, "what": case.what}
                with kept.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                if case.guilty:
                    rows.append(tell(row))
    return summary(rows)


def tell(row: dict[str, Any]) -> dict[str, Any]:
    steps = ", ".join(f"{step} {wall:.1f}/{cpu:.1f}" for step, (wall, cpu) in row["steps"].items())
    print(
        f"{row['verdict']:<10} {row['repository']:<13} {row['kind']:<10} {row['wall']:6.1f} s, CPU {row['cpu']:6.1f} s"
        f"  {row['made']:<13} {row['what']} {row['why']}\n{'':11}{row['commits']} commits, {row['suspects']} suspects,"
        f" {row['runs']} runs in the search; wall/CPU: {steps}",
        flush=True,
    )
    return row


def summary(rows: list[dict[str, Any]]) -> int:
    print("\n| repository | kind | cases | right | handed off | wrong | median wall, s | longest | median CPU, s |")
    print("| - " * 9 + "|")
    for key in sorted({(row["repository"], row["kind"]) for row in rows}):
        own = [row for row in rows if (row["repository"], row["kind"]) == key]
        counts = Counter(row["verdict"] for row in own)
        walls, cpus = ([row[name] for row in own] for name in ("wall", "cpu"))
        cells = [*key, len(own), counts["right"], counts["handed off"], counts["WRONG"]]
        print("|", *(f"{cell} |" for cell in cells), f"{median(walls):.1f} | {max(walls):.1f} | {median(cpus):.1f} |")
    counts = Counter(row["verdict"] for row in rows)
    others = {name: count for name, count in counts.items() if name not in ("right", "WRONG", "handed off")}
    told = "".join(f", {count} {name}" for name, count in sorted(others.items()))
    print(
        f"\n{len(rows)} cases: {counts['right']} right, {counts['WRONG']} wrong (goal 0), "
        f"{counts['handed off']} handed off{told}"
    )
    return 1 if counts["WRONG"] or not rows else 0


def prepare(name: str, folder: Path | None) -> tuple[Path, Path]:
    """A clone and an environment in which its tests run."""
    repository, _, extras = REPOSITORIES[name]
    root, venv = HOME / name / "clone", HOME / name / "venv"
    if not root.exists():
        local = folder / repository.replace("/", "+") if folder else None
        if local and (local / "repo").exists():
            local /= "repo"
        source = str(local) if local else f"https://github.com/{repository}"
        subprocess.run(["git", "clone", "--quiet", "--no-local", source, str(root)], check=True)
    done = venv / "done"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        pip = [venv / "bin" / "python", "-m", "pip", "install", "--quiet", "-e", str(root), "pytest", *extras]
        subprocess.run(list(map(str, pip)), check=True)
        done.write_text("")
    return root, venv / "bin" / "python"


# -- generated conflicts --------------------------------------------------------------------------------------


def renamed(name: str, root: Path, python: Path, count: int, known: set[str]) -> Iterator[Case]:
    """A rename everywhere, and a new test of the old name. Long names that stand for one thing only."""
    return conflicts("renamed", name, root, python, count, known)


def removed(name: str, root: Path, python: Path, count: int, known: set[str]) -> Iterator[Case]:
    """What nothing uses is deleted, and a new test uses it."""
    return conflicts("removed", name, root, python, count, known)


def conflicts(kind: str, name: str, root: Path, python: Path, count: int, known: set[str]) -> Iterator[Case]:
    package = REPOSITORIES[name].source
    reset(root)
    texts = {root / path: (root / path).read_text("utf-8") for path in git(root, "ls-files", "*.py").splitlines()}
    words = "\n".join(texts.values())
    found = []
    for path, text in texts.items():
        if path.is_relative_to(root / package):
            defined = (each for each in ast.parse(text).body if isinstance(each, ast.FunctionDef | ast.ClassDef))
            found += [(path, each) for each in defined if re.fullmatch(r"[a-zA-Z]\w{6,}", each.name)]
    random.Random(name).shuffle(found)
    for path, node in found:
        symbol = node.name
        uses = sum(bool(re.search(rf"\b{symbol}\b", text)) for text in texts.values())
        alone = len(re.findall(rf"\b{symbol}\b", words)) == 1
        clear = uses > 1 and len(re.findall(rf"(?:def|class) {symbol}\b", words)) == 1
        dotted = re.search(rf"[\"'.]{symbol}\b", words)
        module = path.relative_to(root / "src").with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        what = f"{module}.{symbol}"
        if what in known or not (alone if kind == "removed" else clear and not dotted):
            continue
        good = reset(root)
        git(root, "switch", "-q", "-c", "ours")
        if kind == "renamed":
            for each, text in texts.items():
                if re.search(rf"\b{symbol}\b", text):
                    each.write_text(re.sub(rf"\b{symbol}\b", f"{symbol}_renamed", text), "utf-8")
        else:
            lines = texts[path].splitlines(keepends=True)
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            path.write_text("".join([*lines[: first - 1], *lines[node.end_lineno :]]), "utf-8")
        git(root, "commit", "-q", "-a", "-m", f"{kind.capitalize()}: {symbol}")
        git(root, "switch", "-q", "-c", "theirs", "main")
        test = f"from {module} import {symbol}\n\n\ndef test_new_use():\n    assert callable({symbol})\n"
        (root / NEW_TEST).write_text(test, "utf-8")
        git(root, "add", NEW_TEST)
        git(root, "commit", "-q", "-m", f"Use {symbol}")
        usual = failing(root, python, START)
        if not all(failing(root, python, branch) <= usual for branch in ("ours", "theirs")):
            yield Case(kind, what, good, "")
            continue
        git(root, "switch", "-q", "main")
        for branch in ("ours", "theirs"):
            git(root, "merge", "-q", "--no-ff", "-m", f"Merge {branch}", branch)
        yield Case(kind, what, good, git(root, "rev-parse", "main"))
        count -= 1
        if not count:
            return


# -- real fixes, taken back -----------------------------------------------------------------------------------


def taken_back(name: str, root: Path, python: Path, count: int, known: set[str]) -> Iterator[Case]:
    return among("taken back", SHORT, name, root, python, count, known)


def long_range(name: str, root: Path, python: Path, count: int, known: set[str]) -> Iterator[Case]:
    return among("long range", LONG, name, root, python, count, known)


def among(kind: str, commits: int, name: str, root: Path, python: Path, count: int, known: set[str]) -> Iterator[Case]:
    """The newest fixes whose source part can be undone somewhere among the last ``commits`` ones."""
    package = REPOSITORIES[name].source
    chance = random.Random(f"{name} {kind}")
    reset(root)
    line = git(root, "rev-list", "--first-parent", "--reverse", f"--max-count={commits}", START).split()
    for fix in git(root, "log", "--no-merges", "--format=%H", "--grep=fix", "-i", START, "--", package).split():
        changed = git(root, "show", "--format=", "--name-only", fix).split()
        source = [path for path in changed if path.startswith(package) and path.endswith(".py")]
        tests = [path for path in changed if path.startswith("tests/") and path.endswith(".py")]
        at = chance.randrange(1, commits - 1)
        what = f"{fix[:10]} in {source[0]}" if source else ""
        if not tests or len(source) != 1 or what in known:
            continue
        guilty = undo(root, fix, source[0], line, at)
        if not guilty or not is_break(root, python, tests, line[0], guilty):
            yield Case(kind, what, line[0], "")
            continue
        yield Case(kind, what, line[0], guilty)
        count -= 1
        if not count:
            return


def undo(root: Path, fix: str, source: str, line: list[str], at: int) -> str:
    """main: ``line``, with the fix undone after its commit ``at``. The guilty commit, "" if there is none."""
    reset(root)
    if is_in(root, fix, line[at]):
        git(root, "reset", "-q", "--hard", line[at])
        patch = git(root, "diff", fix, f"{fix}^", "--", source, strip=False)
        if not subprocess.run(["git", "apply", "-"], cwd=root, input=patch, text=True, capture_output=True).returncode:
            git(root, "commit", "-q", "-a", "-m", f"Simplify {source}")
            guilty = tip = git(root, "rev-parse", "HEAD")
            for commit in line[at + 1 :]:
                merged = subprocess.run(
                    ["git", "merge-tree", "--write-tree", guilty, commit], cwd=root, text=True, capture_output=True
                )
                if merged.returncode:
                    return ""
                title = git(root, "log", "-1", "--format=%s", commit)
                tip = git(root, "commit-tree", merged.stdout.split()[0], "-p", tip, "-m", title)
            git(root, "reset", "-q", "--hard", tip)
            return guilty
    return ""


def is_in(root: Path, commit: str, head: str) -> bool:
    return not subprocess.run(["git", "merge-base", "--is-ancestor", commit, head], cwd=root).returncode


def is_break(root: Path, python: Path, tests: list[str], good: str, guilty: str) -> bool:
    """Do tests of these files pass, or not exist, at good, turn red with the guilty commit, and stay so on main?

    A test may fail at good for a reason of its own: its file cannot be collected with today's pytest, for example.
    """
    here = [path for path in tests if (root / path).exists()]
    red = failing(root, python, guilty, here) if here else set()
    for ref in (f"{guilty}^", good, START):
        if red:
            usual = failing(root, python, ref, here)
            red = {test for test in red if test not in usual and test.partition("::")[0] not in usual}
    return bool(red) and bool(red & failing(root, python, "main", here))


KINDS = {"renamed": renamed, "removed": removed, "taken back": taken_back, "long range": long_range}


# -- measuring ------------------------------------------------------------------------------------------------


def measure(name: str, root: Path, python: Path, case: Case) -> dict[str, Any]:
    environment = {**os.environ, "VIRTUAL_ENV": str(python.parents[1])}
    shutil.rmtree(root / ".git" / "greenline", ignore_errors=True)  # no cache, lease or attempt of an earlier case
    clock = Clock()
    begun = time.monotonic(), cpu()
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LIMIT)
    try:
        report = start(Wanted("main", good=case.good), environment, clock.hear, str(root))
        outcomes, why = report.outcomes, report.trouble
    except TimeoutError:
        outcomes, why = (), f"not done after {LIMIT} s"
    finally:
        signal.alarm(0)
    row: dict[str, Any] = {"repository": name, "kind": case.kind, "what": case.what, "steps": clock.steps()}
    row |= {"wall": round(time.monotonic() - begun[0], 1), "cpu": round(cpu() - begun[1], 1)}
    row["commits"] = int(git(root, "rev-list", "--count", "--first-parent", f"{case.good}..main"))
    row["suspects"] = max((sum(map(bool, (s.prior for s in each.breakage.suspects))) for each in outcomes), default=0)
    row["runs"] = sum(each.breakage.runs for each in outcomes)
    made = [each for each in outcomes if each.status == "proposed"]
    row["made"] = ", ".join(each.judged[0].candidate.name for each in made)
    row["why"] = "; ".join([*(each.why for each in outcomes if each.why), *([why] if why else [])])
    branches = git(root, "for-each-ref", "--format=%(refname:short)", "refs/heads/greenline").split()
    if not outcomes:
        row["verdict"] = "not done" if why else "not broken"
    elif not branches:
        row["verdict"] = "handed off"
    else:
        blamed = {each.breakage.culprit.suspect.commit for each in made if each.breakage.culprit}
        broken = failing(root, python, branches[0]) - failing(root, python, START)
        row["verdict"] = "right" if len(branches) == 1 and blamed == {case.guilty} and not broken else "WRONG"
        row["why"] += "".join(f"; still red: {test}" for test in sorted(broken)[:3])
        row["why"] += "" if blamed == {case.guilty} else f"; blames {blamed or 'none'}"
    return row


def too_long(*_: object) -> None:
    raise TimeoutError


def cpu() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


class Clock:
    """Wall and CPU seconds of each step, by what repair says."""

    def __init__(self) -> None:
        self._marks = [("start", time.monotonic(), cpu())]

    def hear(self, said: str) -> None:
        step = next((step for words, step in STEPS.items() if words in said), None)
        if step:
            self._marks.append((step, time.monotonic(), cpu()))

    def steps(self) -> dict[str, tuple[float, float]]:
        self._marks.append(("", time.monotonic(), cpu()))
        found: dict[str, tuple[float, float]] = {}
        for (step, *since), (_, *until) in zip(self._marks, self._marks[1:], strict=False):
            wall, used = found.get(step, (0.0, 0.0))
            found[step] = (round(wall + until[0] - since[0], 2), round(used + until[1] - since[1], 2))
        return found


def failing(root: Path, python: Path, ref: str, tests: list[str] | None = None) -> set[str]:
    """Ids that fail at a commit; of these files, or of all. Where pytest cannot start, the files fail."""
    with tempfile.TemporaryDirectory(prefix="greenline-real-") as folder:
        git(root, "worktree", "add", "-q", "--detach", f"{folder}/tree", ref)
        here = [path for path in tests or () if Path(folder, "tree", path).exists()]
        command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rfE", "--tb=no", *here]
        variables = {**os.environ, "PYTHONPATH": f"{folder}/tree/src"}
        done = subprocess.run(
            command, cwd=f"{folder}/tree", env=variables, capture_output=True, text=True, timeout=LIMIT
        )
        git(root, "worktree", "remove", "--force", f"{folder}/tree")
    if done.returncode not in (0, 1, 2, 5):
        return set(here) or {"all tests"}
    return set(re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M))


def reset(root: Path) -> str:
    """main as it came, without anything of an earlier case; gives its commit."""
    if not git(root, "for-each-ref", START):
        git(root, "update-ref", START, "HEAD")
    git(root, "checkout", "-q", "-f", "--detach", START)
    for branch in git(root, "for-each-ref", "--format=%(refname:short)", "refs/heads").split():
        git(root, "branch", "-q", "-D", branch)
    git(root, "clean", "-fdq")
    git(root, "switch", "-q", "-c", "main")
    return git(root, "rev-parse", "HEAD")


def git(root: Path, *arguments: str, strip: bool = True) -> str:
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip() if strip else done.stdout


if __name__ == "__main__":
    sys.exit(main())
