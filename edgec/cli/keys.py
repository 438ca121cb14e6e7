"""`edgec keys`: make, list and trust signing keys."""

from __future__ import annotations

import click

from edgec.cli.common import Output, options


@click.group("keys")
def command() -> None:
    """Make, list and trust signing keys (Ed25519)."""


@command.command("new")
@click.argument("name")
@options
def new(out: Output, name: str) -> None:
    """Make a key pair named NAME in your key folder."""
    from edgec.bundle import keys

    made = keys.new(name)
    out.line(f"key {made.name} {made.key_id}")
    out.line(f"  private  {made.private}  (keep it to yourself)")
    out.line(f"  public   {made.public}  (devices trust this file)")
    out.result(_as_dict(made))
    out.next(f"edgec sign model.edge --sign {made.name}")


@command.command("list")
@options
def show(out: Output) -> None:
    """List your keys and whether this machine trusts them."""
    from edgec.bundle import keys

    found = keys.list_keys()
    if found:
        rows = [[k.name, k.key_id[:16], "yes" if k.trusted else "no", str(k.public)] for k in found]
        out.table("Keys", ["name", "id", "trusted here", "public key"], rows)
    else:
        out.line(f"no keys in {keys.folder()}")
    out.result({"folder": str(keys.folder()), "keys": [_as_dict(k) for k in found]})
    out.next("edgec keys new NAME")


@command.command("trust")
@click.argument("key")
@options
def trust(out: Output, key: str) -> None:
    """Let this machine load bundles signed by KEY: a public key file (.pem), or the name or id of one of your keys."""
    from edgec.bundle import keys

    identifier = keys.trust(key)
    out.line(f"trusted on this machine: {identifier}")
    out.result({"key_id": identifier})
    out.next("edgec verify model.edge")


def _as_dict(key: object) -> dict[str, object]:
    from dataclasses import asdict

    from edgec.bundle.keys import KeyInfo

    assert isinstance(key, KeyInfo)
    return {k: str(v) if k in ("private", "public") else v for k, v in asdict(key).items()}
