from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from greenline.depgraph import config
from greenline.depgraph.config import Config, Cut, DataRule, DeclaredSuite, Edge
from greenline.depgraph.errors import ConfigError

SCHEMA = json.loads(Path(config.SCHEMA).read_text(encoding="utf-8"))


def load_text(folder: Path, text: str | bytes) -> Config:
    (folder / "greenline.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return config.load(folder)


# -- what is read --------------------------------------------------------------------------------------------


def test_without_a_file_everything_has_its_default(tmp_path: Path) -> None:
    assert config.load(tmp_path) == Config()


def test_a_file_of_comments_only_is_all_defaults(tmp_path: Path) -> None:
    assert load_text(tmp_path, "# nothing yet\n\n# exclude: []\n") == Config()


def test_every_key(tmp_path: Path) -> None:
    loaded = load_text(
        tmp_path,
        """\
source_roots: [src/, ./lib, .]
exclude: ["third_party/**"]
suites:
  - name: billing
    root: ./services/billing/
    testpaths: [tests]
    python_files: ["test_*.py"]
    pythonpath: [src]
    plugins: [tests.plugin]
    command: [uv, run, pytest]
  - {name: all, root: .}
edges:
  - {from: proto/**/*.proto, to: [gen/*_pb2.py, app.gen], reason: generated}
cut:
  - {from: [app/a.py], to: app.b, reason: never called}
run_all: [docker]
data:
  - {files: "fixtures/*.json", affects: [tests/api, app.models]}
  - {files: "*.svg", affects: none}
ignore: ["**/*.md"]
always_run: {markers: [smoke], files: [tests/test_all.py]}
base: {branch: trunk, remote: upstream}
selection: off
""",
    )
    assert loaded == Config(
        source_roots=("src", "lib", ""),
        exclude=("third_party/**",),
        suites=(
            DeclaredSuite(
                "billing",
                "services/billing",
                ("tests",),
                ("test_*.py",),
                ("src",),
                ("tests.plugin",),
                ("uv", "run", "pytest"),
            ),
            DeclaredSuite("all", ""),
        ),
        edges=(Edge(("proto/**/*.proto",), ("gen/*_pb2.py", "app.gen"), "generated"),),
        cut=(Cut(("app/a.py",), ("app.b",), "never called"),),
        run_all=("docker",),
        data=(
            DataRule(("fixtures/*.json",), ("tests/api", "app.models")),
            DataRule(("*.svg",), ("none",)),
        ),
        ignore=("**/*.md",),
        always_run=config.AlwaysRun(("smoke",), ("tests/test_all.py",)),
        base=config.Base("trunk", "upstream"),
        selection="off",
    )


@pytest.mark.parametrize(
    "text", ["selection: off", "selection: 'off'", "\ufeffselection: off\r\n", "--- {selection: off}"]
)
def test_plain_words_stay_text(tmp_path: Path, text: str) -> None:
    assert load_text(tmp_path, text).selection == "off"


def test_numbers_stay_text(tmp_path: Path) -> None:
    assert load_text(tmp_path, "base: {branch: 3.10}").base.branch == "3.10"


# -- what is wrong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "key", "says"),
    [
        (b"", 1, "", "is empty"),
        (b" \n\n", 1, "", "is empty"),
        (b"- a\n", 1, "", "expected a mapping, got a list"),
        (b"plain\n", 1, "", "expected a mapping, got 'plain'"),
        (b"ignore: [a]\nexclude: [\xff]\n", 2, "", "is not UTF-8"),
        (b"\xff\xfei\0g\0", 1, "", "is not UTF-8"),
        (b"base:\n\tbranch: main\n", 2, "", "a tab"),
        (b"ignore: &x [a]\n", 1, "", "anchors"),
        (b"ignore:\n  - *md\n", 2, "", "anchors"),
        (b"ignore:\n  - **/*.md\n", 2, "", "* !"),
        (b"ignore: !!python/tuple [a]\n", 1, "", "a tag"),
        (b"ignore: [a\n", 2, "", "not valid YAML"),
        (b"run_all: []\n---\nrun_all: []\n", 2, "", "another document"),
        (b"run_all: []\nignore: [\x00]\n", 2, "", "U+0000"),
        (b"[" * 600 + b"]" * 600, 1, "", "nested too deeply"),
        (b"? [a]\n: b\n", 1, "", "keys are text"),
        (b"ignore: []\nrun_all: []\nignore: []\n", 3, "ignore", "first in line 1"),
        (b"base:\n  branch: a\n  branch: b\n", 3, "base.branch", "first in line 2"),
        (b"suites:\n  - name: a\n    rooot: a\n    root: a\n", 3, "suites[0].rooot", "did you mean 'root'?"),
        (b"zzz: []\n", 1, "zzz", "Known keys: source_roots, exclude,"),
        (b"exclude: docs\n", 1, "exclude", "expected a list, got 'docs'; for example"),
        (b"exclude:\n", 1, "exclude", "expected a list, got nothing"),
        (b"exclude: {a: b}\n", 1, "exclude", "expected a list, got a mapping"),
        (b"ignore:\n  - a\n  - [b]\n", 3, "ignore[1]", "expected text, got a list"),
        (b"edges:\n- from: {}\n  to: a\n", 2, "edges[0].from", "expected text or a list, got a mapping"),
        (b"edges:\n- from: []\n  to: a\n", 2, "edges[0].from", "an empty list"),
        (b"selection: of\n", 1, "selection", "expected on or off, got 'of'; did you mean 'off'?"),
        (b"cut:\n- from: a\n  to: b\n", 2, "cut[0]", "missing key 'reason': Why"),
        (b"cut:\n- {from: a, to: b, reason: ''}\n", 2, "cut[0].reason", "is empty"),
        (b"ignore: ['/a']\n", 1, "ignore[0]", "without a leading '/'"),
        (b"ignore: ['./a']\n", 1, "ignore[0]", "without a leading '/'"),
        (b"ignore: ['a/../b']\n", 1, "ignore[0]", "without '..'"),
        (b"ignore: ['a[']\n", 1, "ignore[0]", "is not a glob: '[' without ']'"),
        (b"ignore: ['[b-a]']\n", 1, "ignore[0]", "is not a glob: bad character range"),
        (b"source_roots: [../lib]\n", 1, "source_roots[0]", "is not a folder below"),
        (b"source_roots: ['libs/*']\n", 1, "source_roots[0]", "is not a folder below"),
        (b"base: {branch: --all}\n", 1, "base.branch", "is not a name that git accepts"),
        (b"always_run: {markers: ['not slow']}\n", 1, "always_run.markers[0]", "is not the name of a marker"),
        (b"suites:\n- {name: a, root: a}\n- {name: a, root: b}\n", 3, "suites[1].name", "suites[0] too"),
    ],
)
def test_one_mistake(tmp_path: Path, text: bytes, line: int, key: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, text)
    error = caught.value
    assert (error.file, error.line, error.key) == ("greenline.yaml", line, key)
    assert error.message.startswith(f"greenline.yaml:{line}: {key}")
    assert says in error.message
    assert len(error.problems) == 1


