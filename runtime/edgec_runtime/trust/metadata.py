"""Root metadata: which keys a device trusts for what, signed by the root keys themselves (as TUF's root role).

    {"format": 1, "version": 2, "signed": "2026-11-24T17:00:00Z", "expires": "2028-11-23T17:00:00Z",
     "keys": {key id: base64 of the 32 raw bytes},
     "roles": {"root": {"keys": [key id, …], "threshold": 2}, "release": {"keys": [key id, …], "threshold": 1}}}

as canonical JSON (RFC 8785) in a DSSE envelope of the type `application/vnd.edgec.root.v1+json`. Root keys sign the
next root metadata, release keys sign bundles. The specification followed is TUF 1.0.33, section 5.3.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any, NamedTuple

from edgec_runtime.bundle import dsse, strictjson
from edgec_runtime.errors import TrustError
from edgec_runtime.trust import ed25519, when
from edgec_runtime.trust.store import MAX_ROOT, Trusted, key_id, pinned_bytes, root_path

FORMAT = 1
ROLES = ("release", "root")
MAX_KEYS = 32
MAX_VERSION = 2**31 - 1


class Root(NamedTuple):
    """Root metadata as a value. `signed` and `expires` are times in `when.FORM`; roles are ready to verify with."""

    version: int
    signed: str
    expires: str
    root: Trusted
    release: Trusted
    envelope: dsse.Envelope


def parse(data: bytes) -> Root:
    """Root metadata from its envelope: form, types, limits and references are checked, its signatures are not.

    Raises TrustError (E515) with the reason where it is not well formed.
    """
    try:
        envelope = dsse.parse_envelope(data, dsse.ROOT_TYPE, limit=MAX_ROOT)
        value = strictjson.loads(envelope.payload, limit=MAX_ROOT)
        fields = _exactly(value, {"format", "version", "signed", "expires", "keys", "roles"}, "it")
        if not _same(fields["format"], FORMAT):
            raise ValueError(f"its format is {str(fields['format'])[:20]}, not {FORMAT}")
        version = fields["version"]
        if type(version) is not int or not 1 <= version <= MAX_VERSION:
            raise ValueError("its version is no whole number from 1 on")
        if when.parse(fields["signed"]) >= when.parse(fields["expires"]):
            raise ValueError("it expires before it was signed")
        keys = _keys(fields["keys"])
        roles = _exactly(fields["roles"], set(ROLES), "'roles'")
        root, release = (_role(name, roles[name], keys, fields) for name in ("root", "release"))
        if set(root) | set(release) != set(keys):
            raise ValueError("a key has no role")
        if envelope.payload != _canonical(value):
            raise ValueError("it is not canonical JSON")
    except TrustError as error:
        raise _damaged(error.why) from None
    except ValueError as error:
        raise _damaged(str(error)) from None
    return Root(version, fields["signed"], fields["expires"], root, release, envelope)


def whole(data: bytes) -> Root:
    """Root metadata that as many of its own root keys signed as it asks for: seen to be complete and undamaged.

    That alone is no reason to trust it. Raises TrustError: E515, E503 for a wrong signature, E517 for too few.
    """
    found = parse(data)
    if not dsse.enough(found.envelope, found.root):
        raise TrustError(
            f"root metadata of version {found.version} is not signed by {found.root.threshold} of its own root keys",
            "it is not complete, or it is not what they signed",
            "let another holder of a root key sign it: `edgec sign root.N.dsse --sign KEY`",
            code="E517",
        )
    return found


def pinned(where: str) -> Root | None:
    """The root metadata that a root folder pins, None where it pins none.

    Raises TrustError (E515) where it is damaged: single keys must not count again because of that.
    """
    data = pinned_bytes(where)
    if data is None:
        return None
    try:
        return whole(data)
    except TrustError as error:
        raise TrustError(
            "this device's root metadata is damaged",
            f"{error.what}: {error.why}",
            f"as the device's owner: rm {root_path(where)}, and run `edgec devices setup` again",
            code="E515",
        ) from None


def _keys(value: object) -> dict[str, bytes]:
    if not isinstance(value, dict) or not 1 <= len(value) <= MAX_KEYS:
        raise ValueError(f"'keys' must be an object of 1 to {MAX_KEYS}")
    keys = {}
    for name, text in value.items():
        try:
            raw = binascii.a2b_base64(text.encode("ascii"))
            canonical = binascii.b2a_base64(raw, newline=False).decode() == text
        except (AttributeError, ValueError):
            canonical = False
        if not canonical or not ed25519.valid_key(raw):
            raise ValueError(f"the key {name[:16]!r} is not an Ed25519 public key in base64")
        if key_id(raw) != name:
            raise ValueError(f"the key {name[:16]!r} stands under another id than its own")
        keys[name] = raw
    return keys


def _role(name: str, value: object, keys: Mapping[str, bytes], whole: Mapping[str, Any]) -> Trusted:
    fields = _exactly(value, {"keys", "threshold"}, f"the role {name!r}")
    ids, threshold = fields["keys"], fields["threshold"]
    if not isinstance(ids, list) or not all(isinstance(item, str) and item in keys for item in ids):
        raise ValueError(f"the role {name!r} names a key that is not there")
    if len(set(ids)) != len(ids):
        raise ValueError(f"the role {name!r} names a key twice")
    if type(threshold) is not int or not 1 <= threshold <= len(ids):
        raise ValueError(f"the threshold of the role {name!r} must be a whole number from 1 to its {len(ids)} keys")
    return Trusted(
        {item: keys[item] for item in ids},
        threshold=threshold,
        version=whole["version"],
        signed=whole["signed"],
        expires=whole["expires"],
    )


def _exactly(value: object, names: set[str], what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != names:
        raise ValueError(f"{what} must hold {', '.join(sorted(names))}, and nothing else")
    return value


def _same(value: object, number: int) -> bool:
    return type(value) is int and value == number


def _canonical(value: object) -> bytes:
    """RFC 8785 of a value of ASCII text and whole numbers, which is all that root metadata has."""
    import json

    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _damaged(why: str) -> TrustError:
    return TrustError(
        "the root metadata is damaged, or is none",
        why,
        "get the file again from where it was made: `edgec keys rotate` writes root.N.dsse",
        code="E515",
    )
