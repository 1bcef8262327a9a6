from __future__ import annotations

from unittest import mock

import pytest
from conftest import Repository
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greenline.ci.selection import spellings
from greenline.depgraph.workspace import find

NAMES = ["a.json", "da.json", "a.js", "a.json.gz", "json", ".json", "b c.txt", "a.", "Makefile", "ä.json", "x\ny.json"]
TEXTS = [
    "a.json",
    "xda.json",
    "'b c.txt'",
    "a.json.gz",
    "json",
    ".JSON",
    "Makefile.am",
    "ä.json",
    "x\ny.json",
    "\0a.js",
]


@given(
    files=st.lists(st.lists(st.sampled_from(TEXTS), max_size=3), min_size=1, max_size=4),
    asked=st.lists(st.lists(st.sampled_from(NAMES), min_size=1, max_size=6), min_size=1, max_size=3),
    few=st.sampled_from([1, 32]),
)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_who_spells_a_name_is_what_git_says_of_it_alone(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[str]], asked: list[list[str]], few: int
) -> None:
    repository = Repository(tmp_path_factory.mktemp("repository"))
    for number, texts in enumerate(files):
        (repository.root / f"{number}.txt").write_text(" ".join(texts), "utf-8")
    workspace = find(str(repository.root))
    with mock.patch.object(spellings, "FEW", few):
        found = spellings.Spellings(workspace)
        for names in asked:
            want = {file for name in names if "\n" not in name for file in workspace.grep([name], (".",))}
            whole = {f"{number}.txt" for number, texts in enumerate(files) if "x\ny.json" in texts}
            got = set(found.of(names))
            assert got >= want | (whole if "x\ny.json" in names else set())
            if "x\ny.json" not in names:
                assert got == want
