from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from conftest import Repository

from greenline.tools.cli.main import COMMANDS, run

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text("utf-8"))
DAY = "2030-01-01"

FILES = {
    "greenline.yaml": "rules:\n  layers:\n    - {name: shop, layers: [shop.web, shop.core]}\n",
    "pyproject.toml": '[project]\nname = "shop"\n[tool.ruff.lint]\nselect = ["F"]\n[tool.pytest.ini_options]\n',
    "shop/__init__.py": "",
    "shop/core.py": "def price():\n    return 1\n\n\ndef tax():\n    return 2\n",
    "shop/web.py": "from shop import core\n\nTOTAL = core.price()\n",
    "tests/test_web.py": "from shop import web\n\n\ndef test_total():\n    assert web.TOTAL\n",
    "tests/test_other.py": "def test_other():\n    pass\n",
}


@pytest.fixture
def shop(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    repository.commit(FILES)
    monkeypatch.chdir(repository.root)
    return repository


Sections = dict[str, dict[str, Any]]


def asked(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> tuple[dict[str, Any], Sections]:
    capsys.readouterr()
    assert run(["premerge", "--format", "json", "--today", DAY, *args]) == code
    report = json.loads(capsys.readouterr().out)
    jsonschema.validate(report, SCHEMA)
    return report, {section["name"]: section for section in report["sections"]}


def rules_of(section: Mapping[str, Any]) -> list[str]:
    return [finding["rule"] for finding in section["findings"]]


def test_a_fine_change(shop: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    shop.git("checkout", "-q", "-b", "feature")
    shop.write({"shop/web.py": "from shop import core\n\nTOTAL = core.price() + 1\n"})
    report, sections = asked(capsys, "--base", "main")
    assert report["complete"] and report["failures"] == 0
    assert [test["path"] for test in sections["tests"]["data"]["tests"]] == ["tests/test_web.py"]
    assert sections["conflicts"]["summary"] == "--base main: it gained nothing since"


def test_without_a_base_the_reason_is_told_once(shop: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    shop.git("checkout", "-q", "-b", "feature")
    shop.git("branch", "-q", "-D", "main")
    assert run(["premerge", "--today", DAY]) == 0
    done = capsys.readouterr()
    for told in (done.out, done.err):
        assert told.count("say which commit to compare with") == 1
    assert "not complete: budget, conflicts, tests: no default branch is known" in done.err
    assert done.out.count("not complete: for the same reason") == 2


def test_each_section_tells_its_problems(shop: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    shop.git("checkout", "-q", "-b", "feature")
    shop.write(
        {
            "tests/test_tax.py": "from shop.core import tax\n\n\ndef test_tax():\n    assert tax() == 2\n",
        }
    )
    shop.git("stash", "-q", "-u")
    shop.git("checkout", "-q", "main")
    gone = shop.commit({"shop/core.py": "def price():\n    return 1\n"})
    shop.git("checkout", "-q", "feature")
    shop.git("stash", "pop", "-q")
    shop.write({"shop/core.py": FILES["shop/core.py"], "shop/more.py": "import os\n"})
    report, sections = asked(capsys, "--base", "main", code=1)
    assert rules_of(sections["lint"]) == ["lint/F401"]
    assert rules_of(sections["conflicts"]) == ["conflict/deleted"]
    (conflict,) = sections["conflicts"]["findings"]
    assert (conflict["path"], conflict["line"]) == ("tests/test_tax.py", 1)
    assert gone[:12] in [str(place["commit"])[:12] for place in conflict["related"]]
    assert report["failures"] == 2
    shop.write({"shop/core.py": "from shop import web\n" + FILES["shop/core.py"]})
    _, sections = asked(capsys, "--base", "HEAD", code=1)
    assert rules_of(sections["rules"]) == ["layers/shop"]


def merged(shop: Repository, ours: Mapping[str, str], theirs: Mapping[str, str]) -> None:
    """Leaves a branch with ``ours`` checked out, and ``theirs`` on main."""
    shop.git("checkout", "-q", "-b", "feature")
    shop.commit(ours)
    shop.git("checkout", "-q", "main")
    shop.commit(theirs)
    shop.git("checkout", "-q", "feature")


LAYERS = "rules:\n  layers:\n    - {name: new, layers: [shop.web, shop.stock]}\n"
LAZY = "rules:\n  acyclic:\n    - {name: all, within: shop}\n"


@pytest.mark.parametrize("rule_is_ours", [True, False])
def test_a_new_rule_meets_a_new_import(
    shop: Repository, capsys: pytest.CaptureFixture[str], rule_is_ours: bool
) -> None:
    shop.commit({"shop/stock.py": ""})
    one, other = {"greenline.yaml": LAYERS}, {"shop/stock.py": "from shop import web\n"}
    merged(shop, one if rule_is_ours else other, other if rule_is_ours else one)
    _, sections = asked(capsys, "--base", "main", code=1)
    (finding,) = sections["conflicts"]["findings"]
    assert (finding["rule"], finding["path"]) == ("layers/new", "shop/stock.py")
    assert finding["message"].startswith("after the merge: ")
    assert sections["rules"]["findings"] == []


def test_two_imports_close_a_circle(shop: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    shop.commit({"greenline.yaml": LAZY, "shop/a.py": "", "shop/b.py": ""})
    merged(shop, {"shop/a.py": "import shop.b\n"}, {"shop/b.py": "import shop.a\n"})
    _, sections = asked(capsys, "--base", "main", code=1)
    assert "acyclic/all" in rules_of(sections["conflicts"])
    assert sections["rules"]["findings"] == []


@pytest.mark.slow
@pytest.mark.parametrize("rule_is_ours", [True, False])
def test_a_new_lint_rule_meets_a_new_violation(
    shop: Repository, capsys: pytest.CaptureFixture[str], rule_is_ours: bool
) -> None:
    stricter = {"pyproject.toml": FILES["pyproject.toml"].replace('["F"]', '["F", "E711"]')}
    violation = {"shop/new.py": "def f(x):\n    return x == None\n"}
    merged(shop, stricter if rule_is_ours else violation, violation if rule_is_ours else stricter)
    _, sections = asked(capsys, "--base", "main", code=1)
    assert rules_of(sections["conflicts"]) == ["lint/E711"]
    assert sections["lint"]["findings"] == []


def test_a_formatter_setting_meets_a_new_file(shop: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    shop.commit({"pyproject.toml": FILES["pyproject.toml"] + '[tool.ruff.format]\nquote-style = "double"\n'})
    single = FILES["pyproject.toml"] + '[tool.ruff.format]\nquote-style = "single"\n'
    merged(shop, {"shop/new.py": 'X = "double"\n'}, {"pyproject.toml": single})
    _, sections = asked(capsys, "--base", "main", code=1)
    assert rules_of(sections["conflicts"]) == ["lint/format"]


def test_what_was_wrong_before_is_not_told(shop: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    shop.commit({"shop/old.py": "import os\n\nx = 1\n"})
    shop.write({"shop/old.py": "import os\n\nx = 2\nimport sys\n"})
    _, sections = asked(capsys, "--base", "HEAD", code=1)
    assert [(each["line"], each["message"]) for each in sections["lint"]["findings"]] == [
        (4, "`sys` imported but unused")
    ]


def test_a_comment_with_a_reason_lets_a_finding_pass(shop: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    shop.write({"shop/core.py": "from shop import web  # greenline: ignore[layers, lint] ticket 9\n"})
    _, sections = asked(capsys, "--base", "HEAD")
    assert (sections["rules"]["ignored"], sections["lint"]["ignored"]) == (1, 1)


def test_an_edge_that_costs_too_much(shop: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    files = {f"tests/test_{number}.py": "import shop.hub\n\n\ndef test(): shop.hub\n" for number in range(9)}
    shop.commit(
        {
            **files,
            "shop/hub.py": "",
            "shop/heavy.py": "import shop.core\n",
            "greenline.yaml": "rules: {budget: {tests: '0.5'}}\n",
        }
    )
    shop.write({"shop/hub.py": "from shop.heavy import load\n\n\ndef use(x: load): ...\n"})
    _, sections = asked(capsys, "--base", "HEAD", code=1)
    (finding,) = sections["budget"]["findings"]
    assert (finding["rule"], finding["path"], finding["line"]) == ("budget", "shop/hub.py", 1)
    assert "TYPE_CHECKING" in finding["hint"]
    (edge,) = sections["budget"]["data"]["added"]
    assert edge["imported"] == "shop/heavy.py"
    # the nine tests now run for a change of heavy and of core, two of the 17 files
    assert edge["changes"] == 2
    assert edge["tests_per_change"] == pytest.approx(18 / len([*FILES, *files, "hub", "heavy"][1:]), abs=0.3)


@pytest.mark.slow
def test_a_fork_in_a_shallow_clone_is_told_what_to_fetch(
    shop: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    merged(shop, {"shop/a.py": ""}, {"shop/b.py": ""})
    shop.git("checkout", "-q", "main")
    shop.git("merge", "-q", "--no-ff", "-m", "test merge", "feature")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--depth=1", shop.root.as_uri(), str(clone)], check=True)
    event = tmp_path / "event.json"
    base, head = (shop.git("rev-parse", ref).strip() for ref in ("main^1", "main^2"))
    event.write_text(json.dumps({"pull_request": {"base": {"sha": base}, "head": {"sha": head}}}))
    monkeypatch.chdir(clone)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_EVENT_NAME", "pull_request")
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(event))
    monkeypatch.setenv("GITHUB_REF", "refs/pull/1/merge")
    report, sections = asked(capsys)
    assert not report["complete"]
    asked(capsys, "--strict", code=3)
    assert not sections["conflicts"]["complete"] and not sections["tests"]["complete"]
    (note,) = sections["conflicts"]["notes"]
    fetch = note[note.index("git fetch") :]
    subprocess.run(fetch.split(), check=True, cwd=clone)
    report, sections = asked(capsys)
    assert report["complete"], report
    assert sections["conflicts"]["data"]["ours"] == head


@pytest.mark.slow
@pytest.mark.parametrize("squash", [True, False])
def test_a_merge_queue(
    shop: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, squash: bool
) -> None:
    using = {"tests/test_tax.py": "from shop.core import tax\n\nassert tax\n"}
    merged(shop, using, {"shop/core.py": "def price():\n    return 1\n"})
    shop.git("checkout", "-q", "main")
    base = shop.git("rev-parse", "main").strip()
    shop.git("checkout", "-q", "-b", "gh-readonly-queue/main/pr-1")
    shop.git("merge", "-q", *(["--squash"] if squash else ["--no-ff", "-m", "queue"]), "feature")
    if squash:
        shop.commit()
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"merge_group": {"base_sha": base}}))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_EVENT_NAME", "merge_group")
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(event))
    report, sections = asked(capsys, code=0 if squash else 1)
    assert report["base"] == base and report["complete"]
    assert rules_of(sections["conflicts"]) == ([] if squash else ["conflict/deleted"])


@pytest.mark.slow
def test_a_plan_for_a_ci_system(shop: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    shop.write({"shop/web.py": "TOTAL = 3\n"})
    assert run(["premerge", "--base", "HEAD", "--target", "10m", "--emit", "gitlab", "--today", DAY]) == 0
    shown = capsys.readouterr()
    assert "greenline shard run" in shown.out
    assert "plan: " in shown.err
    assert json.loads((shop.root / "greenline-plan.json").read_text())["version"] == 1


@pytest.mark.slow
def test_all_formats_at_once(shop: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    shop.write({"shop/new.py": "import os\n"})
    files = {name: f"out.{name}" for name in ("json", "sarif", "github", "junit", "markdown", "text")}
    also = [part for name, file in files.items() for part in ("--also", f"{name}={file}")]
    assert run(["premerge", "--base", "HEAD", "--today", DAY, *also]) == 1
    assert all("F401" in (shop.root / file).read_text("utf-8") for file in files.values())
    assert run(["premerge", "--base", "HEAD", "--also", "nothing"]) == 2
    assert "FORMAT=FILE" in capsys.readouterr().err


def test_check_and_its_baseline(shop: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    shop.commit({"shop/core.py": "from shop import web\n"})
    assert run(["check", "--today", DAY]) == 1
    assert "layers/shop" in capsys.readouterr().out
    assert run(["check", "--update-baseline", "--today", DAY]) == 1  # never grows by this
    assert run(["check", "--accept-new", "--today", DAY]) == 2
    assert run(["check", "--accept-new", "--reason", "start", "--today", DAY]) == 0
    assert run(["check", "--today", DAY]) == 0
    shop.write({"shop/core.py": ""})
    capsys.readouterr()
    assert run(["check", "--today", DAY]) == 0
    assert "--update-baseline" in capsys.readouterr().out
    assert run(["check", "--update-baseline", "--today", DAY]) == 0
    shop.write({"shop/core.py": "from shop import web\n"})
    assert run(["check", "--today", DAY]) == 1


def test_a_section_that_fails_is_told(
    shop: Repository, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write({"shop/new.py": "import os\n", "ruff.toml": "line-length = 'x'\n"})
    report, sections = asked(capsys, "--base", "HEAD")
    assert not report["complete"] and not sections["lint"]["complete"]
    assert "ruff" in sections["lint"]["notes"][0]


def test_odd_file_names(shop: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    shop.write({"shop/a b,c:d%.py": "import os\n"})
    (Path(os.fsdecode(os.fsencode(shop.root / "shop") + b"/caf\xe9.py"))).write_text("import os\n")
    report, sections = asked(capsys, "--base", "HEAD", code=1)
    assert [each["path"] for each in sections["lint"]["findings"]] == ["shop/a b,c:d%.py"]
    assert not report["complete"] and "caf" in sections["lint"]["notes"][0]


def test_the_users_index_and_work_tree_stay_as_they_are(shop: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    merged(shop, {"shop/a.py": "x = 1\n"}, {"shop/b.py": ""})
    shop.write({"shop/a.py": "x = 2\n", "shop/c.py": "y = 1\n"})
    shop.git("add", "shop/a.py")
    before = shop.git("status", "--porcelain"), shop.git("for-each-ref"), shop.git("diff", "--cached")
    asked(capsys, "--base", "main")
    shutil.rmtree(shop.root / ".greenline", ignore_errors=True)
    assert before == (shop.git("status", "--porcelain"), shop.git("for-each-ref"), shop.git("diff", "--cached"))


ROOT = Path(__file__).parents[2]


def test_our_own_rules_hold(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert run(["check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("depgraph/greenline/depgraph/graph.py", "from greenline.rules import lint"),
        ("depgraph/greenline/depgraph/graph.py", "def f():\n    import greenline.tools.cli.main"),
        ("depgraph/greenline/depgraph/graph.py", "from ..tools.cli import main"),
        ("rules/greenline/rules/lint.py", "from greenline.ci.affected import affected"),
        ("ci/greenline/ci/affected.py", "from greenline.tools.cli import main"),
        ("tools/pytest_greenline/pytest_greenline/ask.py", "import click"),
        ("tools/pytest_greenline/pytest_greenline/ask.py", "from greenline.depgraph import graph"),
    ],
)
def test_our_own_rules_see_a_wrong_import(
    repository: Repository, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, path: str, source: str
) -> None:
    files = {"greenline.yaml": (ROOT / "greenline.yaml").read_text("utf-8")}
    files["pyproject.toml"] = (ROOT / "pyproject.toml").read_text("utf-8")
    files["tools/pytest_greenline/pyproject.toml"] = "[project]\nname = 'pytest-greenline'\n"
    files["tools/pytest_greenline/pytest_greenline/__init__.py"] = ""
    for room in ("depgraph/graph", "depgraph/x", "rules/lint", "ci/affected", "tools/cli/main"):
        files[f"{room.partition('/')[0]}/greenline/{room}.py"] = ""
    repository.commit({**files, path: source})
    monkeypatch.chdir(repository.root)
    assert run(["check", "--format", "json"]) == 1
    told = json.loads(capsys.readouterr().out)["sections"][0]["findings"]
    assert {finding["path"] for finding in told if finding["rule"] != "rules/no-module"} == {path}


# -- the recipes of docs/ci.md -------------------------------------------------------------------------------

DOCS = (ROOT / "docs" / "ci.md").read_text("utf-8").partition("## Before a merge")[2].partition("\n## ")[0]


def recipes() -> dict[str, str]:
    """CI system → the shell of its recipe, as the system would give it to a shell."""
    blocks = [yaml.load(each, yaml.BaseLoader) for each in re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)]
    hub, lab, kite = blocks
    steps = [step["run"] for step in hub["jobs"]["premerge"]["steps"] if "greenline premerge" in step.get("run", "")]
    return {
        "github": "\n".join(steps),
        "gitlab": "\n".join(lab["premerge"]["script"]),
        "buildkite": "\n".join(step["command"] for step in kite["steps"]).replace("$$", "$"),
    }


def environments(shop: Repository, event: Path) -> dict[str, dict[str, str]]:
    base, head = (shop.git("rev-parse", ref).strip() for ref in ("main", "feature"))
    event.write_text(json.dumps({"pull_request": {"base": {"sha": base}, "head": {"sha": head}}}))
    start = shop.git("merge-base", "main", "feature").strip()
    return {
        "github": {
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": "pull_request",
            "GITHUB_EVENT_PATH": str(event),
            "GITHUB_STEP_SUMMARY": str(event.with_name("summary.md")),
        },
        "gitlab": {
            "GITLAB_CI": "true",
            "CI_MERGE_REQUEST_DIFF_BASE_SHA": start,
            "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
        },
        "buildkite": {
            "BUILDKITE": "true",
            "BUILDKITE_PULL_REQUEST": "7",
            "BUILDKITE_PULL_REQUEST_BASE_BRANCH": "main",
        },
    }


@pytest.mark.slow
@pytest.mark.parametrize("system", ["github", "gitlab", "buildkite"])
def test_a_recipe_finds_the_conflict(shop: Repository, tmp_path: Path, system: str) -> None:
    using = {"tests/test_tax.py": "from shop.core import tax\n\nassert tax\n"}
    merged(shop, using, {"shop/core.py": "def price():\n    return 1\n"})
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--branch=feature", shop.root.as_uri(), str(clone)], check=True)
    program = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{program}{os.pathsep}{os.environ['PATH']}"}
    environment |= environments(shop, tmp_path / "event.json")[system]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", recipes()[system]],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "conflict/deleted" in done.stdout
    written = {"github": "premerge.sarif", "gitlab": "premerge.xml", "buildkite": "premerge.md"}[system]
    assert "conflict" in (clone / written).read_text("utf-8")
    if system == "github":
        assert "conflict" in (tmp_path / "summary.md").read_text("utf-8")


def test_the_hooks_are_commands_that_exist() -> None:
    hooks = yaml.load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"), yaml.BaseLoader)
    assert {"greenline-check", "greenline-premerge"} <= {hook["id"] for hook in hooks}
    for hook in hooks:
        program, command, *rest = hook["entry"].split()
        assert (program, rest) == ("greenline", []) and command in COMMANDS
