"""Requirement lists: what a changed line may change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from greenline.depgraph.locks import (
    ManifestDelta,
    compare_manifest,
)
from greenline.depgraph.manifest import parse_requirement


def compare(path: str, old: str, new: str) -> ManifestDelta:
    return compare_manifest(path, old.encode(), new.encode())


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
