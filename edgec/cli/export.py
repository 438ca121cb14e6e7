"""`edgec export`: a bundle as an ONNX Runtime model package."""

from __future__ import annotations

import click

from edgec.cli.common import Output, allow_unsigned_option, options


@click.command("export")
@click.argument("file")
@click.option("--ort-package", "folder", required=True, metavar="DIR", help="Write the package here: a new folder.")
@allow_unsigned_option
@options
def command(out: Output, file: str, folder: str, allow_unsigned: bool) -> None:
    """Write the bundle FILE as a model package of ONNX Runtime (1.32 or newer). A package has no signature."""
    from edgec.bundle.export import export
    from edgec_runtime.bundle import open

    with open(file, allow_unsigned=allow_unsigned) as bundle:
        made = export(bundle, folder)
    out.line(f"{folder}: component {made['component']} with {', '.join(made['variants'])}")
    for payload, why in made["left_out"].items():
        out.line(f"  left out: {payload} {why}")
    out.line("Nothing protects the bytes of a package: keep the bundle for devices.")
    out.result(made)
    out.next(f"edgec verify {file}")
