"""Opens the graph of a change: the nearest snapshot in the cache, or a new one, with git's own diff laid over it.

    untracked, diff(anchor → head), diff(anchor → base)  →  file states  →  versions  →  :class:`.graph.Graph`

The anchor is whatever commit the snapshot was made of; git says how base and head differ from it, so a snapshot
from a restored CI cache or from another branch serves as well as a fresh one.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from greenline.depgraph import cachefile, snapshot
from greenline.depgraph.config import Config
from greenline.depgraph.factstore import FactStore, Job
from greenline.depgraph.globs import matcher
from greenline.depgraph.graph import Graph, Version
from greenline.depgraph.layout import DISTRIBUTION_FILES, find_layout, is_code, is_module
from greenline.depgraph.linking import Linker
from greenline.depgraph.parallel import map_shares
from greenline.depgraph.scan import Facts
from greenline.depgraph.snapshot import DictModules, Snapshot
from greenline.depgraph.suites import Suite, SuiteError, SuiteIndex, find_suites, is_config_name
from greenline.depgraph.workspace import (
    ABSENT,
    SUBMODULE,
    UNKNOWN,
    Entry,
    GitError,
    RawChange,
    Workspace,
    blob_id,
    finish,
    parse_raw,
)

PACKS_FROM = 24  # files that differ; from here on reading the packs is cheaper than scanning again
NEW_ANCHOR_SHARE = 0.05  # of the snapshot's files, and
NEW_ANCHOR_FROM = 256  # files; when more of them differ, a new snapshot is made
SYMLINK = "120000"
OWN_FOLDER = ".greenline/"
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and of how much."""


class FileState(NamedTuple):
    """A file's object ids at base and head (ABSENT, or UNKNOWN where only its bytes in the work tree tell)."""

    path: str
    base: str
    head: str
    mode: str = "100644"


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
        blobs = [key for key in missing if key[1] != UNKNOWN]
        for key, data in zip(blobs, self._workspace.read_blobs([oid for _, oid in blobs]), strict=True):
            self._known[key] = data

    def get(self, path: str, oid: str) -> bytes | None:
        """The bytes, or None for a file that is absent or cannot be read."""
        if oid == ABSENT:
            return None
        self.fetch([(path, oid)])
        return self._known[path, oid]


class Opened(NamedTuple):
    """A change and its graph. ``suites`` are those of the head; ``warnings`` tell what could not be read."""

    workspace: Workspace
    graph: Graph
    base: str
    head: str | None  # None: the work tree
    changes: list[FileState]  # base ≠ head, sorted by path
    suites: list[Suite]
    warnings: list[str]
    contents: Contents

    def suites_by_name(self) -> dict[str, str]:
        return {suite.name: suite.root for suite in self.suites}

    def read_head(self, path: str) -> bytes | None:
        """A file as it is at the head, whether it changed or not; None if it is not there."""
        return self.contents.get(path, UNKNOWN if self.head is None else f"{self.head}:{path}")


def open_change(
    workspace: Workspace, config: Config, base: str, head: str | None = None, progress: Progress | None = None
) -> Opened:
    """The graph of everything between commit ``base`` and the work tree, or commit ``head``.

    Raises :class:`.workspace.GitError` when a commit is not here.
    """
    try:
        return _open(workspace, config, base, head, progress)
    except cachefile.Corrupted:
        return _open(workspace, config, base, head, progress)  # the bad file is gone


def _open(
    workspace: Workspace, config: Config, base: str, head: str | None, progress: Progress | None
) -> Opened:
    untracked = workspace.start_untracked() if head is None else None
    digest = _digest(config)
    store = FactStore(workspace.cache)
    found = _find_snapshot(workspace, digest, base, head)
    near = head or _head(workspace)
    if found is None or (_is_far(*found) and found[0].meta.anchor != near):
        to_near = _diff(workspace, near, head)
        found = (
            _make_snapshot(workspace, config, digest, near, to_near, store, head is None, progress),
            to_near,
        )
    base_snapshot, to_head = found
    anchor = base_snapshot.meta.anchor
    to_base = _diff(workspace, anchor, base) if base != anchor else []
    if untracked is not None:
        new = finish(untracked).split("\0")[:-1]
        to_head += [RawChange(path, ABSENT, UNKNOWN, "", "100644") for path in new]
    return _lay_over(workspace, config, base_snapshot, to_head, to_base, store)._replace(base=base, head=head)


