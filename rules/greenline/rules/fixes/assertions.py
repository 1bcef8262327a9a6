"""The judge of every codemod: what tests assert stays as it was, apart from the references that a fix declares."""

from __future__ import annotations

import ast
import posixpath
import re

from greenline.depgraph.blocks import leaf
from greenline.rules.fixes.fix import Fix, Refused

_REFERENCES = frozenset(
    (
        "import", "module", "attribute", "module-attribute", "add-import", "name", "keyword", "add-keywords", "string",
        "request", "definition", "file",
    )
)  # fmt: skip
"""The fixes that change references only: no other may touch a test."""
_ASSERTING = re.compile(r"assert\w*|raises|warns|fail\w*|approx|expect\w*")


def is_test(path: str) -> bool:
    """Whether a file is likely to hold tests or what serves them."""
    folder, name = posixpath.split(path)
    return bool(re.search(r"(^|/)tests?(/|$)", folder)) or bool(re.fullmatch(r"(test_.*|.*_test|conftest)\.py", name))


def check_assertions(fix: Fix, before: bytes, after: bytes) -> None:
    """Raises :class:`.fix.Refused` where a test would assert something else than before."""
    if not fix.path.endswith(".py"):
        return
    if is_test(fix.path) and fix.kind not in _REFERENCES:
        raise Refused("in tests only references are rewritten")
    try:
        old, new = _assertions(fix, before), _assertions(fix, after)
    except (SyntaxError, ValueError):
        raise Refused("the result would not parse") from None
    if is_test(fix.path) and old != new:
        raise Refused("an assertion would change")


def _assertions(fix: Fix, source: bytes) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assert) or (isinstance(node, ast.Call) and _ASSERTING.fullmatch(leaf(node.func))):
            found.append(ast.dump(_Declared(fix).visit(node)))
    return found


class _Declared(ast.NodeTransformer):
    """Spells the references that a fix declares in one way, whichever they had."""

    def __init__(self, fix: Fix) -> None:
        self.fix = fix
        self.old = {fix.old, fix.old.rpartition(".")[2]} - {""}
        self.new = fix.new.rpartition(".")[2]

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self._name(node.id), node.ctx)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if ast.unparse(node) in (self.fix.old, self.fix.new) and "." in self.fix.old:
            return ast.Name(self.fix.new, node.ctx)
        return ast.Attribute(self.visit(node.value), self._name(node.attr), node.ctx)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        keywords = [
            ast.keyword(self._name(one.arg) if one.arg else None, self.visit(one.value)) for one in node.keywords
        ]
        arguments = [self.visit(one) for one in node.args]
        if self.fix.kind == "add-keywords" and leaf(node.func) == self.fix.old:
            arguments += [one.value for one in keywords if one.arg in self.fix.new.split(",")]
            keywords = [one for one in keywords if one.arg not in self.fix.new.split(",")]
        return ast.Call(self.visit(node.func), arguments, keywords)

    def _name(self, name: str) -> str:
        return self.new if name in self.old and self.fix.kind not in ("string", "add-keywords", "file") else name
