"""Leave out the tests that greenline proves unaffected, and say so.

Unknown is never none: left out is only what the answer names as unaffected. A file that it does not name (a
generated test that git ignores, say) runs as always; without an answer everything does.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import pytest

from pytest_greenline.ask import Answer, NoAnswer, WrongUse, ask, read, read_file
from pytest_greenline.folders import Folders

OFF = ("off", "0", "false", "no")


def start(config: pytest.Config) -> None:
    """Ask, and register what leaves tests out and what tells of it.

    `greenline test` has asked already: it hands its answer over in a file. Under pytest-xdist only the controller
    asks, and its workers get the answer: all must collect the same tests.
    """
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        text = worker.get("greenline")
        if text is not None:
            config.pluginmanager.register(LeaveOut(config, read(text)), "greenline-leave-out")
        return
    if os.environ.get("GREENLINE_SELECTION", "").lower() in OFF:
        told = Told("selection is off ($GREENLINE_SELECTION): every test runs")
    else:
        told = _asked(config)
    config.pluginmanager.register(told, "greenline-told")


def _asked(config: pytest.Config) -> Told:
    given = os.environ.pop("GREENLINE_ANSWER", "")  # not for a pytest that tests start
    try:
        text = read_file(given) if given else ask(str(config.rootpath), config.getoption("affected_base"))
        answer = read(text)
    except WrongUse as error:
        raise pytest.UsageError(str(error)) from None
    except NoAnswer as error:
        return Told("every test runs: nothing is known", [f"every test runs, affected or not: {error}"])
    if answer.everything:
        return Told(f"everything is affected: {answer.everything}", answer.warnings)
    leave_out = LeaveOut(config, answer)
    config.pluginmanager.register(leave_out, "greenline-leave-out")
    return Told(leave_out.summary("selected" if given else "affected"), answer.warnings, text)


class Told:
    """What the terminal says, and the answer's text for pytest-xdist's workers; None: they run everything."""

    def __init__(self, header: str, warnings: list[str] | None = None, text: str | None = None) -> None:
        self.header = header
        self.warnings = warnings or []
        self.text = text

    def pytest_report_header(self) -> list[str]:
        return [f"greenline: {self.header}", *(f"greenline: warning: {each}" for each in self.warnings)]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for warning in self.warnings:
            terminalreporter.write_line(f"greenline: warning: {warning}", yellow=True, bold=True)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["greenline"] = self.text


class LeaveOut:
    """The hooks that leave tests out: files before they are imported, single tests after collection."""

    def __init__(self, config: pytest.Config, answer: Answer) -> None:
        self.config = config
        self.answer = answer
        self.folders = Folders(config, answer)
        self.left_out = False  # has this session met something that it left out?
        self.others_too = False  # has somebody else, -k for example, taken tests away?
        self._deselected: list[pytest.Item] = []
        self._nothing_to_run = False

    def summary(self, verb: str) -> str:
        """The line of the header; the numbers are those of the files below rootdir."""
        root = self.folders.relative(str(self.config.rootpath))
        below = f"{root}/" if root else ""
        affected = sum(path.startswith(below) for path in self.answer.tests)
        unaffected = sum(path.startswith(below) for path in self.answer.unaffected)
        return (
            f"{affected:,} of {affected + unaffected:,} test files {verb} ({self.answer.base});"
            f" left out {unaffected:,}; ask: greenline why PATH"
        )

    def _leaves_out(self, path: str) -> bool:
        out = self.folders.all_unaffected(path) if os.path.isdir(path) else self._is_unaffected(path)
        self.left_out = self.left_out or out
        return out

    def _is_unaffected(self, path: str) -> bool:
        return self.folders.relative(path) in self.answer.unaffected

    # -- files ---------------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Look at what the command line names: pytest asks nobody whether to ignore that."""
        self.config.args = [arg for arg in self.config.args if not self._leaves_out(self._path_of(str(arg)))]

    def _path_of(self, arg: str) -> str:
        name = arg.split("::")[0]
        if self.config.getoption("pyargs"):
            try:
                spec = importlib.util.find_spec(name)  # as pytest does it
            except (AttributeError, ImportError, ValueError):
                spec = None
            if spec and spec.origin:
                return os.path.dirname(spec.origin) if spec.submodule_search_locations else spec.origin
        return os.path.abspath(self.config.invocation_params.dir / name)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_ignore_collect(self, collection_path: Path) -> Generator[None, Any, None]:
        outcome = yield
        if not outcome.get_result() and self._leaves_out(str(collection_path)):
            outcome.force_result(True)

    # -- tests ---------------------------------------------------------------------------------------------

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        kept: list[pytest.Item] = []
        for item in items:
            (kept if self._is_affected(item) else self._deselected).append(item)
        if self.answer.likely_first:
            items[:] = self._likely_first(items)
            kept = self._likely_first(kept)
        if self._deselected:
            self.left_out = True
            items[:] = kept
            self.config.hook.pytest_deselected(items=self._deselected)

    def _likely_first(self, items: list[pytest.Item]) -> list[pytest.Item]:
        """The files in the order of the answer; what is in a file stays as it is.

        Parameters of fixtures that span files have put the tests in an order of their own: it is left alone.
        """
        if any(str(scope) in _WIDE for item in items for scope in _scopes(item)):
            return items
        places = {path: place for place, path in enumerate(self.answer.tests)}
        return sorted(items, key=lambda item: places.get(self.folders.relative(str(item.path)) or "", -1))

    def _is_affected(self, item: pytest.Item) -> bool:
        path = self.folders.relative(str(item.path))
        if path in self.answer.unaffected:
            return False
        names = self.answer.tests.get(path or "")
        if names is None or not isinstance(item, pytest.Function):  # a linter's item is no test of the file
            return True
        name = item.nodeid.partition("::")[2]
        return any(_is_or_below(name, each) for each in names)

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self.others_too = self.others_too or items is not self._deselected

    # -- nothing to run ------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        output = getattr(self.config, "workeroutput", None)
        if output is not None:
            output["greenline"] = (self.left_out, self.others_too)
        elif exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self.left_out and not self.others_too:
            self._nothing_to_run = True
            session.exitstatus = pytest.ExitCode.OK

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        left_out, others_too = getattr(node, "workeroutput", {}).get("greenline", (False, False))
        self.left_out, self.others_too = self.left_out or left_out, self.others_too or others_too

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._nothing_to_run:
            terminalreporter.write_line("greenline: no test is affected")


_WIDE = ("Scope.Session", "Scope.Package", "session", "package")


def _scopes(item: pytest.Item) -> Iterable[object]:
    """The scopes of what a test is parametrized with."""
    return getattr(getattr(item, "callspec", None), "_arg2scope", {}).values()


def _is_or_below(name: str, selected: str) -> bool:
    """Is a test the selected one, a parametrisation of it ("test_x[1]"), or a part of the selected class?"""
    rest = name[len(selected) :]
    return name.startswith(selected) and not (rest[:1].isalnum() or rest[:1] == "_")
