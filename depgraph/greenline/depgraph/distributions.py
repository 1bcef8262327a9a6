"""From a distribution (what is installed) to its import names (what code writes), and who acts unimported.

An import name is dotted where distributions share a package: ``google.cloud.storage``. An import concerns it
when one of the two begins with the other: ``google.cloud.storage.client``, or ``google.cloud`` (as in ``from
google.cloud import storage``).

Sources, from best to worst: the metadata of the suite's environment, read without importing anything; a table
of well-known distributions; the distribution's own name, which is a guess.
"""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

from greenline.depgraph.known_distributions import DEVELOPER_TOOLS, IMPORT_NAMES, NAMESPACES, PYTEST_PLUGINS
from greenline.depgraph.locks import reach
from greenline.depgraph.manifest import normalise, parse_requirement

Environment = Mapping[str, frozenset[str]]

_STUBS = re.compile(r"types-.+|.+-stubs")
# Those of setuptools and coverage do nothing to a test; that of a shared package only makes it importable.
_STARTUP_FILE = re.compile(r"(?!distutils-precedence|a1_coverage|.*-nspkg|__editable__)[^/]+\.pth")
_DEVELOPMENT = re.compile(r"(.*[-_.])?(dev\w*|tests?|testing|docs?|lint\w*|typing|types|mypy|cov\w*|bench\w*)")


def import_names(distributions: Iterable[str], environment: Environment | None = None) -> dict[str, frozenset[str]]:
    """Each distribution → its import names; the empty set for one that holds no code to import.

    ``environment``: distribution → import names, see `installed_modules`.
    """
    return {name: _names(normalise(name), environment or {}) for name in distributions}


def is_guess(distribution: str, environment: Environment | None = None) -> bool:
    """Whether its import names are derived from its own name alone."""
    name = normalise(distribution)
    return not (name in (environment or {}) or name in IMPORT_NAMES or _STUBS.fullmatch(name))


def affects_all_tests(distribution: str, autoloaded: Collection[str] = ()) -> bool:
    """Whether it takes part in every test unimported; ``autoloaded``: what `installed_autoload` found."""
    name = normalise(distribution)
    return name in PYTEST_PLUGINS or name.startswith("pytest-") or name in autoloaded


def is_developer_tool(distribution: str) -> bool:
    """Whether it is a linter, formatter, builder or the like, or type stubs: unimported, no test uses it."""
    name = normalise(distribution)
    return name in DEVELOPER_TOOLS or _STUBS.fullmatch(name) is not None


def unexplained(
    changed: Iterable[str],
    required_by: Mapping[str, Collection[str]],
    is_imported: Callable[[str], bool],
    environment: Environment | None = None,
) -> frozenset[str]:
    """Those changed distributions of which it cannot be told who uses them: for them, select everything.

    ``required_by``: distribution → distributions that require it (`ManifestDelta.required_by`);
    ``is_imported``: whether a first-party file imports this name.

    A distribution is explained if it, or one that requires it, is imported, or if only developer tools
    require it. Otherwise its import name was guessed wrong, or something loads it by its name: a database
    driver, a plugin, a command.
    """
    found = set()
    for name in changed:
        family = reach([name], required_by)
        names = import_names(family, environment).values()
        if any(is_imported(module) for modules in names for module in modules):
            continue
        tops = [member for member in family if not set(required_by.get(member, ())) - {member}]
        if not (tops and all(is_developer_tool(top) for top in tops)):
            found.add(name)
    return frozenset(found)


def _names(name: str, environment: Environment) -> frozenset[str]:
    if name in environment:
        return environment[name]
    if name in IMPORT_NAMES:
        return IMPORT_NAMES[name]
    if _STUBS.fullmatch(name):
        return frozenset()
    guesses = {name.replace("-", "_"), re.sub("^(python-|py-?)|(-python|-py)$", "", name).replace("-", "_")}
    guesses |= {
        package + name.removeprefix(prefix).replace("-", ".")
        for prefix, package in NAMESPACES
        if name.startswith(prefix)
    }
    return frozenset(filter(None, guesses))


