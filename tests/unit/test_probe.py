"""Probes: what tests did at a commit, in checkouts of their own and with the environment of a recipe."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from conftest import Repository

from greenline.ci.breakage.checkouts import Checkouts
from greenline.ci.breakage.environments import Recipe, python_for
from greenline.ci.breakage.probe import Probe, Settings, run
from greenline.ci.breakage.processes import TIMED_OUT, run_here
from greenline.depgraph.config import Config
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.workspace import find

TESTS = """
import pytest

def test_fine():
    pass

@pytest.mark.parametrize("x", [1, 2])
def test_each(x):
    assert x == 1

@pytest.mark.skip
def test_skipped():
    pass

@pytest.fixture
def broken():
    raise OSError("no disk")

def test_setup(broken):
    pass
"""


def test_what_became_of_each_test(repository: Repository) -> None:
    old = repository.commit({"tests/test_a.py": "def test_fine():\n    pass\n"})
    head = repository.commit({"tests/test_a.py": TESTS, "tests/test_b.py": "import nothing_of_the_kind\n"})
    workspace = find(str(repository.root))
    with Checkouts(workspace) as checkouts:
        checkout = checkouts.open(head)
        settings = Settings(workspace.root, Config(), os.environ)
        whole = run(checkout, settings, Probe(None))
        assert {name: each.state for name, each in whole.outcomes.items()} == {
            "tests/test_a.py::test_fine": "passed",
            "tests/test_a.py::test_each[1]": "passed",
            "tests/test_a.py::test_each[2]": "failed",
            "tests/test_a.py::test_skipped": "skipped",
            "tests/test_a.py::test_setup": "error",
            "tests/test_b.py": "error",
        }
        worst = whole.of("tests/test_a.py::test_each")
        assert worst and worst.bad
        assert str(checkouts.folder) not in whole.output
        checkout.go(old)
        wanted = ("tests/test_a.py::test_setup", "tests/test_a.py::test_fine", "tests/test_b.py")
        before = run(checkout, settings, Probe(wanted))
        assert list(before.outcomes) == ["tests/test_a.py::test_fine"]
        folder = checkouts.folder
    assert not os.path.exists(folder)
    assert repository.git("worktree", "list").count("\n") == 1
    assert repository.git("status", "--porcelain") == ""


def test_a_conftest_that_fails_on_an_installed_older_state_is_run_with_its_own(
    repository: Repository, tmp_path: Path
) -> None:
    head = repository.commit(
        {
            "pyproject.toml": '[project]\nname = "lib"\nversion = "1"\n',
            "src/lib.py": "NEW = 1\n",
            "tests/conftest.py": "from lib import NEW\n",
            "tests/test_a.py": "def test_a():\n    pass\n",
        }
    )
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "lib.py").write_text("")
    workspace = find(str(repository.root))
    with Checkouts(workspace) as checkouts:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
        checkout = checkouts.open(head)
        found = run(checkout, Settings(workspace.root, Config(), environment), Probe(None))
        assert {name: each.state for name, each in found.outcomes.items()} == {"tests/test_a.py::test_a": "passed"}
        assert not found.trouble
        quits = repository.commit({"tests/conftest.py": "import sys\nsys.exit(0)\n"})
        workspace = find(str(repository.root))
    with Checkouts(workspace) as checkouts:
        ended = run(checkouts.open(quits), Settings(workspace.root, Config(), environment), Probe(None))
        assert ended.trouble and not ended.outcomes


def test_an_environment_for_each_state_of_the_lock_file(repository: Repository, tmp_path: Path) -> None:
    log = tmp_path / "made.txt"
    script = (
        "import os, sys\nfolder = sys.argv[1] + '/bin'\nos.makedirs(folder)\n"
        f"os.symlink(sys.executable, folder + '/python')\nopen({str(log)!r}, 'a').write('x')\n"
    )
    recipe = Recipe(((sys.executable, "-c", script, "{environment}"),), ("*.lock",))
    commits = [repository.commit({"a.lock": "1"}), repository.commit({"b.py": ""}), repository.commit({"a.lock": "2"})]
    with Checkouts(find(str(repository.root))) as checkouts:
        pythons = [
            python_for(checkouts.open(commit), recipe, str(tmp_path / "cache"), os.environ) for commit in commits
        ]
        assert pythons[0] == pythons[1] != pythons[2]
        assert log.read_text() == "xx"
        assert python_for(checkouts.open(commits[0]), Recipe(), str(tmp_path), os.environ) == ""
        failing = Recipe(((sys.executable, "-c", "import sys; sys.exit('no such index')"),))
        with pytest.raises(GreenlineError, match="no such index"):
            python_for(checkouts.open(commits[0]), failing, str(tmp_path / "cache"), os.environ)


def test_nothing_outlives_its_time(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    late = f"import time; time.sleep(3); open({str(mark)!r}, 'w')"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {late!r}])"
    done = run_here([sys.executable, "-c", child], str(tmp_path), 1.5, os.environ)
    assert done.code == TIMED_OUT
    time.sleep(3)
    assert not mark.exists()
    assert run_here(["/not/there"], str(tmp_path), 1, {}).code == 127
