"""Published test vectors for what sealing computes, by libcrypto and by the package; and both against each other."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hpke as reference
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from edgec_runtime.errors import UnsupportedError
from edgec_runtime.sealed import crypto, hkdf, hpke, libcrypto
from edgec_runtime.sealed.libcrypto import Libcrypto
from edgec_runtime.sealed.package import Package

ALL = [Libcrypto(), Package()]
by_each = pytest.mark.parametrize("by", ALL, ids=lambda library: library.name)
H = bytes.fromhex

# The GCM specification that NIST took (McGrew and Viega), AES-256, cases 13 to 16: key, nonce, aad, plaintext,
# ciphertext, tag.
KEY = H("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308")
TEXT = H(
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
)
SEALED = H(
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
)
AAD = H("feedfacedeadbeeffeedfacedeadbeefabaddad2")
IV = H("cafebabefacedbaddecaf888")
GCM = [
    (bytes(32), bytes(12), b"", b"", b"", H("530f8afbc74536b9a963b4f1c4cb738b")),
    (
        bytes(32),
        bytes(12),
        b"",
        bytes(16),
        H("cea7403d4d606b6e074ec5d3baf39d18"),
        H("d0d1c8a799996bf0265b98b5d48ab919"),
    ),
    (KEY, IV, b"", TEXT, SEALED, H("b094dac5d93471bdec1a502270e3cc6c")),
    (KEY, IV, AAD, TEXT[:60], SEALED[:60], H("76fc6ece0f4e1768cddf8853bb2d551b")),
]


@by_each
@pytest.mark.parametrize("key, nonce, aad, text, sealed, tag", GCM)
def test_gcm(by, key, nonce, aad, text, sealed, tag):
    assert by.gcm(key).encrypt(nonce, text, aad) == sealed + tag
    assert by.gcm(key).decrypt(nonce, sealed + tag, aad) == text
    for changed in (
        sealed + tag[:-1] + bytes([tag[-1] ^ 1]),
        bytes([(sealed + tag)[0] ^ 1]) + (sealed + tag)[1:],
        tag[1:],
    ):
        with pytest.raises(ValueError):
            by.gcm(key).decrypt(nonce, changed, aad)
    with pytest.raises(ValueError):
        by.gcm(key).decrypt(nonce, sealed + tag, aad + b"x")
    with pytest.raises(ValueError):
        by.gcm(key[1:])
    with pytest.raises(ValueError):
        by.gcm(key).encrypt(nonce[1:], text)


@by_each
def test_x25519(by):
    """RFC 7748, sections 5.2 and 6.1; public keys of small order are refused (RFC 9180, section 7.1.4)."""
    assert by.exchange(
        H("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"),
        H("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"),
    ) == H("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552")
    alice = H("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    bob = H("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    assert by.public(alice) == H("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    assert by.public(bob) == H("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    shared = H("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert by.exchange(alice, by.public(bob)) == by.exchange(bob, by.public(alice)) == shared
    for weak in (bytes(32), bytes([1]) + bytes(31), H("ec" + "ff" * 30 + "7f")):
        with pytest.raises(ValueError):
            by.exchange(alice, weak)


def test_hkdf():
    """RFC 5869, appendix A.1 and A.3."""
    key = hkdf.extract(H("000102030405060708090a0b0c"), H("0b" * 22))
    assert key == H("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    assert hkdf.expand(key, H("f0f1f2f3f4f5f6f7f8f9"), 42) == H(
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )
    assert hkdf.derive(H("0b" * 22), b"", 42) == H(
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )
    with pytest.raises(ValueError):
        hkdf.expand(key, b"", 8161)


# The vectors of RFC 9180 (test-vectors.json, which its appendix A refers to): mode 0, kem 0x20, kdf 1, aead 2.
INFO = b"Ode on a Grecian Urn"
SK_E = H("179d4b53b6365c45b600c4163b61d95cbc2f4d9e36f1695558dce265ab8bab11")
ENC = H("6c93e09869df3402d7bf231bf540fadd35cd56be14f97178f0954db94b7fc256")
SK_R = H("497b4502664cfea5d5af0b39934dac72242a74f8480451e1aee7d6a53320333d")
PK_R = H("430f4b9859665145a6b1ba274024487bd66f03a2dd577d7753c68d7d7d00c00c")
SHARED = H("3101c54c3a4f87439eaac080699ed9bbcc726ffe44e860c0424ccb7e3e2ead7b")
SCHEDULED = (H("f50b0609186798729ed0564b36ef2ef8044f1f9d05636874d1f46c819c7a669f"), H("151d9929e2449747889bc923"))
CT = H("e5d84cd531cfb583096e7cfa9641bd3079cf3a91cda813c52deb5f512be9931980a41de125a925cdad859d5b7a")
PT = b"Beauty is truth, truth beauty"


@by_each
def test_hpke(by):
    assert by.public(SK_R) == PK_R and by.public(SK_E) == ENC
    assert hpke._shared(by.exchange(SK_R, ENC), ENC + PK_R) == SHARED
    assert hpke._schedule(SHARED, INFO) == SCHEDULED
    assert hpke.seal(PK_R, INFO, b"Count-0", PT, ephemeral=SK_E, by=by) == (ENC, CT)
    assert hpke.open_(SK_R, ENC, INFO, b"Count-0", CT, by=by) == PT
    wrong = [
        (SK_E, ENC, INFO, b"Count-0", CT),
        (SK_R, PK_R, INFO, b"Count-0", CT),
        (SK_R, bytes(32), INFO, b"Count-0", CT),
        (SK_R, ENC[:-1], INFO, b"Count-0", CT),
        (SK_R, ENC, INFO + b"!", b"Count-0", CT),
        (SK_R, ENC, INFO, b"Count-1", CT),
        (SK_R, ENC, INFO, b"Count-0", CT[:-1]),
        (SK_R, ENC, INFO, b"Count-0", b""),
    ]
    for arguments in wrong:
        with pytest.raises(ValueError):
            hpke.open_(*arguments, by=by)


def test_the_shared_secret_of_the_suite_with_the_smaller_cipher():
    """RFC 9180, appendix A.1.1: the same KEM beside AES-128-GCM."""
    private = H("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8")
    enc = H("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431")
    for by in ALL:
        assert hpke._shared(by.exchange(private, enc), enc + by.public(private)) == H(
            "fe0e18c9f024ce43799ae393c7e8fe8fce9d218875e8227b0187c04e7d2ea1fc"
        )


SUITE = reference.Suite(reference.KEM.X25519, reference.KDF.HKDF_SHA256, reference.AEAD.AES_256_GCM)


@given(data=st.binary(max_size=100), info=st.binary(max_size=40), seed=st.binary(min_size=32, max_size=32))
def test_against_another_hpke(data, info, seed):
    """What cryptography's own HPKE seals, this opens, and the other way round."""
    theirs = X25519PrivateKey.from_private_bytes(seed)
    public = theirs.public_key().public_bytes_raw()
    both = SUITE.encrypt(data, X25519PublicKey.from_public_bytes(public), info)
    for by in ALL:
        assert hpke.open_(seed, both[:32], info, b"", both[32:], by=by) == data
        assert SUITE.decrypt(b"".join(hpke.seal(public, info, b"", data, by=by)), theirs, info) == data


