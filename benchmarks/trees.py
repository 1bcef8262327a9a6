"""Repositories and programs for benchmarks: fetched from the package index or generated, and kept below build/."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
from collections.abc import Iterable, Sequence
from pathlib import Path

BUILD = Path(__file__).parents[1] / "build" / "benchmarks"
GREENLINE = Path(sys.executable).with_name("greenline")


def programs(name: str, requirements: Sequence[str]) -> Path:
    """The folder of a virtual environment's programs; made with pip unless it is there with these requirements."""
    folder, wanted = BUILD / "environments" / name, "\n".join(requirements)
    done = folder / "requirements.txt"
    if not done.exists() or done.read_text("utf-8") != wanted:
        venv.create(folder, with_pip=True, clear=True)
        pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", *requirements], check=True)
        done.write_text(wanted, "utf-8")
    return folder / "bin"


def source_distribution(requirement: str, folder: Path) -> None:
    """Unpack a source distribution ("name==version") into a folder and make it a git repository with one commit."""
    downloads = BUILD / "downloads" / requirement
    if not downloads.exists():
        # Nothing of it is run here, so it need not be for this version of Python.
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
        options = ["--no-deps", "--no-binary", ":all:", "--ignore-requires-python", "--dest", str(downloads)]
        subprocess.run([*pip, *options, requirement], check=True)
    (archive,) = downloads.iterdir()
    clear(folder)
    with tarfile.open(archive) as tar:
        tar.extractall(folder.parent / "unpacked", filter="data")  # filter: the files are ours, not the packager's
    (top,) = (folder.parent / "unpacked").iterdir()
    top.rename(folder)
    (folder.parent / "unpacked").rmdir()
    make_repository(folder)


def clear(folder: Path) -> None:
    """Delete a folder and make the one around it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)


def make_repository(folder: Path) -> None:
    """Commit everything that is in a folder, what its .gitignore names included."""
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder)


def commit(folder: Path, paths: Iterable[str] = (".",)) -> None:
    git(folder, "add", "--force", "--", *paths)
    git(folder, "commit", "--quiet", "--no-verify", "--message=benchmark")


def git(folder: Path, *arguments: str) -> str:
    """git's output; it sees no configuration but the repository's own."""
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=environment(), check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def environment() -> dict[str, str]:
    """The environment of a developer's machine: no continuous integration, no settings of Greenline or of git's user."""
    ours = ("GREENLINE_", "GIT_", "GITHUB_", "GITLAB_", "CI_", "BUILDKITE", "PYTEST_", "COVERAGE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours) and name != "CI"}
    names = {f"GIT_{who}_{what}": "benchmark@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return kept | names | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
