"""How numbers are represented: a Scheme, and the Assignment of one to each layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Scheme:
    """Number formats of one layer: integer activations and weights, biases int32 with scale s_x·s_w.

    Activations of 16 bits with weights of 8 ("int16x8") are for targets that have such kernels: TFLite's (symmetric
    int16, accumulators of 64 bits) and Qualcomm's (uint16). ONNX Runtime's CPU runs them in float between Q and DQ.

    Attributes:
        activation: integer type of activations.
        weight: integer type of weights, always symmetric (zero point 0).
        symmetric_activation: zero point at the middle of the type (128, 32768 or 0) instead of where the range puts it.
        per_channel: one weight scale per output channel, where the operator has channels.
        weight_bits: 8, or 7 for CPUs whose 8-bit multiply-add saturates (AVX2 without VNNI: two u8·s8 products are
            summed in int16).
    """

    activation: Literal["uint8", "int8", "uint16", "int16"] = "uint8"
    weight: Literal["int8"] = "int8"
    symmetric_activation: bool = False
    per_channel: bool = True
    weight_bits: int = 8

    @property
    def weight_max(self) -> int:
        """The largest quantized weight: 127 of 8 bits (−128 is not used: symmetric), 63 of 7."""
        return int(2 ** (self.weight_bits - 1) - 1)

    @property
    def wide(self) -> bool:
        """Whether activations have 16 bits; Q and DQ of such need opset 21."""
        return self.activation in ("uint16", "int16")


INT16X8 = Scheme(activation="int16", symmetric_activation=True)
"""16-bit activations as TFLite's int16x8 kernels take them: zero point 0."""


Assignment = dict[str, Scheme | None]
"""Layer name -> Scheme; None: the layer stays float. Layers that are not listed stay float."""
