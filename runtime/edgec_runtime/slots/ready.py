"""The two files of a slot: the signed manifest as it came, and what a load needs of it, quick to read."""

from __future__ import annotations

import binascii
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from edgec_runtime.errors import Error, TrustError
from edgec_runtime.slots import files
from edgec_runtime.slots.active import READY_FORMAT

LOADED = ("app", "inputs", "outputs", "preprocessing", "postprocessing", "golden")  # of the manifest, when loading
ENVELOPE, READY = "manifest.dsse", "ready.json"


def encode(
    identity: str,
    signers: Sequence[str],
    manifest: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    members: Sequence[Mapping[str, Any]],
) -> bytes:
    """The ready record: what loading needs of the manifest, the payloads and members that this machine uses."""
    names = {member["name"] for member in members}
    more = {}
    if "encryption" in manifest:
        sealed = manifest["encryption"]
        more["encryption"] = {**sealed, "members": {n: m for n, m in sealed["members"].items() if n in names}}
    record = {
        "format": READY_FORMAT,
        "identity": identity,
        "signers": list(signers),
        "manifest": {**{name: manifest[name] for name in LOADED}, "payloads": list(entries), **more},
        "store": {member["name"]: (member["sha256"], member["size"]) for member in members},
    }
    return json.dumps(record, separators=(",", ":")).encode()


def same(folder: str, identity: str, crc: str, ready: bytes) -> bool:
    """True if a slot's folder holds this version, as this machine uses it: then there is nothing to do.

    Who signed it may differ: a version that is signed anew must not push out the one that could be gone back to.

    Args:
        folder, identity: the slot's folder, and the version's identity.
        crc: of the slot's ready record, as the app's state has it.
        ready: what the version's ready record would be.
    """
    try:
        with open(os.path.join(folder, READY), "rb") as file:
            data = file.read()
        manifest(folder, identity)
        return f"{binascii.crc32(data):08x}" == crc and _unsigned(data) == _unsigned(ready)
    except (OSError, ValueError, Error):
        return False


def _unsigned(ready: bytes) -> dict[str, Any]:
    return {**json.loads(ready), "signers": []}


def write(folder: str, envelope: bytes, ready: bytes, stage: str) -> None:
    """Write a slot's files, and make them last. Raises OSError."""
    files.make_folders(folder)
    files.write_atomic(os.path.join(folder, ENVELOPE), envelope, stage)
    files.write_atomic(os.path.join(folder, READY), ready, stage)


def manifest(folder: str, identity: str) -> Mapping[str, Any]:
    """The whole manifest of a slot, which was signed when it came. Raises TrustError where it is another one now."""
    from hashlib import sha256

    from edgec_runtime.bundle import dsse
    from edgec_runtime.bundle import manifest as manifest_
    from edgec_runtime.bundle.layout import MAX_ENVELOPE

    try:
        with open(os.path.join(folder, ENVELOPE), "rb") as file:
            payload = dsse.parse_envelope(file.read(MAX_ENVELOPE + 1)).payload
    except OSError as error:
        raise _damaged(folder, str(error)) from None
    if sha256(payload).hexdigest() != identity:
        raise _damaged(folder, "its manifest is not the one that was installed")
    return manifest_.parse(payload)


def _damaged(folder: str, why: str) -> TrustError:
    return TrustError(f"the slot {os.path.basename(folder)} is damaged", why, "install the bundle again", code="E507")
