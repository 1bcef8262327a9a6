from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from greenline.tools.cli import main
from greenline.tools.cli.doctor import examine
from greenline.tools.cli.doctor_repair import examine_repair
from greenline.tools.cli.finding import Finding

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def findings(folder: Path, monkeypatch: pytest.MonkeyPatch, *checks: str) -> list[Finding]:
    """What these checks find; pytest, the slow one, comes last and is started only when asked for."""
    monkeypatch.chdir(folder)
    found = []
    for finding in examine():
        if finding.check in checks:
            found.append(finding)
        if finding.check == "cache" and "pytest" not in checks and "files" not in checks:
            break
    return found


def test_all_is_well(repository: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    repository.commit({"app.py": "", "tests/test_app.py": "import app\n", "greenline.yaml": "run_all: [app.py]\n"})
    repository.git("checkout", "--quiet", "-b", "feature")
    monkeypatch.chdir(repository.root / "tests")
    assert main.run(["doctor", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert answer["version"] == 1 and answer["ok"] is True
    assert {finding["state"] for finding in answer["findings"]} == {"ok"}
    by_check = {finding["check"]: finding["message"] for finding in answer["findings"]}
    assert by_check["repository"] == str(repository.root)
    assert by_check["greenline.yaml"] == "valid"
    assert by_check["suites"] == ".: 1 test file"
    assert "has the plugin" in by_check["pytest"]
    assert err.endswith("0 advice, 0 broken\n")
    assert repository.git("status", "--porcelain") == ""  # it leaves nothing behind


def test_text_names_the_way_out(
    repository: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.commit({"greenline.yaml": "ignore: docs\nselection: of\n"})
    monkeypatch.chdir(repository.root)
    assert main.run(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "broken  greenline.yaml greenline.yaml:1: ignore: expected a list, got 'docs'" in lines[-2]
    assert lines[-1].strip() == "greenline.yaml:2: selection: expected on or off, got 'of'; did you mean 'off'?"


def test_no_commit_yet(repository: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = findings(repository.root, monkeypatch, "repository")
    assert found.state == "broken" and "no commit yet" in found.message


def test_a_repository_of_another_user(repository: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.commit({"a.py": ""})
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own switch for this
    (found,) = findings(repository.root, monkeypatch, "repository")
    assert found.state == "broken" and "belongs to another user" in found.message
    assert found.hint is not None and "safe.directory" in found.hint


def test_variables_are_named_without_their_values(repository: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.commit({"a.py": ""})
    monkeypatch.setenv("GREENLINE_STORE", "secret")
    (found,) = findings(repository.root, monkeypatch, "environment", "files")
    assert found.message == "set: GREENLINE_STORE"


def test_a_linked_worktree(repository: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.commit({"a.py": ""})
    linked = repository.root.parent / "linked"
    repository.git("worktree", "add", "--quiet", str(linked))
    (found,) = findings(linked, monkeypatch, "repository")
    assert found == Finding("repository", "ok", f"{linked}, a linked worktree")


@pytest.mark.parametrize(
    ("options", "says", "hint"),
    [
        (["--depth=1"], "shallow", "git fetch --unshallow"),
        (["--filter=blob:none"], "partial", "git fetch --refetch --no-filter"),
        (["--sparse"], "sparse", "git sparse-checkout disable"),
    ],
)
def test_clones(
    repository: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: list[str], says: str, hint: str
) -> None:
    repository.commit({"a.py": ""})
    repository.commit({"a.py": "a = 1\n", "tests/test_a.py": ""})
    repository.git("config", "uploadpack.allowFilter", "true")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", *options, repository.root.as_uri(), clone], check=True)
    (found,) = findings(clone, monkeypatch, "clone")
    assert found.state == "advice" and found.message.startswith(says) and found.hint == hint
    assert findings(repository.root, monkeypatch, "clone") == []


def test_a_submodule(repository: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = repository.commit({"a.py": ""})
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},vendor/lib")
    (found,) = findings(repository.root, monkeypatch, "clone")
    assert found.message.startswith("submodules: vendor/lib;")


def test_entries_that_match_nothing(repository: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """\
exclude: [gone/**, a.py]
source_roots: [lib, .]
suites: [{name: a, root: old}]
edges:
  - {from: "*.rs", to: [app._native, other._native, a.py]}
cut:
  - {from: a, to: b.c, reason: x}
data:
  - {files: "*.json", affects: none}
"""
    repository.commit({"greenline.yaml": text, "a.py": "", "b.py": "from app import _native\n", "x.rs": ""})
    found = findings(repository.root, monkeypatch, "greenline.yaml")
    assert found[0] == Finding("greenline.yaml", "ok", "valid")
    assert [finding.message for finding in found[1:]] == [
        "exclude: 'gone/**' matches nothing",
        "source_roots: 'lib' matches nothing",
        "suites: 'old' matches nothing",
        "cut[0].to: 'b.c' matches nothing",
        "data[0].files: '*.json' matches nothing",
    ]


def test_selection_is_off(repository: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.commit({"greenline.yaml": "selection: off\n"})
    assert "selection is off" in findings(repository.root, monkeypatch, "greenline.yaml")[1].message


def test_the_base(repository: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = repository.commit({"a.py": ""})
    (found,) = findings(repository.root, monkeypatch, "base")
    assert found.state == "advice" and "everything is selected" in found.message and found.hint
    repository.git("checkout", "--quiet", "-b", "feature")
    (found,) = findings(repository.root, monkeypatch, "base")
    assert found.state == "ok" and found.message.startswith(commit[:12])
    monkeypatch.setenv("GREENLINE_BASE", "no-such")
    (found,) = findings(repository.root, monkeypatch, "base")
    assert found.state == "broken" and "no-such" in found.message


def test_suites(repository: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.commit({"a.py": ""})
    assert [finding.state for finding in findings(repository.root, monkeypatch, "suites")] == ["broken"]
    repository.write({"test_a.py": "", "bad/pytest.ini": "[pytest\n"})
    repository.write({"greenline.yaml": "suites: [{name: empty, root: bad}]\n"})
    found = findings(repository.root, monkeypatch, "suites")
    assert [(finding.state, finding.message.partition(":")[0]) for finding in found] == [
        ("broken", "bad/pytest.ini"),
        ("ok", "."),
        ("advice", "empty"),
    ]


def test_a_cache_that_cannot_be_written(repository: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.commit({"a.py": ""})
    monkeypatch.setenv("GREENLINE_CACHE_DIR", str(repository.root / "a.py" / "cache"))
    (found,) = findings(repository.root, monkeypatch, "cache")
    assert found.state == "advice" and "cannot be written" in found.message


def test_large_files_that_were_not_fetched(repository: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.commit({".gitattributes": "*.bin filter=lfs\n", "a.bin": POINTER, "b.bin": "content"})
    (found,) = findings(repository.root, monkeypatch, "files")
    assert found.message.startswith("1 of 2 Git LFS files are not fetched: a.bin") and found.hint == "git lfs pull"


def test_line_ends(repository: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.commit({"a.py": "a = 1\nb = 2\n", "b.py": "c = 3\n"})
    assert findings(repository.root, monkeypatch, "files") == []
    (repository.root / "a.py").write_bytes(b"a = 1\r\nb = 2\r\n")
    repository.write({"b.py": "c = 4\n"})
    (found,) = findings(repository.root, monkeypatch, "files")
    assert found.message == "1 file changed in line ends only: a.py"


@pytest.mark.parametrize(
    ("command", "state", "says"),
    [
        ("[no-such-program]", "broken", "No such file"),
        ('[python, "-c", "import sys; sys.exit(\'no pytest here\')"]', "broken", "no pytest here"),
        ('[python, "-c", "print(\'pytest 8\')"]', "advice", "has no plugin"),
    ],
)
def test_how_pytest_starts(
    repository: Any, monkeypatch: pytest.MonkeyPatch, command: str, state: str, says: str
) -> None:
    repository.commit(
        {"greenline.yaml": f"suites: [{{name: a, root: sub, command: {command}}}]\n", "sub/test_a.py": ""}
    )
    by_default, declared = findings(repository.root, monkeypatch, "pytest")
    assert by_default.state == "ok"
    assert declared.state == state and says in declared.message and declared.hint


# -- repair ---------------------------------------------------------------------------------------------------


def program(folder: Path, name: str, script: str) -> None:
    """A program on the PATH."""
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of the PATH: what a machine has is what a test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def repair(room: dict[str, Any], **environment: str) -> list[tuple[str, str, str]]:
    return [found[:3] for found in examine_repair(room, environment)]


def test_repair_on_a_bare_machine(path: Path) -> None:
    sandbox, *others = repair({})
    assert sandbox[:2] == ("sandbox", "ok") and "bubblewrap is not installed" in sandbox[2]
    assert others == [
        ("containers", "ok", "no docker; no podman"),
        ("agents", "ok", "none is configured; neither codex nor claude is on the PATH"),
        ("forge", "ok", "--forge git makes branches; --forge github lacks $GITHUB_TOKEN"),
    ]


def test_engines_that_answer_and_that_do_not(path: Path) -> None:
    program(path, "docker", "exit 1")
    program(path, "podman", "exit 0")
    assert repair({})[1][2] == "docker is installed, but reaches no engine; podman answers"


def test_agents_that_are_configured(path: Path) -> None:
    program(path, "codex", "exit 0")
    program(path, "mine", "exit 0")
    room = {
        "agents": [
            {"name": "codex", "kind": "codex"},
            {"name": "claude", "kind": "claude"},
            {"name": "own", "kind": "command", "command": ["mine", "-x"]},
        ]
    }
    sandbox, _, *agents, _ = repair(room)
    assert sandbox[1] == "advice" and sandbox[2].endswith("no agent is started here")
    assert agents == [
        ("agents", "advice", "codex: $OPENAI_API_KEY is not set here"),
        ("agents", "advice", "claude: claude is not on the PATH"),
        ("agents", "ok", f"own: {path}/mine"),
    ]
    assert repair(room, OPENAI_API_KEY="secret")[2] == ("agents", "ok", f"codex: {path}/codex")


def test_a_sandbox_that_does_not_isolate(path: Path) -> None:
    program(path, "bwrap", "echo no permission >&2; exit 1")
    sandbox = next(examine_repair({"agents": [{"name": "claude", "kind": "claude"}]}, {}))
    assert sandbox.state == "advice" and "cannot start: no permission" in sandbox.message
    assert sandbox.hint and "user namespaces" in sandbox.hint


def test_what_opens_pull_requests(path: Path) -> None:
    assert repair({}, GITHUB_ACTIONS="true")[-1][:2] == ("forge", "advice")
    found = repair({}, GH_TOKEN="secret", GITHUB_REPOSITORY="a/b")[-1]
    assert found[1] == "ok" and "$GH_TOKEN" in found[2] and "secret" not in found[2]


def test_a_room_for_repair_that_is_wrong(path: Path) -> None:
    (found,) = repair({"agents": [{"name": "own", "kind": "command"}]})
    assert found[1] == "broken" and "has no command" in found[2]
