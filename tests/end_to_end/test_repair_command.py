"""`greenline repair` as a user calls it: plain repositories, real merges, real pytest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from calls import GREENLINE, Call, call, surroundings
from conftest import Repository

from greenline.tools.cli.main import run

sys.path.insert(0, str(Path(__file__).parents[1]))
from github_server import serve

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "repair.schema.json").read_text("utf-8"))
BASE = {
    "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["."]\n',
    ".gitignore": ".greenline/\n__pycache__/\n.pytest_cache/\n",
    "lib/money.py": "def total(prices):\n    return sum(prices)\n",
    "tests/test_money.py": "from lib import money\n\n\ndef test_total():\n    assert money.total([1, 2]) == 3\n",
    "tests/test_other.py": "def test_other():\n    assert True\n",
}
RENAME = {
    "lib/money.py": "def sum_of(prices):\n    return sum(prices)\n",
    "tests/test_money.py": "from lib import money\n\n\ndef test_total():\n    assert money.sum_of([1, 2]) == 3\n",
}
NEW_USE = {
    "lib/report.py": "from lib.money import total\n\n\ndef report(prices):\n    return f'total {total(prices)}'\n",
    "tests/test_report.py": (
        "from lib.report import report\n\n\ndef test_report():\n    assert report([1, 2]) == 'total 3'\n"
    ),
}
DELETION = {
    "lib/money.py": "def other():\n    return 0\n",
    "tests/test_money.py": "from lib import money\n\n\ndef test_other():\n    assert money.other() == 0\n",
}


def merge_both(repository: Repository, ours: dict[str, str] = RENAME, message: str = "Merge theirs") -> str:
    """Two branches that are green alone and break together; gives main's red head."""
    repository.commit(BASE)
    for name, edit in (("ours", ours), ("theirs", NEW_USE)):
        repository.git("checkout", "--quiet", "-b", name, "main")
        repository.commit(edit)
        repository.git("checkout", "--quiet", "main")
    repository.git("merge", "--quiet", "--no-ff", "--message=Merge ours", "ours")
    repository.git("merge", "--quiet", "--no-ff", f"--message={message}", "theirs")
    return repository.git("rev-parse", "main").strip()


def repair(repository: Repository, *arguments: object, **environment: str) -> Call:
    return call(repository.root, GREENLINE, "repair", *arguments, **environment)


def report_of(done: Call) -> dict[str, object]:
    """The JSON report, valid by the published schema."""
    report: dict[str, object] = json.loads(done.out)
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    return report


def branches(repository: Repository) -> list[str]:
    return repository.git("for-each-ref", "--format=%(refname:short)", "refs/heads/greenline").split()


