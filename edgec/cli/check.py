"""`edgec check MODEL -t BOARD`: what a board can't run and why, before anything is compiled."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from edgec.cli.common import Output, options, shape_option, size


@click.command("check")
@click.argument("model")
@click.option("-t", "--target", "names", required=True, metavar="BOARD[,BOARD…]", help="The boards to check for.")
@shape_option
@options
def command(out: Output, model: str, names: str, shape: dict[str, list[int | str]]) -> None:
    """Say what BOARD can't run in MODEL and why, by node name. Exit 4 when there is something."""
    from edgec.devices import inventory
    from edgec_targets import board as find

    boards = [find(inventory.board(name.strip())) for name in names.split(",") if name.strip()]
    if not boards:
        raise click.BadParameter("name at least one board", param_hint="-t")
    from edgec import frontends
    from edgec_targets.check import check, facts

    imported = frontends.load(model, shapes=shape or None)
    results: list[dict[str, Any]] = []
    for board in boards:
        problems = check(imported.model, board)
        known = facts(imported.model, board)
        results.append(
            {
                "board": board.name,
                "runs": not problems,
                "problems": [asdict(p) for p in problems],
                "notes": list(known.notes),
                "memory": {"weights": known.memory.weights, "activations": known.memory.activations},
                "board_memory": board.memory,
            }
        )
        if problems:
            out.line(
                f"{board.name}: can't run this model: {len(problems)} problem{'s'[: len(problems) > 1]}", "bold red"
            )
            rows = [[p.node or "(the model)", p.operator or "–", p.why, p.fix] for p in problems]
            out.table("", ["node", "operator", "why", "fix"], rows)
        else:
            out.line(f"{board.name}: can run this model", "bold green")
        memory = f"weights {size(known.memory.weights)} + activations {size(known.memory.activations)} (estimate)"
        out.line(f"  memory  {memory}" + (f" of {size(board.memory)}" if board.memory else ""))
        for note in known.notes:
            out.line(f"  note    {note}")
    out.line(f"file: {size(imported.size)}, opset {imported.opset}, IR {imported.ir_version}")
    for note in imported.notes:
        out.line(f"  note    {note}")
    out.result(
        {
            "model": model,
            "size": imported.size,
            "opset": imported.opset,
            "import_notes": list(imported.notes),
            "boards": results,
        }
    )
    if not all(r["runs"] for r in results):
        raise click.exceptions.Exit(4)
    out.next(f"edgec compile {model} -t {','.join(b.name for b in boards)} -o model.edge")
