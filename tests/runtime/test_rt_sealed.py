"""Sealed payloads on the device: chunks, wrapped keys, the device's own key, and what a load says of what is wrong."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgec_runtime as rt
from edgec_runtime.bundle import layout, manifest
from edgec_runtime.errors import BadInputError, TrustError
from edgec_runtime.sealed import chunks, device_key, hpke, wrapped
from edgec_runtime.sealed import payload as payload_
from edgec_runtime.slots import active
from edgec_runtime.slots.install import install

CONTENT = bytes(range(32))
MODEL = "payloads/onnxruntime/model.onnx"
X = np.arange(6, dtype=np.float32).reshape(2, 3)
C = chunks.CHUNK


def sealed(data, key=CONTENT):
    rest = memoryview(data)

    def read(size):
        nonlocal rest
        part, rest = bytes(rest[:size]), rest[size:]
        return part

    return b"".join(chunks.encrypt(key, read, len(data)))


def opened(data, size, key=CONTENT):
    return b"".join(chunks.decrypt(key, memoryview(data), size))


@pytest.mark.parametrize("size", [0, 1, 16, C - 1, C, C + 1, 2 * C, 3 * C - 5])
def test_round_trip(size):
    data = np.random.default_rng(size).bytes(size)
    made = sealed(data)
    assert len(made) == chunks.sealed_size(size) == layout.sealed_size(size)
    assert opened(made, size) == data
    with pytest.raises(ValueError, match="ended early"):
        b"".join(chunks.encrypt(CONTENT, lambda n: b"x" * max(0, n - 1), size or 1))


@given(data=st.binary(max_size=200), at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_changed_bit_is_refused(data, at, bit):
    made = bytearray(sealed(data))
    made[at % len(made)] ^= 1 << bit
    with pytest.raises(TrustError) as caught:
        opened(made, len(data))
    assert caught.value.code == "E533"


S = C + chunks.TAG
BIG = np.random.default_rng(1).bytes(3 * C + 100)


@pytest.mark.parametrize(
    "change, size",
    [
        (lambda m: m[:-1], len(BIG)),  # cut short
        (lambda m: m + b"\0", len(BIG)),  # something after it
        (lambda m: m[: 3 * S], 3 * C),  # the last chunk is missing, and the manifest's size was made to fit
        (lambda m: m[: 2 * S] + m[3 * S :], 2 * C + 100),  # one in the middle
        (lambda m: m[S:], 2 * C + 100),  # the first
        (lambda m: m[S : 2 * S] + m[:S] + m[2 * S :], len(BIG)),  # two in the other order
        (lambda m: m[:S] + m[:S] + m[2 * S :], len(BIG)),  # one twice
        (lambda m: m[: 3 * S - 16] + bytes(16) + m[3 * S :], len(BIG)),  # a tag
        (lambda m: m[:S] + m[3 * S :] + m[S : 3 * S], len(BIG)),  # the last one elsewhere
    ],
)
def test_chunks_that_are_missing_or_elsewhere(change, size):
    made = sealed(BIG)
    assert opened(made, len(BIG)) == BIG
    with pytest.raises(TrustError) as caught:
        opened(change(made), size)
    assert caught.value.code == "E533"


def test_another_key_and_another_members_chunks():
    made = sealed(BIG)
    with pytest.raises(TrustError):
        opened(made, len(BIG), bytes(32))
    one, other = (hashlib.sha256(data).hexdigest() for data in (b"one", b"other"))
    assert chunks.member_key(CONTENT, one) != chunks.member_key(CONTENT, other) != CONTENT
    assert chunks.key_id(CONTENT) != chunks.member_key(CONTENT, one).hex()


@pytest.fixture
def device(root):
    """The device's public key."""
    return device_key.create(str(root))


