"""Weight-only quantization: integers in the file, floats in the arithmetic. See docs/quantization_weights.md."""
