"""`edgec verify`: is this bundle whole, by whom, and does it still answer as it did."""

from __future__ import annotations

import click

from edgec.cli.common import Output, allow_unsigned_option, options, size


@click.command("verify")
@click.argument("file")
@allow_unsigned_option
@options
def command(out: Output, file: str, allow_unsigned: bool) -> None:
    """Check the bundle FILE: signature, manifest, layout, every byte, and the golden answers of each payload.

    Exit code 5: tampered or untrusted; 6: a payload answers differently; 9: no bundle.
    """
    from edgec.bundle.verify import verify

    found = verify(file, allow_unsigned=allow_unsigned)
    app = found["app"]
    out.line(f"{file}: {app['name']} {app['version']} {found['identity'][:16]}")
    signers = ", ".join(key[:16] for key in found["signers"])
    out.line(f"  signed by   {signers}" if signers else "  signed by   nobody that this machine trusts")
    out.line(f"  every byte  {found['members']} members, {size(found['bytes'])}")
    for payload, answer in found["golden"].items():
        words = (
            f"not run: {answer['skipped']}"
            if "skipped" in answer
            else f"{answer['samples']} golden inputs, {answer['sqnr_db']:.1f} dB (at least {answer['min_sqnr_db']:.1f})"
        )
        out.line(f"  {payload}  {words}")
    out.result(found)
    out.next(f"edgec run {file} --input x.npz")
