"""Making root metadata: its content, its signatures, and who still has to sign."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgec.bundle import envelope, keys
from edgec.errors import UsageError
from edgec_runtime.bundle import dsse
from edgec_runtime.trust import metadata, when
from edgec_runtime.trust.store import Trusted

YEARS = 2
LIFE = YEARS * 365 * 86400  # seconds that root metadata holds where no expiry was named


@dataclass(frozen=True)
class Role:
    """Keys {key id: 32 raw bytes} of which `threshold` distinct ones must sign."""

    keys: Mapping[str, bytes]
    threshold: int


@dataclass(frozen=True)
class Missing:
    """Whose signatures root metadata still needs: `need` more of these key ids, as `version` asks for."""

    version: int
    need: int
    of: tuple[str, ...]


def content(version: int, root: Role, release: Role, signed: str, expires: str) -> bytes:
    """The canonical JSON that root keys sign (`edgec_runtime.trust.metadata`).

    Raises UsageError: a threshold that the keys can't reach, or too many keys (E220); expired at once (E221).
    """
    for name, role in (("root", root), ("release", release)):
        if not 1 <= role.threshold <= len(role.keys):
            raise UsageError(
                f"{role.threshold} of {len(role.keys)} {name} keys can't sign",
                "A threshold is a number from 1 to the number of keys.",
                f"Name more keys with --{name}-key, or give another --{name}-threshold.",
                code="E220",
            )
    everyone = {**root.keys, **release.keys}
    if len(everyone) > metadata.MAX_KEYS:
        raise UsageError(f"{len(everyone)} keys are too many", f"Devices read up to {metadata.MAX_KEYS}.", code="E220")
    if when.parse(expires) <= when.parse(signed):
        raise UsageError(
            f"root metadata that expires on {expires} is of no use", f"It is signed on {signed}.", "", code="E221"
        )
    return envelope.canonical(
        {
            "format": metadata.FORMAT,
            "version": version,
            "signed": signed,
            "expires": expires,
            "keys": {name: base64.b64encode(raw).decode() for name, raw in everyone.items()},
            "roles": {"root": _role(root), "release": _role(release)},
        }
    )


def sign(data: bytes, signers: Sequence[keys.Signer]) -> bytes:
    """Root metadata's envelope with signatures added; a key that has signed already changes nothing."""
    return envelope.add(data, signers)


def unsigned(payload: bytes) -> bytes:
    """An envelope that nobody has signed yet."""
    return envelope.make(payload, [], dsse.ROOT_TYPE)


def missing(root: metadata.Root, before: metadata.Root | None) -> list[Missing]:
    """Who must still sign: by what the version before asks for, and by what it asks for itself; empty when complete.

    Raises TrustError for a wrong signature by one of these keys.
    """
    found = []
    for role in [before.root, root.root] if before is not None else [root.root]:
        have = dsse.signed_by(root.envelope, role)
        if len(have) < role.threshold:
            rest = tuple(name for name in role if name not in have)
            found.append(Missing(role.version, role.threshold - len(have), rest))
    return found


def own_signers(*roles: Trusted) -> list[keys.Signer]:
    """The signers of this user's keys that are in any of these roles."""
    wanted = {name for role in roles for name in role}
    return [keys.load(own.name) for own in keys.list_keys() if own.key_id in wanted]


def _role(role: Role) -> dict[str, Any]:
    return {"keys": sorted(role.keys), "threshold": role.threshold}
