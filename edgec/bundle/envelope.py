"""The manifest's envelope: canonical JSON (RFC 8785) signed with Ed25519 in a DSSE envelope.

DSSE: https://github.com/secure-systems-lab/dsse/blob/master/envelope.md. The envelope is written as canonical JSON
too, with the signatures sorted by key id, so that the same manifest signed by the same keys gives the same bytes
(Ed25519 is deterministic, RFC 8032). The device reads it with `edgec_runtime.bundle.dsse`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from securesystemslib.dsse import Envelope

from edgec.bundle.keys import Signer
from edgec.errors import BadInputError
from edgec_runtime.bundle.layout import MAX_ENVELOPE, MAX_MANIFEST

PAYLOAD_TYPE = "application/vnd.edgec.manifest.v1+json"


def canonical(value: Any) -> bytes:
    """The one byte string of a JSON value (RFC 8785).

    Raises BadInputError for what JSON can't say: NaN, infinities, integers beyond 2^53, other types.
    """
    import rfc8785

    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as e:
        raise BadInputError(
            "A value can't be written as canonical JSON", str(e), "Use finite numbers, text, lists and objects.",
            code="E911",
        ) from e  # fmt: skip


def identity(manifest: bytes) -> str:
    """A bundle's identity: SHA-256 (hex) of the canonical manifest. Signatures don't change it."""
    return hashlib.sha256(manifest).hexdigest()


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """The manifest as it is signed. Raises BadInputError over 1 MiB, which no reader takes."""
    data = canonical(dict(manifest))
    if len(data) > MAX_MANIFEST:
        raise BadInputError(
            f"The manifest is {len(data):,} bytes",
            f"A bundle's manifest has at most {MAX_MANIFEST:,} bytes, so that a device can check it in little memory.",
            "Compile for fewer boards at a time.",
            code="E912",
        )
    return data


def make(content: bytes, signers: Sequence[Signer], kind: str = PAYLOAD_TYPE) -> bytes:
    """The envelope's bytes: `content` (canonical JSON, a manifest) signed by each signer, none for an unsigned one."""
    return _sign(Envelope(content, kind, {}), signers)


def add(envelope: bytes, signers: Sequence[Signer]) -> bytes:
    """The same envelope with signatures added; a signer that has signed already replaces its own signature."""
    return _sign(Envelope.from_dict(json.loads(envelope)), signers)


def payload(envelope: bytes) -> bytes:
    """The manifest's bytes inside an envelope that has already been checked by the runtime's reader."""
    return Envelope.from_dict(json.loads(envelope)).payload


def _sign(envelope: Envelope, signers: Sequence[Signer]) -> bytes:
    for signer in signers:
        envelope.sign(signer)
    envelope.signatures = dict(sorted(envelope.signatures.items()))
    data = canonical(envelope.to_dict())
    if len(data) > MAX_ENVELOPE:
        raise BadInputError(
            f"The signed manifest is {len(data):,} bytes",
            f"At most {MAX_ENVELOPE:,} bytes are read: it has too many signatures.",
            "Sign with fewer keys.",
            code="E912",
        )
    return data
