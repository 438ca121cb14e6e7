"""Float's time over a quantized model's on this machine: CPU time of one thread, in turn, in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

ROUNDS, TURN = 21, 0.02  # turns of each model, and seconds that one should take at least


def speed(float_model: bytes, model: bytes, feed: Mapping[str, np.ndarray]) -> float:
    """The median over rounds of float's CPU time over the model's, two digits (2.0: twice as fast).

    Args:
        float_model: ONNX.
        model: ONNX with the same inputs.
        feed: what both are run on.
    """
    sessions = [_session(content) for content in (float_model, model)]
    calls = []
    for session in sessions:
        session.run(None, dict(feed))
        start = time.process_time()
        session.run(None, dict(feed))
        calls.append(max(1, min(2000, int(TURN / max(time.process_time() - start, 1e-6)))))
    ratios = []
    for turn in range(ROUNDS):
        seconds = [0.0, 0.0]
        for n in (0, 1) if turn % 2 else (1, 0):
            start = time.process_time()
            for _ in range(calls[n]):
                sessions[n].run(None, dict(feed))
            seconds[n] = (time.process_time() - start) / calls[n]
        ratios.append(seconds[0] / max(seconds[1], 1e-9))
    return round(statistics.median(ratios), 2)


def _session(content: bytes) -> Any:
    import onnxruntime

    ort: Any = onnxruntime
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
