"""Mounts and loop devices by system calls, in a mount namespace of this process's own, so that nothing outlives it."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NOSUID_NODEV = 2 | 4
_DETACH = 2  # MNT_DETACH
_PRIVATE = 1 << 18 | 1 << 14  # MS_PRIVATE | MS_REC
_CLONE_NEWNS = 0x20000
_CTL_GET_FREE, _SET_FD, _SET_STATUS64, _CLR_FD, _SET_DIRECT_IO = 0x4C82, 0x4C00, 0x4C04, 0x4C01, 0x4C08
_AUTOCLEAR = 4
_FLUSH_BUFFERS = 0x1261  # BLKFLSBUF
_STATUS64_SIZE, _FLAGS_AT = 232, 52  # struct loop_info64: its size, where lo_flags is (bytes)
_libc = ctypes.CDLL(None, use_errno=True)


def obstacle() -> str:
    """Why this machine can't run the laboratory; empty where it can."""
    if os.geteuid() != 0:
        return "mounting needs root"
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(device):
            return f"there is no {device}"
    if shutil.which("mke2fs") is None:
        return "there is no mke2fs (e2fsprogs)"
    child = os.fork()
    if child == 0:
        try:
            isolate()
        except OSError:
            os._exit(1)
        os._exit(0)
    return "this process may not mount (CAP_SYS_ADMIN)" if os.waitpid(child, 0)[1] else ""


def isolate() -> None:
    """Give this process mounts of its own: they vanish with it, and nobody else sees them. Raises OSError."""
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    _check(_libc.mount(b"none", b"/", None, ctypes.c_ulong(_PRIVATE), None), "mount")


def mount(source: str, target: Path, kind: str, options: str = "", *, flags: int = 0) -> None:
    """mount(2), without devices and set-user-id programs. Raises OSError."""
    bits = ctypes.c_ulong(_NOSUID_NODEV | flags)
    arguments = (source.encode(), os.fsencode(target), kind.encode(), bits, options.encode())
    _check(_libc.mount(*arguments), f"mount -t {kind} -o {options} {source} {target}")


def unmount(target: Path, *, lazily: bool = False) -> None:
    """umount(2); lazily, whoever uses it still. Raises OSError."""
    _check(_libc.umount2(os.fsencode(target), _DETACH if lazily else 0), f"umount {target}")


def mount_fuse(target: Path) -> int:
    """Mount a FUSE file system whose root is a file over the file `target`; the descriptor that its requests come from.

    Raises OSError.
    """
    channel = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        mount("crashlab", target, "fuse", f"fd={channel},rootmode=100000,user_id=0,group_id=0")
    except BaseException:
        os.close(channel)
        raise
    return channel


def attach(file: Path, *, direct: bool = False) -> tuple[str, int]:
    """A loop device of a file and a descriptor that holds it: it goes when the last user closes it.

    Args:
        file: what the device reads and writes.
        direct: past the page cache.

    Raises OSError where there is none.
    """
    backing = os.open(file, os.O_RDWR | os.O_CLOEXEC | (os.O_DIRECT if direct else 0))
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(200):  # somebody else may take the free one first
            path = f"/dev/loop{fcntl.ioctl(control, _CTL_GET_FREE)}"
            try:
                device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # udev has not made it yet
            try:
                fcntl.ioctl(device, _SET_FD, backing)
            except OSError as taken:
                os.close(device)
                if taken.errno != errno.EBUSY:
                    raise
                continue
            info = bytearray(_STATUS64_SIZE)
            struct.pack_into("<I", info, _FLAGS_AT, _AUTOCLEAR)
            fcntl.ioctl(device, _SET_STATUS64, info)
            if direct:
                fcntl.ioctl(device, _SET_DIRECT_IO, 1)
            return path, device
        raise OSError(errno.EBUSY, "no loop device is free")
    finally:
        os.close(control)
        os.close(backing)


@contextmanager
def mounted(image: Path, target: Path, kind: str, options: str = "") -> Iterator[None]:
    """An image file, mounted. Raises OSError."""
    device, held = attach(image)
    try:
        with mounted_device(device, target, kind, options):
            yield
    finally:
        os.close(held)


@contextmanager
def mounted_device(device: str, target: Path, kind: str, options: str = "") -> Iterator[None]:
    """A block device, mounted. Raises OSError."""
    mount(device, target, kind, options)
    try:
        yield
    finally:
        unmount(target)


def forget(device: int) -> None:
    """Drop what the kernel holds of a device's content: its file was written beneath it. Raises OSError."""
    fcntl.ioctl(device, _FLUSH_BUFFERS)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
