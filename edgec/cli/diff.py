"""`edgec diff`: what differs between two bundles."""

from __future__ import annotations

from typing import Any

import click

from edgec.cli.common import Output, allow_unsigned_option, options


@click.command("diff")
@click.argument("first")
@click.argument("second")
@allow_unsigned_option
@options
@click.pass_context
def command(ctx: click.Context, out: Output, first: str, second: str, allow_unsigned: bool) -> None:
    """Compare two bundles, signatures aside. Exit code 0: the same; 8: they differ."""
    from edgec.bundle.diff import diff
    from edgec_runtime.bundle import open

    with open(first, allow_unsigned=allow_unsigned) as a, open(second, allow_unsigned=allow_unsigned) as b:
        found = diff(a, b)
    out.result({"identical": not found, "differences": found})
    if not found:
        out.line("identical, signatures aside")
        out.next(f"edgec verify {first}")
        return
    told = {key: value for key, value in found.items() if key not in ("members", "weights", "payload_order")}
    out.table("Differences (--json has all)", ["what", first, second], list(_rows(told)))
    out.table("Members that differ", ["member", first, second], _members(found.get("members", {})))
    out.table(
        "Weights", ["payload", "changed", "only in the first", "only in the second"], _weights(found.get("weights", {}))
    )
    out.next(f"edgec inspect {second}")
    ctx.exit(8)


def _rows(value: dict[str, Any], path: str = "") -> Any:
    """One row a leaf: its path, and both values; a weight's change is told in the last column."""
    for key, item in value.items():
        where = f"{path}{key}"
        if isinstance(item, list):
            yield [where, *(_short(side) for side in item)]
        elif path == "payloads " and (side := _only(item)) is not None:
            facts = ", ".join(str(item[fact][side]) for fact in ("board", "precision") if fact in item)
            yield [where, *(("–", facts) if side else (facts, "–"))]
        elif not any(isinstance(v, (dict, list)) for v in item.values()):
            yield [where, "", ", ".join(f"{k} {_short(v)}" for k, v in item.items())]
        else:
            yield from _rows(item, f"{where} ")


def _only(payload: dict[str, Any]) -> int | None:
    """0 or 1 where a payload is in the first or the second bundle alone; None where in both."""
    sides = [any(pair[side] is not None for pair in payload.values()) for side in (0, 1)]
    return sides.index(True) if sum(sides) == 1 else None


def _members(members: dict[str, Any]) -> list[list[str]]:
    """One row a member: the bytes on both sides."""
    rows = []
    for name, item in members.items():
        sizes = item if isinstance(item, list) else item.get("size", ["same size", "other bytes"])
        rows.append([name, *(_short(side["size"] if isinstance(side, dict) else side) for side in sizes)])
    return rows


def _weights(weights: dict[str, Any]) -> list[list[str]]:
    """One row a payload: how many tensors changed, with the one that moved most, and how many are on one side alone."""
    rows = []
    for name, tensors in weights.items():
        sides = {side: sum(t.get("only_in") == side for t in tensors.values()) for side in ("a", "b")}
        moved = {tensor: t["max_abs_diff"] for tensor, t in tensors.items() if t.get("max_abs_diff") is not None}
        most = max(moved, key=lambda tensor: moved[tensor], default="")
        changed = f"{len(moved)}, most {most} by {moved[most]:.3g}" if most else "0"
        rows.append([name, changed, str(sides["a"]), str(sides["b"])])
    return rows


def _short(value: object) -> str:
    text = "–" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "…"
