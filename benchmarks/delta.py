"""Bytes on the wire of an update, ours beside bsdiff4, zstd --patch-from and blocks of 4 KiB; the device's memory.

    python -m benchmarks.delta          (needs: pip install bsdiff4==1.2.6 zstandard==0.25.0)

The same int8 model five ways, each as the members that a device stores (onnxruntime's .onnx and LiteRT's .tflite, as
edgec writes them): with other calibration data; its last layer trained on (noise of 5 % of its weights' deviation); six
layers; all weights moved by 1 %, by 5 %. Each method's patch is applied and its result compared. Per cent are of the
whole new file, uncompressed; "whole, zstd -19" is what sending it all would cost.
Memory and time are of a fresh process that applies the patch as the device does, over one that only starts.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record, zoo
from edgec.flash import delta

CASE = "efficientnet_lite0"
BARS = {"other calibration": 2, "last layer": 10, "six layers": 22, "all weights 1 %": 20}  # per cent
MEMORY = 8 << 20
BLOCK = 4096


def models() -> Iterator[tuple[str, dict[str, bytes]]]:
    """(what changed, {engine: file}), the old one first."""
    import onnx_ir as ir

    from edgec import data, frontends, passes, quantize
    from edgec_targets.emitters.litert.conversion import convert

    where = zoo.folder(CASE)

    def made(samples: slice, layers: int | None, noise: float) -> dict[str, bytes]:
        model = frontends.load(where / "model.onnx", shapes={"input": (1, 3, 224, 224)}).model
        passes.run(model)
        chance = np.random.default_rng(1)
        weights = [
            node.inputs[1]
            for node in model.graph
            if node.op_type in ("Conv", "Gemm", "MatMul") and node.inputs[1].const_value is not None
        ]
        for value in weights[-layers:] if layers else weights if layers is None else []:
            w = value.const_value.numpy()
            value.const_value = ir.tensor(
                (w + chance.standard_normal(w.shape).astype(np.float32) * w.std() * noise), name=value.name
            )
        given = [v for v in model.graph.inputs if v.name not in model.graph.initializers]
        every = data.load_calibration(f"{where}/eval.py:feeds", given)
        calibration = every.select(samples.start, samples.stop)
        int8 = quantize.quantize_with_data(model, calibration, effort="plain", arch="").model
        tflite = convert(ir.serde.deserialize_model(ir.serde.serialize_model(int8)))
        return {"onnxruntime": frontends.save_bytes(int8), "litert": tflite.data or b""}

    yield "old", made(slice(0, 24), 0, 0)
    yield "other calibration", made(slice(24, 48), 0, 0)
    yield "last layer", made(slice(0, 24), 1, 0.05)
    yield "six layers", made(slice(0, 24), 6, 0.05)
    yield "all weights 1 %", made(slice(0, 24), None, 0.01)
    yield "all weights 5 %", made(slice(24, 48), None, 0.05)


def bsdiff(old: bytes, new: bytes) -> bytes:
    import bsdiff4

    patch: bytes = bsdiff4.diff(old, new)
    assert bsdiff4.patch(old, patch) == new
    return patch


def zstd_patch_from(old: bytes, new: bytes) -> bytes:
    """`zstd -19 --long --patch-from`: the old file as a raw dictionary, with a window over both."""
    import zstandard

    window = max(20, (len(old) + len(new)).bit_length())
    settings = zstandard.ZstdCompressionParameters.from_level(19, window_log=window, enable_ldm=True)
    dictionary = zstandard.ZstdCompressionDict(old, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    patch: bytes = zstandard.ZstdCompressor(compression_params=settings, dict_data=dictionary).compress(new)
    decoder = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=1 << window)
    assert decoder.decompress(patch, max_output_size=len(new)) == new
    return patch


def blocks(old: bytes, new: bytes) -> bytes:
    """Blocks that the device has anywhere are named by a number, others sent through zstd (as RAUC's hash index)."""
    import zstandard

    places = {hashlib.sha256(old[at : at + BLOCK]).digest(): n for n, at in enumerate(range(0, len(old), BLOCK))}
    order, fresh = [], bytearray()
    for at in range(0, len(new), BLOCK):
        block = new[at : at + BLOCK]
        order.append(places.get(hashlib.sha256(block).digest(), 0xFFFFFFFF))
        if order[-1] == 0xFFFFFFFF:
            fresh += block
    return zstandard.ZstdCompressor(level=19).compress(np.array(order, "<u4").tobytes() + bytes(fresh))


def whole(old: bytes, new: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=19).compress(new)


WAYS: dict[str, Callable[[bytes, bytes], bytes]] = {
    "edgec": delta.encode, "bsdiff4": bsdiff, "zstd --patch-from": zstd_patch_from, "4 KiB blocks": blocks,
    "whole, zstd -19": whole,
}  # fmt: skip

DEVICE = """
import sys, time
sys.path.insert(0, sys.argv[1])
from edgec_runtime import delta
patch, base, made, size = sys.argv[2:]
used = lambda: next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
before, begin = used(), time.process_time()
with open(patch, "rb") as p, open(base, "rb") as b, open(made, "wb") as out:
    delta.apply(p, b, out.write, size=int(size))
print(used() - before, time.process_time() - begin)
"""


def device(patch: bytes, old: bytes, new: bytes) -> tuple[int, float]:
    """Bytes of memory and seconds of CPU that applying takes in a process of its own."""
    runtime = Path(delta.format_.__file__).parents[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "patch").write_bytes(patch)
        (folder / "old").write_bytes(old)
        words = [runtime, folder / "patch", folder / "old", folder / "new", len(new)]
        ran = subprocess.run(
            [sys.executable, "-I", "-S", "-c", DEVICE, *map(str, words)], capture_output=True, text=True, check=True
        )
        assert (folder / "new").read_bytes() == new
    memory, seconds = ran.stdout.split()
    return int(memory), float(seconds)


def main() -> None:
    found: dict[str, Any] = {}
    base: dict[str, bytes] = {}
    for what, files in models():
        if not base:
            base = files
            continue
        for engine, new in files.items():
            old, row = base[engine], {"bytes": len(new)}
            for name, way in WAYS.items():
                begin = time.process_time()
                patch = way(old, new)
                row[name] = {"bytes": len(patch), "per cent": round(100 * len(patch) / len(new), 2),
                             "CPU s": round(time.process_time() - begin, 1)}  # fmt: skip
                if name == "edgec":
                    memory, seconds = device(patch, old, new)
                    row["device"] = {"memory": memory, "CPU s": round(seconds, 2)}
            found[f"{what}, {engine}"] = row
            shown = "   ".join(f"{name} {row[name]['per cent']:.2f} %" for name in WAYS)
            print(f"{what}, {engine}: {shown}   memory {row['device']['memory'] / 1e6:.1f} MB", flush=True)
    together = {}
    for what, bar in BARS.items():
        rows = [row for name, row in found.items() if name.startswith(f"{what}, ")]
        share = 100 * sum(row["edgec"]["bytes"] for row in rows) / sum(row["bytes"] for row in rows)
        together[what] = {"per cent": round(share, 2), "bar": bar, "met": share <= bar}
        print(f"{what}: {share:.2f} % of all members, asked ≤ {bar} %: {'met' if share <= bar else 'MISSED'}")
    memory = max(row["device"]["memory"] for row in found.values())
    print(f"device memory {memory / 1e6:.1f} MB, asked ≤ {MEMORY / 1e6:.1f}: {'met' if memory <= MEMORY else 'MISSED'}")
    peers = {"bsdiff4": "1.2.6", "zstandard": "0.25.0"}
    record.save("delta", {"rows": found, "together": together, "device memory": memory}, peers=peers)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
