"""The device root and its trusted keys."""

from __future__ import annotations

import base64
import contextlib
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec_runtime import root as root_module
from edgec_runtime.errors import BadInputError, TrustError, UsageError
from edgec_runtime.trust import ed25519, store


def raw_key(number: int = 1) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32).public_key().public_bytes_raw()


def test_pem_is_what_cryptography_writes():
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert store.to_pem(raw_key()) == pem
    assert store.parse_pem(pem) == raw_key()
    assert store.parse_pem(pem.replace(b"\n", b"\r\n")) == raw_key()


def test_other_keys_are_refused():
    other = generate_private_key(SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    spki = b"-----BEGIN PUBLIC KEY-----\n%b\n-----END PUBLIC KEY-----\n"
    small = spki % base64.b64encode(store.SPKI_PREFIX + next(iter(ed25519.SMALL_ORDER)))
    long = spki % base64.b64encode(store.SPKI_PREFIX + raw_key() + b"x")
    private = store.to_pem(raw_key()).replace(b"PUBLIC", b"PRIVATE")
    for pem in (other, small, long, private, b"", b"\0" * 10_000):
        with pytest.raises(BadInputError) as caught:
            store.parse_pem(pem, "key.pem")
        assert "key.pem" in str(caught.value) and caught.value.fix


@settings(max_examples=200)
@given(st.binary(max_size=200), st.integers(0, 112))
def test_any_bytes_give_a_key_or_our_error(noise, at):
    pem = store.to_pem(raw_key())
    for data in (noise, pem[:at] + noise + pem[at:]):
        with contextlib.suppress(BadInputError):
            assert len(store.parse_pem(data)) == 32


def test_ways_to_name_trusted_keys(tmp_path):
    one, two = raw_key(1), raw_key(2)
    (tmp_path / "one.pem").write_bytes(store.to_pem(one))
    (tmp_path / "two.pem").write_bytes(store.to_pem(two))
    (tmp_path / "notes.txt").write_text("not a key")
    both = {store.key_id(one): one, store.key_id(two): two}
    assert store.load_trusted(tmp_path) == both
    assert store.load_trusted(tmp_path / "one.pem") == {store.key_id(one): one}
    assert store.load_trusted([one, store.to_pem(two)]) == both
    assert store.load_trusted([str(tmp_path / "one.pem"), tmp_path / "two.pem"]) == both
    assert store.load_trusted(both) == both
    assert store.load_trusted([]) == {}
    with pytest.raises(BadInputError):
        store.load_trusted(tmp_path / "absent.pem")
    with pytest.raises(BadInputError):
        store.load_trusted({"00": one})


def test_the_device_trust_folder(root):
    assert list(store.load_trusted()) == [p.stem for p in (root / "trust").iterdir()]
    (root / "trust" / f"{store.key_id(raw_key(1))}.pem").write_bytes(store.to_pem(raw_key(2)))
    with pytest.raises(TrustError, match="another key"):
        store.load_trusted()


def test_absent_trust_folder_trusts_nobody(tmp_path):
    assert store.load_trusted(root=tmp_path / "none") == {}


def test_root_is_found_in_order_and_never_guessed(tmp_path, monkeypatch):
    system, user = tmp_path / "var" / "edgec", tmp_path / "home" / "edgec"
    monkeypatch.setattr(root_module, "SYSTEM", str(system))
    monkeypatch.setattr(root_module, "USER", str(user))
    monkeypatch.delenv("EDGEC_ROOT", raising=False)
    assert root_module.find() == str(user)  # the parent of the system's folder is not there: it can't be created
    system.parent.mkdir()
    assert root_module.find() == str(system)
    user.mkdir(parents=True)
    assert root_module.find() == str(user)
    system.mkdir()
    with pytest.raises(UsageError) as caught:
        root_module.find()
    assert "EDGEC_ROOT" in caught.value.fix
    user.rmdir()
    assert root_module.find() == str(system)
    monkeypatch.setenv("EDGEC_ROOT", str(tmp_path / "mine"))
    assert root_module.find() == str(tmp_path / "mine")
    assert root_module.find(tmp_path / "other") == str(tmp_path / "other")


def test_openssl_reads_our_pem(tmp_path):
    path = tmp_path / "key.pem"
    path.write_bytes(store.to_pem(raw_key()))
    try:
        done = subprocess.run(["openssl", "pkey", "-pubin", "-in", path, "-noout"], capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl command here")
    assert done.returncode == 0, done.stderr
