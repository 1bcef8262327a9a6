"""Importing modules as Python does: against Python itself, on random packages full of circles."""

from __future__ import annotations

import importlib
import sys
from random import Random

import pytest
from conftest import Repository

from greenline.depgraph.config import Config
from greenline.depgraph.workspace import find
from greenline.rules.conflicts.loading import Failed, Session
from greenline.rules.conflicts.merge import open_merge

MODULES = {
    "pkg": "pkg/__init__.py",
    "pkg.a": "pkg/a.py",
    "pkg.b": "pkg/b.py",
    "pkg.sub": "pkg/sub/__init__.py",
    "pkg.sub.c": "pkg/sub/c.py",
    "pkg.sub.d": "pkg/sub/d.py",
}


def statement(random: Random, name: str, number: int) -> str:
    """One import of another module in one of the ways that code has, perhaps with a use at import."""
    other = random.choice([each for each in MODULES if each != name])
    parent, _, last = other.rpartition(".")
    forms = [
        f"from {other} import NAME as n{number}",
        f"import {other}\nV{number} = {other}.NAME",
        f"import {other}",
        f"import {other} as m{number}",
        f"import {other} as m{number}\nV{number} = m{number}.NAME",
        f"import {other} as m{number}\n\n\nclass C{number}:\n    value = m{number}.NAME\n",
        f"def f{number}():\n    from {other} import NAME\n",
        f"try:\n    from {other} import NAME as n{number}\nexcept ImportError:\n    n{number} = 0",
        f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from {other} import NAME",
    ]
    if parent:
        forms += [
            f"from {parent} import {last}",
            f"from {parent} import {last} as m{number}\nV{number} = m{number}.NAME",
            f"import {other}\nfrom {parent} import {last}\nV{number} = {other}.NAME",
        ]
    return random.choice(forms)


def package(random: Random, top: str) -> dict[str, str]:
    files = {}
    for name, path in MODULES.items():
        lines = [statement(random, name, number) for number in range(random.randrange(4))]
        lines.insert(random.randrange(len(lines) + 1), "NAME = 1")
        files[path.replace("pkg", top)] = "\n".join(lines).replace("pkg", top) + "\n"
    return files


def fails_in_python(name: str) -> bool:
    for each in [each for each in sys.modules if each.partition(".")[0] == name.partition(".")[0]]:
        del sys.modules[each]
    try:
        importlib.import_module(name)
    except (ImportError, AttributeError):
        return True
    return False


@pytest.mark.parametrize("seed", range(4))
def test_what_fails_is_what_fails_in_python(repository: Repository, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(repository.root))
    random = Random(seed)
    packages = [package(random, f"p{seed}_{number}") for number in range(40)]
    commit = repository.commit({path: text for files in packages for path, text in files.items()})
    outcomes = []
    with open_merge(find(str(repository.root)), Config(), commit, commit, commit, commit) as merge:
        for files in packages:
            for path in files:
                try:
                    Session(merge.merged.tree, set(files)).load(path)
                    failed = False
                except Failed as failure:
                    failed = True
                    assert failure.circle[0] == failure.target and failure.circle[-1] == failure.path
                name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
                assert failed == fails_in_python(name), (name, files)
                outcomes.append(failed)
    assert 0.1 < sum(outcomes) / len(outcomes) < 0.9
