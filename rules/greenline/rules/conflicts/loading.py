"""What Python does as modules are imported, as far as circles go: which names a module has when another asks for one.

Statements run in order, as the import system and pytest do it. Only what is certain fails: an import under a condition,
in a loop or behind a fallback does not, and what functions do when they are called at import is not followed.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from greenline.depgraph.blocks import leaf
from greenline.rules.conflicts.modules import Function, Module, bindings
from greenline.rules.conflicts.tree import Tree

_LENIENT = frozenset(("suppress", "raises"))
_ALWAYS = frozenset(("__name__", "__file__", "__doc__", "__path__", "__spec__", "__package__", "__dict__"))


class Failed(Exception):
    """An import that asks for a name before it is there. ``path``, ``line``: of the statement; ``name``: what it asks
    for, of the module in the file ``target``; ``circle``: the files being imported, from ``target`` to ``path``."""

    def __init__(self, kind: str, path: str, line: int, name: str, target: str, circle: tuple[str, ...]) -> None:
        super().__init__(name)
        self.kind, self.path, self.line, self.name, self.target, self.circle = kind, path, line, name, target, circle


class Session:
    """One Python process. Only the modules ``within`` are run, each once; all others have what they are asked for."""

    def __init__(self, tree: Tree, within: Collection[str]) -> None:
        self.tree = tree
        self.within = within
        self.names: dict[str, set[str]] = {}
        """Files whose import has begun → the names that they have so far."""
        self.modules: dict[str, dict[str, str]] = {}
        """The same → those of the names that stand for modules, with the files of these."""
        self.running: list[str] = []

    def load(self, path: str) -> None:
        """Import the module in a file, the packages around it first. Raises :class:`Failed`."""
        for each in (*packages_of(self.tree, path), path):
            module = self.tree.module(each) if each in self.within and each not in self.names else None
            if module is not None:
                self.names[each] = set(_ALWAYS)
                self.running.append(each)
                try:
                    _Body(self, module).run(module.tree.body)
                except Failed:
                    del self.names[each]
                    raise
                finally:
                    self.running.pop()

    def lacks(self, path: str, name: str) -> bool:
        """Whether a module is still being imported and has not bound this name yet."""
        known = self.names.get(path, set())
        module = self.tree.module(path)
        if path not in self.running or module is None or module.open:
            return False
        return name not in known and "__getattr__" not in known

    def failed(self, kind: str, path: str, line: int, name: str, target: str) -> Failed:
        return Failed(kind, path, line, name, target, tuple(self.running[self.running.index(target) :]))


def packages_of(tree: Tree, path: str) -> list[str]:
    """The ``__init__.py`` files that run before a module, the outermost first."""
    found: list[str] = []
    folder = path.rpartition("/")[0]
    while folder and f"{folder}/__init__.py" in tree.files:
        found.append(f"{folder}/__init__.py")
        folder = folder.rpartition("/")[0]
    return [each for each in reversed(found) if each != path]


class _Body:
    """Runs the statements of one module."""

    def __init__(self, session: Session, module: Module) -> None:
        self.session, self.tree, self.path = session, session.tree, module.path
        self.modules = session.modules.setdefault(module.path, {})
        self.in_class = False
        self.lazy_annotations = b"from __future__ import annotations" in module.source

    def run(self, body: Iterable[ast.stmt]) -> None:
        for node in body:
            self._statement(node)

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Import():
                self._import(node)
            case ast.ImportFrom():
                self._import_from(node)
            case ast.ClassDef():
                self._expressions([*node.decorator_list, *node.bases, *(one.value for one in node.keywords)])
                outer, self.in_class = self.in_class, True
                self.run(node.body)
                self.in_class = outer
                self._bind([node])
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._expressions([*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)])
                if not self.lazy_annotations:
                    arguments = (one.annotation for one in ast.walk(node.args) if isinstance(one, ast.arg))
                    self._expressions([one for one in (*arguments, node.returns) if one])
                self._bind([node])
            case ast.If():
                self._if(node)
            case ast.Try() | ast.TryStar():
                self._try(node)
            case ast.With() | ast.AsyncWith():
                called = [item.context_expr for item in node.items]
                self._expressions(called)
                with self._perhaps(any(leaf(one) in _LENIENT for one in called)):
                    self.run(node.body)
                self._bind([node])
            case ast.For() | ast.While() | ast.Match() | ast.AsyncFor():
                self._bind([node])  # what runs here, and how often, is not known
            case ast.AnnAssign():
                self._expressions([*([node.value] if node.value else []), *self._annotation(node)])
                self._bind([node])
            case _:
                self._expressions(one for one in ast.iter_child_nodes(node) if isinstance(one, ast.expr))
                self._bind([node])

    def _annotation(self, node: ast.AnnAssign) -> list[ast.expr]:
        return [] if self.lazy_annotations else [node.annotation]

    def _bind(self, body: list[ast.stmt]) -> None:
        for name, _ in bindings(body) if not self.in_class else ():
            self._bind_name(name)

    def _bind_name(self, name: str) -> None:
        if not self.in_class:
            self.session.names[self.path].add(name)
            self.modules.pop(name, None)

    @contextmanager
    def _perhaps(self, lenient: bool = True) -> Iterator[None]:
        """What fails here is caught, or does not run."""
        try:
            yield
        except Failed:
            if not lenient:
                raise

    def _if(self, node: ast.If) -> None:
        words = {getattr(one, "id", getattr(one, "attr", "")) for one in ast.walk(node.test)}
        if "TYPE_CHECKING" in words:
            self.run(node.orelse)
            return
        self._expressions([node.test])
        for branch in (node.body, node.orelse):
            with self._perhaps():
                self.run(branch)
            self._bind(branch)

    def _try(self, node: ast.Try | ast.TryStar) -> None:
        try:
            self.run(node.body)
            self.run(node.orelse)
        except Failed as failure:
            handler = next((one for one in node.handlers if _catches(one, failure.kind)), None)
            if handler is None:
                raise
            self.run(handler.body)
            self._bind(handler.body)
        self.run(node.finalbody)

    # -- imports -----------------------------------------------------------------------------------------

    def _import(self, node: ast.Import) -> None:
        for alias in node.names:
            path = self._find(alias.name)
            if path:
                self.session.load(path)
            name = alias.asname or alias.name.partition(".")[0]
            self._bind_name(name)
            bound = path if alias.asname else self._find(name)
            if bound:
                self.modules[name] = bound

    def _import_from(self, node: ast.ImportFrom) -> None:
        module = "." * node.level + (node.module or "")
        path = self._find(module)
        if path:
            self.session.load(path)
        for alias in node.names:
            if alias.name == "*":
                for name in self._names(path):
                    self._bind_name(name)
                continue
            inner = self._take(path, module, alias.name, node.lineno)
            self._bind_name(alias.asname or alias.name)
            if inner:
                self.modules[alias.asname or alias.name] = inner

    def _take(self, path: str, module: str, name: str, line: int) -> str:
        """Get a name from a module, or a module from a package: then its file."""
        if path and name in self._names(path):
            return ""
        inner = self._find(f"{module}{name}" if module.endswith(".") else f"{module}.{name}")
        if inner:
            self.session.load(inner)  # one that is being imported is found among the modules
        elif path and self.session.lacks(path, name):
            raise self.session.failed("ImportError", self.path, line, name, path)
        return inner

    def _names(self, path: str) -> Collection[str]:
        """The names that a module has by now."""
        if path in self.session.running:
            return self.session.names[path]
        module = self.tree.module(path) if path else None
        return module.names if module else ()

    def _find(self, module: str) -> str:
        files = self.tree.find(module, self.path)
        return files[0] if len(files) == 1 else ""

    # -- expressions -------------------------------------------------------------------------------------

    def _expressions(self, nodes: Iterable[ast.expr]) -> None:
        """What is looked up in modules as these run: not in the bodies of lambdas and generators."""
        todo: list[ast.AST] = list(nodes)
        while todo:
            node = todo.pop()
            if isinstance(node, ast.Attribute):
                self._attributes(node)
            if not isinstance(node, ast.Lambda | ast.GeneratorExp | Function):
                todo += ast.iter_child_nodes(node)

    def _attributes(self, node: ast.Attribute) -> None:
        """``package.module.name``, from its first name on."""
        chain: list[str] = []
        root: ast.expr = node
        while isinstance(root, ast.Attribute):
            chain.append(root.attr)
            root = root.value
        path = self.modules.get(root.id, "") if isinstance(root, ast.Name) else ""
        for name in reversed(chain):
            if path and name in self._names(path):
                path = self.session.modules.get(path, {}).get(name, "")
                continue
            if not path:
                return
            inner = self._submodule(path, name)
            if inner in self.session.running or (not inner and self.session.lacks(path, name)):
                asked = inner or path  # a package has a module only when that is imported to its end
                raise self.session.failed("AttributeError", self.path, node.lineno, name, asked)
            path = inner

    def _submodule(self, path: str, name: str) -> str:
        folder = path.removesuffix("__init__.py") if path.endswith("/__init__.py") else ""
        found = (f"{folder}{name}.py", f"{folder}{name}/__init__.py") if folder else ()
        return next((each for each in found if each in self.tree.files), "")


def _catches(handler: ast.ExceptHandler, kind: str) -> bool:
    if handler.type is None:
        return True
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(leaf(one) in (kind, "Exception", "BaseException") for one in types)
