"""What the change of a dependency manifest or lock file affects: those who import the distributions that changed."""

from __future__ import annotations

from greenline.ci.selection.found import Found
from greenline.depgraph.index import FileState


def judge(found: Found, state: FileState) -> None:
    from greenline.depgraph.locks import compare_manifest

    contents = found.opened.contents
    delta = compare_manifest(
        state.path, contents.get(state.path, state.base), contents.get(state.path, state.head)
    )
    if delta.everything:
        found.all(delta.reason)
        return
    raise AssertionError(delta)
