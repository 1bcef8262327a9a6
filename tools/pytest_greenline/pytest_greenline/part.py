"""Which tests are a shard's: the one rule that runs them and proves that they ran. No pytest is needed for it.

A planned test belongs to the shard that plans it, and so does what is in a function, class or file that is planned as a
whole. Another test is new, and belongs to the shard that owns the longest part of its id. So each test has one shard,
whatever collection finds.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import NamedTuple

SESSION = "GREENLINE_SESSION"
"""Environment variable: a JSON object with what a session line of results.py says, and "top", the repository."""


class Home(NamedTuple):
    """What decides where a test runs: a planned id, or (``owned``) an owned part of its id."""

    name: str
    owned: bool


class Names(NamedTuple):
    """Planned ids and owned parts (files, classes, functions), as the keys of ordered dicts."""

    tests: dict[str, None]
    owns: dict[str, None]

    def hold(self, home: Home | None) -> bool:
        return home is not None and home.name in (self.owns if home.owned else self.tests)


class Part(NamedTuple):
    """A shard's names and those of other shards in the same files. Paths are relative to ``top``, the repository."""

    top: str
    mine: Names
    others: Names

    def every(self) -> Names:
        """All that is planned or owned in these files."""
        return Names(*({**mine, **others} for mine, others in zip(self.mine, self.others)))


def home(test: str, planned: Collection[str], owned: Collection[str]) -> Home | None:
    """None: the test was not selected."""
    for name in ids_around(test):
        if name in planned:  # the test, or a function, class or file that is planned as a whole
            return Home(name, False)
        if name in owned:
            return Home(name, True)
    return None


def ids_around(test: str) -> Iterator[str]:
    """The id itself, then those that contain it, the file last: f::C::m[1], f::C::m, f::C, f."""
    path, colons, name = test.partition("::")
    yield test
    bare, bracket, _ = name.partition("[")
    if bracket:
        yield f"{path}::{bare}"
    while "::" in bare:
        bare = bare.rpartition("::")[0]
        yield f"{path}::{bare}"
    if colons:
        yield path


def files(names: Names) -> list[str]:
    """In the order in which the names first mention them."""
    return list(dict.fromkeys(name.partition("::")[0] for some in names for name in some))


def dumps(part: Part) -> str:
    mine, others = ({key: list(value) for key, value in names._asdict().items()} for names in part[1:])
    return json.dumps({"version": 1, "top": part.top, "mine": mine, "others": others})


def loads(text: str) -> Part:
    """Raises ValueError, LookupError or TypeError for what is no part."""
    said = json.loads(text)
    if said["version"] != 1:
        raise ValueError(f"version {said['version']} is not 1: update pytest-greenline")
    return Part(said["top"], *(names(said[whose]) for whose in ("mine", "others")))


def names(said: dict[str, list[str]]) -> Names:
    return Names(dict.fromkeys(said["tests"]), dict.fromkeys(said["owns"]))
