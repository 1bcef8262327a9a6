"""Import cycles that two sides close in random packages, against Python that imports them."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

from conflict_cases import Case, build

from greenline.depgraph.config import Config
from greenline.depgraph.workspace import find
from greenline.rules.conflicts.find import find_conflicts

MODULES = 9
PACKAGES = 200
IMPORT = """
import json, pathlib, sys
failed = {}
for folder in map(pathlib.Path, json.load(sys.stdin)):
    sys.path.insert(0, str(folder))
    failed[str(folder)] = False
    for test in sorted(folder.glob("test_*.py")):
        try:
            exec(test.read_text())
        except ImportError:
            failed[str(folder)] = True
    del sys.path[0]
    for name in [name for name in sys.modules if name.partition(".")[0] == "app"]:
        del sys.modules[name]
print(json.dumps(failed))
"""


def package(chance: random.Random) -> tuple[dict[str, str], dict[str, str], dict[str, str], dict[str, str]]:
    """Base, ours, theirs and merged: path → content. Modules import from later ones; the sides add imports back."""
    numbers = range(MODULES)
    edges = {(one, other) for one in numbers for other in numbers if one < other and chance.random() < 0.13}
    back = [(one, other) for one in numbers for other in numbers if one > other]
    first, second = chance.sample(numbers, 2)
    ours = (
        {chance.choice([edge for edge in back if edge[0] == first])} if first else {(0, chance.randrange(1, MODULES))}
    )
    theirs = {chance.choice([edge for edge in back if edge[0] == second])} if second else {(0, second + 1)}
    order = chance.sample(numbers, MODULES)

    def files(added: set[tuple[int, int]]) -> dict[str, str]:
        found = {"app/__init__.py": ""}
        for number in numbers:
            imports = sorted(other for one, other in edges | added if one == number)
            lines = [f"from app.m{other} import value as v{other}\n" for other in imports]
            found[f"app/m{number}.py"] = "".join([*lines, "value = 1\n"])
        return found | {f"test_{place}.py": f"import app.m{number}\n" for place, number in enumerate(order)}

    return files(set()), files(ours), files(theirs), files(ours | theirs)


def test_against_python(tmp_path: Path) -> None:
    chance = random.Random(14)
    packages = [package(chance) for _ in range(PACKAGES)]
    folders = []
    for number, states in enumerate(packages):
        for state, files in enumerate(states):
            folder = tmp_path / f"{number}-{state}"
            (folder / "app").mkdir(parents=True)
            folders.append(str(folder))
            for path, text in files.items():
                (folder / path).write_text(text)
    done = subprocess.run(
        [sys.executable, "-B", "-c", IMPORT], input=json.dumps(folders), capture_output=True, text=True, check=True
    )
    failed = json.loads(done.stdout)
    cases = [Case(14, "", str(number), False, False, *states[:3], "") for number, states in enumerate(packages)]
    commits = build(tmp_path / "repository", cases)
    workspace = find(str(tmp_path / "repository"))
    conflicts = 0
    for number, case in enumerate(cases):
        base, ours, theirs, merged = (failed[str(tmp_path / f"{number}-{state}")] for state in range(4))
        if base or ours or theirs:
            continue
        told = [one.number for one in find_conflicts(workspace, Config(), *commits[case.id]) if one.number == 14]
        assert bool(told) == merged, (number, packages[number][3])
        conflicts += merged
    assert conflicts > 3