def seal_kit(kit, key=CONTENT):
    """Seal the payloads of a kit as the host does."""
    plain = {}
    for name in {name for payload in kit.manifest["payloads"] for name in payload["files"].values()}:
        data = kit.files[name]
        plain[name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        kit.files[name] = sealed(data, chunks.member_key(key, plain[name]["sha256"]))
    kit.manifest["encryption"] = {"scheme": manifest.SEALED, "key": chunks.key_id(key), "members": plain}
    return kit


def test_the_devices_key(root):
    assert device_key.public(str(root)) is None
    with pytest.raises(TrustError) as caught:
        device_key.private(str(root))
    assert caught.value.code == "E530"
    public = device_key.create(str(root))
    path = root / "trust" / "device.key"
    assert path.stat().st_mode & 0o777 == 0o600 and len(public) == 32
    before = path.read_bytes()
    assert device_key.create(str(root)) == device_key.public(str(root)) == public and path.read_bytes() == before
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    assert load_pem_private_key(before, None).public_key().public_bytes_raw() == public
    for mode, data in ((0o640, before), (0o600, b"nothing"), (0o600, before[:60])):
        path.write_bytes(data)
        path.chmod(mode)
        with pytest.raises(TrustError) as caught:
            device_key.private(str(root))
        assert caught.value.code == "E531"
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(TrustError):
        device_key.private(str(root))


def test_a_sealed_app_is_installed_and_loaded_and_its_plaintext_is_nowhere(model_kit, tmp_path, root, device):
    plain = model_kit.files[MODEL]
    path = seal_kit(model_kit).write(tmp_path)
    with pytest.raises(TrustError) as caught:
        install(path)
    assert caught.value.code == "E532" and "not given to it" in str(caught.value)
    assert not (root / "apps").exists() and not (root / "store").exists()  # before a byte of it was sent
    name = wrapped.add(str(root), wrapped.wrap(CONTENT, [bytes([9]) + bytes(31), device]))
    assert (root / "sealed" / name).stat().st_mode & 0o777 == 0o600
    install(path)
    for load in (lambda: rt.load(app="tiny"), lambda: rt.load(path), lambda: rt.load(app="tiny", follow=True)):
        with load() as model:
            assert np.array_equal(model.run({"x": X})["y"], 2 * X)
    for folder, _, names in os.walk(root):
        for found in names:
            data = Path(folder, found).read_bytes()
            assert plain not in data and plain[20:60] not in data and CONTENT not in data
    assert not os.listdir(root / "stage") or all(name.endswith("lock") for name in os.listdir(root / "stage"))


def test_a_file_of_the_store_that_was_changed(model_kit, tmp_path, root, device):
    path = seal_kit(model_kit).write(tmp_path)
    wrapped.add(str(root), wrapped.wrap(CONTENT, [device]))
    install(path)
    stored = next((root / "store" / "sha256").iterdir())
    data = bytearray(stored.read_bytes())
    data[5] ^= 1
    stored.chmod(0o644)
    stored.write_bytes(data)
    with pytest.raises(TrustError) as caught:
        rt.load(app="tiny")
    assert caught.value.code == "E533"


def test_another_device_and_a_key_that_is_another(model_kit, tmp_path, root, device):
    path = seal_kit(model_kit).write(tmp_path)
    record = wrapped.wrap(CONTENT, [device])
    (part,) = record["devices"].values()
    with pytest.raises(TrustError) as caught:
        wrapped.add(str(root), {**record, "devices": {"0" * 64: part}})
    assert caught.value.code == "E532" and "other devices" in str(caught.value)
    enc, other = hpke.seal(device, wrapped.INFO + bytes.fromhex(record["key"]), b"", bytes(32))
    swapped = {"enc": wrapped._text(enc), "wrapped": wrapped._text(other)}
    elsewhere = wrapped.wrap(bytes(32), [device])
    for wrong in (
        {**record, "devices": {next(iter(record["devices"])): swapped}},  # a stranger's own content key
        {**record, "key": elsewhere["key"]},  # another bundle's wrapped key
        {**elsewhere, "key": record["key"]},
    ):
        with pytest.raises(TrustError) as caught:
            wrapped.add(str(root), wrong)
        assert caught.value.code == "E534"
    wrapped.add(str(root), record)
    install(path)
    (root / "trust" / "device.key").write_bytes(device_key.encode(os.urandom(32)))  # the card in another device
    with pytest.raises(TrustError) as caught:
        rt.load(app="tiny")
    assert caught.value.code == "E532"
    (root / "trust" / "device.key").unlink()
    with pytest.raises(TrustError) as caught:
        rt.load(app="tiny")
    assert caught.value.code == "E530"


def test_the_files_of_keys(device):
    record = wrapped.wrap(CONTENT, [device])
    data = wrapped.encode(record)
    assert wrapped.decode(data) == record
    (name,) = record["devices"]
    part = record["devices"][name]
    for wrong in (
        b"",
        b"[]",
        data[:-20],
        wrapped.encode({**record, "format": 2}),
        wrapped.encode({**record, "more": 1}),
        wrapped.encode({**record, "key": "../../etc/passwd"}),
        wrapped.encode({**record, "devices": []}),
        wrapped.encode({**record, "devices": {"x": part}}),
        wrapped.encode({**record, "devices": {name: {**part, "enc": "AAAA"}}}),
        wrapped.encode({**record, "devices": {name: {**part, "wrapped": part["wrapped"] + "="}}}),
        wrapped.encode({**record, "devices": {name: {**part, "enc": 5}}}),
    ):
        with pytest.raises(BadInputError) as caught:
            wrapped.decode(wrong)
        assert caught.value.code == "E961"
    with pytest.raises(ValueError):
        wrapped.wrap(CONTENT, [bytes(32)])
    with pytest.raises(ValueError):
        wrapped.wrap(CONTENT, [device[:-1]])


@given(st.binary(max_size=200))
def test_bytes_that_are_no_file_of_keys(data):
    with pytest.raises(BadInputError):
        wrapped.decode(data)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda m: m["encryption"].update(scheme="edgec-sealed-9"), "scheme"),
        (lambda m: m["encryption"].update(key="x"), "64 hex"),
        (lambda m: m["encryption"].update(members={}), "1 to"),
        (lambda m: m["encryption"]["members"][MODEL].update(size=1), "do not make"),
        (
            lambda m: m["encryption"]["members"].update({"recipe.json": {"sha256": "0" * 64, "size": 0}}),
            "payload's file",
        ),
        (lambda m: m["golden"].update(inputs=MODEL), "nothing else"),
    ],
)
def test_what_a_manifest_may_say(model_kit, tmp_path, change, words):
    seal_kit(model_kit)
    change(model_kit.manifest)
    with pytest.raises(BadInputError, match="not what format 1") as caught:
        manifest.parse(model_kit.manifest_bytes())
    assert words in str(caught.value)


