"""How numbers are represented: a Scheme, and the Assignment of one to each layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Scheme:
    """Number formats of one layer; integers of 8 bits, biases int32 with scale s_x·s_w.

    Attributes:
        activation: integer type of activations.
        weight: integer type of weights, always symmetric (zero point 0).
        symmetric_activation: zero point at the middle of the type (128 or 0) instead of where the range puts it.
        per_channel: one weight scale per output channel, where the operator has channels.
        weight_bits: 8, or 7 for CPUs whose 8-bit multiply-add saturates (AVX2 without VNNI: two u8·s8 products are
            summed in int16).
    """

    activation: Literal["uint8", "int8"] = "uint8"
    weight: Literal["int8"] = "int8"
    symmetric_activation: bool = False
    per_channel: bool = True
    weight_bits: int = 8

    @property
    def weight_max(self) -> int:
        """The largest quantized weight: 127 of 8 bits (−128 is not used: symmetric), 63 of 7."""
        return int(2 ** (self.weight_bits - 1) - 1)


Assignment = dict[str, Scheme | None]
"""Layer name -> Scheme; None: the layer stays float. Layers that are not listed stay float."""
