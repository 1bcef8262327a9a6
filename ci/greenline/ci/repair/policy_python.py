"""The policy's rules on Python that is no test: what a fix has no business to add.

Both states are parsed and their parts counted: a rule speaks when the new state has more of something than the old.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from typing import TypeVar

from greenline.ci.repair.patch import FileChange
from greenline.ci.repair.policy import Context, Remark

_Seen = TypeVar("_Seen", bound=Hashable)
COMMENTS = re.compile(
    r"#\s*(noqa|type:\s*ignore|pragma|pylint|mypy|pyright|ruff|flake8|fmt|yapf|isort|nosec|nosemgrep|noinspection)\b",
    re.I,
)
_ENDS = re.compile(
    r"(?:sys\.|builtins\.)?(?:exit|quit)|os\.(?:_exit|abort|kill|killpg|exec\w+)|signal\.\w+|atexit\.\w+"
)
_SKIPS = re.compile(
    r"(?:.*\.)?(?:skip|skipif|skipIf|skipUnless|skipTest|SkipTest|xfail|importorskip|expectedFailure|flaky|rerun\w*|reruns)"
)
_REACHES = re.compile(
    r"(?:subprocess|socket|ctypes|multiprocessing|pty|urllib|http|requests|httpx|aiohttp|ftplib|smtplib|telnetlib|pickle"
    r"|marshal|importlib|runpy|code|codeop|builtins|gc|inspect)(?:\..*)?|(?:builtins\.)?(?:eval|exec|compile|__import__|open)"
    r"|os\.(?:system|popen|environ\S*|getenv|putenv|fork|spawn\w*|posix_spawn\w*|remove|unlink|symlink|chmod)"
    r"|sys\.(?:_getframe|settrace|setprofile|modules|meta_path|path\S*|argv|addaudithook|stdin|excepthook)|shutil\.rmtree"
    r"|warnings\.(?:filterwarnings|simplefilter|catch_warnings)"
)
_TESTERS = re.compile(r"(?i)pytest|unittest|PYTEST_CURRENT_TEST|\bconftest\b|_called_from_test|hypothesis")
_BROAD = ("Exception", "BaseException")
_DULL = (0, 1, 2, -1, "", b"", None, True, False, ...)


def remarks(change: FileChange, context: Context) -> Iterator[Remark]:
    """What the rules see in one file."""
    old, new = parsed(change.before), parsed(change.after)
    if new is None:
        if change.after is not None:
            yield Remark("syntax", change.path, "is no valid Python afterwards")
        return
    yield from common(change, old, new)
    found = more(_named(new), _named(old))
    for name in found:
        if _TESTERS.search(name):
            yield Remark("detects-tests", change.path, f"mentions {name}")
        elif _REACHES.fullmatch(name):
            yield Remark("reaches-out", change.path, f"uses {name}", refuse=False)
    for text in more(_strings(new), _strings(old)):
        if _TESTERS.search(text):
            yield Remark("detects-tests", change.path, "names a test runner in a string")
    for what in more(_swallowed(new), _swallowed(old)):
        yield Remark("swallowed", change.path, what, refuse=False)
    for what in more(_hollow(new), _hollow(old)):
        yield Remark("hollow", change.path, what, refuse=False)
    special = more(_compared(new), _compared(old))
    if special:
        yield from _special(change.path, special, context)


def common(change: FileChange, old: ast.Module | None, new: ast.Module) -> Iterator[Remark]:
    """Rules for tests and other code alike: skipping, silencing, ending the process, hooks of pytest."""
    before = _comments(change.before)
    for comment in more(_comments(change.after), before):
        yield Remark("silenced", change.path, f"adds a comment '# {comment}'")
    for name in more(_named(new), _named(old)):
        if _SKIPS.fullmatch(name):
            yield Remark("skip", change.path, f"uses {name}")
        elif _ENDS.fullmatch(name) or name == "SystemExit":
            yield Remark("exit", change.path, f"uses {name}")
    for name in more(_bound(new), _bound(old)):
        if name.startswith("pytest_") or name in (
            "collect_ignore",
            "collect_ignore_glob",
            "__test__",
            "__tracebackhide__",
        ):
            yield Remark("plugin", change.path, f"defines {name}, which pytest reads")


def parsed(data: bytes | None) -> ast.Module | None:
    """The syntax tree, None: no file, or no Python of this version."""
    if data is None:
        return None
    try:
        return ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def more(new: Iterable[_Seen], old: Iterable[_Seen]) -> list[_Seen]:
    """What the new state has more of, each once, in order of appearance."""
    return [*(Counter(iter(new)) - Counter(iter(old)))]


def dotted(node: ast.AST) -> str:
    """A name or attribute as text, what cannot be named as "?"."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return "?"


def _nodes(tree: ast.Module | None) -> Iterator[ast.AST]:
    return iter(()) if tree is None else ast.walk(tree)


