"""Repositories and programs for benchmarks: fetched from the package index or generated, kept below build/."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

BUILD = Path(__file__).parents[1] / "build" / "benchmarks"
GREENLINE = Path(sys.executable).with_name("greenline")
PIP = ("-m", "pip", "--disable-pip-version-check")


def programs(name: str, requirements: Sequence[str]) -> Path:
    """The folder of a virtual environment's programs, made with pip unless it is there with these requirements."""
    folder, wanted = BUILD / "environments" / name, "\n".join(requirements)
    done = folder / "requirements.txt"
    if not done.exists() or done.read_text("utf-8") != wanted:
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([str(folder / "bin" / "python"), *PIP, "install", "--quiet", *requirements], check=True)
        done.write_text(wanted, "utf-8")
    return folder / "bin"


def source_distribution(requirement: str, folder: Path) -> None:
    """Unpack a source distribution ("name==version") and make it a git repository with one commit."""
    downloads = BUILD / "downloads" / requirement
    if not downloads.exists():
        # It is read, not run: it need not be for this version of Python.
        options = ["--no-deps", "--no-binary", ":all:", "--ignore-requires-python", "--dest", str(downloads)]
        subprocess.run([sys.executable, *PIP, "download", "--quiet", *options, requirement], check=True)
    (archive,) = downloads.iterdir()
    clear(folder)
    unpacked = folder.with_name("unpacked")
    with tarfile.open(archive) as tar:
        tar.extractall(unpacked, filter="data")  # so that the files are ours: git asks who owns a repository
    (top,) = unpacked.iterdir()
    top.rename(folder)
    unpacked.rmdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--force", ".")
    git(folder, "commit", "--quiet", "--no-verify", "--message=benchmark")


def clear(folder: Path) -> None:
    """Delete a folder, and make the one around it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)


def git(folder: Path, *arguments: str) -> str:
    """git's output."""
    command = ["git", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(), check=True, stdout=subprocess.PIPE, text=True).stdout


