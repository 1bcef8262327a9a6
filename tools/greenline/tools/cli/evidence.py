"""``greenline evidence``: what is kept, and the way from one machine to another."""

from __future__ import annotations

import json
import sys
import time

import click
from sqlalchemy import Engine

from greenline.ci.evidence import exchange
from greenline.ci.store import may_write, open_store
from greenline.depgraph import config as configuration
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.wording import plural
from greenline.depgraph.workspace import find


@click.group("evidence")
def command() -> None:
    """Look at the evidence in the store, and carry it from one machine to another as one file."""


@command.command("status")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def status(form: str) -> None:
    """Tell what is kept of each suite, under each variant."""
    found = exchange.status(_store(False))
    if form == "json":
        print(json.dumps({"version": 1, "suites": [each._asdict() for each in found]}, indent=1))
        return
    for each in found:
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(each.updated))
        print(f"suite {each.suite}, {each.variant}: {plural(each.tests, 'test')} in {plural(each.files, 'file')}")
        print(f"  {plural(each.records, 'record')}, {plural(each.facts, 'fact')}, {each.size / 1e6:,.1f} MB")
        print(f"  holds at {each.commit[:12]}, recorded {when}")
    if not found:
        print("there is no evidence; record some: greenline record")


@command.command("export")
@click.argument("file", type=click.Path(dir_okay=False))
def export(file: str) -> None:
    """Write all evidence into FILE."""
    count = exchange.export(_store(False), file)
    print(f"greenline: evidence of {plural(count, 'suite')} (each variant counts) is in {file}", file=sys.stderr)


@command.command("import")
@click.argument("file", type=click.Path(dir_okay=False))
def import_(file: str) -> None:
    """Take over the evidence in FILE, where it is newer than what is here."""
    taken, left = exchange.load(_store(True), file)
    print(
        f"greenline: took evidence of {plural(taken, 'suite')} (each variant counts), left {left} that are not newer",
        file=sys.stderr,
    )


def _store(write: bool) -> Engine:
    workspace = find()
    config = configuration.load(workspace.root, workspace.cache)
    if write and not may_write(workspace, config):
        raise GreenlineError("this run may not write into the store", "see store.writers in greenline.yaml")
    return open_store(workspace, config)
