"""Local boards that run this checkout's runtime: a real sshd, edgec-rt where setup would put it; and small bundles."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from edgec_runtime.trust import store
from tests.runtime.conftest import Kit, private_key, public_raw, tiny_model

RUNTIME = Path(__file__).parents[2] / "runtime"
LAUNCHER = """#!/bin/sh
[ -n "$EDGEC_ROOT" ] || EDGEC_ROOT={root}
export EDGEC_ROOT
export PYTHONPATH={runtime}
{more}
exec {python} -m edgec_runtime "$@"
"""


def set_up(home: Path, *, more: str = "", trusted: int = 1) -> Path:
    """What `edgec devices setup` leaves in a board's home: the launcher and a trusted key. Returns the root folder."""
    root = home / "edgec"
    (root / "bin").mkdir(parents=True, exist_ok=True)
    (root / "trust").mkdir(exist_ok=True)
    launcher = root / "bin" / "edgec-rt"
    launcher.write_text(LAUNCHER.format(root=root, runtime=RUNTIME, python=sys.executable, more=more))
    launcher.chmod(0o755)
    raw = public_raw(private_key(trusted))
    (root / "trust" / f"{store.key_id(raw)}.pem").write_bytes(store.to_pem(raw))
    return root


def bundle(
    path: Path, *, version: int = 1, op: str = "Add", weights: bytes = b"", name: str = "tiny", model: bytes = b"",
    **changes: Any,
) -> Path:  # fmt: skip
    """A signed bundle of y = op(x, x); `weights` are a second file of its payload, that makes it as large as wanted."""
    kit = Kit(files={"payloads/onnxruntime/model.onnx": model or tiny_model(op=op)})
    kit.manifest["app"] = {"name": name, "version": f"{version}.0", "sequence": version}
    if weights:
        kit.files["payloads/onnxruntime/weights.bin"] = weights
        kit.manifest["payloads"][0]["files"]["weights"] = "payloads/onnxruntime/weights.bin"
    kit.manifest["payloads"][0].update(changes)
    path.write_bytes(kit.build())
    return path


def np_bytes(count: int, seed: int) -> bytes:
    """Bytes that repeat nowhere."""
    return np.random.default_rng(seed).bytes(count)
