"""What a model takes while ncnn runs it, in bytes: a deterministic estimate, without the engine's own three megabytes.

Measured (resident memory, over what importing ncnn takes): EfficientNet-Lite0 41 MB, estimated 39; UltraFace 18 and 14;
ResNet-8 5.6 and 1.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgec_targets.emitters.ncnn.conversion import Written

_COPIES = 2
"""Padded and repacked copies live beside the activations that they are made of."""


def needed(model: ir.Model, written: Written) -> int:
    """Weights, 3 × 3 kernels transformed for Winograd beside them, and activations with their copies."""
    from edgec_targets.memory import estimate

    found = estimate(model)
    return found.weights + written.transformed + _COPIES * found.activations
