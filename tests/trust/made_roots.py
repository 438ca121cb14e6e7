"""Root metadata for tests, made here without the host package: any of it may be wrong on purpose."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from edgec_runtime.bundle import dsse
from tests.runtime.conftest import canonical, private_key, public_raw

YEARS = {number: f"20{25 + number:02d}-01-01T00:00:00Z" for number in range(60)}


def key_id(seed: int) -> str:
    return hashlib.sha256(public_raw(private_key(seed))).hexdigest()


def payload(
    version: int = 1,
    *,
    root: Iterable[int] = (11, 12, 13),
    threshold: int = 2,
    release: Iterable[int] = (1,),
    release_threshold: int = 1,
    signed: str = "2026-01-01T00:00:00Z",
    expires: str = "2099-01-01T00:00:00Z",
) -> dict[str, Any]:
    root, release = list(root), list(release)
    return {
        "format": 1,
        "version": version,
        "signed": signed,
        "expires": expires,
        "keys": {key_id(seed): base64.b64encode(public_raw(private_key(seed))).decode() for seed in {*root, *release}},
        "roles": {
            "root": {"keys": [key_id(seed) for seed in root], "threshold": threshold},
            "release": {"keys": [key_id(seed) for seed in release], "threshold": release_threshold},
        },
    }


def signature(data: bytes, seed: int, kind: str = dsse.ROOT_TYPE) -> dict[str, str]:
    sig = private_key(seed).sign(dsse.pae(kind, data))
    return {"keyid": key_id(seed), "sig": base64.b64encode(sig).decode()}


def envelope(
    content: Mapping[str, Any] | bytes, signers: Iterable[int] = (11, 12), kind: str = dsse.ROOT_TYPE
) -> bytes:
    data = content if isinstance(content, bytes) else canonical(content)
    return canonical(
        {
            "payload": base64.b64encode(data).decode(),
            "payloadType": kind,
            "signatures": [signature(data, seed, kind) for seed in signers],
        }
    )


def root(version: int = 1, signers: Iterable[int] = (11, 12), **changes: Any) -> bytes:
    """Root metadata of 2 of the keys 11, 12, 13, with the release key 1."""
    return envelope(payload(version, **changes), signers)
