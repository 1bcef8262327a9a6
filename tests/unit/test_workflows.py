"""Which changes of a GitHub workflow can reach the tests."""

from __future__ import annotations

import json

import pytest

from greenline.ci.selection.workflows import decides

TESTS = """\
name: Tests
on: {push: {branches: [main]}}
permissions: {}
env: {PYTHONWARNINGS: error}
jobs:
  tests:
    runs-on: ubuntu-latest
    timeout-minutes: 9
    strategy: {matrix: {python: ['3.12', '3.13']}}
    steps:
      - uses: actions/checkout@11bd71 # v4.2.2
        with: {persist-credentials: false}
      - uses: actions/setup-python@42375 # v5.4.0
        with: {python-version: '${{ matrix.python }}', cache: pip}
      - uses: acme/database@v1
      - uses: actions/cache@v4
        with: {path: ~/.cache, key: one}
      - name: install
        run: pip install -e .[tests]
      - run: |
          python -m pytest \\
            --maxfail=5
  style:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: astral-sh/setup-uv@v5
      - run: uv run --locked --group pre-commit pre-commit run --all-files
  publish:
    needs: [tests]
    runs-on: ubuntu-latest
    steps:
      - run: echo "SOURCE_DATE_EPOCH=$(git log -1 --pretty=%ct)" >> $GITHUB_ENV
      - run: uv build && twine check dist/*
      - uses: pypa/gh-action-pypi-publish@v1.12
"""


@pytest.mark.parametrize(
    "old, new",
    [
        ("@11bd71 # v4.2.2", "@93cb6e # v5.0.0"),
        ("@42375 # v5.4.0", "@a309f"),
        ("key: one", "key: two"),
        ("cache: pip", "cache: uv"),
        ("branches: [main]", "branches: [main, stable]"),
        ("name: Tests", "name: Test"),
        ("permissions: {}", "permissions: read-all"),
        ("timeout-minutes: 9", "timeout-minutes: 19"),
        ("name: install", "name: Install"),
        ("--all-files", "--all-files --color=always"),
        ("runs-on: ubuntu-latest\n    steps:\n      - run: echo", "runs-on: macos-14\n    steps:\n      - run: echo"),
        ("gh-action-pypi-publish@v1.12", "gh-action-pypi-publish@v1.13"),
        ("uv build &&", "uv build --wheel &&"),
        ("  publish:\n", "  # to the index\n  publish:\n"),
    ],
)
def test_what_no_test_sees(old: str, new: str) -> None:
    assert old in TESTS
    assert not decides(TESTS.encode(), TESTS.replace(old, new).encode())


@pytest.mark.parametrize(
    "old, new",
    [
        ("PYTHONWARNINGS: error", "PYTHONWARNINGS: default"),
        ("'3.13'", "'3.14'"),
        ("acme/database@v1", "acme/database@v2"),
        ("-e .[tests]", "-e .[tests] numpy"),
        ("--maxfail=5", "--maxfail=6"),
        ("runs-on: ubuntu-latest\n    timeout", "runs-on: macos-14\n    timeout"),
        ("persist-credentials: false", "submodules: true"),
        ("python-version: '${{ matrix.python }}'", "python-version: '3.9'"),
        ("twine check dist/*", "python -m pytest"),
        ("uv build &&", "uv build; ./smoke.sh;"),
        ("pre-commit run --all-files", "pytest"),
        ("git log -1", "make git"),
        ("jobs:", "jobs: ]"),
    ],
)
def test_what_tests_may_see(old: str, new: str) -> None:
    assert old in TESTS
    assert decides(TESTS.encode(), TESTS.replace(old, new).encode())


def test_files_that_come_and_go() -> None:
    publish = "jobs:\n  publish:" + TESTS.partition("  publish:")[2]
    assert not decides(None, publish.encode())
    assert not decides(publish.encode(), None)
    assert decides(None, TESTS.encode())
    assert decides(TESTS.encode(), None)


def test_workflows_of_others() -> None:
    def calling(name: str) -> bytes:
        return f"jobs: {{all: {{uses: {name}}}}}".encode()

    provenance = "slsa-framework/slsa-github-generator/.github/workflows/generic.yml"
    assert not decides(calling(f"{provenance}@v1"), calling(f"{provenance}@v2"))
    assert decides(calling("acme/ci/.github/workflows/test.yml@v1"), calling("acme/ci/.github/workflows/test.yml@v2"))


@pytest.mark.parametrize(
    "script, tests",
    [
        ('if [ -z "$(git status)" ]; then\n  echo none\n  exit 0\nfi\nbranch=bump\ngit switch -C "$branch"', False),
        ("if ! git diff --quiet; then ./smoke.sh; fi", True),
        ("set -e\nwhile true; do make; done", True),
    ],
)
def test_a_script_of_the_shell(script: str, tests: bool) -> None:
    def workflow(name: str) -> bytes:
        step = {"run": script, "env": {"NAME": name}}
        return json.dumps({"jobs": {"one": {"runs-on": "ubuntu-latest", "steps": [step]}}}).encode()

    assert decides(workflow("a"), workflow("b")) == tests
