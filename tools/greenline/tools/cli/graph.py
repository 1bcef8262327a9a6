"""``greenline graph``: cycles, hubs, what each import costs, and the graph itself for other tools."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from greenline.ci.environment import no_commit
from greenline.depgraph import code_graph, edge_cost, import_advice, reachability
from greenline.depgraph.code_graph import CONFTEST, IMPORT, LAZY, NAMED, PACKAGE, CodeGraph, Reference
from greenline.depgraph.config import load
from greenline.depgraph.cycles import Cycle, find_cycles, imports_of
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.globs import matcher
from greenline.depgraph.index import globs_of, open_change
from greenline.depgraph.wording import plural
from greenline.depgraph.workspace import find
from greenline.tools.cli.options import Progress

if TYPE_CHECKING:
    import networkx

RECENT = 500
"""Commits that ``cost`` weighs with, unless told otherwise."""
ENOUGH = 50
"""Of these that must have edited modules; with fewer, chance decides."""
MOST_BREAKS = 5
"""Imports shown of those that break a cycle; JSON has all."""


@click.group("graph")
def command() -> None:
    """Look at the import graph of the work tree: cycles, hubs, cost, export."""


def _options(top: bool = True, imports: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """--top, --imports and --format, for the commands that rank."""
    options = [click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)]
    if imports:
        options.append(_imports)
    if top:
        options.append(click.option("--top", metavar="N", type=click.IntRange(min=1), default=20, show_default=True))

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in options:
            function = option(function)
        return function

    return add


_imports = click.option(
    "--imports",
    is_flag=True,
    help="Follow only import statements, packages and conftest.py files, not what strings may name.",
)


def _read(imports: bool = False) -> CodeGraph:
    workspace = find()
    config = load(workspace.root, workspace.cache)
    head = workspace.resolve("HEAD")
    if head is None:
        raise GreenlineError("the repository has no commit yet", "commit something first")
    opened = open_change(workspace, config, head, None, Progress())
    for warning in opened.warnings:
        _tell(f"warning: {warning}")
    return code_graph.read(opened, imports)


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def _print(line: str) -> None:
    """A line of a table, cut to the terminal's width."""
    width = shutil.get_terminal_size().columns
    print(line if len(line) <= width or not sys.stdout.isatty() else line[: width - 1] + "…")


def _print_json(**answer: object) -> None:
    print(json.dumps({"version": 1, **answer}, indent=1))


# -- cycles --------------------------------------------------------------------------------------------------


@command.command("cycles")
@_options(imports=False)
def cycles(form: str, top: int) -> None:
    """Modules that import each other in a circle.

    Import statements count, also those inside functions, which are harmless when the program starts and are marked;
    those for type checkers do not. The imports to remove are chosen by a heuristic: few, not always the fewest.
    """
    graph = _read()
    found = find_cycles(imports_of(graph))
    told = [_cycle_as_json(graph, cycle, MOST_BREAKS if form == "text" else None) for cycle in found[:top]]
    if form == "json":
        _print_json(total=len(found), cycles=told)
    else:
        for each in told:
            _print_cycle(each)
    at_import = sum(cycle.at_import for cycle in found)
    lazy = len(found) - at_import
    _tell(f"{plural(at_import, 'cycle')} at import, {lazy:,} through imports in functions; {len(graph.paths):,} files")


def _cycle_as_json(graph: CodeGraph, cycle: Cycle, most: int | None) -> dict[str, Any]:
    steps = zip(cycle.chain, cycle.chain[1:], strict=False)
    return {
        "modules": [graph.paths[node] for node in cycle.modules],
        "at_import": cycle.at_import,
        "imports": cycle.imports,
        "chain": [_step(graph, *step) for step in steps],
        "breaks": [_step(graph, *edge) for edge in cycle.breaks[:most]],
        "breaks_total": len(cycle.breaks),
    }


