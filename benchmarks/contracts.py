"""`greenline check` beside import-linter: the same verdict on every contract, and the time of both.

Two kinds of trees. A small package with every form of contract that import-linter's documentation shows (the contract
types, wildcards, containers, optional and sibling layers, ignored imports), under random imports. And three projects
that use import-linter, with their own configuration translated: as they are, and with imports added at random, since on
what is always kept a tool that abstains would agree too.
"""

from __future__ import annotations

import argparse
import configparser
import json
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from random import Random
from statistics import median

import trees
import yaml

IMPORT_LINTER = "import-linter==2.16"
PROJECTS = (
    ("kopf", "nolar/kopf", "60d02aefb11c98cda6afab483f7953f6bb2ab9d6"),
    (
        "wemake-python-styleguide",
        "wemake-services/wemake-python-styleguide",
        "4f4964ade849deb1f3fff4005723f24bac27effb",
    ),
    ("kedro", "kedro-org/kedro", "d58a0b140250ced1917f2c54888b594995594be0"),
)
FASTER = 1.5  # goal: at most this share of import-linter's time, as whole processes on small projects

Contracts = dict[str, dict[str, str]]
"""Name → options of a contract, as import-linter's ini files have them."""

_MODULES = """
a a.high a.high.x a.middle a.middle.x a.middle.y a.low a.low.x a.util a.one.data a.one.view a.two.data a.two.view
a.two.extra a.apps.red a.apps.red.api a.apps.blue a.apps.blue.api a.apps.green a.core a.core.inner a.core.inner.x
"""
MODULES = _MODULES.split()

SHOWN: Contracts = {
    "layers": {"type": "layers", "layers": "a.high\na.middle\na.low"},
    "layers with ignores": {
        "type": "layers",
        "layers": "a.high\na.middle\na.low",
        "ignore_imports": "a.low.x -> a.high\na.low.* -> a.middle.**",
    },
    "independent siblings": {"type": "layers", "layers": "a.high\na.middle | a.util\na.low"},
    "siblings": {"type": "layers", "layers": "a.high\na.middle : a.util\na.low"},
    "optional layers": {"type": "layers", "layers": "a.high\n(a.none)\na.low"},
    "containers": {"type": "layers", "containers": "a.one\na.two", "layers": "view\ndata"},
    "exhaustive": {
        "type": "layers", "containers": "a.one\na.two", "layers": "view\n(extra)\ndata", "exhaustive": "true",
    },
    "not exhaustive": {"type": "layers", "containers": "a.two", "layers": "view\ndata", "exhaustive": "true"},
    "exempt": {
        "type": "layers", "containers": "a.two", "layers": "view\ndata", "exhaustive": "true",
        "exhaustive_ignores": "extra",
    },
    "forbidden": {"type": "forbidden", "source_modules": "a.low\na.util", "forbidden_modules": "a.high\na.core.inner"},
    "forbidden directly": {
        "type": "forbidden", "source_modules": "a.low", "forbidden_modules": "a.high", "allow_indirect_imports": "true",
    },
    "forbidden outside": {"type": "forbidden", "source_modules": "a.low", "forbidden_modules": "requests\ndjango"},
    "forbidden wildcards": {"type": "forbidden", "source_modules": "a.*.x", "forbidden_modules": "a.apps.**"},
    "independent": {"type": "independence", "modules": "a.apps.red\na.apps.blue\na.apps.green"},
    "independent wildcards": {"type": "independence", "modules": "a.apps.*"},
    "protected": {"type": "protected", "protected_modules": "a.core.inner", "allowed_importers": "a.core"},
    "protected wildcards": {"type": "protected", "protected_modules": "a.apps.*.api", "allowed_importers": "a.high"},
    "acyclic": {"type": "acyclic_siblings", "ancestors": "a"},
    "acyclic, one level": {"type": "acyclic_siblings", "ancestors": "a", "depth": "0"},
    "acyclic, but for some": {"type": "acyclic_siblings", "ancestors": "a", "skip_descendants": "a.apps\na.one"},
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=int, default=20, help="random import graphs for the documented forms")
    parser.add_argument("--mutants", type=int, default=8, help="of each project")
    parser.add_argument("--from", dest="source", help="folder with clones (owner+name/repo) to take the projects from")
    arguments = parser.parse_args()
    program = trees.programs("import-linter", [IMPORT_LINTER]) / "lint-imports"
    differ = compare_shown(program, arguments.graphs)
    slower = 0.0
    for project in PROJECTS:
        wrong, ratio = compare_project(program, *project, arguments.source, arguments.mutants)
        differ, slower = differ + wrong, max(slower, ratio)
    print(f"{differ} verdicts differ; goal 0")
    print(f"greenline check takes at most {slower:.2f} of import-linter's time; goal {FASTER}")
    return int(differ > 0 or slower > FASTER)


