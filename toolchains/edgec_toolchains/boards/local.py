"""Tier 0: a board that is an OpenSSH server of this machine, with a user, a home folder, keys and a port of its own."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from edgec_runtime.errors import UnsupportedError
from edgec_toolchains.boards.server import Server

USER = "pi"
PRIVILEGES = Path("/run/sshd")  # compiled into sshd: where its unprivileged half lives, if it is started by root
START = 10.0  # seconds

_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
PidFile none
UsePAM no
UseDNS no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
PrintMotd no
AllowTcpForwarding yes
LogLevel VERBOSE
"""


class LocalBoard:
    """A board on 127.0.0.1. `with LocalBoard(server, folder) as board:` starts and ends it.

    Attributes:
        folder: everything of it; `folder/home` is its user's home folder.
        port: where it listens.
        user: its user's name; it is this process's user by number.
    """

    def __init__(
        self,
        server: Server,
        folder: Path,
        *,
        shell: Path = Path("/bin/sh"),
        path: str = "/usr/local/bin:/usr/bin:/bin",
        environment: Mapping[str, str] | None = None,
        sftp: bool = True,
    ) -> None:
        """Make it, with fresh keys.

        Args:
            server: from `server.prepare`.
            folder: an empty or new folder.
            shell: its user's login shell; `emulated.shell` makes one whose commands run on an ARM core.
            path: PATH of its commands.
            environment: more variables of its commands.
            sftp: whether it serves files by SFTP; small boards with Dropbear often don't.
        """
        import asyncssh

        self.server, self.folder, self.user = server, folder.absolute(), USER
        self.home = self.folder / "home"
        self.home.mkdir(parents=True)
        host = asyncssh.generate_private_key("ssh-ed25519")
        client = asyncssh.generate_private_key("ssh-ed25519")
        for name, key in (("host_key", host), ("client_key", client)):
            (self.folder / name).touch(0o600)
            (self.folder / name).write_bytes(key.export_private_key())
        self.host_key = host.export_public_key().decode().strip()
        (self.folder / "authorized_keys").write_bytes(client.export_public_key())
        # sshd started by root wants a user "sshd" for its unprivileged half.
        own = f"{USER}:x:{os.getuid()}:{os.getgid()}::{self.home}:{shell}\n"
        (self.folder / "passwd").write_text(f"{own}sshd:x:65534:65534::/run/sshd:/usr/sbin/nologin\n")
        (self.folder / "group").write_text(f"{USER}:x:{os.getgid()}:\nsshd:x:65534:\n")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        variables = {"PATH": path, **(environment or {})}
        quoted = " ".join(shlex.quote(f"{name}={value}") for name, value in variables.items())
        lines = [_CONFIG.format(port=self.port, folder=self.folder), f"SetEnv {quoted}\n"]
        if sftp:
            lines.append("Subsystem sftp internal-sftp\n")
        (self.folder / "sshd_config").write_text("".join(lines))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def client_key(self) -> Path:
        """The private key that may log in."""
        return self.folder / "client_key"

    def known_host(self, port: int | None = None) -> str:
        """The line for a known_hosts file; `port` where it is reached through a `Link`."""
        return f"[127.0.0.1]:{port or self.port} {self.host_key}\n"

    def config(self, name: str = "board", port: int | None = None) -> str:
        """A block for ~/.ssh/config that reaches it as `name`."""
        return (
            f"Host {name}\n  HostName 127.0.0.1\n  Port {port or self.port}\n  User {self.user}\n"
            f"  IdentityFile {self.client_key}\n  IdentitiesOnly yes\n"
        )

    def start(self) -> None:
        """Start the server and wait until it answers. Raises UnsupportedError where it does not."""
        if os.getuid() == 0:
            PRIVILEGES.mkdir(mode=0o755, exist_ok=True)
        environment = {
            "PATH": os.defpath,
            "LD_LIBRARY_PATH": self.server.libraries,
            "LD_PRELOAD": str(self.server.users),
            "NSS_WRAPPER_PASSWD": str(self.folder / "passwd"),
            "NSS_WRAPPER_GROUP": str(self.folder / "group"),
        }
        command = [str(self.server.sshd), "-D", "-e", "-f", str(self.folder / "sshd_config")]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=log)
        deadline = time.monotonic() + START
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                words = " ".join((self.folder / "log").read_text(errors="replace").split())[-300:]
                self.kill()
                raise UnsupportedError("the local board does not start", words, "Ports and /run/sshd must be free.")
            time.sleep(0.01)

    def kill(self) -> None:
        """End the server and every command that it runs, at once."""
        import psutil

        if self._process is None:
            return
        processes: Any = psutil
        with contextlib.suppress(psutil.NoSuchProcess):
            first = processes.Process(self._process.pid)
            for process in (first, *first.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._process.wait()
        self._process = None

    def __enter__(self) -> LocalBoard:
        """Start it."""
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End it; its folder stays."""
        self.kill()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False


def temporary(server: Server) -> LocalBoard:
    """A board in a folder of its own under the system's temporary folder; the caller removes `board.folder`."""
    folder = Path(tempfile.mkdtemp(prefix="edgec-board-"))
    try:
        return LocalBoard(server, folder / "board")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
