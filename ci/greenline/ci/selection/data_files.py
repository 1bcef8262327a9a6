"""What the change of a file that is no Python affects.

Rules of greenline.yaml come first, then what is known of the file by its name, then who mentions it: Python files
that spell its name, and other data files that do (a template that includes a template). Where nobody spells it, it
may be read by a computed name: those count who read files of this kind near it, then everything near it, and where
nothing is near, everything.
"""

from __future__ import annotations

import posixpath

from greenline.ci.selection import workflows
from greenline.ci.selection.found import Found
from greenline.depgraph.config import Config
from greenline.depgraph.globs import matcher
from greenline.depgraph.index import Opened, globs_of
from greenline.depgraph.layout import is_code, is_module
from greenline.depgraph.overlay import FileState, generated_from
from greenline.depgraph.workspace import SUBMODULE

RUN_ALL = (
    ".github/actions/**", ".gitlab-ci.yml", ".gitlab/ci/**", ".buildkite/**", ".circleci/**",
    "azure-pipelines.yml", "Jenkinsfile", "**/Dockerfile*", "**/docker-compose*.y*ml", "**/compose*.y*ml",
    "**/noxfile.py", "greenline.yaml",
)  # fmt: skip
"""Files that decide how tests run."""

NO_EFFECT = (
    "**/*.md", "**/*.rst", "**/LICENSE*", "**/LICENCE*", "**/COPYING*", "**/NOTICE*", "**/AUTHORS*", "**/CONTRIBUTORS*",
    "**/CODEOWNERS", "**/CHANGELOG*", "**/CHANGES*", "**/HISTORY*", "**/README*", "docs/**", "doc/**",
    ".github/*", ".github/ISSUE_TEMPLATE/**", ".github/DISCUSSION_TEMPLATE/**", ".github/PULL_REQUEST_TEMPLATE/**",
    "**/.gitignore", "**/.gitattributes", "**/.gitkeep", "**/.mailmap", "**/.git-blame-ignore-revs", "**/.editorconfig",
    "**/.vscode/**", "**/.idea/**", "**/.pre-commit-config.yaml", "**/.pre-commit-hooks.yaml", "**/.dockerignore",
    "**/py.typed", "**/.flake8", "**/mypy.ini", "**/.mypy.ini", "**/ruff.toml", "**/.ruff.toml", "**/.pylintrc",
    "**/MAINTAINERS*", "**/SECURITY*", "**/CITATION.cff", ".devcontainer/**", ".github/styles/**", ".vale.ini",
    "mkdocs.y*ml", "**/.mdformat.toml", "**/.markdownlint*", "**/.prettierrc*", "**/.prettierignore", "**/.yamllint*",
    "**/.codespellrc", "**/_typos.toml", "**/.typos.toml", "**/cspell.json", "**/.cspell.json", ".all-contributorsrc",
    "lefthook.y*ml",
    "**/.coveragerc", "**/.readthedocs.y*ml", "**/renovate.json", "**/codecov.yml", "**/.codecov.yml",
)  # fmt: skip
"""Files that no test depends on, unless one spells their name."""

READERS = ("iterdir", "listdir", "scandir", "glob(", "os.walk", ".walk(", "PackageLoader", "FileSystemLoader")
"""Spelled by code that reads files whose names it does not spell."""

MOST_DATA = 200
"""Files on the way from one changed data file to Python, by name, beyond which no further data file is followed."""
MOST_NAMES = 5_000
"""Names that are looked up together."""


class DataRules:
    """The rules of a configuration, compiled."""

    def __init__(self, config: Config) -> None:
        self.data = [(matcher(rule.files), rule.affects) for rule in config.data]
        self.edges = [(matcher(edge.from_), edge.to, edge.reason) for edge in config.edges]
        self._run_all = matcher((*RUN_ALL, *config.run_all))
        self.ignore = matcher(config.ignore)
        self._no_effect = matcher(NO_EFFECT)

    def decides(self, opened: Opened, state: FileState) -> bool:
        """Whether the change of a file decides how tests run."""
        if not state.path.startswith(workflows.FOLDER) or self._run_all(state.path):
            return self._run_all(state.path)
        sides = [opened.contents.get(state.path, oid) for oid in (state.base, state.head)]
        return workflows.decides(*sides) or (sides[0] is None and sides[1] is None)

    def no_effect(self, path: str) -> bool:
        """Whether no test depends on a file, unless one spells its name. Of workflows where `decides` says no."""
        return path.startswith(workflows.FOLDER) or self._no_effect(path)


def judge_any(found: Found, state: FileState, rules: DataRules) -> bool:
    """Apply the rules that hold for every file, Python or not. True when nothing else needs to be asked."""
    path = state.path
    for matches, targets, reason in rules.edges:
        if matches(path):
            why = f"declared to depend on {path}" + (f" ({reason})" if reason else "")
            add_targets(found, targets, why)
    for generated in generated_from(path):
        _add_generated(found, generated, f"is generated from {path}")
    for matches, affects in rules.data:
        if matches(path):
            if "all" in affects:
                found.all(f"{path}: a data rule of greenline.yaml")
            elif "none" not in affects:
                add_targets(found, affects, f"reads {path} (a data rule of greenline.yaml)")
            return True
    if state.mode == SUBMODULE:
        found.all(f"{path}: a submodule moved or has changes")
        return True
    if rules.ignore(path):
        return True
    if rules.decides(found.opened, state):
        found.all(f"{path}: it decides how tests run")
        return True
    return False


