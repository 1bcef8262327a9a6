"""Locks: what a changed manifest may change. The samples are what real tools wrote before and after a bump.

In each pair, ``humanfriendly`` goes from 9.2 to 10.0; ``coloredlogs`` and ``capturer`` require it, and
``coloredlogs[cron]`` requires ``capturer``. Hosts are replaced and hashes shortened.
"""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from greenline.depgraph.locks import (
    ManifestDelta,
    compare_manifest,
    is_manifest,
    requirement_graph,
    with_dependents,
)
from greenline.depgraph.manifest import parse_requirement

SAMPLES = Path(__file__).parent / "lock_samples"
FAMILY = {"humanfriendly", "coloredlogs", "capturer"}


def sample(name: str, side: str) -> str:
    return (SAMPLES / f"{name}.{side}").read_text("utf-8")


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


# --- lock files that the tools wrote


@pytest.mark.parametrize(
    ("name", "path", "direct"),
    [
        ("uv.lock", "uv.lock", {"humanfriendly", "pyreadline", "pyreadline3"}),
        ("poetry.lock", "poetry.lock", {"humanfriendly", "pyreadline", "pyreadline3"}),
        ("pdm.lock", "pdm.lock", {"humanfriendly", "pyreadline", "pyreadline3"}),
        ("pip-compile.txt", "requirements.txt", {"humanfriendly"}),
        ("pip-compile-line.txt", "requirements/dev.txt", {"humanfriendly"}),
        ("uv-pip-compile.txt", "constraints.txt", {"humanfriendly", "pyreadline", "pyreadline3"}),
    ],
)
def test_a_bump_reaches_the_dependents_of_the_bumped(name: str, path: str, direct: set[str]) -> None:
    delta = compare(path, sample(name, "before"), sample(name, "after"))
    assert not delta.everything
    assert delta.closed
    assert delta.direct == direct
    assert delta.distributions == direct | FAMILY
    assert delta.required_by["humanfriendly"] == {"coloredlogs", "capturer"}
    assert "humanfriendly 9.2 → 10.0" in delta.reason


@pytest.mark.parametrize("name", ["Pipfile.lock", "pylock.toml"])
def test_a_lock_without_a_graph_says_so(name: str) -> None:
    delta = compare(name, sample(name, "before"), sample(name, "after"))
    assert not delta.everything
    assert delta.direct == delta.distributions == {"humanfriendly"}
    assert not delta.closed


@pytest.mark.parametrize("name", sorted(path.stem for path in SAMPLES.glob("*.after")))
def test_the_same_content_is_no_change(name: str) -> None:
    path = name if name.endswith((".lock", ".toml")) else "requirements.txt"
    text = sample(name, "after")
    commented = text if name == "Pipfile.lock" else "# written again\n" + text.replace("\n\n", "\n\n\n")
    for delta in (compare(path, text, text), compare(path, text, commented)):
        assert not delta.everything
        assert not delta.distributions
        assert not delta.first_party
        assert delta.closed


def test_first_party_members_are_never_reported_as_distributions() -> None:
    old, new = sample("uv.lock", "before"), sample("uv.lock", "after")
    assert not {"app", "liba", "shop"} & compare("uv.lock", old, new).distributions
    bumped = new.replace('name = "python-dateutil"\nversion = "2.8.2"', 'name = "python-dateutil"\nversion = "2.9.0"')
    assert bumped != new
    assert compare("uv.lock", new, bumped).distributions == {"python-dateutil"}


def test_files_that_change_places_are_a_change() -> None:
    old = uv_lock({"a": [], "b": []}, {})
    swapped = old.replace("/a-", "/x-").replace("/b-", "/a-").replace("/x-", "/b-")
    swapped = swapped.replace(":a1", ":x1").replace(":b1", ":a1").replace(":x1", ":b1")
    assert compare("uv.lock", old, swapped).direct == {"a", "b"}


def test_a_member_that_drops_a_requirement_may_lose_what_it_led_to() -> None:
    new = sample("uv.lock", "after")
    dropped = new.replace('    { name = "humanfriendly" },\n    { name = "liba" },\n', '    { name = "liba" },\n')
    assert dropped != new
    delta = compare("uv.lock", new, dropped)
    assert not delta.distributions
    assert delta.first_party == {"app"}
    assert delta.members == {"app": {"humanfriendly", "pyreadline3"}}


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        (
            '{ name = "coloredlogs", extra = ["cron"] }',
            '{ name = "coloredlogs" }',
            {"capturer", "pyreadline3"},
        ),
        ('{ name = "httplib2" }', "{ name = 'httplib2', marker = 'm' }", {"httplib2", "pyparsing"}),
        (
            'dev = [\n    { name = "pytest" },\n]',
            "dev = []",
            {"pytest", "pluggy", "iniconfig", "packaging", "pygments", "colorama"},
        ),
    ],
)
def test_members_count_extras_markers_and_groups(before: str, after: str, lost: set[str]) -> None:
    new = sample("uv.lock", "after")
    assert before in new
    delta = compare("uv.lock", new, new.replace(before, after))
    assert not delta.distributions
    assert delta.members == {"shop": lost}


