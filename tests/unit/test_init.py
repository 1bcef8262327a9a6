from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from greenline.depgraph import config
from greenline.depgraph.config import Config, Edge
from greenline.tools.cli import main
from greenline.tools.cli.init import propose


def nobody(words: Sequence[str]) -> list[str]:
    return []


def proposed(
    files: dict[str, str],
    users: Callable[[Sequence[str]], Sequence[str]] = nobody,
    branch: str | None = None,
    uncomment: bool = False,
) -> Config:
    text = propose(sorted(files), lambda path: files[path].encode(), users, branch, {"": 3})
    if uncomment:
        text = re.sub(
            r"^# (edges:|  )",
            r"\1",
            text.split("compiled code")[1].partition("\n")[2].split("\n\n")[0],
            flags=re.M,
        )
    return config.build(config.parse(text.encode()))


def test_nothing_found_is_all_defaults() -> None:
    assert proposed({"a.py": ""}) == Config()


def test_the_default_branch() -> None:
    assert proposed({}, branch="release/1.0").base.branch == "release/1.0"


def test_generated_modules_beside_their_source_are_known_without_an_edge() -> None:
    assert proposed({"api/a.proto": "", "api/a_pb2.py": ""}).edges == ()


def test_generated_modules_elsewhere() -> None:
    files = dict.fromkeys(
        ["proto/user-info.proto", "gen/user_info_pb2.py", "gen/user_info_pb2_grpc.py", "gen/other.py"], ""
    )
    assert proposed(files).edges == (
        Edge(
            ("proto/user-info.proto",),
            ("gen/user_info_pb2.py", "gen/user_info_pb2_grpc.py"),
            "protoc makes these modules",
        ),
    )


def test_many_generated_modules_are_one_glob() -> None:
    files = {f"proto/{name}/x{n}.proto": "" for name in "ab" for n in range(5)}
    files |= {f"gen/v1/{name}/x{n}_pb2.py": "" for name in "ab" for n in range(5)}
    (edge,) = proposed(files).edges
    assert (edge.from_, edge.to) == (("proto/**/*.proto",), ("gen/v1/**/*_pb2*.py",))
    for globs, ending in ((edge.from_, ".proto"), (edge.to, ".py")):
        assert all(map(config.matcher(globs), (path for path in files if path.endswith(ending))))


def test_modules_that_are_generated_when_needed() -> None:
    seen = []

    def users(words: Sequence[str]) -> list[str]:
        seen.extend(words)
        return ["app/client.py"]

    (edge,) = proposed({"a.proto": "", "app/client.py": ""}, users).edges
    assert seen == ["a_pb2"]
    assert (edge.from_, edge.to) == (("a.proto",), ("app/client.py",))


MATURIN = '[build-system]\nbuild-backend = "maturin"\n[project]\nname = "fast-app"\n'


@pytest.mark.parametrize(
    ("files", "sources", "module"),
    [
        ({"pyproject.toml": MATURIN, "Cargo.toml": ""}, "**/*.rs", "fast_app"),
        (
            {
                "py/pyproject.toml": MATURIN
                + '[tool.maturin]\nmodule-name = "app._fast"\nmanifest-path = "../rust/py/Cargo.toml"\n',
                "rust/Cargo.toml": "",
                "rust/py/Cargo.toml": "",
            },
            "rust/**/*.rs",
            "app._fast",
        ),
    ],
)
def test_a_rust_extension_is_a_suggestion_only(files: dict[str, str], sources: str, module: str) -> None:
    assert proposed(files).edges == ()
    (edge,) = proposed(files, uncomment=True).edges
    assert edge.from_[0] == sources
    assert edge.to == (module,)


@pytest.mark.parametrize("text", ["maturin [", MATURIN + "[tool]\nmaturin = 3\n", "# maturin\n", MATURIN])
def test_a_project_file_that_is_no_rust_extension(text: str) -> None:
    files = {"pyproject.toml": text, "other/Cargo.toml": ""}
    assert "Rust" not in propose(sorted(files), lambda path: files[path].encode(), nobody, None, {})
    assert proposed(files) == Config()


def test_migrations_and_settings_that_are_not_python() -> None:
    files = ["db/migrations/1.sql", "db/migrations/old/2.sql", "app/migrations/0001.py", "app/settings.toml"]
    files += ["app/settings/prod.yaml", "app/resettings.toml", "settings.py", "app/settings/[a].yml"]
    assert proposed(dict.fromkeys(files, "")).run_all == (
        "db/migrations/**/*.sql",
        "app/settings.toml",
        "app/settings/\\[a].yml",
        "app/settings/prod.yaml",
    )


NAMES = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)
ENDINGS = st.sampled_from([".proto", "_pb2.py", "/migrations/1.sql", "/settings.toml", ".py"])


BRANCHES = st.sampled_from(["main", "release/1.0", "On", "NO", "null", "2024", "a,b", "it's", '"', "{x}", "#1", "é"])
SCHEMA = jsonschema.Draft202012Validator(json.loads(Path(config.SCHEMA).read_text("utf-8")))


@given(st.lists(st.builds("{}/{}{}".format, NAMES, NAMES, ENDINGS), max_size=12), BRANCHES)
def test_whatever_the_names_are_the_file_is_valid(paths: list[str], branch: str) -> None:
    text = propose(sorted(paths), lambda path: b"", lambda words: paths, branch, dict.fromkeys(paths, 1))
    assert config.parse(text.encode())["base"]["branch"] == branch
    SCHEMA.validate(yaml.safe_load(text))  # what an editor sees


def test_the_command(repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    repository.commit({"proto/a.proto": "", "gen/a_pb2.py": "", "tests/test_a.py": "", "svc/pytest.ini": "[pytest]\n"})
    repository.commit({"svc/tests/test_b.py": "def test(): pass\n"})
    monkeypatch.chdir(repository.root / "svc")
    file = repository.root / "greenline.yaml"

    assert main.run(["init", "--print"]) == 0
    text = capsys.readouterr().out
    assert not file.exists()
    assert "#   .: 1 test file\n#   svc: 1 test file\n" in text

    assert main.run(["init"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{file}\n" and "greenline doctor" in err
    assert file.read_text("utf-8") == text
    loaded = config.load(repository.root)
    assert loaded.base.branch == "main"
    assert loaded.edges[0].to == ("gen/a_pb2.py",)

    file.write_text("selection: off\n")
    assert main.run(["init"]) == 2
    assert "--force" in capsys.readouterr().err
    assert file.read_text() == "selection: off\n"
    assert main.run(["init", "--force"]) == 0
    assert file.read_text("utf-8") == text


def test_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["init", "--schema"]) == 0
    assert capsys.readouterr().out == Path(config.SCHEMA).read_text("utf-8")
