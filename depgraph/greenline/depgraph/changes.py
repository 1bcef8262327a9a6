"""What kinds of change lie between two versions of a Python file: the rows of the evidence table.

:func:`.blocks.compare` says which names changed; here is said how, because who can notice depends on it: a body
only those who run it, a signature also those who name the function, a statement everyone who imports the module.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from greenline.depgraph.blocks import (
    Function,
    Item,
    bound_names,
    by_name,
    class_head,
    items,
    leaf,
    same,
    same_order,
    same_statements,
)

BODY = "body"
COMPILED = "body under a decorator"
DEFAULT = "default"
SIGNATURE = "signature"
DECORATOR = "decorator"
REMOVED = "removed"
ADDED = "added"
MEMBER = "member"
CONSTANT = "constant"
IMPORT_ADDED = "import added"
IMPORT_REMOVED = "import removed"
EFFECT = "effect"
DOCSTRING = "docstring"


class Change(NamedTuple):
    """One difference. ``name``: the qualified name of what changed ("f", "C.m", "X"); "" for a statement.

    ``kind``: one of the constants above. MEMBER is what a class has or is: its head ("C."), an attribute, a method
    that came or went. ``node``: the definition or statement, as it is now where it still is. ``target``: what an import
    names, as in :class:`.blocks.Item`. ``before``: for DECORATOR, the function as it was.
    """

    kind: str
    name: str
    node: ast.AST | None = None
    target: tuple[Any, ...] | None = None
    before: ast.AST | None = None

    @property
    def owner(self) -> str:
        """The class that has it: "C" for "C.m", and for MEMBER of the head of "C" itself; "" outside classes."""
        return self.name.rpartition(".")[0]


PLAIN_DECORATORS = frozenset(
    """property setter getter deleter staticmethod classmethod abstractmethod cached_property cache lru_cache wraps
    contextmanager asynccontextmanager overload final override total_ordering singledispatch singledispatchmethod
    dataclass fixture parametrize skipif skip xfail usefixtures filterwarnings asyncio patch object dict given settings
    example runtime_checkable unique no_type_check deprecated""".split()  # noqa: SIM905
)
"""Decorators under which a body runs as Python for whoever calls it, and which register nothing."""

PLAIN_BASES = frozenset(
    """object Exception BaseException RuntimeError ValueError TypeError KeyError LookupError IndexError AttributeError
    OSError IOError ImportError NotImplementedError ArithmeticError Warning UserWarning DeprecationWarning StopIteration
    Enum IntEnum StrEnum Flag IntFlag NamedTuple TypedDict Protocol Generic ABC dict list str int float tuple set bytes
    frozenset Thread local Mapping MutableMapping Sequence MutableSequence Set MutableSet Iterable Iterator Callable
    Hashable Sized Collection Container Generator UserDict UserList OrderedDict defaultdict Counter TestCase
    JSONEncoder JSONDecoder Formatter Handler Filter Logger NodeVisitor NodeTransformer""".split()  # noqa: SIM905
)
"""Bases of the standard library that do nothing with a class but what the language says."""

_PURE_CALLS = frozenset(
    """frozenset set dict list tuple str int float bool bytes range sorted len min max sum zip enumerate compile
    TypeVar TypeVarTuple ParamSpec NewType namedtuple NamedTuple partial object Path PurePath PurePosixPath Decimal
    Fraction timedelta datetime date getLogger cast MappingProxyType Lock RLock ContextVar field auto attrgetter
    itemgetter defaultdict OrderedDict Counter deque join split splitlines format encode decode strip replace lower
    startswith endswith intern getenv absolute abspath dirname basename upper dedent fromkeys
    items keys values union Struct local Event Semaphore""".split()  # noqa: SIM905
)
"""Calls that only make a value."""


def kinds(old: ast.Module, new: ast.Module) -> list[Change]:
    """The differences between two versions, in the order of the older one. Layout and comments are none."""
    found: list[Change] = []
    if _docstring(old) != _docstring(new):
        found.append(Change(DOCSTRING, "", new))
    _scope(list(items(old.body)), list(items(new.body)), "", found)
    return found


def _scope(old: list[Item], new: list[Item], inside: str, found: list[Change]) -> None:
    """The differences between two module bodies, or two class bodies (``inside``: "C.")."""
    if not same_statements(old, new):
        sides = [[item.node for item in part if not item.names] for part in (old, new)]
        bodies = _bodies(*sides) if not inside else None
        differing = _differing(*sides)
        found += bodies or [_statement(node, inside) for node in differing] or [Change(EFFECT, inside[:-1])]
    if not same_order(old, new):
        found.append(Change(MEMBER, inside) if inside else Change(EFFECT, ""))
    for name, was, now in by_name(old, new):
        if not same([item.value for item in was], [item.value for item in now]):
            found += _binding(inside + name, was, now, bool(inside))


def _statement(node: ast.AST, inside: str) -> Change:
    """A statement that came, went or changed: of a class, if it binds names there; ``__all__`` has its readers."""
    names = bound_names(node)
    if not names or not _is_pure(node):
        return Change(EFFECT, inside[:-1], node)
    if inside:
        return Change(MEMBER, inside + names[0], node)
    return Change(CONSTANT if names == ("__all__",) else EFFECT, names[0], node)


def _bodies(old: list[ast.AST], new: list[ast.AST]) -> list[Change] | None:
    """The differences between statements that differ only in the bodies of functions, as those under an ``if``."""
    found: list[Change] = []
    if len(old) != len(new):
        return None
    for was, now in zip(old, new, strict=True):
        if same(was, now):
            continue
        functions = [_functions(node) for node in (was, now)]
        if not functions[0] or not same(*(_without_bodies(node) for node in (was, now))):
            return None
        for before, after in zip(*functions, strict=True):
            found += function_kinds(after.name, before, after, False)
    return found


def _functions(node: ast.AST) -> list[Function]:
    """The functions that a compound statement defines: not those in classes or in other functions."""
    found: list[Function] = []
    for part in ast.iter_child_nodes(node):
        if isinstance(part, Function):
            found.append(part)
        elif isinstance(part, ast.stmt | ast.excepthandler | ast.match_case) and not isinstance(part, ast.ClassDef):
            found += _functions(part)
    return found


def _without_bodies(node: ast.AST) -> ast.AST:
    copied = copy.deepcopy(node)
    for function in _functions(copied):
        function.body = [ast.Pass()]
    return copied


def _differing(old: list[ast.AST], new: list[ast.AST]) -> list[ast.AST]:
    """Statements that came, or that went."""
    return [
        node
        for mine, other in ((old, new), (new, old))
        for node in mine
        if not any(same(node, candidate) for candidate in other)
    ]


def _binding(name: str, was: list[Item], now: list[Item], in_class: bool) -> Iterator[Change]:
    sides = [*was, *now]
    values = [item.value for item in sides]
    node = (now or was)[-1].node
    if all(isinstance(value, tuple) for value in values):
        old, new = ([i.value for i in part if i.value[0] != "TYPE_CHECKING"] for part in (was, now))
        yield from (Change(IMPORT_REMOVED, name, target=value) for value in old if value not in new)
        yield from (Change(IMPORT_ADDED, name, target=value) for value in new if value not in old)
    elif len(was) == len(now) and all(isinstance(value, Function) for value in values):
        for before, after in zip(was, now, strict=True):
            yield from function_kinds(name, before.value, after.value, in_class)
    elif len(was) == len(now) == 1 and isinstance(values[0], ast.ClassDef) and isinstance(values[1], ast.ClassDef):
        yield from _class(name, values[0], values[1])
    elif not all(is_plain(item) for item in sides):
        yield Change(EFFECT, name, node)
    elif in_class:
        yield Change(ADDED if not was else MEMBER, name, node)
    elif not was:
        yield Change(ADDED, name, node)
    else:
        yield Change(REMOVED if not now else CONSTANT, name, node)


def function_kinds(name: str, old: Function, new: Function, in_class: bool) -> Iterator[Change]:
    """How two versions of one function differ."""
    if same(old, new):
        return
    if not same(old.decorator_list, new.decorator_list):
        known = all(map(is_plain_decorator, (*old.decorator_list, *new.decorator_list)))
        kind = (MEMBER if in_class else SIGNATURE) if known else DECORATOR
        yield Change(kind, name, new, before=None if known else old)
    elif type(old) is not type(new) or _shape(old) != _shape(new) or not _same_but_defaults(old, new):
        yield Change(SIGNATURE, name, new)
    elif not same(old.args, new.args):
        literal = all(isinstance(each, ast.Constant) for node in (old, new) for each in _defaults(node))
        yield Change(DEFAULT if literal else SIGNATURE, name, new)
    if _docstring(old) != _docstring(new):
        yield Change(DOCSTRING, name, new)
    if not same(_code(old), _code(new)):
        yield Change(BODY, name, new)
        if not all(map(is_plain_decorator, new.decorator_list)):  # compiled, or traced once: a value like any other
            yield Change(COMPILED, name, new)


def _class(name: str, old: ast.ClassDef, new: ast.ClassDef) -> Iterator[Change]:
    if not same(class_head(old), class_head(new)):
        known = all(map(is_plain_decorator, (*old.decorator_list, *new.decorator_list)))
        yield Change(MEMBER if known and not new.keywords and not old.keywords else EFFECT, f"{name}.", new)
    if _docstring(old) != _docstring(new):
        yield Change(DOCSTRING, name, new)
    found: list[Change] = []
    _scope(list(items(old.body)), list(items(new.body)), f"{name}.", found)
    for change in found:  # a class body runs at import, but what it does stays in the class
        inner = change.kind in (CONSTANT, REMOVED) or change.kind.startswith("import ")
        yield change._replace(kind=MEMBER) if inner else change


def _defaults(node: Function) -> list[ast.expr]:
    return [*node.args.defaults, *filter(None, node.args.kw_defaults)]


def _same_but_defaults(old: Function, new: Function) -> bool:
    def rest(node: Function) -> list[Any]:
        a = node.args
        given = [default is None for default in a.kw_defaults]
        args = [a.posonlyargs, a.args, a.vararg, a.kwonlyargs, a.kwarg, given, len(a.defaults)]
        return [*args, node.returns, list(getattr(node, "type_params", ()))]

    return same(rest(old), rest(new))


def _shape(node: Function) -> tuple[bool, bool]:
    """Whether it is a generator, and whether it closes over what makes it a method with super()."""
    own = list(_own_nodes(node.body))
    return (
        any(isinstance(part, ast.Yield | ast.YieldFrom) for part in own),
        any(isinstance(part, ast.Name) and part.id in ("super", "__class__") for part in own),
    )


def _own_nodes(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """The nodes of a function's body without those of functions in it."""
    waiting = list(body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)