def list_tests(root: str, paths: Sequence[str], config: Config) -> tuple[list[str], list[Suite], list[str]]:
    """The test files among a folder's files, without a graph: (sorted paths, suites, warnings)."""
    excluded = matcher(config.exclude)
    present = sorted({path for path in paths if not excluded(path)})
    errors: list[SuiteError] = []
    configs = {}
    for path in present:
        if is_config_name(path):
            with contextlib.suppress(OSError), open(os.path.join(root, path), "rb") as file:
                configs[path] = file.read()
    suites = find_suites(configs, _declared(config), errors)
    index = SuiteIndex(suites, present)
    tests = [path for path in present if index.is_test_file(path) and _holds_tests(root, path, index)]
    return tests, suites, [str(error) for error in errors]


def _holds_tests(root: str, path: str, index: SuiteIndex) -> bool:
    try:
        with open(os.path.join(root, path), "rb") as file:
            return not index.only_doctests(path) or b">>>" in file.read()
    except OSError:
        return False


# -- choosing and making snapshots ---------------------------------------------------------------------------


def _find_snapshot(
    workspace: Workspace, digest: str, base: str, head: str | None
) -> tuple[Snapshot, list[RawChange]] | None:
    """The best snapshot in the cache, with what differs from it to the head; None if there is none to be used."""
    paths = [path for path in cachefile.files(workspace.cache, "graph") if path.endswith("-" + digest)]
    paths.sort(key=lambda path: _anchor(path) != base)  # stable: the most recently used comes next
    for path in paths:
        diff = workspace.start_diff(_anchor(path), head)
        file = cachefile.read(path)
        try:
            if file is None:
                cachefile.remove(path)
                finish(diff)
                continue
            found = Snapshot(file)
            changes = parse_raw(finish(diff))
        except GitError:
            continue  # the anchor is not in this clone (any more)
        cachefile.touch(path)
        return found, changes
    return None


def _anchor(path: str) -> str:
    return path.rsplit("-", 2)[-2]


def _is_far(found: Snapshot, changes: Sequence[RawChange]) -> bool:
    modules = sum(is_code(change.path) for change in changes)
    return modules > max(NEW_ANCHOR_FROM, NEW_ANCHOR_SHARE * len(found.paths))


def _diff(workspace: Workspace, old: str, new: str | None) -> list[RawChange]:
    return parse_raw(finish(workspace.start_diff(old, new)))


def _head(workspace: Workspace) -> str:
    head = workspace.resolve("HEAD")
    if head is None:
        raise GitError("the repository has no commit yet", "commit something first")
    return head


