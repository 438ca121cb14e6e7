"""A bundle into an image: the mounted root file system of an SD card, whose board is not there to be asked.

What a device does when a bundle comes in is done here, by the same code, into DIR/var/lib/edgec: signature against the
image's own trust, every member by its hash, the slot, then the state that puts it on trial. The trial itself is the
board's: `edgec-rt recover` makes it at the first boot. Which of the bundle's payloads the board can use is not known;
those for the architecture of the image's programs are kept, and the board takes the one that its CPU has.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgec.errors import BadInputError, MissingError, UnsupportedError
from edgec.flash.plan import Package
from edgec_runtime import elf
from edgec_runtime.bundle.reader import CHUNK
from edgec_runtime.slots import admission, files, incoming, locks, store
from edgec_runtime.trust import rotate
from edgec_runtime.trust import store as trust_

ROOT = "var/lib/edgec"
PROGRAMS = ("bin/sh", "usr/bin/sh", "bin/busybox", "lib/ld-linux-aarch64.so.1", "lib64/ld-linux-x86-64.so.2")
LINKS = 40  # that one path may go through, as Linux has it (path_resolution(7))


@dataclass(frozen=True)
class Imaged:
    """What is in the image now.

    Attributes:
        image, root: the folders; app, version, identity: what is on trial there; slot: where.
        arch: of the image's programs; payloads: ids that are kept.
        written: bytes that went into the store; needed: bytes of the members.
        unchanged: it was there already.
        runtime: whether the image has edgec's runtime; unit: the file that starts `edgec-rt recover` at boot, or empty.
    """

    image: str
    root: str
    app: str
    version: str
    identity: str
    slot: str
    arch: str
    payloads: list[str]
    written: int
    needed: int
    unchanged: bool
    runtime: bool
    unit: str

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


class _Image(incoming.Incoming):
    """Hooks are the board's: on this machine none of them is run. They come with the trial."""

    def _hooks(self, point: str) -> None:
        pass


def write(
    package: Package, folder: str | Path, *, app: str | None = None, trust: str | Path | None = None,
    confirm: str = "auto", deadline: float = 60.0,
) -> Imaged:  # fmt: skip
    """Put a bundle on trial in an image.

    Args:
        package: the opened bundle.
        folder: the image's root file system, mounted.
        app: its name there; None for its own.
        trust: a key (.pem) or root metadata (root.N.dsse) that the image shall trust from now on.
        confirm, deadline: as `Options` has them.

    Raises:
        BadInputError: E958, the folder is no root file system; E906, it is full.
        UnsupportedError: E958, it is of 32 bits, or the bundle has nothing for its architecture.
        MissingError: E1046, the image trusts nobody yet. TrustError: it does not trust the bundle.
        UsageError: E201, the folder can't be written.
    """
    base = Path(folder)
    if base.resolve() == Path("/"):
        raise _none(base, "it is this machine")
    if package.manifest.get("encryption") is not None:
        raise UnsupportedError(
            "an encrypted bundle can't go into an image",
            "its key is wrapped for the board's own, which the board makes itself",
            "Flash it by --on once the board has booted.",
            code="E958",
        )
    arch = architecture(base)
    where = inside(base, ROOT)
    if where is None:
        raise _none(base, f"{ROOT} leads out of it")
    root = str(where)
    entries = _for(package.manifest, arch)
    with locks.writing(root):
        files.make_folders(os.path.join(root, "stage"))
        files.make_folders(store.folder(root))
        if trust is not None:
            _trust(root, Path(trust))
        signed = admission.signed(package.envelope, _trusted(root, base), root)
        held = locks.acquire(os.path.join(root, "stage", "lock"), locks.WAIT)
        if held is None:
            raise locks.busy(root, "something else is being written into this image")
    try:
        coming = _Image(root, app or package.app, package.envelope, signed, entries, None, held)
    except BaseException:
        os.close(held)
        raise
    with coming:
        for member in coming.members:
            _copy(coming, package, member)
        if not coming.unchanged:
            coming.commit(confirm=confirm, deadline=deadline)
        return Imaged(
            image=str(base), root=root, app=coming.name, version=package.version, identity=package.identity,
            slot=coming.slot, arch=arch, payloads=[entry["id"] for entry in entries], written=coming.written,
            needed=sum(member.size for member in coming.members), unchanged=coming.unchanged,
            runtime=os.path.lexists(os.path.join(root, "bin", "edgec-rt")), unit=_unit(base),
        )  # fmt: skip


