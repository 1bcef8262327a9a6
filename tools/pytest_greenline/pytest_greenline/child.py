"""Run a Python command with recording on: ``python [OPTIONS] child.py TICKET KIND TARGET [ARGS…]``.

A kind and its target are ``-c CODE``, ``-m MODULE`` or ``script PATH``.

The command sees what it would see without this: `sys.argv`, `sys.path[0]`, an own `__main__`, tracebacks that begin
with its own code. A ticket is JSON: where to write, and the test that it belongs to.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import runpy
import sys
import types
from typing import Any


def _load() -> Any:
    """`pytest_greenline.attach`, also where this environment does not have pytest_greenline."""
    folder = os.path.dirname(os.path.abspath(__file__))
    if importlib.util.find_spec("pytest_greenline") is None:
        init = os.path.join(folder, "__init__.py")
        spec = importlib.util.spec_from_file_location("pytest_greenline", init, submodule_search_locations=[folder])
        assert spec is not None and spec.loader is not None
        module = sys.modules["pytest_greenline"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    from pytest_greenline import attach

    return attach


def main() -> None:
    _, ticket, kind, target, *rest = sys.argv
    if not sys.flags.safe_path:
        del sys.path[0]  # the folder of this file
    try:
        _load().attach(**json.loads(ticket))
    except Exception as error:  # the process runs as always; its test has a child that nobody saw
        print(f"greenline: this process is not recorded: {type(error).__name__}: {error}", file=sys.stderr)
    sys.argv = [kind if kind == "-c" else target, *rest]
    if kind == "-m":
        if not sys.flags.safe_path:
            sys.path.insert(0, os.getcwd())
        _run(lambda: runpy._run_module_as_main(target, alter_argv=True), _fresh_main(None))  # type: ignore[attr-defined]
    elif kind == "-c":
        if not sys.flags.safe_path:
            sys.path.insert(0, "")
        namespace = _fresh_main(None)
        _run(lambda: exec(compile(target, "<string>", "exec"), namespace), namespace)
    else:
        if not sys.flags.safe_path:
            sys.path.insert(0, os.path.dirname(os.path.realpath(target)))
        path = os.path.abspath(target)
        namespace = _fresh_main(path)

        def run() -> None:
            with io.open_code(path) as file:
                code = compile(file.read(), path, "exec")
            exec(code, namespace)

        _run(run, namespace)


def _fresh_main(path: str | None) -> dict[str, Any]:
    """A `__main__` as the interpreter makes it."""
    module = types.ModuleType("__main__")
    if path is not None:
        module.__file__ = path
        module.__dict__["__cached__"] = None
    module.__dict__["__builtins__"] = sys.modules["builtins"]
    sys.modules["__main__"] = module
    return module.__dict__


def _run(command: Any, namespace: dict[str, Any]) -> None:
    try:
        command()
    except SystemExit:
        raise
    except BaseException as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename in (__file__, runpy.__file__, "<frozen runpy>"):
            trace = trace.tb_next
        if isinstance(error, KeyboardInterrupt):
            raise
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        sys.exit(1)


if __name__ == "__main__":
    main()
