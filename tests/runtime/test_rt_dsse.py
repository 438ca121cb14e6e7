"""DSSE envelopes: the encoding, who signed, what is refused."""

from __future__ import annotations

import base64
import copy
import json

import pytest

from edgec_runtime.bundle import dsse
from edgec_runtime.errors import TrustError
from edgec_runtime.trust import store


def test_pae_is_the_protocols():
    # The example of the DSSE protocol, version 1.0.2.
    assert (
        dsse.pae("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert dsse.pae("ä", b"") == "DSSEv1 2 ä 0 ".encode()


def test_agrees_with_securesystemslib(kit):
    library = pytest.importorskip("securesystemslib.dsse")
    value = json.loads(kit.envelope())
    for signature in value["signatures"]:
        signature["extra"] = {}
    theirs = library.Envelope.from_dict(value)
    ours = dsse.parse_envelope(kit.envelope())
    assert theirs.pae() == dsse.pae(ours.payload_type, ours.payload)


def test_signers_are_the_trusted_ones_in_order(kit, keys):
    one, two, stranger = keys(1), keys(2), keys(3)
    kit.keys = [stranger.private, two.private, one.private]
    envelope = dsse.parse_envelope(kit.envelope())
    trusted = store.load_trusted([one.raw, two.raw])
    assert dsse.verify(envelope, trusted) == (two.id, one.id)
    assert dsse.verify(envelope, {}) == ()


def test_a_trusted_keys_wrong_signature_is_an_error_even_beside_a_right_one(kit, keys):
    one, two = keys(1), keys(2)
    kit.keys = [one.private, two.private]
    envelope = dsse.parse_envelope(kit.envelope())
    wrong = envelope.signatures[1]._replace(sig=envelope.signatures[0].sig)
    forged = envelope._replace(signatures=(envelope.signatures[0], wrong))
    with pytest.raises(TrustError) as caught:
        dsse.verify(forged, store.load_trusted([one.raw, two.raw]))
    assert caught.value.code == "E503"


def test_the_payload_type_is_signed(kit, keys):
    envelope = dsse.parse_envelope(kit.envelope())
    with pytest.raises(TrustError):
        dsse.verify(envelope._replace(payload_type="other"), store.load_trusted([keys(1).raw]))


def broken(value, change):
    result = copy.deepcopy(value)
    change(result)
    return json.dumps(result).encode()


CHANGES = {
    "extra key": lambda v: v.update(more=1),
    "no payload": lambda v: v.pop("payload"),
    "no signatures": lambda v: v.pop("signatures"),
    "payload not text": lambda v: v.update(payload=1),
    "payload not base64": lambda v: v.update(payload="@@@@"),
    "payload without padding": lambda v: v.update(payload="QQ"),
    "payload with loose bits": lambda v: v.update(payload="QR=="),
    "payload with a line break": lambda v: v.update(payload="QUJD\nQUJD"),
    "payload url-safe": lambda v: v.update(payload="-_-_"),
    "payload not ascii": lambda v: v.update(payload="äöü"),
    "payload too large": lambda v: v.update(payload=base64.b64encode(bytes((1 << 20) + 3)).decode()),
    "other type": lambda v: v.update(payloadType="application/json"),
    "type not text": lambda v: v.update(payloadType=["a"]),
    "signatures not a list": lambda v: v.update(signatures={}),
    "too many signatures": lambda v: v.update(signatures=v["signatures"] * 101),
    "a key twice": lambda v: v.update(signatures=v["signatures"] * 2),
    "signature not an object": lambda v: v.update(signatures=["x"]),
    "signature extra key": lambda v: v["signatures"][0].update(cert="x"),
    "keyid short": lambda v: v["signatures"][0].update(keyid="ab"),
    "keyid upper case": lambda v: v["signatures"][0].update(keyid="A" * 64),
    "keyid number": lambda v: v["signatures"][0].update(keyid=1),
    "sig short": lambda v: v["signatures"][0].update(sig=base64.b64encode(bytes(63)).decode()),
    "sig null": lambda v: v["signatures"][0].update(sig=None),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_is_not_well_formed_is_refused(kit, change):
    with pytest.raises(TrustError) as caught:
        dsse.parse_envelope(broken(json.loads(kit.envelope()), change))
    assert caught.value.code == "E505" and caught.value.exit_code == 5 and caught.value.why and caught.value.fix


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b"\xff\xfe", b'{"payload":"","payload":""}'])
def test_what_is_no_envelope_is_refused(data):
    with pytest.raises(TrustError):
        dsse.parse_envelope(data)