def architecture(base: Path) -> str:
    """The architecture of an image's programs, read from its shell. Raises BadInputError or UnsupportedError (E958)."""
    for name in PROGRAMS:
        path = inside(base, name)
        if path is None or not path.is_file():
            continue
        with path.open("rb") as file:
            head = file.read(20)
        if len(head) < 20 or head[:4] != b"\x7fELF" or head[5] != 1:  # a script, or a big-endian machine
            continue
        number = int.from_bytes(head[18:20], "little")  # e_machine
        machine = elf.MACHINES.get(number, str(number))
        if head[4] != 2:
            raise UnsupportedError(
                f"the programs in {base} are of 32 bits ({machine})",
                "edgec's engines are for 64 bits",
                "Take the 64-bit image of that system.",
                code="E958",
            )
        return machine
    raise _none(base, f"it has none of {', '.join(PROGRAMS)}")


def inside(base: Path, name: str) -> Path | None:
    """A path in an image, its links followed as the board would: an absolute one starts at the image's own root.

    None where a link leads on and on. `..` stops at the image's root, as it does after chroot(2).
    """
    parts, at, links = name.split("/")[::-1], base, 0
    while parts:
        part = parts.pop()
        if part in ("", "."):
            continue
        if part == "..":
            at = at.parent if at != base else base
            continue
        if (at / part).is_symlink():
            links += 1
            if links > LINKS:
                return None
            target = os.readlink(at / part)
            at = base if target.startswith("/") else at
            parts += target.split("/")[::-1]
        else:
            at = at / part
    return at


def _for(manifest: Mapping[str, Any], arch: str) -> list[Mapping[str, Any]]:
    """The payloads for an architecture; where there are none, the portable ones. Raises UnsupportedError (E958)."""
    own = [entry for entry in manifest["payloads"] if entry["arch"] == arch]
    found = own or [entry for entry in manifest["payloads"] if entry["portable"] and not entry["native_code"]]
    if not found:
        have = ", ".join(sorted({entry["arch"] for entry in manifest["payloads"]}))
        raise UnsupportedError(
            f"the bundle has nothing for {arch}", f"its payloads are for {have}",
            "Compile it for the board too: edgec compile model.onnx -t BOARD", code="E958",
        )  # fmt: skip
    return found


def _trust(root: str, path: Path) -> None:
    """Put a key or root metadata into the image. Raises BadInputError, and TrustError where another root is there."""
    try:
        data = path.read_bytes()
    except OSError as e:
        raise BadInputError(f"can't read {path}", str(e), "", code="E959") from e
    if data.lstrip().startswith(b"{"):
        rotate.pin(data, root=root)
        return
    raw = trust_.parse_pem(data, str(path))
    files.make_folders(os.path.join(root, "trust"))
    target = os.path.join(root, "trust", f"{trust_.key_id(raw)}.pem")
    files.write_atomic(target, trust_.to_pem(raw), os.path.join(root, "stage"))


def _trusted(root: str, base: Path) -> trust_.Trusted:
    found = trust_.load_trusted(None, root=root)
    if not found:
        raise MissingError(
            f"the image {base} trusts nobody", f"there is neither a key nor root metadata in {root}/trust",
            "--trust-root FILE puts it there: root.N.dsse, or your public key (edgec keys list).", code="E1046",
        )  # fmt: skip
    return found


def _copy(coming: incoming.Incoming, package: Package, member: incoming.Member) -> None:
    if member.have >= member.size:
        return
    data = package.data(member.sha256)
    assert data is not None  # it is of the package's own manifest
    at = member.have
    while at < member.size:
        at = coming.append(member.sha256, at, bytes(data[at : at + CHUNK]))
    coming.finish(member.sha256)


def _unit(base: Path) -> str:
    """The unit that runs `edgec-rt recover` at boot, where the image has one."""
    for folder in ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"):
        path = inside(base, f"{folder}/edgec-recover.service")
        if path is not None and path.is_file():
            return str(path)
    return ""


def _none(base: Path, why: str) -> BadInputError:
    return BadInputError(
        f"{base} is no root file system of a board", why,
        "Name the folder where the card's root file system is mounted.", code="E958",
    )  # fmt: skip
