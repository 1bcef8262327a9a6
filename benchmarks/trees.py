"""Repositories and programs for benchmarks: fetched from the package index or generated, and kept below build/."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random

BUILD = Path(__file__).parents[1] / "build" / "benchmarks"
GREENLINE = Path(sys.executable).with_name("greenline")


def programs(name: str, requirements: Sequence[str]) -> Path:
    """The folder of a virtual environment's programs; made with pip unless it is there with these requirements."""
    folder, wanted = BUILD / "environments" / name, "\n".join(requirements)
    done = folder / "requirements.txt"
    if not done.exists() or done.read_text("utf-8") != wanted:
        venv.create(folder, with_pip=True, clear=True)
        pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", *requirements], check=True)
        done.write_text(wanted, "utf-8")
    return folder / "bin"


def source_distribution(requirement: str, folder: Path) -> None:
    """Unpack a source distribution ("name==version") into a folder and make it a git repository with one commit."""
    downloads = BUILD / "downloads" / requirement
    if not downloads.exists():
        # Nothing of it is run here, so it need not be for this version of Python.
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
        options = ["--no-deps", "--no-binary", ":all:", "--ignore-requires-python", "--dest", str(downloads)]
        subprocess.run([*pip, *options, requirement], check=True)
    (archive,) = downloads.iterdir()
    clear(folder)
    with tarfile.open(archive) as tar:
        tar.extractall(folder.parent / "unpacked", filter="data")  # filter: the files are ours, not the packager's
    (top,) = (folder.parent / "unpacked").iterdir()
    top.rename(folder)
    (folder.parent / "unpacked").rmdir()
    make_repository(folder)


