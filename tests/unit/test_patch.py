"""The reader of diffs against git: what it says a diff does is what git does; what it cannot say, it refuses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greenline.ci.repair import patch

# Bytes that look like parts of a diff, without a line end at the end, with carriage returns, in no encoding.
LINES = st.sampled_from(
    [
        b"",
        b"a",
        b"b",
        b"c\r",
        b"--- a/x",
        b"+++ b/x",
        b"@@ -1 +1 @@",
        b"diff --git a/x b/x",
        b"\\ No newline",
        b"\xff\xe9",
        b" ",
    ]
)
CONTENT = st.builds(
    lambda lines, end: b"\n".join(lines) + (b"\n" if end and lines else b""),
    st.lists(LINES, max_size=12),
    st.booleans(),
)
NAME = st.sampled_from(["a", "b c", "d é", 'e"f', "g\th", "i/j", "k\\l", "m b/m"])
FILES = st.dictionaries(NAME, CONTENT, max_size=4)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    git(folder, "init", "--quiet", "--template=", ".")
    return folder


def git(root: Path, *args: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(["git", *args], cwd=root, input=stdin, check=True, capture_output=True).stdout


def tree_of(root: Path, files: dict[str, bytes]) -> str:
    """A tree with these files, by git's fast importer: one process for any number of them."""
    parts = [b"commit refs/heads/x\ncommitter a <b> 0 +0000\ndata 0\n\ndeleteall\n"]
    for path, content in sorted(files.items()):
        quoted = path.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t").encode()
        parts.append(b'M 100644 inline "%b"\ndata %d\n%b\n' % (quoted, len(content), content))
    git(root, "fast-import", "--quiet", "--force", stdin=b"".join(parts))
    return git(root, "rev-parse", "refs/heads/x^{tree}").decode().strip()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILES, FILES)
def test_it_reads_what_git_does(root: Path, old: dict[str, bytes], new: dict[str, bytes]) -> None:
    trees = tree_of(root, old), tree_of(root, new)
    diff = git(root, "diff-tree", "-p", "--binary", "--full-index", "--no-renames", *trees)
    found = {change.path: (change.before, change.after) for change in patch.read(diff, old.get)}
    changed = {path for path in {*old, *new} if old.get(path) != new.get(path)}
    assert found == {path: (old.get(path), new.get(path)) for path in changed}


@settings(max_examples=200)
@given(st.lists(LINES, max_size=8), st.integers(0, 400), st.binary(max_size=3), st.integers(0, 3))
def test_a_diff_that_was_tampered_with_is_refused_or_does_what_it_says(
    lines: list[bytes], at: int, put: bytes, cut: int
) -> None:
    old = b"".join(line + b"\n" for line in lines)
    new = old + b"more\n"
    count = len(lines)
    diff = (
        f"diff --git a/x b/x\nindex {patch.blob_id(old)}..{patch.blob_id(new)} 100644\n--- a/x\n+++ b/x\n"
        f"@@ -{min(count, 1)},{count} +1,{count + 1} @@\n"
    ).encode()
    diff += b"".join(b" " + line + b"\n" for line in lines) + b"+more\n"
    assert [change.after for change in patch.read(diff, {"x": old}.get)] == [new]
    tampered = diff[:at] + put + diff[at + cut :]
    try:
        changes = patch.read(tampered, {"x": old}.get)
    except patch.Unreadable:
        return
    for change in changes:
        unchanged = change.after in (None, b"", change.before)
        assert unchanged or change.new_mode == "160000" or patch.blob_id(change.after or b"").encode() in tampered


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_no_bytes_make_it_fail_otherwise(data: bytes) -> None:
    for diff in (data, b"diff --git a/x b/x\n" + data, b"diff --git a/x b/x\nnew file mode 100644\n" + data):
        try:
            patch.read(diff, {"x": b"a\n"}.get)
        except patch.Unreadable as error:
            assert str(error)


def test_names_with_spaces_and_quotes_are_read_as_git_writes_them(root: Path) -> None:
    files = {name: b"1\n" for name in ("a b", 'c"d', "e\tf", "g\nh", "é", "i\\j", "x b/x b/x")}
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    git(root, "add", "--all")
    diff = git(root, "diff", "--cached", "--binary", "--full-index", "--no-renames")
    assert {change.path for change in patch.read(diff, {}.get)} == set(files)
