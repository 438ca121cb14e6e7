"""Where edgec lives on a device: one folder, found without guessing (ARCHITECTURE.md, "On the device")."""

from __future__ import annotations

import os

from edgec_runtime.errors import UsageError

SYSTEM = "/var/lib/edgec"
USER = "~/.local/share/edgec"


def find(root: str | os.PathLike[str] | None = None) -> str:
    """The device's root folder: `root` if given, else $EDGEC_ROOT, else the system's folder, else the user's.

    Where neither folder exists yet, it is the system's one if this user may create it. Nothing is created here.
    Raises UsageError where both exist, since installing into one and loading from the other would go unseen.
    """
    chosen = os.fspath(root) if root is not None else os.environ.get("EDGEC_ROOT", "")
    if chosen:
        return os.path.abspath(chosen)
    user = os.path.expanduser(USER)
    if os.path.isdir(SYSTEM):
        if os.path.isdir(user):
            raise UsageError(
                f"both {SYSTEM} and {user} exist",
                "edgec keeps one root folder on a device and can't tell which of the two is meant",
                "set EDGEC_ROOT to the one to use, or remove the other",
                code="E201",
            )
        return SYSTEM
    if os.path.isdir(user) or not os.access(os.path.dirname(SYSTEM), os.W_OK):
        return user
    return SYSTEM
