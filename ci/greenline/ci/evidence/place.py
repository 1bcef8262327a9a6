"""Where the store is, for a reader that shall cost nothing where there is none."""

from __future__ import annotations

import os
from collections.abc import Mapping

from greenline.depgraph.config import Config
from greenline.depgraph.workspace import Workspace

OFF = ("off", "0", "false", "no")
FILE = "sqlite:///"


def place(workspace: Workspace, config: Config, environment: Mapping[str, str] = os.environ) -> str | None:
    """The path of a SQLite store that is there, or the URL of a server's; None: there is nothing to read."""
    given = environment.get("GREENLINE_STORE") or config.rooms.get("store", {}).get("url")
    if given and given.lower() in OFF:
        return None
    if given and not given.startswith(FILE):
        return str(given)
    home = os.path.join(os.path.dirname(workspace.cache), "store")
    path = os.path.join(workspace.root, given.removeprefix(FILE)) if given else os.path.join(home, "greenline.db")
    return path if os.path.exists(path) else None
