"""``greenline why``: the chain that ties a test to the change, or one module to another; or a test to its shard."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from greenline.ci.affected import Change, Request, change_of, seen_imports, select_static
from greenline.ci.evidence.place import place
from greenline.ci.selection.select import Selection
from greenline.depgraph.config import Config
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.explain import explain_edge, find_node
from greenline.depgraph.graph import Graph
from greenline.depgraph.index import Opened
from greenline.depgraph.wording import plural
from greenline.tools.cli.options import Progress, change_options, readings, request_of

if TYPE_CHECKING:
    from greenline.ci.evidence.sharpen import Verdict


@click.command("why")
@click.argument("what", metavar="TEST_OR_MODULE")
@click.argument("other", metavar="[OTHER]", required=False)
@click.option("--plan", "plan_path", metavar="FILE", help="Why this plan runs the test where it does.")
@change_options
def command(
    what: str,
    other: str | None,
    plan_path: str | None,
    base: str | None,
    base_exact: str | None,
    head: str | None,
    suite: str | None,
) -> int:
    """Show why a test is affected by the change, or how one module depends on another.

    TEST_OR_MODULE and OTHER are paths, pytest's ids or dotted module names. Paths are relative to the current folder,
    or to the repository's root.
    """
    if plan_path is not None:
        from greenline.ci.sharding import placed, plan_file

        first, *more = placed.why_placed(plan_file.read(plan_path), what)
        click.echo("\n  ".join([first, *more]))
        return 0
    request = request_of(base, base_exact, head, suite, reasons=True)
    if other is None:
        _why_affected(what, request)
    else:
        _why_depends(what, other, request)
    return 0


def _why_affected(what: str, request: Request) -> None:
    change = change_of(request=request, progress=Progress())
    if change.opened is None:
        if change.workspace.resolve("HEAD"):
            opened = _opened(change_of(request=request._replace(base="HEAD", base_exact=False), progress=Progress()))
            _refuse_unseen(opened, opened.graph.path(_node(opened, what)), what)
        click.echo(f"every test is selected: {change.how}")
        return
    opened = change.opened
    node = _node(opened, what)
    path = opened.graph.path(node)
    found = _evidence(opened, change.config, path, what.partition("::")[2])
    if not found:
        _refuse_unseen(opened, path, what)
    if _tell_evidence(path, found):
        return
    selection = select_static(opened, change.config)
    chosen = next((test for test in selection.tests if test.path == path), None)
    if selection.everything:
        click.echo(f"every test is selected: {selection.everything}")
    elif chosen is not None and chosen.node_ids is not None:
        click.echo(f"{path}: affected, these tests of it: {', '.join(chosen.node_ids)}")
        click.echo(f"  {chosen.reason}")
    elif chosen is None and node not in selection.through:
        click.echo(f"{path} is not affected by the change (base {opened.base[:7]}, {change.how})")
        near = _changed_paths(opened)
        click.echo(f"  it does not depend on any of the {len(near)} changed files" if near else "  nothing changed")
    else:
        _print_chain(opened, selection, node, chosen.reason if chosen else "")


def _evidence(opened: Opened, config: Config, path: str, name: str) -> list[Verdict]:
    """What evidence says of the tests, if there is any."""
    if not place(opened.workspace, config):
        return []
    from greenline.ci.evidence.sharpen import verdicts

    return verdicts(opened, config, path, name)


def _refuse_unseen(opened: Opened, path: str, what: str) -> None:
    """Refuse a test that its file does not name, unless a base class or a starred import may bring it."""
    import ast

    from greenline.depgraph.embedded import python_of

    source = python_of(path, opened.read_head(path) or b"")
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return
    if any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in nodes):
        return
    heirs = {node.name for node in nodes if isinstance(node, ast.ClassDef) and node.bases}
    for name in filter(None, what.partition("::")[2].partition("[")[0].split("::")):
        if not re.search(rf"\b{re.escape(name)}\b".encode(), source):
            raise GreenlineError(
                f"{path}: nothing named {name!r} is seen in this file",
                f"if it is made when tests are collected, ask for the file: greenline why {path}",
            )
        if name in heirs:
            return


def _tell_evidence(path: str, found: list[Verdict]) -> bool:
    """Print what evidence says of the tests; True when it decides about all of them."""
    for test, is_affected, why in found:
        if is_affected:
            click.echo(f"{path}::{test}\n  {why}")
    unknown = [each for each in found if each.affected is None]
    spared = sum(each.affected is False for each in found)
    if spared:
        what = (
            f"{plural(spared, 'test')} of {path} {'is' if spared == 1 else 'are'}"
            if len(found) > 1
            else f"{path}::{found[0].name} is"
        )
        click.echo(f"{what} not affected: seen to run nothing that the change reaches")
    for test, _, why in unknown:
        click.echo(f"{path}::{test}: no record of it holds ({why}), so imports decide:")
    return bool(found) and not unknown


def _print_chain(opened: Opened, selection: Selection, node: int, reason: str) -> None:
    graph, through = opened.graph, selection.through
    if node not in through:
        click.echo(f"{graph.path(node)}: affected\n  {reason}")
        return
    while through[node] != node:
        _print_step(opened, node, through[node])
        node = through[node]
    click.echo(f"{graph.path(node)}\n  {selection.seeds[node]}")


def _print_step(opened: Opened, importer: int, imported: int) -> None:
    step = explain_edge(opened.graph, importer, imported, opened.read_head)
    where = f"{step.importer}:{step.line}: {step.text}" if step.line else ""
    click.echo(f"{step.importer}\n  depends on {step.imported}: {step.how}" + (f"\n    {where}" if where else ""))


def _why_depends(what: str, other: str, request: Request) -> None:
    """The shortest chain of dependencies between two modules, whichever way it runs."""
    change = change_of(request=request._replace(base=request.base or "HEAD"), progress=Progress())
    opened = _opened(change)
    graph = opened.graph
    first, second = _node(opened, what), _node(opened, other)
    seen = [(graph.node(importer), graph.node(imported)) for importer, imported in seen_imports(opened, change.config)]
    for start, end in ((first, second), (second, first)):
        through = graph.chains([end])
        by_evidence = _extend(graph, through, [edge for edge in seen if min(edge) >= 0])
        if start in through:
            while through[start] != start:
                if start in by_evidence:
                    click.echo(f"{graph.path(start)}\n  was seen to import {graph.path(through[start])} as it ran")
                else:
                    _print_step(opened, start, through[start])
                start = through[start]
            click.echo(graph.path(end))
            return
    click.echo(f"{graph.path(first)} and {graph.path(second)} do not depend on each other")


def _extend(graph: Graph, through: dict[int, int], seen: list[tuple[int, int]]) -> set[int]:
    """Let chains also lead over imports that only evidence shows; the nodes whose next step is one of these."""
    by_evidence: set[int] = set()
    while met := {one: other for one, other in seen if other in through and one not in through}:
        by_evidence |= met.keys()
        through |= {node: step for node, step in graph.chains(met).items() if node not in through} | met
    return by_evidence


def _opened(change: Change) -> Opened:
    if change.opened is None:
        raise GreenlineError(f"there is no graph to look at: {change.how}", change.hint)
    return change.opened


def _node(opened: Opened, text: str) -> int:
    for reading in (*readings(opened.workspace.root, text), text):
        node = find_node(opened.graph, reading)
        if node >= 0:
            return node
    raise GreenlineError(
        f"{text!r} is no Python file or module of this repository",
        "give a path relative to here or to the repository's root, a pytest id or a dotted module name",
    )


def _changed_paths(opened: Opened) -> list[str]:
    return [state.path for state in opened.changes]
