"""Which tests use a fixture that changed: the facts of many files (:mod:`.fixtures`), joined by pytest's rules."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from greenline.depgraph.fixtures import FileFixtures, Fixture

# Fixtures of pytest and common plugins, and what they request that a suite may define. All others are unknown.
PLUGIN_FIXTURES = {
    name: tuple(requests.split())
    for line in """
        LineMatcher benchmark cache capfd capfdbinary caplog capsys capsysbinary capteesys class_mocker cli_runner
        count_queries cov doctest_namespace fake_process fp freezer fs isolated_cli_runner linecomp mocker
        module_mocker monkeypatch no_cover package_mocker pytestconfig record_property record_testsuite_property
        record_xml_attribute recwarn request requests_mock session_mocker snapshot socket_disabled socket_enabled
        subtests testrun_uid tmp_path_factory unused_tcp_port unused_tcp_port_factory worker_id
        tmp_path tmpdir_factory: tmp_path_factory
        tmpdir: tmp_path
        pytester testdir: tmp_path_factory monkeypatch
        async_client async_rf django_assert_max_num_queries django_assert_num_queries django_db_blocker mailoutbox
        django_capture_on_commit_callbacks rf settings
        db transactional_db django_db_reset_sequences django_db_serialized_rollback: django_db_setup
        django_user_model django_username_field: db
        admin_client async_admin_client admin_user: db admin_user django_user_model
        client client_class: app
        aiohttp_client aiohttp_server aiohttp_raw_server: event_loop loop aiohttp_client_cls
        """.splitlines()
    for names, _, requests in [line.partition(":")]
    for name in names.split()
}

# Fixtures by which a suite configures plugins: these request them for every test.
_SETTINGS = re.compile(r"(anyio_backend|browser_|celery_|django_|docker_|event_loop|faker_|live_server|vcr)\w*")


def requesters(
    changed: Mapping[str, Collection[str]],
    files: Mapping[str, FileFixtures],
    chain: Callable[[str], Sequence[str]],
    before: Mapping[str, FileFixtures] | None = None,
    imported: Callable[[str, str], str | None] = lambda path, module: None,
    usefixtures: Collection[str] = (),
) -> dict[str, tuple[str, ...] | None]:
    """The tests that use a changed fixture: file → node ids in it, or None for the whole file.

    changed: path → names of the fixtures there that changed, came or went.
    files: path → facts, of the test files, conftests, plugins, and of files that these import fixtures from. Any
    of them with tests can be in the answer, except a conftest.py.
    chain: path → the conftest.py files that apply to it, nearest first, and then its plugins.
    before: the facts of changed files as they were; FileFixtures() for a new one. In a file that is missing here
    the fixtures may have been autouse: they reach every test below it.
    imported: (path, module as its import writes it) → the path of that module, None if it is not in the
    repository. What is imported from there may request anything.
    usefixtures: what the configuration of the suite makes every test request.

    A changed fixture that no test and no other fixture requests may serve a plugin: it reaches every test below.
    """
    levels = _Levels(changed, files, before or {}, imported)
    answer: dict[str, tuple[str, ...] | None] = {}
    for path, facts in files.items():
        if posixpath.basename(path) == "conftest.py":
            continue
        above = chain(path)
        conftests = [(one,) for one in above if posixpath.basename(one) == "conftest.py"]
        plugins = tuple(one for one in above if posixpath.basename(one) != "conftest.py")
        outer = [levels.get(place) for place in ((path,), *conftests, plugins)]
        if path not in changed and not any(level.changed for level in outer):
            continue
        views: dict[tuple[tuple[str, ...], ...], _View] = {}
        selected = [""] * levels.imports_tests(path)
        for test in facts.tests:
            key = (test.classes, test.parametrized)
            if key not in views:
                inner = [levels.get((path,), scope) for scope in test.classes]
                views[key] = _View([*inner, *outer], levels.unrelated, test.parametrized, usefixtures)
            if test.dynamic or views[key].uses_change(test.requests):
                selected.append(test.node_id)
        if facts.opaque or "" in selected or (selected and len(selected) == len(facts.tests)):
            answer[path] = None
        elif selected:
            answer[path] = tuple(dict.fromkeys(selected))
    return answer


def names_leading_to(changed: Collection[str], files: Iterable[FileFixtures]) -> set[str]:
    """The names whose request can lead to a fixture of these names, or to one that may request anything.

    changed: names of fixtures; files: the facts of all files that define fixtures. Where one of the answer is
    autouse, or in a suite's usefixtures, a test need not spell any of them.
    """
    return _related(changed, list(files))[0]


def _related(changed: Iterable[str], files: Collection[FileFixtures]) -> tuple[set[str], set[str]]:
    """The names whose request can lead to a change; and all names of fixtures that are known."""
    users: dict[str, set[str]] = {}
    for name, requests in PLUGIN_FIXTURES.items():
        for request in requests:
            users.setdefault(request, set()).add(name)
    known = set(PLUGIN_FIXTURES)
    related = set(changed)
    requested: set[str] = set()
    for facts in files:
        related.update(local for local, _, _ in facts.imports)
        for fixture in facts.fixtures:
            known.add(fixture.name)
            related |= {fixture.name} if fixture.dynamic else set()
            requested.update(fixture.requests)
            for request in fixture.requests:
                users.setdefault(request, set()).add(fixture.name)
    related |= requested - known
    queue = list(related)
    while queue:
        found = users.get(queue.pop(), set()) - related
        related |= found
        queue += found
    return related, known


class _Level(NamedTuple):
    """The fixtures of one class, of one file outside classes, or of all plugins together."""

    fixtures: dict[str, list[Fixture]]
    autouse: set[str]
    changed: set[str]
    flipped: set[str]  # those that have become autouse, or are it no longer
    open: bool  # may define any other name too


class _Levels:
    def __init__(
        self,
        changed: Mapping[str, Collection[str]],
        files: Mapping[str, FileFixtures],
        before: Mapping[str, FileFixtures],
        imported: Callable[[str, str], str | None],
    ) -> None:
        self.changed, self.files, self.before, self.imported = changed, files, before, imported
        self._targets: dict[tuple[str, str], str | None] = {}
        self._known: dict[tuple[tuple[str, ...], str], _Level] = {}

    def get(self, paths: tuple[str, ...], scope: str = "") -> _Level:
        """The level of a class in a file, or of these files."""
        key = (paths, scope)
        if key not in self._known:
            self._known[key] = _Level({}, set(), set(), set(), open=True)  # what files see that import each other
            level = _Level({}, set(), set(), set(), any(self._facts(path).opaque for path in paths))
            for path in paths:
                self._add_changes(level, path, scope)
                for fixture in self._facts(path).fixtures:
                    if fixture.scope_node == scope:
                        level.fixtures.setdefault(fixture.name, []).append(fixture)
                for local, module, original in () if scope else self._facts(path).imports:
                    level = self._with_import(level, local, original, self._target(path, module))
            level.autouse.update(
                fixture.name for group in level.fixtures.values() for fixture in group if fixture.autouse
            )
            self._known[key] = level
        return self._known[key]

    def _facts(self, path: str) -> FileFixtures:
        return self.files.get(path, FileFixtures())

    def _add_changes(self, level: _Level, path: str, scope: str) -> None:
        names = set(self.changed.get(path, ()))
        if not names or path not in self.before or self.before[path].opaque:
            level.changed.update(names)
            level.flipped.update(names)
            return
        sides = self.before[path].fixtures, self._facts(path).fixtures
        scopes = {(one.name, one.scope_node) for side in sides for one in side}
        names = {name for name in names if (name, scope) in scopes or name not in {other for other, _ in scopes}}
        certain = names & {one.name for side in sides for one in side if one.certain}
        was, now = ({one.name for one in side if one.autouse and one.scope_node == scope} for side in sides)
        level.changed.update(names)
        level.flipped.update(names & (was ^ now))
        level.autouse.update(name for name in certain if name not in self._requested or _SETTINGS.fullmatch(name))

    def _with_import(self, level: _Level, local: str, original: str, target: str | None) -> _Level:
        if not target:
            if local == "*":
                return level._replace(open=True)
            unknown = Fixture(local, local, False, "function", (), "", dynamic=True, certain=False)
            level.fixtures.setdefault(local, []).append(unknown)
            return level
        there = self.get((target,))
        names = {name: name for name in (*there.fixtures, *there.changed)}  # there → here
        if local != "*":
            # A fixture that its decorator names keeps this name.
            named = {one.name for group in there.fixtures.values() for one in group if one.function == original}
            names = {name: name if name != original else local for name in names if name in named or name == original}
        for name, mine in names.items():
            level.fixtures.setdefault(mine, []).extend(there.fixtures.get(name, ()))
            for attribute in ("autouse", "changed", "flipped"):
                if name in getattr(there, attribute):
                    getattr(level, attribute).add(mine)
        return level._replace(open=level.open or (there.open and local == "*"))

    def imports_tests(self, path: str) -> bool:
        """May a file have tests that another one defines?"""
        for local, module, original in self._facts(path).imports:
            if local in self._facts(path).test_imports:
                there = self.files.get(self._target(path, module) or "")
                if there is None or there.opaque or there.test_imports:
                    return True
                names = {test.node_id.partition("::")[0] for test in there.tests}
                if names and (original == "*" or not names.isdisjoint(("", original))):
                    return True
        return False

    def _target(self, path: str, module: str) -> str | None:
        key = (posixpath.dirname(path), module)
        if key not in self._targets:
            self._targets[key] = self.imported(path, module) if module else None
        return self._targets[key]

    @cached_property
    def _requested(self) -> set[str]:
        names: set[str] = set()
        for facts in self.files.values():
            names.update(facts.mentions, *(test.requests for test in facts.tests))
            names.update(name for one in facts.fixtures for name in one.requests if name != one.name)
        return names

    @cached_property
    def unrelated(self) -> set[str]:
        """The names that lead to no change, whoever requests them: only the others deserve a closer look."""
        related, known = _related({name for names in self.changed.values() for name in names}, self.files.values())
        return known - related


class _View:
    """The fixtures as tests of one class see them, or those of a file outside classes."""

    def __init__(
        self,
        levels: Sequence[_Level],
        unrelated: Collection[str],
        parametrized: Collection[str],
        usefixtures: Collection[str],
    ) -> None:
        self.levels = levels
        self.unrelated = () if any(level.open for level in levels) else unrelated
        self.parametrized = parametrized
        self._known: dict[str, bool] = {}
        autouse = (name for level in levels for name in level.autouse)
        self._always = any(level.flipped for level in levels) or self._any((*usefixtures, *autouse))

    def uses_change(self, requests: Iterable[str]) -> bool:
        return self._always or self._any(requests)

    def _any(self, requests: Iterable[str]) -> bool:
        for name in requests:
            if name not in self._known:
                self._known[name] = self._visit(name, {})
            if self._known[name]:
                return True
        return False

    def _visit(self, name: str, in_use: dict[str, int]) -> bool:
        """Does a request for this name lead to a changed fixture, or to one that may request anything?

        in_use: which definition of a name, counted from the nearest, is the next on the way here; 0 if the name
        has been visited. A fixture that requests its own name, directly or not, gets the next one outwards.
        """
        depth = in_use.get(name, 1)
        if depth == 0 or name in self.parametrized:
            return False
        passed = 0
        for level in self.levels:
            group = level.fixtures.get(name, ())
            if level.open or name in level.changed or not all(fixture.certain for fixture in group):
                return True
            passed += bool(group)
            if group and passed == depth:
                requests = [request for fixture in group for request in fixture.requests]
                unknown = any(fixture.dynamic for fixture in group)
                break
        else:
            asked = PLUGIN_FIXTURES.get(name, ())
            requests = [one for one in asked if any(one in level.fixtures for level in self.levels)]
            unknown = name not in PLUGIN_FIXTURES
        if name in self.unrelated:
            requests = []
        in_use[name] = depth + 1
        if unknown or any(self._visit(request, in_use) for request in requests):
            return True
        in_use[name] = depth if depth > 1 else 0
        return False