def test_a_plaintext_that_is_not_the_signed_one(model_kit, tmp_path, root, device):
    """Signed by mistake: what decrypts is other bytes than the manifest says."""
    seal_kit(model_kit)
    plain = model_kit.manifest["encryption"]["members"][MODEL]
    plain["sha256"] = hashlib.sha256(b"other").hexdigest()
    model_kit.files[MODEL] = sealed(bytes(plain["size"]), chunks.member_key(CONTENT, plain["sha256"]))
    wrapped.add(str(root), wrapped.wrap(CONTENT, [device]))
    with pytest.raises(TrustError) as caught:
        rt.load(model_kit.write(tmp_path), trust=model_kit.trust)
    assert caught.value.code == "E533" and "other bytes" in str(caught.value)


def test_a_payload_of_plain_and_sealed_files_and_no_anonymous_ones(monkeypatch):
    data = np.random.default_rng(3).bytes(C + 9)
    digest = hashlib.sha256(data).hexdigest()
    files = {"a": sealed(data, chunks.member_key(CONTENT, digest)), "b": b"plain", "c": sealed(b"", chunks.member_key(
        CONTENT, hashlib.sha256(b"").hexdigest()))}  # fmt: skip
    members = {"a": {"sha256": digest, "size": len(data)}, "c": {"sha256": hashlib.sha256(b"").hexdigest(), "size": 0}}
    entry = {"files": {"model": "a", "params": "b", "empty": "c"}}

    def made():
        return payload_.SealedPayload(entry, {"members": members}, CONTENT, files.__getitem__)

    one = made()
    kept = one.buffer("model")
    assert Path(one.path("model")).read_bytes() == data and Path(one.path("params")).read_bytes() == b"plain"
    assert one.path("model") == one.path("model") and bytes(one.buffer("empty")) == b""
    one.close()
    assert bytes(kept) == data  # a map outlives the file
    monkeypatch.delattr(os, "memfd_create")
    assert made().path("model") is None and made().buffer("model") == data


def test_the_module_as_a_command(root):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "edgec_runtime.sealed", *arguments], capture_output=True, text=True, check=False
        )

    done = run("key")
    assert done.returncode == 0 and bytes.fromhex(done.stdout) == device_key.public(str(root))
    keys = root / "model.edge.keys"
    keys.write_bytes(wrapped.encode(wrapped.wrap(CONTENT, [bytes.fromhex(done.stdout)])))
    done = run("add", str(keys))
    assert done.returncode == 0 and done.stdout.strip() == chunks.key_id(CONTENT)
    assert wrapped.content_key(str(root), chunks.key_id(CONTENT)) == CONTENT
    assert run().returncode == 2 and "add MODEL.edge.keys" in run().stderr
    assert run("add", str(root / "nothing")).returncode == 2
    keys.write_bytes(b"{}")
    done = run("add", str(keys))
    assert done.returncode == 9 and "E961" in done.stderr and "Traceback" not in done.stderr


def test_an_app_that_is_not_sealed_imports_nothing_of_it(model_kit, tmp_path, root):
    install(model_kit.write(tmp_path))
    code = "import sys, edgec_runtime as rt\nrt.load(app='tiny')\nprint([m for m in sys.modules if 'sealed' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert active.active("tiny").manifest.get("encryption") is None
