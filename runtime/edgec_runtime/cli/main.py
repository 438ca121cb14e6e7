"""The commands' frame: arguments, errors in three lines on stderr, exit codes. One file a command beside this one."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from edgec_runtime.errors import Error, UsageError

COMMANDS = {
    "run": "run a model on one input",
    "bench": "time a model on this machine",
    "selftest": "check hashes, engines and golden answers",
    "install": "install a bundle on this device",
    "status": "say what is installed, on trial, to go back to",
    "confirm": "commit an app's version that is on probation",
    "rollback": "go back to an app's version before, or end its trial",
    "recover": "finish or undo what a power cut interrupted",
    "logs": "say what happened to an app",
    "remove": "take an app off this device",
    "doctor": "say what this device has",
    "agent": "serve `edgec flash` over standard input and output",
}


class Parser(argparse.ArgumentParser):
    """argparse whose mistakes are our errors: exit 2 with three lines."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError instead of printing a usage text and leaving."""
        raise UsageError(message, f"that is not how {self.prog} is used", f"see {self.prog} --help", code="E200")


def parser() -> Parser:
    """The whole command line. Commands are imported when they are run."""
    from edgec_runtime import __version__

    top = Parser(prog="edgec-rt", description="Runs signed model bundles on this device.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"edgec-rt {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary.capitalize() + ".", allow_abbrev=False)
        command.add_argument("--json", action="store_true", help="print the result as JSON")
        command.add_argument("--debug", action="store_true", help="show a traceback on errors")
        if name == "doctor":
            command.add_argument("file", nargs="?", metavar="FILE", help="a .edge file: what of it can run here?")
            command.add_argument("--allow-unsigned", action="store_true", help="look at a file that nobody has signed")
            continue
        if name == "agent":
            continue
        if name in ("status", "confirm", "rollback", "logs", "remove"):
            command.add_argument("app", nargs="?" if name == "status" else None, metavar="APP", help="an installed app")
            if name == "logs":
                command.add_argument("--lines", type=int, default=50, metavar="N", help="the last N (50); 0: all")
            continue
        if name == "recover":
            command.add_argument(
                "--unit", choices=("system", "user"), help="print a systemd unit that does this at each start instead"
            )
            continue
        if name == "install":
            command.add_argument("file", metavar="FILE", help="a .edge file")
            command.add_argument("--app", metavar="NAME", help="the app's name here; the bundle's own otherwise")
            command.add_argument("--choose", action="store_true", help="then time its payloads and prefer the fastest")
            command.add_argument(
                "--confirm", choices=("auto", "manual"), default="auto", help="manual: it waits for `confirm` (auto)"
            )
            command.add_argument(
                "--deadline", type=float, default=60.0, metavar="S", help="seconds to pass, and to be confirmed in (60)"
            )
            continue
        command.add_argument("file", nargs="?", metavar="FILE", help="a .edge file")
        command.add_argument("--app", metavar="NAME", help="an installed app instead of a file")
        command.add_argument("--allow-unsigned", action="store_true", help="take a file that nobody trusted has signed")
        if name != "selftest":
            command.add_argument("--engine", metavar="NAME", help="only payloads of this engine")
            command.add_argument("--payload", metavar="ID", help="only this payload")
            command.add_argument("--threads", type=int, metavar="N", help="threads for the engine")
            command.add_argument(
                "--input", metavar="X.npz", required=name == "run", help="one array for each input, by its name"
            )
        if name == "run":
            command.add_argument("-o", "--output", metavar="Y.npz", help="write the outputs here")
        if name == "bench":
            command.add_argument("--runs", type=int, default=200, metavar="N", help="timed runs (200)")
            command.add_argument("--choose", action="store_true", help="time an app's payloads, prefer the fastest")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code (ARCHITECTURE.md, "Exit codes")."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        options = parser().parse_args(given)
        if options.command is None:
            parser().print_help()
            return 2
        command: Any = importlib.import_module(f"edgec_runtime.cli.{options.command}_command")
        if options.command == "agent":  # its output is a protocol, not a result
            return int(command.serve(options))
        result: dict[str, Any] = command.run(options)
        _print(result, command.text(result), as_json=options.json)
        return 0
    except Error as error:
        if debug:
            raise
        return _fail(error, as_json="--json" in given)
    except BrokenPipeError:
        return 141  # as a shell reports a program that SIGPIPE ended
    except KeyboardInterrupt:
        return 130


def _print(result: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        import json

        text = json.dumps(result, indent=2, sort_keys=True)
    print(text)
    sys.stdout.flush()


def _fail(error: Error, *, as_json: bool) -> int:
    if as_json:
        import json

        print(json.dumps({"error": error.as_dict()}, indent=2))
    # Always three lines: scripts and people find the reason and the way out at the same place.
    why, fix = error.why or "no more is known", error.fix or "run it again with --debug and report what it says"
    print(f"error[{error.code}]: {error.what}\n  why: {why}\n  fix: {fix}", file=sys.stderr)
    return error.exit_code
