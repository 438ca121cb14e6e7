"""64-bit Arm CPUs under Linux: one portable ONNX payload, threads and memory settings from the board."""

from edgec_targets.emitters.onnxruntime import EMITTER
from edgec_targets.types import Target

TARGET = Target(
    name="arm_cpu",
    title="64-bit Arm CPU under Linux",
    emitters=(EMITTER,),
    precisions=("int8", "float32"),
)