def _step(graph: CodeGraph, importer: int, imported: int) -> dict[str, Any]:
    """One import between two modules, with its line."""
    references = [each for each in graph.references[importer] if imported in each.modules and each.kind != NAMED]
    spots = sorted((spot for each in references for spot in graph.spots(importer, each)), key=lambda spot: spot[2])
    line, text = _line(graph, importer, spots)
    lazy = all(each.kind == LAZY for each in references)
    step = {"importer": graph.paths[importer], "imported": graph.paths[imported], "in_function": lazy}
    return {**step, "line": line, "text": text}


def _line(graph: CodeGraph, node: int, spots: Sequence[tuple[int, str, str]]) -> tuple[int | None, str]:
    if not spots:
        return None, ""
    lines = graph.source(node).splitlines()
    return spots[0][0], lines[spots[0][0] - 1].decode("utf-8", "replace").strip()


def _print_cycle(cycle: dict[str, Any]) -> None:
    at = "at import" if cycle["at_import"] else "through imports in functions"
    _print(f"{plural(len(cycle['modules']), 'module')}, {at}; a shortest way around:")
    for step in cycle["chain"]:
        _print(f"  {_step_text(step)}")
    breaks = cycle["breaks"]
    _print(f"  broken without {cycle['breaks_total']} of its {plural(cycle['imports'], 'import')}:")
    for step in breaks:
        _print(f"    {_step_text(step)}")
    if len(breaks) < cycle["breaks_total"]:
        _print(f"    … and {cycle['breaks_total'] - len(breaks)} more (--format json tells all)")
    print()


def _step_text(step: dict[str, Any]) -> str:
    arrow = "⇢ (in a function)" if step["in_function"] else "→"
    where = step["importer"] + (f":{step['line']}" if step["line"] else "")
    return f"{where} {arrow} {step['imported']}"


# -- hubs ----------------------------------------------------------------------------------------------------


