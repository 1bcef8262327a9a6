"""Detection on real code: refactorings made by rope on one side, callers of what they touch added on the other.

    make bench-refactorings [ARGS="--from FOLDER --each 70"]

rope renames functions, classes, methods, constants and parameters, and moves functions, in three real packages. The
other side gets a file that uses the old definition, or, as a near miss, another one of the same module. Python is the
judge: the file is imported with the merged package, and calls are bound to the signatures that are there then. What
fails must be told, what works must not; where every conflict has a fix, the fixed file must work. rope is independent
of Greenline; refactorings that rope itself gets wrong (the package does not import any more) are left out.
Answers are kept below build/ with the version of the detector: a run that was stopped goes on where it was.
Goals: detection 99 %, no false alarm, all fixes mend.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import trees
from merge_history import clone

from greenline.depgraph.config import Config
from greenline.depgraph.workspace import Workspace, find
from greenline.rules.conflicts.kept import code
from greenline.rules.fixes.mend import mend

PACKAGES = {"pallets/werkzeug": "src/werkzeug", "pallets/click": "src/click", "pallets/jinja": "src/jinja2"}
GOAL = 0.99


class Target(NamedTuple):
    """A definition to refactor. ``kind``: function, class, method, constant, parameter or move; ``offset``: of its name
    in the file; ``keyword``: the parameter; ``other``: another name of the module."""

    kind: str
    path: str
    module: str
    name: str
    offset: int
    keyword: str = ""
    other: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--from", dest="source", help="folder with clones")
    parser.add_argument("--each", type=int, default=70, help="refactorings of each package")
    options = parser.parse_args()
    total: Counter[str] = Counter()
    for name, package in PACKAGES.items():
        count = measure(clone(name, options.source), package, options.each)
        print(f"{name}: {dict(sorted(count.items()))}", flush=True)
        total += count
    detection = total["told and fails"] / max(total["fails"], 1)
    alarms, near = total["told and works"], total["works"]
    print(f"refactorings: {total['refactorings']}; detection {detection:.3f} of {total['fails']} (goal {GOAL})")
    print(f"false alarms: {alarms} of {near} (goal 0); mended {total['mended']} of {total['mendable']} (goal all)")
    return int(detection < GOAL or alarms > 0 or total["mended"] < total["mendable"])


def measure(folder: Path, package: str, each: int) -> Counter[str]:
    from rope.base.project import Project

    trees.git(folder, "checkout", "--quiet", "--force", "HEAD")
    base = trees.git(folder, "rev-parse", "HEAD").strip()
    project = Project(str(folder), ropefolder=None)
    workspace = find(str(folder))
    total: Counter[str] = Counter()
    targets = list(targets_in(folder, package))
    Random(1).shuffle(targets)
    kept = folder.parent / f"{folder.name}-refactorings.jsonl"
    lines = kept.read_text().splitlines() if kept.exists() else []
    known = {name: count for version, name, count in map(json.loads, lines) if version == code()}
    with kept.open("a") as file:
        for target in targets:
            if total["refactorings"] >= each:
                break
            name = str(target)
            if name not in known:
                known[name] = ask(project, workspace, folder, package, base, target)
                print(json.dumps([code(), name, known[name]]), file=file, flush=True)
            total.update(known[name])
    project.close()
    return total


def ask(project: Any, workspace: Workspace, folder: Path, package: str, base: str, target: Target) -> Counter[str]:
    """One refactoring, with a use of what it touches and a use of something else."""
    count: Counter[str] = Counter()
    try:
        ours = refactor(project, folder, package, target)
    except Exception as error:
        return Counter([f"rope: {type(error).__name__}"])
    whole = "".join(f"import {module_of(path)}\n" for path in sorted(ours)) if ours else "rope has changed nothing"
    if not works(folder, package, ours, whole, target, call=False):
        return Counter(["rope gets it wrong"])
    count["refactorings"] += 1
    for probe in (use_of(target), near_miss_of(target)):
        if works(folder, package, {}, probe, target):
            judge(workspace, folder, package, base, target, ours, probe, count)
    return count


def targets_in(folder: Path, package: str) -> Iterator[Target]:
    """Public definitions of a package, in order."""
    for path in sorted((folder / package).rglob("*.py")):
        relative = path.relative_to(folder).as_posix()
        module = module_of(relative)
        text = path.read_text()
        tree = ast.parse(text)
        names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        starts = [0]
        for line in text.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))

        def offset(node: Any, starts: list[int] = starts, text: str = text) -> int:
            found = starts[node.lineno - 1] + node.col_offset
            return text.index(node.name, found) if hasattr(node, "name") else found

        for node in tree.body:
            name = getattr(node, "name", "")
            other = next((one for one in names if one != name and not one.startswith("_")), "")
            here = (relative, module)
            if isinstance(node, ast.FunctionDef) and not name.startswith("_") and not node.decorator_list:
                yield Target("function", *here, name, offset(node), other=other)
                yield Target("move", *here, name, offset(node), other=other)
                for argument in node.args.args[1:2]:
                    yield Target("parameter", *here, name, offset(argument), argument.arg, other)
            elif isinstance(node, ast.ClassDef) and not name.startswith("_"):
                yield Target("class", *here, name, offset(node), other=other)
                for inner in node.body:
                    if (
                        isinstance(inner, ast.FunctionDef)
                        and not inner.name.startswith("_")
                        and not inner.decorator_list
                    ):
                        yield Target("method", *here, f"{name}.{inner.name}", offset(inner), other=other)
            elif (
                isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper()
            ):
                yield Target("constant", *here, node.targets[0].id, offset(node.targets[0]), other=other)


def module_of(path: str) -> str:
    return path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def refactor(project: Any, folder: Path, package: str, target: Target) -> dict[str, str]:
    """rope's changes: path → new content."""
    from rope.refactor.move import create_move
    from rope.refactor.rename import Rename

    resource = project.get_resource(target.path)
    word = target.keyword or target.name.rpartition(".")[2]
    files = [
        project.get_resource(path.relative_to(folder).as_posix())
        for path in sorted((folder / package).rglob("*.py"))
        if word in path.read_text()
    ]
    if target.kind == "move":
        destination = _home(project, folder, package)
        changes = create_move(project, resource, target.offset).get_changes(
            destination, resources=[*files, destination]
        )
    else:
        changes = Rename(project, resource, target.offset).get_changes(f"{word}_anew", resources=files)
    return {change.resource.path: change.new_contents for change in changes.changes}


