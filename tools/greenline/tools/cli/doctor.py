"""`greenline doctor`: what works here, what does not, and the way out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import click

from greenline.ci.environment import find_base
from greenline.depgraph import cachefile, config, index, workspace
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.globs import matcher
from greenline.depgraph.suites import SuiteIndex
from greenline.depgraph.wording import plural
from greenline.depgraph.workspace import Workspace
from greenline.tools.cli.doctor_repair import examine_repair
from greenline.tools.cli.finding import ADVICE, BROKEN, OK, Finding

_OLDEST_GIT = (2, 25)
_MANY_FILES = 10_000  # from here on git's own caches are worth a setting
_PYTEST_SECONDS = 60
_ERROR = re.compile(r"(E\s+)?(\w+\.)*\w+Error: ")


@click.command()
@click.option("--format", "layout", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(layout: str) -> int:
    """Say what works here, what does not, and the way out.

    The exit code is 1 when something is broken. Advice is about speed and exactness.
    """
    findings = list(examine())
    states = Counter(finding.state for finding in findings)
    if layout == "json":
        answer = {"version": 1, "ok": not states[BROKEN], "findings": [item._asdict() for item in findings]}
        click.echo(json.dumps(answer, indent=2))
    else:
        for check, state, message, hint in findings:
            lines = [*message.splitlines(), *([hint] if hint else [])]
            click.echo(f"{state:<7} {check:<14} " + f"\n{'':23}".join(lines))
    click.echo(f"{states[OK]} ok, {states[ADVICE]} advice, {states[BROKEN]} broken", err=True)
    return 1 if states[BROKEN] else 0


def examine() -> Iterator[Finding]:
    """All checks of the repository around the current folder, in the order in which one needs the other."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", OK, f"{version} at {sys.executable}")
    git = _git_version()
    yield git
    if git.state == BROKEN:
        return
    try:
        repository = workspace.find()
        head = repository.git("rev-parse", "--verify", "--quiet", "HEAD", ok=(0, 1)).strip()
    except GreenlineError as error:
        yield _broken("repository", error)
        return
    yield _repository(repository, head)
    yield from _clone(repository)
    try:
        settings = config.load(repository.root)
    except GreenlineError as error:
        yield _broken(config.FILE, error)
        return
    listed = repository.git("ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")[:-1]
    yield from _configuration(repository, settings, listed)
    yield _base(repository, settings)
    yield from _suites(repository, settings, listed)
    yield _cache(repository)
    yield from _contents(repository)
    yield from _speed(repository, len(listed))
    switches = sorted(name for name in os.environ if name.startswith("GREENLINE_"))
    if switches:
        yield Finding("environment", OK, f"set: {', '.join(switches)}")
    yield from examine_repair(settings.rooms.get("repair", {}), os.environ)
    yield from _pytest(repository, settings)


def _advice(check: str, message: str, hint: str | None = None) -> Finding:
    return Finding(check, ADVICE, message, hint)


def _broken(check: str, error: GreenlineError) -> Finding:
    return Finding(check, BROKEN, error.message, error.hint)


def _git_version() -> Finding:
    try:
        text = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return Finding("git", BROKEN, "git is not installed", "install git 2.25 or later")
    numbers = re.search(r"(\d+)\.(\d+)", text)
    if numbers and (int(numbers[1]), int(numbers[2])) < _OLDEST_GIT:
        return Finding("git", BROKEN, f"{text} is too old", "install git 2.25 or later")
    return Finding("git", OK, text)


def _repository(repository: Workspace, head: str) -> Finding:
    if not head:
        return Finding("repository", BROKEN, f"{repository.root} has no commit yet", "commit something first")
    linked = ", a linked worktree" if repository.git_dir != repository.common_dir else ""
    return Finding("repository", OK, f"{repository.root}{linked}")


