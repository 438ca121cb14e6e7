"""SSH settings of boards that edgec made itself: one file a host, `ssh/<host>.conf` in edgec's configuration folder.

A host that has such a file is reached by it alone. Nothing of ~/.ssh/config is read for it, or changed: neither a jump
host of `Host *` nor another known_hosts file gets in between, and the user's file stays the user's. OpenSSH reads them
too: `ssh -F FILE HOST`.
"""

from __future__ import annotations

from pathlib import Path

from edgec.devices import inventory

PREFIX = "edgec-"
"""How the host names of virtual boards begin: a name of ~/.ssh/config is not hidden by one."""


def config(host: str) -> Path | None:
    """The file of a host; None where edgec has none for it."""
    path = _path(host)
    return path if host.startswith(PREFIX) and path.is_file() else None


def write(host: str, *, port: int, user: str, key: Path, host_key: str) -> Path:
    """Write the file, and a known_hosts file of its own beside it.

    Args:
        host: its name; it begins with `PREFIX`.
        port: on 127.0.0.1. user: who logs in. key: the private key that may.
        host_key: "ssh-ed25519 AAAA…".
    """
    path = _path(host)
    path.parent.mkdir(parents=True, exist_ok=True)
    known = path.with_suffix(".known_hosts")
    _replace(known, f"[127.0.0.1]:{port} {host_key}\n")
    _replace(
        path,
        f"Host {host}\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n  IdentityFile {_quoted(key)}\n"
        f"  IdentitiesOnly yes\n  StrictHostKeyChecking yes\n  UserKnownHostsFile {_quoted(known)}\n",
    )
    return path


def remove(host: str) -> None:
    """Remove both files, where they are."""
    for suffix in (".conf", ".known_hosts"):
        _path(host).with_suffix(suffix).unlink(missing_ok=True)


def _path(host: str) -> Path:
    return inventory.path().parent.absolute() / "ssh" / f"{host}.conf"


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.replace(path)


def _quoted(path: Path) -> str:
    return f'"{path}"' if " " in str(path) else str(path)
