"""What time it is for a device that may have no clock: never before the last time that somebody trusted has signed.

`trust/time` holds that time. Boards without a battery start in 1970, or when their image was made; a clock that is set
back must not bring back what has expired. A clock that runs ahead is believed, but never remembered: one bad answer of
a time server would block a device for ever.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from edgec_runtime import root as root_
from edgec_runtime.errors import TrustError
from edgec_runtime.trust import when
from edgec_runtime.trust.store import Trusted

MAX_FILE = 64  # bytes


def now(trusted: Mapping[str, bytes] | None = None, *, root: str | os.PathLike[str] | None = None) -> int:
    """Seconds since 1970: the system's clock, or the last signed time that is known where that is later.

    That is what `trust/time` says, or when the root metadata was signed that these trusted keys come from.
    """
    signed = trusted.signed if isinstance(trusted, Trusted) else None
    return max(int(time.time()), seen(root=root), 0 if signed is None else when.parse(signed))


def seen(*, root: str | os.PathLike[str] | None = None) -> int:
    """The last signed time that was seen, in seconds since 1970; 0 where there is none, or none that can be read."""
    try:
        with open(_path(root_.find(root)), "rb") as file:
            return when.parse(file.read(MAX_FILE).decode("ascii").rstrip("\n"))
    except (OSError, ValueError):
        return 0


def saw(signed: str, *, root: str | os.PathLike[str] | None = None) -> None:
    """Remember a signed time (`when.FORM`) where it is later than the one before. Raises OSError."""
    from edgec_runtime.slots import files

    where = root_.find(root)
    if when.parse(signed) > seen(root=where):
        stage = os.path.join(where, "stage")
        files.make_folders(stage)
        files.make_folders(os.path.dirname(_path(where)))
        files.write_atomic(_path(where), signed.encode() + b"\n", stage)


def refuse_expired(
    manifest: Mapping[str, Any], trusted: Mapping[str, bytes], *, root: str | os.PathLike[str] | None = None
) -> None:
    """Raise TrustError (E513) where the root metadata or the bundle has expired. For new installations only.

    What is installed starts and runs for ever: a device that nobody can reach must not stop because of a date.
    """
    refuse_expired_root(trusted, root=root)
    expires = manifest["app"].get("expires")
    if expires is not None and when.parse(expires) <= now(trusted, root=root):
        raise TrustError(
            f"the bundle expired on {expires}",
            f"it is {when.text(now(trusted, root=root))} here; its maker let it be installed until then",
            "install a newer version, or set this device's clock if it is wrong",
            code="E513",
        )


def refuse_expired_root(trusted: Mapping[str, bytes], *, root: str | os.PathLike[str] | None = None) -> None:
    """Raise TrustError (E513) where the keys come from root metadata that has expired."""
    expires = trusted.expires if isinstance(trusted, Trusted) else None
    if expires is not None and when.parse(expires) <= now(trusted, root=root):
        raise TrustError(
            f"this device's root metadata expired on {expires}",
            f"it is {when.text(now(trusted, root=root))} here; its keys may be outdated, so nothing new is installed",
            "bring the newest root metadata (`edgec flash` sends it), make one with `edgec keys rotate`, or set this "
            "device's clock if it is wrong",
            code="E513",
        )


def _path(where: str) -> str:
    return os.path.join(where, "trust", "time")
