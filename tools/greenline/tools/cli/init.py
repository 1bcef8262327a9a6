"""`greenline init`: a first greenline.yaml from what the repository holds."""

from __future__ import annotations

import json
import os
import posixpath
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import click

from greenline.depgraph import config, workspace
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.wording import plural

_HEAD = """\
# What Greenline cannot find by looking. Every key is optional; `greenline init --schema` prints all of them
# with their meaning, and `greenline doctor` checks this file.
"""
_SUITES = """\
# Suites found by their pytest configuration; they need no entry here:
{found}# Declare one that is missing, or how pytest is started in one:
# suites:
#   - name: billing
#     root: services/billing
#     command: [uv, run, pytest]
"""
_EDGES = """\
# A change of `from` counts as a change of `to`, though no import ties them.
edges:
{edges}"""
_COMPILED = """\
# A change of compiled code selects every test. If this is all that it reaches, uncomment it:
{edges}"""
_RUN_ALL = """\
# A change of these selects every test.
run_all:
{globs}"""
_IGNORE = """\
# Files whose change affects no test, beyond the built-in list:
# ignore:
#   - "notes/**"
"""
_FEW = 5  # more files than this are written as one glob


@click.command()
@click.option("--force", is_flag=True, help="Overwrite the greenline.yaml that is there.")
@click.option("--print", "only_print", is_flag=True, help="Print it and write nothing.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of greenline.yaml, for editors.")
def command(force: bool, only_print: bool, schema: bool) -> None:
    """Write a first greenline.yaml from what is there.

    It declares the default branch, and what generated code, compiled code, migrations and settings depend on.
    Read it before you commit it: what is declared replaces what Greenline would guess.
    """
    if schema:
        with open(config.SCHEMA, encoding="utf-8") as file:
            click.echo(file.read(), nl=False)
        return
    repository = workspace.find()
    path = os.path.join(repository.root, config.FILE)
    if os.path.lexists(path) and not (force or only_print):
        raise GreenlineError(
            f"{config.FILE} is there already", "greenline init --force overwrites it, --print writes nothing"
        )
    text = _propose_for(repository)
    if only_print:
        click.echo(text, nl=False)
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise GreenlineError(f"{config.FILE} cannot be written: {error.strerror}", "use --print") from None
    click.echo(path)
    print("Read it, then run: greenline doctor", file=sys.stderr)


def _propose_for(repository: workspace.Workspace) -> str:
    from greenline.depgraph.index import list_tests
    from greenline.depgraph.suites import SuiteIndex

    files = repository.git("ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")[:-1]
    tests, suites, _ = list_tests(repository.root, files, config.Config())
    owner = SuiteIndex(suites, files).suite_of
    counts = Counter(suite.root for test in tests if (suite := owner(test)))
    return propose(sorted(set(files)), repository.read, repository.grep, default_branch(repository), counts)


def default_branch(repository: workspace.Workspace) -> str | None:
    """The branch that origin's HEAD names, else one with a usual name, if there is one."""
    named = repository.git("symbolic-ref", "--quiet", "refs/remotes/origin/HEAD", ok=(0, 1)).strip()
    if named:
        return named.removeprefix("refs/remotes/origin/")
    known = ("main", "master", "trunk", "develop")
    return next((name for name in known if repository.resolve(f"refs/heads/{name}")), None)


def propose(
    files: Sequence[str],
    read: Callable[[str], bytes | None],
    users: Callable[[Sequence[str]], Sequence[str]],
    branch: str | None,
    tests: Mapping[str, int],
) -> str:
    """The text of a greenline.yaml.

    `files`: all paths, sorted; `read`: the content of one; `users`: the Python files with one of some words;
    `branch`: the default branch; `tests`: number of test files by suite root.
    """
    files = [path for path in files if _is_plain(path)]
    parts = [_HEAD]
    if branch:
        parts.append(f"base:\n  branch: {_quote(branch)}\n")
    roots = {root or ".": count for root, count in sorted(tests.items()) if _is_plain(root)} or {"none": 0}
    parts.append(_SUITES.format(found="".join(f"#   {root}: {plural(n, 'test file')}\n" for root, n in roots.items())))
    generated = _protocol_buffers(files, users)
    if generated:
        parts.append(_EDGES.format(edges=generated))
    compiled = "".join(_rust_extensions(files, read))
    if compiled:
        lines = [*([] if generated else ["edges:"]), *compiled.splitlines()]
        parts.append(_COMPILED.format(edges="".join(f"# {line}\n" for line in lines)))
    everything = _touch_everything(files)
    if everything:
        parts.append(_RUN_ALL.format(globs="".join(f"  - {_quote(glob)}\n" for glob in everything)))
    return "\n".join([*parts, _IGNORE])


