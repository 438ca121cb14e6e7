"""`edgec devices`: the user's devices, what one is (probe), and the runtime onto it (setup)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.common import Output, now, options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgec.devices.probe import Probe
    from edgec.devices.setup import Key, SetUp
    from edgec.devices.surprises import Surprise

root_option = click.option("--root", default="", metavar="DIR", help="edgec's folder on the device [default: its own].")


class _Devices(click.Group):
    """Its own commands, and `virtual`, which is imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        return [*super().list_commands(ctx), "virtual"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them."""
        if cmd_name == "virtual":
            from edgec.cli import virtual

            return virtual.command
        return super().get_command(ctx, cmd_name)


@click.group("devices", cls=_Devices)
def command() -> None:
    """List your devices; look at one by SSH, and set it up.

    DEVICE is a name from the list, user@host, user@host:port, or a name of ~/.ssh/config.
    """


@command.command("list")
@options
def show(out: Output) -> None:
    """List your devices."""
    from edgec.devices import inventory

    found = inventory.devices()
    rows = [
        [d.name, d.address, d.board or "–", d.probe.get("cpu") or "–", d.probed[:10] or "never", _runs(d.installed)]
        for d in found
    ]
    out.table("", ["device", "address", "board", "CPU", "probed", "edgec-runtime"], rows)
    if not found:
        out.line(f"no devices in {inventory.path()}")
    out.result({"inventory": str(inventory.path()), "devices": [d.as_dict() for d in found]})
    bare = next((d.name for d in found if not d.installed), None)
    if bare:
        out.next(f"edgec devices setup {bare}")
    else:
        out.next("edgec status" if found else "edgec devices add USER@HOST")


@command.command("add")
@click.argument("address")
@click.option("-t", "--target", "board", default="", metavar="BOARD", help="The board that it is (edgec boards).")
@click.option("--name", default=None, help="What to call it [default: the host's name].")
@options
def add(out: Output, address: str, board: str, name: str | None) -> None:
    """Remember the device at ADDRESS. It is not asked anything."""
    from edgec.devices import Address, inventory
    from edgec_targets import registry

    if board:
        registry.board(board)
    where = Address.parse(address)
    kept = str(Path(board).resolve()) if board.endswith(".toml") else board
    made = inventory.add(where, name=name or where.name, board=kept, now=now())
    out.line(f"{made.name} is {made.address}" + (f", board {made.board}" if made.board else ""))
    out.result(made.as_dict())
    out.next(f"edgec devices probe {made.name}")


@command.command("remove")
@click.argument("device")
@options
def remove(out: Output, device: str) -> None:
    """Forget DEVICE. Nothing on it is changed."""
    from edgec.devices import inventory

    gone = inventory.remove(device)
    out.line(f"{gone.name} ({gone.address}) is forgotten; nothing on it was changed")
    out.result(gone.as_dict())
    out.next("edgec devices list")


@command.command("probe")
@click.argument("device")
@click.option("-o", "--output", default=None, metavar="FILE", help="Write the board file here [default: print it].")
@root_option
@options
def look(out: Output, device: str, output: str | None, root: str) -> None:
    """Look at DEVICE by SSH and write a board file for it, to compile with -t FILE.

    Nothing is changed or left there; sh is enough, Python is not needed.
    """
    import asyncio
    import time

    from edgec.devices import board, inventory
    from edgec.devices.surprises import surprises

    address = inventory.resolve(device)
    with out.progress(f"looking at {address}"):
        found = asyncio.run(_probed(address, root))
    said, name = surprises(found, now=time.time()), board.known(found)
    inventory.note(address, now=now(), probe=found.as_dict(), board=name)
    told = {"probe": found.as_dict(), "surprises": [each.as_dict() for each in said], "known_board": name}
    try:
        text = board.toml(board.fields(found, date=now()[:10]), _comments(said, name))
    except Exception:
        # There is no board file for it; what it is is worth knowing all the same.
        _describe(out, found, said, name)
        raise
    if output is None:
        # What is printed is the file alone, so that it can go through a pipe.
        if not out.silent:
            click.echo(text, nl=False)
    else:
        _write(output, text)
        _describe(out, found, said, name)
        out.line(f"wrote {output}")
        out.next(f"edgec compile model.onnx -t {output}")
    out.result({**told, "toml": text, "output": output})


@command.command("setup")
@click.argument("device")
@click.option("--engine", default=None, metavar="NAME", help="litert or onnxruntime [default: the slimmest that fits].")
@click.option("--wheel", default=None, metavar="FILE", help="A device wheel that was made elsewhere.")
@click.option("--key", default=None, metavar="KEY", help="Trust this key (name, or public PEM file) [default: yours].")
@click.option(
    "--trust-root",
    default=None,
    metavar="FILE",
    help="Trust the keys that this root metadata names [default: this machine's, where it has any].",
)
@root_option
@options
def set_up(
    out: Output, device: str, engine: str | None, wheel: str | None, key: str | None, trust_root: str | None, root: str
) -> None:
    """Put the runtime and one engine on DEVICE, and tell it whom to trust.

    That is the root metadata of your fleet (edgec keys rotate) where there is any: it is pinned once, and followed from
    then on. Else it is your key alone.

    The device needs Python 3.9 and SSH, no more: no pip, no root, no internet. What is there already is kept, a
    transfer that was cut goes on, and what is new runs only after it was tried there.
    """
    import asyncio
    import tempfile

    from edgec.devices import board, check, inventory, setup

    if engine and wheel:
        raise click.UsageError("--engine has no place beside --wheel, which holds its engine.")
    if key and trust_root:
        raise click.UsageError("--key has no place beside --trust-root: single keys don't count beside root metadata.")
    address = inventory.resolve(device)
    chain = () if key else _chain(trust_root)
    trusted = setup.NO_KEY if chain else _key(key)
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder, out.progress(f"setting up {address}") as advance:

        def step(text: str) -> None:
            out.line(text)
            advance(1)

        def bundle(found: Probe, engine: str) -> Path | None:
            return check.bundle(found, Path(folder), engine=engine, date=now()[:10])

        found, done = asyncio.run(
            setup.setup(
                address,
                key=trusted,
                chain=chain,
                root=root,
                engine=engine,
                wheel=Path(wheel) if wheel else None,
                check=bundle,
                step=step,
            )
        )
    inventory.note(address, now=now(), probe=found.as_dict(), board=board.known(found))
    kept = {"id": done.id, "engine": done.engine, "version": done.version, "root": done.root}
    inventory.note_setup(address, kept)
    how = f"{done.sent / 1e6:.1f} MB sent" if done.sent else "all was there already"
    out.line(f"{address} runs edgec-runtime with {done.engine} {done.version} in {done.root} ({how})", "green")
    out.line(f"  command   {done.launcher}")
    if done.importable:
        out.line(f"  Python    import edgec_runtime ({done.importable})")
    out.line(f"  trusts    {_trusts(done)}")
    out.line(f"  recovers  {done.unit or 'not by itself'}")
    if done.note:
        out.line(f"note: {done.note}", _STYLE["note"])
    out.result(done.as_dict())
    record = inventory.find(device)
    name = (record.name if record and record.board else "") or board.known(found)
    out.next(f"edgec compile model.onnx -t {name}" if name else f"edgec devices probe {device} -o board.toml")


async def _probed(address: Any, root: str) -> Probe:
    from edgec.devices import connect, probe

    async with connect(address) as connection:
        return await probe(connection, root=root)


def _describe(out: Output, found: Probe, said: Sequence[Surprise], name: str) -> None:
    python = f"Python {found.python.text}" if found.python else "no Python"
    memory = f"{found.memory / 2**20:.0f} MiB" if found.memory else "memory unknown"
    out.line(f"{found.model or 'A device'}: {found.cores} × {found.cpu or found.machine}, {memory}")
    out.line(
        f"  system    {found.os}, Linux {found.kernel}, {found.libc or 'C library unknown'} {found.glibc}".rstrip()
    )
    out.line(f"  programs  {found.bits or '?'} bits, {python}")
    if found.python and found.python.packages:
        out.line(f"  packages  {', '.join(f'{n} {v}' for n, v in found.python.packages.items())}")
    out.line(f"  ISA       {' '.join(found.isa)}")
    if name:
        out.line(f"  board     edgec knows it: {name}")
    for each in said:
        out.line(f"{'PROBLEM' if each.level == 'stop' else 'note'}: {each.what}. {each.fix}", _STYLE[each.level])


_STYLE = {"stop": "red", "note": "yellow"}


def _comments(said: Sequence[Surprise], name: str) -> tuple[str, ...]:
    known = (f"edgec knows this board: {name}.",) if name else ()
    return (*known, *(f"{'PROBLEM' if s.level == 'stop' else 'note'}: {s.what}. {s.fix}" for s in said))


def _write(path: str, text: str) -> None:
    from edgec.bundle import atomic
    from edgec.errors import BadInputError

    if not path.endswith(".toml"):
        raise BadInputError(f"a board file's name ends in .toml: {path}", "", f"-o {path}.toml", code="E920")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(Path(path)) as (file, _):
        file.write(text.encode())


def _key(name: str | None) -> Key:
    """The public key to trust: the development key, one of the user's by name or id, or a PEM file."""
    from edgec.bundle import keys
    from edgec.devices.setup import Key
    from edgec.errors import MissingError
    from edgec_runtime.trust import store

    if name is None:
        keys.development_key()
        name = keys.DEVELOPMENT
    own = next((key for key in keys.list_keys() if name in (key.name, key.key_id)), None)
    path = own.public if own else Path(name)
    if not path.is_file():
        raise MissingError(
            f"no key '{name}'", "", "'edgec keys list' shows yours; else give a .pem file.", code="E1010"
        )
    raw = store.parse_pem(path.read_bytes(), str(path))
    return Key(store.key_id(raw), store.to_pem(raw).decode())


def _chain(file: str | None) -> Sequence[bytes]:
    """The root metadata to trust: this machine's (up to the one in the file), or the file's alone; () for none."""
    from edgec.trust import chain

    versions = chain.chain()
    if file is None:
        return [version.data for version in versions]
    given = chain.complete(Path(file))
    known = [v.data for v in versions if v.number < given.number]
    same = any(v.root.envelope.payload == given.root.envelope.payload for v in versions)
    return [*known, given.data] if same else [given.data]


def _trusts(done: SetUp) -> str:
    if not done.root_version:
        return done.key_id
    told = f"root metadata, version {done.root_version}"
    return f"{told}; the key {done.key_id[:16]} beside it does not count" if done.key_id else told


def _runs(installed: Any) -> str:
    return f"{installed['engine']} {installed['version']}" if installed else "–"
