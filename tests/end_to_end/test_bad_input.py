"""Wrong input and odd repositories: a clear message, the right exit code, no traceback, no empty answer by accident."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

GREENLINE = Path(sys.executable).with_name("greenline")
TESTS = ["tests/test_x.py", "tests/test_y.py"]


def run(folder: Path, *command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "GREENLINE"))}
    identity = {f"GIT_{who}_{what}": "a@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    identity["GIT_CONFIG_GLOBAL"] = os.devnull
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=env | identity | environment,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two tests of two modules; app/x.py is edited after the only commit."""
    root = tmp_path / "repository"
    files = {"app/__init__.py": "", "pyproject.toml": "[tool.pytest.ini_options]\npythonpath = ['.']\n"}
    for name in "xy":
        files[f"app/{name}.py"] = "VALUE = 1\n"
        files[f"tests/test_{name}.py"] = f"from app.{name} import VALUE\n\n\ndef test_{name}(): assert VALUE == 1\n"
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    for command in ("init -q -b main", "add -A", "commit -q -m base"):
        assert run(root, "git", *command.split()).returncode == 0
    (root / "app/x.py").write_text("VALUE = 2\n")
    return root


def write(path: str, content: bytes) -> Callable[[Path], None]:
    def prepare(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)

    return prepare


def git(*commands: str) -> Callable[[Path], None]:
    def prepare(root: Path) -> None:
        for command in commands:
            run(root, "git", *command.split())

    return prepare


def nothing(root: Path) -> None:
    pass


def fifo(root: Path) -> None:
    os.mkfifo(root / "app" / "pipe.py")


def folder_of_that_name(root: Path) -> None:
    (root / "tests" / "test_folder.py").mkdir()


def loop(root: Path) -> None:
    (root / "app" / "loop.py").symlink_to("loop.py")


def odd_names(root: Path) -> None:
    for name in ("a b.py", "tab\t.py", "line\nbreak.py", '"quoted".py', "-dash.py", "é.py"):
        (root / "app" / name).write_text("x = 1\n")
    with open(os.fsencode(root / "app") + b"/\xff.py", "wb") as file:
        file.write(b"x = 1\n")


REFUSED = [
    ("a wrong base", nothing, ["--base", "nowhere"], "nowhere"),
    ("a wrong exact base", nothing, ["--base-exact", "nowhere"], "nowhere"),
    ("a wrong head", nothing, ["--base", "HEAD", "--head", "nowhere"], "nowhere"),
    ("a base that looks like an option", nothing, ["--base", "--upload-pack=x"], "--upload-pack=x"),
    ("a base that is a tree", nothing, ["--base", "HEAD^{tree}"], "HEAD^{tree}"),
    ("an empty base", nothing, ["--base", ""], "--base"),
    ("two bases", nothing, ["--base", "HEAD", "--base-exact", "HEAD"], "both name a REF"),
    ("a wrong suite", nothing, ["--base", "HEAD", "--suite", "nowhere"], "nowhere"),
    ("a wrong format", nothing, ["--format", "xml"], "xml"),
    ("an unknown option", nothing, ["--nonsense"], "--nonsense"),
    ("broken YAML", write("greenline.yaml", b"suites: [\n"), ["--base", "HEAD"], "greenline.yaml:"),
    ("an unknown key", write("greenline.yaml", b"exclud: []\n"), ["--base", "HEAD"], "did you mean 'exclude'"),
    (
        "a key given twice",
        write("greenline.yaml", b"ignore: [a]\nignore: [b]\n"),
        ["--base", "HEAD"],
        "greenline.yaml:2",
    ),
    ("a list for a mapping", write("greenline.yaml", b"- a\n"), ["--base", "HEAD"], "greenline.yaml:1"),
    ("a configuration that is not UTF-8", write("greenline.yaml", b"ignore: [\xff]\n"), ["--base", "HEAD"], "UTF-8"),
    ("a misspelled configuration file", write("greenline.yml", b"ignore: [a]\n"), ["--base", "HEAD"], "greenline.yml"),
]


