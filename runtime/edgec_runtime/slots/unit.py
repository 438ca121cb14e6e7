"""The systemd unit that runs `edgec-rt recover` when the device starts."""

from __future__ import annotations

SYSTEM, USER = "system", "user"
NAME = "edgec-recover.service"


def text(kind: str, command: str, root: str) -> str:
    """The unit's file.

    Args:
        kind: "system" (into /etc/systemd/system) or "user" (into ~/.config/systemd/user).
        command: the absolute path of `edgec-rt`.
        root: the device's root folder.
    """
    system = kind == SYSTEM
    return "\n".join(
        [
            "[Unit]",
            "Description=edgec: finish or undo model updates that a power cut interrupted",
            *(["After=local-fs.target", f"RequiresMountsFor={_path(root)}"] if system else []),
            "",
            "[Service]",
            "Type=oneshot",
            f"Environment={_quoted(f'EDGEC_ROOT={root}')}",
            f"ExecStart={_quoted(command).replace('$', '$$')} recover",
            "TimeoutStartSec=infinity",  # each trial has a deadline of its own
            "",
            "[Install]",
            f"WantedBy={'multi-user.target' if system else 'default.target'}",
            "",
        ]
    )


def _quoted(word: str) -> str:
    """A word as systemd reads it in a command line or in Environment= (systemd.syntax(7), specifiers doubled)."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _path(path: str) -> str:
    return path.replace("%", "%%").replace("\\", "\\\\").replace(" ", "\\x20")
