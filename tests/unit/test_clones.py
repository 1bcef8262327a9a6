"""Checkouts for untrusted work: what they share with the repository, and what is taken back from them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import Repository  # type: ignore[import-not-found]

from greenline.ci.repair import clones, policy
from greenline.depgraph.workspace import find


@pytest.fixture
def clone(repository: Repository, tmp_path: Path) -> clones.Clone:
    commit = repository.commit({"a.py": "x = 1\n", "b/c.txt": "1\n"})
    repository.git("remote", "add", "origin", "https://user:secret@example.org/x")
    repository.git("config", "http.extraheader", "AUTHORIZATION: basic abc")
    hook = repository.root / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch hooked\n")
    hook.chmod(0o755)
    return clones.make(find(str(repository.root)), commit, str(tmp_path / "clone"))


def test_it_has_the_files_and_nothing_else(clone: clones.Clone) -> None:
    found = {str(path.relative_to(clone.folder)) for path in Path(clone.folder).rglob("*") if ".git" not in path.parts}
    assert found == {"a.py", "b", "b/c.txt"}
    for git_dir in (os.path.join(clone.folder, ".git"), clone.git_dir):
        text = Path(git_dir, "config").read_text("utf-8")
        assert "secret" not in text and "extraheader" not in text and not Path(git_dir, "hooks").exists()
    assert clones.diff_of(clone) == b""


def test_a_diff_comes_back_and_goes_into_another(clone: clones.Clone, repository: Repository, tmp_path: Path) -> None:
    folder = Path(clone.folder)
    (folder / "a.py").write_text("x = 2\n")
    (folder / "b" / "c.txt").unlink()
    (folder / "é f.py").write_text("y = 1\n")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a.pyc").write_bytes(b"\0")
    diff = clones.diff_of(clone)
    before = {"a.py": b"x = 1\n", "b/c.txt": b"1\n"}
    blobs = policy.judge(diff, policy.Context(before.get)).blobs
    assert {path: blob and blob[1] for path, blob in blobs.items()} == {
        "a.py": b"x = 2\n",
        "b/c.txt": None,
        "é f.py": b"y = 1\n",
    }
    workspace = find(str(repository.root))
    tree = clones.import_candidate(clones.make(workspace, clone.commit, str(tmp_path / "two")), diff, blobs)
    assert len(tree) == 40
    for other in ({**blobs, "a.py": ("100644", b"x = 3\n")}, {**blobs, "d.py": ("100644", b"")}, {}):
        fresh = clones.make(workspace, clone.commit, str(tmp_path / f"clone-{len(other)}-{len(str(other))}"))
        with pytest.raises(clones.Refused):
            clones.import_candidate(fresh, diff, other)


def test_git_settings_of_the_work_tree_do_nothing(clone: clones.Clone) -> None:
    pwned = Path(clone.folder).parent / "pwned"
    git_dir = Path(clone.folder, ".git")
    (git_dir / "config").write_text(f'[core]\n\tfsmonitor = touch {pwned}\n[filter "x"]\n\tclean = touch {pwned}\n')
    Path(clone.folder, ".gitattributes").write_text("* filter=x diff=x\n")
    Path(clone.folder, "a.py").write_text("x = 2\n")
    assert b"x = 2" in clones.diff_of(clone)
    assert not pwned.exists()


@pytest.mark.parametrize("name", ["b/.git", "b/.GIT", "vendor/.git"])
def test_a_second_git_directory_is_refused(clone: clones.Clone, name: str) -> None:
    Path(clone.folder, name).mkdir(parents=True)
    with pytest.raises(clones.Refused, match="git directory"):
        clones.diff_of(clone)


def test_a_pipe_is_refused(clone: clones.Clone) -> None:
    os.mkfifo(os.path.join(clone.folder, "pipe"))
    with pytest.raises(clones.Refused, match="no file"):
        clones.diff_of(clone)


def test_a_huge_diff_is_refused(clone: clones.Clone) -> None:
    Path(clone.folder, "big.txt").write_text("0123456789abcdef\n" * (clones.MOST_DIFF // 16))
    with pytest.raises(clones.Refused, match="MiB"):
        clones.diff_of(clone)


@pytest.mark.parametrize(
    "diff",
    [b"nonsense", b"diff --git a/../x b/../x\nnew file mode 100644\n--- /dev/null\n+++ b/../x\n@@ -0,0 +1 @@\n+x\n"],
)
def test_what_git_cannot_apply_is_refused(clone: clones.Clone, diff: bytes) -> None:
    with pytest.raises(clones.Refused):
        clones.import_candidate(clone, diff)
