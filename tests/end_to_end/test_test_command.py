"""`greenline test` in real repositories: which suites it runs, where, with what, and what it returns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from calls import GREENLINE, Call, call, script, surroundings
from conftest import Repository
from guests import guest

LAST_GREEN = "refs/greenline/last-green"
FIXTURE = "import pytest\n@pytest.fixture\ndef here(): return {!r}\n"
REPOSITORY = {
    "lib/__init__.py": "",
    "lib/core.py": "VALUE = 1\n",
    "conftest.py": FIXTURE.format("root"),
    "tests/test_root.py": "from lib.core import VALUE\ndef test_root(here): assert here == 'root'\n",
    "services/api/pytest.ini": "[pytest]\npythonpath = . ../..\n",
    "services/api/conftest.py": FIXTURE.format("api"),
    "services/api/tests/test_api.py": """
import os
from lib.core import VALUE
def test_api(here): assert here == 'api' and os.path.exists('pytest.ini') and 'GREENLINE_ANSWER' not in os.environ
""",
    "services/web/pytest.ini": "[pytest]\ntestpaths = checks\npythonpath = .\n",
    "services/web/web.py": "VALUE = 1\n",
    "services/web/checks/test_web.py": """
import web
assert web.VALUE == 2
def test_one(): pass
def test_two(): pass
""",
}


@pytest.fixture
def several(repository: Repository) -> Repository:
    """Three suites, on a branch off main: edits of lib/core.py reach two of them."""
    repository.commit(REPOSITORY)
    repository.git("checkout", "--quiet", "-b", "topic")
    return repository


def greenline_test(folder: Path, *arguments: object, **environment: str) -> Call:
    """`greenline test` with an active environment that has pytest and no greenline."""
    home = {"VIRTUAL_ENV": str(guest().parents[1])}
    return call(folder, GREENLINE, "test", *arguments, **{**home, **environment})


def test_each_affected_suite_runs_in_its_root(several: Repository) -> None:
    several.write({"lib/core.py": "VALUE = 2\n"})
    done = greenline_test(several.root / "services", "--", "-rA", "-v")
    assert (done.code, done.passed) == (0, {"tests/test_root.py::test_root", "tests/test_api.py::test_api"})
    python = guest()
    assert f"suite . (1 of 2): 1 test file: {python} -m pytest in .\n" in done.err
    assert f"suite services/api (2 of 2): 1 test file: {python} -m pytest in services/api\n" in done.err
    assert done.out.count("test session starts") == 2


def test_a_failure_in_one_suite_is_the_exit_code(several: Repository) -> None:
    several.write({"lib/core.py": "VALUE = 2\n", "tests/test_root.py": "syntax error\n"})
    several.write({"services/api/tests/test_api.py": "import lib.core\ndef test_api(): assert 0\n"})
    done = greenline_test(several.root, "--", "-q")
    assert done.code == 1  # not 2, pytest's code where collection fails
    assert "suites that did not pass, with pytest's exit code: . (2), services/api (1)" in done.err


def test_nothing_is_affected(several: Repository) -> None:
    done = greenline_test(several.root)
    assert (done.code, done.out) == (0, "")
    assert "no test is affected" in done.err


def test_single_tests_options_and_one_suite(several: Repository) -> None:
    web = REPOSITORY["services/web/checks/test_web.py"]
    several.commit({"services/web/web.py": "VALUE = 2\n"})
    several.write({"services/web/checks/test_web.py": web.replace("def test_two(): pass", "def test_two(): 1")})
    several.write({"lib/core.py": "VALUE = 2\n"})
    options = ("--base", "topic", "--suite", "services/web", "--", "-rA")
    done = greenline_test(several.root, *options)
    assert (done.code, done.passed) == (0, {"checks/test_web.py::test_two"})
    assert greenline_test(several.root, *options, "-k", "one").code == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.parametrize("guest_plugin", [True, False])
def test_an_affected_file_without_tests_is_fine(several: Repository, guest_plugin: bool) -> None:
    if not guest_plugin:
        several.commit({"pytest.ini": "[pytest]\naddopts = -p no:greenline\n"})
    several.write({"tests/test_helper.py": "import lib.core\n"})
    done = greenline_test(several.root, "--base", "topic")
    assert done.code == 0
    said = "no test is affected" if guest_plugin else "suite .: there is no test to run in the affected files"
    assert said in done.out + done.err


@pytest.mark.parametrize("command", ["test", "record"])
def test_a_repository_without_tests(repository: Repository, command: str) -> None:
    repository.commit({"lib.py": ""})
    done = call(repository.root, GREENLINE, command)
    assert done.code == 5
    assert "there is no test in this repository" in done.err and "recorded 0" not in done.err
    assert not list(repository.root.glob(".greenline/records/*T*"))


def test_wrong_use(several: Repository) -> None:
    done = greenline_test(several.root, "--base", "nowhere")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "greenline: --base nowhere: git knows no commit 'nowhere'\n"
        "  git fetch it, or see the names with: git branch -a\n"
    )
    several.commit({"lib/core.py": "VALUE = 2\n"})
    done = greenline_test(several.root, "--head", "main")
    assert done.code == 2
    assert "--head: main is not what is checked out" in done.err


@pytest.mark.parametrize("options", ["", "-p no:greenline"])  # with the guest plugin, and without it
@pytest.mark.parametrize("config", ["", "[tool:pytest]\n"])
def test_pytest_stays_in_its_root(repository: Repository, config: str, options: str) -> None:
    test = "def test_a(here):\n    assert here == 'root'\n"
    files = {"deep/a/setup.py": "", "deep/a/tests/test_a.py": f"{test}def test_b(): pass\n", "setup.cfg": config}
    files |= {"conftest.py": FIXTURE.format("root"), "test_top.py": ""}
    repository.commit(files)
    repository.git("checkout", "--quiet", "-b", "topic")
    repository.write({"deep/a/tests/test_a.py": f"{test}    assert 1\ndef test_b(): pass\n"})
    done = greenline_test(repository.root, "--", "-rA", PYTEST_ADDOPTS=options)
    assert (done.code, done.passed) == (0, {"deep/a/tests/test_a.py::test_a"})


@pytest.mark.parametrize(("arguments", "options"), [([], ""), ([], "-p no:greenline"), (["--all"], "")])
def test_a_suite_leaves_the_tests_of_those_inside_it(several: Repository, arguments: list[str], options: str) -> None:
    web = {"services/web/checks/test_web.py": "def test_web(): pass\n"}
    several.write({**web, "lib/core.py": "VALUE = 2\n"})
    done = greenline_test(several.root, "--suite", ".", *arguments, "--", "-rA", PYTEST_ADDOPTS=options)
    assert (done.code, done.passed) == (0, {"tests/test_root.py::test_root"})


def test_a_suite_that_runs_tests_of_one_inside_it(repository: Repository) -> None:
    files = {
        "pytest.ini": "[pytest]\ntestpaths = inner/tests\n",
        "inner/pytest.ini": "[pytest]\ntestpaths = own\n",
        "inner/tests/test_shared.py": "import os\ndef test_shared(): assert os.path.exists('inner')\n",
        "inner/own/test_own.py": "import os\ndef test_own(): assert os.path.exists('own')\n",
    }
    repository.commit(files)
    done = greenline_test(repository.root, "--all", "--", "-rA")
    passed = {"inner/tests/test_shared.py::test_shared", "own/test_own.py::test_own"}
    assert (done.code, done.passed) == (0, passed)


def test_a_suite_has_its_own_command_or_environment(several: Repository, tmp_path: Path) -> None:
    command = script(tmp_path / "my pytest", f'echo "called in $PWD with $*"\nexec "{sys.executable}" -m pytest "$@"')
    several.write(
        {
            "greenline.yaml": f"suites: [{{name: api, root: services/api, command: ['{command}', -pno:greenline]}}]\n",
            "services/web/web.py": "VALUE = 2\n",
            "services/web/.venv/.gitignore": "*",
        }
    )
    several.commit()
    several.write({"lib/core.py": "VALUE = 3\n", "services/web/checks/test_web.py": "def test_web(): pass\n"})
    own = several.root / "services/web/.venv/bin/python"
    script(own, f'echo "own python"\nexec "{guest()}" "$@"')
    done = greenline_test(several.root, "--base", "topic", "--", "-q")
    assert done.code == 0
    called = "with -pno:greenline -c pytest.ini --rootdir=. -q tests/test_api.py"
    assert f"called in {several.root}/services/api {called}" in done.out
    assert "own python" in done.out
    assert f"suite api (2 of 3): 1 test file: '{command}' -pno:greenline in services/api" in done.err
    assert f"suite services/web (3 of 3): 1 test file: {own} -m pytest in services/web" in done.err


def test_every_test_and_the_record_of_the_last_green_commit(several: Repository) -> None:
    several.git("checkout", "--quiet", "main")
    head = several.commit({"services/web/web.py": "VALUE = 2\n"})
    done = greenline_test(several.root, "--", "-rA")  # nothing is recorded yet, so everything runs
    assert done.code == 0
    assert done.passed == {
        "tests/test_root.py::test_root",
        "tests/test_api.py::test_api",
        "checks/test_web.py::test_one",
        "checks/test_web.py::test_two",
    }
    assert f"recorded {head[:7]} as last green" in done.err
    assert several.git("rev-parse", LAST_GREEN).strip() == head
    done = greenline_test(several.root)
    assert (done.code, done.out) == (0, "")
    several.commit({"services/api/tests/test_api.py": "def test_api(): assert 0\n"})
    assert greenline_test(several.root, "--all").code == 1
    assert several.git("rev-parse", LAST_GREEN).strip() == head


@pytest.mark.parametrize(
    ("branch", "edit", "options", "addopts"),
    [
        ("topic", "", [], ""),
        ("main", "lib/core.py", [], ""),
        ("main", "new.txt", [], ""),
        ("main", "", ["--", "-k", "test_root"], ""),
        ("main", "", [], "--deselect tests/test_root.py::test_other"),
    ],
)
def test_less_than_a_full_green_run_is_not_recorded(
    repository: Repository, branch: str, edit: str, options: list[str], addopts: str
) -> None:
    repository.commit({path: text for path, text in REPOSITORY.items() if not path.startswith("services")})
    repository.git("checkout", "--quiet", "-B", branch)
    if edit:
        repository.write({edit: "VALUE = 5\n"})
    assert greenline_test(repository.root, "--all", *options, PYTEST_ADDOPTS=addopts).code == 0
    assert repository.git("for-each-ref", LAST_GREEN) == ""


def test_without_a_git_repository_everything_runs(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text("def test_a(): pass\n")
    done = greenline_test(tmp_path, "--", "-rA")
    assert (done.code, done.passed) == (0, {"test_a.py::test_a"})
    assert "is not in a git repository" in done.err


@pytest.mark.parametrize("stack", [2**20, 2**23])
def test_more_tests_than_a_command_line_takes(repository: Repository, stack: int) -> None:
    """A command line takes a quarter of the stack's limit: with a small one these tests cannot all be named."""
    tests = "".join(f"def test_{'n' * 100}_{number}(): assert {{}}\n" for number in range(1300))
    repository.commit({"test_many.py": "def test_other(): pass\n" + tests.replace("{}", "1")})
    repository.git("checkout", "--quiet", "-b", "topic")
    repository.write({"test_many.py": "def test_other(): pass\n" + tests.replace("{}", "2")})
    limit = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_STACK, ({stack}, {stack}))"
    start = f"{limit}; os.execv(sys.argv[1], sys.argv[1:])"
    done = call(
        repository.root,
        *(sys.executable, "-c", start, GREENLINE, "test", "--", "-q"),
        VIRTUAL_ENV=str(guest().parents[1]),
        PYTEST_ADDOPTS="-p no:greenline",
    )
    assert done.code == 0
    whole = stack == 2**20 and sys.platform == "linux"
    assert ("1301 passed" if whole else "1300 passed") in done.out
    assert ("all of it runs: its tests cannot be named on a command line" in done.err) == whole


def test_an_interrupt_reaches_pytest(several: Repository) -> None:
    several.write(
        {"tests/test_root.py": "import time\ndef test_root():\n    open('started', 'w')\n    time.sleep(60)\n"}
    )
    several.write({"lib/core.py": "VALUE = 2\n"})
    environment = surroundings({"VIRTUAL_ENV": str(guest().parents[1])})
    with subprocess.Popen(
        [GREENLINE, "test", "--", "-q"],
        cwd=several.root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A test run in the background of a shell has the signal switched off, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        for _ in range(600):
            if (several.root / "started").exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "KeyboardInterrupt" in out
    assert "services/api (" not in err
    assert "Traceback" not in err
