"""Which module names a file has: source roots found without configuration, and the names below them.

A file's names follow from the folders above it:

* below its *base*, the first folder upwards without an ``__init__.py`` (Python's own rule for a regular package,
  and pytest's rule for what it puts on ``sys.path``);
* below every *source root* above it: the repository's root, each distribution's folder and its ``src``, what
  packaging configuration names, the suites' rootdirs and ``pythonpath``, and ``source_roots`` of greenline.yaml.

Both are kept, a superset: ``services/billing/src/app/models.py`` is ``app.models`` and
``services.billing.src.app.models``. Which of several files an import means is decided in :mod:`.resolve`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

MODULE_ENDINGS = (".py", ".ipynb", ".pyx")
SCRIPT_ENDINGS = (".sh", ".bash")
DISTRIBUTION_FILES = frozenset({"pyproject.toml", "setup.py", "setup.cfg"})


class ModuleName(NamedTuple):
    """A dotted name, the folder it is relative to, and whether only code below that folder is likely to use it.

    ``loose``: the base is neither a source root nor the home of the regular package that the name starts with;
    such a folder is importable only for scripts that lie in it and for tests that pytest collects there.
    """

    name: str
    root: str
    loose: bool


class Layout:
    """Module names for the files of one state of a repository.

    ``packages``: folders that hold an ``__init__.py``, which are never source roots; ``roots``: source roots;
    ``entry_points``: group → module names, of the repository's own distributions; ``scripts``: console script →
    module name; ``aliases``: symbolic link to a folder → that folder, so that its files have names below both.
    """

    def __init__(
        self,
        packages: Iterable[str],
        roots: Iterable[str],
        entry_points: Mapping[str, tuple[str, ...]],
        scripts: Mapping[str, str],
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.aliases = dict(aliases or {})
        self.own_packages = frozenset(packages)
        self.own_roots = frozenset(roots)
        self.packages = self.own_packages.union(
            link + folder[len(target) :]
            for link, target in self.aliases.items()
            for folder in self.own_packages
            if f"{folder}/".startswith(target + "/")
        )
        self.roots = (self.own_roots - self.packages) | {""}
        self.entry_points = dict(entry_points)
        self.scripts = dict(scripts)
        self._folders: dict[str, tuple[tuple[str, str, bool], ...]] = {}

    def with_packages(self, added: Iterable[str], gone: Iterable[str] = ()) -> Layout:
        """The same layout after these folders got an ``__init__.py``, or lost it."""
        packages = self.own_packages.union(added).difference(gone)
        if packages == self.own_packages:
            return self
        return Layout(packages, self.own_roots, self.entry_points, self.scripts, self.aliases)

    def names(self, path: str) -> list[ModuleName]:
        """All module names of a Python file or notebook; ``a/b/__init__.py`` is the module ``a.b``."""
        found = self._own_names(path)
        for link, target in self.aliases.items():
            if path.startswith(target + "/"):
                found += self._own_names(link + path[len(target) :])
        return found

    def _own_names(self, path: str) -> list[ModuleName]:
        if not is_module(path):
            return []
        folder, _, file = path.rpartition("/")
        stem = file.partition(".")[0]
        found = []
        for prefix, root, loose in self._prefixes(folder):
            if stem == "__init__":
                if prefix:
                    found.append(ModuleName(prefix[:-1], root, loose))
            elif stem:
                found.append(ModuleName(prefix + stem, root, loose))
        return found

    def package_of(self, path: str) -> list[str]:
        """The dotted packages that relative imports in this file start from ("" where there is none)."""
        folder = path.rpartition("/")[0]
        return [prefix[:-1] for prefix, _, _ in self._prefixes(folder)]

    def _prefixes(self, folder: str) -> tuple[tuple[str, str, bool], ...]:
        known = self._folders.get(folder)
        if known is None:
            known = self._folders[folder] = tuple(self._find_prefixes(folder))
        return known

    def _find_prefixes(self, folder: str) -> list[tuple[str, str, bool]]:
        base = folder
        while base and base in self.packages:
            base = base.rpartition("/")[0]
        found = []
        root = folder
        while True:
            if root == base or root in self.roots:
                below = folder[len(root) + 1 if root else 0 :]
                dotted = below.replace("/", ".") + "." if below else ""
                # The home of a regular package is as good as a declared source root.
                loose = root not in self.roots and base == folder
                found.append((dotted, root, loose))
            if not root:
                return found
            root = root.rpartition("/")[0]


def is_module(path: str) -> bool:
    """Whether a path is Python code that others can import (stubs are not)."""
    return path.endswith(MODULE_ENDINGS)


def is_code(path: str) -> bool:
    """Whether a path is a node of the graph by its name: modules, and scripts that run them."""
    return path.endswith(MODULE_ENDINGS + SCRIPT_ENDINGS)


def find_layout(
    paths: Iterable[str],
    manifests: Mapping[str, bytes],
    declared: Iterable[str] = (),
    aliases: Mapping[str, str] | None = None,
) -> Layout:
    """The layout of a state.

    ``paths``: its files; ``manifests``: the content of its pyproject.toml, setup.cfg and setup.py files by path;
    ``declared``: source roots of greenline.yaml, suites' rootdirs and ``pythonpath`` entries; ``aliases``: links to
    folders. A manifest that cannot be parsed only contributes its folder.
    """
    packages = set()
    roots = {*declared, "src"}
    for path in paths:
        folder, _, file = path.rpartition("/")
        if file == "__init__.py":
            packages.add(folder)
        elif file in DISTRIBUTION_FILES:
            roots |= {folder, f"{folder}/src" if folder else "src"}
    entry_points: dict[str, tuple[str, ...]] = {}
    scripts: dict[str, str] = {}
    for path, data in sorted(manifests.items()):
        folder = path.rpartition("/")[0]
        facts = read_manifest(path, data)
        roots.update(_join(folder, root) for root in facts.roots)
        for group, modules in facts.entry_points.items():
            entry_points[group] = tuple(sorted({*entry_points.get(group, ()), *modules}))
        scripts |= facts.scripts
    roots.discard("")
    return Layout(packages, roots, entry_points, scripts, aliases)


class _Manifest(NamedTuple):
    roots: list[str]
    entry_points: dict[str, list[str]]
    scripts: dict[str, str]


def read_manifest(path: str, data: bytes) -> _Manifest:
    """What shapes the layout in a pyproject.toml, setup.cfg or setup.py; nothing where it cannot be parsed."""
    if path.endswith("pyproject.toml"):
        return _read_pyproject(data)
    if path.endswith("setup.cfg"):
        return _read_setup_cfg(data)
    return _read_setup_py(data)


def _read_pyproject(data: bytes) -> _Manifest:
    import tomllib

    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return _Manifest([], {}, {})
    project, tool = _table(table, "project"), _table(table, "tool")
    poetry, hatch = _table(tool, "poetry"), _table(tool, "hatch", "build")
    roots: list[str] = []
    roots += _texts(_table(tool, "setuptools", "packages", "find").get("where"))
    roots += _texts(list(_table(tool, "setuptools", "package-dir").values()))
    packages = poetry.get("packages")
    for item in packages if isinstance(packages, list) else []:
        roots += _texts(item.get("from")) if isinstance(item, dict) else []
    for target in [hatch, *_table(hatch, "targets").values()]:
        if isinstance(target, dict):
            roots += _texts(target.get("dev-mode-dirs"))
            roots += [package.rstrip("/").rpartition("/")[0] for package in _texts(target.get("packages"))]
            sources = target.get("sources")
            roots += _texts(list(sources) if isinstance(sources, dict) else sources)
    roots += _texts(_table(tool, "maturin").get("python-source"))
    roots += _texts(_table(tool, "uv", "build-backend").get("module-root"))
    roots += _texts(_table(tool, "pdm", "build").get("package-dir"))
    roots += _texts(_table(tool, "mypy").get("mypy_path"))
    roots += _texts(_table(tool, "pyright").get("extraPaths"))
    groups = {group: dict(table) for group, table in _table(project, "entry-points").items() if isinstance(table, dict)}
    groups["console_scripts"] = {**_table(project, "scripts"), **_table(poetry, "scripts")}
    groups["gui_scripts"] = _table(project, "gui-scripts")
    for group, plugins in _table(poetry, "plugins").items():
        groups[group] = {**groups.get(group, {}), **plugins} if isinstance(plugins, dict) else {}
    return _Manifest(roots, *_split_entry_points(groups))


def _read_setup_cfg(data: bytes) -> _Manifest:
    import configparser

    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(data.decode("utf-8"))
    except (configparser.Error, UnicodeDecodeError):
        return _Manifest([], {}, {})
    get = parser.get
    roots = [line.partition("=")[2].strip() for line in get("options", "package_dir", fallback="").split("\n") if line]
    roots += get("options.packages.find", "where", fallback="").split()
    groups = {}
    if parser.has_section("options.entry_points"):
        for group, text in parser.items("options.entry_points"):
            pairs = (line.partition("=") for line in text.split("\n") if "=" in line)
            groups[group] = {name.strip(): target.strip() for name, _, target in pairs}
    return _Manifest([root for root in roots if root], *_split_entry_points(groups))


def _read_setup_py(data: bytes) -> _Manifest:
    import ast
    import re

    roots = []
    for text in re.findall(rb"package_dir\s*=\s*(\{[^{}]*\})", data) + re.findall(
        rb"where\s*=\s*('[^']*'|\"[^\"]*\")", data
    ):
        try:
            value = ast.literal_eval(text.decode("utf-8"))
        except (ValueError, SyntaxError):
            continue
        roots += _texts(list(value.values()) if isinstance(value, dict) else value)
    groups: dict[str, dict[str, str]] = {}
    for group, body in re.findall(rb"[\"']([\w.\-]+)[\"']\s*:\s*\[([^\]]*)\]", data):
        pairs = re.findall(r"[\"']\s*([\w.\-]+)\s*=\s*([\w.]+(?::[\w.]+)?)", body.decode("utf-8", "replace"))
        if pairs:
            groups[group.decode()] = dict(pairs)
    return _Manifest(roots, *_split_entry_points(groups))


def _split_entry_points(
    groups: Mapping[str, Mapping[str, object]],
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Groups of ``name = module:object`` → (group → module names, console script → module name)."""
    modules: dict[str, list[str]] = {}
    scripts: dict[str, str] = {}
    for group, table in groups.items():
        for name, target in table.items():
            if isinstance(target, dict):
                target = target.get("callable") or target.get("reference")
            if isinstance(target, str) and target:
                module = target.partition(":")[0].partition("[")[0].strip()
                modules.setdefault(group, []).append(module)
                if group in ("console_scripts", "gui_scripts"):
                    scripts[name] = module
    return modules, scripts


def _table(table: Mapping[str, object], *keys: str) -> dict[str, object]:
    for key in keys:
        value = table.get(key)
        table = value if isinstance(value, dict) else {}
    return dict(table)


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _join(folder: str, root: str) -> str:
    """A root of a manifest, relative to the repository; what leaves it is no root."""
    import posixpath

    joined = posixpath.normpath(posixpath.join(folder, root or "."))
    return "" if joined == "." or joined.startswith(("..", "/")) else joined
