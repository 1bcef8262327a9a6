"""The key `sharding` of greenline.yaml: pools, what tests need, and how to plan."""

from __future__ import annotations

from typing import Any, NamedTuple

from greenline.ci.sharding.needs import NOTHING, Needs, bytes_of, seconds_of
from greenline.ci.sharding.plan_file import Pool
from greenline.depgraph.config import Config
from greenline.depgraph.errors import GreenlineError


class Rule(NamedTuple):
    """Tests in these files (globs), with one of these markers and one of these decorators, need this.

    An empty condition always holds. ``together``: "file", "class" or "function": those of one are one atom.
    """

    files: tuple[str, ...]
    markers: tuple[str, ...]
    decorators: tuple[str, ...]
    needs: Needs
    together: str = ""


class Settings(NamedTuple):
    """``file_cost``: seconds that a file takes on each runner that it is on; ``quantile``: of the durations kept.

    ``share_gpus``: tests of one GPU share it, as far as their known peaks of memory allow.
    """

    pools: tuple[Pool, ...] = ()
    rules: tuple[Rule, ...] = ()
    target: float | None = None
    file_cost: float = 0.0
    quantile: float = 0.5
    share_gpus: bool = False


def settings_of(config: Config) -> Settings:
    """Raises GreenlineError for what the schema does not see."""
    room = config.rooms.get("sharding", {})
    pools = tuple(_pool(item) for item in room.get("pools", ()))
    names = [pool.name for pool in pools]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise GreenlineError(f"greenline.yaml: sharding.pools: two pools are called {twice[0]!r}", "rename one")
    target = room.get("target")
    return Settings(
        pools,
        tuple(_rule(item) for item in room.get("rules", ())),
        seconds_of(target) if target else None,
        seconds_of(room.get("file_cost", "0")),
        float(room.get("quantile", "0.5")),
        room.get("share_gpus", "no") == "yes",
    )


def _pool(item: dict[str, Any]) -> Pool:
    gpus = int(item.get("gpus", 0))
    return Pool(
        name=item["name"],
        # CPU tests run one after the other unless told; on GPU runners the devices are the limit.
        slots=int(item.get("slots", 0)) or (max(1, 8 * gpus)),
        memory=bytes_of(item.get("memory", "0")),
        gpus=gpus,
        gpu_kind=item.get("gpu_kind", ""),
        gpu_memory=bytes_of(item.get("gpu_memory", "0")),
        nodes=int(item.get("nodes", 1)),
        price=float(item.get("price", max(1, gpus) * int(item.get("nodes", 1)))),
        startup=seconds_of(item.get("startup", "0")),
        queue=seconds_of(item.get("queue", "0")),
        maximum=int(item["maximum"]) if "maximum" in item else None,
        billing=seconds_of(item.get("billing", "1s")),
        labels=_texts(item.get("labels", ())),
    )


def _rule(item: dict[str, Any]) -> Rule:
    needs = NOTHING._replace(
        slots=int(item.get("slots", 1)),
        memory=bytes_of(item.get("memory", "0")),
        gpus=float(item.get("gpus", 0)),
        gpu_memory=bytes_of(item.get("gpu_memory", "0")),
        gpu_kinds=_texts(item.get("gpu_kinds", ())),
        nodes=int(item.get("nodes", 1)),
        locks=_texts(item.get("locks", ())),
        exclusive=item.get("exclusive", "no") == "yes",
        isolated=item.get("isolated", "no") == "yes",
    )
    return Rule(
        _texts(item.get("files", ())),
        _texts(item.get("markers", ())),
        _texts(item.get("decorators", ())),
        needs,
        item.get("together", ""),
    )


def _texts(value: str | list[str] | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
