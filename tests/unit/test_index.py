"""The graph does not depend on the snapshot that it is laid over: a differential test.

A small repository goes through a random sequence of edits, moves, commits and switches of branches. After each the
answer with a cache that has seen everything so far must be the answer with an empty one, for a random base and head,
down to the reasons. For a long search call this file as a program, with the first seed and how many.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from greenline.ci.affected import Answer, Request, affected
from greenline.depgraph.errors import GreenlineError

FOLDERS = [
    "", "app", "app/core", "app/core/deep", "app/data", "lib", "lib/src/lib", "tests", "tests/unit", "svc", "svc/app",
    "svc/src/svc_app", "svc/tests", "zed/app",
]  # fmt: skip
STEMS = ["__init__", "__main__", "a", "app", "b", "c", "conftest", "core", "test_a", "test_b", "test_c", "util"]
OTHERS = [
    "a.pyi", "b.pyx", "check_z.py", "data.json", "nb.ipynb", "note.md", "pyproject.toml", "pytest.ini", "run.sh",
    "test_doc.rst", "test_doc.txt", "x.proto", "x_pb2.py",
]  # fmt: skip
MODULES = [
    "a", "app", "app.a", "app.b", "app.core", "app.core.a", "app.core.deep", "app.core.deep.c", "app.core.util",
    "app.data.util", "app.util", "b", "c", "conftest", "core", "core.a", "json", "lib", "lib.a", "lib.core",
    "lib.util", "numpy.linalg", "svc.app", "svc.app.a", "svc_app", "svc_app.a", "svc_app.util", "tests.conftest",
    "tests.test_a", "tests.unit.util", "tests.util", "util", "zed.app.a",
]  # fmt: skip
STATEMENTS = [
    "import {module}",
    "import {module}",
    "from {module} import *",
    "from . import {stem}",
    "from .. import {stem}",
    "from .{stem} import thing",
    "from {module} import {stem}",
    "import importlib\nm = importlib.import_module('{module}')",
    "try:\n    import {module}\nexcept ImportError:\n    pass",
    "def load():\n    from {module} import x\n    return x",
    "import importlib\ndef named(x): return importlib.import_module(f'{module}.{{x}}')",
    "PATH = '{stem}.py'",
    "import subprocess\nsubprocess.run(['python', '-m', '{module}'])",
    "import subprocess\nsubprocess.run('tool x', shell=True)",
    "DATA = open('data.json')",
    "import pkgutil\nfor m in pkgutil.iter_modules(__path__): pass",
    "from importlib.metadata import entry_points\nE = entry_points(group='plug')",
    "import inspect\nS = inspect.getsource(object)",
    "G = __import__('glob').glob('*.py')",
    "# a comment",
    "def broken(:",
]
SETTINGS = {
    "pytest.ini": [
        "[pytest]\n",
        "[pytest]\ntestpaths = tests\n",
        "[pytest]\ntestpaths = nowhere\n",
        "[pytest]\npython_files = check_*.py test_*.py\n",
        "[pytest]\naddopts = -p app.a\n",
        "[pytest]\naddopts = --doctest-modules\n",
        "[pytest]\naddopts = --ignore=unit\n",
        "[pytest]\npythonpath = src\n",
        "[pytest]\nusefixtures = fa\n",
        "broken\n",
    ],
    "pyproject.toml": [
        "[project]\nname='x'\n",
        "[project]\nname='x'\n[project.scripts]\ntool='app.a:main'\n",
        "[project]\nname='x'\n[project.entry-points.plug]\np='app.b'\n",
        "[project]\nname='x'\n[project.entry-points.pytest11]\np='app.util'\n",
        "[project]\nname='x'\ndependencies=['numpy']\n",
        "[tool.pytest.ini_options]\ntestpaths=['tests']\n",
        "[tool.setuptools.packages.find]\nwhere=['src']\n",
        "[broken\n",
    ],
    "greenline.yaml": [
        "ignore: [docs/**]\n",
        "source_roots: [svc]\n",
        "exclude: [zed]\n",
        "cut:\n- from: app/a.py\n  to: app/b.py\n  reason: a plugin\n",
        "edges:\n- from: '**/data.json'\n  to: app.a\n",
        "suites:\n- name: one\n  root: svc\n",
        "always_run:\n  files: [tests/test_a.py]\n",
    ],
}


class Writer:
    """Random paths and contents."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def path(self) -> str:
        name = self.random.choice(STEMS) + ".py" if self.random.random() < 0.85 else self.random.choice(OTHERS)
        return os.path.join(self.random.choice(FOLDERS), name)

    def content(self, path: str) -> str:
        pick, name = self.random.choice, os.path.basename(path)
        if name in SETTINGS:
            return pick(SETTINGS[name])
        if name.endswith(".ipynb"):
            return json.dumps({"cells": [{"cell_type": "code", "source": self.python(name)}]})
        if name.endswith(".sh"):
            return f"python -m {pick(MODULES)}\npython {pick(STEMS)}.py\n"
        if name.endswith((".txt", ".rst")):
            return f"{pick(['>>> ', ''])}import {pick(MODULES)}\n"
        return self.python(name) if name.endswith((".py", ".pyx")) else f"{pick('123')} {pick(['data.json', ''])}\n"

    def python(self, name: str) -> str:
        pick = self.random.choice
        lines = [pick(STATEMENTS).format(module=pick(MODULES), stem=pick(STEMS[2:])) for _ in range(pick(range(5)))]
        lines.append(f"VALUE = {pick('123')}")
        if name == "conftest.py":
            mark = pick(["", "", "(autouse=True)"])
            body = f"(request):\n    import {pick(MODULES)}\n    return {pick('123')}"
            lines += [f"import pytest\n@pytest.fixture{mark}\ndef {pick(['fa', 'fb'])}{body}"]
            lines += [f"pytest_plugins = ['{pick(MODULES)}']"] if pick(range(6)) == 0 else []
        if name.startswith(("test_", "check_")):
            bodies = ["assert VALUE", f"import {pick(MODULES)}"]
            lines += [f"def test_{i}({pick(['', 'fa', 'fb'])}):\n    {pick(bodies)}" for i in range(pick(range(3)))]
            lines += ["import pytest\npytestmark = pytest.mark.always_run"] if pick(range(9)) == 0 else []
        return "\n".join(lines) + "\n"


