"""Which files may have a module in hand, so that code in them which lists what something holds may list that module."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Set

from greenline.depgraph.blocks import parse
from greenline.depgraph.resolve import absolute

_ANY_MODULE = re.compile(rb"\b(modules|import_module|__import__|getmodule|find_spec|module_from_spec)\b")


def may_hold(source: bytes, packages: Collection[str], modules: Set[str], name: str) -> bool:
    """Whether a file has one of these modules itself, all of its names, or the one called ``name``.

    ``packages``: those that the file may be in. ``modules``: the names of one module. A file that takes modules by
    computed names may have any; one that only imports other names, or other modules of the same package, has none.
    """
    tree = parse(source)
    if tree is None or not modules or _ANY_MODULE.search(source):
        return True
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            if any(_is_in(module, each.name) or _is_in(each.name, module) for each in node.names for module in modules):
                return True
        elif isinstance(node, ast.ImportFrom):
            bases = absolute("." * node.level + (node.module or ""), packages)
            for each in node.names:
                if each.name in ("*", name) and not modules.isdisjoint(bases):
                    return True
                if any(_is_in(module, f"{base}.{each.name}") for base in bases for module in modules):
                    return True
    return False


def _is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")
