"""`onnx_ir.Model` to bytes, always the same ones."""

from __future__ import annotations

import onnx_ir as ir

from edgec.errors import BadInputError
from edgec.frontends.onnx.read import PROTOBUF_LIMIT


def save_bytes(model: ir.Model) -> bytes:
    """See `edgec.frontends.save_bytes`. External tensors are read and stored inside."""
    tensors = [v.const_value for g in model.graphs() for v in g.initializers.values()]
    size = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    if size >= PROTOBUF_LIMIT:
        raise BadInputError(
            f"the model's weights are {size} bytes, more than one ONNX file can hold (2 GB)",
            "protobuf's limit",
            "quantize or split the model",
            code="E902",
        )
    if any(isinstance(tensor, ir.ExternalTensor) for tensor in tensors):
        model = ir.external_data.load_to_model(model.clone())
    return bytes(ir.to_proto(model).SerializeToString(deterministic=True))
