"""A dependency manifest or lock file changed: which third-party distributions may behave differently?

The answer names distributions; `distributions` maps them to import names. What cannot be tied to a
distribution (the Python version, package indexes, build settings, a file that does not parse) is
``everything``, with a reason.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # the parsers are loaded when a manifest changed
    from greenline.depgraph.manifest import Edge, Manifest


class ManifestDelta(NamedTuple):
    """What a change of one manifest may change in the environment. Names are PEP 503 names.

    ``everything``: it cannot be tied to distributions: select all. Otherwise:
    ``distributions``: ``direct`` and all that require them, as far as the manifest knows.
    ``direct``: those whose own version, source, files, markers, extras or specifier changed; came or went.
    ``required_by``: each of ``distributions`` → those that require it, for the way from one to the other.
    ``closed``: the manifest knows all of that. If False, the dependents must come from another graph
    (`requirement_graph` of the lock, `distributions.installed_requirements`); without one, select all.
    ``members``: first-party project → distributions that an environment made for this project may have gained
    or lost because a requirement changed, not a distribution. With one environment for all: no difference.
    ``first_party``: the repository's own projects whose entry in the manifest changed.
    ``own_version``, ``entry_points``, ``pytest``: these settings of the project itself changed.
    ``reason``: for people.
    """

    distributions: frozenset[str] = frozenset()
    direct: frozenset[str] = frozenset()
    everything: bool = False
    reason: str = ""
    required_by: Mapping[str, frozenset[str]] = {}
    closed: bool = True
    members: Mapping[str, frozenset[str]] = {}
    first_party: frozenset[str] = frozenset()
    own_version: bool = False
    entry_points: bool = False
    pytest: bool = False


_NAMES: dict[str, str] = {
    "uv.lock": "uv",
    "poetry.lock": "poetry",
    "pdm.lock": "pdm",
    "Pipfile.lock": "pipfile_lock",
    "Pipfile": "pipfile",
    "pyproject.toml": "pyproject",
    "setup.cfg": "setup_cfg",
    "setup.py": "setup_py",
    **dict.fromkeys(("uv.toml", "poetry.toml", "hatch.toml", "pixi.toml"), "toml"),
    **dict.fromkeys((".python-version", ".python-versions", ".tool-versions", "runtime.txt", "pixi.lock"), "lines"),
}
_REQUIREMENT_WORDS = ("requirements", "constraints", "reqs")
_REQUIREMENT_STEMS = frozenset(("base", "ci", "dev", "docs", "lint", "local", "main", "prod", "test", "tests"))


def is_manifest(path: str) -> bool:
    """Whether the file declares, locks or configures what is installed. Judged by its name alone."""
    return _kind(path) is not None


def _kind(path: str) -> str | None:
    folder, name = posixpath.split(path)
    stem, _, suffix = name.rpartition(".")
    words = stem.replace("_", "-").replace(".", "-").split("-")
    if name in _NAMES:
        return _NAMES[name]
    if suffix == "toml":
        return "pylock" if stem == "pylock" or stem.startswith("pylock.") else None
    if suffix in ("yml", "yaml"):
        if "conda-lock" in stem:
            return "conda_lock"
        return "conda_environment" if "environment" in words else None
    if suffix == "lock" and stem.endswith(".py"):  # of a script
        return "uv"
    if suffix == "lock" and words[0] == "conda":
        return "lines"
    if suffix in ("txt", "in", "pip", "lock"):
        named = any(word in stem or word in folder.split("/") for word in _REQUIREMENT_WORDS)
        return "requirements" if named or (suffix == "in" and stem in _REQUIREMENT_STEMS) else None
    return None


def compare_manifest(path: str, old: bytes | None, new: bytes | None) -> ManifestDelta:
    """Compare two states of the manifest ``path``; None stands for a missing file.

    Never raises for what is in the file: a state that cannot be read is ``everything``, with the reason.
    """
    if old == new or not ((old or b"").strip() or (new or b"").strip()):
        return ManifestDelta(reason=f"{path}: unchanged")
    if old is None or new is None:
        return _everything(path, "the file was added" if old is None else "the file was deleted")
    texts: list[str] = []
    for side, content in (("before", old or b""), ("after", new or b"")):
        try:
            texts.append(content.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            return _everything(path, f"cannot be read {side} the change: {error}")
    manifests: list[Manifest] = []
    for side, text in zip(("before", "after"), _fold_shared_files(*texts), strict=True):
        try:
            manifests.append(_read(path, text))
        except Exception as error:  # whatever is wrong with the content, the answer is the same
            text = " ".join(str(error).split())
            problem = f"the key {text} is missing" if isinstance(error, KeyError) else text
            return _everything(path, f"cannot be read {side} the change: {problem}")
    return _compare(path, *manifests)


def is_lock(path: str) -> bool:
    """Whether the file tells the versions that were resolved, of itself and what it requires."""
    return _kind(path) in ("uv", "poetry", "pdm", "pylock", "pipfile_lock", "conda_lock")


def read_manifest(path: str, content: bytes) -> Manifest:
    """What one manifest says. Raises :class:`.manifest.ManifestError` where it cannot be read."""
    from greenline.depgraph.manifest import ManifestError

    try:
        return _read(path, content.decode("utf-8-sig"))
    except Exception as error:  # of its parser, or the first key that is missing
        raise ManifestError(" ".join(str(error).split())) from error


def requirement_graph(path: str, content: bytes) -> dict[str, frozenset[str]] | None:
    """Distribution → distributions it requires, from a lock file. None: the file holds no (whole) graph."""
    try:
        manifest = _read(path, content.decode("utf-8-sig"))
    except Exception:  # unreadable: it holds no graph
        return None
    if not manifest.closed:
        return None
    graph = _project_graph(manifest.edges)
    return {name: frozenset(graph.get(name, ())) for name in manifest.entries.keys() | graph.keys()}


def with_dependents(changed: Iterable[str], *graphs: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """``changed`` and everything that requires one of them, directly or not, in the union of the graphs."""
    return reach(changed, _reversed(graphs))


def reach(starts: Iterable[str], *graphs: Mapping[str, Collection[str]]) -> frozenset[str]:
    """``starts`` and every node that can be reached from them in the union of the graphs."""
    seen = set(starts)
    queue = list(seen)
    while queue:
        node = queue.pop()
        for graph in graphs:
            fresh = set(graph.get(node, ())) - seen
            seen |= fresh
            queue += fresh
    return frozenset(seen)


def _read(path: str, text: str) -> Manifest:
    from greenline.depgraph import lock_files, requirement_files

    readers: dict[str, Callable[[str], Manifest]] = {
        "uv": lock_files.read_uv_lock,
        "poetry": lock_files.read_poetry_lock,
        "pdm": lock_files.read_pdm_lock,
        "pylock": lock_files.read_pylock,
        "pipfile_lock": lock_files.read_pipfile_lock,
        "conda_lock": lock_files.read_conda_lock,
        "requirements": requirement_files.read_requirements,
        "pyproject": requirement_files.read_pyproject,
        "setup_cfg": requirement_files.read_setup_cfg,
        "setup_py": requirement_files.read_setup_py,
        "pipfile": requirement_files.read_pipfile,
        "conda_environment": requirement_files.read_conda_environment,
        "toml": requirement_files.read_toml_settings,
        "lines": requirement_files.read_lines,
    }
    return readers[_kind(path) or "lines"](text)


_FILES = r"(?m)^(wheels|files) = (\[\n(?:    \{.*\},?\n)*\])$"


def _fold_shared_files(old: str, new: str) -> tuple[str, str]:
    """Shorten the lists of files that both texts hold: most of a lock file, and of the time to parse it."""
    shared = set(re.findall(_FILES, old)) & set(re.findall(_FILES, new))
    numbers = {found: str(number) for number, found in enumerate(sorted(shared))}

    def fold(match: re.Match[str]) -> str:
        number = numbers.get((match[1], match[2]))
        return match[0] if number is None else f'{match[1]} = ["{number}"]'

    return re.sub(_FILES, fold, old), re.sub(_FILES, fold, new)


def _compare(path: str, old: Manifest, new: Manifest) -> ManifestDelta:
    if settings := _differing(old.settings, new.settings):
        return _everything(path, f"{_some(settings)} changed")
    direct = _differing(old.entries, new.entries)
    graphs = [_project_graph(manifest.edges) for manifest in (old, new)]
    required_by = _among(old.entries.keys() | new.entries.keys(), _reversed(graphs))
    distributions = reach(direct, required_by)
    if "python" in distributions:
        cause = "" if "python" in direct else f": it requires {_some(direct)}"
        return _everything(path, f"python changed{cause}")
    asides = _differing(old.asides, new.asides)
    members = _changed_members(old, new)
    first_party = _differing(old.first_party, new.first_party)
    return ManifestDelta(
        distributions,
        direct,
        reason=f"{path}: {_describe(old, new, direct, distributions, [*members, *first_party], asides)}",
        required_by={name: frozenset(required_by.get(name, ())) for name in distributions},
        closed=(old.closed and new.closed) or not (direct or first_party),
        members=members,
        first_party=first_party,
        own_version="own_version" in asides,
        entry_points="entry_points" in asides,
        pytest="pytest" in asides,
    )


def _changed_members(old: Manifest, new: Manifest) -> dict[str, frozenset[str]]:
    """Which distributions an environment made for one first-party project may have gained or lost.

    Only a requirement that was added, dropped or put under another condition can do that, and only to what it
    leads to; what is required without any condition before and after is there before and after.
    """
    changed = old.edges ^ new.edges
    if not changed:  # by far the most common case
        return {}
    graphs = [_graph(manifest.edges) for manifest in (old, new)]
    certain = [_graph(edge for edge in manifest.edges if not edge.condition) for manifest in (old, new)]
    members: dict[str, set[str]] = {}
    for start in sorted(graphs[0].keys() | graphs[1].keys()):
        member = _project(start)
        if member not in old.first_party or member not in new.first_party:
            continue
        reached = reach([start], *graphs)
        suspects = reach((edge.target for edge in changed if edge.source in reached), *graphs)
        always = reach([start], certain[0]) & reach([start], certain[1])
        # An extra, name[extra], leads to what is installed: to name, and to what the extra adds.
        members.setdefault(member, set()).update((suspects & reached) - always)
    known = old.entries.keys() | new.entries.keys()
    return {name: frozenset(found & known) for name, found in members.items() if found & known}


def _reversed(graphs: Iterable[Mapping[str, Iterable[str]]]) -> dict[str, set[str]]:
    dependents: dict[str, set[str]] = {}
    for graph in graphs:
        for name, required in graph.items():
            for target in required:
                dependents.setdefault(target, set()).add(name)
    return dependents


def _among(distributions: Collection[str], required_by: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same without the repository's own projects, whose code is judged by its own changes.

    What requires such a project requires what the project requires.
    """
    for project in {name for names in required_by.values() for name in names} - set(distributions):
        above = required_by.pop(project, set())
        for names in required_by.values():
            if project in names:
                names.remove(project)
                names |= above - {project}
    return required_by