@pytest.mark.parametrize(("prepare", "arguments", "message"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused(repository: Path, prepare: Callable[[Path], None], arguments: list[str], message: str) -> None:
    prepare(repository)
    done = run(repository, GREENLINE, "affected", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr


ANSWERED = [
    ("a dependency that does not parse", write("app/x.py", b"def (:\n"), {"tests/test_x.py"}),
    ("a test that does not parse", write("tests/test_y.py", b"def (:\n"), {"tests/test_x.py", "tests/test_y.py"}),
    ("null bytes", write("app/x.py", b"VALUE = 1\0\n"), {"tests/test_x.py"}),
    ("merge markers", write("app/x.py", b"<<<<<<< a\nVALUE = 1\n=======\n>>>>>>> b\n"), {"tests/test_x.py"}),
    ("a declared encoding that is none", write("app/x.py", b"# coding: nonsense\nVALUE = 2\n"), {"tests/test_x.py"}),
    ("deep nesting", write("app/x.py", b"VALUE = " + b"(" * 5000 + b")" * 5000 + b"\n"), {"tests/test_x.py"}),
    ("a huge file", write("app/x.py", b"VALUE = [\n" + b"    1,\n" * 400_000 + b"]\n"), {"tests/test_x.py"}),
    ("names of all kinds", odd_names, {"tests/test_x.py"}),
    ("a pipe that is called like a module", fifo, {"tests/test_x.py"}),
    ("a folder that is called like a test", folder_of_that_name, {"tests/test_x.py"}),
    ("a link to itself, which cannot be read", loop, set(TESTS)),
    ("a lock on the index", write(".git/index.lock", b""), {"tests/test_x.py"}),
    ("a detached head", git("checkout -q --detach"), {"tests/test_x.py"}),
    ("a cache folder that is a file", write(".greenline/cache", b"in the way"), {"tests/test_x.py"}),
    ("a deleted module", lambda root: (root / "app/x.py").unlink(), {"tests/test_x.py"}),
    ("a deleted test", lambda root: (root / "tests/test_x.py").unlink(), set()),
    ("a broken pytest.ini", write("pytest.ini", b"[pytest\n"), set(TESTS)),
    ("a broken pyproject.toml", write("pyproject.toml", b"[tool\n"), set(TESTS)),
    ("greenline.yaml edited", write("greenline.yaml", b"ignore: [notes.txt]\n"), set(TESTS)),
]


@pytest.mark.parametrize(("prepare", "selected"), [row[1:] for row in ANSWERED], ids=[row[0] for row in ANSWERED])
def test_answered(repository: Path, prepare: Callable[[Path], object], selected: set[str]) -> None:
    prepare(repository)
    done = run(repository, GREENLINE, "affected", "--base", "HEAD")
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()) == selected
    assert "Traceback" not in done.stderr


EVERYTHING = [
    ("no commit yet", git("update-ref -d HEAD"), []),
    ("no default branch", git("branch -m odd"), []),
    ("the default branch, never recorded green", nothing, []),
    ("a corrupt index", write(".git/index", b"nonsense"), ["--base", "HEAD"]),
    ("histories that share nothing", git("checkout -q --orphan other", "commit -q -m other"), ["--base", "main"]),
]


@pytest.mark.parametrize(("prepare", "arguments"), [row[1:] for row in EVERYTHING], ids=[row[0] for row in EVERYTHING])
def test_everything_and_loudly(repository: Path, prepare: Callable[[Path], None], arguments: list[str]) -> None:
    prepare(repository)
    done = run(repository, GREENLINE, "affected", *arguments)
    assert (done.returncode, done.stdout.splitlines()) == (0, TESTS), done.stderr
    assert "warning: everything is selected" in done.stderr
    assert run(repository, GREENLINE, "affected", "--strict", *arguments).returncode == 3


def test_outside_a_repository_tests_are_still_found(tmp_path: Path) -> None:
    (tmp_path / "test_alone.py").write_text("def test_it(): pass\n")
    done = run(tmp_path, GREENLINE, "affected")
    assert (done.returncode, done.stdout) == (0, "test_alone.py\n")
    assert "is not in a git repository" in done.stderr


def test_outside_a_repository_without_tests_is_an_error(tmp_path: Path) -> None:
    done = run(tmp_path, GREENLINE, "affected")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not in a git repository" in done.stderr


def test_without_git_everything(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    done = run(repository, GREENLINE, "affected", "--base", "HEAD", PATH=str(tmp_path / "bin"))
    assert (done.returncode, done.stdout.splitlines()) == (0, TESTS), done.stderr
    assert "git" in done.stderr


def test_a_repository_without_tests_says_so(repository: Path) -> None:
    git("rm -rq tests", "commit -q -m none")(repository)
    done = run(repository, GREENLINE, "affected", "--base", "HEAD")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no test file was found" in done.stderr


def test_a_shallow_clone_names_the_fetch_that_mends_it(repository: Path, tmp_path: Path) -> None:
    git("commit -q -a -m change", "branch old HEAD^", "commit -q --allow-empty -m more")(repository)
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "-q", "--depth", "1", f"file://{repository}", clone)
    run(clone, "git", "fetch", "-q", "--depth", "1", "origin", "old:refs/remotes/origin/old")
    done = run(clone, GREENLINE, "affected", "--base", "origin/old")
    assert (done.returncode, done.stdout.splitlines()) == (0, TESTS)
    assert "git fetch --unshallow origin" in done.stderr
    assert run(clone, "git", "fetch", "-q", "--unshallow", "origin").returncode == 0
    assert run(clone, GREENLINE, "affected", "--base", "origin/old").stdout.splitlines() == ["tests/test_x.py"]


def test_a_closed_pipe_is_no_error_message(repository: Path) -> None:
    done = run(repository, "sh", "-c", f"'{GREENLINE}' affected --base HEAD | true")
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
