"""What two sides make of the environment: manifests and lock files that do not agree, and imports of what is gone.

Each state is read as an installer reads it. What fails in the merged state and on neither side is a conflict.
"""

from __future__ import annotations

import ast
import json
import posixpath
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from greenline.depgraph.blocks import leaf
from greenline.depgraph.distributions import import_names, is_developer_tool
from greenline.depgraph.locks import is_lock, is_manifest, read_manifest
from greenline.depgraph.manifest import ManifestError, normalise
from greenline.rules.conflicts.infer import World
from greenline.rules.conflicts.merge import Merge
from greenline.rules.conflicts.problem import Problem
from greenline.rules.conflicts.report import Found

if TYPE_CHECKING:  # loaded when a manifest changed
    from packaging.requirements import Requirement

NUMBER = 21


class Disagreement(NamedTuple):
    """Why an installer refuses a manifest: ``about`` stays the same when versions move; ``other``: the place that it
    does not fit."""

    path: str
    line: int
    about: str
    told: str
    other: tuple[str, int]


def environment_problems(merge: Merge) -> list[Found]:
    """Manifests and lock files of both sides that do not fit together."""
    ours, theirs = (sorted(path for path in merge.changed(side)) for side in (merge.ours, merge.theirs))
    mine, others = ({path for path in side if _describes(path)} for side in (ours, theirs))
    found = [_found(each) for each in _unreadable(merge, mine & others)] if mine and others else []
    if mine and others and not found:
        before = [merge.base] if merge.linear else [merge.ours, merge.theirs]
        known = {each.about for side in before for each in _disagreements(side)}
        found += [_found(each) for each in _disagreements(merge.merged) if each.about not in known]
    for side, paths, removing in ((merge.ours, ours, others), (merge.theirs, theirs, mine)):
        removing = {path for path in removing if is_manifest(path)}
        if removing and not merge.linear:  # without sides nobody can tell who imports it and who removed it
            found += _imports_of_removed(merge, side, paths, removing)
    return found


def _describes(path: str) -> bool:
    return is_manifest(path) or path.endswith((".toml", ".json"))


def _found(each: Disagreement) -> Found:
    problem = Problem("manifest", each.path, each.line, 0, "", each.about, (each.other[0], ""))
    return Found(problem, NUMBER, "environment", each.told, None, each.other)


# -- files that cannot be read -------------------------------------------------------------------------------


def _unreadable(merge: Merge, paths: Collection[str]) -> Iterator[Disagreement]:
    """Files that both sides changed, that git merged, and that are no TOML or JSON any more: a key is there twice."""
    for path in sorted(set(paths) - set(merge.textual)):
        before = [_syntax_error(side, path) for side in ([merge.base] if merge.linear else [merge.ours, merge.theirs])]
        why = _syntax_error(merge.merged, path)
        if why and not any(before):
            line = re.search(r"line (\d+)", why)
            yield Disagreement(
                path, int(line[1]) if line else 1, "unreadable", f"{path} cannot be read: {why}", (path, 0)
            )


def _syntax_error(world: World, path: str) -> str:
    data = world.tree.read(path)
    try:
        text = (data or b"").decode("utf-8-sig")
        if path.endswith(".toml") or posixpath.basename(path) in ("uv.lock", "poetry.lock", "pdm.lock"):
            tomllib.loads(text)
        elif path.endswith(".json") or posixpath.basename(path) == "Pipfile.lock":
            json.loads(text)
    except ValueError as error:
        return str(error)
    return ""


# -- what an installer refuses -------------------------------------------------------------------------------


def _disagreements(world: World) -> list[Disagreement]:
    found: list[Disagreement] = []
    for path in sorted(world.tree.files):
        if is_manifest(path) and not is_lock(path):
            wanted = [(line, each) for line, each in _requirements(world, path) if each.url is None]
            found += _against_lock(world, path, wanted)
            found += _twice(path, wanted)
    return found


def _requirements(world: World, path: str) -> list[tuple[int, Requirement]]:
    """The requirements of pyproject.toml (PEP 621 and 735) and of pip's lists, with their lines."""
    lines = _lines(world, path)
    if posixpath.basename(path) == "pyproject.toml":
        try:
            table = tomllib.loads("\n".join(lines))
        except tomllib.TOMLDecodeError:
            return []
        project = table.get("project", {})
        groups = [project.get("dependencies", []), *project.get("optional-dependencies", {}).values()]
        groups += table.get("dependency-groups", {}).values()
        spelled = [each for group in groups for each in group if isinstance(each, str)]
        return [(_line_of(lines, each), one) for each in spelled for one in _parsed(each)]
    if not path.endswith((".txt", ".in", ".pip")):
        return []
    plain = ((at, re.sub(r"\s+(#.*|--hash\S.*|\\)$", "", line.strip())) for at, line in enumerate(lines, 1))
    return [(at, one) for at, line in plain if line and line[0] not in "#-." for one in _parsed(line)]


def _parsed(text: str) -> list[Requirement]:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return [Requirement(text)]
    except InvalidRequirement:
        return []


def _lines(world: World, path: str) -> list[str]:
    return (world.tree.read(path) or b"").decode("utf-8", "replace").splitlines()


def _line_of(lines: list[str], text: str) -> int:
    return next((at for at, line in enumerate(lines, 1) if text in line), 1)


