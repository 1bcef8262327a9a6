from __future__ import annotations

import marshal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenline.depgraph import cachefile

SECTIONS = {"one": b"first", "two": b"", "three": marshal.dumps(["a", 1])}


def test_sections_come_back(tmp_path: Path) -> None:
    path = str(tmp_path / "cache" / "file")
    assert cachefile.write(path, SECTIONS)
    file = cachefile.read(path)
    assert file is not None
    assert bytes(file.section("one")) == b"first"
    assert bytes(file.section("two")) == b""
    assert file.load("three") == ["a", 1]


@given(st.data())
@settings(deadline=None)
def test_damage_is_found_before_it_is_believed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("damage") / "file"
    cachefile.write(str(path), SECTIONS)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:at])
    else:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :])
    file = cachefile.read(str(path))
    if file is not None:
        for name, content in SECTIONS.items():
            try:
                assert bytes(file.section(name)) == content
            except (cachefile.Corrupted, KeyError):
                return


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file is in the way")
    assert not cachefile.write(str(tmp_path / "cache" / "file"), SECTIONS)
    assert cachefile.read(str(tmp_path / "cache" / "file")) is None


def test_prune_keeps_the_most_recently_used(tmp_path: Path) -> None:
    paths = [cachefile.name(str(tmp_path), "graph", str(number)) for number in range(5)]
    for number, path in enumerate(paths):
        cachefile.write(path, SECTIONS)
        Path(path).touch()
        import os

        os.utime(path, (number, number))
    os.utime(paths[0], (99, 99))
    cachefile.prune(str(tmp_path), "graph", keep=2)
    assert cachefile.files(str(tmp_path), "graph") == [paths[0], paths[4]]
