"""How long `greenline premerge` takes on a repository of 5,000 files, warm: goal 2 s for everything but running tests.

The repository is generated. It has layers, a forbidden import, a circle rule, a library rule, a budget and ruff; the
branch edits some files and adds one, and main gained commits meanwhile. One round has nothing to tell, one a problem
of each section: telling must not be what is slow.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import trees

GOAL = 2.0
ROUNDS = 5

RULES = """rules:
  layers:
    - name: areas
      layers: [{layers}]
  forbidden:
    - {{name: no old http, from: app, to: [urllib2, httplib]}}
  acyclic:
    - {{name: app, within: app}}
  purposes:
    - {{name: http, use: httpx}}
  budget: {{tests: "400"}}
"""
RUFF = '\n[tool.ruff]\nline-length = 320\n\n[tool.ruff.lint]\nselect = ["E", "F"]\nignore = ["E", "F401", "F811"]\n'


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=5_000)
    arguments = parser.parse_args()
    folder = trees.BUILD / f"premerge-{arguments.files}"
    make(folder, arguments.files)
    missed = False
    for branch, failing in (("clean", False), ("faulty", True)):
        trees.git(folder, "checkout", "--quiet", branch)
        run(folder, failing)
        taken = sorted(run(folder, failing) for _ in range(ROUNDS))
        wall, cpu = statistics.median(each[0] for each in taken), statistics.median(each[1] for each in taken)
        missed |= wall > GOAL
        told = f"{wall:.2f} s (best {taken[0][0]:.2f} s; {cpu:.2f} s of CPU)"
        print(f"premerge, {branch} branch, {arguments.files:,} files, warm: {told}; goal {GOAL} s")
    return int(missed)


def run(folder: Path, failing: bool) -> tuple[float, float]:
    """(seconds, CPU seconds) of one call, whose answer is looked at."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [str(trees.GREENLINE), "premerge", "--base", "main", "--format", "json", "--today", "2030-01-01"]
    done = subprocess.run(command, cwd=folder, env=trees.environment(), capture_output=True, text=True, check=False)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode != int(failing):
        sys.exit(f"premerge exited {done.returncode}: {done.stderr}")
    report = json.loads(done.stdout)
    told = {section["name"]: {each["rule"] for each in section["findings"]} for section in report["sections"]}
    wanted = {"rules": {"purposes/http"}, "lint": {"lint/F841"}, "conflicts": {"conflict/deleted"}} if failing else {}
    for name, rules in wanted.items():
        if not rules <= told[name]:
            sys.exit(f"premerge does not tell {rules} in {name}: {told}")
    if not report["complete"]:
        sys.exit(f"premerge is not complete: {done.stderr}")
    return wall, cpu


def make(folder: Path, files: int) -> None:
    """The repository with its branches ``clean`` and ``faulty``, both older than main."""
    if (folder / ".git").exists():
        return
    trees.generate(folder, files)
    areas = sorted(path.name for path in (folder / "app").iterdir() if path.name.startswith("area"))
    layers = ", ".join(f"app.{area}" for area in reversed(areas[:3]))
    (folder / "greenline.yaml").write_text(RULES.format(layers=layers), "utf-8")
    with (folder / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write(RUFF)
    gone = folder / "app" / areas[0] / "pack00002" / "gone.py"
    gone.write_text("def helper():\n    return 1\n", "utf-8")
    commit(folder, "rules")
    for branch in ("clean", "faulty"):
        trees.git(folder, "checkout", "--quiet", "-b", branch, "main")
        for number, path in enumerate(sorted((folder / "app" / areas[-1]).rglob("mod0[0-3].py"))[:12]):
            append(path, f"\n\ndef added_{number}(value):\n    return value\n")
        package = sorted(path for path in (folder / "app" / areas[-1]).iterdir() if path.name.startswith("pack"))[-1]
        name = ".".join(package.relative_to(folder).parts)
        text = f"from {name}.mod00 import added_0 as one\n\n\ndef both(value):\n    return one(value)\n"
        if branch == "faulty":
            text = f"import requests\nfrom app.{areas[0]}.pack00002.gone import helper\n{text}"
            text += "\n\ndef fetch():\n    unused = helper()\n    return requests.get('x')\n"
        (package / "brand_new.py").write_text(text.replace(f"from {name}.mod00 import added_0 as one", ONE), "utf-8")
        commit(folder, branch)
        trees.git(folder, "checkout", "--quiet", "main")
    for number in range(20):
        append(folder / "app" / areas[1] / f"pack{25 + number:05}" / "mod05.py", f"\n\nMAIN_{number} = {number}\n")
        if number == 3:
            gone.unlink()
        commit(folder, f"main {number}")


ONE = "def one(value):\n    return value"


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text("utf-8") + text, "utf-8")


def commit(folder: Path, message: str) -> None:
    trees.git(folder, "add", "--all")
    trees.git(folder, "commit", "--quiet", "--no-verify", "--message", message)


if __name__ == "__main__":
    sys.exit(main())
