"""Suites: which files pytest collects, and under which configuration, read without running pytest.

The rules are those of pytest 9 (`_pytest/config/findpaths.py`, `main.py`, `python.py`), for a repository:

* Each folder with a pytest configuration is the root of a suite. The deepest root around a file owns it.
  What no root contains belongs to a suite with pytest's defaults at the repository's root.
* A file is a test if a bare `pytest` in its owner's root would collect it: the testpaths lead to it
  (without testpaths the whole root does), no folder on the way matches norecursedirs, `--ignore` spares it,
  and its name matches python_files or a doctest glob. A `test_*.py` outside the testpaths could be run by
  naming it, but no bare `pytest` runs it: it is no test.
* A suite whose testpaths lead into a deeper root, or out of its own, also runs what it collects there.

What only a run can tell counts as a test: files that `collect_ignore` in a conftest would leave out, and
the whole root where addopts holds paths.
All paths are relative to the repository, with "/" between; "" is the repository's root.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from greenline.depgraph.errors import GreenlineError

# By precedence within one folder. The first four configure pytest even when they are empty.
_NAMES = (
    "pytest.toml",
    ".pytest.toml",
    "pytest.ini",
    ".pytest.ini",
    "pyproject.toml",
    "tox.ini",
    "setup.cfg",
)
_OWN_NAMES = frozenset(_NAMES[:4])


class SuiteError(GreenlineError):
    """A configuration file that pytest would refuse. `line` counts from 1; 0 if it is not known."""

    def __init__(self, path: str, line: int, problem: str) -> None:
        where = f"{path}:{line}" if line else path
        super().__init__(f"{where}: {problem}", "mend it: pytest refuses it too")
        self.path, self.line = path, line


class Suite(NamedTuple):
    """One pytest root and what its configuration says: strings and tuples of strings."""

    name: str  # the declared name; else the root, "." for the repository's root
    root: str
    config: str = ""  # the configuration file; "" if there is none
    testpaths: tuple[str, ...] = ()  # globs; () means the whole root
    python_files: tuple[str, ...] = ("test_*.py", "*_test.py")
    python_classes: tuple[str, ...] = ("Test",)
    python_functions: tuple[str, ...] = ("test",)
    norecursedirs: tuple[str, ...] = (
        "*.egg", ".*", "_darcs", "build", "CVS", "dist", "node_modules", "venv", "{arch}",
    )  # fmt: skip
    pythonpath: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()  # modules: `-p NAME`, and required_plugins spelled as modules
    import_mode: str = "prepend"  # or "append", "importlib"
    confcutdir: str = ""  # the conftest.py files of folders above this one are not loaded
    ignored: tuple[str, ...] = ()  # --ignore: files and folders
    ignored_globs: tuple[str, ...] = ()  # --ignore-glob: fnmatch patterns
    deselected: tuple[str, ...] = ()  # --deselect: beginnings of node ids, relative to the root
    doctests: tuple[str, ...] = ("test*.txt",)  # globs; --doctest-modules gives "*.py"; the default is pytest's
    usefixtures: tuple[str, ...] = ()  # what every test requests


def is_config_name(path: str) -> bool:
    """Could this path configure pytest? Looks at the file's name only."""
    return posixpath.basename(path) in _NAMES


