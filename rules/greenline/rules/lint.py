"""What ruff says of changed files, with the repository's own configuration, where it has one.

Also of the merged tree: a rule, a formatter or a setting that one side brought, and a file that the other did.
"""

from __future__ import annotations

import json
import os
import posixpath
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.globs import matcher
from greenline.depgraph.workspace import SUBMODULE, Entry, Workspace
from greenline.rules.findings import Finding, Place

CONFIGS = ("ruff.toml", ".ruff.toml", "pyproject.toml")
ENDINGS = (".py", ".pyi", ".ipynb")
FORMAT = "format"
"""The rule of files that ruff format would change; what ruff check says has its code as rule."""

Read = Callable[[str], bytes | None]


class RuffError(GreenlineError):
    """ruff could not do its work: its configuration is wrong, or it asks for another version."""


class Which(NamedTuple):
    """Which of ruff's two commands run."""

    check: bool
    format: bool


def which(workspace: Workspace, check: str, form: str, paths: Collection[str], read: Read) -> Which:
    """The settings `auto`, `on` and `off` as they turn out for a repository with these files."""
    configured = any(_configures(path, read(path)) for path in paths if is_config(path))
    wants = {"on": True, "off": False}
    formats = form == "auto" and configured and _formats(workspace, paths, read)
    return Which(wants.get(check, configured), wants.get(form, formats))


def is_config(path: str) -> bool:
    return path.rpartition("/")[2] in CONFIGS


def _configures(path: str, data: bytes | None) -> bool:
    return data is not None and (not path.endswith("pyproject.toml") or b"[tool.ruff" in data)


def _formats(workspace: Workspace, paths: Collection[str], read: Read) -> bool:
    """Whether the repository itself runs ruff's formatter: it is configured, or some check of its own calls it."""
    for path in paths:
        data = (read(path) or b"") if is_config(path) else b""
        if b"[tool.ruff.format" in data or (not path.endswith("pyproject.toml") and b"[format" in data):
            return True
    words = ("ruff format", "ruff-format", '"ruff", "format"', "'ruff', 'format'")
    places = ("*.yml", "*.yaml", "*.toml", "*.ini", "*.cfg", "*.sh", "*Makefile", "*justfile", "noxfile.py", ".ci/*")
    return bool(workspace.grep(words, places))


def lint(root: str, paths: Iterable[str], wanted: Which) -> list[Finding]:
    """What ruff says of these files below a folder, but for those that it cannot be told. Raises RuffError."""
    files = sorted(path for path in paths if path.endswith(ENDINGS) and can_be_named(path))
    found: list[Finding] = []
    if files and wanted.check:
        out = _ruff(root, ["check", "--output-format=json", "--no-fix", "--exit-zero"], files)
        found += [_finding(root, each) for each in json.loads(out or "[]")]
    if files and wanted.format:
        broken = {finding.place.path for finding in found if finding.subject.startswith("invalid-syntax")}
        good = [path for path in files if path not in broken]
        for path in _unformatted(root, good) if good else ():
            hint = f"ruff format {path}"
            message = "ruff format would change this file"
            found.append(Finding(f"lint/{FORMAT}", Place(path), message, FORMAT, hint))
    return sorted(found, key=lambda finding: (finding.place, finding.rule, finding.subject))


def can_be_named(path: str) -> bool:
    """Whether a list of files, which is text with a path a line, can hold this path."""
    return path.isprintable()


def _unformatted(root: str, files: list[str]) -> list[str]:
    try:
        out = _ruff(root, ["format", "--check", "--output-format=json"], files)
    except RuffError:  # an older one, which only knows text
        lines = (line.partition(": ") for line in _ruff(root, ["format", "--check"], files).splitlines())
        return [path for kind, _, path in lines if kind == "Would reformat"]
    return [_path(root, each["filename"]) for each in json.loads(out or "[]") if each["code"] == "unformatted"]


def new_findings(now: Collection[Finding], before: Collection[Finding]) -> list[Finding]:
    """Findings that were not there before, by what they are about; of equal ones in a file the last."""
    left: dict[str, int] = {}
    for finding in before:
        left[finding.fingerprint] = left.get(finding.fingerprint, 0) + 1
    found = []
    for finding in now:
        if left.get(finding.fingerprint, 0):
            left[finding.fingerprint] -= 1
        else:
            found.append(finding)
    return found