def test_all_mistakes_at_once_by_line(tmp_path: Path) -> None:
    text = "selektion: on\nignore: ['/a']\nsuites:\n  - name: a\n    rot: b\n"
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, text)
    assert [(problem.line, problem.key) for problem in caught.value.problems] == [
        (1, "selektion"),
        (2, "ignore[0]"),
        (4, "suites[0]"),
        (5, "suites[0].rot"),
    ]
    assert len(caught.value.message.splitlines()) == 4


def make_folder(path: Path) -> None:
    path.mkdir()


def make_dangling_link(path: Path) -> None:
    path.symlink_to("elsewhere.yaml")


def make_link_loop(path: Path) -> None:
    path.symlink_to(path.name)


def make_other_ending(path: Path) -> None:
    path.with_suffix(".yml").write_text("selection: off\n")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (make_folder, "cannot be read"),
        (make_link_loop, "cannot be read"),
        (make_dangling_link, "is a link to elsewhere.yaml"),
        (make_other_ending, "there is a greenline.yml"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, make: Any, says: str) -> None:
    make(tmp_path / "greenline.yaml")
    with pytest.raises(ConfigError, match=says) as caught:
        config.load(tmp_path)
    assert caught.value.hint


# -- the schema is the truth ---------------------------------------------------------------------------------


