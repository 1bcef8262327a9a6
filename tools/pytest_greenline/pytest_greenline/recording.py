"""pytest's hooks for recording: when a test, a collection or a fixture begins and ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator
from typing import Any

import pytest

from pytest_greenline import forked, fresh, loading
from pytest_greenline.inside import Inside, repository_of
from pytest_greenline.probes import Probes
from pytest_greenline.recorder import Owner, Recorder

OFF = ("off", "0", "false", "no")
_WIDE = ("class", "module", "package", "session")
_active: Recording | None = None


def start(config: pytest.Config, folder: str) -> None:
    """Begin to record this process, or say why not; at most once."""
    global _active
    if _active is not None:
        return
    if os.environ.get("GREENLINE_RECORDING", "").lower() in OFF:
        config.pluginmanager.register(NotRecorded("recording is off ($GREENLINE_RECORDING)"), "greenline-recording")
        return
    if sys.version_info < (3, 11):
        config.pluginmanager.register(NotRecorded("recording needs Python 3.11 or later"), "greenline-recording")
        return
    root = repository_of(str(config.rootpath))
    worker = "PYTEST_XDIST_WORKER" in os.environ
    try:
        inside = Inside(root)
        recorder = Recorder(inside, folder, "worker" if worker else "main", inside.relative(str(config.rootpath)) or "")
        probes = Probes(recorder)
        reason = recorder.start()
        if reason is None:
            probes.install()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    if reason is not None:
        config.pluginmanager.register(NotRecorded(f"nothing is recorded: {reason}"), "greenline-recording")
        return
    _active = Recording(config, recorder, probes)
    config.pluginmanager.register(_active, "greenline-recording")


def folder_of(config: pytest.Config, given: str) -> str:
    """Where the record goes; by default a new folder in the repository, which git ignores."""
    if given:
        return os.path.abspath(config.invocation_params.dir / given)
    records = os.path.join(repository_of(str(config.rootpath)), ".greenline", "records")
    os.makedirs(records, exist_ok=True)
    ignore = os.path.join(records, ".gitignore")
    if not os.path.exists(ignore):
        with open(ignore, "w", encoding="utf-8") as file:
            file.write("*\n")
    return os.path.join(records, f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}")


class NotRecorded:
    """Says why there is no record; the tests run as always."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def pytest_report_header(self) -> str:
        return f"greenline: {self.reason}"