def _home(project: Any, folder: Path, package: str) -> Any:
    """An empty module to move to."""
    (folder / package / "greenline_home.py").touch()
    return project.get_resource(f"{package}/greenline_home.py")


def use_of(target: Target) -> str:
    """A file that uses the definition under its old name."""
    owner, _, method = target.name.rpartition(".")
    if target.kind == "method":
        return f"from {target.module} import {owner}\n\nmethod = {owner}.{method}\n"
    if target.kind == "parameter":
        name, keyword = target.name, target.keyword
        return f"from {target.module} import {name}\n\n\ndef use(*args):\n    return {name}(*args, {keyword}=1)\n"
    return f"from {target.module} import {target.name}\n\nit = {target.name}\n"


def near_miss_of(target: Target) -> str:
    """A file that uses something else of the module."""
    return f"import {target.module} as there\n\nit = there.{target.other}\n" if target.other else "it = 1\n"


def judge(
    workspace: Workspace,
    folder: Path,
    package: str,
    base: str,
    target: Target,
    ours: dict[str, str],
    probe: str,
    count: Counter[str],
) -> None:
    commits = [commit(folder, base, ours), commit(folder, base, {"tests/test_probe.py": probe})]
    fails = not works(folder, package, ours, probe, target)
    result = mend(workspace, Config(), base, *commits)
    told = [one for one in (*result.conflicts, *result.left) if not one.finding.warning]
    count["fails" if fails else "works"] += 1
    count[f"told and {'fails' if fails else 'works'}"] += bool(told)
    if bool(told) != fails:
        print(f"  {'missed' if fails else 'false alarm'}: {target} {[one.finding.message for one in told]}", flush=True)
    if fails and told and not result.left:
        count["mendable"] += 1
        fixed = (result.files.get("tests/test_probe.py") or b"").decode()
        good = bool(fixed) and works(folder, package, ours, fixed, target)
        count["mended"] += good
        if not good:
            print(f"  not mended: {target} {result.refused} {fixed!r}", flush=True)


def commit(folder: Path, base: str, files: dict[str, str]) -> str:
    """A commit on top of the base with these files."""
    parts = [
        f"commit refs/heads/probe\ncommitter b <b@example.com> 1700000000 +0000\ndata 1\nx\nfrom {base}\n".encode()
    ]
    for path, text in sorted(files.items()):
        data = text.encode()
        parts.append(b"M 100644 inline %b\ndata %d\n%b\n" % (path.encode(), len(data), data))
    subprocess.run(["git", "fast-import", "--quiet", "--force"], cwd=folder, input=b"".join(parts), check=True)
    return trees.git(folder, "rev-parse", "refs/heads/probe").strip()


def works(folder: Path, package: str, changes: dict[str, str], probe: str, target: Target, call: bool = True) -> bool:
    """Whether a file can be imported, and its call bound, with the package as it is after these changes."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        shutil.copytree(folder / package, root / package)
        for path, text in changes.items():
            (root / path).write_text(text)
        child = os.fork()
        if child == 0:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 2)
            sys.path.insert(0, str(root / package).rpartition("/")[0])
            space: dict[str, Any] = {"__name__": "probe"}
            try:
                exec(compile(probe, "probe", "exec"), space)
                if call and "use" in space:
                    bind(space, probe)
            except BaseException:
                os._exit(1)
            os._exit(0)
        return os.waitpid(child, 0)[1] == 0


def bind(space: dict[str, Any], probe: str) -> None:
    """Bind the call in ``use`` to the live signature. Raises TypeError."""
    (made,) = (node for node in ast.walk(ast.parse(probe)) if isinstance(node, ast.Call))
    keywords = {keyword.arg: 1 for keyword in made.keywords if keyword.arg}
    inspect.signature(space[ast.unparse(made.func)]).bind_partial(**keywords)


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.exit(main())
