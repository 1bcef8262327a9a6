"""How the base and the head of a change differ from a snapshot, and the snapshot's graph with that laid over it.

    diff(anchor → head), diff(anchor → base)  →  :class:`Diff`  →  :class:`Overlay`  →  :class:`.graph.Graph`

Whatever the anchor is, the graph comes out the same.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from greenline.depgraph.config import Config
from greenline.depgraph.factstore import FactStore, Job
from greenline.depgraph.globs import matcher
from greenline.depgraph.graph import Graph, Version
from greenline.depgraph.layout import DISTRIBUTION_FILES, is_code, is_module, read_manifest
from greenline.depgraph.snapshot import Snapshot, follow
from greenline.depgraph.suites import Suite, SuiteError, SuiteIndex, is_config_name, leads_into, read_config
from greenline.depgraph.workspace import ABSENT, SUBMODULE, UNKNOWN, RawChange, Workspace, blob_id

PACKS_FROM = 24  # files that differ; from here on reading the packs is cheaper than scanning again
SYMLINK = "120000"
OWN_FOLDER = ".greenline/"
NOWHERE = "!"
"""Object id of what cannot be read."""
LINK = "->"
"""Asks :class:`Contents` for where a symbolic link in the work tree leads to."""
NodeRule = Callable[[str, str, bool], bool]
"""Whether a file belongs into the graph: asked with its path, its mode, and whether a link leads to a file."""


class FileState(NamedTuple):
    """A file's object ids at base and head (ABSENT, or UNKNOWN where only its bytes in the work tree tell)."""

    path: str
    base: str
    head: str
    base_mode: str
    head_mode: str

    @property
    def mode(self) -> str:
        """git's mode at the head, or of a deleted file at the base."""
        return self.base_mode if self.head == ABSENT else self.head_mode


class Contents:
    """The bytes of file versions of the change, read once."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._known: dict[tuple[str, str], bytes | None] = {}

    def fetch(self, wanted: Iterable[tuple[str, str]]) -> None:
        """Read many (path, object id) at once."""
        missing = [key for key in dict.fromkeys(wanted) if key not in self._known and key[1] != ABSENT]
        for key in missing:
            if key[1] == UNKNOWN:
                self._known[key] = self._workspace.read(key[0])
            elif key[1] == LINK:
                self._known[key] = self._workspace.read_link(key[0])
        blobs = [key for key in missing if key[1] not in (UNKNOWN, LINK)]
        for key, data in zip(blobs, self._workspace.read_blobs([oid for _, oid in blobs]), strict=True):
            self._known[key] = data

    def put(self, path: str, oid: str, data: bytes) -> None:
        """A version that git does not have."""
        self._known[path, oid] = data

    def get(self, path: str, oid: str) -> bytes | None:
        """The bytes, or None for a file that is absent or cannot be read."""
        if oid == ABSENT:
            return None
        self.fetch([(path, oid)])
        return self._known[path, oid]


class Diff(NamedTuple):
    """How the base and the head of a change differ from an anchor."""

    anchor: str
    states: dict[str, FileState]
    anchors: dict[str, tuple[str, str]]  # path → object id and mode at the anchor
    contents: Contents

    def changes(self) -> list[FileState]:
        """The change itself: what differs between base and head, sorted by path."""
        return [state for _, state in sorted(self.states.items()) if state.base != state.head]

    def link(self, path: str, oid: str, mode: str) -> str | None:
        """Where a symbolic link leads to; None for what is none, and for a link out of the repository."""
        if mode != SYMLINK or oid == ABSENT:
            return None
        return link_target(path, self.contents.get(path, LINK if oid == UNKNOWN else oid))


def diff_of(
    workspace: Workspace, config: Config, anchor: str, to_head: Sequence[RawChange], to_base: Sequence[RawChange]
) -> Diff:
    """The files that are not at base and head what they are at the anchor."""
    excluded = matcher(config.exclude)
    diff = Diff(anchor, {}, {}, Contents(workspace))
    states, anchors = diff.states, diff.anchors
    for path, old, new, old_mode, new_mode in to_head:
        if path in states:  # untracked after "git rm --cached"
            states[path] = states[path]._replace(head=new, head_mode=new_mode)
        elif is_ours(path, excluded):
            states[path] = FileState(path, old, new, old_mode, new_mode)
            anchors[path] = old, old_mode
    for path, old, new, old_mode, new_mode in to_base:
        if path in states:
            states[path] = states[path]._replace(base=new, base_mode=new_mode)
        elif is_ours(path, excluded):
            states[path] = FileState(path, new, old, new_mode, old_mode)
            anchors[path] = old, old_mode
    _settle(workspace, diff)
    return diff


def _settle(workspace: Workspace, diff: Diff) -> None:
    """Turn UNKNOWN into the base's id where the work tree has the same content: a touched file, or an undone edit."""
    differ = []
    for path, state in diff.states.items():
        if state.head == UNKNOWN and state.base != ABSENT:
            data = diff.contents.get(path, LINK if state.head_mode == SYMLINK else UNKNOWN)
            if data is not None and blob_id(data, len(state.base)) == state.base:
                diff.states[path] = state._replace(head=state.base)
            elif data is not None and state.head_mode != SYMLINK and "\n" not in path:
                differ.append(path)
    if differ:
        for path, oid in zip(differ, workspace.ids_after_filters(differ), strict=False):
            if oid == diff.states[path].base:
                diff.states[path] = diff.states[path]._replace(head=oid)
    for path, (oid, mode) in diff.anchors.items():
        if diff.states[path] == FileState(path, oid, oid, mode, mode):
            del diff.states[path]


