"""One SSH connection to a device (asyncssh): commands, and files whose transfer goes on where it was cut.

Host keys are checked against known_hosts; ~/.ssh/config (jump hosts, identities, agents, aliases) is respected.
Commands are run by the login shell of the device, so everything is quoted for POSIX shells, and files travel through
`cat`: small boards often have no SFTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shlex
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.devices import owned, trusting
from edgec.devices.address import Address
from edgec.errors import BadInputError, UnreachableError, UnsupportedError, UsageError

if TYPE_CHECKING:
    import asyncssh

TIMEOUT = 15.0  # seconds until a device must have answered
KEEPALIVE = 10.0  # seconds of silence after which the other side is asked; three times, then it is lost
CHUNK = 65536
MAX_OUTPUT = 8 << 20  # bytes of a command's output: what a device says is not believed to be short

_FINISH = """set -e
part=$1; target=$2; digest=$3; mode=$4
if command -v sha256sum >/dev/null 2>&1; then found=$(sha256sum "$part"); found=${found%% *}; found=${found#\\\\}
else found=$(python3 -c 'import hashlib, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$part"); fi
if [ "$found" != "$digest" ]; then rm -f "$part"; echo damaged; exit 0; fi
chmod "$mode" "$part"
sync "$part" 2>/dev/null || sync
mv -f "$part" "$target"
sync "${target%/*}" 2>/dev/null || sync
echo stored
"""


@dataclass(frozen=True)
class Completed:
    """What a command gave: its output (at most `MAX_OUTPUT` bytes), and its exit status, -1 where a signal ended it."""

    stdout: bytes
    stderr: str
    status: int


class Connection:
    """A device that is connected. Made by `connect`."""

    def __init__(self, address: Address, connection: asyncssh.SSHClientConnection) -> None:
        self.address = address
        self._connection = connection

    @property
    def host_key(self) -> str:
        """The fingerprint of the device's host key, as ssh-keygen -l prints it."""
        key = self._connection.get_server_host_key()
        return key.get_fingerprint() if key else ""

    async def run(
        self, command: str | Sequence[str], *, stdin: bytes = b"", timeout: float = 120, check: bool = True
    ) -> Completed:
        """Run a command: text is the shell's, a sequence is quoted for it.

        Raises:
            UnreachableError (E1104): the connection was lost, or the command took longer than `timeout` seconds.
            UnsupportedError (E404): it failed, with `check`; its own last words are told.
        """
        line = command if isinstance(command, str) else shlex.join(command)
        try:
            done = await asyncio.wait_for(self._run(line, stdin), timeout)
        except TimeoutError as e:
            raise UnreachableError(
                f"{self.address} did not finish a command in {timeout:.0f} s", line[:200], "Try again.", code="E1104"
            ) from e
        if check and done.status:
            words = " ".join(done.stderr.split())[-400:] or f"exit status {done.status}"
            raise UnsupportedError(f"a command failed on {self.address}", f"{line[:120]}: {words}", code="E404")
        return done

    async def script(self, text: str, *arguments: str, timeout: float = 120, check: bool = True) -> Completed:
        """Run a POSIX shell script on the device, whatever the user's login shell is. Raises as `run` does."""
        return await self.run(["sh", "-s", "--", *arguments], stdin=text.encode(), timeout=timeout, check=check)

    async def get(self, path: str, *, limit: int = MAX_OUTPUT) -> bytes:
        """The bytes of a file. Raises BadInputError where there is none, or it is longer than `limit`."""
        done = await self.run(f"head -c {limit + 1} -- {shlex.quote(path)}", check=False, timeout=600)
        if done.status or len(done.stdout) > limit:
            why = done.stderr if done.status else f"it has more than {limit:,} bytes"
            raise BadInputError(f"can't read {path} on {self.address}", why, code="E916")
        return done.stdout

    async def put(
        self, source: bytes | Path, path: str, *, mode: int = 0o644, progress: Callable[[int], None] = lambda n: None
    ) -> int:
        """Put a file on the device, whole or not at all; returns the bytes that were sent.

        It goes into `path`.part first. What an earlier, cut transfer left there is not sent again: the SHA-256 of the
        whole decides, on the device. Flushed to its disk, then renamed. The folder must exist.

        Raises UnreachableError (E1104) where the connection is lost: call again to go on; UnsupportedError (E405)
        where it can't be written (disk full, no permission).
        """
        data = source if isinstance(source, bytes) else await asyncio.to_thread(source.read_bytes)
        digest = hashlib.sha256(data).hexdigest()
        part, sent = f"{path}.part", 0
        for attempt in range(2):
            there = await self._size(part) if attempt == 0 else 0
            if there > len(data) or attempt:
                await self.run(["rm", "-f", part])
                there = 0
            progress(there)
            sent += await self._send(data[there:], part, progress)
            done = await self.script(_FINISH, part, path, digest, f"{mode:o}", timeout=600)
            if done.stdout.strip().endswith(b"stored"):
                return sent
        raise UnsupportedError(
            f"{path} arrives damaged on {self.address}", "its SHA-256 is wrong even after sending it twice",
            "Check the device's disk.", code="E405",
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def talk(self, command: str) -> AsyncIterator[asyncssh.SSHClientProcess[bytes]]:
        """A command that runs, to talk to: the shell's text, streams of bytes. It is closed when the block is left.

        Raises UnreachableError (E1104) where the connection is lost.
        """
        with _lost(self.address):
            process = await self._connection.create_process(command, encoding=None)
            try:
                yield process
            finally:
                process.close()

    async def _size(self, path: str) -> int:
        done = await self.run(f"[ -f {shlex.quote(path)} ] && wc -c < {shlex.quote(path)}", check=False)
        text = done.stdout.strip()
        return int(text) if text.isdigit() else 0

    async def _send(self, data: bytes, part: str, progress: Callable[[int], None]) -> int:
        """Append to a file."""
        async with self._process(f"exec cat >> {shlex.quote(part)}") as process:
            with contextlib.suppress(BrokenPipeError):  # cat ended: its own words say why
                for start in range(0, len(data), CHUNK):
                    process.stdin.write(data[start : start + CHUNK])
                    await process.stdin.drain()
                    progress(min(CHUNK, len(data) - start))
                process.stdin.write_eof()
            err = await _read(process.stderr)
        if process.exit_status:
            why = err.decode("utf-8", "replace").strip() or f"cat: exit status {process.exit_status}"
            raise UnsupportedError(
                f"can't write {part} on {self.address}", why, "Free some space, or choose another --root.", code="E405"
            )
        return len(data)

    async def _run(self, line: str, stdin: bytes) -> Completed:
        async with self._process(line) as process:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(stdin)
                process.stdin.write_eof()
            out, err = await asyncio.gather(_read(process.stdout), _read(process.stderr))
        status = process.exit_status
        assert status is not None  # else `_process` raised
        return Completed(out, err.decode("utf-8", "replace"), status)

    @contextlib.asynccontextmanager
    async def _process(self, line: str) -> AsyncIterator[asyncssh.SSHClientProcess[bytes]]:
        """A command that runs; its end is awaited, unless the block is left early. Raises E1104 where it is lost."""
        with _lost(self.address):
            process = await self._connection.create_process(line, encoding=None)
            try:
                yield process
                await process.wait(check=False)
            finally:
                process.close()
        if process.exit_status is None:
            raise _gone(self.address, "the connection was cut")


@contextlib.asynccontextmanager
async def connect(address: Address, *, timeout: float = TIMEOUT) -> AsyncIterator[Connection]:
    """Connect to a device.

    Args:
        address: where it is.
        timeout: seconds until it must have let us in.

    Raises:
        UnreachableError (exit 11): nobody answers (E1100), the host key is unknown (E1101) or another (E1102), the
            login is refused (E1103).
        UsageError: ~/.ssh/config can't be read, or switches the check of host keys off.
    """
    import asyncssh

    own = owned.config(address.host) or Path("~/.ssh/config").expanduser()
    # Options don't read the user's configuration unless they are told to, though connecting would.
    config = [str(own)] if own.is_file() else None
    given: dict[str, Any] = {"port": address.port or (), "username": address.user or (), "config": config}
    try:
        options = asyncssh.SSHClientConnectionOptions(host=address.host, **given)
        for jump in _jumps(options):
            trusting.known_hosts(asyncssh.SSHClientConnectionOptions(host=jump, config=config))
    except (asyncssh.ConfigParseError, asyncssh.KeyImportError, OSError, ValueError) as e:
        raise UsageError(
            f"the SSH configuration for {address} can't be used", str(e), f"Mend {own}.", code="E214"
        ) from e
    known = trusting.known_hosts(options)
    shown: list[str] = []

    class Client(asyncssh.SSHClient):
        """Sees the key of a host that is not trusted, for the error."""

        def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
            shown.append(key.get_fingerprint())
            return False

    try:
        connection = await asyncio.wait_for(
            asyncssh.connect(
                address.host, known_hosts=known, client_factory=Client, keepalive_interval=KEEPALIVE,
                keepalive_count_max=3, **given,
            ),
            timeout,
        )  # fmt: skip
    except asyncssh.HostKeyNotVerifiable as e:
        raise trusting.not_trusted(address, options, known, shown[0] if shown else None) from e
    except asyncssh.PermissionDenied as e:
        raise UnreachableError(
            f"{address} does not let you in",
            e.reason,
            f"Does '{address.command}' work? ssh-copy-id puts your key there.",
            code="E1103",
        ) from e
    except TimeoutError as e:
        raise _unreachable(address, f"no answer in {timeout:.0f} s") from e
    except (OSError, asyncssh.Error) as e:
        raise _unreachable(address, str(e)) from e
    try:
        yield Connection(address, connection)
    finally:
        connection.close()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(connection.wait_closed(), 2)


def _jumps(options: Any) -> list[str]:
    """The hosts of ProxyJump."""
    tunnel = options.tunnel
    return [Address.parse(hop).host for hop in tunnel.split(",")] if isinstance(tunnel, str) and tunnel else []


async def _read(stream: asyncssh.SSHReader[bytes]) -> bytes:
    """All of a stream, of which only so much is kept."""
    kept = bytearray()
    while data := await stream.read(CHUNK):
        kept += data[: MAX_OUTPUT - len(kept)]
    return bytes(kept)


@contextlib.contextmanager
def _lost(address: Address) -> Any:
    """A connection that ends in the middle is one error."""
    import asyncssh

    try:
        yield
    except (asyncssh.Error, ConnectionError) as e:
        raise _gone(address, str(e) or type(e).__name__) from e


def _gone(address: Address, why: str) -> UnreachableError:
    return UnreachableError(
        f"the connection to {address} was lost", why, "Run it again: it goes on where it stopped.", code="E1104"
    )


def _unreachable(address: Address, why: str) -> UnreachableError:
    if owned.config(address.host):
        fix = f"Switch it on: edgec devices virtual start {address.host.removeprefix(owned.PREFIX)}"
    else:
        fix = f"Is it on, and does '{address.command}' work?"
    return UnreachableError(f"can't reach {address}", why, fix, code="E1100")
