"""Which opset and IR version each release of ONNX Runtime takes, asked of the releases themselves.

    pip install --no-deps --target DIR/1.18.1 onnxruntime==1.18.1        # a folder a release, named by its version
    python -m edgec_targets.probe releases DIR [--numpy FOLDER]           # FOLDER: numpy 1 for releases before 1.19

writes `emitters/onnxruntime/releases.json`. The upper bound of what is asked is what the installed onnx package knows.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

_CHILD = """
import base64, json, sys
import onnxruntime as ort
options = ort.SessionOptions()
options.log_severity_level = 4
for line in sys.stdin:
    try:
        ort.InferenceSession(base64.b64decode(line), options, providers=["CPUExecutionProvider"])
        print(1)
    except Exception:
        print(0)
"""


def one_node(opset: int, ir_version: int) -> bytes:
    """A model with one Relu, stamped with the given versions."""
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    return bytes(model.SerializeToString())


def newest(folder: Path | None = None, numpy: Path | None = None) -> dict[str, int]:
    """Return {"opset": n, "ir": n}, the newest that the release in `folder` (default: the installed one) loads."""
    import onnx
    from onnx import defs

    opsets = range(13, defs.onnx_opset_version() + 1)
    irs = range(8, int(onnx.IR_VERSION) + 1)
    asked = [one_node(n, irs[0]) for n in opsets] + [one_node(opsets[0], n) for n in irs]
    paths = [str(p) for p in (folder, numpy) if p is not None]
    done = subprocess.run(
        [sys.executable, "-c", _CHILD],
        input="".join(base64.b64encode(m).decode() + "\n" for m in asked),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = [line == "1" for line in done.stdout.split()]
    return {
        "opset": max(n for n, ok in zip(opsets, loaded, strict=False) if ok),
        "ir": max(n for n, ok in zip(irs, loaded[len(opsets) :], strict=True) if ok),
    }


def main(arguments: list[str]) -> int:
    """Ask every release in a folder and write the table."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m edgec_targets.probe releases")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--numpy", type=Path, help="a folder with numpy 1, for releases before 1.19")
    options = parser.parse_args(arguments)
    table = {}
    for folder in sorted(options.folder.iterdir(), key=lambda p: [int(n) for n in p.name.split(".")]):
        old = tuple(int(n) for n in folder.name.split(".")[:2]) < (1, 19)
        table[folder.name] = newest(folder, options.numpy if old else None)
        print(folder.name, table[folder.name], file=sys.stderr)
    output = Path(__file__).parents[1] / "emitters" / "onnxruntime" / "releases.json"
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in table.items())
    output.write_text("{\n" + lines + "\n}\n", encoding="utf-8")
    return 0
