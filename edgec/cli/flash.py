"""`edgec flash`: a bundle onto devices, or into an SD card's image."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.common import Output, options, size
from edgec.cli.flashing import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgec.flash.device import Flashed, Options, Target
    from edgec.flash.plan import Package

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMG]?)B?(?:/s)?")
_WORDS = {
    "committed": "passed its trial and runs",
    "probation": "passed its trial and runs until you confirm it",
    "unchanged": "runs already: nothing was sent",
}


def rate(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Read `--limit 1MB/s` (decimal units) as bytes a second."""
    match = _RATE.fullmatch(value.strip()) if value is not None else None
    if value is None:
        return None
    found = float(match[1]) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[match[2]] if match else 0.0
    if found < 100:
        raise click.BadParameter(f"'{value}' is no rate: give 500kB/s, 1MB/s …")
    return found


def devices(_: click.Context, __: click.Parameter, values: Sequence[str]) -> list[str]:
    """Read `--on A,B --on C` as a list without repeats."""
    return list(dict.fromkeys(name.strip() for value in values for name in value.split(",") if name.strip()))


def seconds(_: click.Context, __: click.Parameter, value: float) -> float:
    """A range lets `nan` through: no comparison with it is true."""
    if value != value:
        raise click.BadParameter("that is no number of seconds")
    return value


