"""One folder an engine: what turns an `onnx_ir.Model` into that engine's payload."""
