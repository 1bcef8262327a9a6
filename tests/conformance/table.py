"""The conformance table: read the cases, and make the repository of a case with real git.

A case (cases/*.yaml) is a tiny repository, a change, and what a tool that selects tests must answer:

    - case: 9 import_module of a string with one dot     number (see README.md) and title
      files:                      the base commit on branch `main`: path → text (nothing: an empty file)
        app/x.py: VALUE = 1       a text `-> target` is a symbolic link
      edit:                       one commit on branch `change`: path → new text, or
        app/x.py: {"1": "2"}      path → {old: new}: replacements in the text that is there
      delete: [path]              in the same commit
      rename: {old: new}          in the same commit
      staged: {path: …}           then put into the index, like `edit`
      unstaged: {path: …}         then left in the work tree (a new path is an untracked file)
      main_moves: {path: …}       a later commit on `main` that `change` does not have
      before: [command]           shell commands before the base commit
      steps: [command]            shell commands at the very end; $BASE and $HEAD are commits
      folder: path                where the tool is called, relative to the repository (default: its root)
      arguments: [argument]       default: [--base, main]
      env: {name: value}          for the tool; $BASE, $HEAD and $REPO are replaced
      selected: [path]            must be in the answer; `path::test` for one test of a file
      not_selected: [path]        must not be
      all: true                   every test file must be in; false (none: true): no file may be in

Every repository also gets, unless the case gives the path itself, a pyproject.toml with the root on pytest's
path, and bystander/test_bystander.py, which nothing ties to anything: a case that neither asks for all nor
names it says that it is not selected. (`bystander: free`: may be selected. `bystander: absent`: not there.)

For Greenline alone: `complete: false` (the answer says that it is a superset), `exit: 3`, `warning: text`;
`own: true` for a case about Greenline's own options and configuration, which other tools are not asked about.
For caches: `warm: [arguments, …]` calls the tool so often before the edit, `between: […]` after it,
`at_once: 2` asks that many at the same time, `same_mtime: true` gives edited files their old time back.
`limit: reason` marks what Greenline is known not to answer as expected; the test then demands that it still fails.
For validate.py: `suites: [folder]` where pytest runs (default: the root), `installed: [project folder]` what
`pip install -e` was called on, `requires: [import name]` third-party packages, and `flips: false` or
`flips: [path]` with `why: reason` where the selected tests cannot be shown to change their outcome.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml

CASES = Path(__file__).parent / "cases"
BYSTANDER = "bystander/test_bystander.py"
DEFAULTS = {
    "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["."]\n',
    BYSTANDER: "def test_bystander():\n    assert True\n",
}
GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "author",
    "GIT_AUTHOR_EMAIL": "author@example.com",
    "GIT_AUTHOR_DATE": "2024-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "author",
    "GIT_COMMITTER_EMAIL": "author@example.com",
    "GIT_COMMITTER_DATE": "2024-01-01T00:00:00Z",
    "GIT_TERMINAL_PROMPT": "0",
}
# Never inherited by a case, or the table would depend on where it runs.
FOREIGN = re.compile(r"(GITHUB|GITLAB|CI|BUILDKITE|GREENLINE|GIT|PYTEST)(_|$)|PYTHON")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Edit = Mapping[str, str | Mapping[str, str] | None]
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Case(NamedTuple):
    """One row of the table; the fields are described at the top of this file."""

    group: str
    number: str
    title: str
    files: Mapping[str, str | None]
    edit: Edit = NOTHING
    delete: Sequence[str] = ()
    rename: Mapping[str, str] = NOTHING
    staged: Edit = NOTHING
    unstaged: Edit = NOTHING
    main_moves: Edit = NOTHING
    before: Sequence[str] = ()
    steps: Sequence[str] = ()
    folder: str = "."
    arguments: Sequence[str] = ("--base", "main")
    env: Mapping[str, str] = NOTHING
    selected: Sequence[str] = ()
    not_selected: Sequence[str] = ()
    all: bool | None = None
    bystander: str = "unselected"
    complete: bool | None = None
    exit: int = 0
    warning: str | None = None
    warm: Sequence[Sequence[str]] = ()
    between: Sequence[Sequence[str]] = ()
    at_once: int = 1
    own: bool = False
    same_mtime: bool = False
    suites: Sequence[str] = (".",)
    installed: Sequence[str] = ()
    requires: Sequence[str] = ()
    flips: Sequence[str] | bool = True
    why: str = ""
    limit: str = ""

    @property
    def id(self) -> str:
        """`44a-yaml-through-importlib-resources`."""
        return re.sub(r"[^\w.]+", "-", f"{self.number} {self.title.lower()}").strip("-")

    @property
    def asks_recall(self) -> bool:
        """Whether a tool can miss something here."""
        return bool(self.selected) or self.all is True

    @property
    def asks_precision(self) -> bool:
        """Whether a tool can select too much here."""
        return bool(self.not_selected) or self.all is False or (self.all is None and self.bystander == "unselected")


def load() -> list[Case]:
    """All cases, in the order of the files' names and of the rows."""
    cases = [
        read(row, file) for file in sorted(CASES.glob("*.yaml")) for row in yaml.safe_load(file.read_text("utf-8"))
    ]
    numbers = [case.number for case in cases]
    twice = {number for number in numbers if numbers.count(number) > 1}
    if twice:
        raise ValueError(f"case numbers used twice: {', '.join(sorted(twice))}")
    return cases


