"""Options that say how a model is quantized: the same for every command that does it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import click

from edgec.request import EFFORTS, METHODS

Command = Callable[..., Any]


def how(function: Command) -> Command:
    """Add --effort, --executor, --method and --exclude to a command."""
    for option in reversed(_HOW):
        function = option(function)
    return function


_HOW = (
    click.option(
        "--effort",
        type=click.Choice(EFFORTS),
        default="default",
        show_default=True,
        help="plain: ranges alone; default: corrections as well; search: the fastest mixture within --max-drop.",
    ),
    click.option(
        "--executor",
        default="local",
        show_default=True,
        metavar="WHERE",
        help="Where a search's trials run: local, local:N (processes) or dask://HOST:PORT.",
    ),
    click.option(
        "--method", type=click.Choice(METHODS), default="minmax", show_default=True, help="How ranges are taken."
    ),
    click.option(
        "--exclude",
        multiple=True,
        metavar="NODE",
        help="A node's name, or an operator, that stays in float (repeatable).",
    ),
)


def refuse(ctx: click.Context, flags: Collection[str], why: str, fix: str) -> None:
    """Raise UsageError for the first of these parameters that was given: it would do nothing."""
    from click.core import ParameterSource

    from edgec.errors import UsageError

    for name in flags:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"--{name.replace('_', '-')} would be ignored", why, fix, code="E212")


def refuse_search_alone(ctx: click.Context, *flags: str) -> None:
    """Raise UsageError where flags of a search are given without one, or a search for what it can't find."""
    from edgec.errors import UsageError
    from edgec.request import FORMS

    if ctx.params["effort"] != "search":
        refuse(ctx, flags, "It is about --effort search.", "Add --effort search, or leave the flag out.")
    elif ctx.params["precision"] in FORMS:
        raise UsageError(
            f"--effort search does not look for {ctx.params['precision']}",
            "It mixes int8 and float layer by layer.",
            "Use it with --precision int8 or auto, or leave it out.",
            code="E212",
        )


def refuse_for_form(ctx: click.Context, precision: str, *, has_data: bool) -> None:
    """Raise UsageError for flags that a form other than int8 makes no use of."""
    if precision != "int16x8":
        refuse(ctx, ["method"], f"{precision} takes no ranges.", "Leave it out.")
    if not has_data:
        refuse(ctx, ["effort"], "Without data there is nothing to fit.", "Add --calib DATA, or leave it out.")
