"""The attacks that TUF names (specification 1.0.33, section 1.5.2), each against the code that a device runs.

What an attacker has is in each name: the network, an old file, some keys, the clock. What they want is an installation,
or that there is none any more.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import edgec_runtime as rt
from edgec_runtime.bundle import dsse, reader
from edgec_runtime.errors import Error, TrustError
from edgec_runtime.slots.install import install
from edgec_runtime.trust import clock, rotate, store, when
from tests.runtime.conftest import Kit, canonical, private_key, public_raw, tiny_model
from tests.trust import made_roots as made

Write = Callable[..., Path]
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def refused(code: str | tuple[str, ...], do: Callable[[], object]) -> Error:
    with pytest.raises(TrustError) as caught:
        do()
    error = caught.value
    assert error.code in ((code,) if isinstance(code, str) else code) and error.exit_code == 5, error
    assert error.what and error.why
    return error


def not_followed(code: str | tuple[str, ...], *chain: bytes) -> None:
    """The device refuses these root metadata and trusts what it trusted."""
    before = rotate.current()
    assert before is not None
    refused(code, lambda: rotate.update(list(chain)))
    assert rotate.current() == before


def answer() -> str:
    with rt.load(app="tiny") as model:
        model.run({"x": X})
        return str(model.info["app"]["version"])


def at(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The system's clock says this."""
    seconds = float(when.parse(text))
    monkeypatch.setattr(time, "time", lambda: seconds)


# Arbitrary software


@pytest.mark.parametrize("signers", [(), (5,), (5, 6), (11, 12)], ids=["nobody", "stranger", "strangers", "root keys"])
def test_arbitrary_software(device: Path, bundle: Write, signers: tuple[int, ...]) -> None:
    """Root keys sign no bundles, and a single key's file beside root metadata counts for nothing."""
    raw = public_raw(private_key(5))
    (device / "trust" / f"{store.key_id(raw)}.pem").write_bytes(store.to_pem(raw))
    path = bundle(1, signers)
    refused(("E501", "E502"), lambda: reader.open(path))
    refused(("E501", "E502"), lambda: install(path))
    assert not (device / "apps").exists()


def test_a_key_that_was_taken_out(device: Path, bundle: Write) -> None:
    old, new = bundle(1, (1,)), bundle(1, (2,))
    reader.open(old).close()
    refused("E502", lambda: reader.open(new))
    assert rotate.update([made.root(2, release=(2,))]) == 2
    refused("E502", lambda: install(old))
    reader.open(new).close()


# Rollback


def test_rollback_of_root_metadata(device: Path) -> None:
    second = made.root(2, release=(2,))
    assert rotate.update([second]) == 2
    not_followed("E518", made.root(1))
    not_followed("E518", made.root(2, release=(1,)))  # another one of the same version
    not_followed("E518", second[:0] + made.root(1), second)


def test_rollback_of_what_root_metadata_vouches_for(device: Path, bundle: Write) -> None:
    """CVE-2022-29173: a client that checks the root's version alone installs old releases, rightly signed."""
    new, old, floor = bundle(5), bundle(4, op="Mul"), bundle(6, floor=6)
    assert install(new).result == "committed"
    assert refused("E511", lambda: install(old)).why == "its sequence is 4; 5 is installed"
    # A new root makes the device forget nothing.
    assert rotate.update([made.root(2)]) == 2
    refused("E511", lambda: install(old))
    assert answer() == "5.0"
    install(floor)
    assert refused("E509", lambda: install(new))
    assert answer() == "6.0"


def test_a_time_that_goes_back(device: Path) -> None:
    assert rotate.update([made.root(2, signed="2026-05-01T00:00:00Z")]) == 2
    not_followed("E521", made.root(3, signed="2026-04-30T23:59:59Z"))


# Fast-forward


@pytest.mark.parametrize("version", [3, 1000, 2**31 - 1])
def test_fast_forward(device: Path, version: int) -> None:
    """No version can be skipped, so whoever had the keys for a while can't use up all numbers at once."""
    not_followed("E519", made.root(version))


