"""The host's side of sealing: a bundle encrypted and signed, its key wrapped for devices, loaded by one of them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgec_runtime as rt
from edgec.bundle import diff, export, keys, seal, writer
from edgec.errors import BadInputError, UnsupportedError
from edgec_runtime.bundle import reader
from edgec_runtime.errors import TrustError
from edgec_runtime.sealed import chunks, device_key, wrapped
from edgec_runtime.slots.install import install
from edgec_runtime.trust import store

MODEL = "payloads/onnxruntime/model.onnx"
X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def signer(own_folders):
    return keys.development_key()


def manifest():
    tensor = {"dtype": "float32", "shape": [2, 3], "layout": None}
    return {
        "format": 1, "app": {"name": "tiny", "version": "1.0.0", "sequence": 1},
        "inputs": [{"name": "x", **tensor}], "outputs": [{"name": "y", **tensor}], "preprocessing": [],
        "postprocessing": [],
        "payloads": [{
            "id": "one", "engine": "onnxruntime", "engine_version": ">=1.18,<2", "proven_with": None,
            "files": {"model": MODEL}, "board": "host", "arch": "x86_64", "isa": [], "portable": True,
            "native_code": False, "precision": "float32", "opset": 17, "memory": None, "options": {"threads": 1},
            "accuracy": None, "golden": None,
        }],
        "golden": {"kind": "none", "samples": 0, "inputs": None, "reference": None, "seed": None, "notes": []},
        "recipe": None, "report": "report.json", "sbom": None, "compiled_for": ["host"], "checked_by": [], "run_on": [],
    }  # fmt: skip


def model():
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (2, 3)) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", tensors[:1], tensors[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made.SerializeToString()


@pytest.fixture
def bundle(tmp_path, signer):
    path = tmp_path / "tiny.edge"
    writer.write(path, manifest(), {MODEL: model(), "report.json": b"{}"}, [signer])
    return path


@pytest.fixture
def device(tmp_path, monkeypatch, signer):
    """A device's root that trusts the signer; its public key."""
    root = tmp_path / "root"
    (root / "trust").mkdir(parents=True)
    raw = bytes.fromhex(signer.public_key.keyval["public"])
    (root / "trust" / f"{store.key_id(raw)}.pem").write_bytes(store.to_pem(raw))
    monkeypatch.setenv("EDGEC_ROOT", str(root))
    return root, device_key.create(str(root))


def test_one_sealed_bundle_for_several_devices(bundle, tmp_path, signer, device, monkeypatch):
    root, public = device
    other = tmp_path / "other"
    key = seal.new_key()
    sealed = seal.seal(bundle, tmp_path / "sealed.edge", [signer], content_key=key)
    assert sealed.key_id == chunks.key_id(key)
    data = (tmp_path / "sealed.edge").read_bytes()
    assert model() not in data and key not in data and MODEL.encode() in data
    with reader.open(tmp_path / "sealed.edge", trust=None, allow_unsigned=True) as opened:
        opened.verify_all()
        assert opened.identity == sealed.identity and opened.read("report.json") == b"{}"
        assert opened.manifest["encryption"]["members"][MODEL]["size"] == len(model())
    file = seal.wrap(key, [public, device_key.create(str(other))])
    for where in (root, other):
        wrapped.add(str(where), wrapped.decode(file))
        assert wrapped.content_key(str(where), sealed.key_id) == key
    install(tmp_path / "sealed.edge")
    with rt.load(app="tiny") as loaded:
        assert np.array_equal(loaded.run({"x": X})["y"], 2 * X) and loaded.info["identity"] == sealed.identity


def test_a_device_that_has_no_key(bundle, tmp_path, signer, device):
    seal.seal(bundle, tmp_path / "sealed.edge", [signer], content_key=seal.new_key())
    with pytest.raises(TrustError, match="no key for the bundle"):
        install(tmp_path / "sealed.edge")


def test_the_same_key_gives_the_same_bytes(bundle, tmp_path, signer):
    made = [seal.seal(bundle, tmp_path / f"{n}.edge", [signer], content_key=bytes(32)) for n in (1, 2)]
    assert made[0].identity == made[1].identity
    assert (tmp_path / "1.edge").read_bytes() == (tmp_path / "2.edge").read_bytes()
    assert seal.seal(bundle, tmp_path / "3.edge", [signer], content_key=seal.new_key()).identity != made[0].identity
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".sealing")]


def test_content_keys_are_kept(own_folders):
    key = seal.new_key()
    assert seal.kept(chunks.key_id(key)) is None
    path = seal.keep(key)
    assert path == own_folders / "config" / "sealed" / f"{chunks.key_id(key)}.key" and path == seal.keep(key)
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o077 == 0
    assert seal.kept(chunks.key_id(key)) == key
    for wrong in (b"", b"zz", bytes(32).hex().encode()):
        path.write_bytes(wrong)
        with pytest.raises(BadInputError) as caught:
            seal.kept(chunks.key_id(key))
        assert caught.value.code == "E964"
    path.unlink()
    path.parent.rmdir()
    path.parent.write_bytes(b"no folder")
    with pytest.raises(BadInputError) as caught:
        seal.keep(key)
    assert caught.value.code == "E964"


def test_what_other_tools_see(bundle, tmp_path, signer, own_folders, monkeypatch):
    key = seal.new_key()
    seal.seal(bundle, tmp_path / "sealed.edge", [signer], content_key=key)
    with (
        reader.open(bundle, allow_unsigned=True) as plain,
        reader.open(tmp_path / "sealed.edge", allow_unsigned=True) as sealed,
    ):
        assert seal.same(plain.manifest, sealed.manifest) and plain.manifest != sealed.manifest
        assert not seal.same({**plain.manifest, "app": {}}, sealed.manifest)
        assert diff.diff(plain, sealed)["members"].keys() == {MODEL} and "weights" not in diff.diff(plain, sealed)
        seal.refuse(plain.manifest, "exported")
        with pytest.raises(UnsupportedError) as caught:
            export.export(sealed, tmp_path / "package")
        assert caught.value.code == "E966" and not (tmp_path / "package").exists()
    with pytest.raises(TrustError, match="no key to decrypt"):
        rt.load(tmp_path / "sealed.edge", allow_unsigned=True)
    assert seal.keep_here(key) == "" and seal.keep_here(key) == ""
    with rt.load(tmp_path / "sealed.edge", allow_unsigned=True) as loaded:
        assert np.array_equal(loaded.run({"x": X})["y"], 2 * X)
    monkeypatch.setenv("EDGEC_ROOT", str(bundle))
    assert seal.keep_here(key) != ""


def test_what_is_refused(bundle, tmp_path, signer):
    seal.seal(bundle, tmp_path / "sealed.edge", [signer], content_key=seal.new_key())
    with pytest.raises(BadInputError) as caught:
        seal.seal(tmp_path / "sealed.edge", tmp_path / "twice.edge", [signer], content_key=bytes(32))
    assert caught.value.code == "E962" and not (tmp_path / "twice.edge").exists()
    with pytest.raises(ValueError):
        seal.seal(bundle, tmp_path / "short.edge", [signer], content_key=bytes(16))
    for wrong in (b"", bytes(31), bytes(32)):
        with pytest.raises(BadInputError) as caught:
            seal.wrap(bytes(32), [wrong])
        assert caught.value.code == "E963"