def app_name(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Read `--app`: an empty one (an unset variable of a script) is not "its own"."""
    if value is not None and not value.strip():
        raise click.BadParameter("it is empty: give a name, or leave --app out")
    return value


on_option = click.option(
    "--on", "names", multiple=True, callback=devices, metavar="DEVICE[,…]", help="A device's name, or user@host."
)
app_option = click.option(
    "--app", default=None, callback=app_name, metavar="NAME", help="Its name on the device [default: its own]."
)
app_there_option = click.option(
    "--app", default=None, callback=app_name, metavar="NAME", help="Which app, where the device has several."
)


@click.command("flash")
@click.argument("file")
@on_option
@app_option
@click.option("--confirm", type=click.Choice(["auto", "manual"]), default="auto", show_default=True,
              help="manual: what passed its trial is undone unless 'edgec confirm' comes in time.")  # fmt: skip
@click.option("--deadline", type=click.FloatRange(1, 86400), default=60.0, show_default=True, metavar="S",
              callback=seconds,
              help="Seconds that the health check may take, and a probation.")  # fmt: skip
@click.option("--limit", callback=rate, default=None, metavar="RATE", help="At most so much a second: 500kB/s, 1MB/s.")
@click.option("--base", "bases", multiple=True, metavar="OLD.edge",
              help="An older bundle that the device may have, to send deltas against.")  # fmt: skip
@click.option("--canary", default=None, metavar="10%", help="Many devices: this part of them first.")
@click.option("--continue", "go_on", is_flag=True, help="With --canary: go on with a rollout that was halted.")
@click.option("--image", default=None, metavar="DIR", help="Write into an SD card's mounted root file system instead.")
@click.option("--trust-root", default=None, metavar="FILE", help="With --image: what it shall trust (key or root).")
@options
def command(
    out: Output, file: str, names: list[str], app: str | None, confirm: str, deadline: float, limit: float | None,
    bases: tuple[str, ...], canary: str | None, go_on: bool, image: str | None, trust_root: str | None,
) -> None:  # fmt: skip
    """Put the bundle FILE on devices: sent, tried there, and only then made the one that runs.

    Only what a device uses and lacks is sent, as deltas where that is shorter. A link that is cut goes on where it
    stopped. The device checks the model's own golden answers; what fails is rolled back (exit 7).
    """
    _sensible(names, image, canary, go_on, trust_root, limit, bases)
    from edgec.flash import plan
    from edgec.flash.device import Options, Target

    if image is not None:
        _image(out, file, image, app, confirm, deadline, trust_root)
        return
    targets = [Target.find(name) for name in names]
    how = Options(app=app, confirm=confirm, deadline=deadline, limit=limit, chain=_chain())
    try:
        with plan.open(file, bases=bases) as package:
            if len(targets) > 1:
                _many(out, package, targets, how, canary, go_on)
            else:
                _one(out, package, targets[0], how)
    except KeyboardInterrupt:
        click.echo("stopped: what has arrived is kept there; run it again to go on", err=True)
        click.get_current_context().exit(130)


def _sensible(
    names: list[str], image: str | None, canary: str | None, go_on: bool, trust_root: str | None,
    limit: float | None, bases: tuple[str, ...],
) -> None:  # fmt: skip
    """Raise where flags are missing, or would be ignored."""
    if image is None and not names:
        raise click.UsageError("Where to? --on DEVICE, or --image DIR. 'edgec devices list' shows your devices.")
    if image is not None:
        given = {"--on": names, "--canary": canary, "--continue": go_on, "--limit": limit, "--base": bases}
        wrong = [flag for flag, value in given.items() if value]
        if wrong:
            raise click.UsageError(f"{wrong[0]} has no place beside --image.")
    elif trust_root is not None:
        raise click.UsageError("--trust-root is for --image; a device gets it by 'edgec devices setup'.")
    elif canary is not None and len(names) < 2:
        raise click.UsageError("--canary is for several devices.")
    elif go_on and canary is None:
        raise click.UsageError("--continue is for rollouts: give --canary as before.")


def _chain() -> list[tuple[int, bytes]]:
    """This machine's root metadata, oldest first; a device that lacks some of it gets it."""
    from edgec.trust import chain

    return [(version.number, version.data) for version in chain.chain()]


def _one(out: Output, package: Package, target: Target, how: Options) -> None:
    import asyncio

    from edgec.errors import RolledBackError
    from edgec.flash.device import flash_one

    out.line(f"{package.app} {package.version} → {target.name}", "bold")
    with Progress(out) as progress:
        try:
            done = asyncio.run(flash_one(target, package, how, tell=progress.tell))
        except RolledBackError as error:
            rolled: Flashed | None = getattr(error, "flashed", None)
            progress.stop()
            if rolled is None:
                raise
            _summary(out, rolled, how)
            if out.as_json:
                out.result({**rolled.as_dict(), "error": error.as_dict()})
            click.echo(str(error), err=True)
            click.get_current_context().exit(error.exit_code)
    _summary(out, done, how)
    out.result(done.as_dict())
    if done.result == "probation":
        out.next(f"edgec confirm --on {target.name} --app {done.app}")
    elif done.app != package.app:  # FILE would mean the app of its own name
        out.next(f"edgec run --app {done.app} --on {target.name} --input x.npz")
    else:
        out.next(f"edgec run {package.path} --on {target.name} --input x.npz")


def _summary(out: Output, done: Flashed, how: Options) -> None:
    """What was sent, what health said, what runs now."""
    if done.followed != (0, 0):
        out.line("  trust     root metadata {} → {}".format(*done.followed))
    if done.result != "unchanged":
        sent = f"{size(done.sent)} of {size(done.needed)}" if done.sent else f"nothing: {size(done.needed)} are there"
        if done.patches:
            sent += f", {size(done.patches)} of it as deltas"
        again = f", over {done.reconnects + 1} connections" if done.reconnects else ""
        out.line(f"  sent      {sent}, in {done.transfer:.1f} s{again}")
        emulated = " (emulated: no speed can be read from it)" if done.emulated else ""
        for line in health(done.health, done.trial):
            out.line(f"  health    {line}{emulated}")
    if done.result == "rolled-back":
        out.line(f"  result    rolled back: {done.why}", "red")
        return
    out.line(f"  result    {done.app} {done.version} {_WORDS[done.result]} ({done.seconds:.1f} s)", "green")
    if done.result == "probation":
        out.line(f"            {how.deadline:.0f} s from its trial on; then it is undone")


def health(said: Any, seconds: float) -> list[str]:
    """What a device's health check said, a line for each payload that it ran."""
    from edgec.flash.answers import text

    payloads = said.get("payloads") if isinstance(said, dict) else None
    lines = []
    for each in payloads if isinstance(payloads, list) else []:
        if not isinstance(each, dict):
            continue
        facts = [text(each.get("payload")) or "a payload"]
        if isinstance(each.get("sqnr_db"), int | float):
            facts.append("same answers" if each["sqnr_db"] >= 200 else f"answers within {each['sqnr_db']:.0f} dB")
        if isinstance(each.get("latency_us"), int | float):
            facts.append(f"{each['latency_us'] / 1e3:.2f} ms")
        if text(each.get("why")):
            facts.append(text(each["why"]))
        lines.append(", ".join(facts))
    return lines or ([f"checked in {seconds:.1f} s"] if seconds else [])


def _many(out: Output, package: Package, targets: list[Target], how: Options, canary: str | None, go_on: bool) -> None:
    from edgec.flash.fleet import command as fleet

    fleet.flash_boards(out, package, targets, how, canary, go_on)


def _image(
    out: Output, file: str, folder: str, app: str | None, confirm: str, deadline: float, trust_root: str | None
) -> None:  # fmt: skip
    from edgec.flash import image, plan

    with plan.open(file) as package:
        done = image.write(package, folder, app=app, trust=trust_root, confirm=confirm, deadline=deadline)
    out.line(f"{done.app} {done.version} → {done.image} ({done.arch})", "bold")
    if done.unchanged:
        out.line("  result    it was there already")
    else:
        out.line(f"  wrote     {size(done.written)} of {size(done.needed)} into {done.root}")
        out.line(f"  payloads  {', '.join(done.payloads)}")
        out.line("  result    on trial: the board's first boot tries it, and keeps it if it passes", "green")
    if not done.runtime:
        out.line("note: it has no edgec runtime yet; after its first boot: edgec devices setup USER@HOST", "yellow")
    elif not done.unit:
        out.line("note: nothing runs 'edgec-rt recover' at its boot; 'edgec devices setup' installs the unit", "yellow")
    out.result(done.as_dict())
    out.next("edgec status --on USER@HOST (once it has booted)")
