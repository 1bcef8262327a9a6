"""A plan as a Gantt chart in SVG: a row for each runner, or for each of its GPUs; a box for each atom."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import NamedTuple

from greenline.ci.sharding.needs import file_of
from greenline.ci.sharding.plan_file import Plan, PlannedAtom, Shard
from greenline.depgraph.wording import plural

WIDTH = 1000
LEFT = 130
ROW = 16
GAP = 6


class _Box(NamedTuple):
    row: int
    start: float
    seconds: float
    name: str
    title: str


def draw(plan: Plan) -> str:
    """The picture. Boxes of one file have one colour; grey is waiting for the runner; the line is the bound."""
    scale = (WIDTH - LEFT - 20) / (max(plan.makespan, plan.target or 0.0) or 1.0)
    boxes: list[str] = []
    top = 50.0
    for shard in plan.shards:
        pool = plan.pool(shard)
        rows = _rows(shard, pool.gpus)
        height = max(rows) + 1 if rows else 1
        label = f"{shard.index} {shard.pool}"
        boxes.append(f'<text x="8" y="{top + 12:.1f}">{escape(label)}</text>')
        if pool.wait:
            boxes.append(
                f'<rect x="{LEFT}" y="{top:.1f}" width="{pool.wait * scale:.2f}" height="{height * ROW}" fill="#ddd">'
                f"<title>{pool.wait:g} s until the runner is ready</title></rect>"
            )
        for box in _boxes(shard, rows):
            x = LEFT + (pool.wait + box.start) * scale
            boxes.append(
                f'<rect x="{x:.2f}" y="{top + box.row * ROW:.1f}" width="{max(box.seconds * scale, 0.2):.2f}"'
                f' height="{ROW - 1}" fill="{_colour(box.name)}"><title>{escape(box.title)}</title></rect>'
            )
        top += height * ROW + GAP
    marks = [(plan.bounds.declared, "bound", "#c00")]
    if plan.target is not None:
        marks.append((plan.target, "target", "#06c"))
    for seconds, name, colour in marks:
        x = LEFT + seconds * scale
        boxes.append(
            f'<line x1="{x:.2f}" x2="{x:.2f}" y1="34" y2="{top:.1f}" stroke="{colour}" stroke-dasharray="4 3"/>'
            f'<text x="{min(x, WIDTH - 90):.2f}" y="{30 if name == "bound" else 44}" fill="{colour}">'
            f"{name} {seconds:.1f} s</text>"
        )
    tests = sum(len(shard.tests) for shard in plan.shards)
    title = (
        f"{plural(tests, 'test')} on {plural(len(plan.shards), 'runner')}: {plan.makespan:.1f} s, cost {plan.cost:.4g}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top + 10:.0f}"'
        ' font-family="sans-serif" font-size="11">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n<text x="8" y="18" font-size="14">{escape(title)}</text>\n'
        + "\n".join(boxes)
        + "\n</svg>\n"
    )


def _rows(shard: Shard, gpus: int) -> list[int]:
    """The row of each atom: its first GPU, or the first row that is free at its start."""
    if gpus:
        return [atom.devices[0] if atom.devices else 0 for atom in shard.atoms]
    ends: list[float] = []
    rows = []
    for atom in shard.atoms:
        row = next((row for row, end in enumerate(ends) if end <= atom.start + 1e-6), len(ends))
        if row == len(ends):
            ends.append(0.0)
        ends[row] = atom.start + atom.seconds
        rows.append(row)
    return rows


def _boxes(shard: Shard, rows: list[int]) -> Iterator[_Box]:
    for atom, row in zip(shard.atoms, rows, strict=True):
        for device in atom.devices or (row,):
            yield _Box(device, atom.start, atom.seconds, file_of(atom.tests[0]), _title(atom))


def _title(atom: PlannedAtom) -> str:
    more = f" and {len(atom.tests) - 1} more" if len(atom.tests) > 1 else ""
    gpus = f", {atom.gpus:g} GPU" if atom.gpus else ""
    return f"{atom.tests[0]}{more}: {atom.seconds:.1f} s from {atom.start:.1f} s{gpus}"


def _colour(name: str) -> str:
    hue = sum((place + 1) * ord(letter) for place, letter in enumerate(name)) * 47 % 360
    return f"hsl({hue},55%,65%)"
