"""Giving a device the key of a bundle that is encrypted: wrapped for that device alone, before anything is sent."""

from __future__ import annotations

import asyncio
import json

from edgec.bundle import seal
from edgec.errors import BadInputError, Error
from edgec.flash import errors
from edgec.flash.plan import Package
from edgec.flash.session import Session


async def give(device: Session, package: Package) -> None:
    """Have a device keep the bundle's content key. Does nothing for a bundle that is not encrypted.

    The device tells its public key (made there, if it has none yet) over the line that SSH has checked. Who holds only
    the bundle and its file of wrapped keys (`MODEL.edge.keys`) can give it to the devices that the file is for.

    Raises BadInputError (E965) where this machine can't, and what the device refuses.
    """
    encryption = package.manifest.get("encryption")
    if encryption is None:
        return
    name = str(encryption["key"])
    said = await device.ask("key")
    try:
        public = bytes.fromhex(said["public"])
        if len(public) != 32:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise errors.nonsense(device.name, "its public key is none") from None
    kept = seal.kept(name)
    data = await asyncio.to_thread(seal.wrap, kept, [public]) if kept is not None else _shipped(package, name, public)
    await device.ask("keys", data=data)


def _shipped(package: Package, name: str, public: bytes) -> bytes:
    """A device's part of the file of wrapped keys that lies beside the bundle."""
    from edgec_runtime.sealed import device_key, wrapped

    path = package.path.with_name(package.path.name + seal.SUFFIX)
    why = f"neither it nor {path.name} is here"
    try:
        record = wrapped.decode(path.read_bytes())
        device = device_key.key_id(public)
        if record["key"] == name and device in record["devices"]:
            return wrapped.encode({**record, "devices": {device: record["devices"][device]}})
        why = f"{path.name} is for {'other devices' if record['key'] == name else 'another bundle'}"
    except FileNotFoundError:
        pass
    except Error as e:
        why = f"{path.name}: {e.what}: {e.why}"
    except OSError as e:
        why = f"{path.name}: {e.strerror}"
    raise BadInputError(
        f"{package.path.name} is encrypted, and this machine does not have its key",
        f"the content key is {name[:16]}…; {why}",
        "Flash it from the machine that encrypted it, or have that one wrap it for the device whose public key is "
        f"{json.dumps(public.hex())}.",
        code="E965",
    )
