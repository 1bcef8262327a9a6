"""``make demo``: a small monorepo, a change, and what Greenline says of it. Everything runs for real."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

PROJECTS = ("billing", "catalog", "search", "shipping", "accounts", "reports")

CORE = {
    "core/pyproject.toml": '[project]\nname = "core"\nversion = "1.0"\n',
    "core/src/core/__init__.py": "",
    "core/src/core/money.py": '''\
"""Amounts in cents."""


def add(left: int, right: int) -> int:
    return left + right


def show(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"
''',
    "core/src/core/text.py": """\
def slug(name: str) -> str:
    return name.strip().lower().replace(" ", "-")
""",
    "core/tests/test_money.py": """\
from core import money


def test_add():
    assert money.add(1, 2) == 3


def test_show():
    assert money.show(1999) == "19.99"
""",
    "core/tests/test_text.py": """\
from core.text import slug


def test_slug():
    assert slug(" Blue Chair ") == "blue-chair"
""",
}


def project(name: str, uses: str) -> dict[str, str]:
    """A project whose service uses one module of the core, and is loaded by its name in one test."""
    call = {"money": "money.show(money.add(amount, 100))", "text": 'text.slug(f"{amount} pieces")'}[uses]
    return {
        f"{name}/pyproject.toml": f'[project]\nname = "{name}"\nversion = "1.0"\ndependencies = ["core"]\n',
        f"{name}/src/{name}/__init__.py": "",
        f"{name}/src/{name}/service.py": (
            f"from core import {uses}\n\n\ndef total(amount: int) -> str:\n    return {call}\n"
        ),
        f"{name}/src/{name}/names.py": f'NAME = "{name}"\n',
        f"{name}/tests/conftest.py": (
            "import pytest\n\n\n@pytest.fixture\ndef amount():\n    return 1900\n\n\n"
            "@pytest.fixture\ndef label():\n    return 'x'\n"
        ),
        f"{name}/tests/test_{name}_service.py": (
            f"from {name}.service import total\n\n\ndef test_total(amount):\n    assert total(amount)\n"
        ),
        f"{name}/tests/test_{name}_names.py": (
            f"from importlib import import_module\n\n\ndef test_name(label):\n"
            f'    assert import_module("{name}.names").NAME == "{name}"\n'
        ),
    }


def sample_monorepo() -> dict[str, str]:
    """The files of the sample: path → text."""
    roots = ["core/src", *(f"{name}/src" for name in PROJECTS)]
    files = {
        "README.md": "# A sample monorepo\n",
        "pyproject.toml": (
            f"[tool.pytest.ini_options]\npythonpath = {roots!r}\n".replace("'", '"')
            + 'addopts = "-q -p no:cacheprovider"\n'
        ),
        **CORE,
    }
    for number, name in enumerate(PROJECTS):
        files |= project(name, "money" if number % 2 else "text")
    return files


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="greenline-demo-") as folder:
        root = Path(folder, "monorepo")
        write(root, sample_monorepo())
        for command in ("init -q -b main", "add -A", "commit -q -m base", "switch -q -c change"):
            git(root, command)
        print(f"A monorepo of {len(PROJECTS) + 1} projects, on a new branch. Somebody changes how amounts are shown:\n")
        edit(root, "core/src/core/money.py", 'return f"{cents // 100}', 'return f"{cents / 100:.0f}')
        run(root, "git diff --stat")
        run(root, "greenline affected --base main")
        run(root, "greenline why billing/tests/test_billing_service.py --base main")
        run(root, "greenline why catalog/tests/test_catalog_service.py --base main")
        print("A comment more changes nothing, and a fixture affects those who request it:\n")
        git(root, "commit -q -a -m change")
        edit(root, "core/src/core/text.py", "def slug", "# Used in addresses.\ndef slug")
        edit(root, "search/tests/conftest.py", "return 1900", "return 2100")
        run(root, "greenline affected --base HEAD --format nodeids")
        print("Running what can break, with pytest's own output:\n")
        code = run(root, "greenline test --base main -- --no-header")
        print("The change broke core's own test, and only what depends on it ran.\n" if code == 1 else "")
        return 0 if code == 1 and break_and_repair(root) else 1


def break_and_repair(root: Path) -> bool:
    """Two branches that are green alone break main together; whether repair proposes a fix that holds."""
    git(root, "checkout -q -f main")
    print("Two other branches. One renames a function of the core, everywhere:\n")
    git(root, "switch -q -c rename main")
    for path in ("core/src/core/text.py", "core/tests/test_text.py", *services_with("text")):
        edit(root, path, "slug(", "slugify(")
        edit(root, path, "import slug\n", "import slugify\n")
    git(root, "commit -q -a -m 'slug is now slugify'")
    run(root, "git diff --stat main rename")
    print("The other adds a service that calls the function by its old name:\n")
    git(root, "switch -q -c labels main")
    write(root, LABELS)
    git(root, "add -A")
    git(root, "commit -q -m 'Labels for parcels'")
    run(root, "git diff --stat main labels")
    print("Each is green. Before the merge, greenline tells what the two do together:\n")
    told = run(root, "greenline conflicts rename labels")
    print("They are merged all the same, and main breaks:\n")
    git(root, "switch -q main")
    git(root, "merge -q --no-ff -m 'Merge rename' rename")
    git(root, "merge -q --no-ff -m 'Merge labels' labels")
    repaired = run(root, "greenline repair --bad main")
    branch = listed(root, "greenline/repair")
    if told != 1 or repaired != 0 or not branch:
        return False
    run(root, f"git show --format=%s {branch} -- shipping")
    print("Main was not moved. The proposal's tests pass, all of them:\n")
    git(root, f"checkout -q {branch}")
    return run(root, "greenline test --base main~2 -- --no-header") == 0


LABELS = {
    "shipping/src/shipping/labels.py": (
        "from core import text\n\n\ndef label(name: str) -> str:\n    return f'to {text.slug(name)}'\n"
    ),
    "shipping/tests/test_shipping_labels.py": (
        "from shipping.labels import label\n\n\ndef test_label():\n    assert label('Ada L') == 'to ada-l'\n"
    ),
}


def services_with(uses: str) -> list[str]:
    """The services of the projects that use this module of the core."""
    chosen = {"text": 0, "money": 1}[uses]
    return [f"{name}/src/{name}/service.py" for number, name in enumerate(PROJECTS) if number % 2 == chosen]


def listed(root: Path, prefix: str) -> str:
    """The one branch below a prefix, or ""."""
    command = ["git", "for-each-ref", "--format=%(refname:short)", f"refs/heads/{prefix}"]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def write(root: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


def edit(root: Path, path: str, old: str, new: str) -> None:
    text = (root / path).read_text(encoding="utf-8")
    (root / path).write_text(text.replace(old, new), encoding="utf-8")


def git(root: Path, command: str) -> None:
    identity = ["-c", "user.name=demo", "-c", "user.email=demo@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *shlex.split(command)], cwd=root, check=True)


def run(root: Path, command: str) -> int:
    """Run a command as a user would, with Greenline's own on the path; prints both."""
    print(f"$ {command}", flush=True)
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    code = subprocess.run(shlex.split(command), cwd=root, env=os.environ | {"PATH": path}, check=False).returncode
    print(flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
