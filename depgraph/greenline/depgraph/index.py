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
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from greenline.depgraph import cachefile, overlay, snapshot
from greenline.depgraph.config import Config
from greenline.depgraph.factstore import FactStore, Job
from greenline.depgraph.globs import matcher
from greenline.depgraph.graph import Graph
from greenline.depgraph.layout import find_layout
from greenline.depgraph.linking import Linker
from greenline.depgraph.overlay import SYMLINK, Contents, FileState
from greenline.depgraph.parallel import map_shares
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
    finish_in_background,
    parse_raw,
    parse_tree,
    read_regular,
)

NEW_ANCHOR_SHARE = 0.05  # of the snapshot's files, and
NEW_ANCHOR_FROM = 256  # files; when more of them differ, a new snapshot is made
REGULAR = "100644"
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and of how much."""


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
    progress: Progress | None = None  # for whoever has long to do with it

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
        opened = _open(workspace, config, base, head, progress)
    except cachefile.Corrupted:
        opened = _open(workspace, config, base, head, progress)  # the bad file is gone
    return opened._replace(progress=progress)


def _open(workspace: Workspace, config: Config, base: str, head: str | None, progress: Progress | None) -> Opened:
    listing = workspace.start_untracked() if head is None else None
    digest = _digest(config)
    store = FactStore(workspace.cache)
    found = _find_snapshot(workspace, digest, base, head)
    near = head or _head(workspace)
    tree = finish_in_background(workspace.start_entries(near)) if found is None else None
    first_diff = finish_in_background(workspace.start_diff(near, head)) if found is None else None
    untracked = [] if listing is None else _untracked(workspace, finish(listing))
    replaced: dict[str, bytes | None] = {}
    while True:
        if found is not None:
            there, to_head = found
            anchor = there.meta.anchor
            to_base = _diff(workspace, anchor, base) if base != anchor else []
            diff = overlay.diff_of(workspace, config, anchor, [*to_head, *untracked], to_base)
            replaced = replaced or overlay.reshaped(diff)
            if not replaced or there.meta.replaced:
                compared = overlay.compare(workspace, config, cut_of(config), there, diff)
                far = max(NEW_ANCHOR_FROM, NEW_ANCHOR_SHARE * len(there.paths))
                if anchor == near or len(compared.wanted) < far:
                    graph = overlay.lay_over(compared, store)
                    warnings = list(there.meta.suite_errors)
                    suites = compared.suites
                    return Opened(workspace, graph, base, head, diff.changes(), suites, warnings, diff.contents)
            if anchor != near:
                replaced = {}
        to_near = parse_raw(first_diff()) if first_diff else _diff(workspace, near, head)
        made = _snapshot_of(workspace, config, digest, near, to_near, store, head is None, replaced, progress, tree)
        found = made, to_near


def _untracked(workspace: Workspace, listed: str) -> list[RawChange]:
    """Files that git does not track, as changes. Other checkouts of this repository are none of it."""
    changes = []
    for path in listed.split("\0")[:-1]:
        if path.endswith("/"):
            if not workspace.is_own_worktree(path):
                changes.append(RawChange(path.rstrip("/"), ABSENT, UNKNOWN, "", SUBMODULE))
        else:
            mode = SYMLINK if os.path.islink(os.path.join(workspace.root, path)) else REGULAR
            changes.append(RawChange(path, ABSENT, UNKNOWN, "", mode))
    return changes


def list_tests(root: str, paths: Sequence[str], config: Config) -> tuple[list[str], list[Suite], list[str]]:
    """The test files among a folder's files, without a graph: (sorted paths, suites, warnings)."""
    excluded = matcher(config.exclude)
    present = sorted({path for path in paths if not excluded(path)})
    errors: list[SuiteError] = []
    configs = {}
    for path in present:
        if is_config_name(path):
            with contextlib.suppress(OSError):
                configs[path] = read_regular(os.path.join(root, path))
    suites = find_suites(configs, _declared(config), errors)
    index = SuiteIndex(suites, present)
    tests = [path for path in present if index.is_test_file(path) and _holds_tests(root, path, index)]
    return tests, suites, [str(error) for error in errors]


def _holds_tests(root: str, path: str, index: SuiteIndex) -> bool:
    target = os.path.join(root, path)
    if not index.only_doctests(path):
        return os.path.isfile(target)
    try:
        return b">>>" in read_regular(target)
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
    return _sha1(shaping)