def reshaped(diff: Diff) -> dict[str, bytes | None]:
    """The head's configuration files and links to folders, if with them the whole graph has another shape; else {}."""
    shapers: dict[str, bytes | None] = {}
    same = True
    for path, state in diff.states.items():
        oid, mode = diff.anchors[path]
        if is_special(path) and SYMLINK not in (mode, state.head_mode):
            data = diff.contents.get(path, state.head)
            same = same and _shape(path, data) == _shape(path, diff.contents.get(path, oid))
            shapers[path] = data
        elif SYMLINK in (mode, state.head_mode) and not is_code(path):
            target = diff.link(path, state.head, state.head_mode)
            same = same and target == diff.link(path, oid, mode)
            shapers[path] = target.encode("utf-8", "surrogateescape") if target else None
    return {} if same else shapers


def _shape(path: str, data: bytes | None) -> list[object]:
    """What a configuration file says of suites and source roots."""
    if data is None:
        return []
    said: list[object] = [read_manifest(path, data)] if is_manifest(path) else []
    if is_config_name(path):
        try:
            said.append(read_config(path, data))
        except SuiteError as error:
            said.append(str(error))
    return [each for each in said if each is not None]


class _Wanted(NamedTuple):
    """A version of a file, to be laid over. ``oid`` names the bytes of ``source``, which for a link is another file."""

    path: str
    source: str
    oid: str


class Overlay(NamedTuple):
    """What is to be laid over a snapshot. ``graph`` knows the names of all files, but not yet what they import."""

    graph: Graph
    diff: Diff
    wanted: list[_Wanted]
    suites: list[Suite]


def compare(
    workspace: Workspace, config: Config, cut: Callable[[str, str], bool] | None, there: Snapshot, diff: Diff
) -> Overlay:
    """What is to be laid over a snapshot. ``cut``: edges that the configuration leaves out."""
    states = diff.states
    is_node = node_rule(SuiteIndex(there.configured))
    links = _links_at_head(there, diff)
    wanted = [each for state in states.values() for each in _versions_of(state, diff, links, is_node)]
    wanted += [_Wanted(path, path, UNKNOWN) for path in _generated(workspace, config, there, states)]
    relinked = any(SYMLINK in (state.head_mode, diff.anchors[path][1]) for path, state in states.items())
    followed = [link for link, _ in there.meta.links if link not in states]
    followed = [link for link in followed if relinked or follow(link, links) in states]
    for link in followed:
        if is_node(link, SYMLINK, True):
            wanted += _versions_of_link(link, links, diff)
    known = {each.path for each in wanted}
    added = [path for path in known if there.paths.index(path) < 0]
    gone = [path for path in (*states, *followed) if path not in known and there.paths.index(path) >= 0]
    suites = _settled(there, diff, known)
    graph = Graph(there, added, gone, suites if suites != there.suites else None, cut)
    for node in sorted(graph.stale()):
        path = graph.path(node)
        if path in links:
            wanted += _versions_of_link(path, links, diff)
        elif path not in known:
            wanted.append(_Wanted(path, path, f"{diff.anchor}:{path}"))
    wanted = list(dict.fromkeys(wanted))
    return Overlay(graph, diff, wanted, suites)


def _versions_of(state: FileState, diff: Diff, links: Mapping[str, str], is_node: NodeRule) -> list[_Wanted]:
    """The versions of a changed file that belong into the graph."""
    found = []
    for oid, mode in ((state.base, state.base_mode), (state.head, state.head_mode)):
        if oid != ABSENT and is_node(state.path, mode, True):
            if mode != SYMLINK:
                found.append(_Wanted(state.path, state.path, oid))
            elif target := diff.link(state.path, oid, mode):
                found += _versions_of_link(state.path, {**links, state.path: target}, diff)
    return list(dict.fromkeys(found))


def _versions_of_link(path: str, links: Mapping[str, str], diff: Diff) -> list[_Wanted]:
    """What a symbolic link leads to at base and head; nothing for a dangling one."""
    end = follow(path, links)
    state = diff.states.get(end)
    oids = [f"{diff.anchor}:{end}"]
    if state is not None:
        sides = ((state.base, state.base_mode), (state.head, state.head_mode))
        oids = [oid for oid, mode in sides if oid != ABSENT and mode not in (SYMLINK, SUBMODULE)]
    elif diff.contents.get(end, oids[0]) is None:
        oids = []
    return [_Wanted(path, end, oid) for oid in dict.fromkeys(oids)]


