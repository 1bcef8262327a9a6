"""greenline.yaml: what a repository tells Greenline that cannot be found by looking.

`load` reads it into a Config. The keys, their types and their documentation stand in one place,
greenline.schema.json, which editors read too. All values are text, lists of text or mappings, so a plain
`off` or `3.10` needs no quotes. What was found valid is kept in the cache: YAML is parsed again only after an
edit.
"""

from __future__ import annotations

import functools
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from greenline.depgraph.errors import ConfigError, Problem
from greenline.depgraph.globs import matcher as matcher
from greenline.depgraph.workspace import read_regular

if TYPE_CHECKING:
    import yaml

FILE = "greenline.yaml"
SCHEMA = os.path.join(os.path.dirname(__file__), "greenline.schema.json")

_Path = tuple[str | int, ...]  # of a value in the file: ("suites", 0, "root")


class DeclaredSuite(NamedTuple):
    """A test suite that the configuration names. Root "" is the repository's; paths are relative to it."""

    name: str
    root: str
    testpaths: tuple[str, ...] = ()
    python_files: tuple[str, ...] = ()
    pythonpath: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


class Edge(NamedTuple):
    """A change of a file that matches `from_` is a change of what `to` names: globs and dotted modules."""

    from_: tuple[str, ...]
    to: tuple[str, ...]
    reason: str = ""


class Cut(NamedTuple):
    """Imports of `to` in `from_` (globs and dotted modules) that selection does not follow."""

    from_: tuple[str, ...]
    to: tuple[str, ...]
    reason: str


class DataRule(NamedTuple):
    """What a change of `files` affects: globs, dotted modules, "all" (every test), "none" (adds nothing)."""

    files: tuple[str, ...]
    affects: tuple[str, ...]


class AlwaysRun(NamedTuple):
    """Tests of every selection: those with one of these markers, and those in these files (globs)."""

    markers: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


class Base(NamedTuple):
    """The default branch and its remote; None where the configuration does not say."""

    branch: str | None = None
    remote: str | None = None


class Config(NamedTuple):
    """greenline.yaml, or its absence. Folders: "" is the repository's root. Globs: see `matcher`."""

    source_roots: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    suites: tuple[DeclaredSuite, ...] = ()
    edges: tuple[Edge, ...] = ()
    cut: tuple[Cut, ...] = ()
    run_all: tuple[str, ...] = ()
    data: tuple[DataRule, ...] = ()
    ignore: tuple[str, ...] = ()
    always_run: AlwaysRun = AlwaysRun()
    base: Base = Base()
    selection: str = "on"
    rooms: Mapping[str, Any] = MappingProxyType({})
    """The keys that other rooms read (:data:`ROOMS`), as valid values of the schema: dicts, lists and text."""


ROOMS = ("evidence", "repair", "rules", "sharding", "store")


def load(root: str | os.PathLike[str], cache_dir: str | os.PathLike[str] | None = None) -> Config:
    """The configuration of the repository at `root`; without a greenline.yaml, the defaults.

    `cache_dir` keeps what was found valid; that it cannot be read or written is no error.
    Raises ConfigError with everything that is wrong in the file.
    """
    path = os.path.join(root, FILE)
    try:
        data = read_regular(path)
    except FileNotFoundError:
        if os.path.lexists(path):
            raise _unusable(f"is a link to {os.readlink(path)}, which is not there", "mend the link") from None
        if os.path.lexists(os.path.join(root, "greenline.yml")):
            raise _unusable("is missing, but there is a greenline.yml", f"rename it to {FILE}") from None
        return Config()
    except OSError as error:
        raise _unusable(f"cannot be read: {error.strerror}", f"{FILE} must be a readable file") from None
    if cache_dir is None:
        return build(parse(data))

    import hashlib
    import marshal

    from greenline.depgraph import cachefile

    folder = os.fspath(cache_dir)
    cached = cachefile.name(folder, "config", hashlib.sha1(_read(SCHEMA) + b"\0" + data).hexdigest())
    values = _from_cache(cached)
    if values is None:
        values = parse(data)
        if cachefile.write(cached, {"values": marshal.dumps(values)}):
            cachefile.prune(folder, "config", keep=4)
    return build(values)


