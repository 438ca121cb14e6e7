"""`edgec run`: a bundle on one input, through the device's own runtime."""

from __future__ import annotations

import click

from edgec.cli.common import Output, allow_unsigned_option, options


@click.command("run")
@click.argument("file")
@click.option("--input", "source", required=True, metavar="X.npz", help="One array per input of the model, by name.")
@click.option("-o", "--output", metavar="Y.npz", help="Write the outputs here.")
@click.option(
    "--top", type=click.IntRange(min=1), default=5, show_default=True, help="How many of the largest values to show."
)
@allow_unsigned_option
@options
def command(out: Output, file: str, source: str, output: str | None, top: int, allow_unsigned: bool) -> None:
    """Run FILE on one input, as a device would: verify, pick the payload, load, run."""
    import time

    import numpy as np

    import edgec_runtime as rt
    from edgec import arrays

    feeds = arrays.read(source)
    with rt.load(file, allow_unsigned=allow_unsigned) as model:
        start = time.perf_counter()
        outputs = model.run(feeds)
        seconds = time.perf_counter() - start
        info = model.info
    rows = []
    for name, value in outputs.items():
        array = np.asarray(value)
        words = ""
        if array.dtype.kind in "fiu" and array.size:
            flat = array.ravel()
            order = np.argsort(-flat.astype(np.float64), kind="stable")[:top]
            words = "  ".join(f"[{i}] {flat[i]:.4g}" for i in order)
        elif array.dtype.kind in "OUb":
            words = "  ".join(str(item) for item in array.ravel()[:top])
        rows.append([name, str(array.dtype), "×".join(map(str, array.shape)), words])
    out.table("", ["output", "dtype", "shape", f"largest {top} [index] value"], rows)
    out.line(f"payload {info['payload']}, first run {seconds * 1e3:.2f} ms")
    if output:
        arrays.write(output, outputs)
        out.line(f"wrote {output}")
    described = {k: {"dtype": str(np.asarray(v).dtype), "shape": list(np.shape(v))} for k, v in outputs.items()}
    out.result({"payload": info["payload"], "outputs": described, "seconds": seconds})
    out.next(f"edgec bench {file} --against ort")
