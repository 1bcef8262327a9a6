"""pyproject.toml, setuptools, Pipfile, conda, Python versions: what a change may change."""

from __future__ import annotations

import pytest

from greenline.depgraph.locks import (
    ManifestDelta,
    compare_manifest,
)


def compare(path: str, old: str, new: str) -> ManifestDelta:
    return compare_manifest(path, old.encode(), new.encode())


# --- pyproject.toml

PYPROJECT = """
[build-system]
requires = ["hatchling"]
[project]
name = "shop"
version = "1"
description = "old"
requires-python = ">=3.11"
dependencies = ["flask>=3", "liba"]
[project.optional-dependencies]
yaml = ["pyyaml"]
all = ["shop[yaml]"]
[project.scripts]
shop = "shop:main"
[dependency-groups]
dev = ["pytest", {include-group = "lint"}]
lint = ["ruff"]
[tool.uv.sources]
liba = { workspace = true }
[tool.ruff]
line-length = 100
[tool.pytest.ini_options]
addopts = "-q"
[tool.hatch.envs.test]
dependencies = ["x"]
[tool.poetry.dependencies]
python = "^3.11"
httpx = "*"
libb = { path = "../libb" }
[tool.pdm.dev-dependencies]
docs = ["sphinx"]
"""


@pytest.mark.parametrize(
    ("before", "after", "direct"),
    [
        ("flask>=3", "flask>=3.1", {"flask"}),
        ('["pyyaml"]', '["pyyaml", "tomli"]', {"tomli"}),
        ('["ruff"]', '["ruff<1"]', {"ruff"}),
        ("[tool.poetry.dep", "[tool.poetry.group.ci.dependencies]\nnox = '*'\n[tool.poetry.dep", {"nox"}),
        ('httpx = "*"', 'httpx = "^1"', {"httpx"}),
        ('docs = ["sphinx"]', 'docs = ["sphinx", "furo"]', {"furo"}),
        ("[tool.uv.sources]", "[tool.uv.sources]\nflask = { git = 'https://h/flask' }", {"flask"}),
        ("[tool.uv.sources]", "[tool.uv]\noverride-dependencies = ['six<2']\n[tool.uv.sources]", {"six"}),
        ("line-length = 100", "line-length = 110", set()),
        ('description = "old"', 'description = "new"\nkeywords = ["a"]\nurls = {a = "b"}', set()),
    ],
)
def test_pyproject_ties_a_change_to_distributions(before: str, after: str, direct: set[str]) -> None:
    assert before in PYPROJECT
    delta = compare("pyproject.toml", PYPROJECT, PYPROJECT.replace(before, after))
    assert not delta.everything
    assert delta.direct == delta.distributions == direct
    assert delta.closed == (not direct)
    assert not (delta.entry_points or delta.pytest or delta.own_version or delta.first_party)


def test_the_first_dependency_in_a_new_table_is_only_that_distribution() -> None:
    for table in ("[tool.uv]\ndev-dependencies = ['nox']", "[tool.pdm.dev-dependencies]\nci = ['nox']"):
        delta = compare("pyproject.toml", "[project]\nname = 'a'\n", f"[project]\nname = 'a'\n{table}\n")
        assert not delta.everything
        assert delta.direct == {"nox"}


@pytest.mark.parametrize(
    ("before", "after", "field"),
    [
        ('version = "1"', 'version = "2"', "own_version"),
        ('shop = "shop:main"', 'shop = "shop:other"', "entry_points"),
        ('addopts = "-q"', 'addopts = "-v"', "pytest"),
    ],
)
def test_pyproject_reports_what_is_judged_elsewhere(before: str, after: str, field: str) -> None:
    assert before in PYPROJECT
    delta = compare("pyproject.toml", PYPROJECT, PYPROJECT.replace(before, after))
    assert not delta.everything
    assert not delta.direct
    assert [name for name in ("own_version", "entry_points", "pytest") if getattr(delta, name)] == [field]
    assert field.replace("_", " ") in delta.reason


@pytest.mark.parametrize(
    ("before", "after"), [("liba = { workspace", "liba = { editable = true, workspace"), ("../libb", "../b")]
)
def test_pyproject_keeps_first_party_requirements_apart(before: str, after: str) -> None:
    assert before in PYPROJECT
    delta = compare("pyproject.toml", PYPROJECT, PYPROJECT.replace(before, after))
    assert len(delta.first_party) == 1
    assert not delta.everything
    assert not delta.distributions
    assert not delta.closed


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ('["hatchling"]', '["hatchling>1"]', "build-system.requires"),
        ('requires-python = ">=3.11"', 'requires-python = ">=3.12"', "project.requires-python"),
        ('name = "shop"', 'name = "store"', "project.name"),
        ('python = "^3.11"', 'python = "^3.12"', "tool.poetry.dependencies.python"),
        ('["shop[yaml]"]', '["shop[yaml,x]"]', "project.optional-dependencies"),
        ('{include-group = "lint"}', '{include-group = "docs"}', "dependency-groups.dev"),
        ('dependencies = ["x"]', 'dependencies = ["y"]', "tool.hatch.envs.test.dependencies"),
        ("[tool.ruff]", "[tool.uv]\nindex = [{url = 'https://h'}]\n[tool.ruff]", "tool.uv.index"),
        ("[tool.ruff]", "[tool.unheard-of]\nx = 1\n[tool.ruff]", "tool.unheard-of.x"),
        ("[tool.ruff]", "[tool.ruff", "cannot be read after the change"),
    ],
)
def test_pyproject_changes_that_may_change_everything(before: str, after: str, reason: str) -> None:
    assert before in PYPROJECT
    delta = compare("pyproject.toml", PYPROJECT, PYPROJECT.replace(before, after, 1))
    assert delta.everything
    assert reason in delta.reason