def read_config(path: str, data: bytes) -> Suite | None:
    """The suite of one configuration file; None if it has no section for pytest. Raises SuiteError."""
    if b"pytest" not in data and posixpath.basename(path) not in _OWN_NAMES:
        return None  # cheap, and spares us what only looks like a configuration: templates, broken test data
    try:
        table = _read_toml(path, data) if path.endswith(".toml") else _read_ini(path, data)
        if table is None:
            return None
        root = posixpath.dirname(path)
        words = {key: _words(value) for key, value in table.items() if key in _KEYS}
        options, arguments = _read_addopts(words.get("addopts", []))
        for override in options.get("-o", []) + options.get("--override-ini", []):
            key, _, value = override.partition("=")
            if key in ("python_files", "python_classes", "python_functions"):
                before = _words(words.get(key, Suite._field_defaults[key]))  # pytest heeds it since 9.1
                words[key] = [*before, *_words(value)]
    except ValueError as error:
        line = re.search(r"at line (\d+)", str(error)) or re.match(r"line (\d+): ", str(error))
        message = str(error).removeprefix(line[0]) if line else str(error)
        raise SuiteError(path, int(line[1]) if line else 0, message) from error
    suite = _configured(Suite(root or ".", root, path), words)
    plugins = [name for name in map(str.strip, options.get("-p", [])) if not name.startswith("no:")]
    required = [re.split(r"[^\w.-]", requirement)[0] for requirement in words.get("required_plugins", [])]
    doctest_modules = ["*.py"] if "--doctest-modules" in options else []
    return suite._replace(
        testpaths=suite.testpaths and (*suite.testpaths, *_testpaths(root, arguments)),
        plugins=(
            *plugins,
            *(name.replace("-", "_") for name in required),
            *words.get(_DJANGO, []),
            *options.get("--ds", []),
        ),
        import_mode=options.get("--import-mode", [suite.import_mode])[-1],
        confcutdir=(*_paths(root, options.get("--confcutdir", [])[-1:]), root)[0],
        ignored=_paths(root, options.get("--ignore", [])),
        ignored_globs=_globs(root, options.get("--ignore-glob", [])),
        deselected=tuple(options.get("--deselect", [])),
        doctests=(*doctest_modules, *options.get("--doctest-glob", suite.doctests)),
    )


def find_suites(
    configs: Mapping[str, bytes],
    declared: Sequence[Mapping[str, object]] = (),
    errors: list[SuiteError] | None = None,
) -> list[Suite]:
    """The suites of a repository, by root. One of them has the repository's root.

    configs: path → content of each file whose name is_config_name() accepts.
    declared: suites from Greenline's configuration: `name`, `root`, and optionally `testpaths`,
    `python_files`, `pythonpath`, `plugins`, with paths relative to that root. A declared suite replaces the
    one found at its root; what it does not say comes from the configuration that pytest would find there.
    errors: takes up broken files, which are skipped; without it the first one raises SuiteError.

    In a repository without any configuration, what unittest and Django discover are tests too (`test*.py`).
    """
    found: dict[str, Suite] = {}
    for path in sorted(configs, key=lambda path: _NAMES.index(posixpath.basename(path))):
        if posixpath.dirname(path) in found:
            continue
        try:
            suite = read_config(path, configs[path])
        except SuiteError as error:
            if errors is None:
                raise
            errors.append(error)
        else:
            if suite:
                found[suite.root] = suite
    if not found and not declared:
        return [Suite(".", "", python_files=("test*.py", "*_test.py"))]
    found.setdefault("", Suite(".", ""))
    added = [_declared_suite(entry, found) for entry in declared]
    replaced = {suite.root for suite in added}
    return sorted([*added, *(s for s in found.values() if s.root not in replaced)], key=lambda suite: suite.root)


def leads_into(suites: Iterable[Suite], paths: Iterable[str]) -> bool:
    """Whether the testpaths of a suite lead to one of these files."""
    globs = [glob for suite in suites for glob in suite.testpaths]
    leads = re.compile("|".join(f"(?:{_glob_regex(glob)})(?:/|\\Z)" for glob in globs) or r"(?!)").match
    return any(map(leads, paths))


