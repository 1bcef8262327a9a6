"""The `rules` of greenline.yaml as data."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from greenline.depgraph.config import FILE, Config
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.imports import LAZY, START, TYPES

Modules = tuple[str, ...]
"""Expressions for modules, see :mod:`.modules`."""

_LATEST = {"start": START, "runtime": LAZY, "all": TYPES}


class Member(NamedTuple):
    """A module of a layer; ``optional``: it may be missing."""

    module: str
    optional: bool


class Layer(NamedTuple):
    members: tuple[Member, ...]
    independent: bool
    """Whether its members must not import each other."""


class Layers(NamedTuple):
    """``latest``, here and below: the latest kind of import that counts (START, LAZY, TYPES)."""

    name: str
    layers: tuple[Layer, ...]
    containers: Modules
    exhaustive: bool
    exempt: tuple[str, ...]
    latest: int


class Forbidden(NamedTuple):
    name: str
    from_: Modules
    to: Modules
    through: bool
    latest: int


class Independent(NamedTuple):
    name: str
    modules: Modules
    latest: int


class Acyclic(NamedTuple):
    name: str
    within: Modules
    children: bool
    depth: int
    exempt: Modules
    latest: int


class Protected(NamedTuple):
    name: str
    modules: Modules
    importers: Modules
    latest: int


class Purpose(NamedTuple):
    name: str
    use: Modules
    libraries: Modules
    latest: int


Contract = Layers | Forbidden | Independent | Acyclic | Protected
KINDS: dict[type, str] = {
    Layers: "layers",
    Forbidden: "forbidden",
    Independent: "independent",
    Acyclic: "acyclic",
    Protected: "protected",
    Purpose: "purposes",
}


def rule_name(rule: Contract | Purpose) -> str:
    """What findings call a rule: ``layers/shop``."""
    return f"{KINDS[type(rule)]}/{rule.name}"


class Ignore(NamedTuple):
    """``key``: where it stands in greenline.yaml."""

    key: str
    rule: str
    from_: Modules
    to: Modules
    reason: str
    until: datetime.date | None


class Budget(NamedTuple):
    """What one import edge may add to the average change: test files, minutes; None: any."""

    tests: float | None = None
    minutes: float | None = None


class Rules(NamedTuple):
    """``contracts``: in the order of their kinds, then of the file."""

    contracts: tuple[Contract, ...] = ()
    purposes: tuple[Purpose, ...] = ()
    ignores: tuple[Ignore, ...] = ()
    budget: Budget = Budget()
    lint: str = "auto"
    format: str = "auto"


def read(config: Config) -> Rules:
    """Raises GreenlineError for what the schema cannot tell: doubled names, layers that make no sense, no such day."""
    values: Mapping[str, Any] = config.rooms.get("rules", {})

    def listed(kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = values.get(kind, [])
        names = [entry["name"] for entry in entries]
        for at, name in enumerate(names):
            if name in names[:at]:
                raise _wrong(f"rules.{kind}[{at}].name", f"{name!r} is the name of another rule there; rename one")
        return entries

    def latest(entry: Mapping[str, Any], default: str) -> int:
        return _LATEST[entry.get("imports", default)]

    contracts: list[Contract] = []
    for at, entry in enumerate(listed("layers")):
        contracts.append(_layers(f"rules.layers[{at}]", entry, latest(entry, "all")))
    for entry in listed("forbidden"):
        through = entry.get("through", "on") == "on"
        contracts.append(
            Forbidden(entry["name"], _texts(entry["from"]), _texts(entry["to"]), through, latest(entry, "all"))
        )
    for entry in listed("independent"):
        contracts.append(Independent(entry["name"], _texts(entry["modules"]), latest(entry, "all")))
    for entry in listed("acyclic"):
        children, depth = entry.get("between") == "children", int(entry.get("depth", "10"))
        within, exempt = _texts(entry["within"]), _texts(entry.get("except", ()))
        contracts.append(Acyclic(entry["name"], within, children, depth, exempt, latest(entry, "start")))
    for entry in listed("protected"):
        importers = _texts(entry.get("importers", ()))
        contracts.append(Protected(entry["name"], _texts(entry["modules"]), importers, latest(entry, "all")))
    budget = {key: float(value) for key, value in values.get("budget", {}).items()}
    lint = values.get("lint", {})
    return Rules(
        tuple(contracts),
        tuple(
            Purpose(entry["name"], _texts(entry["use"]), _texts(entry.get("libraries", ())), latest(entry, "runtime"))
            for entry in listed("purposes")
        ),
        tuple(_ignore(f"rules.ignore[{at}]", entry) for at, entry in enumerate(values.get("ignore", []))),
        Budget(**budget),
        lint.get("check", "auto"),
        lint.get("format", "auto"),
    )


def _layers(key: str, entry: Mapping[str, Any], latest: int) -> Layers:
    layers = [_layer(f"{key}.layers[{at}]", text) for at, text in enumerate(entry["layers"])]
    seen: set[str] = set()
    for at, layer in enumerate(layers):
        for member in layer.members:
            if member.module in seen:
                raise _wrong(f"{key}.layers[{at}]", f"{member.module} is in two layers; leave it in one")
            seen.add(member.module)
    containers, exhaustive = _texts(entry.get("containers", ())), entry.get("exhaustive") == "on"
    if exhaustive and not containers:
        raise _wrong(f"{key}.exhaustive", "needs containers, whose modules must all be in a layer")
    return Layers(entry["name"], tuple(layers), containers, exhaustive, tuple(entry.get("except", ())), latest)


def _layer(key: str, text: str) -> Layer:
    if "|" in text and ":" in text:
        raise _wrong(key, "has both '|' (independent siblings) and ':' (siblings that may import each other); use one")
    members = []
    for part in re.split(r"[|:]", text):
        name = part.strip()
        optional = name.startswith("(") and name.endswith(")")
        members.append(Member(name.strip("()").strip() if optional else name, optional))
        if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", members[-1].module):
            raise _wrong(key, f"{name!r} is not the dotted name of a module")
    return Layer(tuple(members), ":" not in text)


def _ignore(key: str, entry: Mapping[str, Any]) -> Ignore:
    until = None
    if "until" in entry:
        try:
            until = datetime.date.fromisoformat(entry["until"])
        except ValueError:
            raise _wrong(f"{key}.until", f"{entry['until']!r} is no day of the calendar") from None
    return Ignore(key, entry["rule"], _texts(entry["from"]), _texts(entry.get("to", ())), entry["reason"], until)


def _texts(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _wrong(key: str, message: str) -> GreenlineError:
    return GreenlineError(f"{FILE}: {key}: {message}", f"{FILE} is described in docs/configuration.md")