def _sha1(value: object) -> str:
    return hashlib.sha1(repr(value).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _declared(config: Config) -> list[dict[str, object]]:
    return [{key: value for key, value in suite._asdict().items() if value or key == "root"} for suite in config.suites]


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


def _snapshot_of(
    workspace: Workspace,
    config: Config,
    digest: str,
    anchor: str,
    to_head: Sequence[RawChange],
    store: FactStore,
    here: bool,
    replaced: Mapping[str, bytes | None],
    progress: Progress | None,
    tree: Callable[[], str] | None,
) -> Snapshot:
    """The snapshot of a commit; a new one is kept. ``here``: the commit is checked out, up to ``to_head``;
    ``tree``: the listing of its files, if git was started already.

    ``replaced``: content of configuration files that holds instead of the commit's (None: there is no such file).
    """
    if replaced:
        digest = _sha1((digest, sorted(replaced.items())))
    file = cachefile.read(snapshot.file_name(workspace.cache, anchor, digest))
    if file is not None:
        return Snapshot(file)
    gc_was_on = gc.isenabled()
    gc.disable()  # hundreds of thousands of small tuples and no cycles
    try:
        excluded = matcher(config.exclude)
        listed = parse_tree(tree()) if tree else workspace.entries(anchor)
        entries = [entry for entry in listed if overlay.is_ours(entry.path, excluded)]
        read = _Reader(workspace, {change.path for change in to_head} if here else None)
        links = _links(workspace, entries, replaced)
        configs, manifests = _read_special(entries, read, replaced)
        errors: list[SuiteError] = []
        suites = find_suites(configs, _declared(config), errors)
        roots = [*config.source_roots, *(root for suite in suites for root in (suite.root, *suite.pythonpath))]
        layout = find_layout((entry.path for entry in entries), manifests, roots, snapshot.folders_among(links))
        files = {entry.path: entry.oid for entry in entries if entry.mode not in (SYMLINK, SUBMODULE)}
        ends = {link: end for link in links if (end := snapshot.follow(link, links)) in files}
        wanted = _nodes(entries, ends, SuiteIndex(suites))
        paths = [entry.path for entry in wanted]
        suite_index = SuiteIndex(suites, paths)
        jobs = [Job(files[path], path) for path in (ends.get(path, path) for path in paths)]
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
                    progress("first run here: reading imports", start, len(nodes))
                for node, facts in zip(part, store.facts([jobs[node] for node in part], read), strict=True):
                    link = linker.link(paths[node], facts, ends.get(paths[node], ""))
                    found.append((snapshot.row_of(link), tuple(facts)))
            return found

        found = map_shares(work, range(len(paths)))
        store.add(jobs, (facts for _, facts in found))
        meta = snapshot.Meta(
            anchor,
            digest,
            tuple(sorted(layout.own_packages)),
            tuple(sorted(layout.own_roots)),
            tuple(sorted(layout.entry_points.items())),
            tuple(sorted(layout.scripts.items())),
            tuple(sorted(links.items())),
            tuple(sorted(configs.items())),
            tuple(tuple(suite) for suite in suites),
            tuple(tuple(suite) for suite in suite_index.settled()),
            tuple(entry.path for entry in entries if entry.path.endswith(".proto")),
            tuple(str(error) for error in errors),
            bool(replaced),
        )
        sections = snapshot.build(meta, paths, modules, [row for row, _ in found])
        if snapshot.save(workspace.cache, sections, anchor, digest):
            store.save(jobs, merge=True)
        return Snapshot(snapshot.InMemory(sections))
    finally:
        if gc_was_on:
            gc.enable()


def _nodes(entries: Sequence[Entry], ends: Mapping[str, str], index: SuiteIndex) -> list[Entry]:
    """The files that become nodes, in the order of a snapshot. ``ends``: where symbolic links lead to."""
    is_node = overlay.node_rule(index)
    wanted = [entry for entry in entries if is_node(entry.path, entry.mode, entry.path in ends)]
    return sorted(wanted, key=lambda entry: entry.path.encode("utf-8", "surrogateescape"))


class _Reader:
    """Reads jobs from the work tree where it has the commit's files, else from git's objects."""

    def __init__(self, workspace: Workspace, changed: set[str] | None) -> None:
        self._workspace = workspace
        self._changed = changed
        # git calls a file unchanged that a sparse checkout leaves out.
        self._sparse = workspace.may_be_sparse()

    def __call__(self, jobs: Sequence[Job]) -> Iterator[bytes | None]:
        here = {job: self._workspace.read(job.path) for job in jobs if self._is_here(job)}
        same = {job: data for job, data in here.items() if data is not None and blob_id(data, len(job.oid)) == job.oid}
        from_git = [job for job in jobs if job not in same]
        blobs = dict(zip(from_git, self._workspace.read_blobs([job.oid for job in from_git]), strict=True))
        for job in jobs:
            data = same.get(job, blobs.get(job))
            # A filter may encrypt what git keeps: then only the work tree can be read.
            yield here.get(job) if data is None or (job in here and b"\0" in data) else data

    def _is_here(self, job: Job) -> bool:
        if self._changed is None or job.path in self._changed:
            return False
        return not self._sparse or os.path.exists(os.path.join(self._workspace.root, job.path))


def _links(workspace: Workspace, entries: Sequence[Entry], replaced: Mapping[str, bytes | None]) -> dict[str, str]:
    """Symbolic links that stay in the repository: link → target, both relative to its root."""
    links = [entry for entry in entries if entry.mode == SYMLINK]
    found = {}
    for entry, data in zip(links, workspace.read_blobs([entry.oid for entry in links]), strict=True):
        target = overlay.link_target(entry.path, data)
        if target:
            found[entry.path] = target
    for path, data in replaced.items():
        if not overlay.is_special(path):
            found.pop(path, None)
            if data is not None:
                found[path] = data.decode("utf-8", "surrogateescape")
    return found


def _read_special(
    entries: Sequence[Entry], read: _Reader, replaced: Mapping[str, bytes | None]
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The files that may configure pytest, and the packaging manifests, by path."""
    jobs = [Job(entry.oid, entry.path) for entry in entries if entry.mode != SYMLINK and overlay.is_special(entry.path)]
    contents = {job.path: data or b"" for job, data in zip(jobs, read(jobs), strict=True)}
    for path in filter(overlay.is_special, replaced):
        data = replaced[path]
        if data is None:
            contents.pop(path, None)
        else:
            contents[path] = data
    configs = {path: data for path, data in contents.items() if is_config_name(path)}
    return configs, {path: data for path, data in contents.items() if overlay.is_manifest(path)}