def test_what_only_a_resolver_reads_does_not_matter() -> None:
    new = sample("uv.lock", "after")
    later = new.replace("[manifest]", '[options]\nexclude-newer = "2026-01-01T00:00:00Z"\n\n[manifest]')
    elsewhere = later.replace("revision = 5", "revision = 6").replace("https://files.example/", "https://mirror/")
    delta = compare("uv.lock", new, elsewhere)
    assert not delta.everything
    assert not delta.distributions


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ('requires-python = ">=3.11"', 'requires-python = ">=3.12"', "requires-python"),
        ("[manifest]\n", "[options]\nprerelease-mode = 'allow'\n[manifest]\n", "options.prerelease-mode"),
        (
            "[manifest]\n",
            "[manifest]\noverrides = [{name = 'six', specifier = '>1'}]\n",
            "manifest.overrides",
        ),
        ("revision = 5", "revision = 5\nresolution-markers = ['x']", "resolution-markers"),
        ("version = 1\n", "version = 2\n", "version"),
        ('name = "app"\n', "", "the key 'name' is missing"),
        ("[manifest]", "[manifest", "cannot be read after"),
    ],
)
def test_what_may_change_the_whole_environment_is_everything(before: str, after: str, reason: str) -> None:
    new = sample("uv.lock", "after")
    changed = new.replace(before, after, 1)
    assert changed != new
    delta = compare("uv.lock", new, changed)
    assert delta.everything
    assert reason in delta.reason
    assert delta.reason.startswith("uv.lock: ")


def test_a_third_party_dependent_of_a_first_party_project_is_reached_through_it() -> None:
    old = uv_lock({"core": ["base"], "plugin": ["core"], "base": []}, {"base": "1"}, first_party={"core"})
    new = uv_lock({"core": ["base"], "plugin": ["core"], "base": []}, {"base": "2"}, first_party={"core"})
    delta = compare("uv.lock", old, new)
    assert delta.distributions == {"base", "plugin"}
    assert delta.required_by["base"] == {"plugin"}


def test_conda_locks() -> None:
    def lock(numpy: str, openssl: str) -> str:
        def package(name: str, version: str, dependencies: str) -> str:
            return (
                f"- name: {name}\n  version: {version}\n  manager: conda\n  platform: linux-64\n"
                f"  dependencies: {{{dependencies}}}\n  hash: {{md5: '{name}{version}'}}\n  url: https://x/{name}\n"
            )

        return (
            f"version: 1\nmetadata:\n  content_hash: {{linux-64: {numpy}}}\n  platforms: [linux-64]\n"
            "  channels: [{url: conda-forge}]\npackage:\n"
            + package("python", "3.11.1", "openssl: '>=3'")
            + package("openssl", openssl, "")
            + package("numpy", numpy, "python: '', libblas: ''")
            + package("scipy", "1.11", "python: '', numpy: ''")
        )

    delta = compare("conda-lock.yml", lock("1.26", "3.0"), lock("1.27", "3.0"))
    assert delta.distributions == {"numpy", "scipy"}
    delta = compare("conda-lock.yml", lock("1.26", "3.0"), lock("1.26", "3.1"))
    assert delta.everything
    assert "python" in delta.reason and "openssl" in delta.reason


def test_the_graph_of_a_lock_serves_other_manifests() -> None:
    graph = requirement_graph("uv.lock", sample("uv.lock", "after").encode())
    assert graph is not None
    assert graph["coloredlogs"] == {"humanfriendly", "capturer"}
    assert graph["httplib2"] == {"pyparsing"}
    assert "pytest" not in graph["shop"]  # only for its own development
    assert with_dependents(["pyparsing"], graph) == {"pyparsing", "httplib2", "shop"}
    assert requirement_graph("Pipfile.lock", sample("Pipfile.lock", "after").encode()) is None
    assert requirement_graph("uv.lock", b"[") is None


# --- properties of the comparison


