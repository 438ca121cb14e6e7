"""One QEMU process: started so that it outlives this one, found again by its number and start time, ended.

Everything is in the board's folder: `machine.json` (which process), `console.log` (what the board prints), `console`
(its serial port, a socket: "poweroff" is its power button), `qemu.log`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from edgec_runtime.errors import UnsupportedError
from edgec_toolchains.boards.virtual.image import Image

MEMORY = 768  # MiB
CORES = 2
START = 180.0  # seconds until it must answer by SSH: some five, on a machine that is not busy
OFF = 20.0  # seconds that it gets to shut down
UP = b"up after "  # guest/boot
_COMMAND_LINE = "console=ttyAMA0 quiet loglevel=4 panic=1 mitigations=off nokaslr"


def command(qemu: Path, image: Image, cpu: str, disk: str, port: int) -> list[str]:
    """QEMU's command line; it is to run in the board's folder. SSH comes in at 127.0.0.1:`port`, nothing goes out."""
    return [
        str(qemu), "-name", "edgec", "-M", "virt,gic-version=3", "-cpu", cpu, "-accel", "tcg,thread=multi,tb-size=256",
        "-smp", str(CORES), "-m", str(MEMORY), "-display", "none", "-monitor", "none", "-nodefaults", "-no-reboot",
        "-chardev", "socket,id=serial,path=console,server=on,wait=off,logfile=console.log,logappend=on",
        "-serial", "chardev:serial", "-kernel", str(image.kernel), "-initrd", "initramfs.gz", "-append", _COMMAND_LINE,
        "-drive", f"if=none,id=system,format=raw,readonly=on,file.locking=off,file={_quoted(image.system)}",
        "-device", "virtio-blk-pci,drive=system",
        "-drive", f"if=none,id=data,format=raw,cache=writeback,file={disk}", "-device", "virtio-blk-pci,drive=data",
        "-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22",
        "-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci",
    ]  # fmt: skip


def start(folder: Path, arguments: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start it in `folder`, in a session of its own: the end of this process or of its terminal is not its end."""
    with open(folder / "qemu.log", "wb") as log:
        process = subprocess.Popen(
            arguments, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    about = {"pid": process.pid, "started": _process(process.pid).create_time()}
    part = folder / "machine.json.part"
    part.write_text(json.dumps(about))
    part.replace(folder / "machine.json")
    return process


def wait(folder: Path, process: subprocess.Popen[bytes], port: int, *, timeout: float = START) -> float:
    """Wait until SSH answers; returns the seconds. Raises UnsupportedError (E1052) where it ends, or never does.

    It is not knocked at before its console says that it is up: QEMU would keep each knock, and hand all of them to
    Dropbear at once, which lets in five strangers of an address at a time.
    """
    begin = time.monotonic()
    while not (_up(folder) and answers(port)):
        if process.poll() is not None:
            raise _silent(folder, f"QEMU ended ({process.returncode}): {_last(folder / 'qemu.log')}")
        if time.monotonic() - begin > timeout:
            raise _silent(folder, f"no answer in {timeout:.0f} s: {_last(folder / 'console.log')}")
        time.sleep(0.05)
    return time.monotonic() - begin


def answers(port: int) -> bool:
    """Whether an SSH server greets there. QEMU itself takes connections before the board is up, so the word decides."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.settimeout(2)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _up(folder: Path) -> bool:
    """Whether the last thing that `guest/boot` says was said."""
    try:
        return UP in (folder / "console.log").read_bytes()
    except OSError:
        return False


def running(folder: Path) -> Any | None:
    """The process of the board in `folder` (psutil's), None where none runs. Another one of its number is not taken."""
    try:
        about = json.loads((folder / "machine.json").read_text())
        process = _process(int(about["pid"]))
        same = abs(process.create_time() - float(about["started"])) < 1
        return process if same and process.is_running() and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None


def shut_down(folder: Path, *, timeout: float = OFF) -> bool:
    """Press the power button and wait; False where it did not go off in time (or was off)."""
    process = running(folder)
    if process is None:
        return False
    with _pressed(folder):
        return _gone(folder, process, timeout)


def cut(folder: Path) -> bool:
    """Cut its power: what it had not flushed to its disk is gone. False where it was off."""
    process = running(folder)
    if process is None:
        return False
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
    return _gone(folder, process, 30)


def _process(number: int) -> Any:
    """psutil's process of a number; psutil has no types."""
    processes: Any = psutil
    return processes.Process(number)


def _gone(folder: Path, process: Any, timeout: float) -> bool:
    try:
        process.wait(timeout)
    except psutil.TimeoutExpired:
        return False
    (folder / "machine.json").unlink(missing_ok=True)
    return True


@contextlib.contextmanager
def _pressed(folder: Path) -> Iterator[None]:
    """Hold the power button: the serial port takes a byte at a time, and what is under way when it closes is lost.

    The socket's path may be longer than a socket's may be (108 bytes), so it is named from its open folder.
    """
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as serial:
            with contextlib.suppress(OSError):
                serial.settimeout(5)
                serial.connect(f"/proc/self/fd/{opened}/console")
                serial.sendall(b"poweroff\n")
            yield
    finally:
        os.close(opened)


def _quoted(path: Path) -> str:
    """A path in a list of QEMU's options, where a comma is doubled."""
    return str(path).replace(",", ",,")


def _last(path: Path) -> str:
    with contextlib.suppress(OSError):
        return " ".join(path.read_text(errors="replace").split())[-300:]
    return ""


def _silent(folder: Path, why: str) -> UnsupportedError:
    return UnsupportedError(
        "the virtual board does not start", why, f"See {folder}/console.log and qemu.log there.", code="E1052"
    )
