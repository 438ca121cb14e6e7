"""A virtual board: a folder with its disk, its keys and what it is; on or off."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from edgec_runtime.errors import BadInputError, UsageError
from edgec_toolchains.boards.virtual import cpio, disk, keys, machine
from edgec_toolchains.boards.virtual.image import Image
from edgec_toolchains.boards.virtual.system import USER

DISK = 1 << 30  # bytes; a file with holes, so it takes what is written
CPUS = {
    "cortex-a53": "Cortex-A53: Raspberry Pi 3, Zero 2 W",
    "cortex-a72": "Cortex-A72: Raspberry Pi 4",
    "neoverse-n1": "Neoverse N1, dot products: as Cortex-A76, Raspberry Pi 5",
}
"""QEMU's names of the cores that can be had -> for people."""


@dataclass(frozen=True)
class VirtualBoard:
    """A board that is there.

    Attributes:
        folder: everything of it.
        name: its host name.
        cpu: one of `CPUS`.
        port: where its SSH server listens on 127.0.0.1, when it is on.
    """

    folder: Path
    name: str
    cpu: str
    port: int

    @property
    def user(self) -> str:
        """Who logs in."""
        return USER

    @property
    def client_key(self) -> Path:
        """The private key that may log in."""
        return self.folder / "client_key"

    @property
    def host_key(self) -> str:
        """The public host key, as known_hosts has it."""
        return (self.folder / "host_key.pub").read_text().strip()

    @property
    def disk(self) -> Path:
        """Its data disk."""
        return self.folder / "disk.ext4"

    @property
    def on(self) -> bool:
        """Whether it runs."""
        return machine.running(self.folder) is not None

    def start(self, image: Image) -> float:
        """Switch it on; returns the seconds until it answered by SSH, 0.0 where it was on.

        Raises UnsupportedError (E1052) where it does not start, MissingError (E1050) where no QEMU runs here. A port
        that somebody took meanwhile is replaced: use `open` again.
        """
        if self.on:
            return 0.0
        port = self.port if _free(self.port) else _any_port()
        if port != self.port:
            _write(self.folder, self.name, self.cpu, port)
        own = cpio.archive(
            {
                "board/name": cpio.file(f"{self.name}\n".encode()),
                "board/host_key": cpio.file((self.folder / "host_key").read_bytes(), 0o600),
                "board/authorized_keys": cpio.file((self.folder / "client_key.pub").read_bytes()),
            }
        )
        (self.folder / "initramfs.gz").write_bytes(image.initramfs.read_bytes() + own)
        (self.folder / "console.log").unlink(missing_ok=True)
        (self.folder / "console").unlink(missing_ok=True)
        qemu, environment = image.tools.qemu()
        arguments = machine.command(qemu, image, self.cpu, self.disk.name, port)
        process = machine.start(self.folder, arguments, environment)
        try:
            return machine.wait(self.folder, process, port)
        except BaseException:
            machine.cut(self.folder)
            raise

    def stop(self) -> bool:
        """Shut it down; after `machine.OFF` seconds its power is cut. True where it was on."""
        return machine.shut_down(self.folder) or machine.cut(self.folder)

    def power_cut(self) -> bool:
        """Cut its power: what was not flushed to its disk is lost. True where it was on."""
        return machine.cut(self.folder)


def create(folder: Path, image: Image, *, name: str, cpu: str = "cortex-a72") -> VirtualBoard:
    """Make a board in a new folder, with fresh keys and an empty disk. Raises UsageError (E1054) for an unknown CPU."""
    if cpu not in CPUS:
        raise UsageError(f"no virtual board has a {cpu!r}", f"there are {', '.join(CPUS)}", "Take one.", code="E1054")
    import asyncssh

    folder = folder.absolute()
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True, mode=0o700)
    try:
        private, public = keys.generate()
        client = asyncssh.generate_private_key("ssh-ed25519", comment=f"edgec-{name}")
        for file, data in (("host_key", private), ("client_key", client.export_private_key())):
            (part / file).touch(0o600)
            (part / file).write_bytes(data)
        (part / "host_key.pub").write_text(f"{public}\n")
        (part / "client_key.pub").write_bytes(client.export_public_key())
        disk.data(image.tools, part / "disk.ext4", DISK)
        _write(part, name, cpu, _any_port())
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return open(folder)


def open(folder: Path) -> VirtualBoard:
    """The board of a folder. Raises BadInputError (E1055) where there is none."""
    try:
        about = json.loads((folder / "board.json").read_text())
        return VirtualBoard(folder.absolute(), str(about["name"]), str(about["cpu"]), int(about["port"]))
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise BadInputError(
            f"{folder} holds no virtual board", str(e), "edgec devices virtual remove NAME, then start it anew.",
            code="E1055",
        ) from e  # fmt: skip


def _write(folder: Path, name: str, cpu: str, port: int) -> None:
    part = folder / "board.json.part"
    part.write_text(json.dumps({"format": 1, "name": name, "cpu": cpu, "port": port}) + "\n")
    part.replace(folder / "board.json")


def _any_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
