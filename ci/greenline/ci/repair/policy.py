"""What a diff may not do, whoever made it and whatever a model said about it: rules by name, judged from the bytes.

A refusal ends a candidate; a flag makes its proposal a draft that a person must look at. What the rules cannot see into
(a template, a language that is not Python) is flagged, never taken for harmless. The cases that each rule is for are in
docs/security.md, with what remains.
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from greenline.ci.repair import patch
from greenline.ci.repair.scrub import find_secrets, is_hidden
from greenline.depgraph.globs import matcher


class Settings(NamedTuple):
    """``repair.policy`` of greenline.yaml. ``protect``: more globs that no candidate may touch; ``allow``: globs that
    the rules on paths (not those on content) let pass with a flag."""

    max_files: int = 10
    max_lines: int = 200
    protect: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()


class Context(NamedTuple):
    """What a diff is judged against.

    ``before``: a file at bad, None: not there; ``tests``: node ids that must pass, relative to the repository;
    ``excerpt``: what they printed; ``secrets``: values that must not occur; ``maker``: "agent", "fix" or "revert": of
    a revert, computed by git alone, most findings are flags; ``is_test``: whether a path is a test file.
    """

    before: Callable[[str], bytes | None]
    tests: tuple[str, ...] = ()
    excerpt: str = ""
    secrets: tuple[str, ...] = ()
    maker: str = "agent"
    settings: Settings = Settings()
    is_test: Callable[[str], bool] | None = None


class Verdict(NamedTuple):
    """``refused`` and ``flags``: "rule: where: what", sorted, without secrets; ``blobs``: what each file is afterwards:
    its mode and bytes, None: deleted. What is imported must be exactly this."""

    refused: tuple[str, ...]
    flags: tuple[str, ...]
    blobs: Mapping[str, tuple[str, bytes] | None]


class Remark(NamedTuple):
    """One thing that a rule saw."""

    rule: str
    path: str
    what: str
    refuse: bool = True

    def __str__(self) -> str:
        return ": ".join(part for part in (self.rule, _shown(self.path), self.what) if part)


# Names of files, and with a "/" at the end of folders, anywhere; compared without regard to case.
_NAMES = (
    ("agent-config", "AGENTS.md AGENTS.override.md CLAUDE.md CLAUDE.local.md GEMINI.md SKILL.md .mcp.json .aider*"),
    ("agent-config", ".codex/ .claude/ .agents/ .gemini/ .cursor/ .cursorrules .windsurfrules copilot-instructions.md"),
    ("own-config", "greenline.yaml greenline.yml .greenline/"),
    ("owners", "CODEOWNERS OWNERS MAINTAINERS"),
    ("ci", ".github/ .gitlab/ .circleci/ .buildkite/ .ci/ .tekton/ .teamcity/ .azure-pipelines/ .woodpecker/"),
    ("ci", ".gitlab-ci.yml Jenkinsfile* azure-pipelines*.y*ml .travis.yml bitbucket-pipelines.yml .drone.yml"),
    ("ci", ".woodpecker*.y*ml appveyor.yml cloudbuild*.y*ml Makefile GNUmakefile *.mk justfile Taskfile*.y*ml"),
    ("hooks", ".pre-commit-config.yaml .pre-commit-hooks.yaml .husky/ .githooks/ .hooks/ lefthook*.y*ml .envrc"),
    ("hooks", ".devcontainer/ .vscode/ .idea/"),
    ("git-config", ".gitattributes .gitmodules .gitconfig .lfsconfig .git-blame-ignore-revs .mailmap"),
    ("test-config", "conftest.py pytest.ini .pytest.ini tox.ini noxfile.py sitecustomize.py usercustomize.py *.pth"),
    ("test-config", ".coveragerc mypy.ini .mypy.ini .flake8 ruff.toml .ruff.toml .pylintrc pyrightconfig.json"),
    ("dependencies", "requirements*.txt requirements*.in requirements/ constraints*.txt *.lock pylock*.toml Pipfile"),
    (
        "dependencies",
        "setup.py setup.cfg pyproject.toml environment*.y*ml package.json package-lock.json pnpm-lock.yaml",
    ),
    ("dependencies", "pip.conf pip.ini .pypirc .npmrc .condarc uv.toml Cargo.toml go.mod go.sum MANIFEST.in"),
    ("dependencies", "Dockerfile* *.dockerfile Containerfile* docker-compose*.y*ml compose*.y*ml .python-version"),
    (
        "snapshot",
        "__snapshots__/ __image_snapshots__/ *_snapshots/ goldens/ cassettes/ *.ambr *.snap *.snapshot *.approved.*",
    ),
    ("secret-file", ".env .env.* *.pem *.key *.p12 *.pfx *.kdbx id_rsa* id_ed25519* .netrc"),
)
_RULES = tuple(
    (rule, matcher(f"**/{name}".casefold() for name in names.split()))  # a glob that ends with "/" is all below it
    for rule, names in _NAMES
)
_TEST_CONFIG_FIXABLE = ("conftest.py",)  # a deterministic fix may rename a fixture's use there; a person looks
_INDEX_URL = re.compile(
    rb"(?:--|\b)(?:extra-index-url|index-url|find-links|trusted-host|extra_index_url|index_url)\b", re.I
)
_OPTIONS = re.compile(rb"--deselect\b|--ignore(?:-glob)?[= ]|--reruns\b|--no-cov\b|\baddopts\b|-p\s+no:")


def judge(diff: bytes, context: Context) -> Verdict:
    """Every rule that a diff can show. A diff that cannot be read is refused."""
    from greenline.ci.repair import policy_python, policy_tests

    if len(diff) > 200 * 100 * max(context.settings.max_lines, 1):  # far above what the limit on lines lets through
        return _verdict([Remark("size", "", f"the diff has {len(diff)} bytes")], [], context)
    try:
        changes = patch.read(diff, context.before)
    except patch.Unreadable as error:
        return _verdict([Remark("unreadable", "", str(error))], [], context)
    remarks = [*_size(changes, context)]
    is_test = context.is_test or looks_like_test
    for change in changes:
        outer = [*_shape(change), *_protected(change, context)]
        remarks += [*outer, *_text(change, context)]
        if change.path.endswith((".py", ".pyi")) and not change.binary:
            judged = policy_tests if is_test(change.path) else policy_python
            remarks += judged.remarks(change, context)
        elif not outer:
            where = "data of tests" if is_test(change.path) else "no Python"
            remarks.append(Remark("unjudged", change.path, f"{where}: the rules do not see what it does", refuse=False))
    remarks += _required(changes, context)
    return _verdict(remarks, changes, context)


def looks_like_test(path: str) -> bool:
    """pytest's and unittest's usual names: the file's own, or that of a folder above it."""
    *folders, name = path.split("/")
    return bool(
        re.fullmatch(r"test_.*|.*_tests?\.\w+|tests?\.py|conftest\.py", name)
        or any(folder in ("test", "tests", "testing", "testdata") for folder in folders)
    )


