"""Tiny bundles, made and signed here without the host package, so that the runtime is tested on its own."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgec_runtime.bundle import dsse, layout
from edgec_runtime.engines import litert_package
from edgec_runtime.trust import store


def private_key(seed: int = 1) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"edgec test key %d" % seed).digest())


def public_raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def tiny_model(*, op: str = "Add", dtype: int = 1, shape: tuple[Any, ...] = (2, 3), opset: int = 17) -> bytes:
    """y = x + x, one node."""
    import onnx
    from onnx import helper

    graph = helper.make_graph(
        [helper.make_node(op, ["x", "x"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", dtype, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@dataclass
class Kit:
    """A bundle in parts. Change what a test is about, then `build` it."""

    files: dict[str, bytes] = field(default_factory=lambda: {"payloads/onnxruntime/model.onnx": b"not a model"})
    manifest: dict[str, Any] = field(default_factory=dict)
    keys: list[Ed25519PrivateKey] = field(default_factory=lambda: [private_key(1)])

    def __post_init__(self) -> None:
        if not self.manifest:
            self.manifest = self.base_manifest()

    def base_manifest(self) -> dict[str, Any]:
        return {
            "format": 1,
            "app": {"name": "tiny", "version": "1.0.0", "sequence": 1},
            "inputs": [{"name": "x", "dtype": "float32", "shape": [2, 3], "layout": None}],
            "outputs": [{"name": "y", "dtype": "float32", "shape": [2, 3], "layout": None}],
            "preprocessing": [],
            "postprocessing": [],
            "payloads": [self.payload()],
            "golden": {"kind": "none", "samples": 0, "inputs": None, "reference": None, "seed": None, "notes": []},
            "recipe": None,
            "report": None,
            "sbom": None,
            "compiled_for": ["host"],
            "checked_by": [],
            "run_on": [],
        }

    def payload(self, **changes: Any) -> dict[str, Any]:
        return {
            "id": "onnxruntime-float32-host",
            "engine": "onnxruntime",
            "engine_version": ">=1.18,<2",
            "proven_with": {"package": "onnxruntime", "version": "1.32.0"},
            "files": {"model": "payloads/onnxruntime/model.onnx"},
            "board": "host",
            "arch": "x86_64",
            "isa": [],
            "portable": True,
            "native_code": False,
            "precision": "float32",
            "opset": 17,
            "memory": None,
            "options": {"threads": 1},
            "accuracy": None,
            "golden": None,
            **changes,
        }

    def members(self) -> list[dict[str, Any]]:
        names = sorted(self.files)
        placed = layout.place([(name, len(self.files[name])) for name in names])
        return [
            {
                "name": m.name,
                "sha256": hashlib.sha256(self.files[m.name]).hexdigest(),
                "size": m.size,
                "offset": m.offset,
            }
            for m in placed
        ]

    def manifest_bytes(self) -> bytes:
        whole = copy.deepcopy(self.manifest)
        whole.setdefault("members", self.members())
        return canonical(whole)

    def envelope(self, payload: bytes | None = None) -> bytes:
        data = self.manifest_bytes() if payload is None else payload
        signatures = [
            {
                "keyid": hashlib.sha256(public_raw(key)).hexdigest(),
                "sig": base64.b64encode(key.sign(dsse.pae(dsse.MANIFEST_TYPE, data))).decode(),
            }
            for key in self.keys
        ]
        return canonical(
            {"payload": base64.b64encode(data).decode(), "payloadType": dsse.MANIFEST_TYPE, "signatures": signatures}
        )

    def build(self, envelope: bytes | None = None) -> bytes:
        """The file's bytes, laid out by the format whatever the manifest says."""
        signed = self.envelope() if envelope is None else envelope
        names = sorted(self.files)
        members = layout.place([(name, len(self.files[name])) for name in names])
        crcs = [zlib.crc32(signed)] + [zlib.crc32(self.files[name]) for name in names]
        pieces = layout.skeleton(len(signed), members, crcs)
        parts = [pieces[0].data, signed]
        for piece, name in zip(pieces[1:-1], names, strict=True):
            parts += [piece.data, self.files[name]]
        return b"".join([*parts, pieces[-1].data])

    def write(self, folder: Path, name: str = "tiny.edge") -> Path:
        path = folder / name
        path.write_bytes(self.build())
        return path

    @property
    def trust(self) -> list[bytes]:
        return [public_raw(private_key(1))]


@pytest.fixture
def kit() -> Kit:
    return Kit()


@pytest.fixture
def model_kit() -> Kit:
    """A bundle whose only payload is a real model, y = x + x of float32[2, 3]."""
    return Kit(files={"payloads/onnxruntime/model.onnx": tiny_model()})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty device root that $EDGEC_ROOT names and that trusts the tests' first key."""
    from edgec_runtime.trust import store

    folder = tmp_path / "root"
    (folder / "trust").mkdir(parents=True)
    raw = public_raw(private_key(1))
    (folder / "trust" / f"{store.key_id(raw)}.pem").write_bytes(store.to_pem(raw))
    monkeypatch.setenv("EDGEC_ROOT", str(folder))
    return folder


@dataclass(frozen=True)
class Key:
    private: Ed25519PrivateKey
    raw: bytes
    id: str


@pytest.fixture
def keys() -> Any:
    """keys(1) is the key that signs by default and that the tests trust; any other is a stranger's."""

    def make(number: int) -> Key:
        private = private_key(number)
        raw = public_raw(private)
        return Key(private, raw, hashlib.sha256(raw).hexdigest())

    return make


@pytest.fixture
def onnx_model() -> Any:
    return tiny_model


@pytest.fixture(name="canonical", scope="session")
def canonical_fixture() -> Any:
    return canonical


@pytest.fixture(scope="session")
def good_manifest() -> dict[str, Any]:
    kit = Kit()
    return {**kit.manifest, "members": kit.members()}


@pytest.fixture
def app(kit: Any, tmp_path: Path) -> Any:
    """app("litert", "onnxruntime") is a bundle of relu(x) with a payload for each, in this order; and its keys."""

    def make(*wanted: str, shape: Any = (1, 4), files: Any = None, **changes: Any) -> Any:
        from tests.runtime.bad_luck import LITERT, onnx_relu

        kit.files = {f"payloads/{engine}": LITERT if engine == "litert" else onnx_relu() for engine in wanted}
        kit.files |= files or {}
        for side, name in (("inputs", "x"), ("outputs", "y")):
            kit.manifest[side] = [{"name": name, "dtype": "float32", "shape": list(shape), "layout": None}]
        kit.manifest["payloads"] = [
            kit.payload(**{"id": engine, "engine": engine, "engine_version": ">=1.18", "proven_with": None,
                           "files": {"model": f"payloads/{engine}"}, **changes.get(engine, {})})
            for engine in wanted
        ]  # fmt: skip
        keys = tmp_path / "keys"
        keys.mkdir(exist_ok=True)
        (keys / f"{store.key_id(kit.trust[0])}.pem").write_bytes(store.to_pem(kit.trust[0]))
        return kit.write(tmp_path), keys

    return make


@pytest.fixture
def only_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engines' Python packages can't be imported; what they would load is not in memory either."""
    for name in ("onnxruntime", *litert_package.PACKAGES, *(f"{p}.interpreter" for p in litert_package.PACKAGES)):
        monkeypatch.setitem(sys.modules, name, None)
