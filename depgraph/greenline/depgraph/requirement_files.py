"""Files that declare what a project wants: requirement lists, pyproject.toml, setup files, Pipfile, conda.

Each function takes the text of one file and returns a `Manifest`; a malformed one raises as in `lock_files`.
None of them holds a full graph, save what pip-compile and ``uv pip compile`` note in ``# via`` comments.
"""

from __future__ import annotations

import ast
import configparser
import posixpath
import re
import tomllib
from collections.abc import Iterator
from typing import Any

from greenline.depgraph.lock_files import read_yaml
from greenline.depgraph.manifest import (
    Edge,
    Manifest,
    ManifestError,
    canonical,
    collect,
    flatten,
    in_order,
    normalise,
    parse_requirement,
)

# Tables of tools that read code or write releases; no test sees them. Unknown tables are assumed to matter.
_INERT_TOOL = re.compile(
    "autoflake|autopep8|bandit|basedpyright|black|blue|bumpver|bumpversion|check-manifest|check-wheel-contents"
    "|cibuildwheel|codespell|commitizen|coverage|deptry|djlint|doc8|docformatter|flake8|importlinter|interrogate"
    "|isort|mypy|numpydoc_validation|pep8|pycln|pycodestyle|pydocstyle|pylint|pyrefly|pyright|pytype|pyupgrade"
    "|refurb|repo-review|ruff|semantic_release|tach|tomlsort|towncrier|ty|typos|vulture|yapf"
)
_INERT_KEY = re.compile(
    "authors?|author[_-]email|classifiers?|description|description[_-]file|documentation|download[_-]url"
    "|home[_-]?page|keywords|license|licenses|license[_-]files?|long[_-]description"
    "|long[_-]description[_-]content[_-]type|maintainers?|maintainer[_-]email|platforms?|project[_-]urls|readme"
    "|repository|summary|urls?"
)
_PROJECT_ASIDES = {
    "version": "own_version",
    "scripts": "entry_points",
    "gui-scripts": "entry_points",
    "entry-points": "entry_points",
    "plugins": "entry_points",  # Poetry's word
}
_Entries = list[tuple[str, str]]

# pip's requirement lists

_COMMENT = re.compile(r"(?:^|\s)#(.*)$")
_PER_REQUIREMENT = re.compile(r"\s(--(?:hash|config-settings?|global-option|install-option)(?:=|\s+)\S+)")
_EDITABLE = re.compile(r"(?:-e|--editable)[\s=]\s*(\S+)")
_EGG = re.compile(r"#(?:.*&)?egg=([\w.-]+)")
_WHEEL = re.compile(r"([A-Za-z0-9_.]+)-[^/-]+(?:-[^/-]+){2,4}\.whl(?:#.*)?$")
_PINNED = re.compile(r"===?\s*([^\s;,]+)")


def read_requirements(text: str) -> Manifest:
    """pip's format: requirements.txt, constraints.txt and the .in files they are compiled from."""
    entries: _Entries = []
    edges: set[Edge] = set()
    settings: dict[str, str] = {}
    versions: dict[str, str] = {}
    closed = True
    for line, comments in _logical_lines(text):
        options = sorted(_PER_REQUIREMENT.findall(line))
        bare = _PER_REQUIREMENT.sub("", line).strip()
        editable = _EDITABLE.match(bare)
        name, found = _named(editable[1] if editable else bare)
        if name is None:  # an option for all, or a project without a name whose requirements we do not see
            key = re.split(r"[\s=]", line)[0] if line.startswith("-") else "a requirement without a name"
            settings[key] = settings.get(key, "") + line + "\n"
            continue
        entries.append((name, canonical([found, options, bool(editable)])))
        if pin := _PINNED.search(bare):
            versions[name] = pin[1]
        via = _via(comments)
        closed = closed and via is not None
        edges.update(Edge(source, name) for source in via or ())
    return Manifest(collect(entries), settings, frozenset(edges), closed, versions=versions)