def uv_lock(
    graph: dict[str, list[str]],
    versions: dict[str, str],
    first_party: Iterable[str] = (),
    markers: dict[tuple[str, str], str] | None = None,
    shuffle: random.Random | None = None,
) -> str:
    """A uv.lock of these packages; ``shuffle`` orders its parts and sprinkles blanks and comments."""

    def order(items: Iterable[str]) -> list[str]:
        ordered = list(items)
        if shuffle:
            shuffle.shuffle(ordered)
        return ordered

    def noise() -> str:
        return shuffle.choice(["", "\n", "# a comment\n", "  \n\n"]) if shuffle else ""

    packages = []
    for name in order(graph):
        version = versions.get(name, "1")
        requirements = []
        for target in order(graph[name]):
            marker = (markers or {}).get((name, target), "")
            requirements.append(f"{{ name = '{target}'" + (f', marker = "{marker}" }}' if marker else " }"))
        source = "{ editable = '.' }" if name in first_party else "{ registry = 'r' }"
        files = [f"    {{ url = 'u/{name}-{n}.whl', hash = 'sha256:{name}{version}{n}' }}," for n in range(3)]
        fields = [
            f"name = '{name}'",
            f"version = '{version}'",
            f"source = {source}",
            f"dependencies = [{', '.join(requirements)}]",
            "wheels = [\n" + "\n".join(order(files)) + "\n]",
        ]
        packages.append("[[package]]\n" + "\n".join(noise() + field for field in order(fields)) + "\n\n")
    return "version = 1\n\n" + noise().join(packages)


NAMES = [f"p{n}" for n in range(8)]
graphs = st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), unique=True, max_size=4), min_size=1)
versions = st.dictionaries(st.sampled_from(NAMES), st.sampled_from("123"))


@given(graphs, versions, st.randoms(use_true_random=False))
def test_order_and_comments_change_nothing(
    graph: dict[str, list[str]], pinned: dict[str, str], shuffle: random.Random
) -> None:
    delta = compare("uv.lock", uv_lock(graph, pinned), uv_lock(graph, pinned, shuffle=shuffle))
    assert not delta.everything
    assert not delta.distributions
    assert not delta.members


@given(graphs, graphs, versions, versions, st.sets(st.sampled_from(NAMES), max_size=2))
def test_the_closure_equals_the_ancestors_in_the_union_of_both_graphs(
    old: dict[str, list[str]],
    new: dict[str, list[str]],
    old_versions: dict[str, str],
    new_versions: dict[str, str],
    first_party: set[str],
) -> None:
    delta = compare("uv.lock", uv_lock(old, old_versions, first_party), uv_lock(new, new_versions, first_party))
    third_party = (old.keys() | new.keys()) - first_party

    def entry(graph: dict[str, list[str]], pinned: dict[str, str], name: str) -> object:
        return (pinned.get(name, "1"), sorted(graph[name])) if name in graph else None

    direct = {name for name in third_party if entry(old, old_versions, name) != entry(new, new_versions, name)}
    union = nx.DiGraph(
        (source, target) for graph in (old, new) for source, targets in graph.items() for target in targets
    )
    union.add_nodes_from(direct)
    expected = set(direct).union(*(nx.ancestors(union, name) for name in direct)) & third_party
    assert delta.direct == direct
    assert delta.distributions == expected
    # The way from one to the other holds all of it, too.
    ways = nx.DiGraph((name, above) for name, names in delta.required_by.items() for above in names)
    ways.add_nodes_from(direct)
    assert set(direct).union(*(nx.descendants(ways, name) for name in direct)) == expected


MARKERS = ["", "", "a", "b"]
marked = st.dictionaries(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), st.sampled_from(MARKERS), max_size=14
)


@given(marked, marked)
def test_members_names_all_that_an_environment_may_gain_or_lose(
    old: dict[tuple[str, str], str], new: dict[tuple[str, str], str]
) -> None:
    first_party = {"p0", "p1"}

    def lock(edges: dict[tuple[str, str], str]) -> str:
        graph = {name: [target for source, target in edges if source == name] for name in NAMES}
        return uv_lock(graph, {}, first_party, edges)

    def installed(edges: dict[tuple[str, str], str], start: str, holds: set[str]) -> set[str]:
        graph = nx.DiGraph(edge for edge, marker in edges.items() if not marker or marker in holds)
        graph.add_node(start)
        return set(nx.descendants(graph, start)) - first_party

    delta = compare("uv.lock", lock(old), lock(new))
    for start in first_party:
        reported = delta.members.get(start, frozenset())
        for holds in itertools.chain.from_iterable(itertools.combinations("ab", n) for n in range(3)):
            assert installed(old, start, set(holds)) ^ installed(new, start, set(holds)) <= reported


spaces = st.sampled_from(["", " ", "  "])


@st.composite
def requirement_lines(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(["Foo", "foo", "foo.bar", "Foo-Bar", "foo_baz"]))
    extras = draw(st.lists(st.sampled_from(["a", "B", "c-d"]), max_size=2))
    specifiers = draw(st.lists(st.sampled_from([">=1", "<2.0", "!=1.5", "==1.*", "~=1.4"]), max_size=3))
    marker = draw(st.sampled_from(["", "python_version<'3.12'", 'python_version < "3.12"', "os_name=='nt'"]))
    gap = draw(spaces)
    text = name + gap + (f"[{(',' + gap).join(extras)}]" if extras else "")
    if not specifiers and draw(st.booleans()):
        text += gap + "@ https://files.example/foo.zip"
        return text + (f" ; {marker}" if marker else "")
    return text + gap + f"{gap},".join(specifiers) + (f"{gap};{gap}{marker}" if marker else "")


