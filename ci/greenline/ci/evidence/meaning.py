"""Whether a bare name in one file may mean what another file binds.

What a function calls `run` is an argument, a variable, what its module binds or imports, or a builtin. So where one
module's `run` changes, the others that have one of their own need not count.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from greenline.ci.evidence.names import Names
from greenline.depgraph.index import Opened
from greenline.depgraph.layout import is_code

_INTO_BUILTINS = (
    rb"builtins\s*\.\s*%s\s*=(?!=)|\(\s*(?:__)?builtins\b|__builtins__|builtins\s*\.\s*__dict__|import\s+builtins\s+as"
)


class Meaning:
    """For the head of a change."""

    def __init__(self, opened: Opened, names: Names) -> None:
        self._opened, self._names = opened, names

    def is_made_builtin(self, token: str, files: Iterable[str]) -> bool:
        """Whether a file may make the name one that every module has."""
        pattern = re.compile(_INTO_BUILTINS % re.escape(token).encode())
        near = set(files).intersection((*self._names.files("builtins"), *self._names.files("__builtins__")))
        return any(pattern.search(self._opened.read_head(each) or b"") for each in near if is_code(each))

    def may_have(self, path: str, token: str, of: str) -> bool:
        """Whether a bare name in one file may mean what another one binds."""
        if path == of or self._names.takes_names(path):
            return True
        return any(self._may_bring(path, node, token, of) for node in self._names.imports(path))

    def _may_bring(self, path: str, node: ast.ImportFrom, token: str, of: str) -> bool:
        """Whether an import statement brings a name that another file binds, or that it passes on."""
        imported = [alias.asname or alias.name for alias in node.names]
        if token not in imported and "*" not in imported:
            return False
        graph = self._opened.graph
        value = (node.module, node.level, next((a.name for a in node.names if a.asname == token), token), None)
        resolver, folder = graph.linker().resolver, path.rpartition("/")[0]
        names = list(imported_names(value, graph.layout.package_of(path)))
        found = {graph.path(each) for name in names for each in resolver.targets(name, folder)}
        spelled = (node.module or "").split(".")
        parts = of.removesuffix(".py").removesuffix("/__init__").split("/")
        if spelled[-1] == parts[-1] or of in found:  # by its name, should another be found under it
            return True
        if not found:  # of a distribution, or of a folder that is not known to be imported from
            return bool(node.level) or bool(set(spelled) & set(parts))
        return any(self._may_pass_on(each, token) for each in found)

    def _may_pass_on(self, path: str, token: str) -> bool:
        """Whether importing a name from a file may give what yet another one binds."""
        given = {alias.asname or alias.name for node in self._names.imports(path) for alias in node.names}
        return not is_code(path) or bool(given & {token, "*"}) or self._names.takes_names(path)


def imported_names(value: object, package: list[str]) -> Iterator[str]:
    """The dotted names that one imported name may mean; ``value`` as in :class:`.blocks.Item`."""
    if not isinstance(value, tuple) or value[0] == "TYPE_CHECKING":
        return
    if len(value) == 2:
        yield value[0]
        return
    module, level, name, _ = value
    bases = [module or ""]
    if level:
        bases = []
        for each in package:
            parts = each.split(".")
            up = parts[: len(parts) - level + 1]
            bases.append(".".join([*up, *([module] if module else [])]))
    for base in bases:
        yield base
        yield f"{base}.{name}"