def _docstring(node: ast.Module | Function | ast.ClassDef) -> str | None:
    return ast.get_docstring(node, clean=False)


def _code(node: Function) -> list[ast.stmt]:
    return node.body[_docstring(node) is not None :]


# -- what runs no code of anybody else ---------------------------------------------------------------------------


def is_plain_decorator(node: ast.expr) -> bool:
    return leaf(node) in PLAIN_DECORATORS


def is_plain_base(name: str) -> bool:
    """Whether a base with this last name is known to treat its subclasses like plain classes."""
    return name in PLAIN_BASES


def is_plain(item: Item) -> bool:
    """Whether making this binding has no effect beside it: definitions and values, but no unknown calls."""
    value = item.value
    if isinstance(value, tuple):
        return True
    if isinstance(value, Function):
        return all(map(is_plain_decorator, value.decorator_list)) and all(map(_is_pure, _defaults(value)))
    if isinstance(value, ast.ClassDef):
        decorated = all(map(is_plain_decorator, value.decorator_list))
        return decorated and not value.keywords and all(i.names and is_plain(i) for i in items(value.body))
    return _is_pure(value)


def makes_only_a_value(call: ast.Call) -> bool:
    return leaf(call) in _PURE_CALLS


def _is_pure(node: ast.AST) -> bool:
    for part in ast.walk(node):
        if isinstance(part, ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr):
            return False
        if isinstance(part, ast.Call) and leaf(part) not in _PURE_CALLS:
            return False
    return True


def is_inert(tree: ast.Module) -> bool:
    """Whether importing a module does nothing but bind plain values; what it imports is asked elsewhere."""
    return all(item.names and is_plain(item) for item in items(tree.body))


def imported_modules(nodes: Iterable[ast.AST], package: str) -> Iterator[str]:
    """The dotted names that import statements at module level may mean. ``package``: for relative ones."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*up, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")