def _digest(config: Config) -> str:
    """Of what in the configuration shapes a snapshot."""
    shaping = (config.source_roots, config.exclude, config.suites, config.cut)
    return hashlib.sha1(repr(shaping).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _declared(config: Config) -> list[dict[str, object]]:
    return [
        {key: value for key, value in suite._asdict().items() if value or key == "root"}
        for suite in config.suites
    ]


def cut_of(config: Config) -> Callable[[str, str], bool] | None:
    """Which import edges the configuration leaves out, asked by the paths of importer and imported."""
    if not config.cut:
        return None
    rules = [(matcher(globs_of(cut.from_)), matcher(globs_of(cut.to))) for cut in config.cut]
    return lambda importer, imported: any(left(importer) and right(imported) for left, right in rules)


def globs_of(targets: Iterable[str]) -> list[str]:
    """Globs and dotted modules of the configuration as globs; ``app.engine`` is app/engine.py or what is below it."""
    found = []
    for target in targets:
        if re.fullmatch(r"\w+(\.\w+)+", target) and not target.endswith((".py", ".ipynb")):
            path = target.replace(".", "/")
            found += [f"**/{path}.py", f"**/{path}/**"]
        else:
            found.append(target)
    return found


def _make_snapshot(
    workspace: Workspace,
    config: Config,
    digest: str,
    anchor: str,
    to_head: Sequence[RawChange],
    store: FactStore,
    here: bool,
    progress: Progress | None,
) -> Snapshot:
    """Build the snapshot of a commit and keep it. ``here``: the commit is checked out, up to ``to_head``."""
    gc_was_on = gc.isenabled()
    gc.disable()  # hundreds of thousands of small tuples and no cycles
    try:
        excluded = matcher(config.exclude)
        entries = [entry for entry in workspace.entries(anchor) if not excluded(entry.path)]
        read = _Reader(workspace, {change.path for change in to_head} if here else None)
        links = _links(workspace, entries)
        configs, manifests = _read_special(entries, read)
        errors: list[SuiteError] = []
        suites = find_suites(configs, _declared(config), errors)
        roots = [
            *config.source_roots,
            *(root for suite in suites for root in (suite.root, *suite.pythonpath)),
        ]
        folders = {link: target for link, target in links.items() if not is_module(link)}
        layout = find_layout((entry.path for entry in entries), manifests, roots, folders)
        wanted = _nodes(entries, links, SuiteIndex(suites))
        paths = [entry.path for entry in wanted]
        suite_index = SuiteIndex(suites, paths)
        oids = {entry.path: entry.oid for entry in entries}
        jobs = [
            Job(oids.get(links.get(entry.path, ""), entry.oid), links.get(entry.path) or entry.path) for entry in wanted
        ]
        modules = DictModules(paths, layout)
        ids = {path: node for node, path in enumerate(paths)}
        linker = Linker(
            layout, modules, lambda path: ids.get(path, -1), suite_index, paths, cut_of(config), paths.__getitem__
        )
        store.load_packs()
        owner = os.getpid()

        def work(nodes: list[int]) -> list[tuple[snapshot.Row, tuple[object, ...]]]:
            found = []
            for start in range(0, len(nodes), 256):
                part = nodes[start : start + 256]
                if progress and os.getpid() == owner:
                    progress("reading imports", start, len(nodes))
                for node, facts in zip(part, store.facts([jobs[node] for node in part], read), strict=True):
                    link = linker.link(paths[node], facts, links.get(paths[node], ""))
                    found.append((snapshot.row_of(link), tuple(facts)))
            return found

        found = map_shares(work, range(len(paths)))
        store.add(jobs, (facts for _, facts in found))
        meta = snapshot.Meta(
            anchor,
            digest,
            tuple(sorted(layout.packages)),
            tuple(sorted(layout.roots)),
            tuple(sorted(layout.entry_points.items())),
            tuple(sorted(layout.scripts.items())),
            tuple(sorted(layout.aliases.items())),
            tuple(sorted(configs.items())),
            tuple(tuple(suite) for suite in suite_index.settled()),
            tuple(entry.path for entry in entries if entry.path.endswith(".proto")),
            tuple(str(error) for error in errors),
        )
        sections = snapshot.build(meta, paths, modules, [row for row, _ in found])
        if snapshot.save(workspace.cache, sections, anchor, digest):
            store.save(jobs, merge=True)
        return Snapshot(snapshot.InMemory(sections))
    finally:
        if gc_was_on:
            gc.enable()


def _nodes(entries: Sequence[Entry], links: Mapping[str, str], index: SuiteIndex) -> list[Entry]:
    """The files that become nodes, in the order of a snapshot: code, and texts that pytest takes for doctests."""
    endings = tuple({pattern.rpartition("*")[2] for suite in index.settled() for pattern in suite.doctests})
    wanted = [
        entry
        for entry in entries
        if (is_code(entry.path) or (entry.path.endswith(endings) and index.is_test_file(entry.path)))
        and entry.mode != SUBMODULE
        and (entry.mode != SYMLINK or entry.path in links)
    ]
    return sorted(wanted, key=lambda entry: entry.path.encode("utf-8", "surrogateescape"))


class _Reader:
    """Reads jobs from the work tree where it has the commit's files, else from git's objects."""

    def __init__(self, workspace: Workspace, changed: set[str] | None) -> None:
        self._workspace = workspace
        self._changed = changed
        # git calls a file unchanged that a sparse checkout leaves out.
        self._sparse = os.path.exists(os.path.join(workspace.git_dir, "info", "sparse-checkout"))

    def __call__(self, jobs: Sequence[Job]) -> Iterator[bytes | None]:
        from_git = [job for job in jobs if not self._is_here(job)]
        blobs = dict(zip(from_git, self._workspace.read_blobs([job.oid for job in from_git]), strict=True))
        for job in jobs:
            yield blobs[job] if job in blobs else self._workspace.read(job.path)

    def _is_here(self, job: Job) -> bool:
        if self._changed is None or job.path in self._changed:
            return False
        return not self._sparse or os.path.exists(os.path.join(self._workspace.root, job.path))


def _links(workspace: Workspace, entries: Sequence[Entry]) -> dict[str, str]:
    """Symbolic links that stay in the repository: link → target, both relative to its root."""
    links = [entry for entry in entries if entry.mode == SYMLINK]
    found = {}
    for entry, data in zip(links, workspace.read_blobs([entry.oid for entry in links]), strict=True):
        target = link_target(entry.path, data)
        if target:
            found[entry.path] = target
    return found


def link_target(path: str, data: bytes | None) -> str | None:
    """Where a symbolic link with this content leads, relative to the repository; None if out of it."""
    text = (data or b"").decode("utf-8", "surrogateescape")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), text))
    return None if not text or target.startswith(("/", "..")) or target == "." else target


