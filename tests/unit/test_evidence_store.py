"""Evidence in the store: what ingest keeps, lets go and refuses; hand-written records in a real repository."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from conftest import Repository

from greenline.ci.affected import Request, affected
from greenline.ci.evidence import exchange
from greenline.ci.evidence import ingest as ingesting
from greenline.ci.evidence.forms import KEPT_RUNS, VARIABLE, Entry, pack, pack_entries, unpack_entries, unpack_names
from greenline.ci.evidence.ingest import Ingested, compact, ingest
from greenline.ci.evidence.reading import Evidence, load
from greenline.ci.evidence.sharpen import variant_of
from greenline.ci.evidence.variables import changed, digest
from greenline.ci.store import open_store
from greenline.depgraph import config as configuration
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.workspace import blob_id, find

FILES = {
    "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["."]\n',
    ".gitignore": ".greenline\n",
    "lib.py": "def a():\n    return 1\n\n\ndef b():\n    return 2\n",
    "test_lib.py": "import lib\n\n\ndef test_a():\n    lib.a()\n\n\ndef test_b():\n    lib.b()\n",
}
TESTS = {"test_a": ["test_a", "a"], "test_b": ["test_b", "b"]}
SOURCES = ("lib.py", "test_lib.py")
Lines = list[dict[str, Any]]


@pytest.fixture
def here(repository: Repository) -> Repository:
    repository.commit(FILES)
    return repository


def lines(root: Path, tests: dict[str, list[str]] = TESTS, outcome: str = "passed") -> Lines:
    """What a recorder would write: each test with the functions that it ran, of lib.py or of its own file."""
    python, platform, *_ = variant_of(str(root), "").split()
    names = sorted({name for used in tests.values() for name in used})
    path = {name: "test_lib.py" if name.startswith("test") else "lib.py" for name in names}
    blocks = [{"kind": "block", "id": at, "path": path[name], "name": name} for at, name in enumerate(names)]
    blocks += [{"kind": "block", "id": 100 + at, "path": file, "name": ""} for at, file in enumerate(SOURCES)]
    used = {test: [names.index(name) for name in ran] for test, ran in tests.items()}
    return [
        {"kind": "session", "version": 1, "suite_root": "", "process": "main",
         "variant": {"python": python, "platform": platform, "extra": ""}},
        *({"kind": "file", "path": file, "oid": blob_id((root / file).read_bytes())} for file in SOURCES),
        *blocks,
        *({"kind": "test", "id": f"test_lib.py::{test}", "blocks": ran, "units": ["module:test_lib.py"],
           "outcome": outcome, "phases": {"call": 0.5}} for test, ran in used.items()),
        {"kind": "unit", "id": "module:test_lib.py", "blocks": [101]},
        {"kind": "unit", "id": "module:lib.py", "blocks": [100]},
        {"kind": "end"},
    ]  # fmt: skip


def take_in(root: Path, written: Lines) -> Ingested:
    folder = root / ".greenline" / "records" / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "main.jsonl").write_text("".join(json.dumps(line) + "\n" for line in written))
    return ingest(find(str(root)), configuration.load(root), str(folder))


def evidence_of(root: Path) -> Evidence:
    (found,) = load(find(str(root)), configuration.load(root))
    return found


def selected(root: Path) -> list[str]:
    answer = affected(str(root), Request(base="HEAD"))
    return [each for test in answer.tests for each in test.node_ids or ["all"]]


def test_a_test_is_selected_for_what_it_ran(here: Repository) -> None:
    assert take_in(here.root, lines(here.root)).tests == 2
    here.write({"lib.py": FILES["lib.py"].replace("return 1", "return 3")})
    assert selected(here.root) == ["test_a"]


def test_the_import_statement_of_a_block_brings_the_module(here: Repository) -> None:
    """The unit of lib.py is named by nobody: `import lib` in the test file leads there."""
    take_in(here.root, lines(here.root))
    here.write({"lib.py": "print()\n" + FILES["lib.py"]})
    assert selected(here.root) == ["all"]


@pytest.mark.parametrize("outcome", ["failed", "skipped", "xfailed", "error", "rerun", "timeout"])
def test_only_a_passed_run_counts(here: Repository, outcome: str) -> None:
    added = take_in(here.root, lines(here.root, outcome=outcome))
    assert (added.tests, added.invalid) == (0, {outcome: 2})
    here.write({"lib.py": FILES["lib.py"].replace("return 1", "return 3")})
    assert selected(here.root) == ["all"] or selected(here.root) == ["test_a", "test_b"]


def test_a_process_that_did_not_end_gives_no_record(here: Repository) -> None:
    assert take_in(here.root, lines(here.root)[:-1]).invalid == {"crashed": 2}


def test_half_a_line_is_the_end_of_a_file(here: Repository) -> None:
    take_in(here.root, lines(here.root)[:-1])
    folder = here.root / ".greenline" / "records" / "run"
    with open(folder / "main.jsonl", "a") as file:
        file.write('{"kind": "te')
    added = ingest(find(str(here.root)), configuration.load(here.root), str(folder))
    assert added.tests == 0


def test_a_record_of_other_bytes_does_not_count(here: Repository) -> None:
    written = lines(here.root)
    here.write({"lib.py": FILES["lib.py"] + "\n\nX = 1\n"})
    assert take_in(here.root, written).invalid == {"a file was edited while it ran": 2}


def test_a_record_without_its_own_body_does_not_count(here: Repository) -> None:
    assert take_in(here.root, lines(here.root, {"test_a": ["a"]})).invalid == {"its own body was not seen": 1}


def test_a_test_that_starts_an_unknown_program_does_not_count(here: Repository) -> None:
    written = lines(here.root)
    for line in written:
        if line.get("id") == "test_lib.py::test_a":
            line["children"] = ['["/usr/bin/make", "all"]']
        if line.get("id") == "test_lib.py::test_b":
            line["children"] = ['["git", "status"]']
    assert take_in(here.root, written).invalid == {"started a program that was not recorded (make)": 1}


def test_records_of_another_version_are_refused(here: Repository) -> None:
    written = lines(here.root)
    written[0]["version"] = 99
    with pytest.raises(GreenlineError, match="records of version 99"):
        take_in(here.root, written)


def test_the_same_run_again_adds_nothing(here: Repository) -> None:
    take_in(here.root, lines(here.root))
    before = evidence_of(here.root).alive
    take_in(here.root, lines(here.root))
    assert evidence_of(here.root).alive == before


def test_records_that_differ_are_kept_up_to_a_number(here: Repository) -> None:
    for extra in ("a", "b", "test_a", "test_b", "a"):
        take_in(here.root, lines(here.root, {"test_a": ["test_a", extra], "test_b": TESTS["test_b"]}))
    assert len(evidence_of(here.root).entries("test_lib.py")["test_a"].numbers) == KEPT_RUNS


def test_a_commit_breaks_the_records_that_ran_what_it_changed(here: Repository) -> None:
    take_in(here.root, lines(here.root))
    here.commit({"lib.py": FILES["lib.py"].replace("return 1", "return 3")})
    take_in(here.root, lines(here.root, {"test_b": TESTS["test_b"]}))
    evidence = evidence_of(here.root)
    alive = {
        name: any(n in evidence.alive for n in entry.numbers) for name, entry in evidence.entries("test_lib.py").items()
    }
    assert alive == {"test_a": False, "test_b": True}
    take_in(here.root, lines(here.root, {"test_a": TESTS["test_a"]}))
    assert len(evidence_of(here.root).alive) == 2


def test_records_of_uncommitted_content_hold_against_it(here: Repository) -> None:
    edited = {"lib.py": FILES["lib.py"].replace("return 1", "return 3")}
    here.write(edited)
    take_in(here.root, lines(here.root))
    here.commit()
    here.write({"lib.py": edited["lib.py"].replace("return 2", "return 4")})
    assert selected(here.root) == ["test_b"]


def test_a_broken_store_leaves_the_answer_to_imports(here: Repository) -> None:
    take_in(here.root, lines(here.root))
    store = here.root / ".greenline" / "store"
    for path in store.glob("greenline.db*"):
        path.unlink()
    (store / "greenline.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    here.write({"lib.py": FILES["lib.py"].replace("return 1", "return 3")})
    answer = affected(str(here.root), Request(base="HEAD"))
    assert [test.path for test in answer.tests] == ["test_lib.py"] and answer.share is None
    assert "evidence cannot be read and imports decide" in answer.warnings[0]


def test_compaction_changes_no_answer(here: Repository) -> None:
    for extra in ("a", "b", "test_a", "test_b"):
        take_in(here.root, lines(here.root, {"test_a": ["test_a", "a", extra], "test_b": TESTS["test_b"]}))
    here.write({"lib.py": FILES["lib.py"].replace("return 1", "return 3")})
    before = selected(here.root)
    with open_store(find(str(here.root)), configuration.load(here.root)).begin() as connection:
        compact(connection, 1)
    assert selected(here.root) == before
    assert max(evidence_of(here.root).alive) == len(evidence_of(here.root).alive) - 1


def test_old_variants_are_dropped(here: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    old = lines(here.root)
    old[0]["variant"]["extra"] = "old"
    take_in(here.root, old)
    monkeypatch.setattr(ingesting, "KEPT_SECONDS", -1)
    take_in(here.root, lines(here.root))
    assert load(find(str(here.root)), configuration.load(here.root)) == []


def test_export_and_import(here: Repository, tmp_path: Path) -> None:
    take_in(here.root, lines(here.root))
    file = str(tmp_path / "evidence.db")
    workspace, config = find(str(here.root)), configuration.load(here.root)
    assert exchange.export(open_store(workspace, config), file) == 1
    before = exchange.status(open_store(workspace, config))
    assert exchange.load(open_store(workspace, config), file) == (0, 1)
    shutil.rmtree(here.root / ".greenline")
    assert exchange.load(open_store(workspace, config), file) == (1, 0)
    assert exchange.status(open_store(workspace, config)) == before
    here.write({"lib.py": FILES["lib.py"].replace("return 1", "return 3")})
    assert selected(here.root) == ["test_a"]


# -- PostgreSQL ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_postgresql(here: Repository, postgresql: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GREENLINE_STORE", postgresql)
    take_in(here.root, lines(here.root))
    committed = FILES["lib.py"].replace("return 1", "return 3")
    here.commit({"lib.py": committed})
    take_in(here.root, lines(here.root, {"test_a": TESTS["test_a"]}))
    here.write({"lib.py": committed.replace("return 2", "return 5")})
    print(
        affected(str(here.root), Request(base="HEAD")),
        load(find(str(here.root)), configuration.load(here.root))[0].__dict__,
    )
    assert selected(here.root) == ["test_b"]
    workspace, config = find(str(here.root)), configuration.load(here.root)
    exchange.export(open_store(workspace, config), str(tmp_path / "evidence.db"))
    assert exchange.status(open_store(workspace, config))[0].records == 2
    here.git("checkout", "--quiet", "-b", "topic")  # no branch of writers: it reads, and the server refuses a write
    before = selected(here.root)
    with pytest.raises(sqlalchemy.exc.DBAPIError, match="read-only"):
        take_in(here.root, lines(here.root))
    assert selected(here.root) == before


def test_a_record_holds_where_variables_have_the_values_that_it_was_made_with(here: Repository) -> None:
    written = lines(here.root)
    variables = {"MODE": digest("MODE", "a"), "TOKEN": digest("TOKEN", None), "HOME": digest("HOME", "/home/a")}
    test = next(line for line in written if line.get("id") == "test_lib.py::test_a")
    test["env"] = [*variables, "*", "OF_A_CHILD"]
    seen = [{"kind": "variable", "name": name, "digest": short} for name, short in variables.items()]
    take_in(here.root, [written[0], *seen, *written[1:]])
    evidence = evidence_of(here.root)
    assert evidence.paths(VARIABLE) == ["MODE", "TOKEN"]

    def names(environment: dict[str, str], *ignored: str) -> list[str]:
        config = configuration.build({"evidence": {"ignore_variables": list(ignored)}})
        return sorted(changed(evidence, config, environment))

    assert names({"MODE": "a", "HOME": "/home/b"}) == []
    assert names({"MODE": "b"}) == ["MODE"]
    assert names({"MODE": "", "TOKEN": ""}) == ["MODE", "TOKEN"]  # empty is not unset
    assert names({"TOKEN": "x"}, "MO*") == ["TOKEN"]
    (records,) = changed(evidence, configuration.Config(), {}).values()
    assert list(records) == evidence.entries("test_lib.py")["test_a"].numbers


def test_entries_of_an_older_store_are_read() -> None:
    entries = {"test_a": Entry([(3, "x"), (7, "y")], "passed", 0.1, 0), "test_b": Entry([(9, "z")], "passed", 0.2, 4)}
    older = pack({name: list(entry) for name, entry in entries.items()})
    for data in (older, pack_entries(unpack_entries(older))):
        assert unpack_names(data) == ({3: "test_a", 7: "test_a", 9: "test_b"}, {"test_b": 4})
        assert {name: entry.numbers for name, entry in unpack_entries(data).items()} == {
            "test_a": [3, 7],
            "test_b": [9],
        }
