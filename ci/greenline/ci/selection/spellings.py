"""Which files of the work tree spell the name of a file: of many names at once, and of each only once."""

from __future__ import annotations

import os
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Iterator

from greenline.depgraph.workspace import Workspace, read_regular

FEW = 32
"""Names that git looks for one by one, as it does with each pattern; of more, only their endings."""


class Spellings:
    """What git found so far in one work tree."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._files: dict[str, list[str]] = {}
        self._found: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}

    @property
    def asked(self) -> bool:
        """Whether anything was asked yet."""
        return bool(self._files)

    def of(self, names: Iterable[str]) -> list[str]:
        """The files, Python or not, that contain one of these names, also as a part of another one; sorted."""
        names = list(names)
        self.look_up(names)
        return sorted({file for name in names for file in self._files[name]})

    def look_up(self, names: Iterable[str]) -> None:
        """Ask for all of these names together that were not asked for yet."""
        new = sorted(set(names) - self._files.keys())
        if not new:
            return
        by_ending: dict[str, list[str]] = defaultdict(list)
        for name in new:
            by_ending[posixpath.splitext(name)[1] or name].append(name)
        patterns = new if len(new) <= FEW else [each for ending in by_ending for each in ending.split("\n") if each]
        self._files.update((name, []) for name in new)
        for file in self._workspace.grep(patterns, (".",)) if patterns else ():
            for name in new if len(new) == 1 else self._spelled_in(file, by_ending):
                self._files[name].append(file)

    def _spelled_in(self, file: str, by_ending: dict[str, list[str]]) -> Iterator[str]:
        try:
            data = read_regular(os.path.join(self._workspace.root, file))
        except OSError:  # it went meanwhile, or may not be read: it may spell any of them
            data = None
        for ending, names in by_ending.items():
            if data is None or len(names) == 1:
                yield from (name for name in names if data is None or os.fsencode(name) in data)
            else:
                yield from _with_ending(data, os.fsencode(ending), names)

    def grep(self, words: Iterable[str], paths: tuple[str, ...]) -> list[str]:
        """:meth:`.Workspace.grep`, each question once."""
        key = tuple(words), paths
        if key not in self._found:
            self._found[key] = self._workspace.grep(*key)
        return self._found[key]


def _with_ending(data: bytes, ending: bytes, names: list[str]) -> set[str]:
    """Those of the names, all with this ending, that stand in ``data``: it is searched once, not once for each name."""
    stems = {os.fsencode(name)[: -len(ending)]: name for name in names}
    lengths = sorted({len(stem) for stem in stems})
    found, at = set(), data.find(ending)
    while at >= 0:
        for length in lengths:
            if length <= at and (name := stems.get(data[at - length : at])):
                found.add(name)
        at = data.find(ending, at + 1)
    return found