def _from_cache(path: str) -> Any:
    """What parse() once gave, or None."""
    from greenline.depgraph import cachefile

    try:
        file = cachefile.read(path)
        return file.load("values") if file else None
    except (cachefile.Corrupted, KeyError):
        return None


def build(values: Any) -> Config:
    """The tree of valid values: what parse() gave."""

    def texts(value: str | list[str]) -> tuple[str, ...]:
        return (value,) if isinstance(value, str) else tuple(value)

    def folder(path: str) -> str:
        normal = posixpath.normpath(path)
        return "" if normal == "." else normal

    def suite(name: str, root: str, **lists: list[str]) -> DeclaredSuite:
        return DeclaredSuite(name, folder(root), **{key: tuple(value) for key, value in lists.items()})

    def edge(item: dict[str, Any]) -> Edge:
        return Edge(texts(item["from"]), texts(item["to"]), item.get("reason", ""))

    always = values.get("always_run", {})
    return Config(
        source_roots=tuple(map(folder, values.get("source_roots", ()))),
        exclude=tuple(values.get("exclude", ())),
        suites=tuple(suite(**item) for item in values.get("suites", ())),
        edges=tuple(map(edge, values.get("edges", ()))),
        cut=tuple(Cut(*edge(item)) for item in values.get("cut", ())),
        run_all=tuple(values.get("run_all", ())),
        data=tuple(DataRule(texts(item["files"]), texts(item["affects"])) for item in values.get("data", ())),
        ignore=tuple(values.get("ignore", ())),
        always_run=AlwaysRun(tuple(always.get("markers", ())), tuple(always.get("files", ()))),
        base=Base(**values.get("base", {})),
        selection=values.get("selection", "on"),
        rooms=MappingProxyType({key: values[key] for key in ROOMS if key in values}),
    )


# -- reading and checking ------------------------------------------------------------------------------------


def parse(data: bytes) -> dict[str, Any]:
    """The values of a greenline.yaml: dicts, lists and strings that fit the schema. Raises ConfigError."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unusable("is not UTF-8", "save it as UTF-8", data.count(b"\n", 0, error.start) + 1) from None
    if not text.strip():
        raise _unusable("is empty", "delete it, or write a first one with: greenline init --force")
    node = _compose(text)
    if node is None:  # nothing but comments
        return {}
    lines: dict[_Path, int] = {}
    problems: list[Problem] = []
    values = _values(node, (), lines, problems)
    found = [*_check(values, _schema(), ())]
    if not found and not problems:
        found = [*_check_suites(values.get("suites", []))]
    problems += [Problem(lines[path], _key(path), message) for path, message in found]
    if problems:
        raise ConfigError(FILE, tuple(sorted(problems)))
    return dict(values)


def _compose(text: str) -> yaml.Node | None:
    """YAML's nodes, without its types: scalars stay text. None when there are only comments."""
    import yaml

    try:
        for event in yaml.parse(text, Loader=yaml.BaseLoader):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise _unusable("& and * (anchors and aliases) are not read", _QUOTE, line)
            if getattr(event, "tag", None):
                raise _unusable("! (a tag) is not read", _QUOTE, line)
        return yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        if error.context and error.context.endswith(("an alias", "an anchor", "a tag")):
            raise _unusable("& * ! at the start of a value have a meaning in YAML", _QUOTE, line) from None
        if error.problem and "'\\t'" in error.problem:
            raise _unusable("a tab where YAML wants spaces", "indent with spaces", line) from None
        explained = ", ".join(part for part in (error.context, error.problem) if part)
        raise _unusable(f"not valid YAML: {explained}", None, line) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _unusable(f"a character that YAML does not allow: U+{error.character:04X}", None, line) from None
    except RecursionError:
        raise _unusable("is nested too deeply", None) from None