def _named(tree: ast.Module | None) -> Iterator[str]:
    """Every name that code uses: the longest dotted ones, imported ones under their real names."""
    real = {}
    for node in _nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                real[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                real[alias.asname or alias.name] = f"{node.module or ''}.{alias.name}"
                yield f"{node.module or ''}.{alias.name}"
    inner = {id(node.value) for node in _nodes(tree) if isinstance(node, ast.Attribute)}
    for node in _nodes(tree):
        if isinstance(node, (ast.Name, ast.Attribute)) and id(node) not in inner:
            head, dot, rest = dotted(node).partition(".")
            yield real.get(head, head) + dot + rest
        elif isinstance(node, ast.keyword) and node.arg:
            yield f"?.{node.arg}" if node.arg in ("reruns", "flaky") else node.arg


def _bound(tree: ast.Module | None) -> Iterator[str]:
    for node in _nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.alias):
            yield node.asname or node.name


def _strings(tree: ast.Module | None) -> Iterator[str]:
    """String constants, parts of f-strings too, without docstrings."""
    prose = {
        id(node.body[0].value)
        for node in _nodes(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in _nodes(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def _comments(data: bytes | None) -> Iterator[str]:
    """The kinds of comments that silence a checker, one for each time."""
    if data is None:
        return
    try:
        for token in tokenize.tokenize(io.BytesIO(data).readline):
            if token.type == tokenize.COMMENT:
                for match in COMMENTS.finditer(token.string):
                    yield re.sub(r"\s+", " ", match[1].lower())
    except (tokenize.TokenError, SyntaxError, ValueError):
        for match in COMMENTS.finditer(data.decode("utf-8", "replace")):
            yield re.sub(r"\s+", " ", match[1].lower())


def _swallowed(tree: ast.Module | None) -> Iterator[str]:
    """Handlers that catch everything, or that do nothing about what they caught (attack 11)."""
    for node in _nodes(tree):
        if isinstance(node, ast.ExceptHandler):
            kinds = [
                dotted(kind)
                for kind in (node.type.elts if isinstance(node.type, ast.Tuple) else [node.type] if node.type else [])
            ]
            name = ", ".join(kinds) or "everything"
            if not any(isinstance(part, ast.Raise) for part in ast.walk(node)):
                broad = not kinds or any(kind.rpartition(".")[2] in _BROAD for kind in kinds)
                if broad or all(
                    isinstance(part, (ast.Pass, ast.Continue, ast.Break, ast.Return, ast.Expr)) for part in node.body
                ):
                    yield f"catches {name} and goes on"
        elif isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] == "suppress":
            yield "suppresses exceptions"
        elif isinstance(node, ast.Try) and any(
            isinstance(part, (ast.Return, ast.Break, ast.Continue)) for part in node.finalbody
        ):
            yield "leaves by finally, which drops exceptions"


def _hollow(tree: ast.Module | None) -> Iterator[str]:
    """Functions that do nothing, or give back a constant."""
    for node in _nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = [
                part for part in node.body if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
            ]
            if all(isinstance(part, ast.Pass) for part in body):
                yield f"{node.name} does nothing"
            elif (
                len(body) == 1
                and isinstance(body[0], ast.Return)
                and isinstance(body[0].value, (ast.Constant, type(None)))
            ):
                yield f"{node.name} gives back a constant"


def _compared(tree: ast.Module | None) -> Iterator[tuple[type, object]]:
    """Constants that decide what code does: in conditions, as keys, as results. With types: 1 is not True."""
    for node in _nodes(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, (ast.If, ast.IfExp, ast.While)):
            parts = [node.test]
        elif isinstance(node, ast.match_case):
            parts = [node.pattern]
        elif isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, (ast.Return, ast.Assign)):
            parts = [node.value]
        elif isinstance(node, ast.Dict):
            parts = [*node.keys, *node.values]
        for part in parts:
            for inner in ast.walk(part) if part else ():
                if isinstance(inner, ast.Constant) and not any(
                    inner.value is dull or (type(inner.value) is type(dull) and inner.value == dull) for dull in _DULL
                ):
                    yield type(inner.value), inner.value


def _special(path: str, constants: list[tuple[type, object]], context: Context) -> Iterator[Remark]:
    """Constants that the failing tests use as well (attack 10)."""
    used = set()
    for file in sorted({node_id.partition("::")[0] for node_id in context.tests}):
        tree = parsed(context.before(file))
        used |= {(type(node.value), node.value) for node in _nodes(tree) if isinstance(node, ast.Constant)}
    for pair in constants:
        if pair in used or (
            isinstance(pair[1], (str, int, float)) and len(str(pair[1])) > 3 and str(pair[1]) in context.excerpt
        ):
            shown = repr(pair[1])
            yield Remark("special-case", path, f"decides by {shown[:40]}, which the failing tests use", refuse=False)
