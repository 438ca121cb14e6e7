"""Whether compiled kernels answer as ONNX Runtime does, on made-up inputs, on this machine.

Where this machine can run the board's own code, that is what runs. Else the same scheduled kernels are compiled for
this machine, quickly rather than well: what that leaves unproven is LLVM's code for the board.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tvm

from edgec_targets.emitters.tvm.build import Scheduled, build
from edgec_targets.emitters.tvm.code import SPREAD
from edgec_targets.emitters.tvm.cpu import Cpu
from edgec_targets.emitters.tvm.program import Program, Tensor
from edgec_targets.emitters.tvm.refused import Refused
from edgec_targets.machine import flags

LEAST_DB = 60.0
"""Signal to noise that answers must have: rounding alone leaves 100 and more."""
_LEAST_EQUAL = 0.9
"""Share of integer answers (ArgMax between two that are nearly the same) that must be equal."""


def library(cpu: Cpu, built: Any, scheduled: Scheduled) -> Any:
    """Kernels that this machine can run: `built` for the board, or compiled once more."""
    info = Path("/proc/cpuinfo")
    have = flags(info.read_text(encoding="utf-8", errors="replace")) if info.exists() else ()
    if cpu.arch == platform.machine() and set(cpu.isa) <= set(have):
        return built
    quick = tvm.target.Target({"kind": "llvm", "opt-level": 1})
    single = {gv.name_hint: f for gv, f in scheduled.module.functions.items() if not gv.name_hint.endswith(SPREAD)}
    return build(tvm.IRModule(single), quick)


def check(model: onnx.ModelProto, program: Program, kernels: Any) -> None:
    """Raise Refused where an output differs. `kernels` as `library` gives them."""
    import onnxruntime

    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session: Any = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        given = made_up(session.get_inputs(), program)
        expected = session.run(None, {node.name: a for node, a in zip(session.get_inputs(), given, strict=True)})
    except Exception as e:  # the engine has a class for each of its status codes
        raise Refused("", "", f"ONNX Runtime can't run it, so nothing proves a compiled one: {str(e)[:200]}") from e
    for name, wanted, found in zip(session.get_outputs(), expected, run(program, kernels, given), strict=True):
        if (why := apart(np.asarray(wanted), found)) is not None:
            raise Refused("", "", f"compiled by TVM, output '{name.name}' is not ONNX Runtime's: {why}")


def run(program: Program, library: Any, given: list[np.ndarray]) -> list[np.ndarray]:
    """The program's outputs, its kernels called one by one; no two values share memory here."""
    memory: dict[int, Any] = {root: tvm.runtime.tensor(data) for root, data in program.constants.items()}
    for tensor, array in zip(program.inputs, given, strict=True):
        memory[tensor.root] = tvm.runtime.tensor(np.ascontiguousarray(array))

    def seen(tensor: Tensor) -> Any:
        if tensor.root not in memory:
            memory[tensor.root] = tvm.runtime.empty(tensor.shape, tensor.dtype)
        held = memory[tensor.root]
        if tuple(held.shape) == tensor.shape:
            return held
        return held._create_view(tensor.shape, tensor.dtype)

    for call in program.calls:
        if call.kernel:
            library[call.kernel](*(seen(tensor) for tensor in call.arguments))
        else:
            memory[call.arguments[1].root] = tvm.runtime.tensor(seen(call.arguments[0]).numpy())
    return [seen(tensor).numpy().reshape(tensor.shape) for tensor in program.outputs]


def made_up(inputs: Any, program: Program) -> list[np.ndarray]:
    """Normal numbers for floats, small ones for integers; seeded."""
    random = np.random.default_rng(0)
    found = []
    for tensor in program.inputs:
        if tensor.dtype.startswith("float"):
            found.append(random.standard_normal(tensor.shape).astype(tensor.dtype))
        else:
            found.append(random.integers(0, 2, tensor.shape).astype(tensor.dtype))
    return found


def apart(wanted: np.ndarray, found: np.ndarray) -> str | None:
    """How two outputs differ, or None."""
    if wanted.shape != found.shape:
        return f"its shape is {list(found.shape)}, not {list(wanted.shape)}"
    if wanted.dtype.kind != "f":
        equal = float(np.mean(wanted == found)) if wanted.size else 1.0
        return None if equal >= _LEAST_EQUAL else f"{1 - equal:.0%} of its values differ"
    finite = np.isfinite(wanted)
    if not np.array_equal(finite, np.isfinite(found)):
        return "other values are infinite or no numbers"
    signal = np.asarray(wanted[finite], np.float64)
    noise = float(np.sum((signal - found[finite]) ** 2))
    if noise == 0 or signal.size == 0:
        return None
    decibels = 10 * np.log10(max(float(np.sum(signal**2)), 1e-30) / noise)
    tiny = float(np.max(np.abs(signal - found[finite]))) <= 1e-6
    return None if decibels >= LEAST_DB or tiny else f"{decibels:.0f} dB of signal to noise"