def _against_lock(world: World, path: str, wanted: Iterable[tuple[int, Requirement]]) -> Iterator[Disagreement]:
    """Requirements that the lock file does not hold, or in a version that they do not take."""
    lock = _lock_of(world, path)
    try:
        locked = read_manifest(lock, world.tree.read(lock) or b"") if lock else None
    except ManifestError:
        return
    for line, each in wanted if locked else ():
        assert locked is not None
        name = normalise(each.name)
        if each.marker is not None or name in locked.first_party:
            continue
        versions = [one for one in locked.versions.get(name, "").split(" and ") if one]
        if name not in locked.entries:
            yield Disagreement(path, line, f"{path} {name} locked", f"{lock} does not hold {name}", (lock, 0))
        elif versions and not any(each.specifier.contains(one, prereleases=True) for one in versions):
            told = f"{path} wants {each}; {lock} holds {name} {locked.versions[name]}"
            yield Disagreement(
                path, line, f"{path} {name} version", told, (lock, _line_of(_lines(world, lock), each.name))
            )


def _lock_of(world: World, path: str) -> str:
    """The lock file for a manifest: beside a pyproject.toml or above it; for pip's `.in` the compiled `.txt`."""
    folder, name = posixpath.split(path)
    if name.endswith(".in"):
        compiled = path.removesuffix(".in") + ".txt"
        return compiled if compiled in world.tree.files else ""
    while name == "pyproject.toml":
        for lock in ("uv.lock", "poetry.lock", "pdm.lock", "pylock.toml"):
            if posixpath.join(folder, lock) in world.tree.files:
                return posixpath.join(folder, lock)
        if not folder:
            break
        folder = posixpath.dirname(folder)
    return ""


def _twice(path: str, wanted: Iterable[tuple[int, Requirement]]) -> Iterator[Disagreement]:
    """A distribution that pip finds twice in one list, each time otherwise."""
    seen: dict[str, tuple[int, Requirement]] = {}
    for line, each in wanted if path.endswith(".txt") else ():
        name = normalise(each.name)
        at, first = seen.setdefault(name, (line, each))
        if first.specifier != each.specifier and first.marker is None and each.marker is None:
            told = f"{path} wants {first} and {each}: pip refuses both together"
            yield Disagreement(path, line, f"{path} {name} twice", told, (path, at))


# -- imports of what is gone ---------------------------------------------------------------------------------


def _imports_of_removed(merge: Merge, side: World, paths: Iterable[str], manifests: Iterable[str]) -> list[Found]:
    """New imports of one side from a distribution that the other took out of every manifest and lock file."""
    gone = _distributions(merge.base, manifests)
    if gone.keys() <= _distributions(merge.merged, manifests).keys():
        return []
    left = _distributions(merge.merged, merge.merged.tree.files)
    gone = {name: path for name, path in gone.items() if left and name not in left}
    given = {module for modules in import_names(left).values() for module in modules}
    found = []
    modules = {module: name for name, names in import_names(gone).items() for module in names - given}
    words = {module.partition(".")[0].encode() for module in modules}
    for path in paths:
        if path.endswith(".py") and path in merge.merged.tree.files:
            source = side.tree.read(path) or b""
            if not any(word in source for word in words):
                continue
            before = {module for _, module in _imports(merge.base, path)}
            for line, spelled in _imports(side, path):
                module = next((one for one in modules if f"{spelled}.".startswith(f"{one}.")), "")
                if module and spelled not in before and not _is_there(merge, side, path, module):
                    name = modules[module]
                    problem = Problem("manifest", path, line, 0, "", f"import {name}", (gone[name], ""))
                    message = f"{path} imports {module}, and {name} is required nowhere any more"
                    was = gone[name], _line_of(_lines(merge.base, gone[name]), name)
                    found.append(Found(problem, NUMBER, "environment", message, None, was))
    return found


def _distributions(world: World, paths: Iterable[str]) -> dict[str, str]:
    """What these manifests and lock files name, each with one of the files; nothing where one cannot be read."""
    found: dict[str, str] = {}
    for path in sorted(paths):
        if is_manifest(path) and path in world.tree.files:
            try:
                named = read_manifest(path, world.tree.read(path) or b"").entries
            except ManifestError:
                return {}
            found |= {name: path for name in named if not is_developer_tool(name)}
    return found


def _imports(world: World, path: str) -> list[tuple[int, str]]:
    module = world.tree.module(path)
    return list(_unguarded(module.tree)) if module else []


def _unguarded(node: ast.AST) -> Iterator[tuple[int, str]]:
    """The absolute imports below a node that no fallback and no condition guards: line and name."""
    if isinstance(node, ast.Import):
        yield from ((node.lineno, alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.lineno, node.module
    elif isinstance(node, ast.Try | ast.If):
        for part in [*node.orelse, *getattr(node, "finalbody", [])]:
            yield from _unguarded(part)
    elif not (isinstance(node, ast.With) and any(leaf(item.context_expr) == "suppress" for item in node.items)):
        for part in ast.iter_child_nodes(node):
            if isinstance(part, ast.stmt | ast.excepthandler | ast.match_case):
                yield from _unguarded(part)


def _is_there(merge: Merge, side: World, path: str, module: str) -> bool:
    """Whether the repository has the module itself, or the side that dropped the distribution goes on importing it."""
    other = merge.theirs if side is merge.ours else merge.ours
    if merge.merged.tree.find(module, path) or merge.merged.tree.is_package(module, path):
        return True
    return bool(other.tree.grep_lines(rf"^ *(from|import) +{re.escape(module)}\b"))
