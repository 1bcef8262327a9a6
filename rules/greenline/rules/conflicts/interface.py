"""The names whose meaning a side changed: only a file that spells one of them can break because of that side.

This is what keeps the detector fast. It compares what users of a module can see (names, signatures, bases, what is
returned), not how it works inside, and gives plain words: a superset, as no name is resolved.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from greenline.rules.conflicts.infer import is_generator
from greenline.rules.conflicts.merge import Merge, differing
from greenline.rules.conflicts.modules import Binding, Function, Module, members
from greenline.rules.conflicts.results import shape_of
from greenline.rules.conflicts.tree import Tree

ROUNDS = 4
"""How often names that stand for changed ones are looked for: subclasses of subclasses, aliases of aliases."""


IMPLICIT = frozenset(("__init__", "__new__", "__call__", "__enter__", "__exit__", "cls"))
"""Words for what a class does without its name; in a class that derives from it, the head has the name."""


class Changed(NamedTuple):
    """``words``: of all that differs for users of a side; ``local``: names of other libraries that a module does not
    import any more → the files that can have asked the module for them."""

    words: frozenset[str]
    local: dict[str, list[str]]

    def in_file(self, path: str, spelled: Collection[str]) -> frozenset[str]:
        """The words that matter to a file that spells these."""
        folder = path.rpartition("/")[0]
        near = {
            word
            for word, homes in self.local.items()
            for home in homes
            if home.rpartition("/")[0] == folder or _last_name(home) in spelled
        }
        return self.words | near


def changed_names(merge: Merge, tree: Tree) -> Changed:
    """The last names of all that differs between the base and a side (or the merged state) for users of it."""
    base = merge.base.tree
    words: set[str] = set()
    local: dict[str, list[str]] = {}
    for path in sorted(differing(base, tree)):
        for name in _differing(base, tree, path) if path.endswith(".py") else ():
            name, _, module = name.partition(" ")
            if name == MODULE:
                words |= {each.name.rpartition(".")[2] for each in base.layout.names(path)}
            elif module and not base.find(module, path) and not base.is_package(module, path):
                local.setdefault(name, []).append(path)
            else:
                words.update(_words(name))
    for _ in range(ROUNDS):
        found = _stand_ins(merge, words) - words
        if not found:
            break
        words |= found
    return Changed(frozenset(words), local)


def _last_name(path: str) -> str:
    return path.removesuffix("/__init__.py").removesuffix(".py").rpartition("/")[2]


MODULE = "*"
"""Stands for a module that itself came or went, among the names that differ in it."""


def _differing(before: Tree, after: Tree, path: str) -> tuple[str, ...]:
    """The qualified names that differ in a module for its users, those of imports followed by a blank and the module;
    kept by the two contents."""

    def find() -> tuple[str, ...]:
        old, new = before.module(path), after.module(path)
        whole = [MODULE] if old is None or new is None else []
        interfaces = _interface(old), _interface(new)
        hides = old is not None and bool(old.stars)  # a new name can take the place of one from there
        names = [
            _with_origin(name, interfaces[0].get(name, _NOTHING)[1])
            for name in _differing_names(*interfaces)
            if hides or name in interfaces[0] or name.rpartition(".")[0] in interfaces[0]
        ]
        return (*whole, *sorted(names))

    oids = (before.files.get(path, ""), after.files.get(path, ""))
    return before.blobs.facts("differing", oids, find)


def _with_origin(name: str, bound: list[Binding]) -> str:
    origins = {one.module for one in bound if one.kind in ("import", "module")}
    return f"{name} {origins.pop()}" if len(origins) == 1 and len(bound) == 1 else name


def _words(name: str) -> list[str]:
    owner, _, last = name.rpartition(".")
    if owner and last in IMPLICIT:
        return [owner.rpartition(".")[2], last, "cls"]
    return [last, owner.rpartition(".")[2]] if owner else [last]


Interface = dict[str, tuple[bytes, list[Binding]]]


def _differing_names(before: Interface, after: Interface) -> Iterator[str]:
    for name in before.keys() | after.keys():
        (old_text, old), (text, new) = before.get(name, _NOTHING), after.get(name, _NOTHING)
        if (not old or not new or old_text != text) and list(map(_seen, old)) != list(map(_seen, new)):
            yield name


_NOTHING: tuple[bytes, list[Binding]] = (b"", [])


def _interface(module: Module | None) -> Interface:
    """Qualified name → its source, and how it is bound."""
    found: Interface = {}
    if module is not None:
        lines = module.source.splitlines()
        for name, bound in module.names.items():
            _add(found, lines, name, bound)
        for star in module.stars:
            found[star.rpartition(".")[2]] = (b"", [Binding("star", module.tree)])
    return found


def _add(found: Interface, lines: list[bytes], name: str, bound: list[Binding]) -> None:
    node = bound[-1].node
    first, last = getattr(node, "lineno", 1), getattr(node, "end_lineno", 0)
    decorators = getattr(node, "decorator_list", [])
    first = min([first, *(one.lineno for one in decorators)])
    found[name] = (b"\n".join(lines[first - 1 : last]) if len(bound) == 1 else b"", bound)
    if isinstance(node, ast.ClassDef):
        inner = members(node)
        for attribute in inner.on_self:
            found[f"{name}.{attribute}"] = (b"", [Binding("on self", node)])
        for attribute, each in inner.names.items():
            _add(found, lines, f"{name}.{attribute}", each)


def _seen(binding: Binding) -> str:
    node = binding.node
    if isinstance(node, Function):
        marks = " ".join(ast.unparse(one) for one in node.decorator_list)
        returns = ast.unparse(node.returns) if node.returns else ""
        generator = is_generator(node)
        kind = type(node).__name__
        return f"{kind} {marks} ({ast.unparse(node.args)}) {returns} {generator} {shape_of(node, generator)}"
    if isinstance(node, ast.ClassDef):
        return " ".join(ast.unparse(one) for one in (*node.decorator_list, *node.bases)) + f" {binding.sure}"
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return ast.unparse(node) if len(ast.dump(node)) < 20_000 else str(binding.kind)
    return f"{binding.kind} {binding.module} {binding.name}"


_LINES = re.compile(rb"^ *class +\w+\([^:]+|^ *(?:from|import) .* as .*$|^ +\w+ as \w+,?$|^\w+ = [\w.]+$", re.MULTILINE)
_STAND_IN = re.compile(r"class\s+(\w+)\(((?s:.*))|(\w+) as (\w+)|^(\w+) = ([\w.]+)$")


def _stand_ins(merge: Merge, words: set[str]) -> set[str]:
    """Names of classes that derive from one of these, of imports under another name, and plain aliases."""
    found = set()
    for world in (merge.ours, merge.theirs) if merge.unknown else (merge.merged,):
        for name, *origins in world.tree.stand_ins(stand_ins_of):
            if not words.isdisjoint(origins):
                found.add(name)
    return found


def stand_ins_of(data: bytes) -> tuple[str, ...]:
    """The names in a file that stand for others, each with these, parted by blanks."""
    lines = (match[0].decode("utf-8", "replace") for match in _LINES.finditer(data))
    found = [one for line in lines for one in _STAND_IN.findall(line)]
    return tuple(
        " ".join((derived or new or alias, *re.findall(r"\w+", bases or old or target)))
        for derived, bases, old, new, alias, target in found
    )