def subschemas(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for part in ("properties", "$defs"):
            for inner in schema.get(part, {}).values():
                yield from subschemas(inner)
        if "items" in schema:
            yield from subschemas(schema["items"])


def is_glob(value: Any) -> bool:
    return not isinstance(value, str) or bool(config.matcher([value]))


def test_the_schema_is_a_schema_of_the_part_that_is_understood() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    checked = {"type", "$ref", "required", "properties", "additionalProperties", "items", "minItems"}
    checked |= {"enum", "minLength", "pattern", "patternErrorMessage", "format"}
    notes = {"$schema", "$defs", "title", "description", "default", "examples"}
    for schema in subschemas(SCHEMA):
        assert set(schema) <= checked | notes
        assert ("properties" in schema) == (schema.get("additionalProperties") is False)
        assert ("pattern" in schema) == ("patternErrorMessage" in schema)


def test_every_key_is_described_and_its_examples_are_valid() -> None:
    formats = jsonschema.FormatChecker()
    formats.checks("glob", ValueError)(is_glob)
    for schema in subschemas(SCHEMA):
        for key, inner in schema.get("properties", {}).items():
            assert inner["description"].endswith("."), key
            assert inner["examples"], key
            validator = jsonschema.Draft202012Validator({**inner, "$defs": SCHEMA["$defs"]}, format_checker=formats)
            for example in inner["examples"]:
                validator.validate(example)


TEXT = st.sampled_from(
    ["a", "src", "a/b", "**/*.md", "off", "on", "app.mod", "", "/a", "a/..", "[a", "x y", "-x", "../a", "."]
)
KEYS = sorted({key for schema in subschemas(SCHEMA) for key in schema.get("properties", {})})


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Values shaped by the schema, with something wrong in many of them."""

    def value(schema: dict[str, Any]) -> Any:
        while "$ref" in schema:
            schema = {
                **SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]],
                **{k: v for k, v in schema.items() if k != "$ref"},
            }
        if draw(st.integers(0, 19)) == 0:
            return draw(
                st.one_of(TEXT, st.lists(TEXT, max_size=2), st.dictionaries(st.sampled_from(KEYS), TEXT, max_size=2))
            )
        kind = schema.get("type", "string")
        kind = draw(st.sampled_from(kind)) if isinstance(kind, list) else kind
        if kind == "object":
            known = schema["properties"]
            keys = set(draw(st.lists(st.sampled_from(sorted(known)), max_size=4))) | set(schema.get("required", ()))
            if draw(st.integers(0, 9)) == 0:
                keys ^= {draw(st.sampled_from(KEYS))}
            return {key: value(known.get(key, {})) for key in sorted(keys)}
        if kind == "array":
            return [value(schema["items"]) for _ in range(draw(st.integers(0, 2)))]
        return draw(TEXT)

    return value({**SCHEMA, "type": "object"})


@given(documents())
@settings(max_examples=300)
def test_agrees_with_jsonschema(document: Any) -> None:
    assume(isinstance(document, dict))
    suites = document.get("suites", [])
    if isinstance(suites, list) and all(isinstance(suite, dict) for suite in suites):
        names = [json.dumps(suite.get("name")) for suite in suites]
        assume(len(set(names)) == len(names))  # the one rule that a schema cannot say
    formats = jsonschema.FormatChecker()
    formats.checks("glob", ValueError)(is_glob)
    errors = list(jsonschema.Draft202012Validator(SCHEMA, format_checker=formats).iter_errors(document))
    try:
        values = config.parse(json.dumps(document).encode())
    except ConfigError as error:
        assert errors
        ours = {problem.key for problem in error.problems}
        for theirs in errors:
            key = re.sub(r"^\$\.?", "", theirs.json_path)
            assert any(mine.startswith(key) for mine in ours)
    else:
        assert not errors
        assert values == document


# -- the cache -----------------------------------------------------------------------------------------------

YAML_LOADED = """
import sys
from greenline.depgraph import config

print(config.load({root!r}, {cache!r}).selection, "yaml" in sys.modules)
"""


def load_in_new_process(root: Path, cache: Path) -> str:
    code = YAML_LOADED.format(root=str(root), cache=str(cache))
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_a_missing_file_costs_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert load_in_new_process(tmp_path, cache) == "on False"
    assert not cache.exists()


def test_yaml_is_parsed_once_for_each_content(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    file = tmp_path / "greenline.yaml"
    for text, selection in (
        ("selection: off\n", "off"),
        ("# x\nselection: on\n", "on"),
        ("selection: off\n", "off"),
    ):
        seen = cache.exists() and text == "selection: off\n"
        file.write_text(text)
        assert load_in_new_process(tmp_path, cache) == f"{selection} {not seen}"
        assert load_in_new_process(tmp_path, cache) == f"{selection} False"


@pytest.mark.parametrize("damage", [b"", b"{", b"greenline"])
def test_a_broken_cache_entry_is_ignored_and_mended(tmp_path: Path, damage: bytes) -> None:
    cache = tmp_path / "cache"
    (tmp_path / "greenline.yaml").write_text("selection: off\n")
    config.load(tmp_path, cache)
    entries = [entry for entry in cache.iterdir() if entry.name.startswith("config")]
    assert len(entries) == 1
    whole = entries[0].read_bytes()
    for broken in (damage, whole[:-3], whole[:-1] + b"?"):
        entries[0].write_bytes(broken)
        assert config.load(tmp_path, cache).selection == "off"
        assert config.load(tmp_path, cache).selection == "off"
    assert entries[0].read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "greenline.yaml").write_text("selection: off\n")
    (tmp_path / "cache").write_text("a file, not a folder")
    assert config.load(tmp_path, tmp_path / "cache").selection == "off"


def test_an_invalid_file_is_never_taken_from_the_cache(tmp_path: Path) -> None:
    (tmp_path / "greenline.yaml").write_text("selection: maybe\n")
    for _ in range(2):
        with pytest.raises(ConfigError):
            config.load(tmp_path, tmp_path / "cache")


# -- the documentation ---------------------------------------------------------------------------------------

DOCS = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_the_documentation_names_every_key() -> None:
    keys = {key for schema in subschemas(SCHEMA) for key in schema.get("properties", {})}
    assert {key for key in keys if f"`{key}`" not in DOCS} == set()


def test_the_documentation_shows_valid_files() -> None:
    examples = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    assert examples
    for example in examples:
        config.parse(example.encode())
