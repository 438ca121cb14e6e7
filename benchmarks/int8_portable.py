"""What int8 answers on a CPU without VNNI, and by TensorRT's rules: EfficientNet-Lite0 and ResNet-8 on their data.

    python -m benchmarks.int8_portable [--images 12] [--emulator PATH]

Eight- and seven-bit weights are scored natively on the whole evaluation set, then on the first images both natively and
on an emulated CPU with AVX2 alone (QEMU's user mode; skipped without it). TensorRT's symmetric int8 is scored as uint8
with zero point 128. Written to results/int8_portable.json. A native run must be on a CPU with VNNI to mean anything.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record, zoo
from edgec import data, frontends, passes, quantize
from edgec.measure.machine import this_machine
from edgec.quantize.portable import narrow
from edgec.quantize.session import Session
from edgec.quantize.symmetric import symmetric_to_u8
from edgec_toolchains import x86_emulation

CASES = ("efficientnet_lite0", "resnet8_cifar10")


def score(reference: list[list[Any]], answers: list[list[Any]]) -> dict[str, float]:
    sqnr = data.sqnr_db([a[0] for a in reference], [a[0] for a in answers])
    return {"sqnr_db": round(float(sqnr), 2), "agreement": round(float(data.agreement(reference, answers).value), 4)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--emulator", type=Path, default=x86_emulation.find())
    asked = parser.parse_args()
    if not this_machine().exact_int8:
        sys.exit("this CPU has no VNNI: its int8 answers are the saturated ones")
    figures: dict[str, Any] = {}
    for case in CASES:
        folder = zoo.folder(case)
        model = frontends.load(folder / "model.onnx").model
        calibration = data.load_calibration(f"{folder}/eval.py:feeds", model.graph.inputs)
        float_session = Session(model, threads=1)
        passes.run(model)
        feeds = list(zoo.module(case).feeds("eval"))
        reference = [float_session.run(f) for f in feeds]
        plain = quantize.Scheme()
        rows: dict[str, Any] = {}
        for name, how in {
            "8 bits": {"scheme": plain},
            "7 bits": {"scheme": narrow(plain)},
            "tensorrt": {"placement": "tensorrt"},
        }.items():
            made = quantize.quantize_with_data(model, calibration, **how).model  # type: ignore[arg-type]
            made = symmetric_to_u8(made) if name == "tensorrt" else made
            session = Session(made, threads=1)
            answers = [session.run(f) for f in feeds]
            row: dict[str, Any] = {"native": {**score(reference, answers), "n": len(feeds)}}
            if asked.emulator and name != "tensorrt":
                n = asked.images
                there = x86_emulation.run(asked.emulator, frontends.save_bytes(made), feeds[:n])
                pairs = zip(answers[:n], there.answers, strict=True)
                row["emulated"] = {
                    **score(reference[:n], there.answers), "n": n, "isa": list(there.isa),
                    "native_on_the_same": score(reference[:n], answers[:n]),
                    "identical": all(np.array_equal(a, b) for x, y in pairs for a, b in zip(x, y, strict=True)),
                }  # fmt: skip
            rows[name] = row
            print(case, name, row, flush=True)
        figures[case] = rows
    emulator = f"QEMU {x86_emulation.version(asked.emulator)}, -cpu max" if asked.emulator else "none"
    record.save("int8_portable", figures, emulator=emulator)


if __name__ == "__main__":
    main()