def _logical_lines(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each requirement or option with the comments on it and below it (where compilers say ``# via``)."""
    current: tuple[str, list[str]] | None = None
    pending = ""
    for physical in text.splitlines():
        comment = _COMMENT.search(physical)
        code = physical[: comment.start()].rstrip() if comment else physical.rstrip()
        if code.endswith("\\"):
            pending += code[:-1] + " "
            continue
        if code := (pending + code).strip():
            if current:
                yield current
            current = (code, [])
        pending = ""
        if current and comment:
            current[1].append(comment[1].strip())
        elif not physical.strip() and current:  # a blank line ends what belongs to a requirement
            yield current
            current = None
    if pending.strip():
        raise ManifestError("the last line ends in a backslash")
    if current:
        yield current


def _named(requirement: str) -> tuple[str | None, str]:
    """The distribution that a requirement names, and a canonical text; None for a folder or a bare URL."""
    if wheel := _WHEEL.match(posixpath.basename(requirement)):
        return normalise(wheel[1]), requirement
    if egg := _EGG.search(requirement):
        return normalise(egg[1]), requirement
    parsed = parse_requirement(requirement)
    if parsed is None or "@ file:" in requirement:
        return None, requirement
    return parsed


def _via(comments: list[str]) -> set[str] | None:
    """The distributions that a ``# via`` comment names; None without such a comment."""
    names: set[str] = set()
    inside = False
    for comment in comments:
        if comment.startswith("via"):
            inside, comment = True, comment[3:]
        if inside:
            # "-r base.in" and "app (pyproject.toml)" are the repository's own: they have a space.
            parts = (part.strip() for part in comment.split(","))
            names.update(normalise(part.split("[")[0]) for part in parts if part and " " not in part)
    return names if inside else None


# pyproject.toml


def read_pyproject(text: str) -> Manifest:
    data = tomllib.loads(text)
    project = data.pop("project", {})
    tools = data.pop("tool", {})
    entries: _Entries = []
    settings: dict[str, str] = {}
    asides: dict[str, str] = {}
    local: set[str] = set()
    own = normalise(project.get("name", tools.get("poetry", {}).get("name", "")))

    entries += _groups("project", {"dependencies": project.pop("dependencies", [])}, settings)
    entries += _groups("project.optional-dependencies", project.pop("optional-dependencies", {}), settings)
    entries += _groups("dependency-groups", data.pop("dependency-groups", {}), settings)
    _read_project("project", project, settings, asides)

    if pytest := tools.pop("pytest", None):
        asides["pytest"] = in_order(pytest)
    tools = {tool: table for tool, table in tools.items() if not _INERT_TOOL.fullmatch(tool)}
    if poetry := tools.pop("poetry", None):
        entries += _poetry(poetry, settings, local)
        _read_project("tool.poetry", poetry, settings, asides)
    pdm = tools.get("pdm", {})
    entries += _groups("tool.pdm.dev-dependencies", pdm.pop("dev-dependencies", {}), settings)
    uv = tools.get("uv", {})
    for key in ("dev-dependencies", "constraint-dependencies", "override-dependencies"):
        entries += _groups("tool.uv", {key: uv.pop(key, [])}, settings)
    for name, source in uv.pop("sources", {}).items():
        if isinstance(source, dict) and ("workspace" in source or "path" in source):
            local.add(normalise(name))
        entries.append((normalise(name), canonical(["tool.uv.sources", source])))
    tools = {tool: table for tool, table in tools.items() if table or tool not in ("uv", "pdm")}
    settings.update(flatten({**data, **({"tool": tools} if tools else {})}))

    found = collect(entries)
    if own in found:  # extras that name extras of the project itself: they regroup what is installed
        settings["project.optional-dependencies"] = canonical(sorted(found.pop(own)))
    first_party = {name: canonical(sorted(found.pop(name))) for name in sorted(local)}
    return Manifest(found, settings, first_party=first_party, asides=asides)


def _read_project(prefix: str, table: dict[str, Any], settings: dict[str, str], asides: dict[str, str]) -> None:
    for key, value in table.items():
        if aside := _PROJECT_ASIDES.get(key):
            asides[aside] = asides.get(aside, "") + in_order([prefix, key, value])
        elif not _INERT_KEY.fullmatch(key):
            settings.update(flatten(value, f"{prefix}.{key}"))


def _groups(prefix: str, groups: dict[str, list[Any]], settings: dict[str, str]) -> _Entries:
    entries: _Entries = []
    for group, lines in groups.items():
        for line in lines:
            if isinstance(line, str) and (requirement := parse_requirement(line.removeprefix("-e "))):
                entries.append((requirement.name, f"{prefix}.{group}: {requirement.text}"))
            else:  # {include-group = "test"}, or nothing we know
                settings[f"{prefix}.{group}"] = settings.get(f"{prefix}.{group}", "") + in_order(line)
    return entries


def _poetry(table: dict[str, Any], settings: dict[str, str], local: set[str]) -> _Entries:
    groups = {"dependencies": table.pop("dependencies", {}), "dev": table.pop("dev-dependencies", {})}
    for name, group in table.pop("group", {}).items():
        groups[f"group.{name}"] = group.pop("dependencies", {})
        if group:
            settings.update(flatten(group, f"tool.poetry.group.{name}"))
    python = groups["dependencies"].pop("python", None)
    settings["tool.poetry.dependencies.python"] = in_order(python)
    entries: _Entries = []
    for group, required in groups.items():
        for name, value in required.items():
            if isinstance(value, dict) and "path" in value:
                local.add(normalise(name))
            entries.append((normalise(name), f"{group}: {canonical(value)}"))
    return entries


# setuptools

_INERT_SECTION = re.compile(
    rf"(tool:)?({_INERT_TOOL.pattern})([:-].*)?"  # mypy-numpy.*, coverage:run
    "|aliases|bdist_wheel|build_sphinx|check|egg_info|sdist|upload|upload_docs"
)


def read_setup_cfg(text: str) -> Manifest:
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    entries: _Entries = []
    settings: dict[str, str] = {}
    asides: dict[str, str] = {}
    for section in parser.sections():
        values = dict(parser.items(section))
        if section == "options.extras_require":
            entries += _groups(section, {key: _lines(value) for key, value in values.items()}, settings)
            continue
        if section == "options":
            for key in ("install_requires", "tests_require"):
                entries += _groups(section, {key: _lines(values.pop(key, ""))}, settings)
        elif section == "metadata":
            if "version" in values:
                asides["own_version"] = values.pop("version")
            values = {key: value for key, value in values.items() if not _INERT_KEY.fullmatch(key)}
        elif section in ("options.entry_points", "tool:pytest"):
            asides["pytest" if section == "tool:pytest" else "entry_points"] = in_order(values)
            continue
        elif _INERT_SECTION.fullmatch(section):
            continue
        settings.update({f"{section}.{key}": value for key, value in values.items()})
    return Manifest(collect(entries), settings, asides=asides)


def _lines(value: str) -> list[str]:
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in value.split("\n"))
    return [line for line in lines if line]


def read_setup_py(text: str) -> Manifest:
    """The program without comments and formatting; a mere module of that name says nothing."""
    if not re.search(r"\b(setuptools|distutils|setup\s*\()", text):
        return Manifest({})
    return Manifest({}, {"the program": ast.dump(ast.parse(text))})


# other formats


def read_pipfile(text: str) -> Manifest:
    data = tomllib.loads(text)
    settings: dict[str, Any] = {}
    for key in ("source", "requires", "scripts", "pipenv"):
        settings[key] = data.pop(key, None)
    entries: _Entries = []
    first_party: dict[str, str] = {}
    for section, packages in data.items():
        for name, value in packages.items():
            if isinstance(value, dict) and "path" in value:
                first_party[normalise(name)] = canonical([section, value])
            else:
                entries.append((normalise(name), canonical([section, value])))
    return Manifest(collect(entries), flatten(settings), first_party=first_party)


def read_conda_environment(text: str) -> Manifest:
    data = read_yaml(text)
    if "dependencies" not in data:
        raise ManifestError("no dependencies")
    entries: _Entries = []
    settings = flatten({key: value for key, value in data.items() if key not in ("dependencies", "name")})
    # conda-lock reads "# [linux]" after a requirement.
    settings["selectors"] = in_order(sorted(re.findall(r"(?m)^\s*(.*#\s*\[.+\])\s*$", text)))
    for item in data["dependencies"] or []:
        if isinstance(item, dict):
            listed = read_requirements("\n".join(item.pop("pip", None) or []))
            entries += [(name, f"pip: {found}") for name, texts in listed.entries.items() for found in texts]
            settings.update({f"pip {key}": value for key, value in listed.settings.items()})
            settings.update(flatten(item, "dependencies"))
            continue
        match = re.match(r"(?:\S+::)?([A-Za-z0-9_.-]+)\s*(.*)$", item)
        if match is None:
            raise ManifestError(f"{item!r} under dependencies is not a conda requirement")
        entries.append((normalise(match[1]), in_order(item.split())))
    return Manifest(collect(entries), settings)


def read_lines(text: str) -> Manifest:
    """Files of which only comments and blank lines are known not to matter."""
    lines = (line.strip() for line in text.splitlines())
    return Manifest({}, {"the content": in_order([line for line in lines if line and not line.startswith("#")])})


def read_toml_settings(text: str) -> Manifest:
    return Manifest({}, flatten(tomllib.loads(text)))
