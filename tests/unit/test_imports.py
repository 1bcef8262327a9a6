from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from conftest import Repository

from greenline.depgraph import config, workspace
from greenline.depgraph.imports import LAZY, START, TYPES, Imports, read_imports
from greenline.depgraph.index import Opened, open_change


def opened(repository: Repository, base: str = "HEAD", head: str | None = None) -> Opened:
    found = workspace.find(str(repository.root))
    commit = found.resolve(base)
    assert commit
    return open_change(found, config.load(found.root, found.cache), commit, head)


def edges(imports: Imports) -> dict[tuple[str, str], int]:
    """(importer, imported) → when, by names."""
    return {
        (imports.names[node][0], imports.names[to][0]): when
        for node, own in enumerate(imports.edges)
        for to, when in own.items()
    }


def test_an_import_means_the_module_that_it_names(repository: Repository) -> None:
    repository.commit(
        {
            "pyproject.toml": "[project]\nname = 'x'\n",
            "app/__init__.py": "from . import a\n",
            "app/a.py": "import app.b.c\nfrom app.b import c, d\nfrom .b import e\nimport os.path\n",
            "app/b/__init__.py": "",
            "app/b/c.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .. import a\n",
            "app/b/d.py": "def f():\n    from ..a import x\n    from requests.adapters import HTTPAdapter\n",
            "app/e.py": "from app import *\nfrom .b.c import *\nfrom missing import *\nfrom .nothing import x\n",
        }
    )
    assert edges(read_imports(opened(repository))) == {
        ("app", "app.a"): START,
        ("app.a", "app.b.c"): START,
        ("app.a", "app.b.d"): START,
        ("app.a", "app.b"): START,  # of which e is no module
        ("app.a", "os.path"): START,
        ("app.b.c", "typing.TYPE_CHECKING"): START,
        ("app.b.c", "app.a"): TYPES,
        ("app.b.d", "app.a"): LAZY,
        ("app.b.d", "requests.adapters.HTTPAdapter"): LAZY,
        ("app.e", "app"): START,  # twice: .nothing is no module, so what it means is the package
        ("app.e", "app.b.c"): START,
        ("app.e", "missing"): START,
    }


def test_lines_are_those_of_the_statements(repository: Repository) -> None:
    repository.commit({"a.py": "def f():\n    import b\n\nimport b\nx = 'b'\n", "b.py": ""})
    imports = read_imports(opened(repository))
    assert imports.lines(imports.paths.index("a.py"), imports.paths.index("b.py")) == [4, 2]


def some_tree(random: Random) -> dict[str, str]:
    """Modules that import each other in all ways, some of them what is not there."""
    names = ["app", "app.a", "app.b", "app.sub", "app.sub.c", "app.sub.d", "lib", "lib.x", "top", "gone", "app.sub.e"]
    files = {"pyproject.toml": "[project]\nname = 'x'\n"}
    for name in names:
        package = name in ("app", "app.sub", "lib")
        path = name.replace(".", "/") + ("/__init__.py" if package else ".py")
        if not package and random.random() < 0.3:
            continue
        lines = ["from typing import TYPE_CHECKING"]
        for other in random.sample(names, random.randrange(4)):
            parent, _, last = other.rpartition(".")
            plain = f"import {other}" if not parent or random.random() < 0.5 else f"from {parent} import {last}"
            lines.append(
                random.choice(
                    [plain, f"if TYPE_CHECKING:\n    {plain}", f"def f():\n    {plain}", "from . import a, b"]
                )
            )
        files[path] = "\n".join(lines) + "\n"
    return files


@pytest.mark.parametrize("seed", range(6))
def test_taking_over_from_another_state_changes_nothing(repository: Repository, seed: int) -> None:
    random = Random(seed)
    commits = []
    for _ in range(3):
        repository.git("rm", "-rqf", "--ignore-unmatch", ".")
        commits.append(repository.commit(some_tree(random)))
    for base, head in ((commits[0], commits[1]), (commits[2], commits[1])):
        change = opened(repository, base, head)
        now = read_imports(change)
        assert edges(read_imports(change, at_base=True, like=now)) == edges(read_imports(change, at_base=True))
        alone = read_imports(opened(repository, base, base))
        assert edges(read_imports(change, at_base=True)) == edges(alone)
        assert edges(read_imports(change, like=alone)) == edges(now)


def forget(opened: Opened) -> None:
    for path in Path(opened.workspace.cache).glob("imports-*"):
        path.unlink()


@pytest.mark.parametrize("seed", range(8))
def test_what_was_kept_of_a_state_changes_nothing(repository: Repository, seed: int) -> None:
    random = Random(seed)
    commits = [repository.commit(FIXED)]
    for _ in range(3):
        repository.git("rm", "-rqf", "--ignore-unmatch", ".")
        commits.append(repository.commit({**some_tree(random), **(FIXED if seed % 2 else {})}))
    pairs = [(base, head) for base in commits for head in (*commits, None)]
    random.shuffle(pairs)
    for base, head in pairs[:6]:  # each is read after what the ones before it kept
        change = opened(repository, base, head)
        kept = [edges(read_imports(change, at_base)) for at_base in (True, False)]
        forget(change)
        first = edges(read_imports(change))
        forget(change)
        assert kept == [edges(read_imports(change, at_base=True)), first]


FIXED = {f"{folder}/__init__.py": "" for folder in ("app", "app/sub", "lib")}


def test_a_kept_state_that_cannot_be_read_is_none(repository: Repository) -> None:
    repository.commit({"a.py": "import b\n", "b.py": ""})
    expected = edges(read_imports(opened(repository)))
    (path,) = Path(opened(repository).workspace.cache).glob("imports-*")
    path.write_bytes(path.read_bytes()[:-9])
    assert edges(read_imports(opened(repository))) == expected == {("a", "b"): START}
