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
@click.option("--encrypt", is_flag=True, help="Write an encrypted copy to --output, and sign that.")
@click.option("-o", "--output", default=None, metavar="FILE", help="With --encrypt: the copy.")
@options
def command(out: Output, file: str, names: tuple[str, ...], encrypt: bool, output: str | None) -> None:
    """Add signatures to the bundle FILE, in place. What it holds, and its identity, stay the same.

    With --encrypt, a copy whose models only your devices can read: flash gives each of them the key, wrapped for it.

    Where a fleet asks for several signatures, their holders sign one after the other. FILE may be root metadata that
    lacks signatures, too (edgec keys rotate).
    """
    from edgec.bundle import keys, writer
    from edgec.cli.keys import told
    from edgec.errors import UsageError
    from edgec.trust import chain

    if encrypt != (output is not None):
        raise click.UsageError("--encrypt and --output FILE go together.")
    if output is not None and Path(output).exists() and Path(output).samefile(file):
        raise click.UsageError("--output must be another file: the plain bundle is what you compile and compare.")
    signers = [keys.load(name) for name in names]
    if _is_root(Path(file)):
        if encrypt:
            raise click.UsageError("Root metadata is public: there is nothing to encrypt.")
        if not signers:
            raise UsageError("Root metadata is signed by root keys", "None was named.", "Add --sign KEY.", code="E220")
        told(out, chain.sign(Path(file), signers))
        return
    signers = signers or [keys.development_key()]
    sealed = None
    if output is not None:
        from edgec.bundle import seal

        kept = seal.keep(key := seal.new_key())  # before anything is encrypted with it
        sealed = seal.seal(file, output, signers, content_key=key)
        file, identity = output, sealed.identity
        out.line(f"{file}: encrypted; its key is kept in {kept}")
        if why := seal.keep_here(key):
            out.line(f"this machine itself can't run it: {why}", "yellow")
    else:
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
            "content_key_id": None if sealed is None else sealed.key_id,
            "key_ids": ids,
            "release": None if needed is None else {"have": needed[0], "threshold": needed[1], "version": needed[2]},
        }
    )
    out.next(f"edgec verify {file}" if sealed is None else f"edgec flash {file} --on DEVICE")


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