def _clone(repository: Workspace) -> Iterator[Finding]:
    """What is missing from this clone, or more than one repository."""
    if repository.is_shallow():
        yield _advice("clone", "shallow: without the base commit everything is selected", "git fetch --unshallow")
    if _setting(repository, "--get-regexp", r"^remote\..*\.promisor$"):
        message = "partial: contents that were not fetched are unknown, and what is unknown selects more"
        yield _advice("clone", message, "git fetch --refetch --no-filter")
    if _setting(repository, "--bool", "core.sparseCheckout") == "true":
        message = "sparse: tests outside the sparse checkout cannot be run here"
        yield _advice("clone", message, "git sparse-checkout disable")
    staged = repository.git("ls-files", "--stage", "-z").split("\0")
    modules = [entry.split("\t", 1)[1] for entry in staged if entry.startswith(workspace.SUBMODULE)]
    if modules:
        yield _advice("clone", f"submodules: {_some(modules)}; a change inside one is not seen file by file")


def _configuration(repository: Workspace, settings: config.Config, files: Sequence[str]) -> Iterator[Finding]:
    there = os.path.exists(os.path.join(repository.root, config.FILE))
    yield Finding(config.FILE, OK, "valid" if there else "not there: all defaults")
    for key, value in _named(settings):
        if not any(map(matcher(index.globs_of([value])), files)) and not _is_mentioned(repository, value):
            yield _advice(config.FILE, f"{key}: {value!r} matches nothing", "correct it or delete it")
    if settings.selection == "off":
        yield _advice(config.FILE, "selection is off: every selection is all tests")


def _named(settings: config.Config) -> Iterator[tuple[str, str]]:
    """Entries of the configuration, (key, value), that should match something."""
    lists: list[tuple[str, Sequence[str]]] = [
        ("exclude", settings.exclude),
        ("run_all", settings.run_all),
        ("always_run.files", settings.always_run.files),
        ("source_roots", settings.source_roots),
        ("suites", [suite.root for suite in settings.suites]),
    ]
    pairs = [(f"edges[{at}]", edge.from_, edge.to) for at, edge in enumerate(settings.edges)]
    pairs += [(f"cut[{at}]", cut.from_, cut.to) for at, cut in enumerate(settings.cut)]
    lists += [
        (f"{key}.{side}", values) for key, *sides in pairs for side, values in zip(("from", "to"), sides, strict=True)
    ]
    for at, rule in enumerate(settings.data):
        lists += [(f"data[{at}].files", rule.files), (f"data[{at}].affects", rule.affects)]
    for key, values in lists:
        # A root may be "", the repository itself; "all" and "none" are words of data rules.
        yield from ((key, value) for value in values if value not in ("", "all", "none"))


def _is_mentioned(repository: Workspace, target: str) -> bool:
    """Whether a dotted module that is no file here, such as a compiled one, is named anywhere."""
    return not re.search(r"[*?/\[]", target) and bool(repository.grep([target.rpartition(".")[2]]))


def _base(repository: Workspace, settings: config.Config) -> Finding:
    try:
        base = find_base(repository, settings.base)
    except GreenlineError as error:
        return _broken("base", error)
    if base.commit is None:
        return _advice("base", f"{base.how}: everything is selected", base.hint)
    return Finding("base", OK, f"{base.commit[:12]}, {base.how}")


def _suites(repository: Workspace, settings: config.Config, files: Sequence[str]) -> Iterator[Finding]:
    try:
        tests, suites, warnings = index.list_tests(repository.root, files, settings)
    except GreenlineError as error:
        yield _broken("suites", error)
        return
    for warning in warnings:
        yield Finding("suites", BROKEN, warning, "pytest refuses this file too: mend it")
    owner = SuiteIndex(suites, files).suite_of
    counts = Counter(suite.name for test in tests if (suite := owner(test)))
    counts.update({suite.name: 0 for suite in settings.suites})
    if not tests:
        yield Finding("suites", BROKEN, "no test file was found", "say where they are: suites in greenline.yaml")
    for name, count in sorted(counts.items()):
        yield Finding("suites", OK if count else ADVICE, f"{name}: {plural(count, 'test file')}")


