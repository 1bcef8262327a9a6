"""A plan for the terminal: a line a shard, as long as it takes, and what would make it shorter."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from greenline.ci.sharding.plan_file import Plan, Shard
from greenline.depgraph.wording import plural

MOST_SHARDS = 100
_BLOCKS = " ▏▎▍▌▋▊▉█"


def lines(plan: Plan, width: int | None = None) -> Iterator[str]:
    """What a person wants to know of a plan."""
    if not plan.shards:
        yield "nothing to run, so no shard"
        return
    columns = width or shutil.get_terminal_size().columns
    names = {shard.index: f"{shard.index:>3} {shard.pool}" for shard in plan.shards}
    label = max(map(len, names.values()))
    room = max(10, columns - label - 26)
    for shard in plan.shards[:MOST_SHARDS]:
        wait = plan.pool(shard).wait
        bar = _bar(wait, shard.seconds, plan.makespan, room)
        tests = plural(len(shard.tests), "test")
        yield f"{names[shard.index]:<{label}} {bar} {_time(wait + shard.seconds):>8} {tests:>12}"
    if len(plan.shards) > MOST_SHARDS:
        yield f"… and {len(plan.shards) - MOST_SHARDS} more"
    yield ""
    pools: dict[str, list[Shard]] = {}
    for shard in plan.shards:
        pools.setdefault(shard.pool, []).append(shard)
    yield "runners   " + ", ".join(f"{len(shards)} of {name}" for name, shards in pools.items())
    target = f" (target {_time(plan.target)}{'' if plan.feasible else ': not met'})" if plan.target is not None else ""
    yield f"makespan  {_time(plan.makespan)}{target}"
    yield f"bound     {_time(plan.bounds.declared)} with these atoms: {plan.ratios.declared:.3f} times that"
    yield f"          {_time(plan.bounds.tests)} with single tests: {plan.ratios.tests:.3f} times that"
    yield f"cost      {plan.cost:.4g}"
    for number, each in enumerate(plan.blocking[:10]):
        more = f" and {len(each.tests) - 1} more" if len(each.tests) > 1 else ""
        yield f"{'blocking' if number == 0 else '':<9} {_time(each.seconds):>8}  {each.tests[0]}{more} ({each.why})"


def _bar(wait: float, seconds: float, end: float, room: int) -> str:
    """Dots while the runner starts, then blocks while it works."""
    if not end:
        return " " * room
    before = round(wait / end * room)
    eighths = max(1, round((wait + seconds) / end * room * 8) - before * 8)
    bar = "·" * before + "█" * (eighths // 8) + _BLOCKS[eighths % 8].strip()
    return f"{bar:<{room}}"[:room]


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02} min"
