"""A device of a test's own: bundles of a tiny real model, installed, tried, crashed, rolled back."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgec_runtime as rt
from edgec_runtime.bundle import tensors
from edgec_runtime.slots import active, health, incoming, trial
from edgec_runtime.slots import state as state_
from tests.runtime.conftest import Kit, model_kit, root
from tests.runtime.conftest import tiny_model as built_model

__all__ = ["model_kit", "root"]

X = np.arange(6, dtype=np.float32).reshape(2, 3)
ANSWERS = {"Add": X + X, "Mul": X * X, "Sub": X - X, "Max": X}
MODEL = "payloads/onnxruntime/model.onnx"


@functools.cache
def tiny_model(*, op: str) -> bytes:
    """y = op(x, x), built once."""
    return built_model(op=op)


def release(number: int, op: str = "Add", *, name: str = "tiny", golden: Any = None, **app: Any) -> Kit:
    """A version of the app: `op`(x, x), with golden answers (right ones where none are given)."""
    kit = Kit(files={MODEL: tiny_model(op=op)})
    kit.manifest["app"] = {"name": name, "version": f"{number}.0", "sequence": number, **app}
    answer = ANSWERS[op] if golden is None else golden
    item = tensors.Item("0/x", "float32", (2, 3), X.tobytes())
    kit.files["golden/inputs.bin"] = tensors.encode([item])
    kit.files["golden/out.bin"] = tensors.encode([item._replace(name="0/y", data=answer.tobytes())])
    kit.manifest["golden"] = {**kit.manifest["golden"], "kind": "data", "samples": 1, "inputs": "golden/inputs.bin"}
    kit.manifest["payloads"][0]["golden"] = {"expected": "run", "file": "golden/out.bin", "min_sqnr_db": 60.0}
    return kit


class Device:
    """A root folder, used as the agent uses it: no file of a bundle, members in pieces."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.where = str(root)

    def send(self, kit: Kit, *, app: str | None = None, piece: int = 64, **how: Any) -> str:
        """Up to the acknowledgement. Returns the identity."""
        contents = {hashlib.sha256(data).hexdigest(): data for data in kit.files.values()}
        with incoming.begin(kit.envelope(), root=self.root, app=app) as come:
            for member in come.members:
                data, offset = contents[member.sha256], member.have
                while offset < member.size:
                    offset = come.append(member.sha256, offset, data[offset : offset + piece])
                come.finish(member.sha256)
            come.commit(**how)
            return come.identity

    def install(self, kit: Kit, *, app: str | None = None, **how: Any) -> trial.Outcome:
        self.send(kit, app=app, **how)
        return trial.trial(app or kit.manifest["app"]["name"], root=self.root)

    def believe(self, kit: Kit, **how: Any) -> trial.Outcome:
        """Install without a health check."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(health, "check", lambda *_, **__: health.Health(True, "", "", {}, {}))
            return self.install(kit, **how)

    def state(self, app: str = "tiny") -> state_.State:
        return state_.read(state_.app_folder(self.where, app), app)

    def edit(self, app: str = "tiny", **changes: Any) -> None:
        """Write another state."""
        found = self.state(app)
        for name, value in changes.items():
            setattr(found, name, value)
        (self.root / "apps" / app / "state").write_bytes(state_.encode(found))

    def runs(self, app: str = "tiny") -> str:
        """The version that a load gets, which must give its own answers."""
        with rt.load(app=app) as model:
            y = model.run({"x": X})["y"]
            op = next(op for op, answer in ANSWERS.items() if np.array_equal(y, answer))
            return f"{model.info['app']['version']} {op}"

    def gets(self, app: str = "tiny") -> str:
        """As `runs`, without an engine: by the model that a load would get, byte for byte."""
        slot = active.active(app, root=self.root)
        with open(slot.path(MODEL), "rb") as file:
            data = file.read()
        op = next(op for op in ANSWERS if tiny_model(op=op) == data)
        return f"{slot.manifest['app']['version']} {op}"

    def members(self) -> set[str]:
        return {path.name for path in (self.root / "store" / "sha256").iterdir()}


@pytest.fixture
def device(root: Path) -> Device:
    return Device(root)


@pytest.fixture
def well(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Health checks say what the test says, without a process: {"ok": …, "code": …, "why": …} may be changed."""
    says: dict[str, Any] = {"ok": True, "code": "", "why": ""}

    def check(root: str, app: str, slot: str, **_: Any) -> health.Health:
        return health.Health(says["ok"], says["code"], says["why"], {**says, "payloads": []}, {})

    monkeypatch.setattr(health, "check", check)
    return says
