"""int8 whose answers are the same on every CPU of a family: which CPUs saturate, and what to give those.

x86 without VNNI multiplies u8 by s8 with vpmaddubsw, which adds two products in int16 and saturates: 255 · 127 · 2 is
twice too large. With weights of seven bits (−63 … 63) no pair can saturate (255 · 63 · 2 = 32,130), so the answers are
those of a CPU with VNNI, bit for bit. ARM's kernels add in int32: no such case. (Intel, "Lower Numerical Precision Deep
Learning Inference and Training", 2018; ONNX Runtime documents it as `reduce_range`.)
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from edgec.quantize.scheme import Scheme

EXACT = ("avx512_vnni", "avx_vnni")
"""x86 features, as Linux names them, with which u8 · s8 products are added in int32; any one is enough."""

ENGINE = "onnxruntime"
"""Whose kernels saturate there; XNNPACK's don't."""

NARROW = "int8w7"
"""What the seven-bit variant of an int8 payload is called in payload ids, recipes and reports."""


def may_saturate(arch: str, isa: Collection[str]) -> bool:
    """Whether a CPU that has surely no more than these features may saturate eight-bit weights.

    Args:
        arch: as `platform.machine()` says.
        isa: features that it surely has.
    """
    return arch == "x86_64" and not set(EXACT) & set(isa)


def narrow(scheme: Scheme) -> Scheme:
    """The scheme with weights of seven bits."""
    return replace(scheme, weight_bits=7)
