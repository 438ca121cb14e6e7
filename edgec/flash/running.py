"""One run of an app on a device: arrays there, arrays back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgec.errors import BadInputError
from edgec.flash import errors
from edgec.flash.session import Session
from edgec_runtime import arrays
from edgec_runtime.agent.asked import MAX_RUN
from edgec_runtime.agent.running import LIMIT, LONGEST
from edgec_runtime.bundle import tensors

SLACK = 60.0  # seconds beside the longest run


async def run(device: Session, app: str, feeds: Mapping[str, Any]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Run the active version of an app once.

    Args:
        device: an open session.
        app: an app that is installed there.
        feeds: {input name: array}.

    Returns:
        {output name: array}, and what the run says of itself: payload, engine, engine_version, precision, version,
        identity, slot, seconds (of the run alone).

    Raises what the device's runtime raises (a wrong shape is E911, exit 9); BadInputError (E957) for inputs that can't
    be sent; UnsupportedError (E954) where the engine dies there.
    """
    try:
        packed = tensors.encode([_item(name, np.asarray(value)) for name, value in feeds.items()], level=1)
    except (ValueError, KeyError) as e:
        raise BadInputError("these inputs can't be sent", str(e), "Give numbers, or text.", code="E957") from e
    if len(packed) > MAX_RUN:
        raise BadInputError(
            "these inputs are too large", f"{len(packed):,} bytes, packed; {MAX_RUN:,} is the most", "", code="E957"
        )
    info, data = await device.fetch("run", data=packed, patience=LONGEST + SLACK, app=app)
    try:
        found = tensors.decode(data, LIMIT)
        outputs = {name.removeprefix("0/"): _array(tensor) for name, tensor in found.items()}
    except (BadInputError, ValueError) as e:
        raise errors.nonsense(device.name, f"its outputs can't be read: {e}"[:300]) from e
    return outputs, info


def _item(name: str, value: NDArray[Any]) -> tensors.Item:
    if value.dtype.kind in "UO":
        return tensors.Item(f"0/{name}", "string", value.shape, tensors.pack_strings(str(each) for each in value.flat))
    dtype = arrays.name_of(value.astype(value.dtype.newbyteorder("="), copy=False))
    little = value.astype(value.dtype.newbyteorder("<"), copy=False) if value.dtype.kind in "iufc" else value
    return tensors.Item(f"0/{name}", dtype, value.shape, arrays.pack(np.ascontiguousarray(little), dtype))


def _array(tensor: tensors.Tensor) -> NDArray[Any]:
    if tensor.dtype == "string":
        return np.array(tensor.strings(), dtype=object).reshape(tensor.shape)
    made: NDArray[Any] = arrays.unpack(tensor.data, tensor.dtype, tensor.shape)
    return made
