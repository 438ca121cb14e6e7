"""Programs of the device that are cut in the crash laboratory: updates, rollbacks, recovery, collection, removal."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from edgec_runtime.slots import collect, files, incoming, locks
from tests.flash.crash_device import Bundle, Device, bundle, garbage, wrong

Mark = Callable[[str], None]
Versions = set[int | None]
OTHER = "left"  # another app on the same device


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
