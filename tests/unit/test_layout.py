from __future__ import annotations

import pytest

from greenline.depgraph.layout import find_layout
from greenline.depgraph.resolve import Resolver, absolute
from greenline.depgraph.snapshot import DictModules

PYPROJECT = b'[project]\nname = "x"\n'

LAYOUTS: list[tuple[str, list[str], dict[str, bytes], str, set[str]]] = [
    ("flat", ["app/__init__.py", "app/x.py"], {}, "app/x.py", {"app.x"}),
    ("a package's __init__", ["app/__init__.py"], {}, "app/__init__.py", {"app"}),
    ("src", ["src/app/__init__.py", "src/app/x.py"], {}, "src/app/x.py", {"app.x", "src.app.x"}),
    ("src without packages", ["src/app/x.py", "pyproject.toml"], {"pyproject.toml": PYPROJECT}, "src/app/x.py",
     {"app.x", "src.app.x", "x"}),
    ("a distribution's folder", ["libs/one/pyproject.toml", "libs/one/ns/x.py"], {"libs/one/pyproject.toml": PYPROJECT},
     "libs/one/ns/x.py", {"ns.x", "libs.one.ns.x", "x"}),
    ("setuptools where", ["python/ns/x.py", "pyproject.toml"],
     {"pyproject.toml": b'[tool.setuptools.packages.find]\nwhere = ["python"]\n'}, "python/ns/x.py",
     {"ns.x", "python.ns.x", "x"}),
    ("poetry from", ["lib/ns/x.py"], {"pyproject.toml": b'[[tool.poetry.packages]]\ninclude = "ns"\nfrom = "lib"\n'},
     "lib/ns/x.py", {"ns.x", "lib.ns.x", "x"}),
    ("hatch packages", ["room/green/line/x.py"],
     {"pyproject.toml": b'[tool.hatch.build.targets.wheel]\npackages = ["room/green"]\n'}, "room/green/line/x.py",
     {"green.line.x", "room.green.line.x", "x"}),
    ("setup.cfg package_dir", ["lib/ns/x.py"], {"setup.cfg": b"[options]\npackage_dir =\n    = lib\n"}, "lib/ns/x.py",
     {"ns.x", "lib.ns.x", "x"}),
    ("setup.py package_dir", ["lib/ns/x.py"], {"setup.py": b'setup(package_dir={"": "lib"})'}, "lib/ns/x.py",
     {"ns.x", "lib.ns.x", "x"}),
    ("a broken manifest", ["app/x.py", "app/__init__.py"], {"pyproject.toml": b"[["}, "app/x.py", {"app.x"}),
    ("a root outside", ["x.py"], {"pyproject.toml": b'[tool.mypy]\nmypy_path = "../other"\n'}, "x.py", {"x"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("paths", "manifests", "path", "names"), [row[1:] for row in LAYOUTS], ids=[r[0] for r in LAYOUTS]
)
def test_names(paths: list[str], manifests: dict[str, bytes], path: str, names: set[str]) -> None:
    layout = find_layout([*paths, *manifests], manifests)
    assert {name.name for name in layout.names(path)} == names


def test_entry_points_of_all_kinds_of_manifests() -> None:
    manifests = {
        "a/pyproject.toml": b'[project.scripts]\ntool = "a.cli:main"\n[project.entry-points.plug]\none = "a.one:X"\n',
        "b/setup.cfg": b"[options.entry_points]\nplug =\n    two = b.two\n",
        "c/setup.py": b'setup(entry_points={"plug": ["three = c.three:Y"]})',
    }
    layout = find_layout(manifests, manifests)
    assert layout.entry_points["plug"] == ("a.one", "b.two", "c.three")
    assert layout.scripts == {"tool": "a.cli"}


def test_files_below_a_linked_folder_have_names_below_both() -> None:
    layout = find_layout(["real/app/__init__.py", "real/app/x.py"], {}, aliases={"vendored": "real/app"})
    assert {name.name for name in layout.names("real/app/x.py")} >= {"app.x", "vendored.x"}


PATHS = sorted(
    [
        "one/app/__init__.py", "one/app/x.py", "two/app/__init__.py", "two/app/x.py", "one/tests/helpers.py",
        "two/tests/helpers.py", "tools/json.py", "shared/__init__.py", "shared/deep/__init__.py", "shared/deep/y.py",
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "folder", "files"),
    [
        ("app.x.value", "one/tests", ["one/app/__init__.py", "one/app/x.py"]),  # the nearest of one name
        ("app.x", "two/app", ["two/app/__init__.py", "two/app/x.py"]),
        ("app", "elsewhere", ["one/app/__init__.py", "two/app/__init__.py"]),  # equally far: all
        ("helpers", "one/tests/unit", ["one/tests/helpers.py"]),  # a loose module, for those below it
        ("helpers", "elsewhere", ["one/tests/helpers.py", "two/tests/helpers.py"]),
        ("json", "elsewhere", []),  # the standard library's
        ("json", "tools", ["tools/json.py"]),
        ("shared.deep.y.Z.attribute", "x", ["shared/__init__.py", "shared/deep/__init__.py", "shared/deep/y.py"]),
        ("numpy.linalg", "x", []),
    ],
)
def test_resolution(name: str, folder: str, files: list[str]) -> None:
    resolver = Resolver(DictModules(PATHS, find_layout(PATHS, {})))
    assert sorted(PATHS[node] for node in set(resolver.targets(name, folder))) == files


def test_whole_packages() -> None:
    resolver = Resolver(DictModules(PATHS, find_layout(PATHS, {})))
    assert {PATHS[node] for node in resolver.below("shared", "x")} == {
        path for path in PATHS if path.startswith("shared")
    }


@pytest.mark.parametrize(
    ("name", "package", "names"),
    [
        (".x", "a.b", ["a.b.x"]),
        ("..x.y", "a.b", ["a.x.y"]),
        (".", "a.b", ["a.b"]),
        ("..", "a.b", ["a"]),
        ("...x", "a.b", ["x"]),
        ("x.y", "a.b", ["x.y"]),
    ],
)
def test_absolute(name: str, package: str, names: list[str]) -> None:
    assert absolute(name, [package]) == names