class SuiteIndex:
    """Answers for paths, made for many calls: the verdict on a folder is kept.

    files: the repository's files; with them, testpaths that lead nowhere count as unset, as in pytest.
    """

    def __init__(self, suites: Sequence[Suite], files: Sequence[str] = ()) -> None:
        rules = [_Rules(suite, files) for suite in suites]
        self._by_root: dict[str, list[_Rules]] = {}
        for one in rules:
            self._by_root.setdefault(one.suite.root, []).append(one)
        self._outside = [one for one in rules if one.testpaths and one.leaves_root]
        self._folders: dict[str, _Folder] = {}

    def suite_of(self, path: str) -> Suite | None:
        """The suite that runs this file; if none does, the one with the deepest root around it."""
        folder, _, name = path.rpartition("/")
        known = self._folder(folder)
        runners = (one for one in known.walkers if one.collects(path, name))
        named = (one for one in known.rules if one.names(path, name))
        return next((one.suite for one in chain(runners, named, known.rules)), None)

    def names_of_tests(self, path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What pytest takes for test functions and test classes in this file: prefixes and globs of each."""
        suite = self.suite_of(path) or Suite("", "")
        return suite.python_functions, suite.python_classes

    def is_test_file(self, path: str) -> bool:
        """Would pytest collect this file? (Whether there is a test in it, its content tells.)"""
        folder, _, name = path.rpartition("/")
        known = self._folders.get(folder) or self._folder(folder)
        for one in known.walkers:
            if one.collects(path, name):
                return True
        return known.can_name and any(one.names(path, name) for one in known.rules)

    def only_doctests(self, path: str) -> bool:
        """For a test file: would pytest look only for doctests in it?"""
        folder, _, name = path.rpartition("/")
        known = self._folder(folder)
        return not (name.endswith(".py") and any(one.is_python_test(path, name) for one in known.rules))

    def settled(self) -> list[Suite]:
        """The suites, without testpaths that lead nowhere among the files that this index was made with."""
        every = (one for rules in self._by_root.values() for one in rules)
        return [one.suite if one.testpaths else one.suite._replace(testpaths=()) for one in every]

    def conftest_chain(self, path: str, has: Callable[[str], bool]) -> list[str]:
        """The conftest.py files that may apply to this file, nearest first. has: does this path exist?"""
        limit = self.conftest_limit(posixpath.dirname(path))
        above = set(_folders(limit)) if limit else set()
        conftests = (posixpath.join(folder, "conftest.py") for folder in _folders(path) if folder not in above)
        return list(filter(has, conftests))

    def conftest_limit(self, folder: str) -> str:
        """The highest folder whose conftest.py may apply to tests in this one: that of the outermost suite that may
        run them."""
        around = self._folder(folder).around
        limit = around[0].suite.confcutdir if around else ""
        for outer in around[1:]:
            if not outer.testpaths or outer.walks(folder):
                limit = outer.suite.confcutdir
        return limit

    def _folder(self, folder: str) -> _Folder:
        if folder not in self._folders:
            around = self._folder(posixpath.dirname(folder)).around if folder else ()
            around = (*self._by_root.get(folder, ()), *around)
            rules = (*around, *(one for one in self._outside if one not in around))
            # Without testpaths, a suite leaves what lies under a deeper root to the suite there.
            mine = (one for one in rules if one.testpaths or one.suite.root == around[0].suite.root)
            walkers = tuple(one for one in mine if one.walks(folder))
            self._folders[folder] = _Folder(walkers, around, rules, any(one.testpaths for one in rules))
        return self._folders[folder]


class _Folder(NamedTuple):
    """What is known about one folder."""

    walkers: tuple[_Rules, ...]  # the suites whose pytest walks through it, deepest root first
    around: tuple[_Rules, ...]  # the suites whose root contains it, deepest first
    rules: tuple[_Rules, ...]  # the same, then those whose testpaths leave their own root
    can_name: bool  # could testpaths name single files in it?


class _Rules:
    """One suite, compiled."""

    def __init__(self, suite: Suite, files: Sequence[str]) -> None:
        self.suite = suite
        regex = "|".join(map(_glob_regex, suite.testpaths))
        self.testpaths = re.compile(regex) if regex else None
        if regex and files and not any(map(re.compile(f"(?:{regex})(?:/|\\Z)").match, files)):
            self.testpaths = None
        below = re.escape(suite.root) + "/"
        starts = (_glob_regex(path) + "/" for path in suite.testpaths)
        self.leaves_root = suite.root != "" and not all(start.startswith(below) for start in starts)
        self.is_python_test = _matcher(suite.python_files)
        self._is_doctest = _matcher(suite.doctests)
        self._is_cut = _matcher((*suite.norecursedirs, "__pycache__"))
        self._ignored = frozenset(suite.ignored)
        self._ignored_globs = re.compile("|".join(map(fnmatch.translate, suite.ignored_globs)) or r"(?!)")
        files_off = (start for start in suite.deselected if "::" not in start)
        self._deselected = tuple(posixpath.join(suite.root, start) for start in files_off)
        self._walked: dict[str, bool] = {}

    def walks(self, folder: str) -> bool:
        """Would pytest walk through this folder?"""
        if folder not in self._walked:
            start = self.testpaths.fullmatch(folder) is not None if self.testpaths else folder == self.suite.root
            self._walked[folder] = start or (
                folder != ""
                and self.walks(posixpath.dirname(folder))
                and not self._is_cut(folder, posixpath.basename(folder))
                and not self._ignores(folder)
            )
        return self._walked[folder]

    def collects(self, path: str, name: str) -> bool:
        """Would pytest, on its way through the folder, take up this file?"""
        if name.endswith(".py"):
            doctests = "*.py" in self.suite.doctests and name != "__main__.py"
            wanted = doctests or self.is_python_test(path, name)
        else:
            wanted = self._is_doctest(path, name)
        return wanted and not self._ignores(path) and not path.startswith(self._deselected)

    def names(self, path: str, name: str) -> bool:
        """Do the testpaths name this very file? Then it need not match python_files."""
        if not self.testpaths or not self.testpaths.fullmatch(path):
            return False
        return name.endswith((".py", ".txt", ".rst")) or self._is_doctest(path, name)

    def _ignores(self, path: str) -> bool:
        return path in self._ignored or self._ignored_globs.match(path) is not None


# -- configuration files

_LISTS = ("testpaths", "python_files", "python_classes", "python_functions", "norecursedirs", "pythonpath")
_KEYS = frozenset((*_LISTS, "addopts", "required_plugins", "usefixtures", "DJANGO_SETTINGS_MODULE"))
_DJANGO = "DJANGO_SETTINGS_MODULE"  # of pytest-django: every test runs with these settings
# The options of addopts that matter here and take a value; and those that never take the next word as theirs.
_PATH_OPTIONS = ("--confcutdir", "--ignore", "--ignore-glob", "--deselect", "--doctest-glob")
_WITH_VALUE = frozenset(("-p", "--ds", "-o", "--override-ini", "--import-mode", *_PATH_OPTIONS))
_WITHOUT_VALUE = re.compile(r"-[vqslx]+|-r\w+|--[\w-]+=.*|--doctest-modules", re.DOTALL)


def _read_ini(path: str, data: bytes) -> Mapping[str, object] | None:
    """The options for pytest in an INI file. Raises ValueError."""
    import iniconfig  # pytest's own parser

    try:
        sections = iniconfig.IniConfig(path, _text(data)).sections
    except iniconfig.ParseError as error:
        raise ValueError(f"line {error.lineno + 1}: {error.msg}") from error
    name = posixpath.basename(path)
    if name != "setup.cfg":
        return sections.get("pytest", {} if name in _OWN_NAMES else None)
    if "pytest" in sections and "tool:pytest" not in sections:
        raise ValueError("in a setup.cfg the section must be called [tool:pytest], not [pytest]")
    return sections.get("tool:pytest")


def _read_toml(path: str, data: bytes) -> Mapping[str, object] | None:
    """The options for pytest in a TOML file. Raises ValueError."""
    import tomllib

    document = tomllib.loads(_text(data))
    if posixpath.basename(path) in _OWN_NAMES:
        return _typed(_table(document, "pytest"))
    table = _table(_table(document, "tool"), "pytest")
    typed = _typed({key: value for key, value in table.items() if key != "ini_options"})
    if typed and table.get("ini_options"):
        raise ValueError("[tool.pytest] and [tool.pytest.ini_options] exclude each other")
    if typed or "ini_options" not in table:
        return typed or None
    options = _table(table, "ini_options")
    return {key: value if isinstance(value, list) else str(value) for key, value in options.items()}


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line}: not UTF-8") from error


def _table(table: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise ValueError(f"{key} must be a table")
    return value


def _typed(table: Mapping[str, object]) -> Mapping[str, object]:
    """Outside ini_options, lists must be lists of strings."""
    for key in sorted(_KEYS & table.keys()):
        value = table[key]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"{key} must be a list of strings")
    return table


def _words(value: object) -> list[str]:
    """The words of an option of pytest's type "args". Raises ValueError for an unclosed quotation."""
    if isinstance(value, str):
        return shlex.split(value)
    return [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]


def _read_addopts(words: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """(option → values, paths). A word that may be the value of an option unknown here is left out."""
    options: dict[str, list[str]] = {}
    paths = []
    may_be_path = True
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if word[:2] in ("-p", "-o") and len(word) > 2:
            option, value = word[:2], word[2:]
        elif option in _WITH_VALUE and not equals:
            value = next(rest, "")
        elif not word.startswith("-"):
            if may_be_path:
                paths.append(word)
            continue
        may_be_path = option in _WITH_VALUE or _WITHOUT_VALUE.fullmatch(word) is not None
        options.setdefault(option, []).append(value)
    return options, paths


def _configured(suite: Suite, options: Mapping[str, Sequence[str]]) -> Suite:
    """The suite with these options, read in its root."""
    fields = {key: tuple(words) for key, words in options.items() if key in Suite._fields}
    if "testpaths" in fields:
        fields["testpaths"] = _testpaths(suite.root, fields["testpaths"])
    if "pythonpath" in fields:
        fields["pythonpath"] = _paths(suite.root, fields["pythonpath"])
    return suite._replace(**fields)  # type: ignore[arg-type]


def _declared_suite(entry: Mapping[str, object], found: Mapping[str, Suite]) -> Suite:
    root = (*_paths("", [str(entry["root"])]), "")[0]
    base = next(found[folder] for folder in (root, *_folders(root)) if folder in found)
    if base.root != root:
        base = base._replace(testpaths=())  # pytest heeds them only when it starts in the rootdir
    options = {key: _words(entry[key]) for key in ("testpaths", "python_files", "pythonpath") if key in entry}
    plugins = (*base.plugins, *_words(entry.get("plugins", ())))
    return _configured(base._replace(name=str(entry["name"]), root=root, plugins=plugins), options)


# -- paths and patterns


def _paths(root: str, values: Iterable[str]) -> tuple[str, ...]:
    """Paths below the root, made relative to the repository. What lies outside the repository is left out."""
    joined = (posixpath.normpath(posixpath.join(root, value)) for value in values)
    return tuple("" if path == "." else path for path in joined if not (path + "/").startswith(("/", "../")))


def _globs(root: str, patterns: Iterable[str]) -> tuple[str, ...]:
    """The same for patterns."""
    return _paths(re.sub(r"[*?[]", r"[\g<0>]", root), patterns)


def _testpaths(root: str, patterns: Iterable[str]) -> tuple[str, ...]:
    """The same for testpaths; () if one of them means the whole repository."""
    found = _globs(root, (re.sub(r"(^|/)\*\*$", "", pattern) or "." for pattern in patterns))
    return () if "" in found else found


def _folders(path: str) -> Iterator[str]:
    """The folders above a path, nearest first, "" last."""
    while path:
        path = posixpath.dirname(path)
        yield path


def _glob_regex(pattern: str) -> str:
    """What `glob.glob(pattern, recursive=True)` finds, as a regular expression for a whole path."""
    return "/".join(map(_segment_regex, pattern.split("/"))).replace("**/", r"(?:(?!\.)[^/]+/)*")


def _segment_regex(segment: str) -> str:
    if segment == "**":
        return segment
    may_hide = segment.startswith(".") or not re.search(r"[*?[]", segment)
    return ("" if may_hide else r"(?!\.)") + re.sub(r"\*+|\?|\[!?\]?[^\]]*\]|.", _token_regex, segment, flags=re.DOTALL)


def _token_regex(token: re.Match[str]) -> str:
    text = token[0]
    if text[0] == "*":
        return "[^/]*"
    if text == "?":
        return "[^/]"
    if len(text) == 1:
        return re.escape(text)
    negated = text[1] == "!"
    return f"[{'^' * negated}" + re.sub(r"([^-\w])", r"\\\1", text[1 + negated : -1]) + "]"


def _matcher(patterns: Sequence[str]) -> Callable[[str, str], bool]:
    """pytest's fnmatch_ex for many patterns: (path, its last part) → does one match?

    A pattern with a slash looks at the whole path, one without at the last part.
    """
    on_names = re.compile("|".join(fnmatch.translate(p) for p in patterns if "/" not in p) or r"(?!)").match
    on_paths = [re.compile(fnmatch.translate("*/" + p)).match for p in patterns if "/" in p]
    return lambda path, name: on_names(name) is not None or any(match("/" + path) for match in on_paths)
