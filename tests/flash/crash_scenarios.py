"""What is cut: a program of the device each, what was there before, which version is due after which promise."""

from __future__ import annotations

import base64
import datetime
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from edgec_runtime.bundle import dsse
from edgec_runtime.errors import TrustError
from edgec_runtime.sealed import device_key
from edgec_runtime.slots import collect, files, incoming, locks
from edgec_runtime.trust import rotate, store
from tests.flash.crash_device import Bundle, Device, bundle, garbage, wrong
from tests.runtime.conftest import canonical, private_key, public_raw

Mark = Callable[[str], None]
Versions = set[int | None]
OTHER = "left"  # another app on the same device


def nothing(device: Device, marks: tuple[str, ...]) -> str:
    return ""


@dataclass(frozen=True)
class Scenario:
    """A program that is cut.

    Attributes:
        prepare: what is on the device before.
        run: the program; it marks what it has promised.
        allowed: by the last promise, "" before the first: the versions of which one must be current after recovery.
        again: what the user does next; it must work in whatever state.
        end: the version that is current after that.
        also: what else must hold after recovery; returns what is wrong.
        restarted: whether the device starts anew between the two, as it does where the program is `recover`.
    """

    prepare: Callable[[Device], None]
    run: Callable[[Device, Mark], None]
    allowed: Mapping[str, Versions]
    again: Callable[[Device], Any]
    end: Versions
    also: Callable[[Device, tuple[str, ...]], str] = field(default=nothing)
    restarted: bool = False


@cache
def version(number: int, good: bool = True) -> Bundle:
    return bundle(number, good=good)


def with_versions(*numbers: int) -> Callable[[Device], None]:
    def prepare(device: Device) -> None:
        device.trust_key()
        for number in numbers:
            device.install(version(number))

    return prepare


def installing(number: int, good: bool = True, **how: Any) -> Callable[[Device, Mark], None]:
    def run(device: Device, mark: Mark) -> None:
        device.transfer(version(number, good), **how)
        mark("acknowledged")
        mark(device.trial().result)

    return run


def then_install(number: int) -> Callable[[Device], Any]:
    return lambda device: device.install(version(number))


# --- those that need more than a line


def left_on_trial(number: int, good: bool = True, **how: Any) -> Callable[[Device], None]:
    def prepare(device: Device) -> None:
        with_versions(1)(device)
        device.transfer(version(number, good), **how)

    return prepare


def on_probation(device: Device) -> None:
    left_on_trial(2, confirm="manual")(device)
    assert device.trial().result == "probation"


def half_sent(device: Device) -> None:
    with_versions(1)(device)
    send_half(device)


