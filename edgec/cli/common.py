"""What every command shares: its common flags and the way it speaks.

A command reads:

    @click.command("verify")
    @click.argument("file")
    @options
    def command(out: Output, file: str) -> None:
        ...
        out.table("Members", ["name", "bytes"], rows)
        out.result({...})                  # printed alone with --json
        out.next("edgec run model.edge --input x.npz")

With `--json` only `result` prints, one JSON object on standard output. Progress goes to standard error, on a
terminal only. No colour without a terminal or with NO_COLOR (rich does both).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

PIPED = 120  # columns of a table that goes into a file or a pipe

Advance = Callable[[int], None]


class Output:
    """Where a command's words go. `quiet` keeps only results, `as_json` only the JSON object."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False, yes: bool = False, debug: bool = False) -> None:
        self.as_json, self.quiet, self.yes, self.debug = as_json, quiet, yes, debug

    @functools.cached_property
    def console(self) -> Console:
        """Standard output, made at first use: rich takes longer to import than most commands to start."""
        from rich.console import Console

        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = PIPED
        return console

    @property
    def silent(self) -> bool:
        """True where only errors, or only JSON, may be printed."""
        return self.as_json or self.quiet

    def line(self, text: str = "", style: str | None = None) -> None:
        """One line for a person (plain text: no markup is read in it)."""
        if not self.silent:
            # A terminal breaks lines between words; in a file or a pipe a line is a line.
            self.console.print(text, style=style, markup=False, soft_wrap=not self.console.is_terminal)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A small table, nothing where there are no rows; columns of numbers are right-aligned. Wide tables fold."""
        if self.silent or not rows:
            return
        from rich.table import Table
        from rich.text import Text

        if title:  # a line of its own: rich would fold it to the table's width
            self.line(title, "bold")
        table = Table(box=None, pad_edge=False)
        for n, column in enumerate(columns):
            numeric = all(str(row[n])[:1].isdigit() or row[n] in ("", "–") for row in rows)
            table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold", header_style="dim")
        for row in rows:
            table.add_row(*[Text(str(cell)) for cell in row])
        self.console.print(table)

    def result(self, value: Mapping[str, Any]) -> None:
        """The command's result as one JSON object, printed with --json only."""
        if self.as_json:
            import json

            click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))

    def next(self, command: str) -> None:
        """The last line: the next command to run."""
        self.line(f"next: {command}", style="cyan")

    @contextmanager
    def progress(self, description: str, total: int | None = None) -> Iterator[Advance]:
        """A progress bar on standard error while the block runs; the block calls advance(n)."""
        from rich.console import Console

        console = Console(stderr=True)
        if self.silent or not console.is_terminal:
            yield lambda n: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        known = [BarColumn(), MofNCompleteColumn()] if total else []
        columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False), *known, TimeElapsedColumn()]
        with Progress(*columns, console=console, transient=True) as bars:
            task = bars.add_task(description, total=total)
            yield lambda n: bars.advance(task, n)


def options(function: Callable[..., None]) -> Callable[..., None]:
    """Add --json --yes --quiet --debug to a command and hand it an `Output` as its first argument."""

    @click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
    @click.option("--yes", is_flag=True, help="Answer yes to every question.")
    @click.option("--quiet", is_flag=True, help="Print errors only.")
    @click.option("--debug", is_flag=True, help="Show a traceback when something fails.")
    @functools.wraps(function)
    def wrapper(as_json: bool, yes: bool, quiet: bool, debug: bool, **arguments: Any) -> None:
        function(Output(as_json=as_json, quiet=quiet, yes=yes, debug=debug), **arguments)

    return wrapper


def shapes(_: click.Context, __: click.Parameter, values: Sequence[str]) -> dict[str, list[int | str]]:
    """Parse `--shape name=1,3,224,224` (repeatable); a dimension may be a name, to leave it free."""
    parsed: dict[str, list[int | str]] = {}
    for value in values:
        name, equals, dims = value.rpartition("=")
        if not equals or not name or not dims:
            raise click.BadParameter(f"'{value}' is not name=1,3,224,224")
        parsed[name] = [int(d) if d.strip().lstrip("-").isdigit() else d.strip() for d in dims.split(",")]
        if any(isinstance(d, int) and d < 0 for d in parsed[name]):
            raise click.BadParameter(f"'{value}' has a negative dimension")
    return parsed


shape_option = click.option(
    "--shape",
    "shape",
    multiple=True,
    callback=shapes,
    metavar="NAME=1,3,H,W",
    help="Fix an input's shape (repeatable).",
)
allow_unsigned_option = click.option(
    "--allow-unsigned", is_flag=True, help="Read a bundle that nobody known has signed (never native code)."
)


def size(number: float) -> str:
    """Bytes in words: 5.1 MB (decimal units, as disks and downloads are sold)."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError


def now() -> str:
    """The time, ISO 8601 in UTC, to the second."""
    from datetime import UTC, datetime

    return datetime.now(UTC).replace(microsecond=0).isoformat()