def _read_special(entries: Sequence[Entry], read: _Reader) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The files that may configure pytest, and the packaging manifests, by path."""
    names = [entry for entry in entries if entry.mode != SYMLINK]
    jobs = [
        Job(entry.oid, entry.path)
        for entry in names
        if is_config_name(entry.path) or entry.path.rpartition("/")[2] in DISTRIBUTION_FILES
    ]
    contents = {job.path: data or b"" for job, data in zip(jobs, read(jobs), strict=True)}
    configs = {path: data for path, data in contents.items() if is_config_name(path)}
    manifests = {
        path: data for path, data in contents.items() if path.rpartition("/")[2] in DISTRIBUTION_FILES
    }
    return configs, manifests


# -- laying a change over ------------------------------------------------------------------------------------


def _lay_over(
    workspace: Workspace,
    config: Config,
    found: Snapshot,
    to_head: Sequence[RawChange],
    to_base: Sequence[RawChange],
    store: FactStore,
) -> Opened:
    contents = Contents(workspace)
    excluded = matcher(config.exclude)
    states: dict[str, FileState] = {}
    for change in to_head:
        mode = change.new_mode if change.new_mode.strip("0") else change.old_mode
        old = (
            states[change.path].base if change.path in states else change.old
        )  # untracked after "git rm --cached"
        states[change.path] = FileState(change.path, old, change.new, mode)
    for change in to_base:
        head = states[change.path].head if change.path in states else change.old
        mode = change.old_mode if change.old_mode.strip("0") else change.new_mode
        states[change.path] = FileState(change.path, change.new, head, mode)
    states = {
        path: _settle(state, contents)
        for path, state in states.items()
        if not excluded(path) and not path.startswith(OWN_FOLDER)
    }
    changes = [state for _, state in sorted(states.items()) if state.base != state.head]

    configs = dict(found.meta.configs)
    touched = [path for path in states if is_config_name(path)]
    for path in touched:
        data = contents.get(path, states[path].head)
        if data is None:
            configs.pop(path, None)
        else:
            configs[path] = data
    warnings = list(found.meta.suite_errors)
    suites = found.suites
    if touched:
        errors: list[SuiteError] = []
        paths = [found.paths[node] for node in range(len(found.paths))]
        suites = SuiteIndex(find_suites(configs, _declared(config), errors), paths).settled()
        warnings = [str(error) for error in errors]

    index = SuiteIndex(suites)
    modules = [state for state in states.values() if is_code(state.path) or index.is_test_file(state.path)]
    modules += _generated(workspace, config, found, states)
    versions = _versions(workspace, modules, contents, store)
    graph = Graph(found, versions, suites if touched else None, cut_of(config))
    return Opened(workspace, graph, "", None, changes, suites, warnings, contents)


def _settle(state: FileState, contents: Contents) -> FileState:
    """Turn UNKNOWN into the base's id where the work tree has the same bytes after all (a stale stat, an undone edit)."""
    if state.head == UNKNOWN and state.base != ABSENT:
        data = contents.get(state.path, UNKNOWN)
        if data is not None and blob_id(data, len(state.base)) == state.base:
            return state._replace(head=state.base)
    return state


def _versions(
    workspace: Workspace, states: Sequence[FileState], contents: Contents, store: FactStore
) -> list[Version]:
    """The facts of the base and head states of these files."""
    keys = [
        (state.path, oid)
        for state in states
        for oid in dict.fromkeys((state.base, state.head))
        if oid != ABSENT
    ]
    contents.fetch(keys)
    jobs = []
    for path, oid in keys:
        data = contents.get(path, oid)
        length = (
            next((len(state.base) for state in states if len(state.base) > 1), 40) if oid == UNKNOWN else 0
        )
        jobs.append(Job(oid if oid != UNKNOWN else blob_id(data or b"", length), path))
    if len(jobs) >= PACKS_FROM:
        store.load_packs()
    bytes_of = dict(zip(jobs, keys, strict=True))
    facts = store.facts(jobs, lambda share: [contents.get(*bytes_of[job]) for job in share])
    if len(jobs) >= PACKS_FROM:
        store.save(jobs, merge=False)
    of_path: dict[str, list[Facts]] = {}
    for (path, _), each in zip(keys, facts, strict=True):
        of_path.setdefault(path, []).append(each)
    links = {
        state.path: link_target(state.path, contents.get(state.path, state.head or state.base)) or ""
        for state in states
        if state.mode == SYMLINK
    }
    return [Version(path, tuple(each), links.get(path, "")) for path, each in of_path.items()]


def _generated(
    workspace: Workspace, config: Config, found: Snapshot, states: Mapping[str, FileState]
) -> list[FileState]:
    """Generated files on disk that git ignores: what declared edges lead to, and protobuf's output."""
    paths = {name for source in found.meta.generators for name in generated_from(source)}
    for edge in config.edges:
        for target in edge.to:
            paths.update(_on_disk(workspace.root, target))
    known = (path for path in paths if path not in states and found.paths.index(path) < 0)
    present = [
        path for path in known if is_module(path) and os.path.isfile(os.path.join(workspace.root, path))
    ]
    return [FileState(path, ABSENT, UNKNOWN) for path in sorted(present)]


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