@command.command("hubs")
@_options()
def hubs(form: str, imports: bool, top: int) -> None:
    """The modules that most test files depend on, directly or not.

    Equal ones are in the order of how many files import them by a statement.
    """
    graph = _read(imports)
    found = code_graph.hubs(graph)
    total = len(graph.tests)
    if form == "json":
        rows = [{"path": graph.paths[node], "tests": tests, "importers": own} for node, tests, own in found[:top]]
        _print_json(tests=total, files=len(graph.paths), imports_only=imports, hubs=rows)
    elif found:
        print("  tests   share  importers  module")
        for node, tests, own in found[:top]:
            _print(f"{tests:7,} {_percent(tests, total):>7}  {own:9,}  {graph.paths[node]}")
    _tell(f"{plural(total, 'test file')}; {len(found):,} of {len(graph.paths):,} files have tests that depend on them")
    level = sum(hub.tests == found[0].tests for hub in found) if found else 0
    if level > max(top, len(found) // 2):
        advice = "" if imports else "; --imports leaves out what strings may name"
        _tell(f"{level:,} of them have the same tests: what they import, or name, ties them together{advice}")


# -- cost ----------------------------------------------------------------------------------------------------


@command.command("cost")
@click.option("--since", metavar="REF", help="Weigh with the commits after REF.")
@click.option(
    "--commits",
    metavar="N",
    type=click.IntRange(min=0),
    help=f"Weigh with the last N commits; 0: each module counts the same.  [default: {RECENT}]",
)
@_options()
def cost(form: str, imports: bool, top: int, since: str | None, commits: int | None) -> None:
    """The imports that cost most test runs: how many each would spare if it were not there.

    A change selects the test files that depend, directly or not, on a module that it edits. What counts is the sum
    over the recent commits, so that a hub which nobody edits costs nothing.
    """
    graph = _read(imports)
    changes, weighed = _changes(graph, since, commits)
    cuts = [(node, each) for node, references in enumerate(graph.references) for each in references if each.only]
    found = edge_cost.cost(graph.edges, [(node, each.only) for node, each in cuts], graph.tests, changes, top)
    rows = [_cut_as_json(graph, *cuts[cut], spared, found.total) for spared, cut in found.ranked]
    if form == "json":
        answer = {"total": found.total, "tried": found.tried, "limit": found.limit, "cuts": rows}
        _print_json(changes=len(changes), weighed=weighed, imports_only=imports, **answer)
    else:
        for row in rows:
            _print_cut(row)
    every = len(changes) * len(graph.tests)
    _tell(f"{weighed}: they select {found.total:,} test files, {_percent(found.total, every)} of all each time")
    if found.limit:
        limit = _percent(found.limit, found.total)
        _tell(f"the best of {found.tried:,} that were tried, of {len(cuts):,}; another may spare up to {limit}")
    else:
        _tell(f"proven: no other of {plural(len(cuts), 'import')} and names spares more by itself")
    if not imports:
        edges = code_graph.read(graph.names.opened, imports_only=True).edges
        alone = reachability.selected(edges, graph.tests, changes)
        _tell(f"without what strings may name: {alone:,}, {_percent(alone, every)}; --imports ranks the imports then")


def _changes(graph: CodeGraph, since: str | None, commits: int | None) -> tuple[list[set[int]], str]:
    """The changes to weigh with, and what they are."""
    same = [{node} for node in range(len(graph.paths))]
    if commits == 0:
        return same, "a change of each module"
    workspace = graph.names.opened.workspace
    start = None
    if since is not None:
        start = workspace.resolve(since)
        if start is None:
            raise no_commit(workspace, "--since: ", since)
    count = commits if commits is not None else -1 if since else RECENT
    changes = code_graph.recent_changes(graph.names.opened.workspace, graph.paths, start, count)
    if changes and (since or commits or len(changes) >= ENOUGH):
        return changes, f"{plural(len(changes), 'recent commit')} that edited modules of today"
    few = f"{plural(len(changes), 'recent commit')} that edited modules are too few to weigh with"
    return same, f"a change of each module ({few})"


def _cut_as_json(graph: CodeGraph, node: int, reference: Reference, spared: int, total: int) -> dict[str, Any]:
    spots = graph.spots(node, reference)
    line, text = _line(graph, node, spots)
    return {
        "spares": spared,
        "share": round(spared / total, 6),
        "importer": graph.paths[node],
        "line": line,
        "text": text,
        "imported": _label([graph.paths[each] for each in reference.modules]),
        "modules": len(reference.modules),
        "kind": reference.kind,
        "advice": _advice(graph, node, reference, spots),
    }


def _label(paths: Sequence[str]) -> str:
    return paths[0] if len(paths) == 1 else f"{os.path.commonpath(paths)}/**".lstrip("/")


def _advice(graph: CodeGraph, node: int, reference: Reference, spots: Sequence[tuple[int, str, str]]) -> str:
    """What could be done about an import, as far as the file itself tells."""
    if reference.kind == NAMED:
        return "a string may name it; if it never does, say so under 'cut' in greenline.yaml"
    statements = {(line, name) for line, name, kind in spots if kind != NAMED}
    return import_advice.advice(
        import_advice.uses(graph.source(node), statements),
        graph.paths[node],
        reference.kind == IMPORT,
        node in graph.tests,
    )


def _print_cut(row: dict[str, Any]) -> None:
    where = row["importer"] + (f":{row['line']}" if row["line"] else "")
    how = {LAZY: ", in a function", NAMED: f", by name ({plural(row['modules'], 'module')})"}.get(row["kind"], "")
    _print(f"{100 * row['share']:6.2f} %  {where} → {row['imported']}{how}")
    for line in (row["text"], row["advice"]):
        if line:
            _print(f"          {line}")


# -- export --------------------------------------------------------------------------------------------------


@command.command("export")
@click.argument("targets", nargs=-1, metavar="[PATH_OR_GLOB]…")
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "dot", "graphml"]),
    default="json",
    show_default=True,
    help="json: networkx's node-link data; dot: Graphviz; graphml: networkx, Gephi, yEd.",
)
@click.option("--depth", metavar="N", type=click.IntRange(min=1), help="Join what lies below N folders to one node.")
@click.option("-o", "--output", metavar="FILE", help="Write there instead of standard output.")
@_imports
def export(targets: tuple[str, ...], form: str, depth: int | None, output: str | None, imports: bool) -> None:
    """Write the graph for other tools, whole or between the modules that PATH_OR_GLOB names.

    An edge leads from who depends to what it depends on. Its kind: import, lazy (in a function), named (in a string),
    package (around a file, or on the way to a module), conftest (pytest applies it), other.
    """
    graph = code_graph.to_networkx(_read(imports))
    if targets:
        matches = matcher(globs_of(target.removeprefix("./").rstrip("/") for target in targets))
        graph.remove_nodes_from([path for path in graph if not matches(path)])
        if not graph:
            raise GreenlineError(
                f"no Python file here matches {' '.join(targets)}",
                "give paths relative to the repository's root, globs ('**/api/*.py') or dotted modules",
            )
    if depth:
        graph = _fold(graph, depth)
    text = {"json": _as_json, "dot": _as_dot, "graphml": _as_graphml}[form](graph)
    if output is None:
        sys.stdout.write(text)
    else:
        try:
            with open(output, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
        except OSError as error:
            raise GreenlineError(f"-o: {output} cannot be written: {error.strerror}") from None
    _tell(f"{plural(len(graph), 'node')}, {plural(graph.size(), 'edge')}")


def _fold(graph: networkx.DiGraph[str], depth: int) -> networkx.DiGraph[str]:
    """What lies below ``depth`` folders as one node. Edges count who names whom (``imports``); those of place go."""
    import networkx

    folded = networkx.DiGraph()
    name = {path: "/".join(path.split("/")[:depth]) for path in graph}
    folded.add_nodes_from(sorted(set(name.values())))
    named: Counter[tuple[str, str]] = Counter()
    for one, two, kind in graph.edges.data("kind"):
        if name[one] != name[two] and kind in (IMPORT, LAZY, NAMED):
            named[name[one], name[two]] += 1
    folded.add_edges_from((*edge, {"imports": count}) for edge, count in sorted(named.items()))
    return folded


def _as_json(graph: networkx.DiGraph[str]) -> str:
    nodes = [{"id": node, **attributes} for node, attributes in graph.nodes.items()]
    edges = [{"source": one, "target": two, **attributes} for one, two, attributes in graph.edges.data()]
    whole = {"directed": True, "multigraph": False, "graph": {"version": 1}, "nodes": nodes, "edges": edges}
    return json.dumps(whole, indent=1) + "\n"


_STYLES = {LAZY: "style=dashed", NAMED: "style=dotted", PACKAGE: "color=gray", CONFTEST: "color=gray"}


def _as_dot(graph: networkx.DiGraph[str]) -> str:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    lines = ["digraph {", "  rankdir=LR;", "  node [shape=box];"]
    for node, attributes in graph.nodes.items():
        lines.append(f"  {quoted(node)}" + (" [style=filled];" if attributes.get("test") else ";"))
    for one, two, attributes in graph.edges.data():
        style = _STYLES.get(attributes.get("kind", ""), "")
        if "imports" in attributes:
            style = f"label={attributes['imports']}"
        lines.append(f"  {quoted(one)} -> {quoted(two)}" + (f" [{style}];" if style else ";"))
    return "\n".join([*lines, "}", ""])


def _as_graphml(graph: networkx.DiGraph[str]) -> str:
    import networkx

    def valid(path: str) -> str:
        """XML holds neither lone surrogates nor control characters."""
        text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        return re.sub(r"[\x00-\x1f]", lambda match: f"\\x{ord(match[0]):02x}", text)

    return "\n".join(networkx.generate_graphml(networkx.relabel_nodes(graph, valid))) + "\n"


# -- words ---------------------------------------------------------------------------------------------------


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "0 %"
