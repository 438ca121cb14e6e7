"""`edgec run`: a bundle on one input, through the runtime of this machine, or of a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from edgec.cli.common import Output, allow_unsigned_option, options

_TOLD = ("version", "identity", "engine", "engine_version", "emulated")


@click.command("run")
@click.argument("file", required=False)
@click.option("--app", metavar="NAME", help="With --on: an app that is installed there, instead of FILE.")
@click.option(
    "--on", "device", metavar="DEVICE", help="Run what is installed on this device; nothing but inputs is sent."
)
@click.option("--input", "source", required=True, metavar="X.npz", help="One array per input of the model, by name.")
@click.option("-o", "--output", metavar="Y.npz", help="Write the outputs here.")
@click.option(
    "--top", type=click.IntRange(min=1), default=5, show_default=True, help="How many of the largest values to show."
)
@allow_unsigned_option
@options
def command(
    out: Output, file: str | None, app: str | None, device: str | None, source: str, output: str | None, top: int,
    allow_unsigned: bool,
) -> None:  # fmt: skip
    """Run FILE on one input, as a device would: verify, pick the payload, load, run.

    With --on DEVICE it runs there: the app that `edgec flash` put there, by the device's own runtime. FILE says which
    app, and must be the very version that runs there; --app NAME takes whatever is active.
    """
    from edgec import arrays

    _check(file, app, device, allow_unsigned=allow_unsigned)
    feeds = arrays.read(source)
    outputs, info = _there(out, device, file, app, feeds) if device else _here(str(file), feeds, allow_unsigned)
    _show(out, outputs, top)
    where = f" on {device}, {info['engine']} {info['engine_version']}" if device else ""
    emulated = " (emulated: no speed can be read from it)" if info.get("emulated") else ""
    out.line(f"payload {info['payload']}{where}, first run {info['seconds'] * 1e3:.2f} ms{emulated}")
    if output:
        arrays.write(output, outputs)
        out.line(f"wrote {output}")
    told = {"payload": info["payload"], "outputs": _described(outputs), "seconds": info["seconds"]}
    if device:
        told |= {"device": device, **{key: info[key] for key in _TOLD}}
    out.result(told)
    out.next(f"edgec status --on {device}" if device else f"edgec bench {file} --against ort")


def _check(file: str | None, app: str | None, device: str | None, *, allow_unsigned: bool) -> None:
    """Raise a usage error for what does not go together."""
    if (file is None) == (app is None):
        raise click.UsageError("Give FILE, or --app NAME with --on DEVICE: one of them.")
    if app is not None and device is None:
        raise click.UsageError("--app is about a device: add --on DEVICE, or give a FILE to run here.")
    if device is not None and allow_unsigned:
        raise click.UsageError("--allow-unsigned is about a FILE that runs here: a device verified what it installed.")


def _here(file: str, feeds: Mapping[str, Any], allow_unsigned: bool) -> tuple[dict[str, Any], Mapping[str, Any]]:
    import time

    import edgec_runtime as rt

    with rt.load(file, allow_unsigned=allow_unsigned) as model:
        start = time.perf_counter()
        outputs = model.run(dict(feeds))
        seconds = time.perf_counter() - start
        return outputs, {**model.info, "seconds": seconds}


def _there(
    out: Output, device: str, file: str | None, app: str | None, feeds: Mapping[str, Any]
) -> tuple[dict[str, Any], Mapping[str, Any]]:
    import asyncio

    from edgec.errors import UsageError
    from edgec_runtime.bundle import reader

    wanted = ""
    if file is not None:
        # Only its name and identity are read here; whether to trust it is the device's business.
        with reader.open(file, allow_unsigned=True) as bundle:
            app, wanted = str(bundle.manifest["app"]["name"]), bundle.identity
    assert app is not None
    with out.progress(f"running {app} on {device}"):
        outputs, info = asyncio.run(_run(device, app, feeds))
    # Held against what ran, not against what was active a moment before.
    if wanted and info["identity"] != wanted:
        raise UsageError(
            f"{device} runs another version of {app} than {file}",
            f"it ran {info['version']} ({str(info['identity'])[:16]}), the file is {wanted[:16]}",
            f"edgec flash {file} --on {device}, or run what is there: edgec run --app {app} --on {device}",
            code="E1056",
        )
    return outputs, info


async def _run(device: str, app: str, feeds: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    from edgec.devices import connect, owned
    from edgec.flash import running, session
    from edgec.flash.device import Target

    target = Target.find(device)
    async with (
        connect(target.address) as connection,
        session.open(connection, name=target.name, root=target.root) as there,
    ):
        outputs, info = await running.run(there, app, feeds)
    return outputs, {**info, "emulated": owned.config(target.address.host) is not None}


def _show(out: Output, outputs: Mapping[str, Any], top: int) -> None:
    """A table of the outputs, with their largest values."""
    import numpy as np

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


def _described(outputs: Mapping[str, Any]) -> dict[str, Any]:
    import numpy as np

    return {k: {"dtype": str(np.asarray(v).dtype), "shape": list(np.shape(v))} for k, v in outputs.items()}