def passes(repository: Repository, ref: str, tmp_path: Path) -> bool:
    folder = tmp_path / "look"
    repository.git("worktree", "add", "--quiet", "--detach", str(folder), ref)
    done = call(folder, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    repository.git("worktree", "remove", "--force", str(folder))
    return done.code == 0


def untouched(repository: Repository, head: str) -> None:
    assert repository.git("rev-parse", "main").strip() == head
    assert repository.git("status", "--porcelain") == ""
    assert repository.git("worktree", "list").count("\n") == 1


# -- quick ones ----------------------------------------------------------------------------------------------


class Quick:
    """`greenline repair` in this process, for calls that end before a test runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: object, **environment: str) -> Call:
        for name, value in environment.items():
            self._monkeypatch.setenv(name, value)
        code = run(["repair", *map(str, arguments)])
        return Call(code, *self._capsys.readouterr())


@pytest.fixture
def quick(repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Quick:
    monkeypatch.chdir(repository.root)
    return Quick(monkeypatch, capsys)


@pytest.mark.parametrize("way", ["variable", "configuration"])
def test_the_kill_switch(repository: Repository, quick: Quick, way: str) -> None:
    head = merge_both(repository)
    if way == "configuration":
        (repository.root / "greenline.yaml").write_text("repair: {enabled: off}\n", "utf-8")
    done = quick(**({"GREENLINE_REPAIR": "off"} if way == "variable" else {}))
    assert (done.code, done.out) == (0, "")
    assert "switched off" in done.err
    assert branches(repository) == []
    assert repository.git("rev-parse", "main").strip() == head


def test_wrong_use_is_told(repository: Repository, quick: Quick) -> None:
    head = merge_both(repository)
    for arguments, problem in (
        (["--bad", "nowhere"], "nowhere"),
        (["--good", "nowhere"], "nowhere"),
        (["--good", head], "not before"),
        (["--test", "tests/none.py::test_x"], "no such file"),
        (["--junit", "none.xml"], "none.xml"),
        (["--agent", "unheard-of"], "unheard-of"),
    ):
        done = quick(*arguments)
        assert done.code == 2, done
        assert problem in done.err
        assert "Traceback" not in done.err


def test_a_report_without_a_failure_is_no_reason_to_run_anything(
    repository: Repository, quick: Quick, tmp_path: Path
) -> None:
    merge_both(repository)
    report = tmp_path / "junit.xml"
    report.write_text('<testsuites><testsuite><testcase classname="tests.test_other" name="test_other"/>', "utf-8")
    done = quick("--junit", report)
    assert (done.code, done.out) == (0, "")
    assert "nothing is broken" in done.err


# -- the whole way -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_green_merges_that_break_main(repository: Repository, tmp_path: Path) -> None:
    head = merge_both(repository)
    done = repair(repository, "--bad", "main", "--forge", "git")
    assert done.code == 0, done
    (branch,) = branches(repository)
    untouched(repository, head)
    assert repository.git("rev-parse", f"{branch}^").strip() == head
    assert passes(repository, branch, tmp_path)
    changed = repository.git("diff", "--name-only", "main", branch).split()
    fingerprint = branch.rpartition("/")[2]
    assert changed == [f".greenline/repair/{fingerprint}.md", "lib/report.py"]
    text = repository.git("show", f"{branch}:.greenline/repair/{fingerprint}.md")
    for wanted in (
        "Merge theirs",
        "tests/test_report.py",
        "failed 3 of 3",
        "failed 0 of 3",
        "git revert -m 1",
        head[:12],
    ):
        assert wanted in text
    again = repair(repository, "--bad", "main", "--format", "json")
    assert again.code == 0
    (breakage,) = report_of(again)["breakages"]  # type: ignore[misc]
    assert (breakage["status"], breakage["branch"]) == ("already proposed", branch)  # type: ignore[index]
    assert branches(repository) == [branch]


@pytest.mark.slow
def test_a_dry_run_writes_only_its_report(repository: Repository) -> None:
    head = merge_both(repository)
    done = repair(
        repository, "--good", "main~2", "--test", "tests/test_report.py::test_report", "--dry-run", "--format", "json"
    )
    assert done.code == 0, done
    report = report_of(done)
    (breakage,) = report["breakages"]  # type: ignore[misc]
    assert breakage["status"] == "proposed"  # type: ignore[index]
    assert breakage["culprit"]["commit"] == head  # type: ignore[index]
    assert breakage["candidates"][0]["name"] == "fix:renamed"  # type: ignore[index]
    assert branches(repository) == []
    assert not (repository.root / ".greenline" / "store").exists()
    untouched(repository, head)


@pytest.mark.slow
def test_green_main_is_left_alone(repository: Repository) -> None:
    repository.commit(BASE)
    done = repair(repository)
    assert (done.code, done.out) == (0, "")
    assert "nothing is broken" in done.err


@pytest.mark.slow
def test_from_junit_to_a_revert_and_never_of_a_hotfix(repository: Repository, tmp_path: Path) -> None:
    merge_both(repository, DELETION)
    report = tmp_path / "junit.xml"
    call(repository.root, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}")
    done = repair(repository, "--junit", report)
    assert done.code == 0, done
    (branch,) = branches(repository)
    assert passes(repository, branch, tmp_path)
    assert repository.git("log", "-1", "--format=%s", branch).startswith("Revert: Merge theirs")
    repository.git("branch", "-D", branch)
    repository.git("commit", "--quiet", "--amend", "--message=Hotfix: reports for the incident")
    done = repair(repository, "--junit", report)
    assert done.code == 1, done
    assert "looks like a hotfix" in done.out
    assert branches(repository) == []


@pytest.mark.slow
def test_a_flake_is_no_break(repository: Repository) -> None:
    log = repository.root.parent / "log.txt"
    coin = (
        f"import pathlib\n\nLOG = pathlib.Path({str(log)!r})\n\n\n"
        "def test_coin():\n    LOG.open('a').write('x')\n    assert len(LOG.read_text()) != 1\n"
    )
    repository.commit(BASE)
    repository.commit({"tests/test_coin.py": coin})
    done = repair(repository, "--format", "json")
    assert done.code == 0, done
    (breakage,) = report_of(done)["breakages"]  # type: ignore[misc]
    assert (breakage["kind"], breakage["status"]) == ("flake", "no break")  # type: ignore[index]
    assert branches(repository) == []


@pytest.mark.slow
@pytest.mark.parametrize("trap", ["PYTHONPATH", "pth"])
def test_code_of_another_checkout_blames_nobody_wrongly(repository: Repository, tmp_path: Path, trap: str) -> None:
    """The user's checkout is what the environment imports: every probe must still see its own commit."""
    layout = {
        "pyproject.toml": "[tool.pytest.ini_options]\nminversion = '6'\n",
        ".gitignore": ".greenline/\n__pycache__/\n",
        "src/lib_of_this/money.py": "VALUE = 1\n",
        "src/lib_of_this/__init__.py": "",
        "tests/test_money.py": "from lib_of_this.money import VALUE\n\n\ndef test_value():\n    assert VALUE == 1\n",
    }
    repository.commit(layout)
    guilty = repository.commit({"src/lib_of_this/money.py": "VALUE = 2\n"})
    repository.commit({"README.md": "later\n"})
    source = repository.root / "src"
    environment = {"PYTHONPATH": str(source)}
    if trap == "pth":
        site = tmp_path / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(f"import sys\nsys.path.append({str(source)!r})\n", "utf-8")
        environment = {"PYTHONPATH": str(site)}
    done = repair(repository, "--good", "main~2", "--dry-run", "--format", "json", **environment)
    (breakage,) = report_of(done)["breakages"]  # type: ignore[misc]
    assert breakage["culprit"]["commit"] == guilty, done.err  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.parametrize("step", ["running", "reproducing", "may have broken", "deterministic", "writing the branch"])
def test_killed_at_any_step_and_started_again(repository: Repository, tmp_path: Path, step: str) -> None:
    head = merge_both(repository)
    process = subprocess.Popen(
        [GREENLINE, "repair"],
        cwd=repository.root,
        env=surroundings({}),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr
    for line in process.stderr:
        if step in line:
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.wait()
    process.stderr.close()
    assert len(branches(repository)) <= 1
    done = repair(repository)
    assert done.code == 0, done
    (branch,) = branches(repository)
    assert passes(repository, branch, tmp_path)
    untouched(repository, head)


@pytest.mark.slow
def test_two_runs_at_once_make_one_proposal(repository: Repository) -> None:
    merge_both(repository)
    command = [GREENLINE, "repair"]
    both = [
        subprocess.Popen(command, cwd=repository.root, env=surroundings({}), stderr=subprocess.DEVNULL) for _ in "ab"
    ]
    codes = sorted(process.wait() for process in both)
    assert codes in ([0, 0], [0, 1])
    assert len(branches(repository)) == 1


@pytest.mark.slow
def test_main_moves_meanwhile(repository: Repository, tmp_path: Path) -> None:
    merge_both(repository)
    process = subprocess.Popen(
        [GREENLINE, "repair", "--bad", "main"],
        cwd=repository.root,
        env=surroundings({}),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    head = ""
    for line in process.stderr:
        if "deterministic" in line and not head:
            head = repository.commit({"lib/later.py": "X = 1\n"})
    assert process.wait() == 0
    process.stderr.close()
    (branch,) = branches(repository)
    assert repository.git("rev-parse", f"{branch}^").strip() == head
    assert passes(repository, branch, tmp_path)


@pytest.mark.slow
def test_a_culprit_that_was_taken_back_meanwhile(repository: Repository) -> None:
    merge_both(repository)
    repository.git("revert", "--no-edit", "-m", "1", "main")
    done = repair(repository, "--bad", "main")
    assert (done.code, branches(repository)) == (0, [])
    assert "nothing is broken" in done.err


@pytest.mark.slow
def test_a_disk_that_is_full(repository: Repository) -> None:
    head = merge_both(repository)
    limit = "import resource, subprocess, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); "
    run = f"sys.exit(subprocess.run([{str(GREENLINE)!r}, 'repair']).returncode)"
    done = call(repository.root, sys.executable, "-c", limit + run)
    assert done.code in (1, 2), done
    assert "Traceback" not in done.err
    assert branches(repository) == []
    assert repair(repository).code == 0
    assert len(branches(repository)) == 1
    untouched(repository, head)


@pytest.mark.slow
def test_a_pull_request_from_the_first_to_the_last(repository: Repository, tmp_path: Path) -> None:
    """Opened, found again, published by a job of its own, and closed when main has recovered."""
    merge_both(repository)
    remote = tmp_path / "origin.git"
    repository.git("init", "--quiet", "--bare", str(remote))
    repository.git("remote", "add", "origin", str(remote))
    repository.git("push", "--quiet", "origin", "main")
    with serve() as github:
        first = repair(repository, "--bad", "main", "--forge", "github", **github.environment())
        assert first.code == 0, first
        (branch,) = branches(repository)
        (pull,) = github.pulls
        assert (pull["head"]["ref"], pull["base"]["ref"], pull["draft"]) == (branch, "main", False)
        assert pull["body"] == repository.git("show", f"{branch}:.greenline/repair/{branch.rpartition('/')[2]}.md")
        pushed = call(remote, "git", "for-each-ref", "--format=%(refname:short)").out.split()
        assert pushed == [branch, "main"]
        published = repair(repository, "--publish", branch, **github.environment())
        assert (published.code, published.out.strip()) == (0, pull["html_url"])
        assert len(github.pulls) == 1
        repository.git("revert", "--no-edit", "-m", "1", "main")
        recovered = repair(repository, "--bad", "main", "--forge", "github", **github.environment())
        assert recovered.code == 0, recovered
        assert [pull["state"] for pull in github.pulls] == ["closed"]
    foreign = repository.git("commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "not ours").strip()
    repository.git("update-ref", f"refs/heads/{branch}", foreign)
    refused = repair(repository, "--publish", branch, **github.environment())
    assert refused.code == 2
    assert "not as Greenline made it" in refused.err
