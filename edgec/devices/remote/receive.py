"""Runs on the device (`python3 - ACTION JSON`, this file on standard input): Python 3.9, standard library alone.

Actions, each of which prints one JSON object:
  state     what is there: {"current", "complete", "trusted"}
  unpack    unpack a device wheel into ROOT/runtime/ID, checked against its RECORD; put the trusted key, if one is given
  activate  make ROOT/runtime/current point to ID, and remove the versions before the one before
  discard   remove ROOT/runtime/ID, unless it is the current one
  unit      put the systemd unit that recovers after a power cut, where systemd is: {"unit", "enabled", "note"}

A power cut at any moment leaves the old version or the new one: everything is written beside its place, flushed, and
renamed; only the rename of the link `current` changes what runs.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import fcntl
import hashlib
import io
import json
import os
import shlex
import shutil
import site
import subprocess
import sys
import zipfile
from typing import Any

SYSTEMD = "/run/systemd/system"  # there where systemd runs the machine: sd_booted(3)
LINGER = "/var/lib/systemd/linger"
RECOVERS = "/etc/edgec/recovers"  # who builds a system without systemd writes here what runs `edgec-rt recover` at boot
SYSTEM_UNITS = "/etc/systemd/system"
UNIT = "edgec-recover.service"
LAUNCHER = """#!/bin/sh
# edgec-rt of `edgec devices setup`: the runtime that the link runtime/current points to.
[ -n "$EDGEC_ROOT" ] || EDGEC_ROOT={root}
export EDGEC_ROOT
export PYTHONPATH={site}"${{PYTHONPATH:+:$PYTHONPATH}}"
exec {python} -c 'import sys
sys.path[:] = filter(None, sys.path)
from edgec_runtime.cli import main
sys.exit(main())' "$@"
"""


def main(action: str, given: dict[str, Any]) -> dict[str, Any]:
    """Do one action under the root's lock."""
    root = given["root"]
    os.makedirs(os.path.join(root, "runtime"), exist_ok=True)
    with open(os.path.join(root, "lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        actions = {"state": state, "unpack": unpack, "activate": activate, "discard": discard, "unit": unit}
        return actions[action](root, given)


def state(root: str, given: dict[str, Any]) -> dict[str, Any]:
    """What is there; the folder for transfers is made."""
    runtime = os.path.join(root, "runtime")
    os.makedirs(os.path.join(root, "stage"), exist_ok=True)
    trust = os.path.join(root, "trust")
    return {
        "current": current(runtime),
        "complete": whole(os.path.join(runtime, given["id"])),
        "trusted": sorted(n[:-4] for n in os.listdir(trust) if n.endswith(".pem")) if os.path.isdir(trust) else [],
    }


def unpack(root: str, given: dict[str, Any]) -> dict[str, Any]:
    """Put a version beside the others, and the key that is to be trusted."""
    runtime = os.path.join(root, "runtime")
    final = os.path.join(runtime, given["id"])
    for name in os.listdir(runtime):  # of a setup that was cut off: we hold the lock
        if name.startswith("."):
            remove(os.path.join(runtime, name))
    fresh = not whole(final)
    if fresh:
        part = os.path.join(runtime, ".part-" + given["id"])
        extract(given["wheel"], part)
        if os.path.lexists(final):  # damaged
            os.rename(final, os.path.join(runtime, ".old-" + given["id"]))
        os.rename(part, final)
        sync(runtime)
        remove(os.path.join(runtime, ".old-" + given["id"]))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(given["wheel"])
    if given["key_id"]:
        write(os.path.join(root, "trust", given["key_id"] + ".pem"), given["pem"].encode(), 0o644)
    return {"folder": final, "fresh": fresh}


def activate(root: str, given: dict[str, Any]) -> dict[str, Any]:
    """Make a version the one that runs."""
    runtime = os.path.join(root, "runtime")
    before = current(runtime)
    if before != given["id"]:
        link = os.path.join(runtime, ".current")
        remove(link)
        os.symlink(given["id"], link)
        os.replace(link, os.path.join(runtime, "current"))
        sync(runtime)
        for name in os.listdir(runtime):
            if name not in ("current", before, given["id"]):
                remove(os.path.join(runtime, name))
    path = os.path.join(runtime, "current")
    quoted = {"root": shlex.quote(root), "site": shlex.quote(path), "python": shlex.quote(given["python"])}
    launcher = os.path.join(root, "bin", "edgec-rt")
    write(launcher, LAUNCHER.format(**quoted).encode(), 0o755)
    importable = ""
    if site.ENABLE_USER_SITE and given.get("importable", True):
        importable = os.path.join(site.getusersitepackages(), "edgec-runtime.pth")
        write(importable, (path + "\n").encode(), 0o644)
    return {"current": given["id"], "before": before, "launcher": launcher, "importable": importable}


def discard(root: str, given: dict[str, Any]) -> dict[str, Any]:
    """Take a version away that did not work."""
    runtime = os.path.join(root, "runtime")
    if current(runtime) != given["id"]:
        remove(os.path.join(runtime, given["id"]))
    return {"current": current(runtime)}


def unit(root: str, given: dict[str, Any]) -> dict[str, Any]:
    """Put and enable the unit: the system's for a root folder outside root's home, else the user's own.

    Enabling is the link that `systemctl enable` makes: it needs no systemd that answers. Done again it changes nothing.
    """
    if os.path.isfile(RECOVERS):
        with open(RECOVERS, encoding="utf-8", errors="replace") as file:
            return {"unit": file.readline(200).strip(), "enabled": True, "note": ""}
    if not os.path.isdir(SYSTEMD):
        note = "there is no systemd: have `edgec-rt recover` run when the device starts"
        return {"unit": "", "enabled": False, "note": note}
    text = given["units"]["system" if system(root) else "user"]
    folder = SYSTEM_UNITS
    if not system(root):
        folder = os.path.join(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "systemd", "user")
    path = os.path.join(folder, UNIT)
    write(path, text.encode(), 0o644)
    wanted = [line.split("=", 1)[1].split() for line in text.splitlines() if line.startswith("WantedBy=")]
    for target in [name for names in wanted for name in names]:
        link = os.path.join(folder, target + ".wants", UNIT)
        os.makedirs(os.path.dirname(link), exist_ok=True)
        if not os.path.islink(link) or os.readlink(link) != path:
            remove(link)
            os.symlink(path, link)
            sync(os.path.dirname(link))
    reload(system(root))
    note = ""
    if not system(root) and not os.path.exists(os.path.join(LINGER, name := user())):
        note = (
            "systemd starts it when you log in first; for it to run when the device starts, once and as root: "
            "loginctl enable-linger " + shlex.quote(name)
        )
    return {"unit": path, "enabled": bool(wanted), "note": note}


def system(root: str) -> bool:
    """True where the unit is the system's: root sets up a folder that is not in its own home."""
    home = os.path.realpath(os.path.expanduser("~"))
    return os.geteuid() == 0 and os.path.commonpath([home, os.path.realpath(root)]) != home


def user() -> str:
    """The user's login name."""
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


def reload(of_system: bool) -> None:
    """Let systemd read its units again. Where it does not answer it reads them at the next start."""
    command = ["systemctl", *([] if of_system else ["--user"]), "daemon-reload"]
    environment = {"XDG_RUNTIME_DIR": "/run/user/" + str(os.geteuid()), **os.environ}
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=5)


def extract(wheel: str, part: str) -> None:
    """Every file, held against the wheel's RECORD, with its bytecode, flushed."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (record,) = [name for name in names if name.endswith(".dist-info/RECORD")]
        digests = {row[0]: row[1] for row in csv.reader(io.StringIO(archive.read(record).decode("utf-8")))}
        if set(names) != set(digests):
            raise ValueError("the wheel's RECORD does not list its files")
        for name in names:
            path = os.path.join(part, name)
            if name.startswith("/") or ".." in name.split("/"):
                raise ValueError("the wheel has a file outside itself: " + name)
            data = archive.read(name)
            if name != record and digests[name] != digest(data):
                raise ValueError("a file of the wheel is not as its RECORD says: " + name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:  # in place: the whole folder is renamed when it is complete
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
    import compileall

    compileall.compile_dir(part, quiet=2, workers=1)  # the first start is then as fast as the next
    for folder, _, _ in os.walk(part, topdown=False):
        sync(folder)


def whole(folder: str) -> bool:
    """True where a version is there, each file as its RECORD says."""
    try:
        (info,) = [name for name in os.listdir(folder) if name.endswith(".dist-info")]
        with open(os.path.join(folder, info, "RECORD"), encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        for name, wanted, _ in rows:
            with open(os.path.join(folder, name), "rb") as file:
                if wanted and digest(file.read()) != wanted:
                    return False
        return bool(rows)
    except (OSError, ValueError):
        return False


def digest(data: bytes) -> str:
    """As RECORD has it."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def current(runtime: str) -> str:
    """The version that runs, or nothing."""
    try:
        return os.readlink(os.path.join(runtime, "current"))
    except OSError:
        return ""


def write(path: str, data: bytes, mode: int) -> None:
    """A file, whole or not at all, on the disk when this returns."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{os.getpid()}")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync(folder)


def sync(folder: str) -> None:
    """Flush a folder's entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: str) -> None:
    """Remove what there is at a path."""
    if os.path.islink(path) or os.path.isfile(path):
        os.unlink(path)
    else:
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], json.loads(sys.argv[2]))))
