"""Repair on real repositories: generated semantic conflicts, and real bug fixes taken back.

    make bench-repair-real [ARGS="--from FOLDER --cases 2 click jinja"]

A conflict: one branch renames a function or class of the package everywhere, another adds a test that uses its
old name.
A bug fix taken back: the source part of a real fix is undone on main, its tests stay. Each case is repaired with
defaults; right is a proposal whose branch passes the tests that failed and every other test of the repository that
passed before. Repositories come from GitHub, or from FOLDER/owner+name. Goal: no wrong proposal.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from greenline.ci.repair.start import Wanted, start

REPOSITORIES = {
    "click": ("pallets/click", "src/click", ()),
    "jinja": ("pallets/jinja", "src/jinja2", ("trio",)),
    "werkzeug": (
        "pallets/werkzeug",
        "src/werkzeug",
        ("ephemeral-port-reserve", "cryptography", "watchdog", "pytest-timeout"),
    ),
}
HOME = Path("build/repair-real").resolve()
NEW_TEST = "tests/test_new_use.py"


class Case(NamedTuple):
    title: str
    base: str


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", choices=[*REPOSITORIES, []], default=[])
    parser.add_argument("--from", dest="folder", type=Path, help="where clones are: FOLDER/owner+name")
    parser.add_argument("--cases", type=int, default=2, help="of each kind, in each repository")
    arguments = parser.parse_args()
    results = []
    for name in arguments.names or REPOSITORIES:
        root, python = prepare(name, arguments.folder)
        for make in (conflicts, fixes_taken_back):
            for case in make(name, root, arguments.cases):
                results.append(measure(name, root, python, case))
    right, wrong, handed = (results.count(each) for each in ("right", "WRONG", "handed off"))
    print(f"{len(results)} cases: {right} right, {wrong} wrong (goal 0), {handed} handed off")
    return 1 if wrong else 0


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
    if not (venv / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        pip = [venv / "bin" / "python", "-m", "pip", "install", "--quiet", "-e", str(root), "pytest", *extras]
        subprocess.run(list(map(str, pip)), check=True)
    return root, venv / "bin" / "python"


def conflicts(name: str, root: Path, count: int) -> Iterator[Case]:
    """A rename everywhere, and a new test of the old name. Long names that stand for one thing only."""
    package = REPOSITORIES[name][1]
    reset(root)
    texts = {path: path.read_text("utf-8") for path in sorted(root.rglob("*.py")) if ".git" not in path.parts}
    found = []
    for path, text in texts.items():
        if path.is_relative_to(root / package):
            found += [(path, match[1]) for match in re.finditer(r"^(?:def|class) ([a-zA-Z]\w{7,})\(", text, re.M)]
    uses = {symbol: sum(bool(re.search(rf"\b{symbol}\b", text)) for text in texts.values()) for _, symbol in found}
    words = "\n".join(texts.values())
    clear = [
        (path, symbol)
        for path, symbol in found
        if uses[symbol] > 1
        and len(re.findall(rf"(?:def|class) {symbol}\b", words)) == 1
        and not re.search(rf"[\"'.]{symbol}\b", words)
    ]
    random.Random(name).shuffle(clear)
    for path, symbol in clear[:count]:
        base = reset(root)
        git(root, "switch", "-q", "-c", "ours")
        for each, text in texts.items():
            if re.search(rf"\b{symbol}\b", text):
                each.write_text(re.sub(rf"\b{symbol}\b", f"{symbol}_renamed", text), "utf-8")
        git(root, "commit", "-q", "-a", "-m", f"Rename {symbol}")
        git(root, "switch", "-q", "-c", "theirs", "main")
        module = path.relative_to(root / "src").with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        test = f"from {module} import {symbol}\n\n\ndef test_new_use():\n    assert callable({symbol})\n"
        (root / NEW_TEST).write_text(test, "utf-8")
        git(root, "add", NEW_TEST)
        git(root, "commit", "-q", "-m", f"Use {symbol}")
        merge(root, "ours", "theirs")
        yield Case(f"{module}.{symbol} renamed", base)


def fixes_taken_back(name: str, root: Path, count: int) -> Iterator[Case]:
    """The newest fixes whose source part can be undone on today's main."""
    package = REPOSITORIES[name][1]
    reset(root)
    listed = git(root, "log", "--no-merges", "--format=%H", "--grep=fix", "-i", "-n", "400", "--", package).split()
    made = 0
    for commit in listed:
        changed = git(root, "show", "--format=", "--name-only", commit).split()
        source = [path for path in changed if path.startswith(package)]
        tests = [path for path in changed if path.startswith("tests/")]
        if not tests or len(source) != 1 or made == count:
            continue
        base = reset(root)
        patch = git(root, "diff", commit, f"{commit}^", "--", *source, strip=False)
        if subprocess.run(["git", "apply", "-"], cwd=root, input=patch, text=True, capture_output=True).returncode:
            continue
        git(root, "commit", "-q", "-a", "-m", f"Simplify {source[0]}")
        made += 1
        yield Case(f"{commit[:10]} taken back in {source[0]}", base)


def measure(name: str, root: Path, python: Path, case: Case) -> str:
    environment = {**os.environ, "VIRTUAL_ENV": str(python.parents[1])}
    report = start(Wanted("main", good=case.base), environment, lambda _: None, str(root))
    branches = git(root, "for-each-ref", "--format=%(refname:short)", "refs/heads/greenline").split()
    made = [outcome.judged[0].candidate.name for outcome in report.outcomes if outcome.status == "proposed"]
    if not report.outcomes:
        verdict = "not broken"
    elif not branches:
        verdict = "handed off"
    else:
        before, after = failing(root, python, case.base), failing(root, python, branches[0])
        verdict = "right" if len(branches) == 1 and after <= before else "WRONG"
    why = "; ".join(outcome.why for outcome in report.outcomes if outcome.why) or report.trouble
    print(f"{verdict:<10} {name:<9} {report.seconds:6.1f} s  {', '.join(made):<14} {case.title} {why}", flush=True)
    return verdict


def failing(root: Path, python: Path, ref: str) -> set[str]:
    with tempfile.TemporaryDirectory(prefix="greenline-real-") as folder:
        git(root, "worktree", "add", "-q", "--detach", f"{folder}/tree", ref)
        command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rfE", "--tb=no"]
        variables = {**os.environ, "PYTHONPATH": f"{folder}/tree/src"}
        done = subprocess.run(command, cwd=f"{folder}/tree", env=variables, capture_output=True, text=True)
        git(root, "worktree", "remove", "--force", f"{folder}/tree")
    return set(re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M))


def reset(root: Path) -> str:
    """main as it came, without anything of an earlier case; gives its commit."""
    if not git(root, "for-each-ref", "refs/greenline/start"):
        git(root, "update-ref", "refs/greenline/start", "HEAD")
    git(root, "checkout", "-q", "-f", "--detach", "refs/greenline/start")
    for branch in git(root, "for-each-ref", "--format=%(refname:short)", "refs/heads").split():
        git(root, "branch", "-q", "-D", branch)
    git(root, "clean", "-fdq")
    git(root, "switch", "-q", "-c", "main")
    return git(root, "rev-parse", "HEAD")


def merge(root: Path, *branches: str) -> None:
    git(root, "switch", "-q", "main")
    for branch in branches:
        git(root, "merge", "-q", "--no-ff", "-m", f"Merge {branch}", branch)


def git(root: Path, *arguments: str, strip: bool = True) -> str:
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip() if strip else done.stdout


if __name__ == "__main__":
    sys.exit(main())
