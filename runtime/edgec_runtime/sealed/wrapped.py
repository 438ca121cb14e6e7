"""A content key wrapped for devices: the file `model.edge.keys`, and a device's own part of it.

    {"format": 1, "key": <id of the content key>, "devices": {<device id>: {"enc": <base64>, "wrapped": <base64>}}}

HPKE in base mode (`hpke`) with the content key's id as context. Nobody signs it: a content key is the right one if its
id is the one that the signed manifest names. A device keeps its part as `sealed/<id of the content key>`, so that
installing, updating and rolling back touch no keys.
"""

from __future__ import annotations

import binascii
import os

from edgec_runtime.errors import BadInputError, TrustError
from edgec_runtime.sealed import chunks, device_key, hpke

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

FORMAT = 1
INFO = b"edgec wrapped content key v1\0"
MAX_FILE = 4 << 20  # bytes: about 18,000 devices
HEX = frozenset("0123456789abcdef")


def wrap(content_key: bytes, publics: Iterable[bytes]) -> dict[str, Any]:
    """The content key for each of these devices, by their public keys. Raises ValueError for one that is none."""
    name = chunks.key_id(content_key)
    devices = {}
    for public in publics:
        enc, wrapped = hpke.seal(public, INFO + bytes.fromhex(name), b"", content_key)
        devices[device_key.key_id(public)] = {"enc": _text(enc), "wrapped": _text(wrapped)}
    return {"format": FORMAT, "key": name, "devices": dict(sorted(devices.items()))}


def encode(record: dict[str, Any]) -> bytes:
    """The file's bytes."""
    import json

    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def decode(data: bytes) -> dict[str, Any]:
    """The record of a file. Raises BadInputError (E961) where it is none."""
    from edgec_runtime.bundle import strictjson

    try:
        value = strictjson.loads(data, limit=MAX_FILE)
        if not isinstance(value, dict) or value.keys() != {"format", "key", "devices"}:
            raise ValueError("it is not an object of format, key and devices")
        if value["format"] != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        if not _is_id(value["key"]) or not isinstance(value["devices"], dict):
            raise ValueError("its key is no id, or its devices are no object")
        for device, part in value["devices"].items():
            if not _is_id(device) or not isinstance(part, dict) or part.keys() != {"enc", "wrapped"}:
                raise ValueError("a device's part is not an object of enc and wrapped")
            if len(_bytes(part["enc"])) != 32 or len(_bytes(part["wrapped"])) != 48:
                raise ValueError("a wrapped key has another size than 32 and 48 bytes")
    except ValueError as error:
        raise BadInputError(
            "this is no file of wrapped keys", str(error)[:300], "give the .keys file of the bundle", code="E961"
        ) from None
    return value


def add(root: str, record: dict[str, Any]) -> str:
    """Keep this device's part of a record, durably, if it opens: the content key's id.

    Raises TrustError: it is for other devices (E532), or does not open (E534).
    """
    from edgec_runtime.slots import files
    from edgec_runtime.slots.locks import locked, writing

    private = device_key.private(root)
    own = _own(record, private)
    _open(own, private)
    with writing(root), locked(root):
        stage = os.path.join(root, "stage")
        for folder in (stage, os.path.join(root, "sealed")):
            files.make_folders(folder)
        files.write_atomic(os.path.join(root, "sealed", record["key"]), encode(own), stage, 0o600)
    return str(record["key"])


def content_key(root: str, name: str) -> bytes:
    """The content key with this id (64 hex digits), by what this device keeps.

    Raises TrustError: this device was never given it (E532), it does not open (E534), the device has no key (E530).
    """
    private = device_key.private(root)
    try:
        with open(os.path.join(root, "sealed", name), "rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise TrustError(
            "this device has no key for the bundle",
            f"the content key {name[:16]}... was not given to it ({error.strerror})",
            "wrap it for this device, then: python3 -m edgec_runtime.sealed add MODEL.edge.keys",
            code="E532",
        ) from None
    return _open(_own(decode(data), private), private)


def _own(record: dict[str, Any], private: bytes) -> dict[str, Any]:
    from edgec_runtime.sealed import crypto

    device = device_key.key_id(crypto.find().public(private))
    if device not in record["devices"]:
        raise TrustError(
            "the bundle is sealed for other devices",
            f"its key is wrapped for {len(record['devices'])}, not for this one ({device[:16]}...)",
            "wrap its key for this device: its public key is what python3 -m edgec_runtime.sealed key prints",
            code="E532",
        )
    return {**record, "devices": {device: record["devices"][device]}}


def _open(record: dict[str, Any], private: bytes) -> bytes:
    """The content key of a record with one device."""
    (part,) = record["devices"].values()
    info = INFO + bytes.fromhex(record["key"])
    try:
        key = hpke.open_(private, _bytes(part["enc"]), info, b"", _bytes(part["wrapped"]))
        if chunks.key_id(key) != record["key"]:
            raise ValueError("another key than its name says was wrapped")
    except ValueError as error:
        raise TrustError(
            "the wrapped key can't be opened", str(error), "wrap it for this device again", code="E534"
        ) from None
    return key


def _text(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()


def _bytes(text: Any) -> bytes:
    if not isinstance(text, str) or not text.isascii():
        raise ValueError("a value is no base64")
    data = binascii.a2b_base64(text)
    if _text(data) != text:
        raise ValueError("a value is no canonical base64")
    return data


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and HEX.issuperset(value)
