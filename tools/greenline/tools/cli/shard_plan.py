"""``greenline shard plan``: which runners of which pools, what each runs, the cost, and what blocks a shorter one."""

from __future__ import annotations

import functools
import gc
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import click

from greenline.ci.sharding.durations import Known, by_file, read_durations
from greenline.ci.sharding.needs import file_of, seconds_of
from greenline.ci.sharding.plan import Wanted, make_plan
from greenline.ci.sharding.plan_file import Plan, Pool, dumps
from greenline.ci.sharding.plan_file import read as read_plan
from greenline.ci.sharding.selected import expand, from_answer, read_selected
from greenline.ci.sharding.settings import Settings, settings_of
from greenline.ci.sharding.units import make_units
from greenline.depgraph.config import Config, load
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.wording import plural
from greenline.depgraph.workspace import NotARepository, Workspace, find, root_of
from greenline.tools.cli.options import Progress, change_options, request_of, tell

INFEASIBLE = 3
MOST_SHARDS = 10_000


def without_collector(function: Callable[..., int]) -> Callable[..., int]:
    """Many small objects and no cycles: looking for these would take a third of the time."""

    @functools.wraps(function)
    def call(*args: object, **kwargs: object) -> int:
        gc.disable()
        try:
            return function(*args, **kwargs)
        finally:
            gc.enable()

    return call


@click.command("plan")
@click.option(
    "--tests",
    "tests",
    metavar="FILE",
    help="What to plan: a test id or file a line, or the JSON of greenline affected; - is standard input."
    " Without it: what greenline affected answers.",
)
@click.option(
    "--durations",
    metavar="FILE",
    multiple=True,
    help="Durations: .test_durations, JUnit XML, a result stream, JSON. Without it: the history in the store.",
)
@click.option("--shards", metavar="K", help="Plan for at most so many runners.")
@click.option("--target", metavar="TIME", help="Plan for an end after this time, such as 10m, at least cost.")
@click.option("--variant", metavar="NAME", help="Take the durations of this variant.")
@click.option("--previous", metavar="FILE", help="Stay close to this plan: move few tests.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--output", metavar="FILE", help="Write the plan (JSON) into FILE as well.")
@click.option("--svg", metavar="FILE", help="Draw the plan into FILE.")
@click.option("--strict", is_flag=True, help="Exit 3 when no plan meets the target.")
@click.argument("more", nargs=-1, metavar="[FILE…]")
@change_options
@without_collector
def command(
    more: tuple[str, ...],
    tests: str | None,
    durations: tuple[str, ...],
    shards: str | None,
    target: str | None,
    variant: str | None,
    previous: str | None,
    form: str,
    output: str | None,
    svg: str | None,
    strict: bool,
    base: str | None,
    base_exact: str | None,
    head: str | None,
    suite: str | None,
) -> int:
    """Put tests on runners, so that the last one ends early, or by a target at least cost.

    Works anywhere: with --tests and --durations it needs no repository. FILE…: more durations.
    """
    if more and not durations:
        raise GreenlineError(f"what is {more[0]!r} for?", "durations come as --durations FILE, tests as --tests FILE")
    durations += more
    start = time.monotonic()
    workspace = _workspace()
    root = workspace.root if workspace else root_of(None)
    config = load(root, workspace.cache if workspace else None)
    settings = settings_of(config)
    wanted = _wanted(shards, target, settings)
    if tests is not None:
        selected = read_selected(_bytes_of(tests), "standard input" if tests == "-" else tests)
        if suite is not None:
            selected = selected._replace(items=tuple(item for item in selected.items if item[1] in ("", suite)))
    else:
        from greenline.ci.affected import affected

        answer = affected(request=request_of(base, base_exact, head, suite, reasons=False), progress=Progress())
        tell(answer._replace(warnings=[]), time.monotonic() - start)  # the plan has them
        selected = from_answer(answer)
    if durations:
        known, pools = read_durations(durations, variant), settings.pools
    else:
        known, pools = _history(workspace, config, settings, variant)
    warnings = [*selected.warnings, *known.warnings]
    expanded = expand(selected, by_file(known.seconds))
    made = make_units(expanded.tests, known, settings.rules, _reader(selected.root or root), settings.share_gpus)
    plan = make_plan(
        made.units,
        wanted,
        pools,
        settings.file_cost,
        expanded.owned,
        read_plan(previous) if previous else None,
        [*warnings, *made.warnings],
    )
    plan = plan._replace(
        commit=workspace.resolve("HEAD") if workspace else None,
        base=selected.base,
        variant=variant or "",
        suites=dict(selected.suites),
    )
    _answer(plan, form, output, svg)
    return INFEASIBLE if strict and not plan.feasible else 0


