"""Watch what raises no event of its own: files that are opened, listed and asked for, the environment, imports.

Audit hooks would see most of it, but Python calls them for each `id()` and `_getframe()` as well: `copy.deepcopy`
takes twice as long. So a few functions are replaced as long as recording is on. Imports need none of that. A module
that was imported already is found by its name, and the import system then asks its `__spec__` whether it is still
initializing: a property tells us. A module that is not there is looked for on `sys.meta_path`, where we listen first.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import io
import linecache
import os
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from typing import Any

from pytest_greenline import children
from pytest_greenline.recorder import Recorder

_getframe = sys._getframe  # tests take it away


class Probes:
    """Everything that is replaced, for one recorder; ``remove`` puts it back."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._undo: list[tuple[Any, str, Any]] = []
        self._specs: list[ModuleSpec] = []
        self._finder = _Listener(self, recorder)

    def install(self) -> None:
        recorder = self._recorder
        opener = _Watched(builtins.open, _opened(recorder, _mode_reads))
        self._replace(builtins, "open", opener)
        self._replace(io, "open", opener)
        for module, name in _OPENERS:
            if getattr(sys.modules.get(module), name, None) is self._undo[0][2]:
                self._replace(sys.modules[module], name, opener)
        self._replace(os, "open", _Watched(os.open, _opened(recorder, _flags_read)))
        if "sqlite3" in sys.modules:
            self.watch_sqlite()
        for name, kind in (("listdir", "listed"), ("scandir", "listed"), ("stat", "queried"), ("lstat", "queried"),
                           ("access", "queried"), ("readlink", "queried")):  # fmt: skip
            self._replace(os, name, _Watched(getattr(os, name), _asked(recorder, kind)))
        self._replace(subprocess.Popen, "_execute_child", children.execute_child(recorder))
        processes: Any = sys.modules.get("_posixsubprocess")  # not on Windows
        if processes is not None:
            self._replace(processes, "fork_exec", children.fork_exec(recorder, processes.fork_exec))
        self._replace(os, "system", children.system(recorder))
        for name in ("posix_spawn", "posix_spawnp"):
            if hasattr(os, name):
                self._replace(os, name, children.spawn(recorder, getattr(os, name)))
        self._replace(linecache, "getlines", _getlines(recorder))
        self._replace(pkgutil, "get_data", _get_data(recorder))
        self._replace(importlib.util, "find_spec", _find_spec(recorder))
        self._replace(os.environ, "__class__", _environ_class(recorder))
        recorder.watch_spec = self._watch_spec  # type: ignore[method-assign]
        self._spec_class = _spec_class(recorder)
        sys.meta_path.insert(0, self._finder)
        self._look_at_imported()

    def remove(self) -> None:
        for target, name, original in reversed(self._undo):
            setattr(target, name, original)
        for name in _CONNECT:  # those that took it from where it was replaced
            module: Any = sys.modules.get(name)
            if type(getattr(module, "connect", None)) is _Watched:
                module.connect = module.connect._function
        for spec in self._specs:
            spec.__class__ = ModuleSpec
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        self._undo, self._specs = [], []

    def _replace(self, target: Any, name: str, new: Any) -> None:
        original = getattr(target, name)
        if isinstance(new, _Watched):  # shutil looks there for what a function can do
            for supported in (
                os.supports_dir_fd,
                os.supports_fd,
                os.supports_follow_symlinks,
                os.supports_effective_ids,
            ):
                if original in supported:
                    supported.add(new)
        self._undo.append((target, name, original))
        setattr(target, name, new)

    def watch_sqlite(self) -> None:
        """The module that is about to be imported takes `connect` from the compiled one."""
        try:
            importlib.import_module(_CONNECT[0])
        except ImportError:  # a Python that was built without
            return
        for name in _CONNECT:
            connect: Any = getattr(sys.modules.get(name), "connect", None)
            if connect is not None and type(connect) is not _Watched:
                self._replace(sys.modules[name], "connect", _Watched(connect, _connected(self._recorder)))

    def _watch_spec(self, spec: Any) -> None:
        if type(spec) is ModuleSpec:
            spec.__class__ = self._spec_class
            self._specs.append(spec)

    def _look_at_imported(self) -> None:
        """Modules of ours that were imported before recording began."""
        for name, module in list(sys.modules.items()):
            path = self._recorder.module_path(name)
            if path is not None and path.endswith(".py"):
                self._watch_spec(getattr(module, "__spec__", None))
                unit = self._recorder.unit(f"module:{path}")
                unit.early = True
                self._recorder._note_block(unit, path, "")
                self._recorder.use_module(self._recorder.session, path)


