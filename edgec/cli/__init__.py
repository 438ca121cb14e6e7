"""The `edgec` command. One file a command in this folder, one line here; a command is imported when it is called.

Adding a command: a file `edgec/cli/<name>.py` that defines `command`, and its line in `COMMANDS`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgec_runtime.errors import Error

COMMANDS = {
    "compile": "Compile a model for one or more boards into one signed bundle.",
    "check": "Say what a board can't run and why, before anything is compiled.",
    "quantize": "Write a model as int8 QDQ ONNX, for use anywhere.",
    "inspect": "Show what is in a bundle or an ONNX file.",
    "verify": "Check a bundle: signature, every byte, and its golden answers.",
    "diff": "Compare two bundles.",
    "rebuild": "Replay a bundle's recipe and compare the bytes.",
    "export": "Write a bundle as an ONNX Runtime model package.",
    "run": "Run a bundle on one input.",
    "bench": "Measure a bundle, side by side with the bare engine.",
    "flash": "Put a bundle on devices, or into an SD card's image.",
    "status": "Show what runs on your devices.",
    "rollback": "Go back to the version before, on a device.",
    "confirm": "Keep a version that waits for it, on a device.",
    "logs": "Show what happened to an app on a device.",
    "targets": "List the families of boards.",
    "boards": "List the boards.",
    "devices": "List your devices; look at one by SSH, and set it up.",
    "keys": "Make, list and trust signing keys.",
    "sign": "Add a signature to a bundle.",
    "doctor": "Check this machine: tools, engines, versions, keys.",
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and first lines without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; what edgec.toml says for it becomes its defaults."""
        if cmd_name not in COMMANDS:
            return None
        from importlib import import_module

        command: click.Command = import_module(f"edgec.cli.{cmd_name}").command
        if ctx.default_map and cmd_name in ctx.default_map:
            ctx.default_map = {**ctx.default_map, cmd_name: by_parameter(command, ctx.default_map[cmd_name])}
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """An unknown command is a usage error that names the nearest one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, 1)
            hint = f"Did you mean '{near[0]}'?" if near else "See 'edgec --help'."
            ctx.fail(f"no command '{args[0]}'. {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def project_defaults() -> dict[str, Any]:
    """The options in `./edgec.toml`, one table a command: the same names as the flags. Empty where there is no file."""
    from pathlib import Path

    path = Path("edgec.toml")
    if not path.is_file():
        return {}
    import tomllib

    from edgec.errors import BadInputError

    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise BadInputError("edgec.toml can't be read", str(e), "Mend the line it names.", code="E901") from e
    for name, table in tables.items():
        if name not in COMMANDS or not isinstance(table, dict):
            raise BadInputError(
                f"edgec.toml: '{name}' is not a command's table",
                "The file has one table a command, e.g. [compile].",
                f"Known commands: {', '.join(COMMANDS)}.",
                code="E901",
            )
    return tables


def by_parameter(command: click.Command, table: dict[str, Any]) -> dict[str, Any]:
    """A table of edgec.toml, whose keys are flags without their dashes, by the command's own parameter names."""
    names: dict[str, str] = {}
    for parameter in command.params:
        assert parameter.name is not None
        spellings = [o.lstrip("-") for o in parameter.opts if o.startswith("--")] or [parameter.name]
        names |= dict.fromkeys(spellings, parameter.name)
    for key in table:
        if key.replace("_", "-") not in names:
            from difflib import get_close_matches

            from edgec.errors import BadInputError

            near = get_close_matches(key, names, 1)
            raise BadInputError(
                f"edgec.toml: [{command.name}] has no option '{key}'",
                "Its keys are the command's flags without the dashes.",
                f"Did you mean '{near[0]}'?" if near else f"edgec {command.name} --help lists them.",
                code="E901",
            )
    return {names[key.replace("_", "-")]: value for key, value in table.items()}


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="edgec", prog_name="edgec")
def edgec() -> None:
    """Trained model and a board in, one signed, measured file out.

    First steps:  edgec compile model.onnx -t rpi5,host -o model.edge   then   edgec run model.edge --input x.npz
    """


def main(argv: list[str] | None = None) -> None:
    """Entry point: click's usage errors are exit 2, ours say their own; a traceback only with --debug."""
    arguments = sys.argv[1:] if argv is None else argv
    from edgec_runtime.errors import Error

    debug, as_json = "--debug" in arguments, "--json" in arguments
    try:
        # Not standalone, click returns what `ctx.exit(code)` was given.
        code = edgec.main(args=arguments, prog_name="edgec", standalone_mode=False, default_map=project_defaults())
        if isinstance(code, int) and code:
            sys.exit(code)
    except click.exceptions.Exit as e:
        sys.exit(e.exit_code)
    except click.ClickException as e:
        if as_json and not isinstance(e, click.exceptions.NoArgsIsHelpError):
            _tell_json(_slip(e))
        e.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped: nothing was written", err=True)
        sys.exit(130)
    except Error as e:
        if debug:
            raise
        if as_json:
            _tell_json(e)
        click.echo(str(e), err=True)
        sys.exit(e.exit_code)
    except Exception as e:
        if debug:
            raise
        bug = Error(
            f"edgec has a bug: {type(e).__name__}: {e}",
            "an error that edgec did not foresee",
            "run again with --debug and report the traceback",
            code="E000",
        )
        bug.exit_code = 1
        if as_json:
            _tell_json(bug)
        click.echo(str(bug), err=True)
        sys.exit(1)


def _slip(error: click.ClickException) -> Error:
    """Click's usage error as ours, for programs: a person gets click's own words."""
    from edgec_runtime.errors import UsageError

    context = getattr(error, "ctx", None)
    path = context.command_path if context else "edgec"
    return UsageError(error.format_message(), f"{path} does not take this.", f"'{path} --help' lists what it takes.")


def _tell_json(error: Error) -> None:
    import json

    click.echo(json.dumps({"error": error.as_dict()}))