# --- setuptools, Pipfile, conda, Python versions

SETUP_CFG = """
[metadata]
name = shop
version = 1
description = old
[options]
python_requires = >=3.11
install_requires =
    flask>=3
    # a comment
    six
[options.extras_require]
yaml = pyyaml
[options.entry_points]
console_scripts = shop = shop:main
[tool:pytest]
addopts = -q
[flake8]
max-line-length = 100
[mypy-numpy.*]
ignore_missing_imports = true
"""


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("flask>=3", "flask>=4", ManifestDelta(direct=frozenset({"flask"}))),
        ("yaml = pyyaml", "yaml = pyyaml\n    tomli", ManifestDelta(direct=frozenset({"tomli"}))),
        ("version = 1", "version = 2", ManifestDelta(own_version=True)),
        ("shop:main", "shop:other", ManifestDelta(entry_points=True)),
        ("addopts = -q", "addopts = -v", ManifestDelta(pytest=True)),
        ("description = old", "description = new", ManifestDelta()),
        ("max-line-length = 100", "max-line-length = 110", ManifestDelta()),
        ("ignore_missing_imports = true", "ignore_missing_imports = false", ManifestDelta()),
        ("# a comment", "# another", ManifestDelta()),
        ("python_requires = >=3.11", "python_requires = >=3.12", ManifestDelta(everything=True)),
        ("name = shop", "name = store", ManifestDelta(everything=True)),
        ("[flake8]", "[build_ext]\ninplace = 1\n[flake8]", ManifestDelta(everything=True)),
        ("[flake8]", "[flake8", ManifestDelta(everything=True)),
    ],
)
def test_setup_cfg(before: str, after: str, expected: ManifestDelta) -> None:
    assert before in SETUP_CFG
    delta = compare("setup.cfg", SETUP_CFG, SETUP_CFG.replace(before, after))
    fields = ("everything", "direct", "own_version", "entry_points", "pytest")
    assert [getattr(delta, field) for field in fields] == [getattr(expected, field) for field in fields]


@pytest.mark.parametrize(
    ("old", "new", "everything"),
    [
        ("from setuptools import setup\nsetup()", "from setuptools import setup  # build\n\nsetup( )", False),
        ("from setuptools import setup\nsetup()", "from setuptools import setup\nsetup(name='a')", True),
        ("def prepare(): return 1", "def prepare(): return 2", False),
        ("from setuptools import setup\nsetup()", "from setuptools import setup\nsetup(", True),
    ],
)
def test_setup_py(old: str, new: str, everything: bool) -> None:
    assert compare("setup.py", old, new).everything == everything


@pytest.mark.parametrize(
    ("before", "after", "direct", "everything"),
    [
        ('flask = "*"', 'flask = ">3"', {"flask"}, False),
        ('python_version = "3.12"', 'python_version = "3.13"', set(), True),
        ("https://index.example", "https://other.example", set(), True),
    ],
)
def test_pipfile(before: str, after: str, direct: set[str], everything: bool) -> None:
    source, requires = '[[source]]\nurl = "https://index.example"\n', '[requires]\npython_version = "3.12"\n'
    old = f'{source}[packages]\nflask = "*"\n{requires}'
    delta = compare("Pipfile", old, old.replace(before, after))
    assert delta.direct == direct
    assert delta.everything == everything


@pytest.mark.parametrize(
    ("before", "after", "direct", "everything"),
    [
        ("numpy=1.26", "numpy=1.27", {"numpy"}, False),
        ("flask>=3", "flask>=4", {"flask"}, False),
        ("python=3.11", "python=3.12", set(), True),
        ("conda-forge]", "defaults]", set(), True),
        ("- scipy  # [linux]", "- scipy  # [win]", set(), True),
        ("name: shop", "name: store", set(), False),
        ("dependencies:", "services:", set(), True),
    ],
)
def test_conda_environments(before: str, after: str, direct: set[str], everything: bool) -> None:
    old = (
        "name: shop\nchannels: [conda-forge]\ndependencies:\n- python=3.11\n- conda-forge::numpy=1.26=py311\n"
        "- scipy  # [linux]\n- pip:\n  - flask>=3\n"
    )
    delta = compare("environment.yml", old, old.replace(before, after))
    assert before in old
    assert delta.direct == direct
    assert delta.everything == everything


@pytest.mark.parametrize("path", [".python-version", ".tool-versions", "runtime.txt"])
def test_another_python_is_everything(path: str) -> None:
    assert compare(path, "3.11.7\n", "3.12.1\n").everything
    assert not compare(path, "3.11.7\n", "# the version\n3.11.7").everything
