"""The environment that a commit's tests run in.

Without a recipe it is the interpreter that `greenline test` would take. A recipe (``repair.environment`` in
greenline.yaml) makes one for each state of the lock files: old commits run with their own dependencies, and a commit
that only bumped a lock file can be found guilty.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from typing import NamedTuple

from greenline.ci.breakage.checkouts import Checkout
from greenline.ci.breakage.processes import run_here
from greenline.depgraph.config import Config
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.globs import matcher

FOLDER = "GREENLINE_ENVIRONMENT"
"""Environment variable of the recipe's commands: the folder to make the environment in."""
_DONE = ".greenline-done"
_SECONDS = 1800.0


class Recipe(NamedTuple):
    """``setup``: commands, run without a shell in a checkout of the commit; ``lock``: globs of the files whose content
    decides which environment it is; ``python``: the interpreter, relative to the environment's folder."""

    setup: tuple[tuple[str, ...], ...] = ()
    lock: tuple[str, ...] = ()
    python: str = "bin/python"


def recipe_of(config: Config) -> Recipe:
    values = config.rooms.get("repair", {}).get("environment", {})
    return Recipe(
        tuple(tuple(command["run"]) for command in values.get("setup", ())),
        tuple(values.get("lock", ())),
        values.get("python", Recipe().python),
    )


def python_for(checkout: Checkout, recipe: Recipe, cache: str, environment: Mapping[str, str]) -> str:
    """The interpreter for a checkout's commit, made if it is not there; "" without a recipe.

    Raises GreenlineError when a command of the recipe fails.
    """
    if not recipe.setup:
        return ""
    folder = os.path.join(cache, "environments", _key(checkout, recipe))
    python = os.path.join(folder, recipe.python)
    if os.path.exists(os.path.join(folder, _DONE)) and os.path.exists(python):
        return python
    shutil.rmtree(folder, ignore_errors=True)  # half of one, from a run that was killed
    os.makedirs(folder)
    for command in recipe.setup:
        filled = [word.replace("{environment}", folder) for word in command]
        done = run_here(filled, checkout.folder, _SECONDS, {**environment, FOLDER: folder})
        if done.code:
            last = done.out.strip().rpartition("\n")[2]
            raise GreenlineError(
                f"repair.environment: '{' '.join(filled)}' failed at {checkout.commit[:12]}: {last}",
                "see repair.environment.setup in greenline.yaml",
            )
    if not os.path.exists(python):
        raise GreenlineError(f"repair.environment made no {recipe.python}", "see repair.environment in greenline.yaml")
    with open(os.path.join(folder, _DONE), "w", encoding="utf-8"):
        pass
    return python


def _key(checkout: Checkout, recipe: Recipe) -> str:
    chosen = matcher(recipe.lock)
    listed = checkout.repo.git.ls_tree("-r", "-z", "--full-tree", "HEAD").split("\0")[:-1]
    locks = [line for line in listed if chosen(line.partition("\t")[2])]
    return hashlib.sha256(repr((recipe, sorted(locks))).encode("utf-8", "surrogateescape")).hexdigest()[:20]
