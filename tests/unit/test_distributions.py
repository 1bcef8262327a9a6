"""Distributions: import names from installed metadata, a table or a guess; and who acts unimported."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sysconfig
from pathlib import Path

import pytest

from greenline.depgraph import known_distributions
from greenline.depgraph.distributions import (
    affects_all_tests,
    find_site_packages,
    import_names,
    installed_autoload,
    installed_modules,
    installed_requirements,
    is_developer_tool,
    is_guess,
    unexplained,
)
from greenline.depgraph.manifest import normalise

HERE = Path(sysconfig.get_paths()["purelib"])


def install(site_packages: Path, name: str, files: list[str], metadata: str = "", **metadata_files: str) -> None:
    """A distribution as an installer leaves it, without the files themselves."""
    folder = site_packages / f"{name.replace('-', '_')}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\n{metadata}\n\nRequires-Dist: not-this\n")
    for file, text in metadata_files.items():
        (folder / f"{file}.txt").write_text(text)
    record = [*files, f"{folder.name}/METADATA"]
    (folder / "RECORD").write_text("".join(f"{file},sha256=x,1\n" for file in record))


# --- the environment


def test_installed_modules_agree_with_the_standard_library() -> None:
    """Oracle: importlib.metadata, which knows top-level names only and counts data folders as packages."""
    expected: dict[str, set[str]] = {}
    for module, names in importlib.metadata.packages_distributions().items():
        for name in names:
            expected.setdefault(normalise(name), set()).add(module)
    found = installed_modules(HERE)
    assert len(found) > 10
    compared = 0
    for name, modules in found.items():
        if modules:  # an editable install has none; the oracle looks into its files
            tops = {module.split(".")[0] for module in modules}
            known = {top for top in expected[name] if top.isidentifier()} - {"__pycache__"}
            # top_level.txt may also name what lies inside a package (PyNaCl's _sodium).
            assert tops <= known and all(importlib.util.find_spec(top) is None for top in known - tops), name
            compared += 1
    assert compared > 10


@pytest.mark.parametrize(
    ("files", "modules"),
    [
        (["yaml/__init__.py", "yaml/reader.py", "_yaml/__init__.py"], {"yaml", "_yaml"}),
        (["six.py", "__pycache__/six.cpython-311.pyc"], {"six"}),
        (["_cffi_backend.cpython-311-x86_64-linux-gnu.so", "_native.abi3.so", "_win.pyd"], None),
        (["google/cloud/storage/__init__.py", "google/cloud/storage/blob.py"], {"google.cloud.storage"}),
        (["google/cloud/a/__init__.py", "google/cloud/b.py"], {"google.cloud.a", "google.cloud.b"}),
        (
            ["google/protobuf/__init__.py", "google/_upb/_message.abi3.so"],
            {"google.protobuf", "google._upb._message"},
        ),
        (["pandas-stubs/__init__.pyi", "yaml-stubs/__init__.py"], set()),
        (["../../../bin/flask", "flask/__init__.py", "flask.libs/libx.so", "share/data.json"], {"flask"}),
        (["fast/__init__.cpython-311-darwin.so", "fast/extra.py"], {"fast"}),
        (["_editable_impl_shop.pth"], set()),
    ],
)
def test_import_names_of_installed_files(tmp_path: Path, files: list[str], modules: set[str] | None) -> None:
    install(tmp_path, "some-thing", files)
    expected = {"_cffi_backend", "_native", "_win"} if modules is None else modules
    assert installed_modules(tmp_path) == {"some-thing": expected}


def test_old_metadata(tmp_path: Path) -> None:
    install(tmp_path, "zope.event", ["zope/__init__.py", "zope/event/__init__.py"], namespace_packages="zope\n")
    (tmp_path / "Old_Thing-1.0-py3.9.egg-info").mkdir()
    (tmp_path / "Old_Thing-1.0-py3.9.egg-info" / "top_level.txt").write_text("old\n_old\n")
    assert installed_modules(tmp_path) == {"zope-event": {"zope.event"}, "old-thing": {"old", "_old"}}


def test_installed_requirements(tmp_path: Path) -> None:
    install(
        tmp_path,
        "sqlalchemy",
        ["sqlalchemy/__init__.py"],
        "Requires-Dist: Typing_Extensions>=4.6\n"
        "Requires-Dist: greenlet!=0.4.17; platform_machine == 'x86_64'\n"
        'Requires-Dist: psycopg2>=2.7; extra == "postgresql"\n'
        'Requires-Dist: pytest>=8; extra == "test"\n'
        'Requires-Dist: sqlalchemy[asyncio]; extra == "all"',
    )
    assert installed_requirements(tmp_path) == {"sqlalchemy": {"typing-extensions", "greenlet", "psycopg2"}}


def test_installed_autoload(tmp_path: Path) -> None:
    def add(name: str, pth: str = "", entry_points: str = "") -> None:
        install(tmp_path, name, [f"{name}.pth"] if pth else [], entry_points=entry_points)
        if pth:
            (tmp_path / f"{name}.pth").write_text(pth)

    add("plugin", entry_points="[pytest11]\nplugin = plugin.hooks\n")
    add("startup", pth="import startup; startup.go()\n")
    add("editable", pth="/src/editable\n")
    add("program", entry_points="[console_scripts]\nprogram = program:main\n")
    assert installed_autoload(tmp_path) == {"plugin", "startup"}


def test_the_environment_here_autoloads_what_pytest_does() -> None:
    found = installed_autoload(HERE)
    assert {"hypothesis", "pytest-xdist"} <= found
    assert not {"pytest", "click", "setuptools"} & found


def test_find_site_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def environment(path: Path) -> Path:
        site_packages = path / "lib" / "python3.12" / "site-packages"
        site_packages.mkdir(parents=True)
        return site_packages.resolve()

    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    root = tmp_path / "repository"
    root.mkdir()
    assert find_site_packages(root) == []
    own = environment(root / ".venv")
    assert find_site_packages(root) == [own]
    active = environment(tmp_path / "active")
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "active"))
    assert find_site_packages(root) == [active, own]
    assert find_site_packages(root, ["not-installed-anywhere"]) == [active, own]
    assert find_site_packages(root, ["Hypothesis"]) == [active, own, HERE.resolve()]


# --- names


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("PyYAML", {"yaml", "_yaml"}),
        ("beautifulsoup4", {"bs4"}),
        ("Pillow", {"PIL"}),
        ("scikit_learn", {"sklearn"}),
        ("opencv-python", {"cv2"}),
        ("python.dateutil", {"dateutil"}),
        ("google-cloud-storage", {"google.cloud.storage"}),
    ],
)
def test_well_known_names(name: str, modules: set[str]) -> None:
    assert import_names([name]) == {name: modules}
    assert not is_guess(name)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("my-lib", "my_lib"),
        ("python-thing", "thing"),
        ("pything", "thing"),
        ("thing-py", "thing"),
        ("azure-mgmt-compute", "azure.mgmt.compute"),
        ("google-cloud-unheard-of", "google.cloud.unheard.of"),
        ("py", "py"),
    ],
)
def test_guesses_are_said_to_be_guesses(name: str, module: str) -> None:
    assert module in import_names([name])[name]
    assert name.replace("-", "_") in import_names([name])[name]
    assert is_guess(name)


def test_the_environment_is_the_best_source() -> None:
    environment = {"pyyaml": frozenset({"other"}), "my-lib": frozenset({"mine"}), "jupyter": frozenset[str]()}
    names = import_names(["pyyaml", "my-lib", "jupyter"], environment)
    assert names == {"pyyaml": {"other"}, "my-lib": {"mine"}, "jupyter": frozenset()}
    assert not any(is_guess(name, environment) for name in names)


@pytest.mark.parametrize("name", ["types-requests", "pandas-stubs", "types-PyYAML"])
def test_stubs_have_nothing_to_import(name: str) -> None:
    assert import_names([name]) == {name: frozenset()}
    assert not is_guess(name)
    assert is_developer_tool(name)


def test_the_table_agrees_with_what_is_installed_here() -> None:
    """The table may name more than one release has, never less, private names aside."""
    checked = 0
    for name, modules in installed_modules(HERE).items():
        if name in known_distributions.IMPORT_NAMES:
            public = {module for module in modules if not module.startswith("_")}
            known = known_distributions.IMPORT_NAMES[name]
            assert {module for module in public if not any(module.startswith(f"{each}.") for each in known)} <= known
            checked += 1
    assert checked >= 3


def test_the_tables_are_normalised_and_hold_import_names() -> None:
    tables = [
        known_distributions.IMPORT_NAMES,
        known_distributions.PYTEST_PLUGINS,
        known_distributions.DEVELOPER_TOOLS,
    ]
    for table in tables:
        for name in table:
            assert name == normalise(name)
    for modules in known_distributions.IMPORT_NAMES.values():
        assert modules
        assert all(part.isidentifier() for module in modules for part in module.split("."))


# --- who acts without being imported


@pytest.mark.parametrize("name", ["pytest", "pluggy", "iniconfig", "pytest-xdist", "Pytest_Django", "hypothesis"])
def test_pytest_and_its_plugins_affect_all_tests(name: str) -> None:
    assert affects_all_tests(name)


@pytest.mark.parametrize("name", ["flask", "coverage", "ruff", "tox", "pytest", "mypy"])
def test_others_do_not_unless_they_are_loaded_by_themselves(name: str) -> None:
    assert affects_all_tests(name) == (name == "pytest")
    assert affects_all_tests(name, autoloaded={name})


REQUIRED_BY = {
    "flask": set[str](),
    "werkzeug": {"flask"},
    "psycopg2": set[str](),
    "docutils": {"sphinx"},
    "sphinx": set[str](),
    "platform-thing": {"sphinx", "server"},
    "server": set[str](),
    "cycle-a": {"cycle-b"},
    "cycle-b": {"cycle-a"},
    "opencv-python": set[str](),
}


@pytest.mark.parametrize(
    ("changed", "imported", "is_explained"),
    [
        ("flask", {"flask"}, True),
        ("werkzeug", {"flask"}, True),  # through what requires it
        ("werkzeug", {"werkzeug"}, True),
        ("werkzeug", {"django"}, False),
        ("psycopg2", {"flask"}, False),  # a driver that is loaded by its name
        ("sphinx", set(), True),
        ("docutils", set(), True),  # only a developer tool wants it
        ("platform-thing", set(), False),  # something else wants it, too
        ("opencv-python", {"cv2"}, True),
        ("cycle-a", {"cycle_b"}, True),
        ("cycle-a", set(), False),
    ],
)
def test_a_change_is_explained_by_who_imports_it(changed: str, imported: set[str], is_explained: bool) -> None:
    found = unexplained([changed], REQUIRED_BY, imported.__contains__)
    assert found == (frozenset() if is_explained else {changed})


def test_a_wrong_guess_is_unexplained_until_the_environment_says_better() -> None:
    imported = {"surprising"}.__contains__
    assert unexplained(["my-lib"], {}, imported) == {"my-lib"}
    assert not unexplained(["my-lib"], {}, imported, {"my-lib": frozenset({"surprising"})})
