"""The scanner against `ast`: the same import statements, and how much faster, on large distributions.

    make bench-scan [ARGS="django==5.1.7 --folder ../monorepo"]

Each tree is a line: the standard library of this Python, folders, and wheels that pip fetches into a
temporary folder. Of every file the imports and their kinds are compared with what `ast` says, see
tests/unit/test_scan.py.

- s: CPU time of one core for everything that the scanner does, files in memory
- times: how much longer `ast.parse` alone takes, without a look at the tree
- proven: the share of files whose imports were found without `ast`
- unparsed: files that this Python cannot parse, with which nothing can be compared
- different: files whose names or kinds differ; must be 0
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit"))

from test_scan import imports_of, oracle, parsed

from greenline.depgraph import import_statements
from greenline.depgraph.scan import scan

WHEELS = (
    "homeassistant==2024.3.3",
    "ansible==9.3.0",
    "transformers==4.49.0",
    "apache-airflow==2.10.5",
    "sympy==1.13.3",
    "django==5.1.7",
    "pandas==2.2.3",
    "plotly==5.24.1",
)


class Result(NamedTuple):
    files: int = 0
    size: int = 0  # bytes
    seconds: float = 0.0
    ast_seconds: float = 0.0
    proven: int = 0
    unparsed: int = 0
    different: tuple[str, ...] = ()

    def __add__(self, other: Result) -> Result:  # type: ignore[override]
        return Result(*(mine + its for mine, its in zip(self, other, strict=True)))

    def line(self, name: str) -> str:
        mega = self.size / 1e6
        return (
            f"{name:26}{self.files:7,}{mega:8.1f}{self.seconds:8.2f}{mega / self.seconds:7.0f}"
            f"{self.ast_seconds / self.seconds:7.1f}{self.proven / self.files:8.1%}{self.unparsed:9,}"
            f"{len(self.different):10,}"
        )


HEADER = "tree                        files      MB       s   MB/s  times  proven unparsed different"


def measure(files: Iterable[Path]) -> Result:
    total = Result()
    for file in files:
        data = file.read_bytes()
        start = time.process_time()
        facts = scan(data, file.name == "__init__.py")
        middle = time.process_time()
        tree = parsed(data)
        end = time.process_time()
        proven = import_statements.of_code(import_statements.split(data)) is not None
        wrong = tree is not None and imports_of(facts) != oracle(tree)
        total += Result(1, len(data), middle - start, end - middle, proven, tree is None, (str(file),) if wrong else ())
    return total


def wheel(requirement: str, folder: Path) -> Path:
    """Fetch a wheel, for whichever Python it is, and unpack it below a folder."""
    target = folder / requirement
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    any_python = ["--only-binary", ":all:", "--python-version", "3.12", "--platform", "manylinux2014_x86_64"]
    subprocess.run([*pip, *any_python, "--dest", str(target), requirement], check=True)
    (archive,) = target.glob("*.whl")
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(target, [name for name in packed.namelist() if name.endswith(".py")])
    return target


def trees(requirements: Sequence[str], folders: Sequence[Path], scratch: Path) -> Iterator[tuple[str, list[Path]]]:
    library = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    yield "standard library", [file for file in library if "site-packages" not in file.parts]
    for folder in folders:
        yield folder.name, sorted(folder.rglob("*.py"))
    for requirement in requirements:
        yield requirement, sorted(wheel(requirement, scratch).rglob("*.py"))


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare the scanner with ast.")
    parser.add_argument("requirements", nargs="*", default=WHEELS, help="wheels to fetch, such as django==5.1.7")
    parser.add_argument("--folder", type=Path, action="append", default=[], help="a folder of Python files")
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]}\n{HEADER}", flush=True)
    total = Result()
    with tempfile.TemporaryDirectory() as scratch:
        for name, files in trees(options.requirements, options.folder, Path(scratch)):
            result = measure(files)
            print(result.line(name), flush=True)
            for file in result.different[:10]:
                print(f"  different: {file}")
            total += result
    print(total.line("all"))
    return 1 if total.different else 0


if __name__ == "__main__":
    sys.exit(main())