@given(
    key=st.binary(min_size=32, max_size=32),
    nonce=st.binary(min_size=12, max_size=12),
    data=st.binary(max_size=300),
    aad=st.binary(max_size=40),
)
def test_both_libraries_agree(key, nonce, data, aad):
    sealed = [by.gcm(key).encrypt(nonce, data, aad) for by in ALL]
    assert sealed[0] == sealed[1] and all(by.gcm(key).decrypt(nonce, sealed[0], aad) == data for by in ALL)


def test_one_is_found_and_where_there_is_none_that_is_said(monkeypatch):
    assert crypto.find().name == "libcrypto"
    monkeypatch.setattr(crypto, "_found", [])
    monkeypatch.setattr(libcrypto, "NAMES", ("libnothing.so.9",))
    assert crypto.find().name == "cryptography"
    monkeypatch.setattr(crypto, "_found", [])
    for name in ("cryptography", "cryptography.exceptions"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(UnsupportedError) as caught:
        crypto.find()
    assert caught.value.code == "E960" and "libnothing" in str(caught.value) and "cryptography" in str(caught.value)


def test_an_error_of_libcryptos_is_not_left_to_python_s_ssl():
    import ssl

    with pytest.raises(ValueError):
        ALL[0].exchange(SK_R, bytes(32))
    ssl.create_default_context()
    with pytest.raises(ssl.SSLError) as caught:
        ssl.create_default_context(cadata="nothing")
    assert "PKEY" not in str(caught.value) and "derive" not in str(caught.value)