def send_half(device: Device) -> None:
    sent = version(2)
    with incoming.begin(sent.envelope, root=device.root) as coming:
        for member in coming.members:
            if member.have == 0:
                coming.append(member.sha256, 0, sent.members[member.sha256][: member.size // 2])


def resume(device: Device, mark: Mark) -> None:
    send_half(device)
    installing(2)(device, mark)


def recovering(device: Device, mark: Mark) -> None:
    device.recover()
    mark("recovered")


def rolling_back(device: Device, mark: Mark) -> None:
    device.rollback()
    mark("rolled back")


def roll_back_if_new(device: Device) -> None:
    if device.current() != 1:
        device.rollback()


def decide_then_install(device: Device) -> None:
    if device.state().phase == "probation":
        device.rollback()
    device.install(version(3))


def confirming(device: Device, mark: Mark) -> None:
    device.confirm()
    mark("confirmed")


def confirm_if_due(device: Device) -> None:
    if device.state().phase == "none" and device.current() == 1:
        device.install(version(2), confirm="manual")
    if device.state().phase == "probation":
        device.confirm()


def told_why(device: Device, marks: tuple[str, ...]) -> str:
    return "" if not marks or device.status()["why"] else "the status does not say why the update was undone"


def litter(device: Device) -> None:
    with_versions(1, 2, 3)(device)  # nobody refers to version 1 any more
    for number in range(3):
        name = store_name(device, f"nobody {number}")
        name.write_bytes(b"nobody needs this" * 500)
    (device.root / "apps" / "unborn" / "slots" / "a").mkdir(parents=True)
    (device.root / "apps" / "unborn" / "slots" / "a" / "ready.json").write_bytes(b"{}")
    (device.root / "stage" / ".state.4711.tmp").write_bytes(b"half")


def store_name(device: Device, text: str) -> Path:
    import hashlib

    return device.root / "store" / "sha256" / hashlib.sha256(text.encode()).hexdigest()


def both_on_trial(device: Device) -> None:
    left_on_trial(2)(device)
    device.install(version(1), app=OTHER)
    device.transfer(version(2, good=False), app=OTHER)


def other_went_back(device: Device, marks: tuple[str, ...]) -> str:
    return wrong(device, OTHER) or ("" if device.current(OTHER) == 1 else "the other app's bad version is current")


def collecting(device: Device, mark: Mark) -> None:
    with locks.writing(str(device.root)):  # as all who call it do
        device.collect()
    mark("collected")


def is_clean(device: Device) -> str:
    kept, collect.STALE = collect.STALE, -1.0  # as it is a week later
    try:
        device.collect()
    finally:
        collect.STALE = kept
    left = garbage(device)
    return f"collection leaves {left}" if left else ""


def two_apps(device: Device) -> None:
    with_versions(1, 2)(device)
    device.install(version(2), app=OTHER)


def removing(device: Device, mark: Mark) -> None:
    device.remove()
    mark("removed")


def other_is_there(device: Device, marks: tuple[str, ...]) -> str:
    return "" if device.current(OTHER) == 2 else "the other app is gone"


def cramped(device: Device, mark: Mark) -> None:
    """Room for the new version is only there once the inactive slot was given up."""
    real = files.free_bytes
    before = sum(path.stat().st_size for path in (device.root / "store").rglob("*"))
    files.free_bytes = lambda path: 72_000 + before - sum(p.stat().st_size for p in (device.root / "store").rglob("*"))
    try:
        installing(3)(device, mark)
    finally:
        files.free_bytes = real


def patching(device: Device, mark: Mark) -> None:
    """The new version's members as patches of the old one's, where the device has one of the same kind."""
    old, new = version(1), version(2)
    with incoming.begin(new.envelope, root=device.root) as coming:
        for member in coming.members:
            if member.have == 0:
                base = min(old.members, key=lambda digest: abs(len(old.members[digest]) - member.size))
                coming.patch(member.sha256, base, io.BytesIO(patch_of(old.members[base], new.members[member.sha256])))
                coming.finish(member.sha256)
        coming.commit()
    mark("acknowledged")
    mark(device.trial().result)


@cache
def patch_of(old: bytes, new: bytes) -> bytes:
    from edgec.flash import delta

    return delta.encode(old, new)


# --- trust: the floor, the root metadata, the device's own key


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


SCENARIOS: dict[str, Scenario] = {
    "first install": Scenario(
        with_versions(), installing(1), {"": {None, 1}, "acknowledged": {1}, "committed": {1}}, then_install(1), {1}
    ),
    "update": Scenario(
        with_versions(1), installing(2), {"": {1, 2}, "acknowledged": {2}, "committed": {2}}, then_install(2), {2}
    ),
    "third version": Scenario(
        with_versions(1, 2), installing(3), {"": {2, 3}, "acknowledged": {3}, "committed": {3}}, then_install(3), {3}
    ),
    "resumed transfer": Scenario(
        with_versions(1), resume, {"": {1, 2}, "acknowledged": {2}, "committed": {2}}, then_install(2), {2}
    ),
    "update that fails": Scenario(
        with_versions(1), installing(2, good=False), {"": {1}, "acknowledged": {1}, "rolled-back": {1}},
        then_install(3), {3}, told_why,
    ),
    "first install that fails": Scenario(
        with_versions(), installing(1, good=False), {"": {None}, "acknowledged": {None}, "rolled-back": {None}},
        then_install(1), {1}, told_why,
    ),
    "manual rollback": Scenario(
        with_versions(1, 2), rolling_back, {"": {1, 2}, "rolled back": {1}}, roll_back_if_new, {1}
    ),
    "probation": Scenario(
        with_versions(1), installing(2, confirm="manual", deadline=60.0),
        {"": {1, 2}, "acknowledged": {2}, "probation": {2}}, confirm_if_due, {2},
    ),
    "confirmation": Scenario(on_probation, confirming, {"": {2}, "confirmed": {2}}, confirm_if_due, {2}),
    "rollback of a probation": Scenario(
        on_probation, rolling_back, {"": {1, 2}, "rolled back": {1}}, decide_then_install, {3}
    ),
    "recovery": Scenario(
        left_on_trial(2), recovering, {"": {2}, "recovered": {2}}, then_install(2), {2}, restarted=True
    ),
    "recovery that undoes": Scenario(
        left_on_trial(2, good=False), recovering, {"": {1}, "recovered": {1}}, then_install(3), {3}, told_why,
        restarted=True,
    ),
    "recovery of two apps": Scenario(
        both_on_trial, recovering, {"": {2}, "recovered": {2}}, then_install(3), {3}, other_went_back, restarted=True
    ),
    "recovery of a probation": Scenario(
        on_probation, recovering, {"": {2}, "recovered": {2}}, confirm_if_due, {2}, restarted=True,
    ),
    "recovery of half a transfer": Scenario(
        half_sent, recovering, {"": {1}, "recovered": {1}}, then_install(2), {2}, restarted=True,
    ),
    "collection": Scenario(
        litter, collecting, {"": {3}, "collected": {3}}, lambda device: device.rollback(), {2}
    ),
    "removal": Scenario(
        two_apps, removing, {"": {None, 2}, "removed": {None}}, then_install(3), {3}, other_is_there
    ),
    "room made": Scenario(
        with_versions(1, 2), cramped, {"": {2, 3}, "acknowledged": {3}, "committed": {3}}, then_install(3), {3}
    ),
    "delta": Scenario(
        with_versions(1), patching, {"": {1, 2}, "acknowledged": {2}, "committed": {2}}, then_install(2), {2}
    ),
    "security floor": Scenario(
        with_versions(1), raising_the_floor, {"": {1, 2}, "acknowledged": {2}, "committed": {2}},
        remove_and_try_the_old, {3}, floor_is_kept,
    ),
    "pinning": Scenario(with_versions(1), pinning, {"": {1}, "pinned": {1}}, pin_again, {2}, somebody_is_trusted),
    "device key": Scenario(with_versions(1), making_a_key, {"": {1}, "key": {1}}, key_again, {2}, key_is_kept),
    "key rotation": Scenario(
        rooted, rotating, {"": {1}, "root 2": {1}, "root 4": {1}}, rotate_again, {2}, root_is_kept
    ),
}  # fmt: skip
