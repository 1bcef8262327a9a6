"""One dependency manifest as plain data in which comments, formatting and order are gone.

Two manifests that install the same thing are equal here. What a manifest says falls into four parts, by what
a difference means:

- ``entries``: can be tied to one distribution
- ``settings``: may change anything in the environment
- ``first_party``: the repository's own projects; their code is judged by its own changes
- ``asides``: judged elsewhere, and only reported (``pytest``, ``entry_points``, ``own_version``)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class ManifestError(ValueError):
    """The manifest cannot be read; the message says where and why."""


class Edge(NamedTuple):
    """``source`` requires ``target``. Nodes are ``name``, ``name[extra]`` and ``name:group``.

    ``condition`` is empty when the requirement always holds, else a text that is equal for equal conditions.
    """

    source: str
    target: str
    condition: str = ""


class Manifest(NamedTuple):
    """What one manifest says. All distribution names are normalised (PEP 503)."""

    entries: Mapping[str, frozenset[str]]  # distribution → canonical texts, one for each time it is named
    settings: Mapping[str, str] = {}  # dotted key → canonical text
    edges: frozenset[Edge] = frozenset()
    closed: bool = False  # the edges hold every requirement between the entries
    first_party: Mapping[str, str] = {}  # project → canonical text
    asides: Mapping[str, str] = {}
    versions: Mapping[str, str] = {}  # distribution → its version, for people


class Requirement(NamedTuple):
    """A PEP 508 requirement: its normalised name and a text that is equal for equal requirements."""

    name: str
    text: str


_REQUIREMENT = re.compile(
    r"""\s* (?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?) \s*
        (?:\[ (?P<extras>[^\]]*) \])? \s*
        (?: @ \s* (?P<url>\S+) | \(? (?P<specifier>[<>=!~][^;)]*)? \)? ) \s*
        (?: ; (?P<marker>.*) )? \s* $""",
    re.VERBOSE,
)


def normalise(name: str) -> str:
    """``Foo.Bar_baz`` → ``foo-bar-baz`` (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_requirement(line: str) -> Requirement | None:
    """Read one PEP 508 requirement; None when it is not one (a path, a bare URL, nonsense)."""
    match = _REQUIREMENT.match(line)
    if match is None:
        return None
    extras = sorted({normalise(extra) for extra in re.findall(r"[\w.-]+", match["extras"] or "")})
    specifier = sorted({part for part in re.sub(r"\s", "", match["specifier"] or "").split(",") if part})
    marker = " ".join((match["marker"] or "").replace('"', "'").split())
    marker = re.sub(r"\s*([<>=!~]+|[()])\s*", r"\1", marker)
    return Requirement(normalise(match["name"]), canonical([extras, specifier, match["url"], marker]))


def canonical(value: Any) -> str:
    """A text that is equal for values that differ only in the order of their keys and items."""
    return _dump(_sorted(value))


def in_order(value: Any) -> str:
    """A text that is equal for equal values; the order of lists counts (package indexes have a priority)."""
    return _dump(value)


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(item) for key, item in value.items()}
    if isinstance(value, list):
        return sorted((_sorted(item) for item in value), key=_dump)
    return value


def collect(texts: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    """Group texts by distribution. Input and output order do not matter."""
    grouped: dict[str, set[str]] = {}
    for name, text in texts:
        grouped.setdefault(name, set()).add(text)
    return {name: frozenset(found) for name, found in grouped.items()}


def flatten(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested tables → dotted key -> text, so that a difference can name the key that changed."""
    if not isinstance(value, dict) or not value:
        return {prefix: in_order(value)} if prefix else {}
    flat: dict[str, str] = {}
    for key, item in value.items():
        flat.update(flatten(item, f"{prefix}.{key}" if prefix else str(key)))
    return flat