def clear(folder: Path) -> None:
    """Delete a folder and make the one around it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)


def make_repository(folder: Path) -> None:
    """Commit everything that is in a folder, what its .gitignore names included."""
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder)


def commit(folder: Path, paths: Iterable[str] = (".",)) -> None:
    git(folder, "add", "--force", "--", *paths)
    git(folder, "commit", "--quiet", "--no-verify", "--message=benchmark")


def git(folder: Path, *arguments: str) -> str:
    """git's output; it sees no configuration but the repository's own."""
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=environment(), check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def environment() -> dict[str, str]:
    """The environment of a developer's machine: no continuous integration, no settings of Greenline or of git's user."""
    ours = ("GREENLINE_", "GIT_", "GITHUB_", "GITLAB_", "CI_", "BUILDKITE", "PYTEST_", "COVERAGE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours) and name != "CI"}
    names = {f"GIT_{who}_{what}": "benchmark@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return kept | names | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


# -- a generated monorepo ------------------------------------------------------------------------------------


MODULES, TESTS, IN_AREA = 14, 4, 25
"""Modules and test files of a package, packages of an area."""


def generate(folder: Path, files: int, seed: int = 0) -> None:
    """Write a repository of about this many Python files (3 KB each) and commit it; the same for the same seed.

    Packages only import packages before them, mostly near ones and a few that everybody imports, 5 to 15 names a file.
    A fifth of the files are tests; each area has a conftest.py. Some imports stand in functions, under TYPE_CHECKING
    or in strings.
    """
    clear(folder)
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    # One pack instead of a file an object, and no compression to speak of: the time goes into writing the work tree.
    command = ["git", "-c", "core.compression=1", "fast-import", "--quiet"]
    with subprocess.Popen(command, cwd=folder, env=environment(), stdin=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.write(b"commit refs/heads/main\ncommitter b <b@localhost> 1700000000 +0000\ndata 0\n")
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
    yield "conftest.py", "import pytest\n\nfrom app.area000.pack00000 import mod00\n\n\n@pytest.fixture\ndef core():\n    return mod00\n"
    yield "app/__init__.py", ""
    for number, name in enumerate(names):
        folder = name.replace(".", "/")
        area = name.rpartition(".")[0]
        if number % IN_AREA == 0:
            yield f"{area.replace('.', '/')}/__init__.py", ""
            near = f"from {name} import mod01\nfrom app.area000.pack00001 import mod02 as helper\n"
            fixture = f"@pytest.fixture\ndef area{number}():\n    return mod01, helper\n"
            yield f"{area.replace('.', '/')}/conftest.py", f"import pytest\n\n{near}\n\n{fixture}"
        exported = [f"from .mod{at:02} import run as run{at}\n" for at in random.sample(range(MODULES), random.randrange(4))]
        yield f"{folder}/__init__.py", '"""What this package gives to others."""\n\n' + "".join(sorted(exported))
        yield f"{folder}/tests/__init__.py", ""
        for at in range(MODULES):
            wanted = [f"{name}.mod{other:02}" for other in range(at) if random.random() < 2 / (at + 1)]
            wanted += [module_before(number, names, random) for _ in range(random.randrange(4, 13)) if number]
            yield f"{folder}/mod{at:02}.py", module_text(name, wanted, blocks, random)
        for at in range(TESTS):
            wanted = [f"{name}.mod{other:02}" for other in random.sample(range(MODULES), random.randrange(1, 4))]
            wanted += [module_before(number, names, random) for _ in range(random.randrange(4, 8)) if number]
            yield f"{folder}/tests/test_part{at}.py", test_text(wanted, blocks, random)


def module_before(number: int, names: Sequence[str], random: Random) -> str:
    """A module of an earlier package: of the same area, of a hub (by rank, as Zipf has it), or of anywhere."""
    kind = random.random()
    if kind < 0.5:
        package = max(number - number % IN_AREA, number - 1 - int(random.expovariate(0.2)))
    elif kind < 0.9:
        package = int(number ** random.random()) - 1  # rank r about as often as 1 / r
    else:
        package = random.randrange(number)
    return f"{names[min(package, number - 1)]}.mod{random.randrange(MODULES):02}"


def module_text(package: str, wanted: Sequence[str], blocks: Sequence[str], random: Random) -> str:
    """A module that imports others in the ways that code does."""
    top = ["from __future__ import annotations", "import os", "import re", "from typing import TYPE_CHECKING, Any"]
    checking, inside, strings = [], [], []
    for name in dict.fromkeys(wanted):
        where, last = name.rsplit(".", 1)
        kind = random.random()
        if where == package:
            top.append(f"from .{last} import run as {last}_run" if kind < 0.5 else f"from . import {last}")
        elif kind < 0.35:
            top.append(f"from {where} import {last} as {last}_{len(top)}")
        elif kind < 0.7:
            top.append(f"from {name} import Handler as Handler{len(top)}, run as run{len(top)}")
        elif kind < 0.8:
            top.append(f"import {name}")
        elif kind < 0.9:
            inside.append(f"    from {name} import run as other")
        elif kind < 0.97:
            checking.append(f"    from {name} import Handler as Typed{len(checking)}")
        else:
            strings.append(f'    "{name}",')
    parts = ['"""One part of the application."""\n', *top, ""]
    if checking:
        parts += ["if TYPE_CHECKING:", *checking, ""]
    parts += ["PLUGINS = [", *strings, "]\n", "\ndef run(value: Any = None) -> Any:", *inside, "    return value\n"]
    return "\n".join(parts) + "\n\n" + "\n\n".join(random.choices(blocks, k=3))


def test_text(wanted: Sequence[str], blocks: Sequence[str], random: Random) -> str:
    top = ["import pytest\n"]
    for name in dict.fromkeys(wanted):
        where, last = name.rsplit(".", 1)
        top.append(f"from {name} import run as run{len(top)}" if random.random() < 0.7 else f"from {where} import {last}")
    tests = [f"def test_run{at}():\n    assert run1({at}) == {at}" for at in range(4)]
    return "\n".join(top) + "\n\n\n" + "\n\n\n".join(tests) + "\n\n\n" + "\n\n".join(random.choices(blocks, k=2))


WORDS = "value count name path state handler request result item key options message total limit index cache".split()


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
