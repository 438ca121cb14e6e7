"""A device that trusts root metadata, and bundles for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec_runtime.trust import rotate
from tests.runtime.conftest import Kit, private_key, tiny_model
from tests.trust import made_roots as made


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device root with version 1 pinned: 2 of the root keys 11, 12, 13; the release key 1."""
    folder = tmp_path / "device"
    monkeypatch.setenv("EDGEC_ROOT", str(folder))
    assert rotate.pin(made.root()) == 1
    return folder


@pytest.fixture
def bundle(tmp_path: Path):
    """bundle(sequence, signers) writes one that runs: y = x op x of float32[2, 3]."""

    def write(sequence: int = 1, signers: tuple[int, ...] = (1,), op: str = "Add", **app: object) -> Path:
        kit = Kit(files={"payloads/onnxruntime/model.onnx": tiny_model(op=op)})
        kit.manifest["app"] = {"name": "tiny", "version": f"{sequence}.0", "sequence": sequence, **app}
        kit.keys = [private_key(seed) for seed in signers]
        return kit.write(tmp_path, f"{sequence}-{'-'.join(map(str, signers))}.edge")

    return write