def settings_of(values: Mapping[str, Any]) -> Settings:
    """``repair.policy`` as greenline.yaml gives it: all scalars are text."""
    numbers = {key: int(values[key]) for key in ("max_files", "max_lines") if key in values}
    lists = {key: tuple(values[key]) for key in ("protect", "allow") if key in values}
    return Settings(**numbers, **lists)  # type: ignore[arg-type]


def _verdict(remarks: Sequence[Remark], changes: Sequence[patch.FileChange], context: Context) -> Verdict:
    # A revert restores a state that was reviewed and green: only what no history excuses is refused.
    hard = ("secret", "unreadable", "path", "link", "submodule", "size", "hidden-text", "nothing")
    refused = {str(item) for item in remarks if item.refuse and (context.maker != "revert" or item.rule in hard)}
    blobs = {
        change.path: None if change.new_mode is None else (change.new_mode, change.after or b"")
        for change in changes
        if not change.binary
    }
    return Verdict(tuple(sorted(refused)), tuple(sorted({str(item) for item in remarks} - refused)), blobs)


def _size(changes: Sequence[patch.FileChange], context: Context) -> Iterator[Remark]:
    settings = context.settings
    lines = sum(len(change.added) + len(change.removed) for change in changes)
    too_big = []
    if len(changes) > settings.max_files:
        too_big.append(f"{len(changes)} files, more than {settings.max_files}")
    if lines > settings.max_lines:
        too_big.append(f"{lines} lines, more than {settings.max_lines}")
    if too_big:
        yield Remark("size", "", "; ".join(too_big), refuse=context.maker != "revert")
    if not changes:
        yield Remark("nothing", "", "the diff is empty")


