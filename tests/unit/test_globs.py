"""Globs against git's own `:(glob)` pathspecs, over an index of made-up paths."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from greenline.depgraph.config import matcher

PATHS = sorted(
    {
        f"{folder}{name}"
        for folder in ("", "a/", "b/", "a/b/", "a/b/a/", ".a/", "b/x.py/", "a-b/")
        for name in ("x.py", "a.py", "ab", "b.md", ".x", "a-b.txt", "c]", "d!", "x y")
        if f"{folder}{name}" != "b/x.py"  # a folder has that name
    }
)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose index, and nothing else, holds PATHS."""
    root = tmp_path_factory.mktemp("index")
    subprocess.run(["git", "init", "--quiet", root], check=True)
    blob = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    lines = "".join(f"100644 {blob}\t{path}\0" for path in PATHS)
    subprocess.run(["git", "update-index", "-z", "--index-info"], cwd=root, input=lines.encode(), check=True)
    return root


def git_matches(root: Path, pattern: str) -> list[str]:
    command = ["git", "ls-files", "-z", "--", f":(glob){pattern}"]
    done = subprocess.run(command, cwd=root, capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


def our_matches(pattern: str) -> list[str]:
    return [path for path in PATHS if matcher([pattern])(path)]


PATTERNS = r"""
a a/ a/b a/b/ x.py *.py **/*.py **/a/** a/** a/**/x.py a/**/**/x.py ** */x.py **/x.py a/*/x.py ?.py a?b/*
[ab].py [!a].py [^a].py [a-x].py **/[]]* **/c[]] **/[!]]? **/[x.]* **/[[]* a**b/* a/**b **.py \a.py [\a].py
**/[a\-]b* .a/* .*/* */.* a[/]b a/[!x]/x.py **/[a-]* b/x.py b/x.py/ **/[--.]* a//x.py
"""


@pytest.mark.parametrize("pattern", PATTERNS.split())
def test_as_git_does(index: Path, pattern: str) -> None:
    assert our_matches(pattern) == git_matches(index, pattern)


PIECE = st.sampled_from(
    [
        "a",
        "b",
        "x",
        ".py",
        ".",
        "-",
        "*",
        "**",
        "?",
        "/",
        "/**/",
        "**/",
        "/**",
        "[ab]",
        "[!a]",
        "[a-y]",
        "[]]",
        "\\a",
        "é",
    ]
)


@given(pattern=st.lists(PIECE, min_size=1, max_size=6).map("".join))
@settings(max_examples=150)
def test_as_git_does_for_any_pattern(index: Path, pattern: str) -> None:
    assume(not pattern.startswith("/") and not re.search(r"(^|/)\.\.?(/|$)", pattern))  # not valid in greenline.yaml
    assume(not re.search(r"[*?\[\\].*/$", pattern))  # ours: everything below, see the next test
    # git takes a**/b as a* in some places and as a, then **/b in others; its manual, and ours, say a*.
    assume(not re.search(r"[^/]\*\*", pattern))
    assert our_matches(pattern) == git_matches(index, pattern)


@pytest.mark.parametrize("pattern", ["*/", "**/b/", "a*/", "[ab]/"])
def test_a_slash_at_the_end_means_everything_below(pattern: str) -> None:
    assert our_matches(pattern) == our_matches(pattern + "**") != []


def test_several_patterns_are_a_union() -> None:
    assert [path for path in PATHS if matcher(["a", "**/*.md"])(path)] == sorted(
        {*our_matches("a"), *our_matches("**/*.md")}
    )


def test_no_pattern_matches_nothing() -> None:
    assert not any(map(matcher([]), PATHS))


def test_unusual_names() -> None:
    assert matcher(["a/*"])("a/new\nline")
    assert matcher(["a/**"])("a/\udcff/b")
    assert matcher(["?.py"])("é.py")  # a character, where git counts bytes
    assert not matcher(["a"])("a\n")
    assert not matcher(["**/x"])("x\n")


@pytest.mark.parametrize("pattern", ["[", "a[b", "[!]", "[]", "a\\", "[[:alpha:]]", "[z-a]"])
def test_what_is_no_glob(pattern: str) -> None:
    with pytest.raises(ValueError):
        matcher([pattern])
