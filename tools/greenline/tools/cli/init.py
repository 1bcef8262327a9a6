"""`greenline init`: a first greenline.yaml from what the repository holds."""

from __future__ import annotations

import json
import os
import posixpath
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import click

from greenline.depgraph import config, workspace
from greenline.depgraph.errors import GreenlineError

_HEAD = """\
# What Greenline cannot find by looking. Every key is optional; `greenline init --schema` prints all of them
# with their meaning, and `greenline doctor` checks this file.
"""
_FEW = 5  # more files than this are written as one glob


@click.command()
@click.option("--force", is_flag=True, help="Overwrite the greenline.yaml that is there.")
@click.option("--print", "only_print", is_flag=True, help="Print it and write nothing.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of greenline.yaml, for editors.")
def command(force: bool, only_print: bool, schema: bool) -> None:
    """Write a first greenline.yaml from what is there.

    It declares what was found: the default branch, generated code, native extensions, migrations, settings.
    Each entry selects more tests than without it, never fewer.
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

    files = repository.git("ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")[:-1]
    tests, suites, _ = list_tests(repository, config.Config())
    counts = Counter(suite.root for test in tests if (suite := suites.suite_of(test)))
    return propose(sorted(set(files)), repository.read, repository.grep, default_branch(repository), counts)


def default_branch(repository: workspace.Workspace) -> str | None:
    """The branch that origin's HEAD names, else main or master, if there is one."""
    named = repository.git("symbolic-ref", "--quiet", "refs/remotes/origin/HEAD", ok=(0, 1)).strip()
    if named:
        return named.removeprefix("refs/remotes/origin/")
    known = ("main", "master")
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
    found = "".join(
        f"#   {root or '.'} ({count} test files)\n"
        for root, count in sorted(tests.items())
        if _is_plain(root)
    )
    none = "#   none\n"
    parts.append(
        f"# Suites found by their pytest configuration; they need no entry here:\n{found or none}"
        "# Declare one that is missing, or how pytest is started in one:\n"
        "# suites:\n#   - name: billing\n#     root: services/billing\n#     command: [uv, run, pytest]\n"
    )
    edges = [*_protocol_buffers(files, users), *_rust_extensions(files, read, users)]
    if edges:
        parts.append(
            "# A change of `from` counts as a change of `to`, though no import ties them.\nedges:\n"
            + "".join(edges)
        )
    everything = _touch_everything(files)
    if everything:
        lines = "".join(f"  - {_quote(glob)}\n" for glob in everything)
        parts.append(f"# A change of these selects every test.\nrun_all:\n{lines}")
    parts.append(
        '# Files whose change affects no test, beyond the built-in list:\n# ignore:\n#   - "docs/**"\n'
    )
    return "\n".join(parts)


def _protocol_buffers(files: Sequence[str], users: Callable[[Sequence[str]], Sequence[str]]) -> list[str]:
    sources = [path for path in files if path.endswith(".proto")]
    if not sources:
        return []
    names = [posixpath.basename(path).removesuffix(".proto").replace("-", "_") for path in sources]
    made = {name + ending for name in names for ending in ("_pb2.py", "_pb2_grpc.py")}
    generated = [path for path in files if posixpath.basename(path) in made]
    if generated:
        return [
            _edge(
                _compact(sources, ".proto"),
                _compact(generated, ".py", "*_pb2*"),
                "protoc generates these modules",
            )
        ]
    importers = [path for path in users(sorted(f"{name}_pb2" for name in names)) if _is_plain(path)]
    if not importers:
        return []
    return [
        _edge(
            _compact(sources, ".proto"),
            _compact(importers, ".py"),
            "these files import what protoc generates",
        )
    ]


def _rust_extensions(
    files: Sequence[str], read: Callable[[str], bytes | None], users: Callable[[Sequence[str]], Sequence[str]]
) -> list[str]:
    import tomllib

    crates = {posixpath.dirname(path) for path in files if posixpath.basename(path) == "Cargo.toml"}
    edges = []
    for path in files:
        if posixpath.basename(path) != "pyproject.toml":
            continue
        data = read(path) or b""
        if b"maturin" not in data:
            continue
        try:
            table = tomllib.loads(data.decode("utf-8"))
            maturin = table.get("tool", {}).get("maturin", {})
            module = maturin.get("module-name") or table["project"]["name"].replace("-", "_")
            manifest = posixpath.normpath(
                posixpath.join(posixpath.dirname(path), maturin.get("manifest-path", "Cargo.toml"))
            )
        except (ValueError, KeyError, AttributeError, TypeError):
            continue
        crate = posixpath.dirname(manifest)
        if crate not in crates:
            continue
        # Crates of one Cargo workspace depend on each other: take all of them.
        top = min((other for other in crates if not other or f"{crate}/".startswith(other + "/")), key=len)
        sources = [posixpath.join(top, glob) for glob in ("**/*.rs", "**/Cargo.toml", "**/Cargo.lock")]
        importers = [path for path in users([module.rpartition(".")[2]]) if _is_plain(path)]
        edges.append(_edge(sources, [module, *_compact(importers, ".py")], f"{module} is built from Rust"))
    return edges


def _touch_everything(files: Sequence[str]) -> list[str]:
    names = {posixpath.basename(path) for path in files}
    globs = []
    if "manage.py" in names:
        globs += [path for path in files if re.search(r"(^|/)settings(\.py$|/[^/]+\.py$)", path)]
    if names & {"manage.py", "alembic.ini"}:
        folders = {
            match[0]
            for path in files
            if (match := re.match(r"(.*/)?(migrations|alembic/versions)(?=/.*\.py$)", path))
        }
        globs += [f"{_escape(folder)}/**" for folder in sorted(folders)]
    return globs if len(globs) <= 4 * _FEW else ["**/settings.py", "**/settings/**", "**/migrations/**"]


def _edge(sources: Sequence[str], targets: Sequence[str], reason: str) -> str:
    listed = [", ".join(map(_quote, side)) for side in (sources, targets)]
    return f"  - from: [{listed[0]}]\n    to: [{listed[1]}]\n    reason: {_quote(reason)}\n"


def _compact(paths: Sequence[str], ending: str, stem: str = "*") -> list[str]:
    """Few paths as they are, many as one glob of their common folder."""
    if len(paths) <= _FEW:
        return [_escape(path) for path in paths]
    folder = posixpath.commonpath(
        [posixpath.dirname(path) or "." for path in paths] if all("/" in p for p in paths) else [""]
    )
    return [posixpath.join(_escape(folder), "**", stem + ending)]


def _escape(path: str) -> str:
    return re.sub(r"([*?\[\\])", r"\\\1", path)


def _is_plain(path: str) -> bool:
    """Whether a path can stand in YAML and in a glob: printable, and UTF-8."""
    return path.isprintable() and not path.startswith("!")


def _quote(text: str) -> str:
    """As YAML: plain when it is but words, else in double quotes (JSON's are YAML's too)."""
    plain = re.fullmatch(r"[A-Za-z_][\w./-]*( [\w./-]+)*", text, re.ASCII)
    return (
        text
        if plain and text not in ("on", "off", "yes", "no", "true", "false", "null")
        else json.dumps(text, ensure_ascii=False)
    )
