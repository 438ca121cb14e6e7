"""The bundle that a device is tried with: y = relu(x), compiled for it the way that users' models are."""

from __future__ import annotations

from pathlib import Path

from edgec.devices import board
from edgec.devices.probe import Probe


def bundle(found: Probe, folder: Path, *, engine: str, date: str) -> Path | None:
    """Compile it into `folder` for a probed device and an engine; None where edgec compiles nothing for that."""
    if engine not in board.engines(found):
        return None
    from onnx import helper

    from edgec.compiler import compile

    description = folder / "device.toml"
    description.write_text(board.toml(board.fields(found, date=date)), encoding="utf-8")
    info = [helper.make_tensor_value_info(name, 1, [1, 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "check", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    path = folder / "check.edge"
    compile(
        model,
        str(description),
        output=path,
        name="check",
        precision="float32",
        golden="synthetic",
        engines=(engine,),
    )
    return path
