"""This machine's own CPU, with the engine's own defaults."""

from edgec_targets.emitters.onnxruntime import EMITTER
from edgec_targets.types import Target

TARGET = Target(
    name="host",
    title="This machine's CPU",
    emitters=(EMITTER,),
    precisions=("int8", "float32"),
)
