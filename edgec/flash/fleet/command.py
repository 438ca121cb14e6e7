"""`edgec flash` to several devices: at once, or with --canary in waves; the table, the JSON, and the exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from edgec.flash.fleet import history as kept
from edgec.flash.fleet.boards import OK, Attempt, Board, FlashOne, Outcome
from edgec.flash.fleet.many import flash_many
from edgec.flash.fleet.policy import Policy, Share
from edgec.flash.fleet.rollout import Rollout
from edgec.flash.fleet.show import Lines, Table, counts
from edgec.flash.fleet.summary import Summary

if TYPE_CHECKING:
    from edgec.cli.common import Output
    from edgec.flash.device import Flashed, Options, Target
    from edgec.flash.plan import Package

GRAVEST = (7, 6, 5, 4, 3, 8, 9, 10, 2, 11)  # exit codes: of several, the first of these is edgec's own
FIXES = 5  # different ones that are told
LISTED = 80  # characters of devices' names in a command that is told
SHOWN = 40  # rows of the table; of more devices, only those that don't have the bundle are listed


def flash_boards(
    out: Output, package: Package, targets: Sequence[Target], how: Options, canary: str | None, go_on: bool = False
) -> None:
    """Flash several devices, print what came of it, and end the command with its exit code.

    Args:
        out: where to print.
        package, how: what, how; as for one device.
        targets: the devices.
        canary: `--canary`; None for all at once.
        go_on: `--continue`, a halted rollout.
    """
    import click

    policy = Policy(Share.parse(canary)) if canary is not None else None
    if go_on and policy is None:
        raise click.UsageError("--continue is for rollouts: give --canary as before.")
    boards = [Board(target.name, target.board, target) for target in targets]
    title = f"{package.app} {package.version} → {len(boards)} devices"
    flash_one = _flash_one(package, how)
    if policy is None:
        with _watch(out, boards, title) as watch:
            outcomes = asyncio.run(flash_many(boards, flash_one, watch=watch))
        summary = Summary(kept.COMPLETE, "", outcomes, [], False)
    else:
        bundle = kept.Bundle(package.identity, how.app or package.app, package.version)
        summary = _rolled_out(out, boards, flash_one, bundle, policy, go_on, title)
    tell(out, summary, {"app": how.app or package.app, "version": package.version, "identity": package.identity})
    _next(out, summary, repeated(str(package.path), [target.name for target in targets], how.app, canary))
    click.get_current_context().exit(exit_code(summary))


def _rolled_out(
    out: Output, boards: Sequence[Board], flash_one: FlashOne, bundle: kept.Bundle, policy: Policy, go_on: bool,
    title: str,
) -> Summary:  # fmt: skip
    where = kept.path()
    with kept.alone(kept.key(bundle, boards), where.parent / "rollouts"):
        history = kept.History(where)
        try:
            with _watch(out, boards, title) as watch:
                rollout = Rollout(
                    boards, flash_one, bundle=bundle, policy=policy, history=history, go_on=go_on, watch=watch
                )
                if rollout.resumed:
                    out.line(f"going on with the rollout that was begun on {rollout.begun[:10]}")
                return asyncio.run(rollout.run())
        finally:
            history.close()


def _flash_one(package: Package, how: Options) -> FlashOne:
    """One device by SSH."""
    from edgec.flash.device import flash_one

    async def one(board: Board, attempt: Attempt) -> Flashed:
        return await flash_one(board.device, package, how, tell=attempt.say, activate=attempt.activate)

    return one


def _watch(out: Output, boards: Sequence[Board], title: str) -> Lines:
    from rich.console import Console

    console = Console(stderr=True)
    if out.silent:
        return Lines(lambda text, style: None)
    if console.is_terminal:
        return Table(console, boards, title)
    out.line(title, "bold")
    return Lines(_say(out))


def _say(out: Output) -> Callable[[str, str | None], None]:
    return lambda text, style: out.line(text, style)


def exit_code(summary: Summary) -> int:
    """0 where every device has the bundle; 7 where it was halted; else the gravest of the devices' own codes."""
    codes = {int(o.error.get("exit_code", 9)) for o in summary.outcomes if o.state != OK}
    if summary.state == kept.HALTED:
        codes.add(7)
    return next((code for code in GRAVEST if code in codes), max(codes, default=0))


def tell(out: Output, summary: Summary, bundle: dict[str, Any]) -> None:
    """The table, and the JSON object."""
    outcomes, many = summary.outcomes, len(summary.outcomes) > SHOWN
    rows = [_row(outcome) for outcome in outcomes if not many or outcome.state != OK]
    out.table("", ["device", "board", "state", "sent", "seconds", ""], rows)
    if summary.state == kept.HALTED:
        out.line(f"halted: {summary.why}", "red")
    fixes = {str(o.error["fix"]): o.board.name for o in reversed(outcomes) if o.state != OK and o.error.get("fix")}
    for fix, name in sorted(fixes.items(), key=lambda each: each[1])[:FIXES]:
        out.line(f"{name}: {fix}", "yellow")
    said = counts(outcomes)
    if summary.untouched:
        said.append(f"{len(summary.untouched):,} not tried")
    out.line(" · ".join(said), None if exit_code(summary) else "green")
    out.result({**bundle, **summary.as_dict(), "exit_code": exit_code(summary)})


def _row(outcome: Outcome) -> list[object]:
    sent = _size(outcome.sent) if outcome.result else "–"
    kind = outcome.board.kind
    kind = PurePath(kind).stem if kind.endswith(".toml") else kind  # a path would fold the whole table
    return [outcome.board.name, kind or "–", outcome.state, sent, f"{outcome.seconds:.1f}", outcome.words]


def _size(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def repeated(file: str, names: Sequence[str], app: str | None, canary: str | None) -> str:
    """The command once more: what it takes to be the same rollout; devices are left out where they are many."""
    on = ",".join(names)
    flags = {"--app": app, "--canary": canary}
    given = "".join(f" {flag} {value}" for flag, value in flags.items() if value)
    return f"edgec flash {file} --on {on if len(on) <= LISTED else '…'}{given}"


def _next(out: Output, summary: Summary, again: str) -> None:
    wrong = [o.board.name for o in summary.outcomes if o.state != OK]
    if summary.state == kept.HALTED:
        out.next(f"edgec logs --on {wrong[0]}; then {again} --continue" if wrong else f"{again} --continue")
    elif summary.state == kept.WAITING:
        out.next(f"{again} (goes on with the devices that did not answer)")
    elif wrong:
        failed = [o.board.name for o in summary.outcomes if o.state == "failed"]
        out.next(f"edgec logs --on {failed[0]}" if failed else again)
    else:
        out.next(f"edgec status --on {summary.outcomes[0].board.name}")
