"""Environment variables that tests read: records are kept with a digest of each value, never the value itself.

Where a variable has another value now, it is not known what the test would do: its record does not hold here. Variables
that say where a process runs rather than what it shall do differ between any two machines, and do not count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache

from pyroaring import BitMap

from greenline.ci.evidence import forms
from greenline.ci.evidence.reading import Evidence
from greenline.depgraph.config import Config
from greenline.depgraph.globs import matcher

PLACE = (
    # the machine, the person, folders
    "PATH", "PWD", "OLDPWD", "HOME", "USER", "LOGNAME", "USERNAME", "USERPROFILE", "HOSTNAME", "HOST", "SHELL",
    "SHLVL", "TMPDIR", "TEMP", "TMP", "XDG_*", "APPDATA", "LOCALAPPDATA", "PROGRAM*", "SYSTEMROOT", "WINDIR", "COMSPEC",
    "PATHEXT", "SSH_*", "DISPLAY", "WAYLAND_DISPLAY", "EDITOR", "VISUAL", "PAGER", "BROWSER",
    # terminal and language
    "TERM", "TERM_*", "COLUMNS", "LINES", "COLORTERM", "NO_COLOR", "FORCE_COLOR", "CLICOLOR*", "LANG",
    "LANGUAGE", "LC_*",
    # the Python and its tools
    "PYTHON*", "VIRTUAL_ENV*", "CONDA_*", "PYTEST_*", "PY_COLORS", "COV_CORE_*", "COVERAGE_*", "GREENLINE_*",
    # the CI job
    "CI", "CI_*", "GITHUB_*", "RUNNER_*", "GITLAB_*", "BUILDKITE", "BUILDKITE_*", "BUILD_*", "JENKINS_*", "TF_BUILD",
    "TEAMCITY_*", "TRAVIS*", "CIRCLE*",
    # GPUs: those of a plan's slot
    "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES",
)  # fmt: skip
"""Globs of variables that say where a process runs."""


def digest(name: str, value: str | None) -> str:
    """As the recorder writes it (docs/record-format.md): too short to tell a value by, and "" if it is not set."""
    if value is None:
        return ""
    return hashlib.sha256(f"{name}={value}".encode("utf-8", "surrogateescape")).hexdigest()[:8]


def counts(name: str) -> bool:
    """Whether a variable may say what a process shall do; "*" stands for all, which a process that is started gets."""
    return name != "*" and not _matcher(PLACE)(name.upper())


_matcher = cache(matcher)  # made when it is needed: selection never asks


def changed(evidence: Evidence, config: Config, environment: Mapping[str, str]) -> dict[str, BitMap]:
    """Variable → the records that were made while it had another value."""
    is_ignored = matcher(config.rooms.get("evidence", {}).get("ignore_variables", []))
    names = [name for name in evidence.paths(forms.VARIABLE) if not is_ignored(name)]
    found: dict[str, BitMap] = {}
    for (name, seen), records in sorted(evidence.facts(forms.VARIABLE, names).items()):
        if seen != digest(name, environment.get(name)) and records:
            found[name] = found.get(name, BitMap()) | records
    return found