def read(row: dict[str, Any], file: Path) -> Case:
    """A row of a YAML file as a `Case`. Raises ValueError for an unknown key or without expectation."""
    number, title = row.pop("case").split(" ", 1)
    if row.pop("none", False):
        row["all"] = False
    unknown = row.keys() - set(Case._fields)
    if unknown:
        raise ValueError(f"{file.name}, case {number}: unknown keys {', '.join(sorted(unknown))}")
    case = Case(file.stem.partition("-")[2], number, title, **row)
    if not (case.selected or case.not_selected or case.all is not None):
        raise ValueError(f"{file.name}, case {number}: expects nothing")
    if case.flips is not True and not case.why:
        raise ValueError(f"{file.name}, case {number}: `flips` needs a `why`")
    return case


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What every process of a case gets: this environment without CI and Python settings, a git identity."""
    kept = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    return {**kept, **GIT, **(extra or {})}


def git(folder: Path, *arguments: str) -> str:
    """What git prints. Raises subprocess.CalledProcessError when it fails."""
    command = ["git", "-c", "gc.auto=0", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(), check=True, capture_output=True, text=True).stdout


def write_base(case: Case, folder: Path) -> str:
    """Make the repository with its base commit on branch `main`; return that commit."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main", "--template=")
    files = {**DEFAULTS, **case.files}
    if case.bystander == "absent":
        del files[BYSTANDER]
    write(folder, files)
    shell(case.before, folder)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=base")
    return (folder / ".git" / "refs" / "heads" / "main").read_text().strip()


def write_change(case: Case, folder: Path, base: str, between: Callable[[], None] = lambda: None) -> Path:
    """Make the change of the case upon its base commit; return the folder in which the tool is to be called.

    `between` is called after the commit and before what follows it.
    """
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.is_file()}
    if case.main_moves:
        write(folder, case.main_moves)
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message=main moves")
        git(folder, "checkout", "--quiet", "-b", "change", base)
    else:
        git(folder, "checkout", "--quiet", "-b", "change")
    for old, new in case.rename.items():
        (folder / new).parent.mkdir(parents=True, exist_ok=True)
        (folder / old).rename(folder / new)
    for path in case.delete:
        (folder / path).unlink()
    write(folder, case.edit)
    if case.same_mtime:
        for edited in map(folder.joinpath, case.edit):
            os.utime(edited, ns=(times[edited], times[edited]))
    if case.edit or case.delete or case.rename:
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message=change")
    between()
    if case.staged:
        write(folder, case.staged)
        git(folder, "add", "--all")
    write(folder, case.unstaged)
    if case.steps:
        head = git(folder, "rev-parse", "HEAD").strip()
        shell(case.steps, folder, {"BASE": base, "HEAD": head})
    return folder / case.folder


def write(folder: Path, edit: Edit) -> None:
    """Write files: a text is the whole file, a mapping is replacements in it, nothing is an empty file."""
    for name, content in edit.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Mapping):
            text = path.read_text("utf-8")
            for old, new in content.items():
                if str(old) not in text:
                    raise ValueError(f"{name} does not hold {old!r}")
                text = text.replace(str(old), str(new))
        else:
            text = str(content) if content is not None else ""
        if text.startswith("-> "):
            path.symlink_to(text[3:].strip())
        else:
            path.write_bytes(text.encode() if text.endswith("\n") or not text else f"{text}\n".encode())


def shell(commands: Iterable[str], folder: Path, extra: Mapping[str, str] | None = None) -> None:
    """Run shell commands in the repository. Raises subprocess.CalledProcessError with what was printed."""
    for command in commands:
        subprocess.run(
            command,
            shell=True,
            cwd=folder,
            env=environment(extra),
            check=True,
            capture_output=True,
            text=True,
        )


def files_with_tests(folder: Path) -> set[str]:
    """Every test file under a repository's root (by pytest's default name), relative to it."""
    names = (*folder.rglob("test_*.py"), *folder.rglob("*_test.py"))
    return {path.relative_to(folder).as_posix() for path in names}


def covers(answer: Iterable[str], wanted: str) -> bool:
    """Whether an answer of paths and node ids holds `wanted`: a path holds its tests, a test its path."""
    path = wanted.partition("::")[0]
    for item in answer:
        same_file = item.partition("::")[0] == path
        whole = "::" not in item or "::" not in wanted
        if same_file and (whole or item == wanted or item.startswith((f"{wanted}[", f"{wanted}::"))):
            return True
    return False


def missed(case: Case, answer: Iterable[str], root: Path) -> list[str]:
    """What must be selected and is not; `root` is the repository at its head."""
    wanted = files_with_tests(root) if case.all else case.selected
    answer = set(answer)
    return sorted(item for item in wanted if not covers(answer, item))


def superfluous(case: Case, answer: Iterable[str]) -> list[str]:
    """What must not be selected and is."""
    answer = set(answer)
    if case.all is not None:
        return [] if case.all else sorted(answer)
    banned = [*case.not_selected, *([BYSTANDER] if case.bystander == "unselected" else [])]
    return sorted(item for item in banned if covers(answer, item))