def _pytest(repository: Workspace, settings: config.Config) -> Iterator[Finding]:
    """Whether each suite's pytest starts, and has the plugin."""
    commands = {suite.command: suite.root for suite in reversed(settings.suites)}
    commands.setdefault((), "")
    for command_of_suite, root in sorted(commands.items()):
        words = command_of_suite or (sys.executable, "-m", "pytest")
        shown = " ".join(words)
        hint = "say how pytest is started: suites[].command in greenline.yaml"
        try:
            done = subprocess.run(
                [*words, "-VV"],
                cwd=os.path.join(repository.root, root),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PYTEST_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            yield Finding("pytest", BROKEN, f"{shown}: {error}", hint)
            continue
        printed = done.stdout + done.stderr
        if done.returncode:
            lines = printed.strip().splitlines() or [f"exit code {done.returncode}"]
            errors = [line.removeprefix("E ").strip() for line in lines if _ERROR.match(line)]
            if errors and "No module named" in errors[-1]:
                hint = "install what the tests need into the environment of that Python"
            yield Finding("pytest", BROKEN, f"{shown}: {(errors or lines)[-1]}", hint)
        elif "pytest-greenline-" in printed:
            yield Finding("pytest", OK, f"{shown}: it starts and has the plugin")
        else:
            message = f"{shown}: it starts, but has no plugin, so no --affected"
            yield _advice("pytest", message, "install pytest-greenline where that pytest is")


def _cache(repository: Workspace) -> Finding:
    probe = cachefile.name(repository.cache, "doctor", str(os.getpid()))
    if not cachefile.write(probe, {}):
        message = f"{repository.cache} cannot be written: every run starts cold"
        return _advice("cache", message, "name a folder that can: GREENLINE_CACHE_DIR")
    cachefile.remove(probe)
    return Finding("cache", OK, repository.cache)


def _contents(repository: Workspace) -> Iterator[Finding]:
    """Files whose bytes in the work tree are not what was committed, though nobody edited them."""
    large = repository.git("ls-files", "-z", ":(attr:filter=lfs)").split("\0")[:-1]
    pointers = [path for path in large if (repository.read(path) or b"").startswith(b"version https://git-lfs")]
    if pointers:
        message = f"{len(pointers)} of {len(large)} Git LFS files are not fetched: {_some(pointers)}"
        yield _advice("files", f"{message}; tests that read them fail", "git lfs pull")
    changed = _changed(repository)
    endings = sorted(changed - _changed(repository, "--ignore-cr-at-eol")) if changed else []
    if endings:
        message = f"{plural(len(endings), 'file')} changed in line ends only: {_some(endings)}"
        yield _advice("files", message, "git add --renormalize .")


def _changed(repository: Workspace, *options: str) -> set[str]:
    """Paths of the work tree with lines that differ from the index."""
    records = repository.git("diff", "--numstat", "--no-renames", "-z", *options).split("\0")[:-1]
    fields = (record.split("\t", 2) for record in records)
    return {path for added, removed, path in fields if (added, removed) != ("0", "0")}


def _speed(repository: Workspace, files: int) -> Iterator[Finding]:
    if files < _MANY_FILES:
        return
    # git's own file system monitor knows macOS and Windows only.
    wanted = ["core.untrackedCache"] + (["core.fsmonitor"] if sys.platform in ("darwin", "win32") else [])
    for name in wanted:
        if _setting(repository, name) in ("", "false"):
            message = f"{files} files, and git looks at each of them in every run"
            yield _advice("speed", message, f"git config {name} true")


def _setting(repository: Workspace, *args: str) -> str:
    return repository.git("config", *args, ok=(0, 1)).strip()


def _some(paths: Sequence[str]) -> str:
    return ", ".join(paths[:3]) + (", …" if len(paths) > 3 else "")
