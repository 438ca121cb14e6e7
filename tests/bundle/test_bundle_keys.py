"""Keys: made once, kept private, trusted on this machine; the envelope as other DSSE tools see it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.bundle import envelope, keys
from edgec.errors import BadInputError, MissingError, TrustError, UsageError
from edgec_runtime.bundle import dsse
from edgec_runtime.trust import store


def raw(signer: Any) -> bytes:
    return bytes.fromhex(signer.public_key.keyval["public"])


def test_a_new_key_is_private_and_not_trusted() -> None:
    made = keys.new("release")
    assert made.private.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert stat.S_IMODE(made.private.stat().st_mode) == 0o600
    assert not made.trusted
    signer = keys.load("release")
    assert made.key_id == hashlib.sha256(raw(signer)).hexdigest() == signer.public_key.keyid
    assert store.parse_pem(made.public.read_bytes()) == raw(signer)
    assert keys.list_keys() == [made]


def test_a_name_is_taken_once(own_folders: Path) -> None:
    first = keys.new("a").private.read_bytes()
    with pytest.raises(UsageError) as caught:
        keys.new("a")
    assert caught.value.exit_code == 2
    assert keys.load("a") and keys.list_keys()[0].private.read_bytes() == first
    assert sorted(os.listdir(keys.folder())) == ["a.key", "a.pem"]


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".hidden", "a b", "x" * 65, "a\0"])
def test_names_are_plain_file_names(name: str) -> None:
    with pytest.raises(UsageError):
        keys.new(name)


def test_development_key_is_made_once_and_trusted_here() -> None:
    first = keys.development_key()
    again = keys.development_key()
    assert first.public_key.keyid == again.public_key.keyid
    assert store.load_trusted() == {first.public_key.keyid: raw(first)}
    (info,) = keys.list_keys()
    assert info.name == keys.DEVELOPMENT and info.trusted


def test_two_at_once_get_the_same_development_key() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = {s.public_key.keyid for s in pool.map(lambda _: keys.development_key(), range(16))}
    assert len(made) == 1


def test_trust_by_file_name_and_id(tmp_path: Path) -> None:
    a, b, c = (keys.new(n) for n in "abc")
    assert keys.trust(a.public) == a.key_id
    assert keys.trust("b") == b.key_id
    assert keys.trust(c.key_id) == c.key_id
    assert set(store.load_trusted()) == {a.key_id, b.key_id, c.key_id}
    assert keys.trust("b") == b.key_id  # again is no error


def test_trust_refuses_what_is_no_public_key(tmp_path: Path) -> None:
    made = keys.new("a")
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    (tmp_path / "ec.pem").write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "noise.pem").write_bytes(os.urandom(200))
    for path in (made.private, tmp_path / "ec.pem", tmp_path / "noise.pem"):
        with pytest.raises(BadInputError):
            keys.trust(path)
    with pytest.raises(MissingError):
        keys.trust("nobody")
    assert store.load_trusted() == {}


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_a_private_key_that_others_can_read_is_refused() -> None:
    made = keys.new("a")
    made.private.chmod(0o644)
    with pytest.raises(TrustError, match="can be read by others"):
        keys.load("a")


def test_load_refuses_other_files(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "ec").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    ours = keys._read_private(keys.new("a").private)
    locked = ours.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    (tmp_path / "locked").write_bytes(locked)
    (tmp_path / "noise").write_bytes(b"\xff" * 50)
    for name, word in (("ec", "no Ed25519"), ("locked", "pass phrase"), ("noise", "no Ed25519")):
        with pytest.raises(BadInputError, match=word):
            keys.load(tmp_path / name)
    with pytest.raises(MissingError):
        keys.load("nobody")


def test_load_by_path(tmp_path: Path) -> None:
    made = keys.new("a")
    (tmp_path / "ci.key").write_bytes(made.private.read_bytes())
    assert keys.load(tmp_path / "ci.key").public_key.keyid == made.key_id


def test_import_costs_no_cryptography() -> None:
    """`edgec --help` must start fast: the command line's own modules import no signing library."""
    code = "import sys, edgec.cli, edgec.cli.keys, edgec.cli.sign; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# The envelope


# RFC 8785 writes a whole float below 1e21 without an exponent: beyond 2^53 a strict reader refuses that integer.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | st.text(max_size=9) | st.floats(-1e15, 1e15),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=50)
@given(JSON)
def test_canonical_json_means_the_same(value: Any) -> None:
    data = envelope.canonical(value)
    assert json.loads(data) == value
    assert envelope.canonical(json.loads(data)) == data


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**60, {1: 2}, object()])
def test_canonical_json_refuses_what_json_can_not_say(value: Any) -> None:
    with pytest.raises(BadInputError, match="canonical JSON"):
        envelope.canonical({"x": value})


def test_envelope_is_dsse() -> None:
    """Checked by hand against the protocol: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md."""
    signer = keys.development_key()
    manifest = envelope.canonical({"format": 1})
    data = envelope.make(manifest, [signer])
    value = json.loads(data)
    assert value["payloadType"] == envelope.PAYLOAD_TYPE
    assert base64.b64decode(value["payload"]) == manifest
    (signature,) = value["signatures"]
    kind = envelope.PAYLOAD_TYPE
    message = f"DSSEv1 {len(kind)} {kind} {len(manifest)} ".encode() + manifest
    keys._read_private(keys.list_keys()[0].private).public_key().verify(base64.b64decode(signature["sig"]), message)
    parsed = dsse.parse_envelope(data)
    assert dsse.verify(parsed, {signer.public_key.keyid: raw(signer)}) == (signer.public_key.keyid,)
    assert envelope.payload(data) == manifest
    assert envelope.make(manifest, [signer]) == data == envelope.add(data, [signer])


def test_public_halves_by_name_id_and_file() -> None:
    made = keys.new("release")
    signer = keys.load("release")
    expected = (made.key_id, raw(signer))
    assert [keys.public(name) for name in ("release", made.key_id, made.public)] == [expected] * 3
    with pytest.raises(MissingError):
        keys.public("nobody")
    with pytest.raises(BadInputError):
        keys.public(made.private)