def _values(node: yaml.Node, path: _Path, lines: dict[_Path, int], problems: list[Problem]) -> Any:
    """A node as dicts, lists and strings. Fills in the line of every value, and what is wrong with keys."""
    import yaml

    lines.setdefault(path, _line(node))
    if isinstance(node, yaml.ScalarNode):
        return node.value
    if isinstance(node, yaml.SequenceNode):
        return [_values(item, (*path, index), lines, problems) for index, item in enumerate(node.value)]
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = _line(key_node)
        key = key_node.value
        if not isinstance(key, str):
            problems.append(Problem(line, _key(path), "a list or mapping as key; keys are text"))
        elif key in mapping:
            problems.append(
                Problem(line, _key((*path, key)), f"given again, first in line {lines[*path, key]}; keep one")
            )
        else:
            lines[*path, key] = line
            mapping[key] = _values(value_node, (*path, key), lines, problems)
    return mapping


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1 if node.start_mark else 1


_QUOTE = "put quotes around a value that starts with one of these: '*.md'"
_KINDS: dict[type, str] = {dict: "object", list: "array", str: "string"}
_NAMES = {"object": "a mapping", "array": "a list", "string": "text"}


def _check(value: Any, schema: dict[str, Any], path: _Path) -> Iterator[tuple[_Path, str]]:
    """What in a value does not fit the schema, for the part of JSON Schema that ours uses."""
    schema = _resolved(schema)
    kind = _KINDS[type(value)]
    wanted = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if kind not in wanted:
        expected = " or ".join(_NAMES[item] for item in wanted)
        got = repr(value) if isinstance(value, str) and value else "nothing" if value == "" else _NAMES[kind]
        yield path, f"expected {expected}, got {got}{_example(schema)}"
    elif kind == "object":
        known = schema["properties"]
        for key, item in value.items():
            if key in known:
                yield from _check(item, known[key], (*path, key))
            else:
                yield (*path, key), f"unknown key{_did_you_mean(key, known)} Known keys: {', '.join(known)}"
        for key in schema.get("required", ()):
            if key not in value:
                yield path, f"missing key {key!r}: {known[key]['description']}"
    elif kind == "array":
        if len(value) < schema.get("minItems", 0):
            yield path, f"an empty list{_example(schema)}"
        for index, item in enumerate(value):
            yield from _check(item, schema["items"], (*path, index))
    else:
        message = _check_text(value, schema)
        if message:
            yield path, message


def _check_text(value: str, schema: dict[str, Any]) -> str | None:
    if "enum" in schema and value not in schema["enum"]:
        return f"expected {' or '.join(schema['enum'])}, got {value!r}{_did_you_mean(value, schema['enum'])}"
    if len(value) < schema.get("minLength", 0):
        return f"is empty{_example(schema)}"
    if not re.search(schema.get("pattern", ""), value):
        return f"{value!r} {schema['patternErrorMessage']}"
    if schema.get("format") == "glob":
        try:
            matcher([value])
        except ValueError as error:
            return f"{value!r} is not a glob: {error}"
    return None


def _check_suites(suites: list[dict[str, Any]]) -> Iterator[tuple[_Path, str]]:
    """Names are what people call suites by: each stands once."""
    first: dict[str, int] = {}
    for index, suite in enumerate(suites):
        if first.setdefault(suite["name"], index) != index:
            other = f"suites[{first[suite['name']]}]"
            yield ("suites", index, "name"), f"{suite['name']!r} is the name of {other} too; rename one"


def _did_you_mean(text: str, known: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(text, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else "."


def _example(schema: dict[str, Any]) -> str:
    import json

    return f"; for example {json.dumps(schema['examples'][0])}" if "examples" in schema else ""


def _key(path: _Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


@functools.cache
def _schema() -> dict[str, Any]:
    import json

    schema: dict[str, Any] = json.loads(_read(SCHEMA))
    return schema


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    return {**_resolved(_schema()["$defs"][schema["$ref"].removeprefix("#/$defs/")]), **schema}


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _unusable(message: str, hint: str | None, line: int = 1) -> ConfigError:
    return ConfigError(FILE, (Problem(line, "", message),), hint)
