"""The cache may be damaged, full, shared or foreign: answers stay right, and nothing crashes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from greenline.depgraph import cachefile

GREENLINE = Path(sys.executable).with_name("greenline")
COMMAND = [str(GREENLINE), "affected", "--base", "main", "--format", "json"]
MODULES = 40

Answer = tuple[int, list[tuple[str, str]], bool]
"""Exit code, (test file, why) of each, whether the answer is complete."""


def read(done: subprocess.CompletedProcess[str]) -> Answer:
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    answer = json.loads(done.stdout)
    return done.returncode, [(test["path"], test["reason"]) for test in answer["tests"]], answer["complete"]


def start(root: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        COMMAND,
        cwd=root,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> Answer:
    out, err = process.communicate(timeout=60)
    return read(subprocess.CompletedProcess(COMMAND, process.returncode, out, err))


def ask(root: Path, **environment: str) -> Answer:
    return finish(start(root, **environment))


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A chain of modules with tests; on a branch one was edited, one appeared and one imports it."""
    with pytest.MonkeyPatch.context() as patch:
        for role in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{role}_NAME", "Ada")
            patch.setenv(f"GIT_{role}_EMAIL", "ada@example.org")
        root = tmp_path_factory.mktemp("template") / "repository"
        (root / "app").mkdir(parents=True)
        (root / "tests").mkdir()
        (root / "app" / "__init__.py").touch()
        for number in range(MODULES):
            imported = f"from app import m{number // 2}\n" if number else ""
            (root / "app" / f"m{number}.py").write_text(f"{imported}VALUE = {number}\n")
            (root / "tests" / f"test_{number}.py").write_text(f"import app.m{number}\ndef test(): pass\n")
        git(root, "init", "--quiet", "--initial-branch=main")
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "--message=one")
        git(root, "checkout", "--quiet", "-b", "change")
        (root / "app" / "m9.py").write_text("VALUE = 0\n")
        git(root, "commit", "--quiet", "--all", "--message=two")
        (root / "app" / "new.py").write_text("VALUE = 1\n")
        (root / "app" / "m30.py").write_text("from app import m15, new\n")
        yield root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "repository", symlinks=True))


@pytest.fixture
def right(root: Path) -> Answer:
    """What every call must answer."""
    answer = ask(root, GREENLINE_CACHE_DIR=os.devnull)
    numbers = {9, 18, 19, 30, 36, 37, 38, 39}
    assert {path for path, _ in answer[1]} == {f"tests/test_{number}.py" for number in numbers}
    assert not cache_of(root).exists()
    return answer


def cache_of(root: Path) -> Path:
    return root / ".greenline" / "cache"


def files(root: Path) -> list[Path]:
    return sorted(path for path in cache_of(root).iterdir() if path.name != ".gitignore")


def test_the_cache_is_written_once_and_read(root: Path, right: Answer) -> None:
    assert ask(root) == right
    assert {path.name.partition("-")[0] for path in files(root)} == {"facts", "graph"}
    written = {path: path.stat().st_ino for path in files(root)}
    assert ask(root) == right
    assert {path: path.stat().st_ino for path in files(root)} == written


@pytest.mark.parametrize("warm", [False, True])
def test_eight_at_once(root: Path, right: Answer, warm: bool) -> None:
    if warm:
        ask(root)
    assert [finish(process) for process in [start(root) for _ in range(8)]] == [right] * 8
    assert not [path for path in files(root) if path.name.endswith(".tmp")]


def test_killed_at_any_moment(root: Path, right: Answer) -> None:
    chance = random.Random(0)
    for _ in range(10):
        shutil.rmtree(cache_of(root), ignore_errors=True)
        process = start(root)
        time.sleep(chance.uniform(0.08, 0.4))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert ask(root) == right


