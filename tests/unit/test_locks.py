"""Manifests: which files they are, and those that come, go or cannot be read."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenline.depgraph.locks import (
    ManifestDelta,
    compare_manifest,
    is_manifest,
)


def compare(path: str, old: str, new: str) -> ManifestDelta:
    return compare_manifest(path, old.encode(), new.encode())


# --- which files


MANIFESTS = """
uv.lock libs/a/uv.lock poetry.lock pdm.lock Pipfile Pipfile.lock pylock.toml pylock.dev.toml requirements.txt
requirements3.txt dev-requirements.txt requirements/base.txt requirements/dev.in base.in requirements.in
requirements.lock constraints.txt a/constraints-3.12.txt pyproject.toml setup.cfg setup.py environment.yml
environment-gpu.yaml conda-lock.yml .python-version .tool-versions runtime.txt pixi.toml pixi.lock
tools/job.py.lock
"""
OTHERS = "app/lock.py MANIFEST.in config.h.in notes.txt docs/setup.rst mysetup.py settings.toml ci.yml"


@pytest.mark.parametrize("path", MANIFESTS.split())
def test_manifests_are_known_by_name(path: str) -> None:
    assert is_manifest(path)


@pytest.mark.parametrize("path", OTHERS.split())
def test_other_files_are_no_manifests(path: str) -> None:
    assert not is_manifest(path)


# --- files that come, go, or cannot be read


@pytest.mark.parametrize("path", ["uv.lock", "requirements.txt", "pyproject.toml", "setup.py", "environment.yml"])
def test_added_and_deleted_files(path: str) -> None:
    for old, new in ((None, b"x"), (b"x", None)):
        assert compare_manifest(path, old, new).everything
    for old, new in ((None, None), (None, b""), (b"\n", None), (b"x", b"x")):
        delta = compare_manifest(path, old, new)
        assert not delta.everything
        assert not delta.distributions


@given(
    st.sampled_from(MANIFESTS.split()),
    st.one_of(
        st.binary(max_size=30),
        st.sampled_from([b"[", b"\xff\xfe", b"package = 1", b"a = 1", b"[]", b"- a", b"a: [", b"(", b"x==1\\"]),
    ),
)
def test_no_content_raises(path: str, content: bytes) -> None:
    for delta in (compare_manifest(path, b"", content), compare_manifest(path, content, b"")):
        assert delta.reason.startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("path", "sound", "broken"),
    [
        ("uv.lock", b"", b"[[package]]\nname = 'a'\n"),
        ("uv.lock", b"", b"\xff"),
        ("poetry.lock", b"", b"package = 1"),
        ("pdm.lock", b"", b"[[package]]\nname = 'a'\ndependencies = ['?']\n"),
        ("Pipfile.lock", b"{}", b"[]"),
        ("pylock.toml", b"", b"[[packages]]\nversion = '1'\n"),
        ("conda-lock.yml", b"package: []", b"version: 1"),
        ("requirements.txt", b"", b"flask \\"),
        ("setup.cfg", b"", b"name = 1"),
    ],
)
def test_broken_files_are_everything_on_either_side(path: str, sound: bytes, broken: bytes) -> None:
    for old, new, side in ((sound, broken, "after"), (broken, sound, "before")):
        delta = compare_manifest(path, old, new)
        assert delta.everything
        assert delta.reason.startswith(f"{path}: cannot be read {side} the change: ")


def test_start_up_loads_no_parser() -> None:
    parsers = {"ast", "configparser", "json", "networkx", "tomllib", "yaml"}
    program = (
        "import sys; before = set(sys.modules); import greenline.depgraph.locks; "
        f"print(*sorted({parsers} & (set(sys.modules) - before)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