@pytest.mark.parametrize("version", [2**31, 2**53 - 1, 2**60, 0, -1, 2.0, True, "2", None])
def test_versions_that_are_none(device: Path, version: object) -> None:
    not_followed("E515", made.envelope({**made.payload(2), "version": version}))


# Freeze


def test_freeze_expired_root_metadata(device: Path, bundle: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Expired root metadata lets nothing in; what is there starts; its successor is still followed."""
    install(bundle(1))
    assert rotate.update([made.root(2, expires="2027-01-01T00:00:00Z")]) == 2
    at(monkeypatch, "2027-01-01T00:00:00Z")
    refused("E513", lambda: install(bundle(2)))
    assert answer() == "1.0"
    refused("E513", lambda: rotate.update([made.root(3, expires="2026-12-31T00:00:00Z")]))
    # As TUF has it, the expired end of a chain is kept: its keys are newer than those before.
    now = rotate.current()
    assert now is not None and now.version == 3
    assert rotate.update([made.root(4)]) == 4
    reader.open(bundle(2)).close()
    clock.refuse_expired_root(store.load_trusted())


def test_freeze_by_setting_the_clock_back(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A board without a clock starts in 1970; what was signed since says what time it is at least."""
    assert rotate.update([made.root(2, signed="2026-11-01T00:00:00Z", expires="2099-01-01T00:00:00Z")]) == 2
    at(monkeypatch, "1970-01-01T00:00:10Z")
    assert when.text(clock.now()) == "2026-11-01T00:00:00Z"
    manifest = {"app": {"expires": "2026-10-31T00:00:00Z"}}
    refused("E513", lambda: clock.refuse_expired(manifest, store.load_trusted()))
    clock.refuse_expired({"app": {"expires": "2026-11-02T00:00:00Z"}}, store.load_trusted())
    # Where that file is gone, the root metadata still says when it was signed.
    (device / "trust" / "time").unlink()
    assert clock.now() == 10 and when.text(clock.now(store.load_trusted())) == "2026-11-01T00:00:00Z"
    refused("E513", lambda: clock.refuse_expired(manifest, store.load_trusted()))
    for damage in (b"", b"2099-13-01T00:00:00Z\n", b"\xff" * 100):
        (device / "trust" / "time").write_bytes(damage)
        assert clock.now() == 10


def test_freeze_expired_bundle(device: Path, bundle: Write) -> None:
    path = bundle(1, expires="2026-01-31T23:59:59Z")
    refused("E513", lambda: install(path))
    reader.open(path).close()  # whoever has it may run it


# Mix and match


def test_mix_and_match(device: Path, tmp_path: Path) -> None:
    """The members of one bundle under the manifest of another: both are signed, together they are not."""
    kits = []
    for op in ("Add", "Sub"):
        kit = Kit(
            files={"payloads/onnxruntime/model.onnx": tiny_model(op=op), "report.json": b"report of " + op.encode()}
        )
        kit.manifest["report"] = "report.json"
        kits.append(kit)
    one, two = kits
    signed = one.envelope()
    path = tmp_path / "mixed.edge"
    for name in one.files:
        mixed = Kit(files={**one.files, name: two.files[name]}, manifest=one.manifest)
        path.write_bytes(mixed.build(signed))
        refused("E504", lambda: reader.open(path).verify_all())
        refused("E504", lambda: install(path))
    # The manifest of one, signatures of the other.
    values = [json.loads(kit.envelope()) for kit in kits]
    path.write_bytes(one.build(canonical({**values[0], "signatures": values[1]["signatures"]})))
    refused("E503", lambda: install(path))
    assert not (device / "apps").exists()


def test_mix_and_match_of_root_metadata(device: Path) -> None:
    one, two = json.loads(made.root(2)), json.loads(made.root(2, release=(2,)))
    not_followed("E503", canonical({**one, "signatures": two["signatures"]}))


# Wrong keys, and too few


def test_wrong_and_unknown_keys(device: Path) -> None:
    not_followed("E516", made.root(2, signers=()))
    not_followed("E516", made.root(2, signers=(21, 22, 23)))
    not_followed("E516", made.root(2, signers=(11, 21, 22)))
    not_followed("E516", made.root(2, signers=(1,)))  # a release key
    # A stranger's signatures under the names of root keys.
    value = json.loads(made.root(2, signers=(21, 22)))
    for entry, seed in zip(value["signatures"], (11, 12), strict=True):
        entry["keyid"] = made.key_id(seed)
    not_followed("E503", canonical(value))


@pytest.mark.parametrize("signer", [11, 12, 13])
def test_one_compromised_root_key(device: Path, signer: int) -> None:
    """One of three keys, where two must sign: whatever the metadata says, it is not followed."""
    not_followed("E516", made.root(2, signers=(signer,)))
    not_followed("E516", made.root(2, signers=(signer,), threshold=1))
    not_followed("E516", made.root(2, signers=(signer, 21, 22), root=(21, 22)))
    not_followed("E516", made.root(2, signers=(signer,), root=(signer,), threshold=1, release=(99,)))


def test_the_new_threshold_must_be_reached_too(device: Path) -> None:
    """Old keys alone can't name keys that nobody holds: the device could never be updated again."""
    not_followed("E517", made.root(2, root=(21, 22, 23), signers=(11, 12)))
    not_followed("E517", made.root(2, root=(21, 22, 23), signers=(11, 12, 21)))
    not_followed("E516", made.root(2, root=(21, 22, 23), signers=(11, 21, 22)))
    assert rotate.update([made.root(2, root=(21, 22, 23), signers=(11, 12, 21, 22))]) == 2
    not_followed("E516", made.root(3))


def test_one_compromised_release_key(device: Path, bundle: Write) -> None:
    """Two of three must sign a bundle."""
    assert rotate.update([made.root(2, release=(1, 2, 3), release_threshold=2)]) == 2
    for signers in ((1,), (2, 5), (1, 11, 12)):
        path = bundle(1, signers)
        refused("E514", lambda: reader.open(path))  # noqa: B023
        refused("E514", lambda: install(path))  # noqa: B023
        with reader.open(path, allow_unsigned=True) as opened:
            assert not opened.trusted and opened.signers == ()
    with reader.open(bundle(1, (1, 3))) as opened:
        assert opened.trusted and set(opened.signers) == {made.key_id(1), made.key_id(3)}
    assert install(bundle(1, (1, 3))).result == "committed"


# A key that counts twice


def test_a_key_that_counts_twice(device: Path, tmp_path: Path) -> None:
    once = json.loads(made.root(2, signers=(11,)))
    not_followed("E515", canonical({**once, "signatures": once["signatures"] * 2}))
    shouted = [{**once["signatures"][0], "keyid": made.key_id(11).upper()}]
    not_followed("E515", canonical({**once, "signatures": once["signatures"] + shouted}))
    content = made.payload(2)
    content["roles"]["root"]["keys"] = [made.key_id(11)] * 2
    not_followed("E515", made.envelope(content))
    # The same key under another id, and in another spelling.
    for name, text in (("0" * 64, "keys"), (made.key_id(11)[:63] + "0", "keys")):
        content = made.payload(2)
        content[text][name] = content[text][made.key_id(11)]
        content["roles"]["root"]["keys"].append(name)
        not_followed("E515", made.envelope(content))
    kit = Kit()
    value = json.loads(kit.envelope())
    path = tmp_path / "twice.edge"
    path.write_bytes(kit.build(canonical({**value, "signatures": value["signatures"] * 2})))
    refused("E505", lambda: install(path))


@pytest.mark.parametrize("threshold", [0, -1, 4, True, 1.0, "1", None])
@pytest.mark.parametrize("role", ["root", "release"])
def test_thresholds_that_are_none(device: Path, role: str, threshold: object) -> None:
    content = made.payload(2)
    content["roles"][role]["threshold"] = threshold
    not_followed("E515", made.envelope(content, (11, 12, 13)))


def test_a_key_under_another_id(device: Path) -> None:
    content = made.payload(2)
    content["keys"][made.key_id(12)] = base64.b64encode(public_raw(private_key(21))).decode()
    not_followed("E515", made.envelope(content, (11, 12)))


# Types


def test_root_metadata_is_no_manifest_and_a_manifest_no_root(device: Path, tmp_path: Path) -> None:
    """A signature holds for the type that was signed, even where one key has both roles."""
    assert rotate.update([made.root(2, root=(1, 11), threshold=1, release=(1,), signers=(11, 12, 1))]) == 2
    kit, path = Kit(), tmp_path / "confused.edge"
    manifest, root = kit.manifest_bytes(), canonical(made.payload(3, root=(1, 11), threshold=1))
    for content, kind, signed_as in (
        (root, dsse.ROOT_TYPE, dsse.ROOT_TYPE),  # root metadata where a manifest belongs
        (manifest, dsse.ROOT_TYPE, dsse.MANIFEST_TYPE),
        (manifest, dsse.MANIFEST_TYPE, dsse.ROOT_TYPE),  # signed as root metadata, said to be a manifest
        (root, dsse.MANIFEST_TYPE, dsse.ROOT_TYPE),
    ):
        value = {
            "payload": base64.b64encode(content).decode(),
            "payloadType": kind,
            "signatures": [made.signature(content, 1, signed_as)],
        }
        path.write_bytes(kit.build(canonical(value)))
        refused(("E505", "E503"), lambda: install(path))
        if (content, kind, signed_as) != (root, dsse.ROOT_TYPE, dsse.ROOT_TYPE):
            not_followed(("E515", "E503"), canonical(value))
    not_followed("E515", kit.envelope())  # a manifest where root metadata belongs
    not_followed("E503", canonical({**json.loads(made.envelope(root, (1,), dsse.MANIFEST_TYPE)),
                                    "payloadType": dsse.ROOT_TYPE}))  # fmt: skip


# Endless data, and what is too much


def test_endless_data(device: Path) -> None:
    good = made.root(2)
    not_followed("E515", good + b" " * 10_000_000)
    not_followed("E515", b"[" * 60_000)
    not_followed("E515", b"{" * 10_000_000)
    not_followed("E519", *[good] * (rotate.MAX_CHAIN + 1))
    not_followed("E515", made.root(2, root=range(100, 140)))
    value = json.loads(good)
    signatures = [made.signature(b"", seed) for seed in range(200, 301)]
    not_followed("E515", canonical({**value, "signatures": value["signatures"] + signatures}))


def test_endless_data_on_the_disk(device: Path) -> None:
    """What grew on the device's own disk is refused, and not read to its end."""
    with (device / "trust" / "root.dsse").open("r+b") as file:
        file.truncate(1 << 34)  # sparse
    refused("E515", store.load_trusted)
    refused("E515", rotate.current)


def test_extraneous_signatures(device: Path, bundle: Write) -> None:
    """Signatures of strangers are neither counted nor a reason to refuse: keys come and go."""
    reader.open(bundle(1, (5, 1, 6))).close()
    assert rotate.update([made.root(2, signers=(21, 11, 22, 12, 13))]) == 2


def test_a_damaged_root_does_not_bring_single_keys_back(device: Path, bundle: Write) -> None:
    raw = public_raw(private_key(5))
    (device / "trust" / f"{store.key_id(raw)}.pem").write_bytes(store.to_pem(raw))
    path = device / "trust" / "root.dsse"
    good = path.read_bytes()
    for bad in (
        b"",
        good[:100],
        good.replace(b"signatures", b"signaturez"),
        made.root(signers=(11,)),
        b"\0" * len(good),
    ):
        path.write_bytes(bad)
        refused("E515", lambda: install(bundle(1, (5,))))
    path.unlink()
    path.mkdir()
    refused("E515", lambda: install(bundle(1, (5,))))
    path.rmdir()
    path.symlink_to("nowhere")
    refused("E515", lambda: install(bundle(1, (5,))))


def test_no_root_to_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that trusts single keys follows nobody's root metadata by itself."""
    monkeypatch.setenv("EDGEC_ROOT", str(tmp_path / "bare"))
    refused("E523", lambda: rotate.update([made.root(1)]))
    assert rotate.current() is None and not (tmp_path / "bare" / "trust").exists()
    refused("E517", lambda: rotate.pin(made.root(1, signers=(11,))))
    refused("E513", lambda: rotate.pin(made.root(1, signed="2020-01-01T00:00:00Z", expires="2021-01-01T00:00:00Z")))
    assert rotate.current() is None
