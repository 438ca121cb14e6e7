"""Ed25519 verification: RFC 8032's vectors, Wycheproof's, and agreement with `cryptography`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec_runtime.trust import ed25519

WYCHEPROOF = Path(__file__).parent / "data" / "wycheproof_ed25519.txt"

# RFC 8032, section 7.1: public key, message, signature.
RFC8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]


def wycheproof() -> list[tuple[str, bool, bytes, bytes, bytes]]:
    rows = [line.split() for line in WYCHEPROOF.read_text().splitlines() if not line.startswith("#")]
    raw = [[b"" if part == "-" else bytes.fromhex(part) for part in row[2:]] for row in rows]
    return [(row[0], row[1] == "valid", *parts) for row, parts in zip(rows, raw, strict=True)]


@pytest.mark.parametrize("vector", RFC8032)
def test_rfc8032_vectors_verify_and_a_flipped_bit_does_not(vector):
    key, message, signature = (bytes.fromhex(part) for part in vector)
    assert ed25519.verify_pure(key, message, signature)
    for bit in (0, 255, 256, 511):
        wrong = bytearray(signature)
        wrong[bit // 8] ^= 1 << bit % 8
        assert not ed25519.verify_pure(key, message, bytes(wrong))


def test_all_wycheproof_vectors():
    rows = wycheproof()
    assert len(rows) == 151 and sum(valid for _, valid, *_ in rows) > 50
    for number, valid, key, message, signature in rows:
        assert ed25519.verify_pure(key, message, signature) == valid, f"tcId {number}"
        assert ed25519.verify(key, message, signature) == valid, f"tcId {number}, with cryptography"


@settings(max_examples=60)
@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=200), bit=st.integers(0, 511))
def test_agrees_with_cryptography(seed, message, bit):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.from_private_bytes(seed)
    key, signature = private.public_key().public_bytes_raw(), private.sign(message)
    assert ed25519.valid_key(key)
    assert ed25519.verify_pure(key, message, signature)
    wrong = bytearray(signature)
    wrong[bit // 8] ^= 1 << bit % 8
    assert not ed25519.verify_pure(key, message, bytes(wrong))
    assert not ed25519.verify_pure(key, message + b"x", signature)


@pytest.mark.parametrize("encoding", sorted(ed25519.SMALL_ORDER))
def test_keys_of_small_order_are_refused(encoding):
    # With the identity as key, (R = s·B, s) signs any message: R = B, s = 1.
    base = ed25519.BASE_Y.to_bytes(32, "little")
    signature = base + (1).to_bytes(32, "little")
    assert not ed25519.valid_key(encoding)
    assert not ed25519.verify_pure(encoding, b"anything", signature)
    assert not ed25519.verify(encoding, b"anything", signature)


def test_non_canonical_points_and_scalars_are_refused():
    key, message, signature = (bytes.fromhex(part) for part in RFC8032[2])
    s = int.from_bytes(signature[32:], "little")
    assert not ed25519.verify_pure(key, message, signature[:32] + (s + ed25519.L).to_bytes(32, "little"))
    for y in range(ed25519.P, 2**255):  # all 19 values that wrap around
        assert not ed25519.valid_key(y.to_bytes(32, "little"))
        assert not ed25519.verify(y.to_bytes(32, "little"), message, signature)
    assert not ed25519.valid_key((1 | 1 << 255).to_bytes(32, "little"))  # x = 0 with a sign


@pytest.mark.parametrize("key_size, signature_size", [(0, 64), (31, 64), (33, 64), (32, 0), (32, 63), (32, 65)])
def test_wrong_sizes_are_refused_not_raised(key_size, signature_size):
    assert not ed25519.verify(os.urandom(key_size), b"", os.urandom(signature_size))


def test_verifying_does_not_import_cryptography():
    key, message, signature = RFC8032[1]
    code = (
        "import sys; from edgec_runtime.trust import ed25519;"
        f"assert ed25519.verify(bytes.fromhex({key!r}), bytes.fromhex({message!r}), bytes.fromhex({signature!r}));"
        "assert 'cryptography' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
