"""`edgec sign`: add a signature to a bundle."""

from __future__ import annotations

import click

from edgec.cli.common import Output, options


@click.command("sign")
@click.argument("file")
@click.option("--sign", "key", metavar="KEY", help="A key's name or its file [default: your development key].")
@options
def command(out: Output, file: str, key: str | None) -> None:
    """Add a signature to the bundle FILE, in place. What it holds, and its identity, stay the same."""
    from edgec.bundle import keys, writer

    signer = keys.load(key) if key else keys.development_key()
    identity, _ = writer.sign(file, signer)
    identifier = signer.public_key.keyid
    out.line(f"{file}: {identity[:16]} signed by {identifier[:16]}")
    out.result({"file": file, "identity": identity, "key_id": identifier})
    out.next(f"edgec verify {file}")