def _shape(change: patch.FileChange) -> Iterator[Remark]:
    """Paths and modes (attacks 15 to 17)."""
    path = change.path
    parts = path.split("/")
    if path.startswith("/") or "\\" in path or any(part in ("", ".", "..") for part in parts):
        yield Remark("path", path, "leaves the repository")
    if any(is_hidden(char) for char in path) or any(part != part.strip() or part.endswith(".") for part in parts):
        yield Remark("path", path, "has characters that cannot be seen")
    if any(re.fullmatch(r"\.git|git~\d+", _folded(part)) for part in parts):
        yield Remark("path", path, "is git's own")
    modes = (change.old_mode, change.new_mode)
    if "120000" in modes:
        yield Remark("link", path, "is a symbolic link")
    elif "160000" in modes:
        yield Remark("submodule", path, "is a submodule")
    elif None not in modes and modes[0] != modes[1]:
        yield Remark("mode", path, f"changes its mode from {modes[0]} to {modes[1]}")
    elif change.old_mode is None and change.new_mode != patch.REGULAR:
        yield Remark("mode", path, f"is new with the mode {change.new_mode}")
    if change.binary:
        yield Remark("binary", path, "is binary")


def _protected(change: patch.FileChange, context: Context) -> Iterator[Remark]:
    """Files that decide what is run, who looks, and what counts as passed (attacks 3, 5, 8, 9, 18)."""
    path = change.path
    folded = "/".join(_folded(part) for part in path.split("/"))
    found = next((rule for rule, matches in _RULES if matches(folded)), None)
    if found is None and context.settings.protect and matcher(context.settings.protect)(path):
        found = "protected"
    if found:
        soft = context.maker == "fix" and (
            found in ("dependencies", "snapshot") or posixpath.basename(path) in _TEST_CONFIG_FIXABLE
        )
        allowed = bool(context.settings.allow) and matcher(context.settings.allow)(path)
        yield Remark(found, path, "may not be touched", refuse=not (soft or allowed))
    name = posixpath.basename(path).removesuffix(".py")
    if change.old_mode is None and path.endswith(".py") and (name in sys.stdlib_module_names or name in _SHADOWED):
        yield Remark("shadows", path, f"a new file with the name of the module {name}")


_SHADOWED = ("pytest", "_pytest", "pluggy", "numpy", "requests", "attr", "attrs", "yaml", "hypothesis", "setuptools")


def _text(change: patch.FileChange, context: Context) -> Iterator[Remark]:
    """What added lines may not hold in any language (attacks 2, 7, 12, 18)."""
    added = b"\n".join(change.added)
    text = added.decode("utf-8", "surrogateescape")
    for kind in find_secrets(text, context.secrets):
        yield Remark("secret", change.path, kind)
    if find_secrets(change.path, context.secrets):
        yield Remark("secret", "", "in a path")
    if b"\0" in added:
        yield Remark("binary", change.path, "has NUL bytes")
    elif any(is_hidden(char) and char not in "\t\r\n\f" for char in text):
        yield Remark("hidden-text", change.path, "adds characters that cannot be seen")
    if _INDEX_URL.search(added):
        yield Remark("dependencies", change.path, "names a package index")
    if _OPTIONS.search(added):
        yield Remark("skip", change.path, "adds an option that leaves tests out")


def _required(changes: Sequence[patch.FileChange], context: Context) -> Iterator[Remark]:
    """The tests that must pass must still be there, under their names (attack 6)."""
    required = {node_id.partition("::")[0] for node_id in context.tests}
    for change in changes:
        if change.new_mode is None and change.path in required:
            yield Remark("test-removed", change.path, "a failing test's file is deleted")


def _folded(part: str) -> str:
    """A name as file systems that ignore case, or git on them, would see it."""
    return "".join(char for char in part if not is_hidden(char)).casefold().rstrip(" .")


def _shown(path: str) -> str:
    """A path in one line of plain text."""
    return "".join(char if char.isprintable() else "?" for char in path)[:200]