def _links_at_head(there: Snapshot, diff: Diff) -> dict[str, str]:
    links = dict(there.meta.links)
    for path, state in diff.states.items():
        links.pop(path, None)
        target = diff.link(path, state.head, state.head_mode)
        if target:
            links[path] = target
    return links


def _settled(there: Snapshot, diff: Diff, known: set[str]) -> list[Suite]:
    """The suites as the head's files settle them: testpaths that lead nowhere count as unset."""
    new = {path for path in known if path not in diff.states or diff.states[path].head != ABSENT}
    old = {path for path in diff.states if path not in new}
    come_and_gone = [path for path in (*new, *old) if (there.paths.index(path) < 0) == (path in new)]
    if not leads_into(there.configured, come_and_gone):
        return there.suites
    paths = (there.paths[node] for node in range(len(there.paths)))
    return SuiteIndex(there.configured, [*(path for path in paths if path not in old), *new]).settled()


def lay_over(overlay: Overlay, store: FactStore) -> Graph:
    """The graph with everything in it."""
    contents = overlay.diff.contents
    contents.fetch((each.source, each.oid) for each in overlay.wanted)
    jobs = [_job(each, overlay.diff) for each in overlay.wanted]
    if len(jobs) >= PACKS_FROM:
        store.load_packs()
    bytes_of = {job: contents.get(each.source, each.oid) for each, job in zip(overlay.wanted, jobs, strict=True)}
    facts = store.facts(jobs, lambda share: [bytes_of[job] for job in share])
    if len(jobs) >= PACKS_FROM:
        store.save(jobs, merge=False)
    states = zip(overlay.wanted, facts, strict=True)
    overlay.graph.lay_over(
        [Version(path, each, "" if source == path else source) for (path, source, _), each in states]
    )
    return overlay.graph


def _job(wanted: _Wanted, diff: Diff) -> Job:
    data = diff.contents.get(wanted.source, wanted.oid)
    if data is None:
        return Job(NOWHERE, wanted.source)
    return Job(wanted.oid if wanted.oid.isalnum() else blob_id(data, len(diff.anchor)), wanted.source)


def _generated(workspace: Workspace, config: Config, found: Snapshot, states: Mapping[str, FileState]) -> list[str]:
    """Generated files on disk that git ignores: what declared edges lead to, and protobuf's output."""
    sources = {*found.meta.generators, *states}
    sources -= {path for path, state in states.items() if state.base == state.head == ABSENT}
    paths = {name for source in sources for name in generated_from(source)}
    for edge in config.edges:
        for target in edge.to:
            paths.update(_on_disk(workspace.root, target))
    known = (path for path in paths if path not in states and found.paths.index(path) < 0)
    return sorted(path for path in known if is_module(path) and os.path.isfile(os.path.join(workspace.root, path)))


def generated_from(source: str) -> tuple[str, ...]:
    """The Python files that protoc makes of a ``.proto`` file, beside it; () for other files."""
    if not source.endswith(".proto"):
        return ()
    stem = source[: -len(".proto")].replace("-", "_")
    return stem + "_pb2.py", stem + "_pb2_grpc.py"


def _on_disk(root: str, target: str) -> Iterator[str]:
    """The files below the root that a glob of the configuration matches; nothing for a dotted module."""
    if not target.endswith((".py", "*")) and "/" not in target:
        return
    import glob

    for path in glob.iglob(target, root_dir=root, recursive=True, include_hidden=True):
        yield path.replace(os.sep, "/")


# -- what belongs into the graph ------------------------------------------------------------------------------


def is_ours(path: str, excluded: Callable[[str], bool]) -> bool:
    return not path.startswith(OWN_FOLDER) and not excluded(path)


def node_rule(index: SuiteIndex) -> NodeRule:
    """Tells whether a file, by its path and mode, belongs into the graph: code, and texts that may hold doctests.

    Of symbolic links those belong into it that lead to a file of the repository.
    """
    endings = tuple({pattern.rpartition("*")[2] for suite in index.settled() for pattern in suite.doctests})

    def is_node(path: str, mode: str, leads: bool) -> bool:
        if mode == SUBMODULE or (mode == SYMLINK and not leads):
            return False
        return is_code(path) or (path.endswith(endings) and index.is_test_file(path))

    return is_node


def link_target(path: str, data: bytes | None) -> str | None:
    """Where a symbolic link with this content leads, relative to the repository; None if out of it."""
    text = (data or b"").decode("utf-8", "surrogateescape")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), text))
    return None if not text or target.startswith(("/", "..")) or target == "." else target


def is_special(path: str) -> bool:
    return is_config_name(path) or is_manifest(path)


def is_manifest(path: str) -> bool:
    return path.rpartition("/")[2] in DISTRIBUTION_FILES
