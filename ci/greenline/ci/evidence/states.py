"""The state of the repository in which records hold, and what changed from there to another one."""

from __future__ import annotations

from typing import NamedTuple

from greenline.ci.evidence.reading import Evidence
from greenline.depgraph.config import Config
from greenline.depgraph.index import Opened, open_change
from greenline.depgraph.overlay import FileState
from greenline.depgraph.workspace import ABSENT, UNKNOWN, Workspace, blob_id

LARGEST = 500_000
"""Bytes of an uncommitted file that is kept, to be compared with later; a larger one counts as changed throughout."""


class State(NamedTuple):
    """A commit, and the files of the work tree that differed from it: path → object id, content as latin-1."""

    commit: str
    dirty: dict[str, list[str]]


def state_of(opened: Opened) -> State:
    """The state that a change from a commit to the work tree ends in."""
    dirty = {}
    for change in opened.changes:
        data = opened.contents.get(change.path, change.head)
        if change.head == ABSENT or data is None:
            dirty[change.path] = [ABSENT, ""]
        else:
            dirty[change.path] = [blob_id(data), data.decode("latin-1") if len(data) <= LARGEST else ""]
    return State(opened.base, dirty)


def since_recording(workspace: Workspace, config: Config, evidence: Evidence, head: str | None) -> Opened:
    """The change from the state of the records to a commit, or to the work tree (None). Raises GitError."""
    opened = open_change(workspace, config, evidence.commit, head)
    changes = {change.path: change for change in opened.changes}
    for path, (oid, content) in evidence.dirty.items():
        new = changes[path].head if path in changes else UNKNOWN if head is None else f"{head}:{path}"
        data = opened.contents.get(path, new)
        opened.contents.put(path, oid, content.encode("latin-1"))
        if (ABSENT if data is None else blob_id(data)) == oid:
            changes.pop(path, None)
        else:
            mode = changes[path].mode if path in changes else "100644"
            changes[path] = FileState(path, oid, ABSENT if data is None else new, mode, mode)
    return opened._replace(changes=[changes[path] for path in sorted(changes)])
