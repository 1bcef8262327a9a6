"""The shard plan of an answer of `affected`, with what the store knows of its tests."""

from __future__ import annotations

import os

from greenline.ci.affected import Answer
from greenline.ci.sharding.durations import Known, by_file
from greenline.ci.sharding.history import known_tests
from greenline.ci.sharding.needs import seconds_of
from greenline.ci.sharding.plan import Wanted, make_plan
from greenline.ci.sharding.plan_file import Plan
from greenline.ci.sharding.selected import expand, from_answer
from greenline.ci.sharding.settings import settings_of
from greenline.ci.sharding.units import make_units
from greenline.ci.store import NoStore, open_store
from greenline.depgraph.config import Config
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.workspace import Workspace


def plan_of(workspace: Workspace, config: Config, answer: Answer, target: str | None) -> Plan:
    """A plan that ends within ``target`` ("10m"), by default that of greenline.yaml. Raises GreenlineError."""
    settings = settings_of(config)
    try:
        seconds = settings.target if target is None else seconds_of(target)
    except ValueError as error:
        raise GreenlineError(f"--target: {error}", "such as --target 10m") from None
    if not seconds or seconds < 0:
        raise GreenlineError("how fast must the tests end?", "--target 10m, or sharding.target in greenline.yaml")
    selected = from_answer(answer)
    known = history(workspace, config)
    expanded = expand(selected, by_file(known.seconds))

    def source(path: str) -> bytes | None:
        return workspace.read(os.path.normpath(path))

    made = make_units(expanded.tests, known, settings.rules, source, settings.share_gpus)
    warnings = [*selected.warnings, *known.warnings, *made.warnings]
    plan = make_plan(
        made.units, Wanted(target=seconds), settings.pools, settings.file_cost, expanded.owned, None, warnings
    )
    head = workspace.resolve("HEAD")
    return plan._replace(commit=head, base=selected.base, variant="", suites=dict(selected.suites))


def history(workspace: Workspace, config: Config) -> Known:
    """What the store knows of tests; nothing, with a warning, when it is off or cannot be reached."""
    try:
        store = open_store(workspace, config)
    except NoStore as error:
        return Known({}, {}, {}, {}, {}, (f"no durations: {error.message}",))
    return known_tests(store, "", settings_of(config).quantile)


def file_durations(workspace: Workspace, config: Config) -> dict[str, float]:
    """Test file → seconds of its tests, as far as the store knows."""
    known = history(workspace, config).seconds
    return {file: sum(known[test] for test in tests) for file, tests in by_file(known).items()}
