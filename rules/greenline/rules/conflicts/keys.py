"""Keys of configuration files, option names and flags: one side removed the last of a word, the other says it anew."""

from __future__ import annotations

import ast
import re
from bisect import bisect_left
from collections.abc import Iterator
from functools import cache

from greenline.depgraph.blocks import leaf
from greenline.rules.conflicts.infer import World
from greenline.rules.conflicts.merge import Merge
from greenline.rules.conflicts.problem import Problem
from greenline.rules.conflicts.report import Found
from greenline.rules.fixes.fix import Fix

_DATA = (".yaml", ".yml", ".toml", ".json", ".ini", ".cfg", ".env")
_KEY = re.compile(r"""^\s*(?:-\s+)?["']?([A-Za-z_][\w.-]*)["']?\s*[:=]\s*(.*?),?\s*$""", re.MULTILINE)
_IN_DICT = re.compile(r"""["']([\w.-]{3,})["']\s*:\s*([^,}\n]*)""")
_OPTION = re.compile(
    r"""(?:option|add_argument|addoption|add_option)\(\s*(?:["'][^"']*["'],\s*)*["'](--[\w-]+)["'](.*)"""
)


def dead_keys(merge: Merge) -> list[Found]:
    """Keys that a side removed everywhere, and that the other side has come to use."""
    if merge.linear:
        return []
    found = []
    for remover, user in ((merge.ours, merge.theirs), (merge.theirs, merge.ours)):
        gone = _gone(merge, remover)
        if gone:
            found += list(_new_uses(merge, remover, user, gone))
    return found


def _gone(merge: Merge, side: World) -> dict[str, tuple[str, int, str]]:
    """Key → file and line in the base, and the key that took its place with the same value ("" for none); no changed
    file defines it any more."""
    gone: dict[str, tuple[str, int, str]] = {}
    kept: set[str] = set()
    for path in sorted(merge.changed(side)):
        before, after = _keys(merge.base, path), _keys(side, path)
        kept |= after.keys()
        fresh = {value: key for key, (_, value) in after.items() if key not in before}
        for key, (line, value) in before.items():
            if key not in after:
                gone.setdefault(key, (path, line, fresh.get(value, "")))
    return {key: place for key, place in gone.items() if key not in kept}


def _keys(world: World, path: str) -> dict[str, tuple[int, str]]:
    """The keys that a file defines: key → line, and its value or what else tells it from others."""
    data = world.tree.read(path)
    if data is None:
        return {}
    text = data.decode("utf-8", "replace")
    if path.endswith(_DATA):
        matches = list(_KEY.finditer(text))
    elif path.endswith(".py"):
        matches = [*_IN_DICT.finditer(text), *_OPTION.finditer(text)]
    else:
        return {}
    ends = [match.start() for match in re.finditer("\n", text)]
    return {match[1]: (bisect_left(ends, match.start(1)) + 1, match[2]) for match in matches}


def _is_said(world: World, key: str) -> bool:
    """Whether Python or data files of a tree still spell a key as a word."""
    word = re.compile(rb"(?<![\w-])%b(?![\w-])" % re.escape(key.encode()))
    for path in world.tree.grep(key):
        if path.endswith((*_DATA, ".py")) and word.search(world.tree.read(path) or b""):
            return True
    return False


def _new_uses(merge: Merge, remover: World, user: World, gone: dict[str, tuple[str, int, str]]) -> Iterator[Found]:
    is_removed = cache(lambda key: key in gone and not _is_said(remover, key))
    anyone = re.compile(rb"|".join(re.escape(key.encode()) for key in sorted(gone)))
    for path in sorted(merge.changed(user)):
        if not path.endswith(".py") or not anyone.search(merge.merged.tree.read(path) or b""):
            continue
        used = [(key, node) for key, node in _used(merge.merged, path) if key in gone]
        before = {key for key, _ in _used(merge.base, path)} if used else set()
        if not used or any(is_removed(key) for key in _keys(user, path)):
            continue  # or it defines the key itself
        for key, node in used:
            if key not in before and is_removed(key):
                home, line, renamed = gone[key]
                at = (path, node.lineno, node.col_offset)
                fix = Fix("string", 27, *at, key, renamed) if renamed else None
                problem = Problem("dead key", *at, "", key, (home, ""), (), node)
                told = f"is now {renamed}" if renamed else "is gone"
                yield Found(problem, 27, "config-key", f"the key {key} of {home} {told}", fix, (home, line))


def _used(world: World, path: str) -> list[tuple[str, ast.Constant]]:
    """Strings used as keys: indices, and arguments without a default beside them."""
    module = world.tree.module(path)
    found = []
    stored: set[object] = set()
    for node in ast.walk(module.tree) if module else ():
        if isinstance(node, ast.Call) and leaf(node.func) in ("setitem", "setenv", "setdefault"):
            stored.update(one.value for one in node.args if isinstance(one, ast.Constant))
        elif (
            isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and isinstance(node.slice, ast.Constant)
        ):
            stored.add(node.slice.value)
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and isinstance(node.slice, ast.Constant):
            found.append(node.slice)
        elif isinstance(node, ast.Call) and len(node.args) == 1 and leaf(node.func) != "get":
            found += _constants(node.args[0])
        elif isinstance(node, ast.Call) and leaf(node.func) not in ("get", "getattr", "pop", "setdefault", "getenv"):
            found += [one for part in node.args for one in _constants(part) if str(one.value).startswith("--")]
    return [(one.value, one) for one in found if isinstance(one.value, str) and one.value not in stored]


def _constants(node: ast.expr) -> list[ast.Constant]:
    parts = node.elts if isinstance(node, ast.List | ast.Tuple) else [node]
    return [part for part in parts if isinstance(part, ast.Constant)]
