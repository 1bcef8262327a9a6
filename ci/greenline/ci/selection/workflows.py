"""Whether a change of a GitHub workflow can reach the tests: most only raise the version of an action.

Compared is what is left of a workflow without what no test can see: when it runs and who may, names, jobs that run no
tests, and of well-known actions their version. What is not known stays, and so does a file that cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

FOLDER = ".github/workflows/"

_OUTSIDE = frozenset(
    """actions/add-to-project actions/attest actions/attest-build-provenance actions/cache actions/cache/restore
    actions/cache/save actions/configure-pages actions/create-github-app-token actions/dependency-review-action
    actions/deploy-pages actions/first-interaction actions/labeler actions/stale actions/upload-artifact
    actions/upload-pages-artifact agilepathway/label-checker amannn/action-semantic-pull-request
    cloudflare/wrangler-action codecov/codecov-action coverallsapp/github-action crate-ci/typos
    dependabot/fetch-metadata dessant/lock-threads docker/login-action docker/metadata-action fjogeleit/http-request
    github/codeql-action/analyze github/codeql-action/init github/codeql-action/upload-sarif github/issue-labeler
    googleapis/release-please-action JamesIves/github-pages-deploy-action marocchino/sticky-pull-request-comment
    ossf/scorecard-action peaceiris/actions-gh-pages peter-evans/create-or-update-comment
    peter-evans/create-pull-request pre-commit-ci/lite-action pre-commit/action pypa/gh-action-pypi-publish
    release-drafter/release-drafter rhysd/actionlint sigstore/gh-action-sigstore-python slackapi/slack-github-action
    softprops/action-gh-release stefanzweifel/git-auto-commit-action step-security/harden-runner
    tiangolo/issue-manager tiangolo/latest-changes tiangolo/pr-submit zizmorcore/zizmor-action""".split()  # noqa: SIM905
)
"""Actions that change nothing where tests run."""
_OUTSIDE_WORKFLOWS = re.compile("slsa-framework/slsa-github-generator/")
_BY_INPUT = frozenset(("actions/checkout", "actions/download-artifact", "actions/setup-python", "astral-sh/setup-uv"))
"""Actions of which only the inputs matter."""
_INERT_INPUT = re.compile(".*cache.*|persist-credentials|(?:github-)?token|show-progress")
_INERT_KEYS = frozenset(
    "name permissions concurrency timeout-minutes needs if outputs environment continue-on-error id".split()  # noqa: SIM905
)
_HARMLESS = re.compile(
    r"(?:(?:if|then|else|elif|do|while|!)\s+)*"
    r"(?:\[|\w+=\S*$|(?:then|else|fi|do|done)$|exit|set|true|false|sleep|printf|date|grep|jq|sed|tee|touch|rm|"
    r"base64|cat|cd|cp|echo|gh|git|ls|mkdir|mv|sha256sum|twine|pre-commit|prek|mypy|ruff|pyright|black|isort|flake8|zizmor|sphinx-build"
    r"|uv build|uv lock|uv publish|hatch build|(?:python3? -m )?(?:build|twine|pre[-_]commit|mypy|pip install))(?:\s|$)"
)
"""Commands that run no tests. What they install or write is for the rest of their own job, which needs to be harmless
as well."""
_UV_RUN = re.compile(r"uv run(?:\s+(?:--(?:group|extra|python|with)[ =]\S+|--[\w-]+))*\s+")


def decides(old: bytes | None, new: bytes | None) -> bool:
    """Whether two states of a workflow (None: no file) may run tests in different ways."""
    try:
        return bool(_essence(old) != _essence(new))
    except Exception:  # whatever is wrong with the content, the answer is the same
        return True


def _essence(content: bytes | None) -> Any:
    if content is None:
        return {}
    from greenline.depgraph.lock_files import read_yaml

    workflow = read_yaml(content.decode("utf-8"))
    jobs = {name: _job(job) for name, job in workflow["jobs"].items()}
    around = {key: workflow[key] for key in ("env", "defaults") if key in workflow}
    return {name: (job, around) for name, job in jobs.items() if job is not None}


def _job(job: Mapping[str, Any]) -> Any:
    """What may reach tests of one job; None where nothing does."""
    if "uses" in job:  # another workflow: one of this repository is judged by itself
        return None if _OUTSIDE_WORKFLOWS.match(job["uses"]) else _without_inert(job)
    steps = list(filter(None, map(_step, job["steps"])))
    if not any(_may_run_tests(step) for step in steps):
        return None
    return {**_without_inert(job), "steps": steps}


def _step(step: Mapping[str, Any]) -> dict[str, Any] | None:
    kept = _without_inert(step)
    action = str(step.get("uses", "")).partition("@")[0]
    if action in _OUTSIDE:
        return None
    if action in _BY_INPUT:
        inputs = step.get("with") or {}
        kept["uses"] = action
        kept["with"] = {key: value for key, value in inputs.items() if not _INERT_INPUT.fullmatch(key)}
    return kept


def _may_run_tests(step: Mapping[str, Any]) -> bool:
    if "run" not in step:
        return step["uses"] not in _BY_INPUT
    return not all(_HARMLESS.match(_UV_RUN.sub("", command)) for command in _commands(step["run"]))


def _commands(script: str) -> Iterator[str]:
    if "`" in script:
        yield script
        return
    for line in re.split(r"\n|&&|\|\||;|\||\$\(", script.replace("\\\n", " ")):
        if (command := line.strip()) and not command.startswith("#"):
            yield command


def _without_inert(part: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key not in _INERT_KEYS}
