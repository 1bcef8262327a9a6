"""Lock files: what a change of one may change. The samples are what real tools wrote before and after a bump.

In each pair, ``humanfriendly`` goes from 9.2 to 10.0; ``coloredlogs`` and ``capturer`` require it, and
``coloredlogs[cron]`` requires ``capturer``. Hosts are replaced and hashes shortened.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from pathlib import Path

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenline.depgraph.locks import (
    ManifestDelta,
    compare_manifest,
    requirement_graph,
    with_dependents,
)

SAMPLES = Path(__file__).parent / "lock_samples"
FAMILY = {"humanfriendly", "coloredlogs", "capturer"}


def sample(name: str, side: str) -> str:
    return (SAMPLES / f"{name}.{side}").read_text("utf-8")


def compare(path: str, old: str, new: str) -> ManifestDelta:
    return compare_manifest(path, old.encode(), new.encode())


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
