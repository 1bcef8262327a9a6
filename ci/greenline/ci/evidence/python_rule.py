"""Who can notice the change of a Python module, among the tests that ran its body."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pyroaring import BitMap

from greenline.ci.evidence import forms
from greenline.ci.evidence import names as spelled
from greenline.ci.evidence.decorators import File, run_as_python
from greenline.ci.evidence.families import MADE_OTHERWISE, Family, Place, family_of, is_plain_class
from greenline.ci.evidence.holders import may_hold
from greenline.ci.evidence.meaning import Meaning, imported_names
from greenline.ci.evidence.names import Names
from greenline.ci.evidence.quiet import is_quiet
from greenline.ci.evidence.reading import Evidence
from greenline.ci.evidence.watched import is_watched
from greenline.depgraph import changes as kinds
from greenline.depgraph.blocks import Function, definitions, items, leaf, parse
from greenline.depgraph.changes import Change, is_plain_base
from greenline.depgraph.index import Opened
from greenline.depgraph.layout import is_code
from greenline.depgraph.overlay import FileState

MOST_TOKENS = 30
MOST_FILES = 300
"""Of names to follow, and of files that contain one; beyond that, everyone who imports the module counts."""

SIGNATURE_READERS = ("signature", "getfullargspec", "__defaults__", "__kwdefaults__", "get_type_hints")
DOC_READERS = ("__doc__", "getdoc")
MODULE_HOOKS = ("__getattr__", "__dir__")
"""What Python itself asks a module for, of all that it does not have (PEP 562)."""
SUBCLASS_READERS = ("__subclasses__", "__init_subclass__")
LISTED = (kinds.REMOVED, kinds.CONSTANT, kinds.SIGNATURE, kinds.IMPORT_ADDED, kinds.IMPORT_REMOVED)
KEEPS = (spelled.BINDING, spelled.IMPORT)


class Hit(NamedTuple):
    """Records that a change affects, and why: the sentence follows "test X"."""

    records: BitMap
    why: str


class Compared(NamedTuple):
    """A module as it was and as it is, and how these differ."""

    old: ast.Module
    new: ast.Module
    changes: list[Change]


class Rule:
    """The table for one change of the repository, over the evidence of one suite."""

    def __init__(self, opened: Opened, evidence: Evidence, names: Names) -> None:
        self.opened, self.evidence, self.names = opened, evidence, names
        self.meaning = Meaning(opened, names)
        self.old = {each.path: opened.contents.get(each.path, each.base) for each in opened.changes}
        self._blocks: dict[str, dict[str, BitMap]] = {}
        self._listers: dict[tuple[str, str], BitMap] = {}
        self._families: dict[tuple[str, str], Family | None] = {}
        self._before: dict[str, dict[str, ast.ClassDef]] = {}
        self._compared: dict[str, Compared | None] = {}

    def compared(self, state: FileState) -> Compared | None:
        """The differences between the two versions of a module; None where one is not there or cannot be read."""
        if state.path not in self._compared:
            sides = [self.opened.contents.get(state.path, oid) for oid in (state.base, state.head)]
            old, new = (None if data is None else parse(data) for data in sides)
            self._compared[state.path] = Compared(old, new, kinds.kinds(old, new)) if old and new else None
        return self._compared[state.path]

    # -- records -------------------------------------------------------------------------------------------

    def blocks(self, path: str) -> dict[str, BitMap]:
        """Block name → records that ran it, of one file."""
        if path not in self._blocks:
            self.fetch([path])
        return self._blocks[path]

    def fetch(self, paths: Iterable[str]) -> None:
        missing = [path for path in paths if path not in self._blocks]
        for path in missing:
            self._blocks[path] = {}
        for (path, name), records in self.evidence.facts(forms.BLOCK, missing).items():
            self._blocks[path][name] = records

    def importers(self, path: str) -> BitMap:
        """The records of tests in whose process the module's body ran for them."""
        return BitMap().union(*self.blocks(path).values())

    def executed(self, path: str, name: str) -> BitMap:
        """Who ran a function; for a class, any of its methods."""
        return BitMap().union(
            *(
                records
                for block, records in self.blocks(path).items()
                if block == name or (name.endswith(".") and block.startswith(name))
            )
        )

    # -- the table -----------------------------------------------------------------------------------------

    def module(self, path: str, compared: Compared) -> Iterator[Hit]:
        """Everyone whom the differences between two versions of a module can reach."""
        importers = self.importers(path)
        if not importers:
            return
        for each in compared.changes:
            change = self._decorated(path, each, compared.old, compared.new)
            line = getattr(change.node, "lineno", 0)
            where = f"`{_dotted(path, change.name)}`" + (f", line {line}" if line else "")
            for records, why in self._judge(path, change, compared.new, importers):
                yield Hit(records & importers, f"{why} {where} ({change.kind} changed)" if why else where)

    def _decorated(self, path: str, change: Change, old: ast.Module, new: ast.Module) -> Change:
        """An unknown decorator came, went or changed: an effect, unless it touches nothing but the function."""
        if change.kind != kinds.DECORATOR:
            return change
        sides = ((change.before, old), (change.node, new))
        decorators = [(each, File(path, tree)) for node, tree in sides for each in getattr(node, "decorator_list", ())]
        if not all(is_quiet(each, file, self._imported_files) for each, file in decorators):
            return change._replace(kind=kinds.EFFECT)
        return change._replace(kind=kinds.MEMBER if change.owner else kinds.SIGNATURE)

    def _judge(self, path: str, change: Change, new: ast.Module, importers: BitMap) -> Iterator[tuple[BitMap, str]]:
        kind, name = change.kind, change.name
        last = name.rstrip(".").rpartition(".")[2]
        executed = self.executed(path, name)
        binds = (kinds.ADDED, kinds.REMOVED, kinds.CONSTANT, kinds.IMPORT_ADDED, kinds.IMPORT_REMOVED)
        if kind == kinds.EFFECT or (name in MODULE_HOOKS and kind in binds):
            yield importers, "imports the module of"
        elif kind == kinds.BODY:
            yield executed, "ran"
            called = change.owner.rpartition(".")[2] if last.startswith("__") else last  # C() calls C.__init__
            yield self._early(path, called), "imported, before recording began, what calls"
        elif kind == kinds.DEFAULT:
            yield executed, "ran"
            yield self.spelling(SIGNATURE_READERS, importers, follow=False), "reads signatures, such as that of"
        elif kind == kinds.DOCSTRING:
            yield from self._docstring(path, change, importers)
        elif kind == kinds.COMPILED and run_as_python(change.node, File(path, new), self._imported_files):
            return  # as if there were no decorator
        elif kind in (kinds.SIGNATURE, kinds.COMPILED):
            yield executed, "ran"
            if change.owner:
                yield from self._member(path, change, importers)
            else:
                yield self.naming([(last, path)], importers), "names"
        elif kind == kinds.MEMBER and is_watched(self.names, path, change.owner):
            yield importers, "imports the module, where what makes the class looks at its members, of"
        elif kind == kinds.MEMBER:
            yield executed, "ran"
            yield from self._member(path, change, importers)
        elif kind == kinds.REMOVED:
            yield executed, "ran"
            yield self.naming([(last, path)], importers, gone=path), "names"
        elif name == "__all__":
            yield self._star_importers(path), "imports all of"
            yield self.spelling([name], importers, follow=False), "reads"
        elif kind == kinds.CONSTANT:
            yield self.naming([(last, path)], importers), "reads"
        elif kind == kinds.ADDED:
            yield from self._added(path, change, new, importers)
        elif kind == kinds.IMPORT_REMOVED:
            yield self.naming([(last, path)], importers, gone=path), "names"
            yield importers - self._have_otherwise(path, change, importers), "imports, only through its file,"
        elif kind == kinds.IMPORT_ADDED:
            yield self._spell_here(path, last), "names"
            yield importers - self._have_otherwise(path, change, importers), "did not import, and now does,"
        if kind in LISTED and not change.owner:
            yield self._enumerators(path, name), "lists what is in the module of"
        if kind == kinds.REMOVED and isinstance(change.node, ast.ClassDef) and change.node.bases:
            yield self.spelling(SUBCLASS_READERS, importers, follow=False), "may list subclasses such as"

    # -- names ---------------------------------------------------------------------------------------------

    def spelling(self, tokens: Iterable[str], importers: BitMap, gone: str = "", follow: bool = True) -> BitMap:
        """Who ran a block that contains one of these names, whatever it means there. As ``naming`` with no file."""
        return self.naming(((token, "") for token in tokens), importers, gone, follow)

    def naming(
        self,
        tokens: Iterable[tuple[str, str]],
        importers: BitMap,
        gone: str = "",
        follow: bool = True,
        of_self: bool = True,
    ) -> BitMap:
        """Who ran a block that contains one of these names, or one that statements run at import make of it.

        ``tokens``: each with the file whose module binds it, so that a bare name of a file that does not import it from
        there is another one; "" for a member of a class, say. ``gone``: the file that has the name no more: what asks
        for it at import fails. ``follow``: whether all that is made of it counts, or only what a module keeps of it
        under another name. ``of_self``: whether `self.NAME` counts; who runs it has an instance.
        """
        waiting, seen = [token for token in tokens if token[0]], set()
        blocks: set[tuple[str, str]] = set()
        while waiting:
            token, of = waiting.pop()
            if (token, of) in seen or (token, "") in seen:
                continue
            seen.add((token, of))
            files = self.names.files(token)
            if len({name for name, _ in seen}) > MOST_TOKENS or len(files) > MOST_FILES:
                return importers
            self.fetch(path for path in files if is_code(path))
            anywhere = not of or self.meaning.is_made_builtin(token, files)
            for path in files:
                if not is_code(path):
                    continue
                if not self.importers(path):
                    continue
                if not of_self and len(seen) == 1:
                    hits = list(self.names.hits_of_member(path, token))
                else:
                    elsewhere = not anywhere and not self.meaning.may_have(path, token, of)
                    hits = list(self.names.hits(path, token, elsewhere))
                removed = bool(gone) and len(seen) == 1 and not self._has_its_own(path, hits, gone)
                for region in hits:
                    made = _made_by(region, removed)
                    blocks.update((path, block) for block in made.blocks)
                    if follow or region.kind in KEEPS:
                        inside = region.kind in (spelled.HEAD, spelled.CLASS)  # a class may have it
                        waiting += [(name, "" if inside else path) for name in made.names]
            blocks.update(("", path) for path in files if not is_code(path))
        found = [self.executed(path, name) for path, name in blocks if path]
        found += self.evidence.facts(forms.OPENED, [text for path, text in blocks if not path]).values()
        return BitMap().union(*found) & importers

    def _has_its_own(self, path: str, hits: Iterable[spelled.Region], other: str) -> bool:
        """Whether a file imports a name, and not from that other file: it imports nothing from there."""
        graph = self.opened.graph
        if path == other or path in map(graph.path, graph.importers(graph.node(other))):
            return False
        return any(region.kind == spelled.IMPORT for region in hits)

    def _spell_here(self, path: str, token: str) -> BitMap:
        """Who ran what contains the name in one file."""
        blocks = {block for region in self.names.hits(path, token) for block in _made_by(region, False).blocks}
        return BitMap().union(*(self.executed(path, block) for block in blocks))

    def _early(self, path: str, token: str) -> BitMap:
        """Who has a module that ran before recording began and that may call the function at import."""
        early = self.evidence.paths(forms.EARLY)
        if not early or not token:
            return BitMap()
        at_import = [
            each
            for each in set(self.names.files(token)).intersection(early)
            if any(region.kind not in (spelled.BODY, spelled.IMPORT) for region in self.names.hits(each, token))
        ]
        return BitMap().union(*self.evidence.facts(forms.EARLY, at_import).values()) & self.importers(path)

    # -- classes -------------------------------------------------------------------------------------------

    def _member(self, path: str, change: Change, importers: BitMap) -> Iterator[tuple[BitMap, str]]:
        """Who may notice what a class has, as long as it does not look at it itself."""
        around = self._family_of(path, change.owner)
        known = around is not None and around.makers is not None
        tokens = [] if change.name.endswith(".") else [(change.name.rpartition(".")[2], "")]
        yield self.naming(tokens, importers, of_self=not known), "names"
        yield self.family(path, change.owner, importers), "ran the family of the class of"

    def family(self, path: str, owner: str, importers: BitMap) -> BitMap:
        """Who ran a block of a class or of a descendant, or names one; of an ancestor, if they have an instance."""
        if not owner:
            return BitMap()
        around = self._family_of(path, owner)
        if around is None:
            return importers  # what is foreign may do anything with the class
        self.fetch(place.path for place in (*around.own, *around.above))
        ran, above = (
            BitMap().union(*(self.executed(place.path, f"{place.name}.") for place in places))
            for places in (around.own, around.above)
        )
        found = ran | self.naming(map(_bound, around.own), importers)
        above |= self.naming(map(_bound, around.above), importers)
        if around.makers is not None:
            made = BitMap().union(*(self.executed(*block) for block in around.makers))
            made = made.union(*(self._early(path, place.node.name) for place in around.own))
            above &= made | self.spelling(MADE_OTHERWISE, importers, follow=False)
        return (found | above) & importers

    def _family_of(self, path: str, owner: str) -> Family | None:
        if (path, owner) not in self._families:
            self._families[path, owner] = family_of(self.names, self.meaning, self._classes_before, path, owner)
        return self._families[path, owner]

    def _classes_before(self, path: str) -> dict[str, ast.ClassDef] | None:
        if path not in self.old:
            return None
        if path not in self._before:
            tree = parse(self.old[path] or b"")
            found = definitions(tree.body) if tree else ()
            self._before[path] = {name: node for name, node in found if isinstance(node, ast.ClassDef)}
        return self._before[path]

    def _docstring(self, path: str, change: Change, importers: BitMap) -> Iterator[tuple[BitMap, str]]:
        """Who may read one: those who have the object, by its name, from a decorator or as a class of an instance."""
        readers = self.spelling(DOC_READERS, importers, follow=False)
        if not change.name:
            yield readers, "reads docstrings, such as that of"
            return
        last = change.name.rpartition(".")[2]
        decorators = [each for each in getattr(change.node, "decorator_list", ()) if not kinds.is_plain_decorator(each)]
        registers = {part.id for each in decorators for part in ast.walk(each) if isinstance(part, ast.Name)}
        tokens = [(last, "" if change.owner else path), *((each, "") for each in sorted(registers))]
        yield self.naming(tokens, importers), "names, or what registers,"
        if decorators:
            yield readers, "reads docstrings, such as that of"
        owner = change.name if isinstance(change.node, ast.ClassDef) else change.owner
        if owner:
            family = self.family(path, owner, importers)
            plain = is_plain_class(self.names, path, owner)
            yield family & readers if plain else family, "ran the family of the class of"
        yield (
            self._enumerators(path, change.name.partition(".")[0]) & readers,
            "reads docstrings, and lists what is in the module of",
        )

    # -- what came and what is imported --------------------------------------------------------------------

    def _added(self, path: str, change: Change, new: ast.Module, importers: BitMap) -> Iterator[tuple[BitMap, str]]:
        last = change.name.rpartition(".")[2]
        prefix, joint, _ = last.partition("_")
        convention = _follows_convention(change) or (joint and prefix and self.names.spell_prefix(f"{prefix}_"))
        is_new = all(each in self.old for each in self.names.files(last)) and not any(
            last.encode() in (data or b"") for data in self.old.values()
        )
        if is_new and not convention and (not change.owner or is_plain_class(self.names, path, change.owner)):
            yield self._enumerators(path, last), "lists what is in the module of"
        elif change.owner and is_watched(self.names, path, change.owner):
            yield importers, "imports the module, where what makes the class looks at its members, of"
        elif change.owner:
            yield from self._member(path, change, importers)
        else:
            yield self.naming([(last, path)], importers), "names"
        if isinstance(change.node, ast.ClassDef) and change.node.bases:
            yield (
                self.spelling(SUBCLASS_READERS, importers, follow=False),
                "may list subclasses such as",
            )
            if not all(is_plain_base(leaf(base)) for base in change.node.bases):
                yield self.family(path, change.name, importers), "ran the family of"

    def _star_importers(self, path: str) -> BitMap:
        graph = self.opened.graph
        near = [graph.path(node) for node in graph.importers(graph.node(path))]
        with_star = [each for each in near if b"import *" in (self.opened.read_head(each) or b"")]
        return BitMap().union(*map(self.importers, with_star))

    def _enumerators(self, path: str, name: str) -> BitMap:
        """Who ran code that lists what a module holds, in the module or a file that may have it or the name."""
        if (path, name) in self._listers:
            return self._listers[path, name]
        graph = self.opened.graph
        modules = {each.name for each in graph.names(path)}
        near = {graph.path(node) for node in graph.importers(graph.node(path))} & self.names.listers()
        near = {
            each
            for each in near
            if may_hold(self.opened.read_head(each) or b"", graph.layout.package_of(each), modules, name)
        }
        near |= {path} & self.names.listers()
        found, kept = BitMap(), set[str]()
        for each in sorted(near):
            for region in self.names.listing(each):
                made = _made_by(region, False)
                found = found.union(*(self.executed(each, block) for block in made.blocks))
                kept.update(made.names if region.kind in KEEPS else ())
        self._listers[path, name] = found | self.spelling(sorted(kept), self.importers(path), follow=False)
        return self._listers[path, name]

    def _have_otherwise(self, path: str, change: Change, importers: BitMap) -> BitMap:
        """Those whose process runs the imported module anyhow: another file that they ran imports it too.

        What the repository does not have is not judged here: the lock file tells when a distribution changes.
        """
        graph = self.opened.graph
        linker = graph.linker()
        folder = path.rpartition("/")[0]
        targets: set[int] = set()
        for name in imported_names(change.target, graph.layout.package_of(path)):
            targets.update(linker.resolver.targets(name, folder))
        targets = {node for node in targets if graph.path(node) != path and not self._is_inert(graph.path(node))}
        have = importers
        for node in targets:
            others = [graph.path(each) for each in graph.importers(node) if graph.path(each) != path]
            self.fetch(others)
            kept = [self.importers(other) for other in others if self._imports_at_import(other)]
            have = have & (BitMap().union(*kept) | BitMap())
        return have

    def _imported_files(self, path: str, value: tuple[Any, ...]) -> list[File]:
        """The files of the repository that one imported name may come from."""
        graph = self.opened.graph
        resolver, folder = graph.linker().resolver, path.rpartition("/")[0]
        nodes = {
            node
            for name in imported_names(value, graph.layout.package_of(path))
            for node in resolver.targets(name, folder)
        }
        trees = {graph.path(node): parse(self.opened.read_head(graph.path(node)) or b"") for node in sorted(nodes)}
        return [File(each, tree) for each, tree in trees.items() if tree]

    def _is_inert(self, path: str) -> bool:
        source = self.opened.read_head(path) or self.old.get(path)
        tree = parse(source) if source is not None else None
        return (
            tree is not None and kinds.is_inert(tree) and not any(isinstance(i.value, tuple) for i in items(tree.body))
        )

    def _imports_at_import(self, path: str) -> bool:
        return any(region.kind == spelled.IMPORT for region in self.names.regions(path))