def _protocol_buffers(files: Sequence[str], users: Callable[[Sequence[str]], Sequence[str]]) -> str:
    """An edge from .proto files to the modules that protoc makes, unless it puts them beside their source."""
    sources = [path for path in files if path.endswith(".proto")]
    made = {stem + end for path in sources for stem in [_stem(path)] for end in ("_pb2.py", "_pb2_grpc.py")}
    beside = {posixpath.join(posixpath.dirname(path), _stem(path) + "_pb2.py") for path in sources}
    generated = [path for path in files if posixpath.basename(path) in made]
    if beside & set(generated):
        return ""
    if generated:
        return _edge(_compact(sources, "*.proto"), _compact(generated, "*_pb2*.py"), "protoc makes these modules")
    importers = [path for path in users(sorted(f"{_stem(path)}_pb2" for path in sources)) if _is_plain(path)]
    if sources and importers:
        return _edge(_compact(sources, "*.proto"), _compact(importers, "*.py"), "these import what protoc makes")
    return ""


def _stem(path: str) -> str:
    return posixpath.basename(path).removesuffix(".proto").replace("-", "_")


def _rust_extensions(files: Sequence[str], read: Callable[[str], bytes | None]) -> Iterator[str]:
    """An edge for each extension module that maturin builds, from all crates of its Cargo workspace."""
    import tomllib

    crates = {posixpath.dirname(path) for path in files if posixpath.basename(path) == "Cargo.toml"}
    for path in files:
        data = read(path) if posixpath.basename(path) == "pyproject.toml" else None
        if data is None or b"maturin" not in data:
            continue
        try:
            table = tomllib.loads(data.decode("utf-8"))
            maturin = table.get("tool", {}).get("maturin", {})
            module = str(maturin.get("module-name") or table["project"]["name"].replace("-", "_"))
            manifest = posixpath.join(posixpath.dirname(path), maturin.get("manifest-path", "Cargo.toml"))
        except (ValueError, KeyError, AttributeError, TypeError):
            continue  # not for us to judge
        crate = posixpath.dirname(posixpath.normpath(manifest))
        around = [other for other in crates if not other or f"{crate}/".startswith(other + "/")]
        if crate in crates and re.fullmatch(r"\w+(\.\w+)*", module):
            top = _escape(min(around, key=len))
            sources = [posixpath.join(top, glob) for glob in ("**/*.rs", "**/Cargo.toml", "**/Cargo.lock")]
            yield _edge(sources, [module], f"maturin builds {module}")


def _touch_everything(files: Sequence[str]) -> list[str]:
    """Globs of migrations and settings that are not Python (Greenline knows those that are)."""
    migrations = {match[1] for path in files if (match := re.match(r"((?:.*/)?migrations)/.*\.sql$", path))}
    settings = [path for path in files if re.search(r"(^|/)settings(\W[^/]*)?(/[^/]*)?\.(toml|ya?ml|json|ini)$", path)]
    return [f"{_escape(folder)}/**/*.sql" for folder in sorted(migrations)] + list(map(_escape, settings))


def _edge(sources: Sequence[str], targets: Sequence[str], reason: str) -> str:
    listed = [", ".join(map(_quote, side)) for side in (sources, targets)]
    return f"  - from: [{listed[0]}]\n    to: [{listed[1]}]\n    reason: {_quote(reason)}\n"


def _compact(paths: Sequence[str], name: str) -> list[str]:
    """Few paths as they are, many as one glob for files of this name below their common folder."""
    if len(paths) <= _FEW:
        return [_escape(path) for path in paths]
    folders = [posixpath.dirname(path).split("/") for path in paths]
    common = posixpath.commonprefix(folders)
    return [posixpath.join(_escape("/".join(common)), "**", name)]


def _escape(path: str) -> str:
    return re.sub(r"([*?\[\\])", r"\\\1", path)


def _is_plain(path: str) -> bool:
    """Whether a path can stand in YAML and in a glob: printable, and UTF-8."""
    return path.isprintable() and not path.startswith("!")


def _quote(text: str) -> str:
    """As YAML: plain when it is but words, else in double quotes (JSON's are YAML's too)."""
    plain = re.fullmatch(r"[A-Za-z_][\w./-]*( [\w./-]+)*", text, re.ASCII)
    return text if plain and text.lower() not in _NOT_TEXT else json.dumps(text, ensure_ascii=False)


_NOT_TEXT = ("on", "off", "yes", "no", "true", "false", "null")
