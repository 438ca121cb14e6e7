"""DSSE envelopes: a payload with its type and Ed25519 signatures (Dead Simple Signing Envelope, protocol 1.0.2).

    {"payload": base64, "payloadType": "application/vnd.edgec.manifest.v1+json",
     "signatures": [{"keyid": SHA-256 of the public key, "sig": base64 of 64 bytes}]}

What is signed is `pae(payloadType, payload)`, so no JSON of the payload is parsed before a signature was checked.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from edgec_runtime.bundle import strictjson
from edgec_runtime.bundle.layout import MAX_ENVELOPE, MAX_MANIFEST
from edgec_runtime.errors import TrustError
from edgec_runtime.trust import ed25519

MANIFEST_TYPE = "application/vnd.edgec.manifest.v1+json"
ROOT_TYPE = "application/vnd.edgec.root.v1+json"
MAX_SIGNATURES = 100
HEX = frozenset("0123456789abcdef")


class Signature(NamedTuple):
    """One signature: the key's id (64 hex digits) and the 64 bytes."""

    keyid: str
    sig: bytes


class Envelope(NamedTuple):
    """What was signed, under which type, by whom (nothing here is checked yet)."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]


def pae(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed: the protocol's pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def parse_envelope(data: bytes, expected: str = MANIFEST_TYPE, *, limit: int = MAX_ENVELOPE) -> Envelope:
    """Read an envelope of one type, strictly: exact keys, canonical base64, at most `limit` bytes.

    Raises TrustError: an envelope that is not well formed, or of another type, can't be vouched for by anybody.
    """
    try:
        value = strictjson.loads(data, limit=limit)
        if not isinstance(value, dict) or value.keys() != {"payload", "payloadType", "signatures"}:
            raise ValueError("it must hold payload, payloadType and signatures, and nothing else")
        kind, entries = value["payloadType"], value["signatures"]
        if kind != expected:
            raise ValueError(f"its payloadType is {str(kind)[:60]!r}, not {expected!r}")
        payload = _base64(value["payload"], "payload")
        if len(payload) > MAX_MANIFEST:
            raise ValueError(f"its payload has {len(payload)} bytes, more than {MAX_MANIFEST}")
        if not isinstance(entries, list) or len(entries) > MAX_SIGNATURES:
            raise ValueError(f"its signatures must be a list of at most {MAX_SIGNATURES}")
        signatures = tuple(_signature(entry) for entry in entries)
        if len({signature.keyid for signature in signatures}) != len(signatures):
            raise ValueError("a key signs twice")
    except ValueError as error:
        raise TrustError(
            "the signature envelope is damaged",
            str(error),
            "get the file again from where it was made; if it still fails there, compile it again",
            code="E505",
        ) from None
    return Envelope(expected, payload, signatures)


def verify(envelope: Envelope, trusted: Mapping[str, bytes]) -> tuple[str, ...]:
    """The ids of the trusted keys that signed this envelope, in its order; empty where they are fewer than needed.

    `trusted` is {key id: 32 raw bytes}, as `trust.store.load_trusted` gives it, with the number of distinct keys that
    must sign as `.threshold`; one is enough where it has none. Raises TrustError as `signed_by` does.
    """
    signers = signed_by(envelope, trusted)
    return signers if len(signers) >= getattr(trusted, "threshold", 1) else ()


def signed_by(envelope: Envelope, trusted: Mapping[str, bytes]) -> tuple[str, ...]:
    """The ids of those of these keys that signed, in the envelope's order, be they enough or not; each stands once.

    Signatures of other keys are left alone. Raises TrustError where a signature by one of these keys is wrong: the
    content is not what that key signed.
    """
    return tuple(_signers(envelope, trusted))


def enough(envelope: Envelope, trusted: Mapping[str, bytes]) -> bool:
    """True where as many of these keys signed as must; what stands after those is not looked at. Raises as above."""
    wanted = getattr(trusted, "threshold", 1)
    return sum(1 for _ in islice(_signers(envelope, trusted), wanted)) >= wanted


def _signers(envelope: Envelope, trusted: Mapping[str, bytes]) -> Iterator[str]:
    message = None
    for keyid, sig in envelope.signatures:
        if keyid in trusted:
            message = message or pae(envelope.payload_type, envelope.payload)
            if not ed25519.verify(trusted[keyid], message, sig):
                raise TrustError(
                    f"the signature by key {keyid[:16]} is wrong",
                    "what it signs is not what this key signed: it was changed after signing, or damaged",
                    "get the file again from where it was made, and don't use this one",
                    code="E503",
                )
            yield keyid


def _signature(entry: object) -> Signature:
    if not isinstance(entry, dict) or entry.keys() != {"keyid", "sig"}:
        raise ValueError("a signature must hold keyid and sig, and nothing else")
    keyid, sig = entry["keyid"], _base64(entry["sig"], "sig")
    if not isinstance(keyid, str) or len(keyid) != 64 or not HEX.issuperset(keyid):
        raise ValueError("a keyid must be 64 hex digits")
    if len(sig) != 64:
        raise ValueError(f"an Ed25519 signature has 64 bytes, not {len(sig)}")
    return Signature(keyid, sig)


def _base64(text: object, name: str) -> bytes:
    if not isinstance(text, str):
        raise ValueError(f"{name} must be base64 text")
    try:
        data = binascii.a2b_base64(text.encode("ascii"))
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError(f"{name} is not base64") from None
    if binascii.b2a_base64(data, newline=False).decode() != text:  # one spelling only: padding, no line breaks
        raise ValueError(f"{name} is not in canonical base64")
    return data
