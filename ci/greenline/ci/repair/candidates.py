"""What the parts of repair hand to each other: failures in, a brief for agents, candidates, judgements.

Everything here is data. A candidate is a diff and nothing else: whoever made it, trusted code applies, judges and
runs it.
"""

from __future__ import annotations

from typing import NamedTuple

STILL_RED = "still red, for another reason"
"""How a flag begins that names a test which failed before the candidate as well."""


class Failure(NamedTuple):
    """Tests that fail for one reason.

    ``fingerprint``: 16 hex digits, the same for the same failure in later runs and commits; ``tests``: pytest node ids
    relative to the repository, sorted; ``excerpt``: what pytest printed, scrubbed of secrets and bounded; ``kind``:
    one of :data:`greenline.ci.breakage.classify.KINDS` ("break", "flake", …).
    """

    fingerprint: str
    tests: tuple[str, ...]
    excerpt: str
    kind: str


class Brief(NamedTuple):
    """What an agent is told.

    ``good``, ``bad``: commit ids; ``culprit``: the commits that together broke it, None: not known; ``culprit_diff``:
    scrubbed and bounded; ``dependents``: paths of files that depend on what the culprit changed; ``reproduce``: an
    argument list for the root of a checkout.
    """

    good: str
    bad: str
    culprit: tuple[str, ...] | None
    failures: tuple[Failure, ...]
    culprit_diff: str
    dependents: tuple[str, ...]
    reproduce: tuple[str, ...]


class Candidate(NamedTuple):
    """One attempted fix.

    ``name``: "fix:renamed", "agent:codex#2", "revert"; ``diff``: ``git diff --binary --full-index`` against ``bad``,
    empty: the attempt gave none, and ``notes`` says why; ``seconds``: it took; ``cost``: in US dollars; ``log``:
    scrubbed and bounded.
    """

    name: str
    diff: bytes
    seconds: float = 0.0
    cost: float = 0.0
    notes: str = ""
    log: str = ""

    @property
    def maker(self) -> str:
        """ "fix", "agent" or "revert"."""
        return self.name.partition(":")[0]


class Judged(NamedTuple):
    """What trusted code found of a candidate.

    ``refused``: "rule: what it saw" for each reason, empty: it may be proposed; ``flags``: what a person must look at
    before a merge; ``passed``, ``failed``: tests in the clean clone; ``not_run``: what was to run and did not;
    ``tree``: the git tree that was verified.
    """

    candidate: Candidate
    refused: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    passed: int = 0
    failed: int = 0
    not_run: tuple[str, ...] = ()
    tree: str = ""
