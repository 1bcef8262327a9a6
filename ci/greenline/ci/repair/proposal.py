"""What a proposal says: why main broke, how that is known, what the change does, what was verified and what was not.

One text serves the Markdown file on the branch, the commit message and a pull request. Everything in it that came from
commits or tests is scrubbed and fenced.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import NamedTuple

from greenline.ci.breakage.investigate import Breakage
from greenline.ci.repair.candidates import STILL_RED, Judged
from greenline.ci.repair.fixing import BOT, Cause
from greenline.ci.repair.scrub import scrub
from greenline.depgraph.globs import matcher
from greenline.depgraph.workspace import Workspace

_MOST_TESTS = 20
_MOST_RED = 5
_EXCERPT = 2500


class Proposal(NamedTuple):
    """What is to be proposed. ``judged``: all candidates, the chosen one first; ``secrets``: values to scrub;
    ``owners``: who owns the changed files; ``revert``: the command that takes the culprit back instead."""

    breakage: Breakage
    cause: Cause
    judged: tuple[Judged, ...]
    secrets: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    revert: tuple[str, ...] = ()
    opt_out: str = ""

    @property
    def chosen(self) -> Judged:
        return self.judged[0]


def title(proposal: Proposal) -> str:
    """One line: what is done, and about what."""
    maker = proposal.chosen.candidate.maker
    verb = {"fix": "Repair", "agent": "Repair", "revert": "Revert"}[maker]
    what = _culprit_title(proposal) if maker == "revert" else proposal.cause.sentence or _first_test(proposal)
    return _one_line(scrub(f"{verb}: {what}", proposal.secrets), 100)


def commit_message(proposal: Proposal) -> str:
    tests = "\n".join(f"    {test}" for test in proposal.breakage.tests[:_MOST_TESTS])
    return (
        f"{title(proposal)}\n\nThese tests fail at {proposal.breakage.bad[:12]} and pass with this change:\n\n"
        f"{tests}\n\nEvidence: {path_of(proposal.breakage.fingerprint)}\n\n{BOT} {proposal.breakage.fingerprint}\n"
    )


def path_of(fingerprint: str) -> str:
    """The file on the branch that says what a pull request would."""
    return f".greenline/repair/{fingerprint}.md"


def body(proposal: Proposal) -> str:
    """The whole text, as Markdown."""
    breakage, chosen = proposal.breakage, proposal.chosen
    flags = _flags(chosen.flags)
    parts = [
        f"# {title(proposal)}",
        _cause_line(proposal),
        *(["**Draft: a person must look at this before it is merged:**\n\n" + "\n".join(flags)] if flags else []),
        "## What broke",
        _table(proposal),
        "Failing tests:\n\n"
        + "\n".join(f"- `{test}`" for test in breakage.tests[:_MOST_TESTS])
        + _more(breakage.tests),
        _fenced(scrub(breakage.failures[0].excerpt, proposal.secrets, _EXCERPT)),
        "To reproduce it:\n\n" + _fenced(shlex.join(reproduce(breakage)), "sh"),
        "## The change",
        _change(proposal),
        "## What was verified",
        _verified(chosen),
        "## Other candidates",
        "\n".join(map(_other, proposal.judged[1:])) or "None.",
        "## This proposal",
        f"- Made by Greenline {version('greenline')}, `{chosen.candidate.name}`; failure `{breakage.fingerprint}`.\n"
        + "- Greenline never merges it, and never pushes to another branch than this one.\n"
        + (f"- Owners of the changed files: {' '.join(proposal.owners)}\n" if proposal.owners else "")
        + f"- To have no more of these: {proposal.opt_out}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def reproduce(breakage: Breakage) -> tuple[str, ...]:
    """The command that shows the failure in a checkout of the bad commit."""
    return ("python", "-m", "pytest", *breakage.tests[:_MOST_TESTS])


def owners(workspace: Workspace, commit: str, paths: Sequence[str]) -> tuple[str, ...]:
    """Who owns these files, by the first CODEOWNERS file of a commit; in each, the last pattern that fits decides."""
    places = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS", ".gitlab/CODEOWNERS")
    data = next((blob for blob in workspace.read_blobs([f"{commit}:{place}" for place in places]) if blob), b"")
    rules = []
    for line in data.decode("utf-8", "replace").splitlines():
        words = line.partition("#")[0].split()
        if words and not words[0].startswith("["):
            rules.append((matcher(_globs(words[0])), words[1:]))
    found: list[str] = []
    for path in paths:
        found += next((names for fits, names in reversed(rules) if fits(path)), [])
    return tuple(sorted(set(found)))


def _globs(pattern: str) -> list[str]:
    """A pattern of CODEOWNERS (as of .gitignore) as globs of Greenline."""
    anchored = "/" in pattern.rstrip("/")
    bare = pattern.strip("/")
    glob = bare if anchored else f"**/{bare}"
    return [f"{glob}/**"] if pattern.endswith("/") else [glob, f"{glob}/**"]


# -- parts ---------------------------------------------------------------------------------------------------


def _cause_line(proposal: Proposal) -> str:
    breakage = proposal.breakage
    sentence = scrub(proposal.cause.sentence, proposal.secrets)
    lines = [f"{_inline(sentence)}." if sentence else ""]
    if breakage.culprit:
        suspect, certainty = breakage.culprit
        lines.append(
            f"Main broke with {suspect.commit[:12]} ({_plain(suspect.title, proposal)}), {certainty:.1%} sure."
        )
    if len(proposal.cause.commits) > 1:
        sides = [f"{commit[:12]} ({_plain(name, proposal)})" for commit, name in proposal.cause.commits]
        lines.append(f"Each is green alone: {' and '.join(sides)}.")
    return " ".join(filter(None, lines))


def _table(proposal: Proposal) -> str:
    breakage = proposal.breakage
    good_fails, good_runs = breakage.counts.good
    rows = [
        ("first bad", breakage.culprit.suspect.commit[:12] if breakage.culprit else "not known"),
        ("broken head", f"{breakage.bad[:12]}: failed {breakage.counts.bad[0]} of {breakage.counts.bad[1]} runs"),
        (
            "last good",
            f"{(breakage.good or 'not known')[:12]}: failed {good_fails} of {good_runs} runs",
        ),
        ("runs of the search", str(breakage.runs)),
    ]
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)])


def _change(proposal: Proposal) -> str:
    candidate = proposal.chosen.candidate
    notes = scrub(candidate.notes, proposal.secrets, 600)
    lines = [f"`{candidate.name}`" + (f": {_inline(notes)}" if notes else "")]
    if candidate.maker == "revert":
        lines.append("Nothing smaller could be verified, so the culprit is taken back; its author can land it again.")
    elif proposal.revert:
        lines.append("It keeps what both sides wanted. To take the culprit back instead:")
        lines.append(_fenced(shlex.join(proposal.revert), "sh"))
    return "\n\n".join(lines)


def _verified(judged: Judged) -> str:
    lines = [
        f"- In a clean clone, tree `{judged.tree}` (this branch is that tree and this file).",
        f"- The failing tests ran and passed twice; with every test that the change since the last good commit can"
        f" affect: {judged.passed} passed, {judged.failed} failed.",
    ]
    lines += [f"- Not run, or not known: {item}" for item in judged.not_run]
    lines.append("- Tests that this change cannot affect were not run.")
    return "\n".join(lines)


def _other(judged: Judged) -> str:
    verdict = "; ".join(judged.refused) if judged.refused else "passed as well, but ranked lower"
    return f"- `{judged.candidate.name}`: {_inline(verdict)}"


def _culprit_title(proposal: Proposal) -> str:
    culprit = proposal.breakage.culprit
    return culprit.suspect.title if culprit else _first_test(proposal)


def _first_test(proposal: Proposal) -> str:
    return proposal.breakage.tests[0]


def _plain(text: str, proposal: Proposal) -> str:
    return _inline(scrub(text, proposal.secrets, 200))


def _inline(text: str) -> str:
    """Text of others in a line of Markdown: nothing in it is a link, a mention or markup."""
    return "`" + _one_line(text, 600).replace("`", "'") + "`"


def _one_line(text: str, limit: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _fenced(text: str, kind: str = "text") -> str:
    """A block that the text cannot end: its fence is longer than any in it."""
    longest = max((len(match) for match in re.findall(r"`+", text)), default=2)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{kind}\n{text.rstrip()}\n{fence}"


def _flags(flags: Sequence[str]) -> list[str]:
    """A line for each flag; of many tests that are red for another reason the first few and their number."""
    red = [flag for flag in flags if flag.startswith(STILL_RED)]
    lines = [flag for flag in flags if flag not in red] + red[:_MOST_RED]
    return [f"- {line}" for line in lines] + [f"- {STILL_RED}: {len(red) - _MOST_RED} more"] * (len(red) > _MOST_RED)


def _more(tests: Sequence[str]) -> str:
    return f"\n- … and {len(tests) - _MOST_TESTS} more" if len(tests) > _MOST_TESTS else ""


def as_json(judged: Judged) -> Mapping[str, object]:
    candidate = judged.candidate
    return {
        "name": candidate.name,
        "notes": candidate.notes,
        "seconds": round(candidate.seconds, 2),
        "cost": candidate.cost,
        "bytes": len(candidate.diff),
        "refused": list(judged.refused),
        "flags": list(judged.flags),
        "passed": judged.passed,
        "failed": judged.failed,
        "not_run": list(judged.not_run),
        "tree": judged.tree,
    }
