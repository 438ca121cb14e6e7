"""`edgec compile`: a model and boards in, one signed bundle out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from edgec.cli.common import Output, options, shape_option, size
from edgec.cli.quantizing import how, refuse, refuse_for_form, refuse_search_alone
from edgec.request import FORMS, PRECISIONS


def _hooks(_ctx: click.Context, _param: click.Parameter, given: Sequence[str]) -> dict[str, list[str]]:
    """POINT=NAME, collected by point in the order given."""
    hooks: dict[str, list[str]] = {}
    for text in given:
        point, equals, name = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} is not POINT=NAME")
        hooks.setdefault(point, []).append(name)
    return hooks


@click.command("compile")
@click.argument("model")
@click.option(
    "-t",
    "--target",
    "target",
    multiple=True,
    required=True,
    metavar="BOARD[,BOARD…]",
    help="Boards to compile for (edgec boards), or your devices (edgec devices list).",
)
@click.option(
    "-o", "--output", default=None, metavar="FILE", help="The bundle to write [default: the app's name with .edge]."
)
@click.option(
    "--calib",
    metavar="DATA",
    help="Calibration inputs: .npz, folder of .npz, file.py:function, package.module:function.",
)
@click.option("--eval", "evaluation", metavar="DATA", help="Evaluation: file.py:function taking run(feed) -> outputs.")
@click.option(
    "--max-drop", metavar="DROP", help="Accuracy you allow to lose: 0.5% (relative), 0.5pt or 0.005 (absolute)."
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="auto",
    show_default=True,
    metavar="NAME",
    help=f"auto: integers where they keep the budget and are not slower. One of {', '.join(PRECISIONS)}.",
)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="NAME",
    help="A payload for this engine alone (repeatable, or with commas) [default: for each that the board may have].",
)
@click.option(
    "--confidence",
    type=float,
    metavar="C",
    help="The budget must hold with this probability, such as 0.95 (needs --eval).",
)
@how
@shape_option
@click.option(
    "--golden",
    type=click.Choice(["data", "synthetic", "none"]),
    default=None,
    help="Where the golden inputs come from [default: the calibration data, else synthetic].",
)
@click.option(
    "--sign", "key", metavar="KEY", help="Key to sign with: a name or a file [default: this user's development key]."
)
@click.option("--check-passes", is_flag=True, help="Compare the outputs on real inputs after every pass.")
@click.option("--name", metavar="NAME", help="The app's name [default: the model's].")
@click.option("--version", "app_version", default="0.0.0", show_default=True, metavar="V", help="The app's version.")
@click.option(
    "--sequence",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Counts up with every release; devices refuse to go back.",
)
@click.option(
    "--security-floor",
    type=click.IntRange(min=0),
    metavar="N",
    help="Once this version is confirmed on a device, nothing with a lower sequence may be installed there.",
)
@click.option("--expires", metavar="DATE", help="No new installations after this day (UTC). What runs goes on running.")
@click.option(
    "--hook",
    "hooks",
    multiple=True,
    callback=_hooks,
    metavar="POINT=NAME",
    help="At POINT of an update run NAME of the device's own hooks, such as health=check-camera (repeatable).",
)
@options
def command(
    out: Output, model: str, target: tuple[str, ...], output: str | None, calib: str | None, evaluation: str | None,
    key: str | None, check_passes: bool, app_version: str, shape: dict[str, list[int | str]], **asked: Any,
) -> None:  # fmt: skip
    """Compile MODEL for one or more boards into one signed bundle.

    With --calib, int8 is aimed at under a budget of 1 % (--max-drop); without, the answer is float32.
    The same options can stand in edgec.toml under [compile].
    """
    from edgec.bundle import keys
    from edgec.compiler import app_name, compile
    from edgec.devices import inventory

    refuse_ignored(click.get_current_context(), asked["precision"], has_data=bool(calib))
    path = Path(output or f"{asked['name'] or app_name(model)}.edge")
    boards = [inventory.board(name) for item in target for name in item.split(",") if name]
    asked["engines"] = tuple(name for item in asked["engines"] for name in item.split(",") if name)
    made = compile(
        model, boards, output=path, calib=calib, eval=evaluation, signer=keys.load(key) if key else None,
        check_passes=check_passes, progress=out.progress, shapes=shape, version=app_version, **asked,
    )  # fmt: skip
    rows = []
    members = {m["name"]: m["size"] for m in made.manifest["members"]}
    for payload in made.manifest["payloads"]:
        accuracy = payload["accuracy"]
        held = (
            f"{accuracy['metric']} {accuracy['value']:.4g}, float {accuracy['float_value']:.4g}"
            if accuracy
            else "not measured"
        )
        stored = size(sum(members[name] for name in payload["files"].values()))
        rows.append([payload["board"], payload["engine"], payload["precision"], stored, held])
    out.table("", ["board", "engine", "precision", "size", "accuracy"], rows)
    for decision in made.decisions:
        out.line(f"{decision.board}: {decision.precision}, since {decision.why}")
    for board, left_out in made.report["left_out"].items():
        for payload, why in left_out.items():
            out.line(f"{board}: no {payload}: {why}")
    if not calib and asked["precision"] == "auto":
        out.line("no calibration data, so no int8: add --calib DATA for a smaller and faster model")
    total = made.size
    out.line(f"wrote {path} ({size(total)}), identity {made.identity[:16]}")
    out.result(
        {
            "file": str(path),
            "bytes": total,
            "identity": made.identity,
            "payloads": made.manifest["payloads"],
            "decisions": [d.as_dict() for d in made.decisions],
        }
    )
    out.next(f"edgec run {path} --input INPUT.npz")


def refuse_ignored(ctx: click.Context, precision: str, *, has_data: bool) -> None:
    """Raise UsageError for a flag that was given and would do nothing."""
    refuse_search_alone(ctx, "executor")
    if precision in FORMS:
        refuse_for_form(ctx, precision, has_data=has_data)
    elif precision == "float32" or not has_data:
        refuse(
            ctx,
            ("max_drop", "method", "exclude", "effort", "confidence", "executor"),
            "It is about int8, and this compile makes float32.",
            "Add --calib DATA, or leave the flag out.",
        )