def _graph(edges: Iterable[Edge]) -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {}
    for edge in edges:
        graph.setdefault(edge.source, set()).add(edge.target)
    return graph


def _project_graph(edges: Iterable[Edge]) -> dict[str, set[str]]:
    """Who requires whom, with extras counted in; not what a project wants for its own development."""
    graph: dict[str, set[str]] = {}
    for edge in edges:
        source, target = _project(edge.source), _project(edge.target)
        if ":" not in edge.source and source != target:
            graph.setdefault(source, set()).add(target)
    return graph


def _project(node: str) -> str:
    return node.split(":")[0].split("[")[0]


def _differing(old: Mapping[str, object], new: Mapping[str, object]) -> frozenset[str]:
    return frozenset(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))


def _everything(path: str, reason: str) -> ManifestDelta:
    return ManifestDelta(everything=True, reason=f"{path}: {reason}", closed=False)


def _describe(
    old: Manifest,
    new: Manifest,
    direct: Collection[str],
    distributions: Collection[str],
    projects: Collection[str],
    asides: Collection[str],
) -> str:
    parts = []
    if direct:
        parts.append(_some(_with_versions(name, old, new) for name in direct))
    if dependents := set(distributions) - set(direct):
        verb = "requires" if len(dependents) == 1 else "require"
        parts.append(f"{_some(dependents)} {verb} {'it' if len(direct) == 1 else 'them'}")
    if projects:
        parts.append(f"first-party entries of {_some(set(projects))}")
    parts += [aside.replace("_", " ") for aside in sorted(asides)]
    return "; ".join(parts) if parts else "nothing that matters changed"


def _with_versions(name: str, old: Manifest, new: Manifest) -> str:
    if name not in old.entries:
        return f"{name} added"
    if name not in new.entries:
        return f"{name} removed"
    before, after = old.versions.get(name, ""), new.versions.get(name, "")
    return f"{name} {before} → {after}" if before != after else f"{name} changed"


def _some(names: Iterable[str], limit: int = 5) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(ordered[:limit]) + more
