"""What the text of a proposal says of flags."""

from __future__ import annotations

from greenline.ci.breakage.classify import BREAK, Counts
from greenline.ci.breakage.investigate import Breakage, Culprit
from greenline.ci.breakage.suspects import Suspect
from greenline.ci.repair.candidates import STILL_RED, Candidate, Failure, Judged
from greenline.ci.repair.fixing import Cause
from greenline.ci.repair.proposal import Proposal, body


def told(flags: tuple[str, ...]) -> list[str]:
    """The list of what a person must look at."""
    suspect = Suspect("c" * 40, "p" * 40, "merge", 1.0, "it is the only one")
    failure = Failure("f" * 16, ("tests/test_a.py::test_a",), "assert 1 == 2", BREAK)
    breakage = Breakage(
        (failure,),
        BREAK,
        "p" * 40,
        "c" * 40,
        Counts((3, 3), (0, 3)),
        Culprit(suspect, 0.99),
        (suspect,),
        (0.01, 0.99),
        6,
        (),
    )
    judged = Judged(Candidate("fix:renamed", b"+++ b/a.py\n"), (), flags, 1)
    text = body(Proposal(breakage, Cause("a.f is now g", (("d" * 40, "rename"),)), (judged,)))
    return [line for line in text.partition("## What broke")[0].splitlines() if line.startswith("- ")]


def test_many_red_tests_are_counted_and_no_other_flag_is_left_out() -> None:
    others = tuple(f"test-changed: tests/test_{number}.py" for number in range(9))
    red = tuple(f"{STILL_RED}: tests/test_red.py::test_{number}" for number in range(7))
    lines = told((*others, *red))
    assert lines[:9] == [f"- {flag}" for flag in others]
    assert lines[9:] == [*(f"- {flag}" for flag in red[:5]), f"- {STILL_RED}: 2 more"]
    assert told(red[:5]) == [f"- {flag}" for flag in red[:5]]
