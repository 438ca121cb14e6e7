"""x86-64 CPUs under Linux other than this machine: one portable ONNX payload, and for int8 one per instruction set."""

from edgec_targets.emitters.onnxruntime import EMITTER
from edgec_targets.types import Target

TARGET = Target(
    name="x86_cpu",
    title="x86-64 CPU under Linux",
    emitters=(EMITTER,),
    precisions=("int8", "float32"),
)