class Walk:
    """A repository that takes random steps. Steps that are impossible where it stands change nothing."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.writer = Writer(seed)
        self.random = self.writer.random
        self.clock = 1_700_000_000
        self.steps: list[tuple[Callable[[], object], float]] = [
            (self.add, 20), (self.edit, 20), (self.delete, 16), (self.move, 8), (self.delete_folder, 2),
            (self.move_folder, 2), (self.link, 3), (self.ignore, 2), (self.stage, 3), (self.untrack, 1),
            (self.configure, 3), (self.commit, 16), (self.branch, 4), (self.switch, 8), (self.merge, 1),
            (self.reset, 1), (self.touch, 2),
        ]  # fmt: skip
        root.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        # As part of the change it would select everything.
        (root / ".git" / "info" / "exclude").write_text("greenline.yaml\n")
        for _ in range(self.random.randint(4, 25)):
            self.add()
        self.commit()

    def git(self, *arguments: str) -> str:
        """git's output; that it refuses (a merge with conflicts, say) is part of the walk."""
        date = f"{self.clock} +0000"
        environment = {**os.environ, "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        done = subprocess.run(
            ["git", *arguments], cwd=self.root, env=environment, capture_output=True, text=True, check=False
        )
        return done.stdout

    def step(self) -> None:
        steps, weights = zip(*self.steps, strict=True)
        with contextlib.suppress(OSError, shutil.Error):  # a file where a folder is to be, and the like
            self.random.choices(steps, weights)[0]()

    def files(self) -> list[str]:
        found = []
        for folder, folders, files in os.walk(self.root):
            folders[:] = [name for name in folders if name not in (".git", ".greenline")]
            found += [os.path.relpath(os.path.join(folder, file), self.root) for file in files]
        return sorted(found) or ["nothing"]

    def write(self, path: str) -> None:
        target = self.root / path
        if target.is_symlink():
            target.unlink()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(self.writer.content(path))

    def add(self) -> None:
        self.write(self.writer.path())

    def configure(self) -> None:
        self.write("greenline.yaml")

    def edit(self) -> None:
        self.write(self.random.choice(self.files()))

    def touch(self) -> None:
        os.utime(self.root / self.random.choice(self.files()))

    def delete(self) -> None:
        (self.root / self.random.choice(self.files())).unlink()

    def move(self) -> None:
        target = self.root / self.writer.path()
        target.parent.mkdir(parents=True, exist_ok=True)
        (self.root / self.random.choice(self.files())).replace(target)

    def delete_folder(self) -> None:
        shutil.rmtree(self.root / self.random.choice(FOLDERS[1:]))

    def move_folder(self) -> None:
        one, other = self.random.sample(FOLDERS[1:], 2)
        shutil.move(self.root / one, self.root / other)

    def link(self) -> None:
        link = self.root / self.random.choice([self.writer.path(), "linked", "app/linked", "tests/linked"])
        target = self.root / self.random.choice([*self.files(), *FOLDERS[1:]])
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(target, link.parent))

    def ignore(self) -> None:
        (self.root / ".gitignore").write_text(self.random.choice(["*.ipynb\n", "zed/\n", "*_pb2.py\n", ""]))

    def stage(self) -> None:
        self.git("add", "--all")

    def untrack(self) -> None:
        self.git("rm", "--quiet", "--cached", self.random.choice(self.files()))

    def commit(self) -> None:
        self.clock += 60
        self.stage()
        self.git("commit", "--quiet", "--allow-empty", "--message=step")

    def branch(self) -> None:
        self.git("checkout", "--quiet", "-b", self.random.choice(["one", "two", "three"]))

    def switch(self) -> None:
        if self.random.random() < 0.5:
            self.git("stash", "--quiet", "--include-untracked")
        self.git("checkout", "--quiet", self.random.choice(["main", "one", "two", "three", "HEAD~1"]))

    def merge(self) -> None:
        self.git("merge", "--quiet", "--no-edit", self.random.choice(["main", "one", "two"]))

    def reset(self) -> None:
        self.git("reset", "--quiet", self.random.choice(["--hard", "--soft", "--mixed"]), "HEAD~1")

    def request(self) -> Request:
        commits = self.git("rev-list", "--all").split()
        base = self.random.choice(["HEAD", "HEAD~1", "main", self.random.choice(commits)])
        if not self.git("rev-parse", "--verify", "--quiet", base):
            base = "HEAD"
        head = self.random.choice([None, None, None, None, *commits[:2]])
        return Request(base, self.random.random() < 0.7, head, None, self.random.random() < 0.7)


