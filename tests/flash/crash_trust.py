"""Programs of the device that are cut, of trust: the security floor, root metadata, the device's own key."""

from __future__ import annotations

import base64
import datetime
from functools import cache

from edgec_runtime.bundle import dsse
from edgec_runtime.errors import TrustError
from edgec_runtime.sealed import device_key
from edgec_runtime.trust import rotate, store
from tests.flash.crash_device import Bundle, Device, bundle
from tests.flash.crash_programs import Mark, version
from tests.runtime.conftest import canonical, private_key, public_raw


@cache
def with_floor(number: int) -> Bundle:
    return bundle(number, floor=number)


def raising_the_floor(device: Device, mark: Mark) -> None:
    device.transfer(with_floor(2))
    mark("acknowledged")
    mark(device.trial().result)


def floor_is_kept(device: Device, marks: tuple[str, ...]) -> str:
    """It rises with the commit, not before (or the old version would be locked out), and never falls."""
    due = 2 if device.current() == 2 else 0
    return "" if device.state().floor == due else f"the floor is {device.state().floor}, not {due}"


def remove_and_try_the_old(device: Device) -> None:
    device.install(with_floor(2))
    device.remove()
    try:
        device.install(version(1))
    except TrustError:
        device.install(version(3))
    else:
        raise AssertionError("a version below the security floor was installed")


def pinning(device: Device, mark: Mark) -> None:
    rotate.pin(root_metadata(1), root=device.root)
    mark("pinned")


def somebody_is_trusted(device: Device, marks: tuple[str, ...]) -> str:
    if not store.load_trusted(None, root=device.root):
        return "nobody is trusted"
    return "" if not marks or rotate.current(root=device.root) else "the pinned root metadata is gone"


def pin_again(device: Device) -> None:
    pinning(device, lambda text: None)
    device.install(version(2))


def making_a_key(device: Device, mark: Mark) -> None:
    mark(f"key:{device_key.create(str(device.root)).hex()}")


def key_is_kept(device: Device, marks: tuple[str, ...]) -> str:
    found = device_key.public(str(device.root))
    due = marks[-1].partition(":")[2] if marks else ""
    return "" if not due or (found is not None and found.hex() == due) else "the device's key is not the one it told"


def key_again(device: Device) -> None:
    before = device_key.public(str(device.root))
    assert device_key.create(str(device.root)) == (before or device_key.public(str(device.root)))
    device.install(version(2))


ROOT_KEYS, RELEASE_KEYS = (11, 12), (1, 2)


@cache
def root_metadata(number: int) -> bytes:
    """Root metadata of version `number`: the release key is another one in each, both root keys sign."""
    day = datetime.datetime(2026, 1, number, tzinfo=datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    raws = {n: public_raw(private_key(n)) for n in (*ROOT_KEYS, *RELEASE_KEYS)}
    release = RELEASE_KEYS if number > 1 else RELEASE_KEYS[:1]
    ids = {n: store.key_id(raws[n]) for n in (*ROOT_KEYS, *release)}
    value = {
        "format": 1, "version": number, "signed": day, "expires": "2099-01-01T00:00:00Z",
        "keys": {ids[n]: base64.b64encode(raws[n]).decode() for n in ids},
        "roles": {
            "root": {"keys": sorted(ids[n] for n in ROOT_KEYS), "threshold": 2},
            "release": {"keys": sorted(ids[n] for n in release), "threshold": 1},
        },
    }  # fmt: skip
    payload = canonical(value)
    return canonical(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": dsse.ROOT_TYPE,
            "signatures": [
                {
                    "keyid": ids[n],
                    "sig": base64.b64encode(private_key(n).sign(dsse.pae(dsse.ROOT_TYPE, payload))).decode(),
                }
                for n in ROOT_KEYS
            ],
        }
    )


def rooted(device: Device) -> None:
    rotate.pin(root_metadata(1), root=device.root)
    device.install(version(1))


def rotating(device: Device, mark: Mark) -> None:
    rotate.update([root_metadata(2)], root=device.root)
    mark("root 2")
    rotate.update([root_metadata(3), root_metadata(4)], root=device.root)
    mark("root 4")


def root_is_kept(device: Device, marks: tuple[str, ...]) -> str:
    promised = int(marks[-1].split()[1]) if marks else 1
    trusted = rotate.current(root=device.root)
    if trusted is None:
        return "the root metadata is gone"
    keys = store.load_trusted(None, root=device.root)
    if len(keys) != (1 if trusted.version == 1 else 2):
        return "other keys are trusted than the root metadata says"
    return "" if trusted.version >= promised else f"root metadata {promised} was promised, {trusted.version} is there"


def rotate_again(device: Device) -> None:
    assert rotate.update([root_metadata(n) for n in range(rotate_from(device), 5)], root=device.root) == 4
    device.install(bundle(2, keys=(2,)))  # signed by the key that came with version 2


def rotate_from(device: Device) -> int:
    trusted = rotate.current(root=device.root)
    assert trusted is not None
    return trusted.version
