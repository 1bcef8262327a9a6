"""``greenline check``: what breaks the rules of greenline.yaml."""

from __future__ import annotations

import sys

import click

from greenline.ci.environment import find_base
from greenline.depgraph.config import Config, load
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.index import open_change
from greenline.depgraph.wording import plural
from greenline.depgraph.workspace import GitError, Workspace, find
from greenline.rules import baseline
from greenline.rules.check import Checked, check
from greenline.rules.findings import Report, Section
from greenline.rules.settings import Rules, read
from greenline.tools.cli.options import Progress
from greenline.tools.cli.reports import day_of, format_option, show, today_option


@click.command("check")
@click.option("--base", metavar="REF", help="Tell only what the merge base of REF and HEAD does not break.")
@format_option
@today_option
@click.option(
    "--update-baseline", is_flag=True, help="Take out of the baseline what is mended. It never grows by this."
)
@click.option("--accept-new", is_flag=True, help="Take what is found into the baseline, with --reason.")
@click.option("--reason", metavar="TEXT", help="Why it is accepted.")
def command(
    base: str | None, form: str, today: str | None, update_baseline: bool, accept_new: bool, reason: str | None
) -> int:
    """Check the work tree against the rules of greenline.yaml.

    Exit code 1 when something breaks a rule that is neither ignored nor in the baseline, .greenline/baseline.json.
    """
    if accept_new and not (reason and reason.strip()):
        raise GreenlineError("--accept-new needs a reason", "say who mends it when: --accept-new --reason TEXT")
    if reason and not accept_new:
        raise GreenlineError("--reason is for --accept-new", "add it, or leave --reason out")
    if base is not None and (update_baseline or accept_new):
        raise GreenlineError("the baseline is about the whole repository", "leave out --base")
    day = day_of(today)
    workspace = find()
    config = load(workspace.root, workspace.cache)
    rules = read(config)
    start, how = _base(workspace, config, base)
    opened = open_change(workspace, config, start, None, Progress())
    entries = baseline.parse(opened.read_head(baseline.FILE))
    found = check(opened, rules, entries, day, new_only=base is not None)
    if accept_new or update_baseline:
        return _write(workspace, found, entries, reason or "", str(day), accept_new)
    notes = [*opened.warnings]
    if base is None and len(found.needed) < len(entries):
        gone = len(entries) - len(found.needed)
        notes.append(
            f"mended of the baseline's {plural(len(entries), 'finding')}: {gone}; greenline check --update-baseline"
        )
    return show(Report((_section(found, rules, notes),), str(day), start if base else "", how), form)


def _base(workspace: Workspace, config: Config, ref: str | None) -> tuple[str, str]:
    if ref is None:
        head = workspace.resolve("HEAD")
        if head is None:
            raise GitError("the repository has no commit yet", "commit something first")
        return head, ""
    found = find_base(workspace, config.base, ref)
    if found.commit is None:
        raise GreenlineError(found.how, found.hint)
    return found.commit, found.how


def _section(found: Checked, rules: Rules, notes: list[str]) -> Section:
    count = len(rules.contracts) + len(rules.purposes)
    summary = f"{count} rule{'s' * (count != 1)}" if count else "greenline.yaml has no rules"
    return Section("rules", tuple(found.findings), summary, True, tuple(notes), len(found.suppressed), len(found.known))


def _write(
    workspace: Workspace, found: Checked, entries: tuple[baseline.Entry, ...], reason: str, today: str, grow: bool
) -> int:
    new = [baseline.entry_of(each, reason, today) for each in found.findings if grow and not each.warning]
    kept = found.needed + new
    baseline.write(workspace.root, kept)
    gone = len(entries) - len(found.needed)
    print(f"{baseline.FILE}: {len(new)} accepted, {gone} mended, {len(kept)} left; as of {today}", file=sys.stderr)
    if not workspace.git("ls-files", "--cached", "--others", "--exclude-standard", "--", baseline.FILE):
        print(f"warning: git ignores {baseline.FILE}: git add --force it, so that others have it", file=sys.stderr)
    left = [each for each in found.findings if not each.warning]
    if left and not grow:
        print(f"{len(left)} new findings are not in it; see greenline check", file=sys.stderr)
    return 0 if grow or not left else 1
