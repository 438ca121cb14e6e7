"""`edgec sign`: add signatures to a bundle, or to root metadata."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.cli.common import Output, options


@click.command("sign")
@click.argument("file")
@click.option(
    "--sign",
    "names",
    multiple=True,
    metavar="KEY",
    help="A key's name or its file (repeatable) [default: your development key].",
)
@options
def command(out: Output, file: str, names: tuple[str, ...]) -> None:
    """Add signatures to the bundle FILE, in place. What it holds, and its identity, stay the same.

    Where a fleet asks for several signatures, their holders sign one after the other. FILE may be root metadata that
    lacks signatures, too (edgec keys rotate).
    """
    from edgec.bundle import keys, writer
    from edgec.cli.keys import told
    from edgec.errors import UsageError
    from edgec.trust import chain

    signers = [keys.load(name) for name in names]
    if _is_root(Path(file)):
        if not signers:
            raise UsageError("Root metadata is signed by root keys", "None was named.", "Add --sign KEY.", code="E220")
        told(out, chain.sign(Path(file), signers))
        return
    signers = signers or [keys.development_key()]
    identity, _ = writer.sign(file, *signers)
    ids = [signer.public_key.keyid for signer in signers]
    out.line(f"{file}: {identity[:16]} signed by {', '.join(name[:16] for name in ids)}")
    needed = _needed(Path(file))
    if needed is not None:
        have, threshold, version = needed
        out.line(
            f"{have} of the {threshold} signatures that root metadata {version} asks for"
            + ("" if have >= threshold else ": devices refuse it until the others have signed"),
            None if have >= threshold else "yellow",
        )
    out.result(
        {
            "file": file,
            "identity": identity,
            "key_id": ids[0],
            "key_ids": ids,
            "release": None if needed is None else {"have": needed[0], "threshold": needed[1], "version": needed[2]},
        }
    )
    out.next(f"edgec verify {file}")


def _is_root(path: Path) -> bool:
    """True for a file that is an envelope by itself: a bundle is a ZIP file."""
    try:
        with path.open("rb") as file:
            return file.read(1) == b"{"
    except OSError:
        return False  # whoever reads it as a bundle says why


def _needed(path: Path) -> tuple[int, int, int] | None:
    """(release keys that signed it, how many must, the version that says so), None without root metadata here."""
    from edgec.trust import chain
    from edgec_runtime.bundle import dsse, reader

    newest = chain.newest()
    if newest is None:
        return None
    with reader.open(path, allow_unsigned=True) as bundle:
        have = dsse.signed_by(dsse.parse_envelope(bundle.envelope), newest.root.release)
    return len(have), newest.root.release.threshold, newest.number