def _bound(place: Place) -> tuple[str, str]:
    """The name of a class, and the file that binds it; "" where another class does."""
    return place.node.name, place.path if place.name == place.node.name else ""


class _Made(NamedTuple):
    blocks: list[str]
    names: list[str]


def _made_by(region: spelled.Region, removed: bool) -> _Made:
    """What a region that contains a name makes of it: blocks whose runs differ, and further names.

    ``removed``: the name is gone, so that whatever asks for it at import fails, and the module with it.
    """
    if region.kind == spelled.BODY:
        return _Made([region.name], [])
    if removed:
        return _Made([""], list(region.binds))
    if region.kind == spelled.HEAD:
        return _Made([region.name], list(region.binds))
    if region.kind == spelled.CLASS:
        return _Made([f"{region.name}."], [region.name.rpartition(".")[2], *region.binds])
    if region.kind in (spelled.IMPORT, spelled.BINDING):
        return _Made([], list(region.binds))
    return _Made([""], [])


def _follows_convention(change: Change) -> bool:
    """Whether something may look for a name like this: pytest, unittest, Python itself."""
    last = change.name.rpartition(".")[2]
    if last.startswith(("__", "pytest_", "test", "Test", "setup", "setUp", "teardown", "tearDown")):
        return True
    decorators = getattr(change.node, "decorator_list", ())
    return isinstance(change.node, Function) and any("fixture" in leaf(each) for each in decorators)


def _dotted(path: str, name: str) -> str:
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return f"{module}.{name}".rstrip(".")
