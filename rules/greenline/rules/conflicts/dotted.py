"""Dotted names in strings: mock targets, settings, entry points, in Python and in configuration files."""

from __future__ import annotations

import re

from greenline.rules.conflicts.infer import UNKNOWN, Value, World

DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+(?::[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)?")
PATCHING = frozenset(("patch", "setattr", "delattr", "object", "dict", "multiple", "spy", "stub"))
CONFIGURATION = (".toml", ".cfg", ".ini", ".yaml", ".yml", ".json")


def resolve_dotted(world: World, text: str, importer: str) -> Value:
    """What ``a.b.C.method`` names: the longest module in it, then attributes. "missing" also where no module is."""
    parts = text.split(".")
    for count in range(len(parts), 0, -1):
        files = world.tree.find(".".join(parts[:count]), importer)
        if len(files) > 1:
            return UNKNOWN
        if files:
            value = Value("module", files[0], ".".join(parts[:count]))
            for name in parts[count:]:
                if value.kind != "missing":
                    value = world.attribute(value, name)
            return value
    if world.tree.is_package(text, importer):
        return Value("module", "", text)
    return Value("missing", "", text)


def in_configuration(world: World, path: str) -> list[tuple[int, int, str]]:
    """Dotted names in a configuration file that lead nowhere: line, column and spelling of each."""
    if not path.endswith(CONFIGURATION):
        return []
    data = world.tree.read(path) or b""
    found = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        for match in DOTTED.finditer(line):
            text = match[0].replace(":", ".")
            if resolve_dotted(world, text, path).kind == "missing":
                found.append((number, match.start(), match[0]))
    return found
