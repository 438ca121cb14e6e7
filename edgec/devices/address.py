"""Where a device is: `[user@]host[:port]`, `ssh://user@host:port`, `[fe80::1]:22`, or a name of ~/.ssh/config."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgec.errors import UsageError

_FORM = re.compile(
    r"(?:ssh://)?(?:(?P<user>[^@\s/]+)@)?(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^@:\s/\[\]]+))(?::(?P<port>\d{1,5}))?/?"
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Address:
    """A device's address; `user` and `port` None mean what ~/.ssh/config says, else SSH's own defaults."""

    host: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address. Raises UsageError (E212) where it is none."""
        match = _FORM.fullmatch(text.strip())
        host = match and (match["six"] or match["host"])
        port = int(match["port"]) if match and match["port"] else None
        # A host that starts with a dash would be an option to other programs.
        if not match or not host or host.startswith("-") or (port is not None and not 0 < port < 65536):
            raise UsageError(
                f"'{text}' is no device's address", "", "Give user@host, user@host:port, or a name of ~/.ssh/config.",
                code="E212",
            )  # fmt: skip
        return cls(host, match["user"], port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (f"{self.user}@" if self.user else "") + host + (f":{self.port}" if self.port else "")

    @property
    def command(self) -> str:
        """The ssh command that reaches it."""
        port = f"-p {self.port} " if self.port else ""
        return f"ssh {port}{self.user}@{self.host}" if self.user else f"ssh {port}{self.host}"

    @property
    def name(self) -> str:
        """A short name for it: the host's first label, or the host where that is a number."""
        label = self.host if re.fullmatch(r"[\d.]+|.*:.*", self.host) else self.host.partition(".")[0]
        return plain(label.replace(":", "-").replace("%", "-"))


def plain(name: str) -> str:
    """`name` as a device's name. Raises UsageError (E213) where it is none: it becomes part of file names."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' can't be a device's name", "", "Letters, digits, '.', '_' and '-', at most 64.", code="E213"
        )
    return name
