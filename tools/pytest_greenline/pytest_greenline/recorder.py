"""What each test runs, imports and reads, kept while it happens and written as docs/record-format.md says.

Work is counted for an *owner*: the test that runs, or a unit, which is work that tests share (a module body, the
collection of a file, a fixture of wide scope). An owner uses units; what they hold counts as its own. So a test
that finds a module imported and a fixture made, because another test paid for them, has the same record.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Collection, Iterable
from types import CodeType, FrameType
from typing import Any, BinaryIO, NamedTuple

from pytest_greenline.cores import Seen, core
from pytest_greenline.inside import Inside
from pytest_greenline.rewriting import Listener, rewritten

VERSION = 1
SESSION, BETWEEN = "hook:session", "hook:between"
_getframe = sys._getframe  # tests take it away
_open, _write = io.open, os.write  # the real ones: probes.py replaces the first
_HERE = os.path.dirname(os.path.abspath(__file__))
_OPTIMIZED = 1  # a code flag that functions have, class and module bodies do not
# Packages through which others ask for paths and variables.
_MESSENGERS = frozenset(("os", "posixpath", "ntpath", "genericpath", "pathlib", "collections", "pytest_greenline"))
_encode = json.JSONEncoder(separators=(",", ":")).encode
_quoted = json.encoder.encode_basestring_ascii  # in C: lines that are many are made of texts
_LISTS = ("modules", "opened", "listed", "queried", "env", "children", "units")


class Owner:
    """A test or unit, and what it was seen to use. ``lost``: why this is not all."""

    modules: set[str]
    opened: set[str]
    listed: set[str]
    queried: set[str]
    env: set[str]
    children: set[str]
    units: set[str]

    def __init__(self, id: str) -> None:
        self.id = id
        self.early = False
        self.lost = ""
        self.blocks: set[str] = set()
        self.callers: dict[str, str] = {}
        self.modules, self.opened, self.listed, self.queried = set(), set(), set(), set()
        self.env, self.children, self.units = set(), set(), set()

    def text(self) -> str:
        """What it used, as the rest of a line of JSON."""
        fields = vars(self)
        parts = [f',"{name}":[{",".join(map(_quoted, sorted(fields[name])))}]' for name in _LISTS if fields[name]]
        return "".join(parts) + _blocks(self.blocks)


class _Running(NamedTuple):
    """Who is counted for. ``frame``: a module body, and only as long as this frame runs in this thread."""

    owner: Owner
    frame: FrameType | None = None
    thread: int = 0


class Recorder:
    """The record of one process. Nothing of it raises into the code that is watched."""

    def __init__(self, inside: Inside, folder: str, process: str, suite_root: str, child_of: str = "") -> None:
        self.inside = inside
        self.folder = folder
        self.suite_root = suite_root
        self.failure = ""
        self._variant = {
            "python": platform.python_version(),
            "platform": f"{sys.platform}-{platform.machine()}",
            "extra": os.environ.get("GREENLINE_VARIANT", ""),
        }
        # From outside. A process that a test starts has what the test gives it: that does not count.
        self._environment = None if child_of else dict(os.environ)
        self._variables: set[str] = set()
        self.child = bool(child_of)  # its lines are written as things happen: children are often killed
        self.edges = False  # note who called a block first; for the forking pass
        self.units: dict[str, Owner] = {}
        self._lock = threading.RLock()
        self._seen = Seen()
        self._paths: dict[str, str] = {}  # file names of code objects of ours
        self._packages: dict[str, str] = {}  # file names of any code → the package it is in
        self._files: set[str] = set()
        self._ids: dict[tuple[str, str], str] = {}  # numbers are texts: they are written more often than made
        self._hits: set[str] = set()  # names of modules of ours
        self.looked: set[str] = set()  # those of them that who runs is known to have looked up
        self._core = core(self._ran, self._note_told, self._seen, self._rewritten)
        self.session = self._counted = Owner(child_of) if child_of else self.unit(SESSION)
        self._stack = [_Running(self.session)]
        self._look_at_top()
        self._begin_file(process)

    # -- from start to end -------------------------------------------------------------------------------

    def start(self) -> str | None:
        """Begin to watch; gives the reason where that cannot be."""
        reason = self._core.start(any(map(self.module_path, list(sys.modules))))
        if reason is None:
            self._note_frames(_getframe(1), self.session)
        return reason

    def stop(self) -> None:
        if not self.failure:
            self._look_at_top()  # what was told is counted
        self._core.stop()

    def close(self) -> None:
        """Write what is still to be written, and the end, unless something failed."""
        self._core.stop()
        if not self.failure and not self.child:
            for _, unit in sorted(self.units.items()):
                unit.modules = self._ours_or_missing(unit.modules)
                early = {"early": True} if unit.early else {}
                self._line({"kind": "unit", "id": unit.id, **early}, unit.text())
            self._line({"kind": "end"})
        self._file.close()

    def fail(self, error: BaseException) -> None:
        """The record is broken: stop, write no end, leave the tests alone."""
        if not self.failure:
            self.failure = f"{type(error).__name__}: {error}"
            self._core.stop()

    def _begin_file(self, process: str) -> None:
        os.makedirs(self.folder, exist_ok=True)
        name = f"{process}-{os.getpid()}-{time.time_ns():x}.jsonl"
        # A child writes each line at once.
        buffering = 0 if self.child else 1 << 16
        self._file: BinaryIO = _open(os.path.join(self.folder, name), "ab", buffering=buffering)
        first = {"kind": "session", "version": VERSION, "process": process, "suite_root": self.suite_root}
        self._line({**first, "variant": self._variant})

    def _line(self, fields: dict[str, Any], more: str = "") -> None:
        """Write an object, ``more`` at its end."""
        self._write_line(f"{_encode(fields)[:-1]}{more}}}")

    def _write_line(self, line: str) -> None:
        self._file.write(line.encode() + b"\n")

    def left_out(self, ids: list[str]) -> None:
        if ids and not self.failure:
            self._line({"kind": "deselected", "ids": sorted(ids)})

    def flush(self) -> None:
        self._file.flush()

    def become_child(self) -> None:
        """After a fork, in the child: what happens here belongs to whom the fork happened in."""
        owner = self._stack[-1].owner
        self._lock = threading.RLock()
        self.child, self.units = True, {}
        self._ids, self._files, self._variables = {}, set(), set()
        self.session = self._counted = Owner(owner.id)
        self._stack = [_Running(self.session)]
        self._begin_file("child")
        for numbers in self._seen.numbers.values():
            if numbers:
                numbers.clear()
        self._core.forget_numbers()
        self._look_at_top()

    def ticket(self) -> dict[str, str]:
        """What a process that starts now needs to record for the running owner."""
        return {
            "root": self.inside.root, "folder": self.folder, "suite_root": self.suite_root, "owner": self.owner().id,
        }  # fmt: skip

    # -- owners ------------------------------------------------------------------------------------------

    def unit(self, id: str) -> Owner:
        if id not in self.units:
            self.units[id] = Owner(id)
        return self.units[id]

    def begin(self, owner: Owner) -> int:
        """Count for this owner until ``end`` of what this gives. What runs is told anew."""
        depth = len(self._stack)
        self._stack.append(_Running(owner))
        self._look_at_top()
        if threading.active_count() > 1:
            own = threading.get_ident()
            for thread, frame in sys._current_frames().items():  # a loop that began earlier starts nothing
                if thread != own:
                    self._note_frames(frame, owner)
        return depth

    def end(self, depth: int) -> None:
        del self._stack[depth:]
        self._look_at_top()

    def _look_at_top(self) -> None:
        """Let the callbacks fill the blocks of who runs, and tell anew. Where more is to be done, they must ask."""
        owner, frame, _ = self._stack[-1]
        self.looked.clear()
        self._core.count_for(owner.blocks, frame is None and not self.child and not self.edges)
        self._counted = owner

    def begin_test(self, id: str) -> Owner:
        owner = Owner(id)
        if self._core.taken():  # by an earlier test that did not give it back
            self._core.again()
        self.begin(owner)
        return owner

    def end_test(self, owner: Owner, outcome: str, phases: dict[str, float]) -> None:
        owner.lost = owner.lost or self._core.taken() or ""
        if self._stack[0].owner.id != BETWEEN:
            self._stack[0] = _Running(self.unit(BETWEEN))  # of threads that run on; no test uses it
        self.end(1)
        if not self.failure:
            owner.modules = self._ours_or_missing(owner.modules)
            lost = f',"lost":{_quoted(owner.lost)}' if owner.lost else ""
            times = ",".join([f"{_quoted(name)}:{seconds:.6f}" for name, seconds in phases.items()])
            start = f'{{"kind":"test","id":{_quoted(owner.id)},"outcome":"{outcome}"{lost},"phases":{{{times}}}'
            self._write_line(f"{start}{owner.text()}}}")

    def owner(self) -> Owner:
        """Who is counted for now, in this thread."""
        stack = self._stack
        if stack[-1].frame is None:
            return stack[-1].owner
        here = threading.get_ident()
        for running in stack[::-1]:  # finalizers may run meanwhile, and come here too
            if running.frame is None:
                return running.owner
            if running.thread == here:
                if _is_running(running.frame):
                    return running.owner
                if running in stack:  # that module is done
                    del stack[stack.index(running) :]
                    self._look_at_top()
        return self.session

    # -- what happens ------------------------------------------------------------------------------------

    def _ran(self, code: CodeType, frame: FrameType) -> None:
        """A function, class or module body starts or resumes."""
        filename = code.co_filename
        if self.failure:
            return
        try:
            path = self._paths.get(filename)
            if path is None:
                path = self._classify(filename)
                if path is None:
                    return
            owner = self.owner()
            if not path.endswith(".py"):  # a template that was compiled, say
                self.note(owner, "opened", path)
                return
            name = _block_name(code)
            if code.co_name == "<module>":
                owner = self._module_starts(owner, path, frame)
            number = self._note_block(owner, path, name)
            if code.co_flags & _OPTIMIZED:
                self._seen.number(code, number)
            if self.edges:
                self._note_caller(owner, path, name, frame)
        except Exception as error:
            self.fail(error)

    def _note_told(self, filename: str, name: str) -> str | None:
        """A function ran, and nothing more is to be found out."""
        if self.failure or self._seen.numbers.get(filename, {}) is None:
            return None
        try:
            path = self._paths.get(filename) or self._classify(filename)
            if path is None:
                return None
            if path.endswith(".py"):
                return self._note_block(self._counted, path, _function_name(name))
            self.note(self._counted, "opened", path)
        except Exception as error:
            self.fail(error)
        return None

    def _classify(self, filename: str) -> str | None:
        path = None if filename.startswith("<") else self.inside.relative(filename)
        if not path or not os.path.isabs(filename) or not _is_file(filename):
            self._seen.numbers[filename] = None
            return None
        self._seen.numbers[filename] = {}
        self._paths[filename] = path
        return path

    def _rewritten(self, code: CodeType, listener: Listener) -> CodeType:
        """Code of the repository tells that it runs, but that of a recorder does not."""
        try:
            filename = code.co_filename
            if filename.startswith("<") or self.inside.relative(filename) is None or self.failure:
                return code
            return code if os.path.dirname(filename) == _HERE else rewritten(code, listener)
        except Exception as error:
            self.fail(error)
            return code

    def _note_block(self, owner: Owner, path: str, name: str) -> str:
        key = (path, name)
        number = self._ids.get(key)
        if number is None:
            with self._lock:
                number = self._ids.setdefault(key, str(len(self._ids) + 1))
                self._write_line(f'{{"kind":"block","path":{_quoted(path)},"name":{_quoted(name)},"id":{number}}}')
                self.note_file(path)
        if number not in owner.blocks:
            owner.blocks.add(number)
            if self.child:
                self._line({"kind": "part", "id": owner.id}, _blocks([number]))
        return number

    def note_file(self, path: str) -> None:
        """The content of a Python file, as this process sees it."""
        if path in self._files:
            return
        self._files.add(path)
        try:
            with _open(os.path.join(self.inside.root, path), "rb") as file:
                data = file.read()
        except OSError:
            return  # it is gone: without a file line its blocks cannot be checked, and do not count
        oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        self._line({"kind": "file", "path": path, "oid": oid})

    def note(self, owner: Owner, kind: str, value: str) -> None:
        """Add to one of an owner's lists."""
        values: set[str] = getattr(owner, kind)
        if value not in values:
            values.add(value)
            if self.child:
                self._line({"kind": "part", "id": owner.id, kind: [value]})

    def note_path(self, kind: str, path: str) -> None:
        """The running owner opened, listed or queried a path. What pytest itself does to collect is left out."""
        if self.inside.is_resolving:
            return
        relative = self.inside.relative(path)
        if relative is None or (kind == "opened" and not relative):
            return
        owner = self.owner()
        if relative in getattr(owner, kind) or not self._counts(owner, _getframe(2), kind == "queried"):
            return
        self.note(owner, kind, relative)
        if kind == "opened" and relative.endswith(".py"):
            self.note_file(relative)

    def note_name(self, kind: str, name: str) -> None:
        """The running owner looked for a module or read an environment variable."""
        owner = self.owner()
        if name not in getattr(owner, kind) and self._counts(owner, _getframe(2), kind == "env"):
            self.note(owner, kind, name)
            if kind == "env" and self._environment is not None and name not in self._variables:
                self._variables.add(name)
                self._line({"kind": "variable", "name": name, "digest": _digest(name, self._environment.get(name))})

    def counts_child(self, frame: FrameType) -> bool:
        """Is a process that starts now one of a test's? pytest-xdist starts its workers too."""
        return not self.failure and self._counts(self.owner(), frame, False)

    def _counts(self, owner: Owner, frame: FrameType | None, trivial: bool) -> bool:
        """Is this for the tests? pytest's own work is not: to collect, and ``trivial`` questions later on."""
        if owner.id.startswith(("hook:", "collect:")):
            while frame is not None and frame.f_code.co_filename not in self._paths:
                frame = frame.f_back
            return frame is not None
        if not trivial:
            return True
        while frame is not None:
            filename = frame.f_code.co_filename
            package = self._packages.get(filename)
            if package is None:
                package = str(frame.f_globals.get("__name__")).partition(".")[0]
                if not filename.startswith("<") or filename.startswith("<frozen "):  # one name, one module
                    self._packages[filename] = package
            if package not in _MESSENGERS:
                return package != "_pytest"
            frame = frame.f_back
        return True

    # -- modules -----------------------------------------------------------------------------------------

    def _module_starts(self, user: Owner, path: str, frame: FrameType) -> Owner:
        spec = frame.f_globals.get("__spec__")
        if spec is not None:
            self.watch_spec(spec)
        if self.child:
            return user
        unit = self.unit(f"module:{path}")
        self.use_module(user, path)
        name = str(getattr(spec, "name", ""))
        while "." in name:  # the packages around it were imported first
            name = name.rpartition(".")[0]
            above = self.module_path(name)
            if above is not None and above != path:
                unit.units.add(f"module:{above}")
        self._stack.append(_Running(unit, frame, threading.get_ident()))
        self._look_at_top()
        return unit

    def use_module(self, user: Owner, path: str) -> None:
        """A module's body is shared by those who import it, but pytest's conftest files go by folder."""
        by_pytest = user.id.startswith(("hook:", "collect:")) and path.rpartition("/")[2] == "conftest.py"
        if not by_pytest and user.id != f"module:{path}":
            self.note(user, "units", f"module:{path}")

    def module_path(self, name: str) -> str | None:
        """The file in the repository of a module that is imported."""
        file = getattr(sys.modules.get(name), "__file__", None)
        path = self.inside.relative(file) if isinstance(file, str) else None
        return path or None

    def _ours_or_missing(self, names: set[str]) -> set[str]:
        return {name for name in names if name in self._hits or name not in sys.modules or self.module_path(name)}

    def looked_up(self, name: str) -> None:
        """A module of ours that was imported already is imported again."""
        running = self._stack[-1]
        owner = running.owner if running.frame is None else self.owner()
        if self.failure or (name in owner.modules and name in self._hits):
            return
        try:
            self.note(owner, "modules", name)
            path = self.module_path(name)
            if path is not None:
                self._hits.add(name)
                self.use_module(owner, path)
                if running.frame is None and owner is self._counted:
                    self.looked.add(name)
        except Exception as error:
            self.fail(error)

    def watch_spec(self, spec: Any) -> None:
        """Replaced by probes.py."""

    # -- frames ------------------------------------------------------------------------------------------

    def _note_frames(self, frame: FrameType | None, owner: Owner) -> None:
        """These functions started earlier and still run."""
        while frame is not None:
            filename = frame.f_code.co_filename
            if self._seen.numbers.get(filename, {}) is not None:
                path = self._paths.get(filename) or self._classify(filename)
                if path and path.endswith(".py"):
                    self._note_block(owner, path, _block_name(frame.f_code))
            frame = frame.f_back

    def _note_caller(self, owner: Owner, path: str, name: str, frame: FrameType) -> None:
        number = self._ids[path, name]
        caller = frame.f_back
        while caller is not None:
            above = self._paths.get(caller.f_code.co_filename)
            if above and above.endswith(".py"):
                key = (above, _block_name(caller.f_code))
                if key != (path, name) and key in self._ids:
                    owner.callers.setdefault(number, self._ids[key])
                    return
            caller = caller.f_back

    # -- the forking pass --------------------------------------------------------------------------------

    def alone(self, nowhere: BinaryIO) -> None:
        """In a fork that runs one test: nothing is written, units are filled anew, callers are noted."""
        self._file = nowhere
        self.units = {}
        self.edges = True

    def edges_of(self, owners: Iterable[Owner]) -> dict[tuple[str, str], tuple[str, str] | None]:
        """Each block that ran for one of these, and who called it first."""
        keys = {number: key for key, number in self._ids.items()}
        found: dict[tuple[str, str], tuple[str, str] | None] = {}
        for each in owners:
            for number in each.blocks:
                caller = each.callers.get(number)
                found.setdefault(keys[number], keys[caller] if caller else None)
        return found

    def blocks_of(self, owner: Owner) -> set[tuple[str, str]]:
        """The blocks of a test and of all units that it used."""
        keys = {number: key for key, number in self._ids.items()}
        return {keys[number] for each in self.with_units(owner) for number in each.blocks}

    def with_units(self, owner: Owner) -> list[Owner]:
        """A test and all units that it used."""
        found, todo = {owner.id: owner}, list(owner.units)
        while todo:
            unit = self.units.get(todo.pop())
            if unit is not None and unit.id not in found:
                found[unit.id] = unit
                todo += unit.units
        return list(found.values())

    def write_edges(self, kind: dict[str, str], blocks: Iterable[tuple[str, str]]) -> None:
        """A line that adds blocks to a block ("cache") or a test ("part")."""
        nobody = Owner("")
        self._line(dict(kind), _blocks([self._note_block(nobody, path, name) for path, name in blocks]))


def _blocks(numbers: Collection[str]) -> str:
    return f',"blocks":[{",".join(numbers)}]' if numbers else ""


def _block_name(code: CodeType) -> str:
    is_function = code.co_flags & _OPTIMIZED or ".<locals>" in code.co_qualname
    return _function_name(code.co_qualname) if is_function else ""


def _function_name(qualified: str) -> str:
    """The function or method of a module that this belongs to; "" for the module's body."""
    name = qualified.partition(".<locals>")[0]
    return "" if name.endswith(">") else name


def _digest(name: str, value: str | None) -> str:
    """Too short to tell a value by, which may be a secret; "" if it is not set."""
    if value is None:
        return ""
    return hashlib.sha256(f"{name}={value}".encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _is_running(frame: FrameType) -> bool:
    """Is this frame one of those that called us?"""
    each: FrameType | None = _getframe(1)
    while each is not None:
        if each is frame:
            return True
        each = each.f_back
    return False


def _is_file(path: str) -> bool:
    try:
        with _open(path, "rb"):
            return True
    except OSError:
        return False