def find_site_packages(root: Path, projects: Collection[str] = ()) -> list[Path]:
    """The site-packages folders of the suite below ``root``, best first; none if there is no environment.

    ``projects``: the repository's own distributions; the running interpreter's environment counts only if one
    of them is installed there.
    """
    found = []
    environments = [os.environ.get("VIRTUAL_ENV"), root / ".venv", root / "venv"]
    for environment in environments:
        if environment:
            found += sorted(Path(environment).glob("lib*/python*/site-packages"))
            found += sorted(Path(environment).glob("Lib/site-packages"))  # Windows
    own = {normalise(project) for project in projects}
    running = Path(sysconfig.get_paths()["purelib"])
    if own and any(name in own for name, _ in _installed(running)):
        found.append(running)
    return list(dict.fromkeys(path.resolve() for path in found if path.is_dir()))


def installed_modules(site_packages: Path) -> dict[str, frozenset[str]]:
    """Each installed distribution → its import names, by its list of installed files."""
    return {name: _modules(metadata) for name, metadata in _installed(site_packages)}


def installed_requirements(site_packages: Path) -> dict[str, frozenset[str]]:
    """Each installed distribution → those it requires, or uses if they are there (its extras).

    Extras for its own development are left out. Conditions on the platform are ignored.
    """
    graph: dict[str, frozenset[str]] = {}
    for name, metadata in _installed(site_packages):
        required = set()
        for line in _read(metadata / "METADATA", metadata / "PKG-INFO").split("\n\n", 1)[0].splitlines():
            if not line.startswith("Requires-Dist:"):
                continue
            extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", line)
            requirement = parse_requirement(line.removeprefix("Requires-Dist:"))
            if requirement and not (extra and _DEVELOPMENT.fullmatch(extra[1].lower())):
                required.add(requirement.name)
        graph[name] = frozenset(required - {name})
    return graph


def installed_autoload(site_packages: Path) -> frozenset[str]:
    """Installed distributions that run in every test: pytest plugins, and those with code in a .pth file."""
    return frozenset(
        name
        for name, metadata in _installed(site_packages)
        if re.search(r"(?m)^\s*\[pytest11\]", _read(metadata / "entry_points.txt"))
        or any(
            re.search(r"(?m)^import\s", _read(site_packages / path))
            for path in _files(metadata)
            if _STARTUP_FILE.fullmatch(path)
        )
    )


def _installed(site_packages: Path) -> Iterator[tuple[str, Path]]:
    """Each installed distribution's name and the folder of its metadata, in order."""
    for folder in sorted(site_packages.glob("*.dist-info")) + sorted(site_packages.glob("*.egg-info")):
        if folder.is_dir():
            yield normalise(folder.name.rsplit(".", 1)[0].split("-")[0]), folder


def _read(*candidates: Path) -> str:
    for path in candidates:
        try:
            return path.read_text("utf-8", "replace")
        except OSError:
            continue
    return ""


def _files(metadata: Path) -> list[str]:
    """What a distribution installed: paths relative to site-packages, with slashes."""
    # A path that holds a comma is quoted; such a path is no module.
    record = _read(metadata / "RECORD").splitlines()
    if record:
        return [line.split(",", 1)[0] for line in record]
    lines = _read(metadata / "installed-files.txt", metadata / "SOURCES.txt").splitlines()
    return [line.replace("\\", "/").removeprefix("../") for line in lines]


def _modules(metadata: Path) -> frozenset[str]:
    if not (metadata / "RECORD").exists():
        return frozenset(_read(metadata / "top_level.txt").split())
    modules = [path.split("/") for path in _files(metadata) if path.endswith((".py", ".so", ".pyd"))]
    packages = {"/".join(parts[:-1]) for parts in modules if parts[-1].split(".")[0] == "__init__"}
    # Before PEP 420, distributions that share a package all had its __init__.py.
    packages -= {name.replace(".", "/") for name in _read(metadata / "namespace_packages.txt").split()}
    found = set()
    for parts in modules:
        names = [*parts[:-1], parts[-1].split(".")[0]]
        depth = next((i for i in range(1, len(parts)) if "/".join(parts[:i]) in packages), len(names))
        if all(name.isidentifier() for name in names[:depth]) and names[depth - 1] != "__init__":
            found.add(".".join(names[:depth]))
    return frozenset(found)