def compare_shown(program: Path, graphs: int) -> int:
    folder = trees.BUILD / "contracts" / "shown"
    differ, verdicts = 0, [0, 0]
    for seed in range(graphs):
        random = Random(seed)
        trees.clear(folder)
        folder.mkdir()
        packages = {name.rpartition(".")[0] for name in MODULES} | {"a.one", "a.two", "a.apps"}
        for name in sorted({*MODULES, *packages} - {""}):
            path = folder / (name.replace(".", "/") + ("/__init__.py" if name in packages else ".py"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(some_imports(name, random, 1 + seed % 4), "utf-8")
        start(folder)
        ours, theirs, _ = verdicts_of(program, folder, {"root_package": "a"}, SHOWN)
        differ += tell(f"graph {seed}", ours, theirs)
        for kept in theirs.values():
            verdicts[kept] += 1
    print(f"documented forms: {len(SHOWN)} contracts on {graphs} graphs, {verdicts[1]} kept and {verdicts[0]} broken")
    return differ


def some_imports(name: str, random: Random, many: int) -> str:
    """Import statements of all forms; few, so that contracts are kept as well as broken."""
    lines = ["from __future__ import annotations", "from typing import TYPE_CHECKING"]
    for other in random.sample([*MODULES, "requests"], random.randrange(many)) if random.random() < 0.3 else ():
        parent, _, last = other.rpartition(".")
        plain = f"import {other}" if not parent or random.random() < 0.5 else f"from {parent} import {last}"
        indent = random.choice(["", "", "def f():\n    ", "if TYPE_CHECKING:\n    "])
        if other != name:
            lines.append(indent + plain)
    return "\n".join(lines) + "\n"


def compare_project(
    program: Path, name: str, repository: str, commit: str, source: str | None, mutants: int
) -> tuple[int, float]:
    """(verdicts that differ, greenline's time as a share of import-linter's)."""
    folder = trees.BUILD / "contracts" / name
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        url = f"{source}/{repository.replace('/', '+')}/repo" if source else f"https://github.com/{repository}"
        subprocess.run(["git", "clone", "--quiet", "--no-checkout", url, str(folder)], check=True)
    trees.git(folder, "sparse-checkout", "set", name.replace("-", "_"))  # the package, and the files beside it
    trees.git(folder, "checkout", "--quiet", "--force", commit)
    options, contracts = read_configuration(folder)
    package = folder / options["root_package"]
    differ, verdicts, taken = 0, [0, 0], []
    for mutant in range(mutants + 1):
        trees.git(folder, "checkout", "--quiet", "--force", commit)
        if mutant:
            mutate(package, options["root_package"], Random(mutant))
        ours, theirs, times = verdicts_of(program, folder, options, contracts)
        differ += tell(f"{name}, mutant {mutant}", ours, theirs)
        taken.append(times)
        for kept in theirs.values():
            verdicts[kept] += 1
    ours_time, theirs_time = (median(times[side] for times in taken) for side in (0, 1))
    print(
        f"{name}: {len(contracts)} contracts, as it is and {mutants} mutants, {verdicts[1]} kept and {verdicts[0]}"
        f" broken; greenline {ours_time:.2f} s, import-linter {theirs_time:.2f} s"
    )
    return differ, ours_time / theirs_time


def mutate(package: Path, root: str, random: Random) -> None:
    """Add imports of three random modules to three random modules."""
    found = [path.relative_to(package.parent).with_suffix("") for path in sorted(package.rglob("*.py"))]
    modules = [package.parent / f"{path}.py" for path in found if all(part.isidentifier() for part in path.parts)]
    for path, other in zip(random.sample(modules, 3), random.sample(modules, 3), strict=True):
        name = ".".join(other.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
        path.write_text(path.read_text("utf-8") + f"\n\nimport {name}\n", "utf-8")


def start(folder: Path) -> None:
    trees.git(folder, "init", "--quiet", "--initial-branch=main")
    trees.git(folder, "add", "--all")
    trees.git(folder, "commit", "--quiet", "--no-verify", "--message=start")


def tell(where: str, ours: Mapping[str, bool], theirs: Mapping[str, bool]) -> int:
    wrong = [name for name in theirs if ours[name] != theirs[name]]
    for name in wrong:
        print(f"{where}: {name}: import-linter says {'kept' if theirs[name] else 'broken'}")
    return len(wrong)


# -- both tools ----------------------------------------------------------------------------------------------


def verdicts_of(
    program: Path, folder: Path, options: Mapping[str, str], contracts: Contracts
) -> tuple[dict[str, bool], dict[str, bool], tuple[float, float]]:
    """(contract → kept, by greenline; the same by import-linter; seconds of both)."""
    (folder / "greenline.yaml").write_text(yaml.safe_dump({"rules": translated(contracts)}, width=200), "utf-8")
    write_ini(folder / "contracts.ini", options, contracts)
    environment = trees.environment() | {"PYTHONPATH": str(folder), "NO_COLOR": "1", "COLUMNS": "200"}
    begin = time.monotonic()
    command = [str(trees.GREENLINE), "check", "--format", "json"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    between = time.monotonic()
    if done.returncode == 2:
        sys.exit(f"greenline: {done.stderr}")
    broken = {each["rule"].partition("/")[2] for each in json.loads(done.stdout)["sections"][0]["findings"]}
    ours = {name: plain(name) not in broken for name in contracts}
    command = [str(program), "--config", "contracts.ini", "--no-cache"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    end = time.monotonic()
    said = dict(re.findall(r"^(.*?) (KEPT|BROKEN)\b", done.stdout, re.MULTILINE))
    if not said.keys() >= contracts.keys():
        sys.exit(f"import-linter: {done.stdout}{done.stderr}")
    theirs = {name: said[name] == "KEPT" for name in contracts}
    return ours, theirs, (between - begin, end - between)


def read_configuration(folder: Path) -> tuple[dict[str, str], Contracts]:
    """The options and the contracts of the types that come with import-linter, from .importlinter or pyproject.toml."""
    if (folder / ".importlinter").exists():
        parser = configparser.ConfigParser()
        parser.read(folder / ".importlinter", "utf-8")
        options = dict(parser.items("importlinter"))
        found = [dict(parser.items(name)) for name in parser.sections() if name.startswith("importlinter:contract:")]
    else:
        table = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
        contracts = table.pop("contracts")
        options, *found = ({key: as_text(value) for key, value in each.items()} for each in [table, *contracts])
    return options, {values.pop("name"): values for values in found if values["type"] in KINDS}


def as_text(value: object) -> str:
    return "\n".join(value) if isinstance(value, list) else str(value)


def write_ini(path: Path, options: Mapping[str, str], contracts: Contracts) -> None:
    parser = configparser.ConfigParser()
    parser["importlinter"] = {"root_package": options["root_package"], "include_external_packages": "True"}
    for number, (name, values) in enumerate(contracts.items()):
        lines = {key: "\n" + value if "\n" in value else value for key, value in values.items()}
        ignores = {"unmatched_ignore_imports_alerting": "none"} if "ignore_imports" in values else {}
        parser[f"importlinter:contract:{number}"] = {"name": name, **lines, **ignores}
    with path.open("w", encoding="utf-8") as file:
        parser.write(file)


KINDS = {
    "layers": "layers",
    "forbidden": "forbidden",
    "independence": "independent",
    "protected": "protected",
    "acyclic_siblings": "acyclic",
}


def plain(name: str) -> str:
    return re.sub(r"[/\[\]]", "-", name)


def translated(contracts: Contracts) -> dict[str, list[dict[str, object]]]:
    """The `rules` of greenline.yaml that say the same."""
    rules: dict[str, list[dict[str, object]]] = {}
    for name, values in contracts.items():
        kind = KINDS[values["type"]]
        lists = {key: [line for line in value.split("\n") if line.strip()] for key, value in values.items()}
        rule: dict[str, object] = {"name": plain(name)}
        match kind:
            case "layers":
                rule["layers"] = lists["layers"]
                if "containers" in lists:
                    rule["containers"] = lists["containers"]
                if values.get("exhaustive", "").lower() == "true":
                    rule["exhaustive"] = "on"
                    rule["except"] = lists.get("exhaustive_ignores", [])
            case "forbidden":
                rule |= {"from": lists["source_modules"], "to": lists["forbidden_modules"]}
                if values.get("allow_indirect_imports", "").lower() == "true":
                    rule["through"] = "off"
            case "independent":
                rule["modules"] = lists["modules"]
            case "protected":
                rule |= {"modules": lists["protected_modules"], "importers": lists["allowed_importers"]}
            case _:
                rule |= {"within": lists["ancestors"], "between": "children", "imports": "all"}
                rule["depth"] = values.get("depth", "10")
                if "skip_descendants" in lists:
                    rule["except"] = lists["skip_descendants"]
        rules.setdefault(kind, []).append(rule)
        for ignored in lists.get("ignore_imports", ()):
            importer, _, imported = (part.strip() for part in ignored.partition("->"))
            ignore = {
                "rule": f"{kind}/{plain(name)}",
                "from": importer,
                "to": imported,
                "reason": "as in .importlinter",
            }
            rules.setdefault("ignore", []).append(dict(ignore))
    return rules


if __name__ == "__main__":
    sys.exit(main())