def flip(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "a bit": flip,
    "the first bytes": lambda data, chance: chance.randbytes(30) + data[30:],
    "cut short": lambda data, chance: data[: chance.randrange(len(data))],
    "empty": lambda data, chance: b"",
    "zeros": lambda data, chance: bytes(len(data)),
    "noise": lambda data, chance: chance.randbytes(len(data)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_damaged_files(root: Path, right: Answer, damage: Callable[[bytes, random.Random], bytes]) -> None:
    ask(root)
    chance = random.Random(1)
    for _ in range(2):
        for path in files(root):
            path.write_bytes(damage(path.read_bytes(), chance))
        assert ask(root) == right


def test_damage_in_every_section_of_a_graph(root: Path, right: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in those that are opened late, when the answer is half made."""
    ask(root)
    whole = {path: path.read_bytes() for path in files(root)}
    (graph,) = (path for path in whole if path.name.startswith("graph"))
    file = cachefile.read(str(graph))
    assert file is not None
    for name in ("meta", "importers", "modules", "names", "mentions"):
        section = bytes(file.section(name))
        at = whole[graph].index(section) + len(section) // 2
        damaged = bytearray(whole[graph])
        damaged[at] ^= 255
        graph.write_bytes(damaged)
        assert ask(root) == right, name


def test_files_that_changed_names(root: Path, right: Answer) -> None:
    ask(root)
    one, other = files(root)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert ask(root) == right
    assert ask(root) == right


def test_the_graph_of_another_repository(root: Path, right: Answer, tmp_path: Path) -> None:
    """A restored CI cache may be of any commit, also of one that this clone does not have."""
    other = tmp_path / "other"
    shutil.copytree(root, other)
    (other / "app" / "m3.py").write_text("VALUE = 7\n")
    git(other, "add", "--all")
    git(other, "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "--quiet", "--message=three")
    ask(other)
    shutil.copytree(cache_of(other), cache_of(root))
    assert ask(root) == right
    git(root, "fetch", "--quiet", str(other), "HEAD")  # now it has
    shutil.rmtree(cache_of(root))
    shutil.copytree(cache_of(other), cache_of(root))
    assert ask(root) == right


def test_files_of_other_versions_are_left_alone(root: Path, right: Answer) -> None:
    ask(root)
    for path in files(root):
        path.rename(path.with_name(path.name.replace(cachefile.TAG, "cpython-399-12345678")))
    old = set(files(root))
    assert ask(root) == right
    assert len(set(files(root)) - old) == 2


@pytest.mark.parametrize("limit", [0, 1, 4])
def test_a_full_disk(root: Path, right: Answer, limit: int) -> None:
    """The limit is the size in KiB that a file may have: writes fail as on a full disk, somewhere in the file."""
    limited = ["bash", "-c", f'trap "" XFSZ; ulimit -f {limit}; exec "$@"', "bash", *COMMAND]
    for _ in range(2):
        done = subprocess.run(limited, cwd=root, capture_output=True, text=True, check=False)
        assert read(done) == right
    assert ask(root) == right


@pytest.mark.parametrize("where", [".greenline", ".greenline/cache"])
def test_a_file_where_the_cache_is_to_be(root: Path, right: Answer, where: str) -> None:
    (root / ".git" / "info" / "exclude").write_text(".greenline\n")
    (root / where).parent.mkdir(exist_ok=True)
    (root / where).write_text("in the way")
    assert ask(root) == right


def test_folders_where_its_files_are_to_be(root: Path, right: Answer) -> None:
    ask(root)
    for path in files(root):
        path.unlink()
        (path / "below").mkdir(parents=True)
    assert ask(root) == right
    assert ask(root) == right


def test_another_folder(root: Path, right: Answer, tmp_path: Path) -> None:
    assert ask(root, GREENLINE_CACHE_DIR=str(tmp_path / "elsewhere" / "deep")) == right
    assert list((tmp_path / "elsewhere" / "deep").glob("graph-*"))
    assert not cache_of(root).exists()


def test_a_folder_that_cannot_be_written(root: Path, right: Answer) -> None:
    """As another user, in a repository that is declared safe; also with a damaged file that cannot be deleted."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    git(root, "config", "--file", str(root / "safe"), "safe.directory", "*")
    shutil.move(root / "safe", root.parent / "safe")
    for folder in (root.parent, *root.parent.parents):
        if folder.stat().st_mode & 0o005 != 0o005:
            pytest.skip(f"{folder} is closed to other users")

    def ask_as_nobody() -> Answer:
        done = subprocess.run(
            COMMAND,
            cwd=root,
            env={**os.environ, "GIT_CONFIG_GLOBAL": str(root.parent / "safe"), "HOME": "/nonexistent"},
            capture_output=True,
            text=True,
            check=False,
            user=65534,
            group=65534,
            extra_groups=[],
        )
        return read(done)

    assert ask_as_nobody() == right
    assert not cache_of(root).exists()
    ask(root)
    assert ask_as_nobody() == right
    for path in files(root):
        path.write_bytes(flip(path.read_bytes()[:-9], random.Random(2)) + b"123456789")
    assert ask_as_nobody() == right
    assert ask_as_nobody() == right


def test_the_same_time_and_size_with_other_content(root: Path, right: Answer) -> None:
    ask(root)
    path = root / "app" / "m2.py"
    before = path.stat()
    path.write_text(path.read_text().replace("VALUE = 2", "VALUE = 5"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert set(right[1]) < set(ask(root)[1])


def test_a_switch_of_branches_and_back(root: Path, right: Answer) -> None:
    ask(root)
    git(root, "stash", "--quiet", "--include-untracked")
    git(root, "checkout", "--quiet", "main")
    assert ask(root)[1] == []
    git(root, "checkout", "--quiet", "change")
    git(root, "stash", "pop", "--quiet")
    assert ask(root) == right


def test_a_linked_worktree_shares_the_cache(root: Path, right: Answer, tmp_path: Path) -> None:
    ask(root)
    written = {path: path.stat().st_ino for path in files(root)}
    git(root, "worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"), "change")
    linked = ask(tmp_path / "linked")
    assert {path for path, _ in linked[1]} == {path for path, _ in right[1]} - {"tests/test_30.py"}
    assert not (tmp_path / "linked" / ".greenline").exists()
    assert {path: path.stat().st_ino for path in files(root)} == written
