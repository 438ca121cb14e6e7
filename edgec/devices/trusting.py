"""Which hosts are who they say: known_hosts as OpenSSH reads it, and the sentence for a host that is not in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.devices.address import Address
from edgec.errors import UnreachableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

SYSTEM = Path("/etc/ssh/ssh_known_hosts")
STANDARD_PORT = 22


def known_hosts(options: Any) -> bytes:
    """The text of all known_hosts files that ~/.ssh/config names for a host, else of the usual ones.

    Raises UsageError (E214) where the configuration says that there are none: asyncssh would take that as "trust
    every host". A file that is not there counts as empty.
    """
    named = options.known_hosts
    if named is None:
        raise UsageError(
            "~/.ssh/config switches the check of host keys off (UserKnownHostsFile none)",
            "who answers at that address could read and change all that is sent",
            "Name a known_hosts file there.",
            code="E214",
        )
    paths: Sequence[Path] = [Path(str(name)).expanduser() for name in named] or [
        Path("~/.ssh/known_hosts").expanduser(), SYSTEM,
    ]  # fmt: skip
    return b"\n".join(path.read_bytes() for path in paths if path.is_file())


def not_trusted(address: Address, options: Any, known: bytes, fingerprint: str | None) -> UnreachableError:
    """The error for a host whose key is not, or is not as, in known_hosts."""
    import asyncssh

    host, port = str(options.host or address.host), int(options.port or STANDARD_PORT)
    where = host if port == STANDARD_PORT else f"[{host}]:{port}"
    before: Sequence[Any] = asyncssh.match_known_hosts(known, str(options.host_key_alias or host), "", port)[0]
    said = f" (it shows {fingerprint})" if fingerprint else ""
    if before:
        return UnreachableError(
            f"{address} has another host key than known_hosts says{said}",
            "It was set up anew, or somebody sits in between.",
            f"If you set it up anew: ssh-keygen -R '{where}', then connect with ssh and compare the fingerprint.",
            code="E1102",
        )
    return UnreachableError(
        f"the host key of {address} is not known{said}",
        "No known_hosts file has it, so nobody can tell whether this is your device.",
        f"Connect once with '{address.command}', compare the fingerprint with that of `ssh-keygen -lf "
        "/etc/ssh/ssh_host_ed25519_key.pub` on the device, and say yes.",
        code="E1101",
    )
