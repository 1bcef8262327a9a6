"""Applies fixes to sources, with libcst: formatting and comments stay as they are.

In test files only references may change: after a codemod the assertions must be the same, apart from the names that
the fix declares; else it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from greenline.rules.fixes.assertions import check_assertions
from greenline.rules.fixes.calls import add_argument, add_await, add_keywords, rename_keyword
from greenline.rules.fixes.definitions import drop_duplicate, rename_definition, rename_request
from greenline.rules.fixes.files import merge_migration, rename_file
from greenline.rules.fixes.fix import Fix, Refused
from greenline.rules.fixes.names import (
    add_import,
    move_attribute,
    rename_attribute,
    rename_import,
    rename_module,
    rename_name,
)
from greenline.rules.fixes.strings import rewrite_string
from greenline.rules.fixes.types_only import import_for_types

Codemod = Callable[[Fix, bytes], bytes]
CODEMODS: Mapping[str, Codemod] = {
    "import": rename_import,
    "module": rename_module,
    "attribute": rename_attribute,
    "module-attribute": move_attribute,
    "add-import": add_import,
    "name": rename_name,
    "keyword": rename_keyword,
    "add-keywords": add_keywords,
    "add-argument": add_argument,
    "await": add_await,
    "string": rewrite_string,
    "definition": rename_definition,
    "duplicate": drop_duplicate,
    "request": rename_request,
    "type-checking": import_for_types,
}


def apply(fix: Fix, sources: Mapping[str, bytes]) -> dict[str, bytes | None]:
    """The files that a fix changes, with their new content (None: deleted).

    ``sources``: path → content of the merged state. Raises :class:`.fix.Refused` with the reason when the fix would
    not be safe: the place does not hold what was expected, or a test would assert something else.
    """
    if fix.kind == "file":
        return rename_file(fix, sources)
    if fix.kind == "new-file":
        return {fix.path: merge_migration(fix)}
    source = sources.get(fix.path)
    if source is None:
        raise Refused(f"{fix.path} is not there")
    after = CODEMODS[fix.kind](fix, source)
    if after == source:
        raise Refused(f"{fix.path}:{fix.line} needs no change")
    check_assertions(fix, source, after)
    return {fix.path: after}


def apply_all(fixes: Iterable[Fix], sources: Mapping[str, bytes]) -> tuple[dict[str, bytes | None], list[str]]:
    """All fixes one after the other, the last of a file first, so that positions stay true; and what was refused."""
    changed: dict[str, bytes | None] = {}
    refused = []
    for fix in sorted(set(fixes), key=lambda one: (one.path, -one.line, -one.column, one)):
        current = {**sources, **{path: data for path, data in changed.items() if data is not None}}
        try:
            changed.update(apply(fix, current))
        except Refused as refusal:
            refused.append(f"{fix.path}:{fix.line}: {fix}: {refusal.reason}")
    return changed, refused
