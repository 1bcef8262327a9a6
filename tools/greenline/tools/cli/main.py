"""The `greenline` command: a table of commands, each loaded only when it is called, and one place for errors.

A command is a module of this package with a click command named `command`; what that returns is the exit code
(None is 0). To add one, write `cli/<name>.py` and give it a line in COMMANDS.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Any

import click

from greenline.depgraph.errors import Corrupted, GreenlineError

COMMANDS = {
    "affected": "Print the tests that a change can break.",
    "why": "Show what ties a test to the change, or one module to another.",
    "test": "Select and run tests, suite by suite.",
    "record": "Run tests and keep what each was seen to use.",
    "shard": "Plan CPU and GPU jobs, run them, and prove that every test ran.",
    "check": "Tell what breaks the rules of greenline.yaml.",
    "premerge": "Tell all that can be known before a change is merged.",
    "history": "Keep how long tests take and how they end: import, export.",
    "graph": "Look at the import graph: cycles, hubs, cost, export.",
    "evidence": "Look at evidence, export and import it.",
    "audit": "Say what selection would have missed and saved on past commits.",
    "conflicts": "Tell which branches break together, on which lines.",
    "fix": "Mend what broke by a merge, where the fix is certain.",
    "repair": "Main is red: propose a verified repair, or hand off.",
    "main": "How main is: green share, breaks, flakes, the last green commit.",
    "init": "Write a first greenline.yaml from what is there.",
    "doctor": "Say what works here, what does not, and the way out.",
}
MODULES = {"main": "main_branch"}  # of commands whose module has another name


class LazyCommand(click.Command):
    """A name and a line of help that stand for a module of this package until the command is called."""

    def __init__(self, name: str, module: str, line: str) -> None:
        super().__init__(name, short_help=line)
        self._module = module

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        module = importlib.import_module(f"greenline.tools.cli.{self._module}")
        command: click.Command = module.command
        return command.make_context(info_name, args, parent, **extra)


class TableGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of the table


@click.group(
    cls=TableGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    commands=[LazyCommand(name, MODULES.get(name, name), line) for name, line in COMMANDS.items()],
)
@click.version_option(package_name="greenline", message="%(prog)s %(version)s")
def cli() -> None:
    """Keep the main branch green and its CI short."""


_WRONG_USE = 2
_INTERRUPTED = 130
_BROKEN_PIPE = 141
_COMPLETION = "_GREENLINE_COMPLETE"


def run(args: list[str]) -> int:
    """The exit code of `greenline ARGS…`. Whatever goes wrong is told on stderr, without a traceback."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # paths leave as the bytes that they are
    try:
        # What click.Group.main() does, but an interrupt and a closed pipe have their usual exit codes.
        if completion := os.environ.get(_COMPLETION):
            from click.shell_completion import shell_complete

            return shell_complete(cli, {}, "greenline", _COMPLETION, completion)
        with cli.make_context("greenline", args) as context:
            result = cli.invoke(context)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as error:  # --help, --version
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _INTERRUPTED
    except BrokenPipeError:
        return _BROKEN_PIPE
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Corrupted:  # caches are disposable
        os.environ["GREENLINE_CACHE_DIR"] = os.devnull
        return run(args)
    except GreenlineError as error:
        click.echo(f"greenline: {error.message}", err=True)
        if error.hint:
            click.echo(f"  {error.hint}", err=True)
        return _WRONG_USE
    except OSError as error:
        if error.errno != errno.ENOSPC:
            return _internal(error)
        click.echo(f"greenline: the answer could not be written: {error.strerror}", err=True)
        return _WRONG_USE
    except Exception as error:
        return _internal(error)


def _internal(error: Exception) -> int:
    summary = str(error).partition("\n")[0]
    click.echo(f"greenline: internal error: {type(error).__name__}: {summary}", err=True)
    click.echo(f"  {_tell_traceback()}", err=True)
    return _WRONG_USE


def _tell_traceback() -> str:
    """Keep the current traceback in a file, or print it for GREENLINE_DEBUG; says where it is."""
    import tempfile
    import traceback

    if os.environ.get("GREENLINE_DEBUG"):
        traceback.print_exc()
        return "GREENLINE_DEBUG is set: see the traceback above"
    try:
        with tempfile.NamedTemporaryFile(
            "w",
            prefix="greenline-crash-",
            suffix=".txt",
            delete=False,
            encoding="utf-8",
            errors="backslashreplace",
        ) as file:
            file.write(f"greenline {' '.join(sys.argv[1:])}\n{sys.version}\n\n{traceback.format_exc()}")
    except OSError:
        return "please report it with what GREENLINE_DEBUG=1 prints"
    return f"please report it with the traceback in {file.name}"


def main() -> None:
    if sys.getfilesystemencoding() != "utf-8":  # file names in repositories are: this Python could not open them
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    if sys.stderr is None:  # closed: print() would take stdout instead
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:
        click.echo("greenline: standard output is closed, so there is nowhere to write the answer", err=True)
        sys.exit(_WRONG_USE)
    try:
        code = run(sys.argv[1:])
    except OSError:  # not even stderr can be written
        code = _WRONG_USE
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # run() has told it; Python would try again at exit and complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)