class Recording:
    """The hooks of one session that is recorded."""

    def __init__(self, config: pytest.Config, recorder: Recorder, probes: Probes) -> None:
        self.config = config
        self.recorder = recorder
        self.probes = probes
        self.test: Owner | None = None
        self.told: list[str] = []
        self._failures: list[str] = []
        self._reports: list[pytest.TestReport] = []
        self._removed = False
        self._chains: dict[str, frozenset[str]] = {}
        self._fixture_ids: dict[Any, str] = {}
        self._is_worker = hasattr(config, "workerinput")
        self._forks = False  # the forking pass is on: its children are no children of a test
        self._alone: dict[str, forked.Alone] = {}
        self._owners: dict[str, Owner] = {}
        self._alone_file = config.known_args_namespace.greenline_alone  # of a process as fresh.py starts it
        self._passed_alone: dict[str, forked.Alone] = {}
        recorder.edges = bool(self._alone_file)
        os.register_at_fork(before=self._before_fork, after_in_child=self._after_fork)

    def pytest_report_header(self) -> str:
        reason = loading.impossible()
        hooks = f" by the interpreter's hooks, which is slower: {reason}" if reason else ""
        return f"greenline: recording into {self.recorder.folder}{hooks}"

    # -- collection --------------------------------------------------------------------------------------

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, Any, None]:
        path = self.recorder.inside.relative(str(collector.path))
        if path is None:
            yield
            return
        depth = self.recorder.begin(self.recorder.unit(f"collect:{path}"))
        yield
        self.recorder.end(depth)

    # -- the forking pass --------------------------------------------------------------------------------

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, Any, None]:
        if self.config.getoption("greenline_fork") and not self.config.getoption("collectonly"):
            if not hasattr(session, "items") or self._is_worker:
                self.told.append("no forking pass: it needs one process, not pytest-xdist's")
            elif reason := forked.cannot_fork():
                self._run_files(session.items, reason)
            else:
                self._run_alone(session.items)
        yield

    def _run_alone(self, items: list[pytest.Item]) -> None:
        self._forks = True
        for item in items:
            self.test = owner = Owner(self.node_id(item))
            found = forked.run_alone(item, self.recorder, owner)
            if found is not None:
                self._alone[owner.id] = found
        self.test = None
        self._forks = False
        self.told.append(f"forking pass: {len(self._alone):,} of {len(items):,} tests passed alone")

    def _run_files(self, items: list[pytest.Item], reason: str) -> None:
        files = dict.fromkeys(str(item.path) for item in items)
        found = fresh.run_files(self.config, files)
        self._alone = {id: found[id] for id in map(self.node_id, items) if id in found}
        passed = f"{len(self._alone):,} of {len(items):,} tests passed"
        self.told.append(f"no forking pass: {reason}; a process for each of {len(files):,} files instead: {passed}")

    def _write_cache_edges(self) -> None:
        edges: dict[forked.Block, set[forked.Block]] = {}
        for id, alone in self._alone.items():
            if id in self._owners:
                found, rest = forked.cache_edges(alone, self.recorder.blocks_of(self._owners[id]))
                for caller, blocks in found.items():
                    edges.setdefault(caller, set()).update(blocks)
                if rest:
                    self.recorder.write_edges({"kind": "part", "id": id}, rest)
        for (path, name), blocks in sorted(edges.items()):
            self.recorder.write_edges({"kind": "cache", "path": path, "name": name}, blocks)

    # -- tests -------------------------------------------------------------------------------------------

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, None]:
        recorder = self.recorder
        self._reports = []
        self.test = owner = recorder.begin_test(self.node_id(item))
        owner.units.update(self._inherited(item))
        yield
        self.test = None
        phases: dict[str, float] = {}
        for report in self._reports:
            phases[report.when or ""] = phases.get(report.when or "", 0.0) + report.duration
        if self._alone:
            self._owners[owner.id] = owner
        outcome = outcome_of(self._reports)
        if self._alone_file and outcome == "passed":
            self._passed_alone[owner.id] = recorder.edges_of(recorder.with_units(owner))
        recorder.end_test(owner, outcome, phases)

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Not run, but there: a function of which only some parameters ran is not known whole."""
        self.recorder.left_out([self.node_id(item) for item in items if "[" in item.nodeid])

    def node_id(self, item: pytest.Item) -> str:
        path = self.recorder.inside.relative(str(item.path))
        name = item.nodeid.partition("::")[2]
        group = item.get_closest_marker("xdist_group") if self._is_worker else None
        if group is not None:  # pytest-xdist adds it to the node id
            name = name.removesuffix(f"@{group.kwargs.get('name', group.args[0] if group.args else 'default')}")
        return item.nodeid if path is None else f"{path}::{name}" if name else path

    def _inherited(self, item: pytest.Item) -> frozenset[str]:
        """Units of what led to a test: hooks, the collection of its file and folders, their conftest files."""
        path = self.recorder.inside.relative(str(item.path))
        if path is None:
            return frozenset({"hook:session"})
        if path not in self._chains:
            found, folder = {"hook:session", f"collect:{path}"}, path
            while folder:
                folder = folder.rpartition("/")[0]
                found |= {f"collect:{folder}", f"module:{folder}/conftest.py" if folder else "module:conftest.py"}
            self._chains[path] = frozenset(each for each in found if each in self.recorder.units)
        return self._chains[path]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """pytest forgets which fixtures a test used by the end of its protocol."""
        request = getattr(item, "_request", None)
        if self.test is not None:
            for definition in getattr(request, "_fixture_defs", {}).values():
                if definition.scope in _WIDE:
                    self.test.units.add(self._fixture_id(definition))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.test is not None:
            self._reports.append(report)

    # -- fixtures ----------------------------------------------------------------------------------------

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Generator[None, Any, None]:
        if fixturedef.scope not in _WIDE:
            yield
            return
        recorder = self.recorder
        unit = recorder.unit(self._fixture_id(fixturedef))
        recorder.owner().units.add(unit.id)
        depth = recorder.begin(unit)
        torn_down: list[int] = []
        # Finalizers run last in, first out: the fixture's own ones come between these two.
        fixturedef.addfinalizer(lambda: recorder.end(torn_down.pop()) if torn_down else None)
        yield
        recorder.end(depth)
        fixturedef.addfinalizer(lambda: torn_down.append(recorder.begin(unit)))
        for name in fixturedef.argnames:
            used = getattr(request, "_fixture_defs", {}).get(name)
            if used is not None and used.scope in _WIDE:
                unit.units.add(self._fixture_id(used))

    def _fixture_id(self, definition: Any) -> str:
        if definition not in self._fixture_ids:
            self._fixture_ids[definition] = self._find_fixture_id(definition)
        return self._fixture_ids[definition]

    def _find_fixture_id(self, definition: Any) -> str:
        """Fixtures that pytest makes of setup_module and the like belong to the file that has these."""
        code = getattr(definition.func, "__code__", None)
        path = self.recorder.inside.relative(code.co_filename) if code else None
        if not path and definition.baseid:
            path = self.recorder.inside.relative(str(self.config.rootpath / definition.baseid.partition("::")[0]))
        path = path or getattr(definition.func, "__module__", "") or ""
        return f"fixture:{path}::{definition.argname}@{definition.scope}"

    # -- forks and the end -------------------------------------------------------------------------------

    def _before_fork(self) -> None:
        if not self._removed:
            self.recorder.flush()

    def _after_fork(self) -> None:
        if not self._removed and not self.recorder.failure and not self._forks:
            try:
                self.recorder.become_child()
            except Exception as error:
                self.recorder.fail(error)

    @pytest.hookimpl(tryfirst=True)  # a worker that told of its end may be killed at any time
    def pytest_sessionfinish(self) -> None:
        self._finish()
        output = getattr(self.config, "workeroutput", None)
        if output is not None:
            output["greenline_recording"] = self.recorder.failure

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        failure = getattr(node, "workeroutput", {}).get("greenline_recording")
        if failure:
            self._failures.append(failure)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for line in self.told:
            terminalreporter.write_line(f"greenline: {line}")
        for failure in dict.fromkeys(filter(None, [self.recorder.failure, *self._failures])):
            terminalreporter.write_line(
                f"greenline: warning: recording stopped: {failure}; what this process recorded does not count",
                yellow=True,
            )

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Before the interpreter ends: callbacks that run then can fail."""
        global _active
        self._finish()
        _active = None

    def _finish(self) -> None:
        if not self._removed:
            self._removed = True
            self.probes.remove()
            self.recorder.stop()
            if self._alone and not self.recorder.failure:
                self._write_cache_edges()
            if self._alone_file and not self.recorder.failure:
                fresh.write(self._alone_file, self._passed_alone)
            self.recorder.close()


def outcome_of(reports: list[pytest.TestReport]) -> str:
    """One word for all reports of a test."""
    outcomes = {report.outcome for report in reports}
    if outcomes == {"passed"} and len(reports) > 2:  # nearly always
        return "passed"
    if any(report.outcome == "rerun" for report in reports):  # type: ignore[comparison-overlap]
        return "rerun"
    failed = [report for report in reports if report.failed]
    if any("Timeout" in str(report.longrepr).rpartition("\n")[2] for report in failed):
        return "timeout"
    if failed:
        return "failed" if any(report.when == "call" for report in failed) else "error"
    if any(hasattr(report, "wasxfail") and report.skipped for report in reports):
        return "xfailed"
    if any(report.skipped for report in reports):
        return "skipped"
    return "passed" if any(report.when == "call" for report in reports) else "error"
