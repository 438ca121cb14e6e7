"""`edgec devices virtual`: arm64 boards under QEMU, for whoever has none yet, and for tests of power cuts."""

from __future__ import annotations

import click

from edgec.cli.common import Output, now, options

EMULATED = "It is emulated: answers and power cuts are as on a real board; no speed can be read from it."

name_argument = click.argument("name", default="virtual")


class _StartByDefault(click.Group):
    """`edgec devices virtual [NAME]` without a word of its own starts the board."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put "start" in front where no subcommand, and no --help, is there."""
        if not args or (args[0] not in self.commands and args[0] not in ("--help", "-h")):
            args = ["start", *args]
        return super().parse_args(ctx, args)


@click.group("virtual", cls=_StartByDefault)
def command() -> None:
    """A virtual arm64 board under QEMU: start (the default), stop, list, remove.

    It has a kernel, disks and a power supply of its own, and runs real aarch64 code, on an emulated core: its speed
    says nothing. Its host key is known from the start; `edgec devices setup NAME` works on it as on any device.
    """


@command.command("start")
@name_argument
@click.option("--cpu", default=None, metavar="CPU", help="cortex-a53, cortex-a72 or neoverse-n1 [default: cortex-a72].")
@options
def start(out: Output, name: str, cpu: str | None) -> None:
    """Start the virtual board NAME; it is made where it is not there.

    The first one downloads 75 MB of Debian's packages (half a minute, no root). It runs on in the background.
    """
    from edgec.devices import virtual

    with out.progress(f"starting {name}") as advance:

        def step(text: str) -> None:
            out.line(text)
            advance(1)

        done = virtual.start(name, cpu=cpu, now=now(), progress=step)
    found = done.probe
    how = f"up after {done.seconds:.1f} s" if done.seconds else "on already"
    memory = f"{found.memory / 2**20:.0f} MiB" if found.memory else "memory unknown"
    out.line(f"{name}: {found.cores} × {found.cpu}, {memory}, {found.os}, {how}", "green")
    out.line(EMULATED, "yellow")
    out.line(f"  ssh       ssh -F {done.ssh} {done.address.host}")
    out.line(f"  board     {done.description}")
    out.result(
        {
            "name": name,
            "address": str(done.address),
            "cpu": done.board.cpu,
            "port": done.board.port,
            "seconds": done.seconds,
            "made": done.made,
            "emulated": True,
            "ssh_config": str(done.ssh),
            "board": str(done.description),
            "probe": found.as_dict(),
        }
    )
    out.next(_next(name))


def _next(name: str) -> str:
    """What comes after a board that is on."""
    from edgec.devices import inventory

    device = inventory.find(name)
    set_up = device is not None and device.installed
    return f"edgec compile model.onnx -t {name}" if set_up else f"edgec devices setup {name}"


@command.command("stop")
@name_argument
@click.option("--power-cut", is_flag=True, help="Cut its power: what it had not flushed to its disk is lost.")
@options
def stop(out: Output, name: str, power_cut: bool) -> None:
    """Switch the virtual board NAME off. It keeps its disk."""
    from edgec.devices import virtual

    was = virtual.stop(name, power_cut=power_cut)
    how = "lost its power" if power_cut else "is off"
    out.line(f"{name} {how}" if was else f"{name} was off")
    out.result({"name": name, "was_on": was, "power_cut": power_cut and was})
    out.next(f"edgec devices virtual start {name}")


@command.command("list")
@options
def show(out: Output) -> None:
    """List the virtual boards."""
    from edgec.devices import virtual

    boards = virtual.boards()
    rows = [[b.name, b.cpu, "on" if b.on else "off", f"127.0.0.1:{b.port}", str(b.folder)] for b in boards]
    out.table("", ["board", "CPU", "power", "SSH", "folder"], rows)
    if not boards:
        out.line("no virtual boards")
    out.result(
        {
            "boards": [
                {"name": b.name, "cpu": b.cpu, "on": b.on, "port": b.port, "folder": str(b.folder)} for b in boards
            ]
        }
    )
    off = next((b.name for b in boards if not b.on), None)
    if not boards or off:
        out.next("edgec devices virtual" + (f" start {off}" if off else ""))
    else:
        out.next(_next(boards[0].name))


@command.command("remove")
@name_argument
@options
def remove(out: Output, name: str) -> None:
    """Delete the virtual board NAME with its disk; it leaves the list of devices."""
    from edgec.devices import virtual

    if not out.yes:
        virtual.get(name)
        click.confirm(f"Delete {name} and all that is on its disk?", abort=True, err=True)
    virtual.remove(name)
    out.line(f"{name} is deleted")
    out.result({"name": name})
    out.next("edgec devices list")
