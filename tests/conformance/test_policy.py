"""The policy's rules as rows: two states, made into a diff by git itself, and the names of the rules that speak."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from greenline.ci.repair import policy

FOLDER = Path(__file__).parent / "policy"
ROWS = [
    pytest.param(row, id=f"{file.stem}: {row['name']}")
    for file in sorted(FOLDER.glob("*.yaml"))
    for row in yaml.safe_load(file.read_text("utf-8"))
]
KEYS = {"name", "attack", "before", "after", "links", "executable", "diff", "tests", "excerpt", "secrets", "maker"}
KEYS |= {"protect", "allow", "max_files", "max_lines", "refused", "flags"}


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository to copy: that is faster than to make one for each row."""
    root = tmp_path_factory.mktemp("empty")
    subprocess.run(["git", "init", "--quiet", "--template=", "."], cwd=root, check=True)
    return root


def git(root: Path, *args: str) -> bytes:
    return subprocess.run(["git", *args], cwd=root, check=True, capture_output=True).stdout


def write(root: Path, files: dict[str, str | None]) -> None:
    for path, text in files.items():
        target = root / path
        if text is None:
            target.unlink()
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")


def states(row: dict[str, Any]) -> tuple[dict[str, str], dict[str, str | None]]:
    before, after = row.get("before", {}), row.get("after", {})
    if isinstance(before, str):
        return {"tests/test_a.py": before}, {"tests/test_a.py": after}
    return before, after


def diff_of(row: dict[str, Any], root: Path) -> bytes:
    if "diff" in row:
        text: str = row["diff"]
        return text.encode()
    before, after = states(row)
    write(root, dict(before))
    git(root, "add", "--all")
    tree = git(root, "write-tree").decode().strip()
    write(root, after)
    for path, target in row.get("links", {}).items():
        (root / path).unlink(missing_ok=True)
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(target)
    for path in row.get("executable", ()):
        (root / path).chmod(0o755)
    git(root, "add", "--all")
    return git(root, "diff", "--cached", "--binary", "--full-index", "--no-renames", tree)


def names(remarks: tuple[str, ...]) -> set[str]:
    return {remark.partition(":")[0] for remark in remarks}


@pytest.mark.parametrize("row", ROWS)
def test_the_row(row: dict[str, Any], empty: Path, tmp_path: Path) -> None:
    assert set(row) <= KEYS
    root = tmp_path / "repository"
    shutil.copytree(empty, root)
    diff = diff_of(row, root)
    before = {path: text.encode() for path, text in states(row)[0].items()}
    context = policy.Context(
        before=before.get,
        tests=tuple(row.get("tests", ())),
        excerpt=row.get("excerpt", ""),
        secrets=tuple(row.get("secrets", ())),
        maker=row.get("maker", "agent"),
        settings=policy.settings_of(row),
    )
    verdict = policy.judge(diff, context)
    assert (names(verdict.refused), names(verdict.flags)) == (set(row.get("refused", ())), set(row.get("flags", ())))
    told = " ".join((*verdict.refused, *verdict.flags))
    assert not any(secret in told for secret in (*context.secrets, "ghp_", "hunter2"))


def test_every_attack_that_a_diff_can_show_has_a_row() -> None:
    shown = {param.values[0].get("attack") for param in ROWS}  # type: ignore[union-attr]
    assert shown >= {2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 27}
