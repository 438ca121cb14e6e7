"""What an engine can run, found out by asking it: single-operator models through real sessions.

`python -m edgec_targets.probe onnxruntime` writes `emitters/onnxruntime/support.json`; `edgec check` reads it.

- `operators.py`  an engine's operators, from the schemas of the onnx package and of the engine
- `variants.py`   (operator, opset version, types) -> the smallest model that holds it
- `isolate.py`    runs models in a process of its own: an engine that crashes or hangs costs one answer, not the run
- `boxes.py`      many tuples of types, written short
"""