def ask(root: Path, request: Request, cache: Path) -> Answer | str:
    os.environ["GREENLINE_CACHE_DIR"] = str(cache)
    try:
        return affected(str(root), request, environment={})
    except GreenlineError as error:
        return error.message
    finally:
        del os.environ["GREENLINE_CACHE_DIR"]


def walk_and_compare(folder: Path, seed: int, stops: int) -> None:
    walk = Walk(folder / "repository", seed)
    for stop in range(stops):
        for _ in range(walk.random.choice([1, 1, 1, 2, 4])):
            walk.step()
        request = walk.request()
        warm = ask(walk.root, request, folder / "warm")
        cold = ask(walk.root, request, folder / "cold")
        shutil.rmtree(folder / "cold", ignore_errors=True)
        assert warm == cold, f"seed {seed}, stop {stop}: {request}"


@pytest.mark.parametrize("seed", range(10))
def test_a_warm_cache_answers_what_an_empty_one_does(tmp_path: Path, seed: int) -> None:
    walk_and_compare(tmp_path, seed, stops=8)


if __name__ == "__main__":
    for name in ("AUTHOR", "COMMITTER"):
        os.environ |= {f"GIT_{name}_NAME": "Ada", f"GIT_{name}_EMAIL": "ada@example.org"}
    os.environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    first, count = map(int, sys.argv[1:])
    for seed in range(first, first + count):
        with tempfile.TemporaryDirectory() as scratch:
            walk_and_compare(Path(scratch), seed, stops=16)
    print(f"{count} walks, no difference")
