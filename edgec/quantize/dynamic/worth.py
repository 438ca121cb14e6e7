"""Which products gain from dynamic integers: the kernel's time and the quantization of what it reads, against float's.

The figures are those of `placement/costs.py` (x86-64). Free dimensions count as one row, where reading the weights is
what takes time.
"""

from __future__ import annotations

from edgec.quantize.dynamic.products import Product
from edgec.quantize.placement import costs

_ARCHITECTURES = frozenset({"x86_64"})
# Finding the range of a value before it is quantized, per element, in the unit of `costs` (ns).
_RANGE = 0.1


def pays(product: Product, readers: int, arch: str) -> bool:
    """Whether a product is faster in integers.

    Args:
        product: the layer.
        readers: how many layers share the quantized input.
        arch: as `platform.machine()` says; where costs are not known, it always pays.
    """
    if arch not in _ARCHITECTURES:
        return True
    cost = costs.node_cost(product.node)
    value = product.value
    quantize = (costs.to_integer(value) + _RANGE * costs.size(value)) / max(readers, 1)
    return cost.in_integer + quantize < cost.in_float
