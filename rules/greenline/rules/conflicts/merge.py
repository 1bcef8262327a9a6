"""The four states of a merge: base, both sides, and what git makes of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from greenline.depgraph.config import Config
from greenline.depgraph.graph import Graph
from greenline.depgraph.index import open_change
from greenline.depgraph.workspace import ABSENT, GitError, NotARepository, Workspace, finish, parse_raw
from greenline.rules.conflicts.infer import World
from greenline.rules.conflicts.tree import IN_WORK, WORK, Blobs, Tree, files_of

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
_IDENTITY = ("-c", "user.name=greenline", "-c", "user.email=greenline@localhost")


class Merge(NamedTuple):
    """One world each for the states. ``textual``: files that git cannot merge. ``moved``: old path → new path of the
    files that the merged state has under another name. ``unknown``: git is too old to merge; files that both sides
    changed are left as ours has them. ``graph``: what the files of base and ours
    depend on. ``linear``: there are no sides, only a last state that worked (``base``) and one
    that does not (``ours``, ``theirs`` and ``merged`` are all this one)."""

    base: World
    ours: World
    theirs: World
    merged: World
    textual: list[str]
    moved: dict[str, str]
    unknown: bool
    graph: Graph
    linear: bool = False

    def before(self, path: str) -> list[World]:
        """The states in which a file of the merged state worked: those of the sides that have it. Without sides, the
        base with this very file in it: what it did not have either is no news."""
        if not self.linear:
            return [side for side in (self.ours, self.theirs) if path in side.tree.files]
        return [World(self.base.tree.holding(path, self.merged.tree.files[path]))]

    def changed(self, side: World) -> set[str]:
        """The files that differ between the base and a side."""
        return differing(self.base.tree, side.tree)


def differing(one: Tree, other: Tree) -> set[str]:
    """Paths whose content is not the same, and those that only one tree has."""
    return {path for path, _ in one.files.items() ^ other.files.items()}


@contextmanager
def open_merge(
    workspace: Workspace, config: Config, base: str, ours: str, theirs: str, merged: str | None = None
) -> Iterator[Merge]:
    """Open the states of a merge. All names are commits or trees; ``merged``: the result, where somebody made it, or
    :data:`WORK` for the work tree.

    Raises :class:`.workspace.GitError` when one of them is not in this clone.
    """
    textual: list[str] = []
    unknown = False
    linear = ours == theirs == merged
    if merged is None:
        try:
            merged, textual = merge_trees(workspace, base, ours, theirs)
        except NotARepository:  # an option that git does not know
            unknown = True
    with Blobs(workspace) as blobs:
        graph = open_change(workspace, config, base, None if ours == WORK else ours).graph
        files = {base: files_of(workspace.entries(base))}
        for name in (ours, theirs, *([merged] if merged else [])):
            if name == WORK:
                files[name] = _files_of_work(workspace)
            elif name not in files:
                files[name] = _files_after(workspace, files[base], base, name)
        together = merged or "merged"
        if unknown:
            files[together] = _by_file(files[base], files[ours], files[theirs])
        worlds = {name: World(Tree(name, each, graph.layout, graph.suites, blobs)) for name, each in files.items()}
        moved = _moved(workspace, base, merged or theirs)
        yield Merge(
            worlds[base], worlds[ours], worlds[theirs], worlds[together], textual, moved, unknown, graph, linear
        )


def merge_trees(workspace: Workspace, base: str, ours: str, theirs: str) -> tuple[str, list[str]]:
    """git's merge without a work tree: the tree, and the files with conflicts. Needs git 2.38."""
    sides = [ours, theirs]
    if workspace.resolve(ours) is None or workspace.resolve(theirs) is None or workspace.merge_base(*sides) != base:
        parent = base if workspace.resolve(base) else _commit(workspace, base)
        sides = [_commit(workspace, side, parent) for side in sides]
    out = workspace.git("merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", *sides, ok=(0, 1))
    tree, *paths = out.split("\0")
    return tree, sorted({path for path in paths if path})


def _commit(workspace: Workspace, name: str, *parents: str) -> str:
    """A commit that no branch has, with the content of ``name`` and these parents."""
    tree = workspace.git("rev-parse", "--verify", name + "^{tree}").strip()
    options = [part for parent in parents for part in ("-p", parent)]
    return workspace.git(*_IDENTITY, "commit-tree", *options, "-m", "merge", tree).strip()


def _files_after(workspace: Workspace, files: dict[str, str], base: str, name: str) -> dict[str, str]:
    found = dict(files)
    for change in parse_raw(finish(workspace.start_diff(base, name))):
        if change.new == ABSENT or not change.new_mode.startswith("100"):
            found.pop(change.path, None)
        else:
            found[change.path] = change.new
    return found


def _files_of_work(workspace: Workspace) -> dict[str, str]:
    """The work tree: files that git knows by their content, the others by :data:`IN_WORK` and their path."""
    head = workspace.resolve("HEAD") or EMPTY_TREE
    found = files_of(workspace.entries(head))
    changed = [change.path for change in parse_raw(finish(workspace.start_diff(head, None)))]
    for path in [*changed, *finish(workspace.start_untracked()).split("\0")[:-1]]:
        found.pop(path, None)
        if os.path.isfile(os.path.join(workspace.root, path)):
            found[path] = IN_WORK + path
    return found


def _by_file(base: dict[str, str], ours: dict[str, str], theirs: dict[str, str]) -> dict[str, str]:
    """What a merge surely has: each file as the side has it that changed it; ours where both did."""
    merged = dict(ours)
    for path in base.keys() | theirs.keys():
        if base.get(path) == ours.get(path):
            merged.pop(path, None)
            if path in theirs:
                merged[path] = theirs[path]
    return merged


def _moved(workspace: Workspace, base: str, name: str) -> dict[str, str]:
    """Files that git takes for renamed between two states."""
    options = ("-z", "-M40%", "--diff-filter=R", "--name-status", base)
    try:
        fields = workspace.git("diff", *options) if name == WORK else workspace.git("diff-tree", "-r", *options, name)
    except GitError:
        return {}
    parts = fields.split("\0")[:-1]
    return dict(zip(parts[1::3], parts[2::3], strict=True))