class _Watched:
    """Calls a built-in function after telling of it. Like that, and unlike a function, it binds to no class."""

    def __init__(self, function: Callable[..., Any], tell: Callable[..., None]) -> None:
        self._function = function
        self._tell = tell
        self.__name__ = self.__qualname__ = function.__name__
        self.__module__ = function.__module__
        self.__doc__ = function.__doc__
        self.__self__ = getattr(function, "__self__", None)
        self.__text_signature__ = getattr(function, "__text_signature__", None)

    def __call__(self, *args: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        try:  # noqa: SIM105 a `with` costs more than all the rest
            self._tell(*args, **options)
        except Exception:  # wrong arguments: the function says so
            pass
        return self._function(*args, **options)

    def __reduce__(self) -> str:
        return self.__name__

    def __repr__(self) -> str:
        return repr(self._function)


_OPENERS = (("tokenize", "_builtin_open"), ("bz2", "_builtin_open"), ("tarfile", "bltn_open"))
"""Where the standard library keeps `open` under a name of its own: one imported before us has the original."""


_CONNECT = ("_sqlite3", "sqlite3.dbapi2", "sqlite3")
"""The modules from which programs take `connect`, the first of which has it."""


def _exists(path: str, lstat: Callable[[str], object] = os.lstat) -> bool:
    try:
        lstat(path)
    except OSError:
        return False
    return True


def _opened(recorder: Recorder, reads: Callable[[Any], bool]) -> Callable[..., None]:
    def tell(file: Any, mode: Any = None, *_: Any, **options: Any) -> None:
        mode = options.get("mode", mode)
        if options.get("flags", mode) is not None:
            mode = options.get("flags", mode)
        if isinstance(file, int) or recorder.failure or not reads(mode):
            return
        path = os.fsdecode(file)
        recorder.note_path("opened" if _exists(path) else "queried", path)

    return tell


def _connected(recorder: Recorder) -> Callable[..., None]:
    """Compiled code opens the file of a database, and creates it where there is none."""
    opened = _opened(recorder, _mode_reads)

    def tell(database: Any, *_: Any, **options: Any) -> None:
        path = os.fsdecode(database)
        if path.startswith("file:"):  # a URI, with nothing or "localhost" before an absolute path
            from urllib.parse import unquote

            path = unquote(path[5:].partition("?")[0])
            path = "/" + path.partition("//")[2].partition("/")[2] if path.startswith("//") else path
        if path not in ("", ":memory:"):
            opened(path)

    return tell


def _mode_reads(mode: Any) -> bool:
    return mode is None or not str(mode).startswith(("w", "x"))


def _flags_read(flags: Any) -> bool:
    return not flags & os.O_WRONLY


def _asked(recorder: Recorder, kind: str) -> Callable[..., None]:
    known = recorder.inside.known

    def tell(path: Any = ".", *_: Any, **options: Any) -> None:
        if type(path) is str and known.get(path, path) is None:  # met before, and not ours
            return
        if recorder.failure or isinstance(path, int) or options.get("dir_fd") is not None:
            return
        recorder.note_path(kind, os.fsdecode(path))

    return tell


_SHOWS_SOURCE = ("traceback", "warnings", "_pytest")


def _getlines(recorder: Recorder) -> Callable[..., list[str]]:
    original = linecache.getlines

    def getlines(filename: str, module_globals: Any = None) -> list[str]:
        caller: Any = _getframe(1)
        if caller.f_globals.get("__name__") == "linecache":
            caller = caller.f_back
        # A traceback's text shows source; that is a documented limit, as line numbers are.
        if not str(caller.f_globals.get("__name__")).startswith(_SHOWS_SOURCE) and not recorder.failure:
            recorder.note_path("opened", filename)
        return original(filename, module_globals)

    return getlines


def _get_data(recorder: Recorder) -> Callable[[str, str], bytes | None]:
    original = pkgutil.get_data

    def get_data(package: str, resource: str) -> bytes | None:
        found = original(package, resource)
        file = getattr(sys.modules.get(package), "__file__", None)
        if file and not recorder.failure:
            recorder.note_path("opened", os.path.join(os.path.dirname(file), resource))
        return found

    return get_data


def _find_spec(recorder: Recorder) -> Callable[..., ModuleSpec | None]:
    original = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
        if not recorder.failure:
            full = importlib.util.resolve_name(name, package) if name.startswith(".") and package else name
            if full not in sys.modules or recorder.module_path(full):
                recorder.note_name("modules", full)
        return original(name, package)

    return find_spec


def _environ_class(recorder: Recorder) -> type:
    base: Any = type(os.environ)

    class _Environ(base):  # type: ignore[misc]
        def __getitem__(self, name: Any) -> Any:
            if isinstance(name, str) and name != "PYTEST_CURRENT_TEST" and not recorder.failure:
                recorder.note_name("env", name)
            return base.__getitem__(self, name)

        def __iter__(self) -> Iterator[Any]:
            if not recorder.failure:
                recorder.note_name("env", "*")
            return iter(base.__iter__(self))

    return _Environ


def _spec_class(recorder: Recorder) -> type:
    looked = recorder.looked

    class _Spec(ModuleSpec):
        @property
        def _initializing(self) -> bool:
            if self.name not in looked:
                recorder.looked_up(self.name)
            return bool(self.__dict__.get("_initializing", False))

        @_initializing.setter
        def _initializing(self, value: bool) -> None:
            self.__dict__["_initializing"] = value

    _Spec.__name__ = _Spec.__qualname__ = "ModuleSpec"
    return _Spec


class _Listener:
    """First on `sys.meta_path`: hears of each module that is not imported yet, and finds none."""

    def __init__(self, probes: Probes, recorder: Recorder) -> None:
        self._probes = probes
        self._recorder = recorder

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        recorder = self._recorder
        try:
            if name == "sqlite3":
                self._probes.watch_sqlite()
            if name.partition(".")[0] in sys.stdlib_module_names:  # one of the same name that is ours still runs
                return
            if not recorder.failure and not _is_foreign(path, recorder):
                recorder.note_name("modules", name)
        except Exception as error:
            recorder.fail(error)


def _is_foreign(path: Any, recorder: Recorder) -> bool:
    """Is this a submodule of a package that has no folder in the repository?"""
    return path is not None and not any(recorder.inside.relative(str(each)) is not None for each in path)
