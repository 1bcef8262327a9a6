"""The answer to "which tests can this change break?", with how far it can be trusted."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from greenline.ci.environment import find_base, no_commit
from greenline.ci.evidence.place import place
from greenline.ci.selection.select import SelectedTest, Selection, select
from greenline.depgraph import config as configuration
from greenline.depgraph.errors import GreenlineError
from greenline.depgraph.index import Opened, Progress, list_tests, open_change
from greenline.depgraph.linking import TEST
from greenline.depgraph.suites import SuiteIndex
from greenline.depgraph.wording import plural
from greenline.depgraph.workspace import ABSENT, GitError, NotARepository, Workspace, find, root_of, walk

FEW = 2000
"""Of so many tests it is always looked whether they are there: git may have been told to assume so."""
SWITCH = "GREENLINE_SELECTION"
"""Environment variable: ``off`` selects every test, like ``selection: off`` in greenline.yaml."""


class Request(NamedTuple):
    """What to answer: the base to measure from, the head (None: the work tree), one suite or all.

    ``mode``: "static" (the import graph), "auto" (sharpened by evidence where there is any) or "evidence" (only
    tests that evidence decides about). ``paths``: files of the repository; what would a change of these affect,
    whatever else changed? The import graph alone answers that.
    """

    base: str | None = None
    base_exact: bool = False
    head: str | None = None
    suite: str | None = None
    reasons: bool = True
    mode: str = "auto"
    paths: tuple[str, ...] = ()


NOW = Request()


class Test(NamedTuple):
    """A test file of the answer. ``node_ids``: "test_x", "TestC::test_m", or None for the whole file.

    ``rank``: the smaller, the likelier it fails; see :mod:`.evidence.likely`.
    """

    path: str
    suite: str
    node_ids: tuple[str, ...] | None
    reason: str
    rank: float = 1.0


class Answer(NamedTuple):
    """The tests to run.

    ``complete``: exactly what the rules select; False: a superset, because something could not be told:
    ``warnings`` say what. ``everything``: why all tests are selected, or None. ``total``: test files there are.
    """

    root: str
    tests: list[Test]
    total: int
    complete: bool
    everything: str | None
    warnings: list[str]
    base: str | None
    how: str
    suite_roots: dict[str, str]  # name → rootdir, relative to ``root``
    unaffected: tuple[str, ...] = ()  # the other known test files; a file in neither list is unknown
    share: float | None = None  # of the tests, how much evidence decides about (0 to 1); None: none was asked


class Change(NamedTuple):
    """The change that a request means. Without a base there is no graph: ``opened`` is None and ``how`` says why."""

    workspace: Workspace
    config: configuration.Config
    opened: Opened | None
    base: str | None
    how: str
    hint: str | None = None


def change_of(
    folder: str | None = None,
    request: Request = NOW,
    progress: Progress | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Change:
    """Find the base and open the graph. Raises :class:`GreenlineError` for wrong input, also outside a repository."""
    workspace = find(folder)
    config = configuration.load(workspace.root, workspace.cache)
    if environment.get(SWITCH, config.selection).lower() in ("off", "0", "false", "no"):
        where = f"${SWITCH}" if SWITCH in environment else "greenline.yaml"
        return Change(workspace, config, None, None, f"selection is off ({where})")
    if request.paths:
        request = request._replace(base="HEAD", base_exact=True, head=None)
    head = request.head
    if head is not None:
        head = workspace.resolve(head)
        if head is None:
            raise no_commit(workspace, "--head: ", str(request.head))
    base = find_base(workspace, config.base, request.base, request.base_exact, head or "HEAD", environment)
    if base.commit is None:
        return Change(workspace, config, None, None, base.how, base.hint or "")
    try:
        opened = open_change(workspace, config, base.commit, head, progress)
    except GitError as error:
        return Change(workspace, config, None, base.commit, error.message, error.hint or "")
    how = f"as if {named(request.paths)} changed" if request.paths else base.how
    return Change(workspace, config, opened, base.commit, how)


def named(paths: Sequence[str]) -> str:
    """Files in a few words: the path of one, the number of more."""
    return paths[0] if len(paths) == 1 else plural(len(paths), "file")


def affected(
    folder: str | None = None,
    request: Request = NOW,
    progress: Progress | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Answer:
    """The tests that the change can break. Raises :class:`GreenlineError` for wrong input only.

    Without a repository, a base or a usable git, the answer is every test, never none.
    """
    try:
        change = change_of(folder, request, progress, environment)
    except NotARepository as error:
        root = root_of(folder)
        warning = _fallback(error.message, error.hint)
        answer = _all_of(root, walk(root), configuration.load(root), request, error.message, [warning], None)
        if not answer.total:
            raise
        return answer
    return answer_of_change(change, request, environment)


def answer_of_change(change: Change, request: Request, environment: Mapping[str, str] = os.environ) -> Answer:
    """The answer for a change, with a graph or without."""
    if change.opened is not None:
        return answer_of(change.opened, change.config, request, change.how, environment)
    warnings = [] if change.hint is None else [_fallback(change.how, change.hint)]
    try:
        paths = change.workspace.paths()
    except GreenlineError as error:
        paths = walk(change.workspace.root)
        warnings.append(f"{error.message}; looked at the folder instead")
    return _all_of(change.workspace.root, paths, change.config, request, change.how, warnings, change.base)


def _fallback(message: str, hint: str | None) -> str:
    return f"everything is selected: {message}" + (f"; {hint}" if hint else "")


def answer_of(
    opened: Opened,
    config: configuration.Config,
    request: Request,
    how: str,
    environment: Mapping[str, str] = os.environ,
) -> Answer:
    """The answer for an open change."""
    share = None
    if request.paths:
        selection = select_static(opened, config, request.reasons, environment, request.paths)
    elif request.mode != "static" and place(opened.workspace, config, environment):
        from greenline.ci.evidence.sharpen import sharpen  # only who has evidence pays for it

        def static(reasons: bool) -> Selection:
            return select_static(opened, config, reasons, environment)

        only = request.mode == "evidence"
        selection, share = sharpen(opened, config, static, request.reasons, only, environment)
    else:
        selection = select_static(opened, config, request.reasons, environment)
    if request.mode == "evidence" and share is None:
        selection = selection._replace(tests=[], everything=None, warnings=[*selection.warnings, NO_EVIDENCE])
    suites = opened.graph.suites
    tests = _in_suite(_with_suites(selection.tests, suites), request.suite, opened.suites_by_name())
    warnings = list(dict.fromkeys(selection.warnings))
    if opened.head is None and (opened.workspace.may_be_sparse() or len(tests) <= FEW):
        root = opened.workspace.root
        elsewhere = [test.path for test in tests if not os.path.isfile(os.path.join(root, test.path))]
        if elsewhere:
            tests = [test for test in tests if test.path not in set(elsewhere)]
            warnings.append(
                f"{plural(len(elsewhere), 'affected test file')} not in this work tree (a sparse checkout?): left out,"
                f" such as {elsewhere[0]}; --head HEAD names them"
            )
    if not selection.total:
        warnings.append(NO_TESTS)
    return Answer(
        opened.workspace.root,
        tests,
        selection.total,
        not warnings,
        selection.everything,
        warnings,
        opened.base,
        how,
        opened.suites_by_name(),
        _unaffected(opened, selection, request.suite),
        share,
    )


def select_static(
    opened: Opened,
    config: configuration.Config,
    reasons: bool = True,
    environment: Mapping[str, str] = os.environ,
    paths: Sequence[str] = (),
) -> Selection:
    """The static rule, with the imports that evidence has seen where no statement shows them. They only add."""
    warnings: list[str] = []
    selection = select(opened, config, reasons, seen_imports(opened, config, environment, warnings.append), paths)
    return selection._replace(warnings=[*selection.warnings, *warnings])


def seen_imports(
    opened: Opened,
    config: configuration.Config,
    environment: Mapping[str, str] = os.environ,
    warn: Callable[[str], None] = lambda warning: None,
) -> Sequence[tuple[str, str]]:
    """Pairs of paths: imports that evidence has seen and no statement shows. Warns of a store that cannot be read."""
    if not place(opened.workspace, config, environment):
        return ()
    from greenline.ci.evidence import learned, reading  # only who has a store pays for it

    try:
        return learned.read(opened.workspace, config, environment)
    except reading.store_errors() as error:
        warn(reading.unreadable(error))
        return ()


NO_EVIDENCE = "there is no evidence here, so nothing is selected; record some: greenline record"


def _unaffected(opened: Opened, selection: Selection, suite: str | None) -> tuple[str, ...]:
    graph = opened.graph
    out = {test.path for test in selection.tests} | {each.path for each in opened.changes if each.head == ABSENT}
    others = (path for path in map(graph.path, graph.with_flag(TEST)) if path not in out)
    return tuple(sorted(path for path in others if suite is None or _suite_name(graph.suites, path) == suite))


NO_TESTS = (
    "no test file was found; Greenline looks for what pytest would collect: see testpaths and python_files in"
    " pytest's configuration, or name suites in greenline.yaml"
)


def _all_of(
    root: str,
    paths: list[str],
    config: configuration.Config,
    request: Request,
    reason: str,
    warnings: list[str],
    base: str | None,
) -> Answer:
    found, suites, errors = list_tests(root, paths, config)
    names = {suite.name: suite.root for suite in suites}
    every = [SelectedTest(path, None, reason) for path in found]
    tests = _in_suite(_with_suites(every, SuiteIndex(suites)), request.suite, names)
    warnings = [*warnings, *errors]
    if not found:
        warnings.append(NO_TESTS)
    return Answer(root, tests, len(found), not warnings, reason, warnings, base, reason, names)


def _with_suites(tests: list[SelectedTest], suites: SuiteIndex) -> list[Test]:
    names = {suite.name for suite in suites.settled()}
    only = names.pop() if len(names) == 1 else None
    return [Test(test.path, only or _suite_name(suites, test.path), *test[1:]) for test in tests]


def _suite_name(suites: SuiteIndex, path: str) -> str:
    suite = suites.suite_of(path)
    return suite.name if suite else "."


def _in_suite(tests: list[Test], suite: str | None, names: Mapping[str, str]) -> list[Test]:
    if suite is None:
        return tests
    if suite not in names:
        known = ", ".join(sorted(names))
        raise GreenlineError(f"--suite: there is no suite {suite!r}", f"the suites here: {known}")
    return [test for test in tests if test.suite == suite]