def environment() -> dict[str, str]:
    """Variables of a developer's machine: no continuous integration, no settings of Greenline, git or pytest.

    Python may keep compiled code, as it has it for what pip installed.
    """
    ours = ("GREENLINE_", "GIT_", "GITHUB_", "GITLAB_", "CI", "BUILDKITE", "PYTEST_", "COVERAGE_", "PYTHONDONT")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    author = {f"GIT_{who}_{what}": "benchmark" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return kept | author | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


# -- a generated monorepo ------------------------------------------------------------------------------------

MODULES, TESTS, IN_AREA = 14, 4, 25
"""Modules and test files of a package (with two ``__init__.py`` 20 files), packages of an area."""

TOP = ["from __future__ import annotations", "import os", "import re", "from typing import TYPE_CHECKING, Any"]
WORDS = ("value", "count", "name", "path", "state", "handler", "request", "result", "item", "key", "message", "total")


def generate(folder: Path, files: int, seed: int = 0) -> None:
    """Write and commit a repository of about this many Python files of 3 KB; the same for the same seed.

    A package imports packages before it: near ones, and some that nearly everybody imports. A fifth of the files
    are tests; each area has a conftest.py.
    """
    clear(folder)
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    # One pack, hardly compressed, instead of an object a file: most of the time goes into the work tree.
    command = ["git", "-c", "core.compression=1", "fast-import", "--quiet"]
    with subprocess.Popen(command, cwd=folder, env=environment(), stdin=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.write(b"commit refs/heads/main\ncommitter benchmark <> 1700000000 +0000\ndata 0\n")
        for path, text in generated_files(files, Random(seed)):
            data = text.encode()
            process.stdin.write(b"M 100644 inline %b\ndata %d\n%b\n" % (path.encode(), len(data), data))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    git(folder, "reset", "--quiet", "--hard", "main")


def generated_files(files: int, random: Random) -> Iterator[tuple[str, str]]:
    """(path, text) of a generated repository."""
    blocks = [block(random) for _ in range(400)]
    count = max(2, files // (MODULES + TESTS + 2))
    names = [f"app.area{number // IN_AREA:03}.pack{number:05}" for number in range(count)]
    yield "pyproject.toml", '[project]\nname = "app"\nversion = "1"\n\n[tool.pytest.ini_options]\ntestpaths = ["app"]\n'
    yield "conftest.py", conftest("core", [f"{names[0]}.mod00"])
    yield "app/__init__.py", ""
    for number, name in enumerate(names):
        folder = name.replace(".", "/")
        if number % IN_AREA == 0:
            area = folder.rpartition("/")[0]
            yield f"{area}/__init__.py", ""
            yield f"{area}/conftest.py", conftest(f"area{number}", [f"{name}.mod01", f"{names[1]}.mod02"])
        exported = sorted(random.sample(range(MODULES), random.randrange(4)))
        yield f"{folder}/__init__.py", "".join(f"from .mod{at:02} import run as run{at}\n" for at in exported)
        yield f"{folder}/tests/__init__.py", ""
        for at in range(MODULES):
            own = [f"{name}.mod{other:02}" for other in range(at) if random.random() < 2 / at]
            other = [module_before(number, names, random) for _ in range(random.randrange(4, 13)) if number]
            yield f"{folder}/mod{at:02}.py", module(name, own + other, blocks, random)
        for at in range(TESTS):
            own = [f"{name}.mod{each:02}" for each in random.sample(range(MODULES), random.randrange(1, 4))]
            other = [module_before(number, names, random) for _ in range(random.randrange(4, 8)) if number]
            yield f"{folder}/tests/test_part{at}.py", tests(own + other, blocks, random)


def module_before(number: int, names: Sequence[str], random: Random) -> str:
    """A module of an earlier package: half are of the same area or close to it, most others hubs."""
    kind = random.random()
    if kind < 0.5:
        package = max(number - number % IN_AREA, number - 1 - int(random.expovariate(0.2)))
    elif kind < 0.9:
        package = int(number ** random.random()) - 1  # package r about as often as 1 / r, as Zipf has it
    else:
        package = random.randrange(number)
    return f"{names[min(package, number - 1)]}.mod{random.randrange(MODULES):02}"


def module(package: str, wanted: Sequence[str], blocks: Sequence[str], random: Random) -> str:
    """A module that imports others in the ways that code does; two of five do not only at their top."""
    top, checking, inside, strings = [*TOP], [""], [""], [""]
    ways = 1 if random.random() < 0.4 else 0.8
    for name in dict.fromkeys(wanted):
        where, last = name.rsplit(".", 1)
        way = random.random() * ways
        if where == package:
            top.append(f"from .{last} import run as {last}_run" if way < 0.5 else f"from . import {last}")
        elif way < 0.35:
            top.append(f"from {where} import {last} as {last}_{len(top)}")
        elif way < 0.7:
            top.append(f"from {name} import Handler as Handler{len(top)}, run as run{len(top)}")
        elif way < 0.8:
            top.append(f"import {name}")
        elif way < 0.9:
            inside.append(f"    from {name} import run as other")
        elif way < 0.97:
            checking.append(f"    from {name} import Handler as Typed{len(checking)}")
        else:
            strings.append(f'    "{name}",')
    if checking[1:]:
        top += ["", "if TYPE_CHECKING:", *checking[1:]]
    plugins = ["", "PLUGINS = [", *strings[1:], "]", ""]
    function = ["", "def run(value: Any = None) -> Any:", *inside[1:], "    return value", ""]
    return "\n".join(['"""A part."""', "", *top, *plugins, *function, *random.choices(blocks, k=3)])


def tests(wanted: Sequence[str], blocks: Sequence[str], random: Random) -> str:
    top = ["import pytest", ""]
    for name in dict.fromkeys(wanted):
        where, last = name.rsplit(".", 1)
        names = f"{where} import {last}" if random.random() < 0.3 else f"{name} import run as run{len(top)}"
        top.append(f"from {names}")
    functions = [f"\n\ndef test_run{at}(core):\n    assert core.run({at}) == {at}\n" for at in range(4)]
    return "\n".join([*top, *functions, *random.choices(blocks, k=2)])


def conftest(fixture: str, names: Sequence[str]) -> str:
    imports = "\n".join(f"from {name} import run as run{at}" for at, name in enumerate(names))
    return f"import pytest\n\n{imports}\n\n\n@pytest.fixture\ndef {fixture}():\n    return run0\n"


def block(random: Random) -> str:
    """A class of about 25 lines: what stands in files besides imports."""
    one, two, three, four = random.sample(WORDS, 4)
    number = random.randrange(10_000)
    return f'''
class {one.title()}{two.title()}{number}:
    """Keeps the {one} of a {two}, and says "{three}" when it's gone.

    More than one {four} may wait for it: see {three.title()}.
    """

    limit = {number}
    names = {{"{one}": "{two}", '{three}': r"^{four}\\d+$", "{two}.{three}": None}}

    def __init__(self, {one}: Any, {two}: int = {number % 97}) -> None:
        self.{one} = {one}  # the {four}'s own
        self.{two} = {two}
        self._{three}: dict[str, Any] = {{}}

    def {three}_of(self, {four}: str) -> str:
        """The {three} of one {four}."""
        if {four} not in self._{three}:
            raise KeyError(f"no {{{four}!r}} among {{len(self._{three})}} of them")
        for {one} in sorted(self._{three}, key=lambda each: (len(each), each)):
            if re.match(r"{four}[-_]({number})", {one}) and os.sep not in {one}:
                return "{one}: %s, {two}: %d" % ({one}, self.{two})
        return self._{three}[{four}]
'''