def judge_data(found: Found, state: FileState, rules: DataRules) -> None:
    """Add what a changed data file affects. Manifests and pytest's configuration are judged elsewhere."""
    path = state.path
    mentioned = seed_mentions(found, path)
    declared = any(matches(path) for matches, _, _ in rules.edges) or bool(generated_from(path))
    if declared or rules.no_effect(path):
        return
    folder = _owner(found, path)
    readers = _far_readers(found, path) if folder is None else _near_readers(found, path, folder)
    for reader in readers:
        found.seed(found.graph.node(reader), f"reads files of the kind of {path} near it")
    if mentioned or readers:
        return
    if folder is not None:
        for node in _nearest(found, folder):
            found.seed(node, f"lies near {path}, which nothing mentions by name")
    else:
        found.superset(
            f"{path}: nothing tells what reads it",
            "say what it affects under 'data' in greenline.yaml, or list it under 'ignore'",
        )


def add_targets(found: Found, targets: tuple[str, ...], why: str) -> None:
    """Seed what globs, paths and dotted modules of the configuration name, whether the files exist or not."""
    graph = found.graph
    matches = matcher(globs_of(targets))
    for node in graph.nodes():
        if matches(graph.path(node)):
            found.seed(node, why)
    for target in targets:
        if "*" not in target and target.endswith(".py"):
            add_path(found, target, why)
        elif "/" not in target and "*" not in target:
            for node in graph.mentioning(target):
                found.seed(node, f"imports {target}, {why}")


def add_path(found: Found, path: str, why: str) -> None:
    """Seed a Python file, or, where it is not in the repository, those who import a module of its name."""
    graph = found.graph
    node = graph.node(path)
    if node >= 0:
        found.seed(node, why)
        return
    for name in graph.names(path):
        for importer in graph.mentioning(name.name):
            found.seed(importer, f"imports {name.name}, {why}")


def _add_generated(found: Found, path: str, why: str) -> None:
    """Seed a generated module and who mentions one of its name: it may have been written to another folder."""
    module = posixpath.basename(path).removesuffix(".py")
    found.seed(found.graph.node(path), why)
    for node in found.graph.mentioning_part(module):
        found.seed(node, f"imports {module}, which {why}")


def seed_mentions(found: Found, path: str) -> bool:
    """Seed the Python files that spell the file's name, or that of a data file which does. False if there are none."""
    graph, seen, front, any_found = found.graph, {path}, [path], False
    _look_up_all(found)
    while front:
        spelled = found.spellings.of({posixpath.basename(each) for each in front})
        front = []
        for other in spelled:
            if other in seen:
                continue
            seen.add(other)
            if is_module(other):
                node = graph.node(other)
                any_found = any_found or node >= 0
                found.seed(node, f"mentions {posixpath.basename(path)}")
            elif not _is_listing(other) and len(seen) < MOST_DATA:
                front.append(other)
    return any_found


def _look_up_all(found: Found) -> None:
    """Ask who spells the names of all changed files together, and of the data files that do: git reads everything
    for each question, and a change may have hundreds of data files."""
    if found.spellings.asked:
        return
    front = {posixpath.basename(state.path) for state in found.opened.changes if not is_code(state.path)}
    asked: set[str] = set()
    while front and len(asked) < MOST_NAMES:
        asked |= front
        spelled = found.spellings.of(front)
        data = (other for other in spelled if not is_module(other) and not _is_listing(other))
        front = {posixpath.basename(other) for other in data} - asked


def _is_listing(path: str) -> bool:
    """Lists of files and prose mention names without reading them."""
    name = posixpath.basename(path)
    listing = name in (
        "MANIFEST.in",
        "RECORD",
        "SOURCES.txt",
        "pyproject.toml",
        "setup.cfg",
        "CODEOWNERS",
        "Makefile",
    )
    return listing or name.endswith((".md", ".rst", ".lock", ".svg", ".po")) or name.startswith((".", "CHANGE"))


def _owner(found: Found, path: str) -> str | None:
    """The nearest folder above a file that has Python files in it or below; the root counts only for its own."""
    folder = path.rpartition("/")[0]
    while folder:
        if found.graph.below(folder):
            return folder
        folder = folder.rpartition("/")[0]
    return None


def _near_readers(found: Found, path: str, folder: str) -> list[str]:
    """Python files near a data file that read files of its kind or list folders."""
    ending = posixpath.splitext(path)[1]
    parent = posixpath.basename(posixpath.dirname(path))
    words = [*READERS]
    if ending:
        words += [ending + quote for quote in ('"', "'")]
    if parent and parent != posixpath.basename(folder):
        words += [quote + parent + after for quote in "\"'/" for after in "\"'/"]
    pattern = (f":(glob){folder}/**/*.py",)
    return found.spellings.grep(words, pattern)


def _far_readers(found: Found, path: str) -> list[str]:
    """Python files that spell both the ending of a data file and its folder, for data apart from all code."""
    folder, ending = posixpath.basename(posixpath.dirname(path)), posixpath.splitext(path)[1]
    if not folder or not ending:
        return []
    grep, python = found.spellings.grep, ("*.py", "*.ipynb")
    spell_ending = set(grep([ending + quote for quote in "\"'"], python))
    spell_folder = grep([quote + folder + after for quote in "\"'/" for after in "\"'/"], python)
    return sorted(spell_ending.intersection(spell_folder))


def _nearest(found: Found, folder: str) -> list[int]:
    """The Python files in a folder itself; if there are none, all below it."""
    graph = found.graph
    below = graph.below(folder)
    return [node for node in below if graph.path(node).rpartition("/")[0] == folder] or below
