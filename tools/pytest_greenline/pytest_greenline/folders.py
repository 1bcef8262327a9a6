"""Paths as greenline names them, and the folders that need not be walked: all in them is unaffected."""

from __future__ import annotations

import fnmatch
import os
import posixpath
import re

import pytest

from pytest_greenline.ask import Answer

# A conftest.py with this text may collect files of any name.
_COLLECTS = re.compile(rb"pytest_collect_|import \*")


class Folders:
    """Answers for one session; what was found out about a folder is kept."""

    def __init__(self, config: pytest.Config, answer: Answer) -> None:
        self._config = config
        self._answer = answer
        self._relative: dict[str, str | None] = {}
        self._verdicts: dict[str, bool | None] = {}
        self._skipped: list[str] = ["__pycache__", *config.getini("norecursedirs")]
        doctests = config.getoption("doctestglob", None) or ["test*.txt"]
        modules = ["*.py"] if config.getoption("doctestmodules", False) else []
        self._collected: list[str] = [*config.getini("python_files"), *doctests, *modules]

    def relative(self, path: str) -> str | None:
        """The path in the repository, with "/" between; "" for its root, None for what is outside.

        The way to the repository may lead through links. Links inside it stay: pytest and git see two files.
        """
        folder, name = os.path.split(path)
        if name and folder not in self._relative:
            self._relative[folder] = self.relative(folder)
        above = self._relative[folder] if name else None
        if above is not None:
            return posixpath.join(above, name)
        return "" if os.path.realpath(path) == self._answer.root else None

    def all_unaffected(self, folder: str) -> bool:
        """Is there something unaffected below this folder, and nothing else that pytest could collect?"""
        return not self._anything_is_collected() and self._verdict(folder) is True

    def _anything_is_collected(self) -> bool:
        """Does a plugin or conftest.py collect what pytest itself does not?"""
        hooks = (
            getattr(self._config.pluginmanager.hook, f"pytest_collect_{what}", None) for what in ("file", "directory")
        )
        collectors = (impl.function for hook in hooks if hook for impl in hook.get_hookimpls())
        return not all(function.__module__.startswith("_pytest.") for function in collectors)

    def _verdict(self, folder: str) -> bool | None:
        """True: only unaffected files; None: no file that pytest would collect; False: something else."""
        if folder not in self._verdicts:
            try:
                entries = list(os.scandir(folder))
            except OSError:
                entries = None
            self._verdicts[folder] = False if entries is None else self._all(entries)
        return self._verdicts[folder]

    def _all(self, entries: list[os.DirEntry[str]]) -> bool | None:
        verdict = None
        for entry in entries:
            if not entry.is_dir():
                one = self._file(entry)
            elif self._is_skipped(entry):
                one = None
            else:  # pytest follows links, which may lead anywhere
                one = False if entry.is_symlink() else self._verdict(entry.path)
            if one is False:
                return False
            verdict = verdict or one
        return verdict

    def _file(self, entry: os.DirEntry[str]) -> bool | None:
        if entry.name == "conftest.py" and _may_collect(entry.path):
            return False
        if not _matches(entry, self._collected):
            return None
        return self.relative(entry.path) in self._answer.unaffected

    def _is_skipped(self, entry: os.DirEntry[str]) -> bool:
        if os.path.exists(os.path.join(entry.path, "pyvenv.cfg")):
            return not self._config.getoption("collect_in_virtualenv")
        return _matches(entry, self._skipped)


def _matches(entry: os.DirEntry[str], patterns: list[str]) -> bool:
    """pytest's rule: a pattern with a separator is for the end of the whole path, others are for the name."""
    tails = (each for each in patterns if os.sep in each)
    names = (each for each in patterns if os.sep not in each)
    return any(fnmatch.fnmatch(entry.name, each) for each in names) or any(
        fnmatch.fnmatch(entry.path, f"*{os.sep}{each}") for each in tails
    )


def _may_collect(conftest: str) -> bool:
    try:
        with open(conftest, "rb") as file:
            return _COLLECTS.search(file.read()) is not None
    except OSError:
        return True