def _workspace() -> Workspace | None:
    try:
        return find()
    except NotARepository:
        return None


def _wanted(shards: str | None, target: str | None, settings: Settings) -> Wanted:
    if shards is not None and target is not None:
        raise GreenlineError("--shards and --target together say two things", "give one of them")
    if shards is not None:
        if not shards.isdecimal() or not 1 <= int(shards) <= MOST_SHARDS:
            raise GreenlineError(f"--shards {shards}: not a number of shards", f"give one from 1 to {MOST_SHARDS}")
        return Wanted(shards=int(shards))
    if target is None:
        if settings.target is None:
            raise GreenlineError(
                "how many runners, or how fast?", "--shards K, --target 10m, or sharding.target in greenline.yaml"
            )
        return Wanted(target=settings.target)
    try:
        seconds = seconds_of(target)
    except ValueError as error:
        raise GreenlineError(f"--target: {error}", "such as --target 10m") from None
    if not 0 < seconds < math.inf:
        raise GreenlineError(f"--target {target}: nothing ends that fast", "such as --target 10m")
    return Wanted(target=seconds)


def _bytes_of(path: str) -> bytes:
    try:
        if path == "-":
            return sys.stdin.buffer.read()
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise GreenlineError(f"{path}: the tests cannot be read: {error.strerror}") from None


CAREFUL = 0.9
"""Quantile of durations from which on waits, too, are planned with their 95th percentile."""


class _Memory(NamedTuple):
    """What the store knows: of tests, and the pools with the waits that were measured."""

    known: Known
    pools: tuple[Pool, ...]


def _history(workspace: Workspace | None, config: Config, settings: Settings, variant: str | None) -> _Memory:
    """Nothing outside a repository, or when the store is off."""
    memory = _Memory(Known({}, {}, {}, {}, {}), settings.pools)
    if workspace is None:
        return memory
    from greenline.ci.sharding.history import known_tests, waits
    from greenline.ci.store import NoStore, open_store

    try:
        store = open_store(workspace, config)
    except NoStore as error:
        warnings = (f"no durations: {error.message}",)
        return memory._replace(known=memory.known._replace(warnings=warnings))
    measured = waits(store)
    careful = settings.quantile >= CAREFUL
    pools = []
    for pool in settings.pools:
        wait = measured.get(pool.name)
        if wait is not None and not pool.wait:  # what greenline.yaml says has the last word
            queue, startup = (wait.queue_p95, wait.startup_p95) if careful else (wait.queue, wait.startup)
            pool = pool._replace(queue=queue, startup=startup)
        pools.append(pool)
    return _Memory(known_tests(store, variant or "", settings.quantile), tuple(pools))


def _reader(root: str) -> Callable[[str], bytes | None]:
    def read(path: str) -> bytes | None:
        try:
            with open(os.path.join(root, path), "rb") as file:
                return file.read()
        except (OSError, ValueError):
            return None

    return read


def _answer(plan: Plan, form: str, output: str | None, svg: str | None) -> None:
    if output:
        from greenline.ci.sharding.plan_file import write

        write(plan, output)
    if svg:
        from greenline.tools.report.plan_picture import draw

        try:
            with open(svg, "w", encoding="utf-8") as file:
                file.write(draw(plan))
        except OSError as error:
            raise GreenlineError(f"{svg}: the picture cannot be written: {error.strerror}") from None
    if form == "json":
        print(dumps(plan))
    else:
        from greenline.tools.report.plan_text import lines

        print("\n".join(lines(plan)))
    sys.stdout.flush()
    for line in _talk(plan):
        print(line, file=sys.stderr)


def _talk(plan: Plan) -> Sequence[str]:
    tests = sum(len(shard.tests) for shard in plan.shards)
    files = len({file_of(test) for shard in plan.shards for test in shard.tests})
    told = [
        f"{plural(tests, 'test')} of {plural(files, 'file')} on {plural(len(plan.shards), 'runner')};"
        f" {plan.makespan:.1f} s, {plan.ratios.declared:.3f} x the bound"
        f" ({plan.ratios.tests:.3f} x with single tests); cost {plan.cost:.4g}"
    ]
    if not plan.feasible:
        told.append(f"no plan meets the target of {plan.target:g} s:")
        told += [f"  {each.seconds:.1f} s: {each.tests[0]} ({each.why})" for each in plan.blocking[:5]]
    return told + [f"warning: {warning}" for warning in plan.warnings]
