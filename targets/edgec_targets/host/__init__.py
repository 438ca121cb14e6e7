"""This machine's own CPU, with the engines' own defaults; which engine wins is measured."""

from edgec_targets.emitters.litert import EMITTER as LITERT
from edgec_targets.emitters.litert import alike
from edgec_targets.emitters.ncnn import EMITTER as NCNN
from edgec_targets.emitters.onnxruntime import EMITTER as ONNXRUNTIME
from edgec_targets.emitters.tvm import EMITTER as TVM
from edgec_targets.types import Target

TARGET = Target(
    name="host",
    title="This machine's CPU",
    emitters=(ONNXRUNTIME, LITERT, TVM, NCNN),
    precisions=("int8", "float32"),
    alike=alike,
)