@given(requirement_lines(), requirement_lines())
def test_requirements_are_equal_exactly_when_they_are_to_packaging(one: str, other: str) -> None:
    mine = [parse_requirement(line) for line in (one, other)]
    theirs = [Requirement(line) for line in (one, other)]

    def content(requirement: Requirement) -> object:
        extras = {extra.lower() for extra in requirement.extras}
        return (requirement.specifier, extras, requirement.url, str(requirement.marker))

    assert None not in mine
    same_name = (Requirement(one).name.lower().translate(str.maketrans("._", "--"))) == (
        Requirement(other).name.lower().translate(str.maketrans("._", "--"))
    )
    assert (mine[0] == mine[1]) == (same_name and content(theirs[0]) == content(theirs[1]))


@pytest.mark.parametrize("line", ["./lib", "https://files.example/x.zip", "-e .", "a b", ""])
def test_what_is_no_requirement(line: str) -> None:
    assert parse_requirement(line) is None


# --- requirement lists

REQUIREMENTS = "flask==3.0\nwerkzeug[watchdog]>=3,<4 ; python_version >= '3.8'\n"


@pytest.mark.parametrize(
    "new",
    [
        '# a comment\n\nwerkzeug[watchdog] <4, >=3; python_version>="3.8"  # why\nFlask == 3.0\n',
        "flask==3.0\nwerkzeug[watchdog]>=3,<4 \\\n  ; python_version >= '3.8'\n",
        "flask==3.0\r\nwerkzeug[watchdog]>=3,<4 ; python_version >= '3.8'\r\n",
    ],
)
def test_formatting_of_a_requirement_list_changes_nothing(new: str) -> None:
    delta = compare("requirements.txt", REQUIREMENTS, new)
    assert not delta.everything
    assert not delta.direct


@pytest.mark.parametrize(
    ("old", "new", "direct"),
    [
        ("flask==3.0", "flask==3.1", {"flask"}),
        ("flask", "flask>=3", {"flask"}),
        ("flask", "flask[async]", {"flask"}),
        ("flask", "flask ; os_name == 'nt'", {"flask"}),
        ("flask", "flask\ndjango", {"django"}),
        ("a==1 --hash=sha256:aa --hash=sha256:bb", "a==1 --hash=sha256:bb \\\n  --hash=sha256:aa", set()),
        ("a==1 --hash=sha256:aa", "a==1 --hash=sha256:cc", {"a"}),
        ("a @ git+https://h/a@1", "a @ git+https://h/a@2", {"a"}),
        ("-e git+https://h/a@1#egg=a", "-e git+https://h/a@2#egg=a", {"a"}),
        ("https://h/A_b-1.0-py3-none-any.whl", "https://h/A_b-1.1-py3-none-any.whl", {"a-b"}),
    ],
)
def test_a_changed_requirement_is_that_distribution(old: str, new: str, direct: set[str]) -> None:
    delta = compare("requirements.txt", old, new)
    assert not delta.everything
    assert delta.direct == direct
    assert delta.closed == (not direct)


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://other.example/simple",
        "-i https://other.example/simple",
        "--pre",
        "--no-binary :all:",
        "-r more.txt",
        "-c constraints.txt",
        "-e .",
        "./libs/a",
        "a @ file:///libs/a",
        "https://h/archive.zip",
        "what is this",
    ],
)
def test_what_a_requirement_list_cannot_tie_to_a_distribution_is_everything(line: str) -> None:
    assert compare("requirements.txt", "flask", f"flask\n{line}").everything
    delta = compare("requirements.txt", f"flask\n{line}", f"flask==1\n{line}")
    assert not delta.everything
    assert delta.direct == {"flask"}


def test_a_list_that_notes_only_some_requirers_has_no_whole_graph() -> None:
    old = "flask==1\nwerkzeug==1  # via flask\n"
    delta = compare("requirements.txt", old, old.replace("werkzeug==1", "werkzeug==2"))
    assert delta.distributions == {"flask", "werkzeug"}
    assert not delta.closed


def test_a_graph_on_one_side_only_is_no_whole_graph() -> None:
    noted, bare = "flask==1  # via -r app.in\n", "flask==2\n"
    assert not compare("requirements.txt", noted, bare).closed
    assert not compare("requirements.txt", bare, noted).closed


def test_reasons_name_no_credentials() -> None:
    delta = compare("requirements.txt", "flask", "flask\nhttps://user:secret@h/archive.zip\n")
    assert delta.everything
    assert "secret" not in delta.reason


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