def _ruff(root: str, arguments: list[str], files: list[str]) -> str:
    """ruff's standard output. Files are named in a response file, so that there may be any number of them."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8", errors="surrogateescape") as listed:
        listed.write("".join(f"{path}\n" for path in files))
        listed.flush()
        command = [_program(), *arguments, "--force-exclude", "--no-cache", f"@{listed.name}"]
        try:
            done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        except OSError as error:
            raise RuffError(f"ruff cannot be started: {error.strerror}", "pip install ruff") from None
    out = done.stdout.decode("utf-8", "surrogateescape")
    if done.returncode > 1:  # 1: format --check found something
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise RuffError("ruff: " + " ".join(line.strip() for line in lines[:4]), "see what ruff check says there")
    return out


def _program() -> str:
    """The ruff of the active environment, whose version the repository chose, else the one that came with greenline."""
    active = os.environ.get("VIRTUAL_ENV")
    folders = [os.path.join(active, "bin")] if active else []
    for folder in [*folders, os.path.dirname(sys.executable)]:
        program = os.path.join(folder, "ruff")
        if os.access(program, os.X_OK):
            return program
    return "ruff"


def _finding(root: str, said: Mapping[str, Any]) -> Finding:
    code = said["code"] or "invalid-syntax"
    path = _path(root, said["filename"])
    line = said["location"]["row"]
    fix = said["fix"] or {}
    safe = fix.get("applicability") == "safe"
    hint = "ruff check --fix" if safe else said["url"] or ""
    return Finding(f"lint/{code}", Place(path, line), said["message"], f"{code} {said['message']}", hint)


def _path(root: str, name: str) -> str:
    return os.path.relpath(name, os.path.realpath(root)).replace(os.sep, "/")


# -- trees that are not checked out --------------------------------------------------------------------------


def lint_tree(workspace: Workspace, commit: str, paths: Collection[str], wanted: Which) -> list[Finding]:
    """What ruff says of these files of a commit.

    They are laid out in a folder of their own, with all of ruff's configuration, and with the names of the modules
    beside its source roots: ruff sorts imports by what is there.
    """
    if not paths:
        return []
    entries = [each for each in workspace.entries(commit) if each.mode != SUBMODULE]
    with tempfile.TemporaryDirectory(prefix="greenline-") as folder:
        _lay_out(workspace, folder, entries, set(paths))
        there = {each.path for each in entries}
        return lint(folder, [path for path in paths if path in there], wanted)


def _lay_out(workspace: Workspace, folder: str, entries: Iterable[Entry], paths: Collection[str]) -> None:
    wanted = [each for each in entries if each.path in paths or is_config(each.path)]
    contents = zip(wanted, workspace.read_blobs([each.oid for each in wanted]), strict=True)
    files = {each.path: data or b"" for each, data in contents}
    modules = {each.path for each in entries if each.path.endswith(ENDINGS)}
    for root in _roots(files, {os.path.dirname(path) for path in modules}):
        start = root + "/" if root else ""
        for path in modules:
            if path.startswith(start):
                name, inside, _ = path[len(start) :].partition("/")
                files.setdefault(f"{start}{name}/__init__.py" if inside else path, b"")
    for path, data in files.items():
        target = os.path.join(folder, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(data)


def _roots(configs: Mapping[str, bytes], folders: Collection[str]) -> set[str]:
    """Where ruff looks for the repository's own modules: `src` of its configuration, by default `.` and `src`."""
    found = set()
    for path, data in configs.items():
        if is_config(path):
            try:
                table: Any = tomllib.loads(data.decode("utf-8"))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError):
                continue  # ruff will say so
            own = table.get("tool", {}).get("ruff", {}) if path.endswith("pyproject.toml") else table
            for source in own.get("src", [".", "src"]):
                place = posixpath.normpath(posixpath.join(posixpath.dirname(path), source))
                fits = matcher([place]) if "*" in place else None
                found |= {each for each in folders if fits(each)} if fits else {"" if place == "." else place}
    return found
