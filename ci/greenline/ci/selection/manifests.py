"""What the change of a dependency manifest or lock file affects: those who import the distributions that changed."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from pathlib import Path

from greenline.ci.selection.found import Found
from greenline.depgraph import distributions, locks
from greenline.depgraph.overlay import FileState

LOCKS = ("uv.lock", "poetry.lock", "pdm.lock", "pylock.toml")


def judge(found: Found, state: FileState) -> None:
    """Add what a changed manifest affects. pytest's own section of it is judged elsewhere."""
    path, contents = state.path, found.opened.contents
    delta = locks.compare_manifest(path, contents.get(path, state.base), contents.get(path, state.head))
    if delta.everything:
        found.all(delta.reason)
        return
    if delta.entry_points:
        found.all(f"{path}: the project's entry points changed")
        return
    changed = {name for name in delta.direct if not distributions.is_developer_tool(name)}
    if not changed:
        return
    packages = distributions.find_site_packages(Path(found.opened.workspace.root))
    required_by = delta.required_by
    if not delta.closed:
        graph = _graph_beside(found, path) or _installed_graph(packages)
        if graph is None:
            found.superset(
                f"{path}: nothing tells what requires {_some(changed)}",
                "keep a lock file beside it, or call greenline where a virtual environment with the dependencies is",
            )
            return
        required_by = _inverted(graph)
    environment = {
        name: modules for folder in packages for name, modules in distributions.installed_modules(folder).items()
    }
    autoloaded = {name for folder in packages for name in distributions.installed_autoload(folder)}
    family = {name for name in locks.reach(changed, required_by) if not distributions.is_developer_tool(name)}
    everywhere = sorted(name for name in family if distributions.affects_all_tests(name, autoloaded))
    if everywhere:
        found.all(f"{path}: {everywhere[0]} may behave differently, and it takes part in every test")
        return
    imports = found.graph
    unknown = distributions.unexplained(
        changed, required_by, lambda module: bool(imports.mentioning(module)), environment
    )
    if unknown:
        found.superset(
            f"{path}: nothing here imports {_some(unknown)}, so it cannot be told who uses it",
            "if no test does, list the file under 'ignore' in greenline.yaml, or give a data rule",
        )
        return
    governed = _governed_by(found, path)
    for name, modules in sorted(distributions.import_names(family, environment).items()):
        why = f"imports {name}, which changed in {path}"
        for module in modules:
            for node in imports.mentioning(module):
                if governed(imports.path(node)):
                    found.seed(node, why)


def _governed_by(found: Found, path: str) -> Callable[[str], bool]:
    """Whether a lock file decides what a Python file runs with: the nearest lock above a file does.

    A manifest without a lock may matter anywhere, and so does a lock for files that have none above them.
    """
    if posixpath.basename(path) not in LOCKS:
        return lambda _: True
    listed = found.opened.workspace.git("ls-files", "-z", "--", *(f":(glob)**/{name}" for name in LOCKS))
    folders = {posixpath.dirname(lock) for lock in listed.split("\0")[:-1]}
    own = posixpath.dirname(path)

    def governed(file: str) -> bool:
        folder = posixpath.dirname(file)
        while folder and folder not in folders:
            folder = posixpath.dirname(folder)
        return folder == own or folder not in folders

    return governed


def _graph_beside(found: Found, path: str) -> Mapping[str, frozenset[str]] | None:
    """distribution → those it requires, from a lock file in the manifest's folder or one above it."""
    folder = posixpath.dirname(path)
    while True:
        for name in LOCKS:
            lock = posixpath.join(folder, name)
            data = found.opened.read_head(lock)
            graph = locks.requirement_graph(lock, data) if data is not None else None
            if graph is not None:
                return graph
        if not folder:
            return None
        folder = posixpath.dirname(folder)


def _installed_graph(packages: list[Path]) -> Mapping[str, frozenset[str]] | None:
    return distributions.installed_requirements(packages[0]) if packages else None


def _inverted(graph: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    inverted: dict[str, set[str]] = {}
    for name, required in graph.items():
        for other in required:
            inverted.setdefault(other, set()).add(name)
    return {name: frozenset(users) for name, users in inverted.items()}


def _some(names: set[str] | frozenset[str]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
